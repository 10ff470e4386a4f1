"""Measures of generated texts that need no other model: diversity, memorization, known words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from math import prod

NGRAMS = (2, 3, 4)
"""Lengths of the n-grams of the diversity."""
MEMORIZED = 4
"""Length of the n-grams of the memorization."""

_WORD = re.compile(r"\w+(?=n't\b)|n't\b|\w+|'\w+|[^\w\s]", re.IGNORECASE)

Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text; contractions are split as in "did n't", "Tom 's"."""
    return _WORD.findall(text)


def ngrams(tokens: Sequence[str], n: int) -> Iterable[Gram]:
    """All runs of n tokens, in order."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def _pooled(texts: Iterable[Sequence[str]], n: int) -> list[Gram]:
    return [gram for tokens in texts for gram in ngrams(tokens, n)]


def diversity(texts: Sequence[str]) -> float | None:
    """Div: product over n = 2, 3, 4 of the share of different n-grams, pooled over all texts.

    It falls with the number of texts. None if there are no n-grams.
    """
    split = [words(text) for text in texts]
    pooled = [_pooled(split, n) for n in NGRAMS]
    if not all(pooled):
        return None
    return prod(len(set(grams)) / len(grams) for grams in pooled)


def memorization(texts: Sequence[str], training: Iterable[str]) -> float | None:
    """Mem: share of the 4-grams of the texts that occur in a training text.

    None if there are no 4-grams.
    """
    generated = _pooled(map(words, texts), MEMORIZED)
    if not generated:
        return None
    known = set(_pooled(map(words, training), MEMORIZED))
    return sum(gram in known for gram in generated) / len(generated)


def known_words(texts: Sequence[str], vocabulary: Collection[str]) -> float:
    """Share of the words of the texts that the vocabulary has; 0 if there are no words."""
    found = [word for text in texts for word in words(text)]
    return sum(word in vocabulary for word in found) / max(1, len(found))
