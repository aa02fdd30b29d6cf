"""The embedding of the time step with noise in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.perturbations.hooks import check_hooks, hooked

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

EMBEDDINGS = ("time_embedding", "timestep_embedder", "time_embedder")
"""What diffusers' networks call the layers that make an embedding of the sinusoids of the time step."""


@dataclass(frozen=True)
class NoisedTimestep(ConditionalPass):
    """A perturbed pass: the conditional rows with `e + scale std(e) n`, e the time step's embedding (n, channels).

    e is the output of the embedding's own layers: the one that every block reads. n is standard normal and std that of
    one row; the noise of a row is drawn from `seed`, the step's `index` and the sample itself, so it is the same in any
    batch.

    Attributes:
        scale: The factor of the noise, in standard deviations of e, 0 or more.
        seed: The seed of the noise.
        index: The step's index.
    """

    scale: float
    seed: int
    index: int

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        from cfglab.guidance.perturbations.per_image_noise import row_seeds

        check_hooks(denoiser, "tsg")
        embeddings = [module for name, module in denoiser.named_modules() if name.rpartition(".")[2] in EMBEDDINGS]
        if not embeddings:
            raise InputError(
                f"tsg: no embedding of the time step in {type(denoiser).__name__}; it knows {', '.join(EMBEDDINGS)}: "
                "leave it out for this network."
            )
        seeds: list[str] = []

        def record_sample(_: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sample = next(
                value for value in (*args, *kwargs.values()) if hasattr(value, "shape") or isinstance(value, list)
            )
            seeds[:] = row_seeds(sample, self.seed, self.index)

        def noised(_: "Module", __: Any, embedding: "Tensor") -> "Tensor":
            return self._noised(embedding, seeds)

        def add_hooks(handles: list[Any]) -> None:
            handles.append(denoiser.register_forward_pre_hook(record_sample, with_kwargs=True))
            handles.extend(module.register_forward_hook(noised) for module in embeddings)

        with hooked(denoiser, add_hooks):
            yield denoiser

    def _noised(self, embedding: "Tensor", seeds: list[str]) -> "Tensor":
        import torch

        from cfglab.guidance.parameterization import upcast
        from cfglab.guidance.perturbations.per_image_noise import normal

        if len(embedding) == 1:  # one time step for all the rows
            embedding = embedding.expand(len(seeds), *embedding.shape[1:])
        if len(embedding) != len(seeds):
            raise InputError(
                f"tsg: {len(embedding)} embeddings of the time step for {len(seeds)} rows: this network has one a "
                "token, of which the method says nothing; leave it out there."
            )
        values = upcast(embedding)
        noise = torch.stack([normal(seed, values[0]) for seed in seeds]).to(values)
        spread = values.flatten(1).std(1).reshape(-1, *[1] * (values.ndim - 1))
        return (values + self.scale * spread * noise).to(embedding.dtype)
