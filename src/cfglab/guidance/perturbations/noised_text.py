"""Text encodings mixed with noise."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import MASKS

if TYPE_CHECKING:
    from torch import Tensor

TEXT = ("encoder_hidden_states", "text_embeds", "pooled_projections", "encoder_hidden_states_t5")
"""The arguments of denoisers that are a text's encoding."""


@dataclass(frozen=True)
class NoisedText:
    """A perturbed pass: the conditional rows with `sqrt(gamma) y + scale sqrt(1 - gamma) n`, y a text encoding.

    n is standard normal, times y's standard deviation with `own_scale`; a share `psi` of the result is brought back to
    the mean and deviation of y. All per row. The noise of a row is drawn from `seed`, the step's `index` and the sample
    itself, by the signs of fixed projections of it: rows of one image get the same noise in every batch, and another
    sample gets another noise. Where the denoiser has a mask of the text, y is the tokens that are read: how far a text
    is filled up depends on the others of its batch.

    Attributes:
        gamma: The share of the encoding, 0 (noise alone) to 1.
        scale: The factor of the noise, 0 or more.
        psi: The share that is brought back to the mean and deviation of y, 0 to 1.
        own_scale: Whether the noise is multiplied by y's standard deviation.
        seed: The seed of the noise.
        index: The step's index.
    """

    gamma: float
    scale: float
    psi: float
    own_scale: bool
    seed: int
    index: int

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "cond"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        return nullcontext(denoiser)

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        from cfglab.guidance.perturbations.per_image_noise import row_seeds

        seeds = row_seeds(sample, self.seed, self.index)
        read = _read(conditioning)

        def change(y: "Tensor", name: str) -> "Tensor":
            return self._noised(y, [f"{seed}{name}" for seed in seeds], read if name == TEXT[0] else None)

        changed, texts = _texts(conditioning, change)
        if not texts:
            raise InputError(
                f"no encoding of a text among {', '.join(conditioning) or 'the denoiser arguments'}: this method puts "
                f"noise into it; it knows {', '.join(TEXT)}."
            )
        return sample, timestep, changed

    def _noised(self, y: "Tensor", seeds: list[str], read: "Tensor | None") -> "Tensor":
        """The encoding with noise in the tokens that are read, (n, tokens); None for all."""
        import torch

        if len(y) != len(seeds):
            raise InputError(f"an encoding of {len(y)} rows for a sample of {len(seeds)}: noise needs one row each.")
        if read is None or read.shape != y.shape[:2]:
            return self._mixed(y, seeds)
        rows = [row.clone() for row in y]
        for row, used, seed in zip(rows, read, seeds, strict=True):
            if used.any():
                row[used] = self._mixed(row[used][None], [seed])[0]
        return torch.stack(rows)

    def _mixed(self, y: "Tensor", seeds: list[str]) -> "Tensor":
        import torch

        from cfglab.guidance.parameterization import upcast
        from cfglab.guidance.perturbations.per_image_noise import normal

        encoding = upcast(y)
        noise = torch.stack([normal(seed, encoding[0]) for seed in seeds]).to(encoding)
        if self.own_scale:
            noise = noise * _deviation(encoding)
        mixed = math.sqrt(self.gamma) * encoding + self.scale * math.sqrt(1 - self.gamma) * noise
        if self.psi:
            spread = _deviation(mixed)
            back = (mixed - _mean(mixed)) / spread.where(spread > 0, 1.0) * _deviation(encoding) + _mean(encoding)
            mixed = self.psi * back + (1 - self.psi) * mixed
        return mixed.to(y.dtype)


def _read(conditioning: Mapping[str, Any]) -> "Tensor | None":
    """Which tokens of the text are read, (n, tokens); None where there is no mask of them."""
    mask: Any = next((conditioning[name] for name in MASKS if conditioning.get(name) is not None), None)
    if mask is not None:
        return mask.bool()
    of_both: Any = (conditioning.get("joint_attention_kwargs") or {}).get("attention_mask")
    text: Any = conditioning.get(TEXT[0])
    if of_both is None or of_both.ndim != 4 or not hasattr(text, "shape"):
        return None
    return of_both[:, 0, 0, : text.shape[1]].bool()  # of Bria Fibo: [text, image]


def _texts(conditioning: Mapping[str, Any], change: "Callable[[Tensor, str], Tensor]") -> tuple[dict[str, Any], int]:
    """The conditioning with every encoding of a text changed, also in `added_cond_kwargs`, and how many there were."""
    changed, count = dict(conditioning), 0
    for name, value in conditioning.items():
        if isinstance(value, Mapping):
            changed[name], nested_count = _texts(value, change)
            count += nested_count
        elif name in TEXT and hasattr(value, "is_floating_point") and value.is_floating_point():
            changed[name] = change(value, name)
            count += 1
    return changed, count


def _mean(y: "Tensor") -> "Tensor":
    return y.flatten(1).mean(1).reshape(-1, *[1] * (y.ndim - 1))


def _deviation(y: "Tensor") -> "Tensor":
    return y.flatten(1).std(1).reshape(-1, *[1] * (y.ndim - 1))
