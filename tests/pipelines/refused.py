"""Classes that guide() refuses, built tiny and guided all the same by the rule that their source suggests.

python -m tests.pipelines.refused [CLASS...]      what happened to each, into refused.json: docs/pipelines.md shows it

A class whose result is that of the untouched pipeline at the same scale should not be refused, but where it is a
pipeline inside or a guider component that was guided.
"""

import json
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from diffusers import ClassifierFreeGuidance

from cfglab.errors import InputError
from cfglab.pipelines import guide, to_guider
from cfglab.pipelines.profiles.lookup import profile_of
from tests.pipelines.refused_guiders import WITH_GUIDER
from tests.pipelines.refused_media import MEDIA
from tests.pipelines.refused_networks import NETWORKS
from tests.pipelines.refused_others import OTHERS
from tests.pipelines.refused_tries import TRIES, Try

WRITTEN = Path(__file__).parent / "refused.json"
EVERY = TRIES | OTHERS | NETWORKS | MEDIA | WITH_GUIDER
"""Class -> how it is tried."""


def tried(attempt: Try) -> str:
    """The rows of the network's calls, and what happens under guide() at the scale 3 against the untouched pipeline."""
    pipe = attempt.build()
    targets = [getattr(pipe, name) for name in attempt.inside.split()] or [pipe]
    profile = profile_of(targets[0]) if attempt.inside else attempt.profile
    rows: list[int] = []

    def before(_module: Any, args: Any, named: dict[str, Any]) -> None:
        rows.append(len(args[0] if args else next(iter(named.values()))))

    if attempt.guider:
        pipe.guider = ClassifierFreeGuidance(guidance_scale=3.0)
    hook = getattr(targets[0], profile.denoisers[0]).register_forward_pre_hook(before, with_kwargs=True)
    try:
        untouched = attempt.call(pipe, 3.0)
    except TypeError as error:  # a pipeline that the installed diffusers cannot run
        return f"{type(error).__name__} of the untouched pipeline"
    finally:
        hook.remove()
    seen = f"{' '.join(map(str, rows)) or 'no'} rows"
    if not hasattr(targets[0], "scheduler"):
        return f"{seen}, no scheduler"
    try:
        if attempt.guider:
            pipe.guider = to_guider(3)
            guided = attempt.call(pipe, 3.0)
        else:
            with ExitStack() as contexts:
                for target in targets:
                    contexts.enter_context(guide(target, 3.0, profile=None if attempt.inside else profile))
                guided = attempt.call(pipe, 5.0)
    except InputError:
        return f"{seen}, refused"
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:  # of a rule that does not fit at all
        return f"{seen}, {type(error).__name__}"
    difference = float((guided - untouched).norm() / untouched.norm())
    return f"{seen}, {'another result' if difference > 1e-5 else 'the same'}"


def outcomes() -> dict[str, str]:
    """Class -> what happened, as it was written."""
    read: dict[str, str] = json.loads(WRITTEN.read_text(encoding="utf-8"))
    return read


def main(names: list[str]) -> None:
    """Try these classes, or all of them."""
    warnings.simplefilter("ignore")
    found = outcomes() if names else {}
    for name in names or EVERY:
        found[name] = tried(EVERY[name])
        print(f"{name}: {found[name]}", flush=True)
        WRITTEN.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
