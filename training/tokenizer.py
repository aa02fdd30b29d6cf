"""The tokenizer of `scenes`: a byte-level `CLIPTokenizer` of the world's words; other text falls back to bytes."""

from collections import Counter
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS, RELATIONS

MAX_LENGTH = 32
EXTRA = (
    *("a", "an", "the", "on", "of", "with", "and", "in", "background", "photograph", "photo", "picture", "drawing"),
    *("style", "scene", "image", "high", "quality"),
)


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
        for word, parts in spelled.items():
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            spelled[word] = tuple(merged)


def build() -> CLIPTokenizer:
    words = sorted({*OBJECTS, *BACKGROUNDS, *EXTRA, *(word for r in RELATIONS for word in r.split())})
    merges = train_merges(words)
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *dict.fromkeys(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)
