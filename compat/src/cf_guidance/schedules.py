"""`get_cos_sched` by its published name and signature, over `cfglab.Cosine`."""

from operator import index

from cfglab.schedules import Cosine

__all__ = ["get_cos_sched"]


def get_cos_sched(
    num_steps: int = 50,
    max_val: float = 7.5,
    min_val: float = 0.15,
    num_cycles: float = 0.5,
    num_warmup_steps: int = 0,
    warmup_init_val: float = 0.0,
    k_decay: float = 1.0,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: float = 1.0,
) -> list[float]:
    """The scale of each of `num_steps` steps: a linear warm-up from `warmup_init_val`, then a cosine from `max_val`.

    Step i of the cosine part is `min + (max - min) / 2 * (1 + cos(2 pi num_cycles p))` with `p = (j / n) ** k_decay`,
    j counted from the end of the warm-up and n its length: `min_val` itself is not reached within the run. The same
    numbers as cf_guidance 0.0.3. `cfglab.Cosine` is the schedule as a value: it inverts, prints and is stored.

    `cycle_mul` and `cycle_decay` do nothing, here as there: they describe restarts after `num_steps` steps, which a run
    of `num_steps` steps never reaches. `cycle_limit` does nothing unless it is 0 or less: then everything after the
    warm-up is `min_val`.

    Raises InputError for what `cfglab.Cosine` refuses, such as `k_decay` of 0 or below.
    """
    del cycle_mul, cycle_decay
    if num_steps < 1:
        return []
    cosine = Cosine(
        max=max_val,
        min=min_val,
        k=k_decay,
        cycles=num_cycles,
        warmup=num_warmup_steps,
        warmup_start=warmup_init_val,
    )
    values = cosine.values(index(num_steps))
    if cycle_limit > 0:
        return values
    return [*values[: cosine.warmup], *[min_val] * (num_steps - cosine.warmup)]
