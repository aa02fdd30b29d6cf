"""What a host can do for a guidance. What it cannot do is refused by name, before anything runs. Loads no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from cfglab.errors import InputError
from cfglab.guidance import Guidance, Perturbation, Transform
from cfglab.mixtures.noise_paths import Path, flow_levels, karras, noise_steps

PROBED = 100
"""The steps at which a guidance is asked for its perturbed passes: windows are fractions of a run."""


@dataclass(frozen=True)
class Host:
    """A program that runs guidances, and what it can do besides the two predictions.

    Attributes:
        name: The name of the program, for messages.
        passes: The classes of perturbed passes that it can run.
        prompts: How many further prompts it has an encoding of; None if it can encode any text.
        enabled_by: Classes of perturbed passes that it can run once it is given more, and what to give.

    Examples:
        >>> from cfglab import Guidance
        >>> from cfglab.hosts import Host
        >>> Host("my loop").check(Guidance("7.5 | apg()"))
        []
        >>> Host("my loop").check(Guidance("7.5 | pag()"))
        Traceback (most recent call last):
            ...
        cfglab.errors.InputError: pag() in my loop: it needs a perturbed pass (IdentityAttention), which ...
    """

    name: str
    passes: tuple[type, ...] = ()
    prompts: int | None = 0
    enabled_by: tuple[tuple[tuple[type, ...], str], ...] = ()

    def check(self, guidance: Guidance, path: Path = "vp") -> list[str]:
        """Refuse a guidance that this host cannot run.

        Args:
            guidance: The guidance.
            path: The noise path of the model.

        Returns:
            The further prompts of the guidance, each once, in the order of its transforms.

        Raises:
            InputError: A transform needs a perturbed pass that the host cannot run, or there are more further prompts
                than encodings, or fewer.
        """
        texts: dict[str, Transform] = {}
        for transform, wanted in perturbed_passes(guidance, path):
            text = getattr(wanted, "prompt", None)
            if not isinstance(wanted, self.passes):
                what = "a further prompt" if text is not None else f"a perturbed pass ({type(wanted).__name__})"
                enabled = next((more for kinds, more in self.enabled_by if isinstance(wanted, kinds)), None)
                advice = enabled or "is not possible there; leave it out, or use guide(pipe) of diffusers"
                raise InputError(f"{transform} in {self.name}: it needs {what}, which {advice}.")
            if text is not None:
                texts.setdefault(text, transform)
        if self.prompts is not None and len(texts) != self.prompts:
            named = ", ".join(map(repr, texts)) or "none"
            raise InputError(
                f"{guidance} has {len(texts)} further prompts ({named}) and {self.name} was given {self.prompts}: give "
                "one encoding for each, in this order."
            )
        return list(texts)


def perturbed_passes(guidance: Guidance, path: Path = "vp") -> Iterator[tuple[Transform, Perturbation]]:
    """The perturbed passes that a guidance may ask for in a run.

    Args:
        guidance: The guidance.
        path: The noise path of the model.

    Yields:
        Each transform that has one, with one of its passes of each class.
    """
    probed = noise_steps(flow_levels(PROBED) if path == "flow" else karras(PROBED), path)
    for transform in guidance.transforms:
        if transform.strength > 0:
            wanted = (
                one_pass
                for step in probed
                for one_pass in (transform.variation(step), transform.second_variation(step))
                if one_pass is not None
            )
            yield from ((transform, one_pass) for one_pass in {type(each): each for each in wanted}.values())
