"""The tokenizer of both models in plain Python: a byte-level `CLIPTokenizer` with the world's words as whole tokens."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from cfglab.scenes.vocabulary import BACKGROUNDS, COLOURS, COUNTS, OBJECTS, RELATIONS, plural

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"
EXTRA = (
    *("a", "an", "the", "on", "of", "with", "and", "in", "background", "photograph", "photo", "picture", "drawing"),
    *("style", "scene", "image", "high", "quality", "emoji", "sticker"),
)
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")


def alphabet() -> dict[int, str]:
    """A printable character for every byte, as in the byte-level tokenizers of GPT-2 and CLIP."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def train_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first (ties alphabetical), until every word is one token."""
    spelled = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in spelled.values() for pair in pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = {word: _merged(parts, best) for word, parts in spelled.items()}


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


@cache
def merges() -> tuple[tuple[str, str], ...]:
    words = {*OBJECTS, *map(plural, OBJECTS), *BACKGROUNDS, *COLOURS, *COUNTS, *EXTRA}
    return tuple(train_merges(sorted({*words, *(word for r in RELATIONS for word in r.split())})))


@cache
def vocabulary() -> dict[str, int]:
    symbols = sorted(alphabet().values())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges()), START, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


@cache
def _word_ids(word: str) -> tuple[int, ...]:
    letters = alphabet()
    spelled = [letters[byte] for byte in word.encode()]
    parts = (*spelled[:-1], spelled[-1] + "</w>")
    rank = {pair: i for i, pair in enumerate(merges())}
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        parts = _merged(parts, best)
    return tuple(vocabulary()[part] for part in parts)


@cache
def encode(text: str) -> tuple[int, ...]:
    """Token numbers of a text, start and end included, padded with the end to `MAX_LENGTH`."""
    ids = [number for word in _WORD.findall(text.lower()) for number in _word_ids(word)][: MAX_LENGTH - 2]
    start, end = vocabulary()[START], vocabulary()[END]
    return (start, *ids, *[end] * (MAX_LENGTH - 1 - len(ids)))


def encode_all(texts: list[str]) -> Tensor:
    """`(n, MAX_LENGTH)`."""
    return torch.tensor([encode(text) for text in texts])
