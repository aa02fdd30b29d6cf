"""Prompts and seeds as people write them: sentences, generated sets of the world of scenes, files, ranges."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from cfglab.errors import InputError
from cfglab.file_input import lines_of, read_text, user_path
from cfglab.limits import DOCUMENT_BYTES, LARGEST_SEED, PROMPT_CHARACTERS, PROMPTS
from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURED, RELATIONS, Scene, caption, triples
from cfglab.schedules.fields import shown

_SET = re.compile(r"scenes:([0-9]{1,9})")
_RANGE = re.compile(r"([0-9]{1,20})\.\.([0-9]{1,20})")
_NUMBER = re.compile(r"[0-9]{1,30}")
MOST_SEEDS = 1_000_000
NOISES = 2**32  # seeds that torch's generator of the CPU tells apart


def prompt_set(text: str) -> tuple[str, ...]:
    """Return the N prompts of `scenes:N`: N compositions of two objects from the world of scenes.

    They are always the same. Compositions of the training set and held-out ones alternate, the relations rotate
    (riding, next to, above, and two coloured objects), and half of the prompts of each kind state a background.
    `scenes:16` begins with the same prompts as `scenes:64`.

    Args:
        text: such as `scenes:64`.

    Raises:
        InputError: if the text is no prompt set, or there are not that many compositions.

    Examples:
        >>> prompt_set("scenes:64")[:2] == prompt_set("scenes:2")
        True
    """
    match = _SET.fullmatch(text)
    if not match:
        raise InputError(f"prompts {text[:60]!r}: a set of prompts is written scenes:N, as in scenes:64.")
    count = int(match[1])
    pools = {
        (held_out, relation): iter(sorted(_compositions(held_out, relation), key=_shuffled))
        for held_out in (False, True)
        for relation in RELATIONS
    }
    prompts: list[str] = []
    for index in range(count):
        scene = next(pools[index % 2 == 1, RELATIONS[index // 2 % len(RELATIONS)]], None)
        if scene is None:
            raise InputError(f"prompts {text!r}: there are only {index} such compositions; ask for scenes:{index}.")
        names = list(BACKGROUNDS)
        background = names[index // 4 % len(names)] if (index // 2 + index // 8) % 2 else None
        prompts.append(caption(replace(scene, background=background)))
    if not prompts:
        raise InputError(f"prompts {text!r}: at least one prompt is needed; write scenes:16.")
    return tuple(prompts)


def _compositions(held_out: bool, relation: str) -> Iterable[Scene]:
    """One scene for every pair in a relation, of an unordered pair only the first order; for `and`, coloured pairs."""
    if relation == "and":
        pairs = combinations(COLOURED, 2)
        scenes = [
            Scene(a, relation, b, colour_a=colour_a, colour_b=colour_b)
            for a, b in pairs
            for colour_a, colour_b in product(COLOURED[a], COLOURED[b])
        ]
    else:
        scenes = list({scene.triple: scene for scene in reversed(triples((relation,)))}.values())
    return [scene for scene in scenes if scene.held_out == held_out]


def _shuffled(scene: Scene) -> bytes:
    return hashlib.sha256(f"scenes:N|{caption(scene)}".encode()).digest()


def expand_prompts(entries: str | Sequence[str]) -> tuple[str, ...]:
    """Return prompts with each `scenes:N` replaced by its N prompts.

    Args:
        entries: sentences and prompt sets.

    Raises:
        InputError: if there are too many prompts, or one is too long.
    """
    listed = [entries] if isinstance(entries, str) else entries
    prompts = tuple(p for entry in listed for p in (prompt_set(entry) if entry.startswith("scenes:") else (entry,)))
    if len(prompts) > PROMPTS:
        raise InputError(f"prompts: there are {len(prompts):,}, and an experiment has at most {PROMPTS:,}; give fewer.")
    for prompt in prompts:
        if len(prompt) > PROMPT_CHARACTERS:
            raise InputError(
                f"prompt {prompt[:60]!r}…: has {len(prompt):,} characters, and a prompt has at most "
                f"{PROMPT_CHARACTERS:,}; shorten it."
            )
    return prompts


def read_prompts(values: Sequence[str]) -> tuple[str, ...]:
    r"""Read prompts as a command line gives them.

    Args:
        values: sentences, `scenes:N`, and `@file` with a prompt on each line that is not empty. A file is UTF-8 text,
            with or without a byte order mark; its lines end with \n, \r\n or \r and with nothing else.

    Returns:
        The prompts.

    Raises:
        InputError: if a file cannot be read or holds no prompt, or there are too many prompts.

    Examples:
        >>> read_prompts(["a photograph of a cat"])
        ('a photograph of a cat',)
    """
    prompts: list[str] = []
    for value in values:
        if not value.startswith("@"):
            prompts.append(value)
            continue
        try:
            lines = [line.strip() for line in lines_of(read_text(user_path(value[1:]), DOCUMENT_BYTES))]
        except OSError as error:
            raise InputError(
                f"prompts {shown(value)}: the file cannot be read ({error.strerror}); give a text file, @file."
            ) from error
        if not any(lines):
            raise InputError(f"prompts {shown(value)}: the file holds no prompt; write one a line.")
        prompts += [line for line in lines if line]
    return expand_prompts(prompts)


def read_seeds(value: object) -> tuple[int, ...]:
    """Read seeds.

    Args:
        value: `7`, `0..7` (both ends included), a range, or a list of these; each seed from 0 to 2**64 - 1.

    Returns:
        The seeds.

    Raises:
        InputError: for any other value.

    Examples:
        >>> read_seeds("0..3")
        (0, 1, 2, 3)
        >>> read_seeds([7, "10..11"])
        (7, 10, 11)
    """
    if isinstance(value, list | tuple):
        seeds: list[int] = []
        for part in value:
            seeds += read_seeds(part)
            if len(seeds) > MOST_SEEDS:
                raise InputError(f"seeds: a list holds at most {MOST_SEEDS} of them; give fewer.")
        return tuple(seeds)
    text = value.strip() if isinstance(value, str) else ""
    if match := _RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2])
        if first > last or last - first >= 100_000:
            rule = "a range runs upwards and holds at most 100000 seeds"
            raise InputError(f"seeds {text!r}: {rule}; write {min(first, last)}..{min(first, last) + 7}.")
        return tuple(map(_seed, (*range(first, last), last)))
    if isinstance(value, range):
        if not 0 < len(value[: MOST_SEEDS + 1]) <= MOST_SEEDS:
            raise InputError(
                f"seeds {value!r:.60}: a range holds at least one and at most {MOST_SEEDS}; write range(8)."
            )
        return tuple(map(_seed, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return (_seed(value),)
    if not _NUMBER.fullmatch(text):
        raise InputError(
            f"seeds {shown(value)}: a seed is a whole number, 0 or more; write 7 or 0..7, or a list in a file."
        )
    return (_seed(int(text)),)


def _seed(seed: int) -> int:
    if 0 <= seed <= LARGEST_SEED:
        return seed
    number = str(seed) if abs(seed) < 10**30 else f"a number of {seed.bit_length()} bits"
    limit = "0 or more" if seed < 0 else f"{LARGEST_SEED} (2**64 - 1) or less"
    raise InputError(f"seeds {number}: a seed is a whole number, {limit}; write 7 or 0..7, or a list in a file.")


def refuse_same_noise(seeds: Iterable[int], modulus: int = NOISES) -> None:
    """Check that no two seeds give the same noise.

    Args:
        seeds: the seeds.
        modulus: seeds that are equal modulo this number give the same noise; torch's CPU generator has 2**32.

    Raises:
        InputError: if two seeds give the same noise.
    """
    seed_of_noise: dict[int, int] = {}
    for seed in seeds:
        if (earlier := seed_of_noise.setdefault(seed % modulus, seed)) != seed:
            raise InputError(
                f"seeds {earlier} and {seed}: torch draws the same noise for both, it counts them modulo {modulus}; "
                "leave one of them out."
            )


def write_seeds(seeds: Sequence[int]) -> int | str | list[int]:
    """Return the short form of seeds, which `read_seeds` reads back.

    Args:
        seeds: at least one seed.

    Examples:
        >>> write_seeds([0, 1, 2])
        '0..2'
        >>> write_seeds([3, 1])
        [3, 1]
    """
    if len(seeds) == 1:
        return seeds[0]
    upwards = list(range(seeds[0], seeds[0] + len(seeds))) == list(seeds)
    return f"{seeds[0]}..{seeds[-1]}" if upwards else list(seeds)


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raise InputError if there is no value, or one of them is there twice."""
    if not values:
        raise InputError(f"{name}: there are none; give at least one.")
    distinct = set[Any]()
    for value in values:
        if value in distinct:
            raise InputError(f"{name}: {shown(value, 80)} is there twice; results are paired by it, so leave one out.")
        distinct.add(value)
