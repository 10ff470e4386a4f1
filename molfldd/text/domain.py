"""Short texts as a domain: their tokens are the only block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from molfldd.core.blocks import Block, Codes, Examples
from molfldd.domain import Data, Domain, Writer
from molfldd.messages import say
from molfldd.report import Comparison, Report
from molfldd.text.datasets import (
    Encoded,
    TextData,
    encode_texts,
    fingerprint,
    left_out,
    read_corpus,
)
from molfldd.text.files import looks_like_texts, one_line, read_texts, write_texts
from molfldd.text.metrics import diversity, known_words, words
from molfldd.text.network import TOKENS, Transformer, TransformerConfig
from molfldd.text.tokenizer import (
    cached_tokenizer,
    codes_of,
    decode,
    named_tokenizer,
    parse_tokenizer,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_of(config: TextData, training: Sequence[str]) -> Tokenizer:
    """The tokenizer named by the config, or one of the training texts."""
    if config.tokenizer is not None:
        return named_tokenizer(config.tokenizer)
    return cached_tokenizer(training, config.vocabulary)


@dataclass(frozen=True)
class Text(Domain):
    """Texts over the vocabulary of a tokenizer; the size of a text is its number of tokens.

    Attributes:
        tokenizer: Texts to codes and back.
        longest: Tokens of the longest text.
        words: The words of the training texts; generated texts are measured against them.
    """

    tokenizer: Tokenizer
    longest: int
    words: frozenset[str]

    name = "text"
    plural = "texts"
    scored = 1000
    sources = MappingProxyType(
        {"rocstories": "98,159 stories of five sentences (a local file, from its authors)"}
    )
    own = "rocstories"
    DataConfig = TextData
    NetworkConfig = TransformerConfig

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """A text a line, or the official csv."""
        return looks_like_texts(path)

    @classmethod
    def load(cls, config: TextData) -> Data:
        """Read, divide and encode the texts, saying on stderr how many are too long."""
        corpus = read_corpus(config)
        tokenizer = tokenizer_of(config, corpus.train)
        train, test = (
            encode_texts(tokenizer, part, config.max_length) for part in (corpus.train, corpus.test)
        )
        reason = f"longer than {config.max_length} tokens"
        too_long = Counter({reason: train.too_long + test.too_long})
        say(left_out("tokenizer", len(corpus.train) + len(corpus.test), too_long))
        longest = int(max(train.sizes.max(), test.sizes.max()))
        known = frozenset(word for text in corpus.train for word in words(text))
        domain = cls(tokenizer, longest, known)
        hashed = fingerprint(tokenizer, (train, test))
        return Data(domain, domain.examples(train), domain.examples(test), hashed)

    def examples(self, encoded: Encoded) -> Examples:
        """Texts as the core sees them."""
        return Examples(self.blocks, {TOKENS: encoded.codes}, encoded.sizes)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The tokens, with one category for each code up to the largest of the vocabulary."""
        return self._blocks

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return (Block(TOKENS, codes_of(self.tokenizer), torch.Tensor.clone),)

    def network(
        self, config: TransformerConfig, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> nn.Module:
        """A transformer encoder."""
        return Transformer(config, self.longest, inputs, outputs)

    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[str]:
        """Texts."""
        rows = zip(codes[TOKENS].tolist(), sizes, strict=True)
        return decode(self.tokenizer, [row[:size] for row, size in rows])

    def quality(self, decoded: Sequence[str]) -> dict[str, float]:
        """Diversity, mean number of words, and the share of words that the training texts have."""
        return {
            "div": diversity(decoded) or 0.0,
            "words": fmean(len(words(text)) for text in decoded),
            "known": known_words(decoded, self.words),
        }

    def text(self, example: str) -> str:
        """The text on one line."""
        return one_line(example)

    @classmethod
    def writers(cls) -> Mapping[str, Writer]:
        """One text a line."""
        return {".txt": write_texts}

    def evaluate(
        self,
        draws: Iterable[Sequence[str]],
        data: TextData,
        metrics: Mapping[str, Any],
        reference: str | None,
    ) -> Report:
        """Scores by the protocol of ``molfldd.text.evaluation``.

        The reference is a file of texts (no memorization then), "none", or by default the model's
        own data: held-out texts for MAUVE, training texts for memorization. Raises
        ``MolflddError`` if a judge cannot be loaded.
        """
        from molfldd.text import evaluation

        tokens = None
        if reference is None:
            corpus = read_corpus(data)
            comparison = Comparison(corpus.test, corpus.train)
            held_out = encode_texts(self.tokenizer, corpus.test, data.max_length)
            tokens = float(held_out.sizes.float().mean())
        else:
            comparison = evaluation.comparison_with(reference)
        bound = evaluation.Bound(metrics.get("bound"), tokens)
        return evaluation.evaluate(draws, comparison, evaluation.Judges.chosen(), bound)

    @classmethod
    def evaluate_file(cls, path: Path, reference: str | None) -> Report:
        """The same of texts in a file, one a line; the reference is a file of texts or "none"."""
        from molfldd.text import evaluation

        texts = read_texts(path)
        comparison = evaluation.comparison_with(reference or "none")
        return evaluation.evaluate([texts], comparison, evaluation.Judges.chosen())

    def like(self, other: Domain) -> bool:
        """Whether the tokens are the same, and as many at most."""
        return isinstance(other, Text) and (
            (other.tokenizer.to_str(), other.longest) == (self.tokenizer.to_str(), self.longest)
        )

    def to_json(self) -> dict[str, Any]:
        """The tokenizer's own JSON, the largest size, and the words."""
        return {
            "tokenizer": self.tokenizer.to_str(),
            "longest": self.longest,
            "words": sorted(self.words),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""
        tokenizer = parse_tokenizer(content["tokenizer"], "the checkpoint's tokenizer")
        return cls(tokenizer, int(content["longest"]), frozenset(content["words"]))
