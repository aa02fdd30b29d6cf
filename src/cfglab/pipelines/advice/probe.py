"""What a method says of a family: it is run once, on random predictions of their shape, at two noise levels."""

from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS, Guidance
from cfglab.guidance.methods.scale_maps import ScaleMap
from cfglab.guidance.names import Space
from cfglab.hosts.levels import Levels
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.advice.methods import MethodAdvice

SHAPES = {"image": (1, 4, 8, 8), "tokens": (1, 16, 64), "video": (1, 4, 3, 8, 8), "sound": (1, 4, 16)}
W = 3.0


def probed(family: Family, methods: list[MethodAdvice], levels: Levels | None) -> list[MethodAdvice]:
    """The methods, with those that refuse this family's tensors or its first step marked.

    Args:
        family: The family.
        methods: What `methods_for` says of it.
        levels: The noise levels; None if they are not known.

    Returns:
        The methods. One that refuses the shape does not apply; one that refuses the first step alone has a reason.
    """
    if levels is None or family.latents.value is None:
        return methods
    return [_probed(family, method, levels) if method.applies else method for method in methods]


def _probed(family: Family, method: MethodAdvice, levels: Levels) -> MethodAdvice:
    kind = TRANSFORMS[method.name]
    if issubclass(kind, ScaleMap):
        return method  # a map is made for one size
    try:
        transform = kind(**kind.example)
    except InputError:
        return method  # its fields have no defaults to try it with
    steps, shape, model = levels.steps, SHAPES[family.latents.value], levels.prediction
    if any(transform.variation(step) is not None for step in steps):
        return method  # its further pass needs the network
    if message := _refusal(transform, steps[len(steps) // 2], shape, model):
        return MethodAdvice(method.name, False, message)
    if message := _refusal(transform, steps[0], shape, model):
        if not _refusal(transform.model_copy(update={"space": "v"}), steps[0], shape, model):
            message = f"write {method.name}(space=v): the first step is pure noise"
        return MethodAdvice(method.name, True, "; ".join(filter(None, (method.reason, message))))
    return method


def _refusal(transform: Any, step: Any, shape: tuple[int, ...], model: Space) -> str:
    """Why a transform cannot act at a step; "" if it can."""
    import torch

    generator = torch.Generator().manual_seed(0)
    uncond, cond, latents = (torch.randn(shape, generator=generator) for _ in range(3))
    try:
        Guidance(W, [transform]).start(model).combine(uncond, cond, step, latents)
    except InputError as error:
        return str(error).strip().rstrip(".")
    return ""
