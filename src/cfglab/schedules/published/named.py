"""Published schedules that the algebra can express, by name: each function returns a schedule of shapes and methods.

Text reads the names too: `parse("pcs(w0=7.5, s=0.1)")` is `cosine(max=7.5, min=1, k=0.1).inverted()`, and prints so.

The paper arXiv:2404.13040 combines `(1 + omega) cond - omega uncond`, so its omega is w - 1 here. In its direction the
weights run along the sampling, `f` = 0 at the first step to 1 after the last. `w0` is the constant scale, as w, whose
area a curve has: the mean of w over a run is w0 up to a term in 1 / N, exactly after `.matched_to(w0)`. Code that puts
the paper's omega straight into `uncond + w (cond - uncond)` wants `linear(max=2*w0, min=0).inverted()`, and so on.
"""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from pydantic import ValidationError, validate_call

from cfglab import limits
from cfglab.errors import InputError
from cfglab.schedules.fields import Edge, Exponent, Real, Whole, Window, explain, join_values, shown, unknown_field
from cfglab.schedules.registry import enter_constructor
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Cosine, Linear, Table

P = ParamSpec("P")


def constructor(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Enter a function as a schedule that text calls by name. Its values are checked as the fields of shapes are.

    Args:
        make: A function with keyword-only parameters, each with the type of a field; it returns a schedule.

    Returns:
        The function with its values checked. An invalid value raises InputError.

    Raises:
        InputError: The name of the function is taken or is no name of the language.
    """
    name, parameters = make.__name__, inspect.signature(make).parameters
    checked = validate_call(make)

    @functools.wraps(make)
    def call(*args: P.args, **values: P.kwargs) -> Schedule:
        if args:
            raise InputError(
                f"{name}({join_values(args)}): values are given by name; write "
                f"{name}({next(iter(parameters))}={shown(args[0])}, …)."
            )
        for value in values:
            if value not in parameters:
                raise InputError(unknown_field(name, value, parameters))
        for field, parameter in parameters.items():
            if parameter.default is parameter.empty and field not in values:
                raise InputError(f"{name} without {field}: it is needed; write {name}({field}=…).")
        try:
            return checked(*args, **values)
        except ValidationError as error:
            raise InputError(explain(error, name)) from None

    enter_constructor(name, call)
    return call


# -- arXiv:2404.13040: the weight schedulers ------------------------------------------------------------------------


@constructor
def wang_linear(*, w0: Real) -> Schedule:
    """Linear of arXiv:2404.13040, rising: omega = 2 omega0 f.

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        `linear(max=2*w0-1, min=1).inverted()`.

    Examples:
        >>> wang_linear(w0=5).values(4)
        [1.0, 3.0, 5.0, 7.0]
    """
    return Linear(max=2 * w0 - 1, min=1).inverted()


@constructor
def wang_inverse_linear(*, w0: Real) -> Schedule:
    """Inverse linear of arXiv:2404.13040, falling: omega = 2 omega0 (1 - f).

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        `linear(max=2*w0-1, min=1)`.
    """
    return Linear(max=2 * w0 - 1, min=1)


@constructor
def wang_cosine(*, w0: Real) -> Schedule:
    """Cosine of arXiv:2404.13040, rising: omega = omega0 (1 - cos(pi f)). In its t = T (1 - f): cos(pi t / T) + 1.

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        `cosine(max=2*w0-1, min=1).inverted()`.
    """
    return Cosine(max=2 * w0 - 1, min=1).inverted()


@constructor
def wang_sine(*, w0: Real) -> Schedule:
    """Sine of arXiv:2404.13040, falling: omega = omega0 (1 + cos(pi f)). In its t: sin(pi t / T - pi / 2) + 1.

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        `cosine(max=2*w0-1, min=1)`.
    """
    return Cosine(max=2 * w0 - 1, min=1)


@constructor
def wang_v(*, w0: Real) -> Schedule:
    """V-shape of arXiv:2404.13040: omega = 4/3 omega0 max(f, 1 - f), at the ends twice its middle.

    Inverse linear to the middle, then linear; the factor 4/3 is the area's, derived here.

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        The schedule, a sum of clipped lines.

    Examples:
        >>> [round(w, 3) for w in wang_v(w0=5).values(4)]
        [6.333, 5.0, 3.667, 5.0]
    """
    fall = Linear(max=1, min=-1)
    return 1 + 2 / 3 * (w0 - 1) * (1 + fall.clip(low=0) + fall.inverted().clip(low=0))


@constructor
def wang_lambda(*, w0: Real) -> Schedule:
    """Lambda-shape of arXiv:2404.13040: omega = 4 omega0 min(f, 1 - f), low, high, low.

    Linear to the middle, then inverse linear; the factor 4 is the area's, derived here.

    Args:
        w0: The constant scale, as w, whose area the curve has.

    Returns:
        The schedule, a difference of clipped lines.
    """
    fall = Linear(max=1, min=-1)
    return 1 + 2 * (w0 - 1) * (1 - fall.clip(low=0) - fall.inverted().clip(low=0))


@constructor
def wang_clamp_linear(*, w0: Real, low: Real) -> Schedule:
    """Clamp-linear of arXiv:2404.13040: omega = max(c, 2 omega0 f), with low = 1 + c.

    More area than w0. Figure 1 of the paper has omega0 = 14 and c = 1: w0=15, low=2.

    Args:
        w0: The constant scale, as w, whose area the curve without the clamp has.
        low: The lower bound of w.

    Returns:
        `wang_linear(w0=w0).clip(low=low)`.
    """
    return wang_linear(w0=w0).clip(low=low)


@constructor
def wang_clamp_cosine(*, w0: Real, low: Real) -> Schedule:
    """Clamp-cosine of arXiv:2404.13040: omega = max(c, omega0 (1 - cos(pi f))), with low = 1 + c. More area than w0.

    Args:
        w0: The constant scale, as w, whose area the curve without the clamp has.
        low: The lower bound of w.

    Returns:
        `wang_cosine(w0=w0).clip(low=low)`.
    """
    return wang_cosine(w0=w0).clip(low=low)


@constructor
def pcs(*, w0: Real, s: Exponent = 1.0) -> Schedule:
    """Powered cosine of arXiv:2404.13040: omega = omega0 (1 - cos(pi f^s)) / 2.

    It ends at omega0, so its area is less than that of w0. The inverse k-decay with min 0 in omega, 1 in w, and k = s;
    s = 1 is the plain cosine.

    Args:
        w0: The scale that w approaches at the end of the run.
        s: The exponent, above 0.

    Returns:
        `cosine(max=w0, min=1, k=s).inverted()`.

    Examples:
        >>> print(pcs(w0=7.5, s=0.1))
        cosine(max=7.5, min=1, k=0.1).inverted()
    """
    return Cosine(max=w0, min=1, k=s).inverted()


# -- windows ---------------------------------------------------------------------------------------------------------


@constructor
def limited_interval(*, w: Real = 2.0, sigma: Window = (0.19, 1.61)) -> Schedule:
    """w where low < sigma <= high, off elsewhere: arXiv:2404.07724. sigma is noise over signal.

    By default the setting of EDM2-XXL on ImageNet-512 for FID: steps 17 to 22 of its 32 in the authors' command, whose
    levels are 1.609 to 0.283; the next one is 0.189. (Their Heun sampler guides both evaluations of a step: there
    `.inside(steps=(17, 23))` is the same to the last evaluation.) For SDXL the paper has sigma=(0.28, 5.42).

    Args:
        w: The scale inside the interval.
        sigma: The interval (low, high] in noise over signal, 0 <= low < high.

    Returns:
        `constant(w).inside(sigma=sigma)`.

    Raises:
        InputError: The interval is out of order or negative.

    Examples:
        >>> print(limited_interval())
        constant(2).inside(sigma=(0.19, 1.61))
    """
    return Constant(w).inside(sigma=sigma)


@constructor
def cutoff(*, w: Real, at: Edge) -> Schedule:
    """w up to `at`, off from there on: Step AG, arXiv:2506.08351.

    The cut-off callbacks of diffusers act when a step ends, so they also guide the step that begins at `at`.

    Args:
        w: The scale before the cut-off.
        at: A fraction of the run (a float) or a step (an int, 2 or more).

    Returns:
        The schedule, a constant inside a window.

    Raises:
        InputError: `at` is out of range, or the int 1, which could mean a step or the whole run.

    Examples:
        >>> cutoff(w=5, at=2).values(4)
        [5.0, 5.0, 1.0, 1.0]
    """
    return Constant(w).inside(steps=(0, at)) if isinstance(at, int) else Constant(w).inside(progress=(0, at))


@constructor
def late_start(*, w: Real, at: Edge) -> Schedule:
    """Off up to `at`, w from there on.

    Args:
        w: The scale from `at` on.
        at: A fraction of the run (a float) or a step (an int, 2 or more).

    Returns:
        The schedule, a constant inside a window.

    Raises:
        InputError: `at` is out of range, or the int 1, which could mean a step or the whole run.

    Examples:
        >>> late_start(w=5, at=0.5).values(4)
        [1.0, 1.0, 5.0, 5.0]
    """
    last = limits.STEPS
    return Constant(w).inside(steps=(at, last)) if isinstance(at, int) else Constant(w).inside(progress=(at, 1))


# -- models ----------------------------------------------------------------------------------------------------------


@constructor
def cogvideox(*, scale: Real = 6.0) -> Schedule:
    """w = 1 + scale (1 - cos(pi (i / N)^5)) / 2: the dynamic guidance of CogVideoX as meant, rising.

    The class DynamicCFG of the authors' code, given the step's index. The pipelines run `CogVideoXShipped` instead.

    Args:
        scale: The amplitude; w rises from 1 towards 1 + scale.

    Returns:
        `cosine(max=1+scale, min=1, k=5).inverted()`.
    """
    return Cosine(max=1 + scale, min=1, k=5).inverted()


@constructor
def ideogram4(*, steps: Whole = 48) -> Schedule:
    """7, and 3 in the last "polish" steps: the lists of Ideogram 4 for 48 steps (the last 3) and 20 (the last 2).

    48 is the default of diffusers 0.42.1; both stand in the model's repository, as stable-diffusion.cpp's pull request
    1684 quotes it.

    Args:
        steps: The number of steps, 48 or 20.

    Returns:
        A table with one entry per step.

    Raises:
        InputError: `steps` is neither 48 nor 20.

    Examples:
        >>> print(ideogram4(steps=20))
        18x7+2x3
    """
    lists = {48: [7] * 45 + [3] * 3, 20: [7] * 18 + [3] * 2}
    if steps not in lists:
        raise InputError(f"ideogram4(steps={steps}): its lists are for 48 and 20 steps; write [7, 7, 3] for your own.")
    return Table(lists[steps])
