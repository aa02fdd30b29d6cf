"""Classes that guide() refuses, built tiny and guided all the same by the rule that their source suggests.

python -m tests.pipelines.refused [CLASS...]      what happened to each, into refused.json: docs/pipelines.md shows it

A class whose result is that of the untouched pipeline at the same scale should not be refused, but where it is a
pipeline inside that was guided.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from cfglab.errors import InputError
from cfglab.pipelines import guide
from cfglab.pipelines.profiles.lookup import profile_of
from tests.pipelines.refused_others import OTHERS
from tests.pipelines.refused_tries import TRIES, Try

WRITTEN = Path(__file__).parent / "refused.json"
EVERY = TRIES | OTHERS
"""Class -> how it is tried."""


def tried(attempt: Try) -> str:
    """The rows of the network's calls, and what happens under guide() at the scale 3 against the untouched pipeline."""
    pipe = attempt.build()
    target = getattr(pipe, attempt.inside) if attempt.inside else pipe
    profile = profile_of(target) if attempt.inside else attempt.profile
    rows: list[int] = []

    def before(_module: Any, args: Any, named: dict[str, Any]) -> None:
        rows.append(len(args[0] if args else next(iter(named.values()))))

    hook = getattr(target, profile.denoisers[0]).register_forward_pre_hook(before, with_kwargs=True)
    untouched = attempt.call(pipe, 3.0)
    hook.remove()
    seen = f"{' '.join(map(str, rows)) or 'no'} rows"
    if not hasattr(target, "scheduler"):
        return f"{seen}, no scheduler"
    try:
        with guide(target, 3.0, profile=profile):
            guided = attempt.call(pipe, 5.0)
    except InputError:
        return f"{seen}, refused"
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:  # of a rule that does not fit at all
        return f"{seen}, {type(error).__name__}"
    difference = float((guided - untouched).norm() / untouched.norm())
    return f"{seen}, {f'differs by {difference:.0%}' if difference > 1e-5 else 'the same'}"


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
