"""Family: what is published about the guidance of one family of models, every fact with its source. Loads no torch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cfglab.errors import InputError
from cfglab.schedules.fields import explain, shown

Convention = Literal["w", "w - 1", "embedded", "none", "guider"]
CONVENTIONS: dict[Convention, str] = {
    "w": "is w: 1 is no guidance",
    "w - 1": "is w - 1: 0 is no guidance, and the pipeline's number is one less than cfglab's w",
    "embedded": "is an input of the network, which was distilled from guidance",
    "none": "has no use: the model is run without guidance, w = 1",
    "guider": "is that of the pipeline's guider component; in cfglab it is w",
}
FACTS: dict[str, tuple[Any, ...]] = {
    "convention": tuple(CONVENTIONS),
    "prediction": ("epsilon", "x0", "v", "flow"),
    "distilled": ("no", "guidance", "steps", "guidance and steps"),
    "attention": ("separate", "joint", "no text"),
    "latents": ("image", "tokens", "video", "sound"),
}
"""The facts that are words, and which words there are. Joint attention has text and image in one attention."""


class Fact(BaseModel):
    """One value with its source, or the reason why it is not known.

    Attributes:
        value: The value; None if it is not known.
        source: Where it was read: a name of `sources.yaml`, a slash and the file.
        quote: The words or the line of code that say it.
        basis: "stated": the source recommends it; "example": it is used in an example; "default": it is a default of
            the authors' own program; "" for what is no recommendation.
        reason: Why it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Any = None
    source: str = ""
    quote: str = ""
    basis: Literal["", "stated", "example", "default"] = ""
    reason: str = ""


class Default(BaseModel):
    """What the pipeline's own signature says, in the installed diffusers.

    Attributes:
        argument: The argument that holds the scale; None if there is none.
        scale: Its default; None for no number.
        steps: The default of `num_inference_steps`; None where the weights decide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    argument: str | None
    scale: float | None
    steps: int | None


def _as_names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class Family(BaseModel):
    """What is published about one family of models.

    Attributes:
        name: The short name.
        group: Its file in the catalogue.
        title: Its name for people.
        pipeline: The class of diffusers that runs it.
        variant: True if the class belongs to another family, so that only the name and the hub ids lead here.
        classes: Further classes of the family.
        models: Hub ids.
        default: The signature of `pipeline`.
        convention: What the pipeline's number means.
        recommended_scale: A number or two, in the pipeline's own convention.
        recommended_steps: A number or two.
        prediction: What the network predicts.
        scheduler: The scheduler and its settings: class, settings, mu (of dynamic shifting, at the usual size),
            even_sigmas (True: the pipeline hands the scheduler N evenly spaced sigmas).
        distilled: What was distilled.
        attention: Whether text and image share one attention.
        latents: How predictions are laid out: (n, channels, h, w), packed into tokens, or with frames.
        pitfalls: What goes wrong, one sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str
    title: str
    pipeline: str
    variant: bool = False
    classes: Names = ()
    models: Names = ()
    default: Default
    convention: Fact
    recommended_scale: Fact
    recommended_steps: Fact
    prediction: Fact
    scheduler: Fact
    distilled: Fact
    attention: Fact
    latents: Fact
    pitfalls: tuple[Fact, ...] = Field(())

    def facts(self) -> dict[str, Fact]:
        """Every fact by its name; pitfalls are numbered."""
        single = {name: fact for name in type(self).model_fields if isinstance(fact := getattr(self, name), Fact)}
        return single | {f"pitfall {index + 1}": fact for index, fact in enumerate(self.pitfalls)}

    def w(self, scale: float) -> float:
        """cfglab's w for a number in the pipeline's own convention.

        Args:
            scale: The pipeline's number.

        Returns:
            w; for a scale that is an input of the network, the number itself.
        """
        if self.convention.value == "none":
            return 1.0
        return scale + 1 if self.convention.value == "w - 1" else scale


def read_family(name: str, group: str, data: Any, sources: dict[str, Any]) -> Family:
    """One entry of the catalogue, checked.

    Args:
        name: Its name.
        group: Its file.
        data: Its fields.
        sources: The sources by name.

    Returns:
        The family.

    Raises:
        InputError: A field is missing or not valid, or a value has no source.
    """
    if not isinstance(data, dict):
        raise InputError(f"{name} in {group}.yaml: a family has fields; write title, pipeline and the others.")
    pitfalls = data.get("pitfalls", [])
    try:
        family = Family(**{**data, "pitfalls": tuple(pitfalls)}, name=name, group=group)
    except (ValidationError, TypeError) as error:
        message = explain(error, name, list(Family.model_fields)) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{group}.yaml: {message}") from None
    for fact_name, fact in family.facts().items():
        _check(f"{name}, {fact_name}", fact, FACTS.get(fact_name), sources)
    for recommended in ("recommended_scale", "recommended_steps"):
        _check_numbers(f"{name}, {recommended}", getattr(family, recommended))
    return family


def source_of(fact: Fact, sources: dict[str, Any]) -> str | None:
    """The name of a fact's source in `sources.yaml`: the longest one that its path begins with.

    Args:
        fact: The fact.
        sources: The sources by name.

    Returns:
        The name; None if there is none.
    """
    names = [name for name in sources if fact.source == name or fact.source.startswith(f"{name}/")]
    return max(names, key=len, default=None)


def _check(where: str, fact: Fact, words: tuple[Any, ...] | None, sources: dict[str, Any]) -> None:
    if fact.value is None:
        if not fact.reason.strip():
            raise InputError(f"{where}: it is not known and there is no reason; write why, as reason: ….")
        return
    if not fact.source.strip() or not fact.quote.strip():
        raise InputError(
            f"{where}: {shown(fact.value)} has no {'quote' if fact.source.strip() else 'source'}; write the file and "
            "the words that say it, or value: null with a reason."
        )
    if source_of(fact, sources) is None:
        raise InputError(f"{where}: the source {shown(fact.source)} is not in sources.yaml; add it with its date.")
    if words is not None and fact.value not in words:
        raise InputError(f"{where}: {shown(fact.value)} is none of {', '.join(words)}; write one of them.")


def _check_numbers(where: str, fact: Fact) -> None:
    numbers = fact.value if isinstance(fact.value, list) else [fact.value]
    if fact.value is None:
        return
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers) or (
        isinstance(fact.value, list) and (len(numbers) != 2 or not numbers[0] < numbers[1])
    ):
        raise InputError(f"{where}: {shown(fact.value)} is no number and no range; write 7.5, or [5, 7.5].")
