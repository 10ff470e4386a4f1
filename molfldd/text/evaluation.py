"""Scores of generated texts, never without the protocol that they depend on.

The protocol is the one of latent diffusion for language generation (Lovelace et al., 2023), which
the published numbers on ROCStories follow: as many reference texts as generated ones, MAUVE of the
features of a language model, the mean perplexity under one, diversity and memorization.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from statistics import fmean

from molfldd.errors import UsageError
from molfldd.report import Comparison, Report, Score
from molfldd.splitting import content_key
from molfldd.text.files import read_texts
from molfldd.text.judges import (
    GPT2,
    MAX_TOKENS,
    Encoder,
    Features,
    Judge,
    mauve,
    mauve_package,
)
from molfldd.text.metrics import diversity, memorization, words

JUDGE = "MOLFLDD_JUDGE"
"""Environment variable: the causal language model for PPL, a name, a folder or a .gguf file."""
ENCODER = "MOLFLDD_ENCODER"
"""Environment variable: the model for the features of MAUVE, likewise."""

SCORES = {
    "mauve": Score("closeness to the reference, 1 is equal"),
    "ppl": Score("perplexity under the judge, mean over texts", 1),
    "div": Score("different n-grams of all, product over n = 2, 3, 4"),
    "mem": Score("4-grams that occur in the training texts, of all"),
    "words": Score("words and punctuation marks per text", 1),
    "bound": Score("bound on -log p of the model's own held-out texts, nats per text", 1),
    "bound_token": Score("the same, nats per token"),
}
"""None: nothing to compute it from."""


def comparison_with(name: str) -> Comparison:
    """What a name stands for: a file of texts (no training texts then) or "none".

    Raises:
        UsageError: if it is neither, or if the file cannot be read or has no text.
    """
    if name == "none":
        return Comparison(None, None)
    reference = [text for text in read_texts(Path(name)) if text]
    if not reference:
        raise UsageError(f"there is no text in the reference {name}")
    return Comparison(reference, None)


@dataclass(frozen=True)
class Bound:
    """The bound that a model's checkpoint has recorded; None: unknown.

    Attributes:
        nats: Per text.
        tokens: Per held-out text, on average.
    """

    nats: float | None = None
    tokens: float | None = None

    @property
    def per_token(self) -> float | None:
        """Nats per token."""
        return None if self.nats is None or self.tokens is None else self.nats / self.tokens


NO_BOUND = Bound()


@dataclass(frozen=True)
class Protocol:
    """What scores depend on.

    Attributes:
        samples: Generated texts.
        reference: Real texts at hand for MAUVE, which uses as many as there are samples.
        reference_sha256: Of those texts, one a line.
        training: Training texts for the memorization.
        judge: The language model of PPL.
        encoder: The model of the features for MAUVE.
    """

    samples: int
    reference: int | None
    reference_sha256: str | None
    training: int | None
    judge: str | None
    encoder: str | None

    def lines(self) -> list[str]:
        """The protocol in words, for below a table."""
        judge = f"not computed: {JUDGE} names no model, such as {GPT2}"
        encoder = f"not computed: {ENCODER} names no model, such as {GPT2}"
        cut = f"at most the first {MAX_TOKENS} tokens"
        return [
            f"{self.samples:,} samples, none left out; words by molfldd's own rule",
            f"PPL: {judge if self.judge is None else f'{self.judge}, {cut}'}",
            f"MAUVE: {encoder if self.encoder is None else f'{self.encoder}, {cut}'}",
            *([] if self.reference is None else [self._reference_line()]),
            *([] if self.training is None else [f"{self.training:,} training texts"]),
        ]

    def _reference_line(self) -> str:
        used = min(self.samples, self.reference or 0)
        return f"{used:,} of {self.reference:,} reference texts, sha256 {self.reference_sha256}"


@dataclass(frozen=True)
class Judges:
    """Other models that judge; None where there is none."""

    judge: Judge | None = None
    encoder: Encoder | None = None

    @classmethod
    def chosen(cls) -> Judges:
        """Those that the environment names; raises ``MolflddError`` if one cannot be loaded."""
        judge, encoder = os.environ.get(JUDGE), os.environ.get(ENCODER)
        if encoder:
            mauve_package()
        return cls(Judge.load(judge) if judge else None, Encoder.load(encoder) if encoder else None)


def evaluate(
    draws: Iterable[Sequence[str]],
    comparison: Comparison,
    judges: Judges,
    bound: Bound = NO_BOUND,
) -> Report:
    """Scores of generated texts, one list per sampling seed and all of the same length.

    Empty texts stay in the counts, but have no perplexity and no features.

    Args:
        draws: The texts.
        comparison: Real texts.
        judges: Models for PPL and MAUVE.
        bound: Of the model that made them, to be reported beside.

    Raises:
        UsageError: if there is no text.
    """

    @lru_cache(maxsize=1)
    def reference_features(count: int) -> Features | None:
        if judges.encoder is None or comparison.reference is None:
            return None
        return judges.encoder.features(chosen(comparison.reference, count))

    runs, samples = [], 0
    for texts in draws:
        samples = len(texts)
        if not any(text.strip() for text in texts):
            raise UsageError("there are no texts to evaluate; give at least one")
        runs.append(_score(texts, comparison, judges, reference_features(samples), bound))
    reference, training = comparison.reference, comparison.training
    protocol = Protocol(
        samples=samples,
        reference=None if reference is None else len(reference),
        reference_sha256=None if reference is None else content_hash(reference),
        training=None if training is None else len(training),
        judge=None if judges.judge is None else judges.judge.name,
        encoder=None if judges.encoder is None else judges.encoder.name,
    )
    return Report(SCORES, tuple(runs), protocol)


def _score(
    texts: Sequence[str],
    comparison: Comparison,
    judges: Judges,
    features: Features | None,
    bound: Bound,
) -> dict[str, float | None]:
    written = [text for text in texts if text.strip()]
    generated = None
    if features is not None and judges.encoder is not None:
        generated = mauve(judges.encoder.features(written), features)
    training = comparison.training
    return {
        "mauve": generated,
        "ppl": None if judges.judge is None else fmean(judges.judge.perplexities(written)),
        "div": diversity(texts),
        "mem": None if training is None else memorization(texts, training),
        "words": fmean(len(words(text)) for text in texts),
        "bound": bound.nats,
        "bound_token": bound.per_token,
    }


def chosen(texts: Sequence[str], count: int) -> list[str]:
    """So many of the texts, by their hashes, so that their order in a file does not matter."""
    return sorted(texts, key=content_key)[:count]


def content_hash(texts: Iterable[str]) -> str:
    """SHA-256 (hex) of texts, one a line, in their order."""
    return sha256("\n".join(texts).encode()).hexdigest()
