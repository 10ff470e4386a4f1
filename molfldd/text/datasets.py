"""A corpus: texts of a file, cleaned, divided by hash, and as padded codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molfldd.errors import MolflddError, UsageError
from molfldd.messages import say
from molfldd.splitting import in_test_split
from molfldd.text.files import read_texts
from molfldd.text.tokenizer import BYTES, encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROCSTORIES = "https://www.cs.rochester.edu/nlp/rocstories/"
"""Where the authors of the corpus ask for a name and an address before they send it."""


MOST_TOKENS = 1_000_000


@dataclass(frozen=True)
class TextData:
    """Which texts to train on, and how they become tokens.

    Attributes:
        path: A ``.txt`` file with one text a line or the ROCStories ``.csv``, also with ``.gz``.
        test_fraction: Share held out, by the hash of each text.
        tokenizer: A ``tokenizer.json``, or the name of a model of the Hugging Face hub that has
            one; None trains one on the training texts.
        vocabulary: Tokens of a trained tokenizer.
        max_length: Tokens of the longest text to keep.
    """

    path: str | None = None
    test_fraction: float = 0.1
    tokenizer: str | None = None
    vocabulary: int = 8000
    max_length: int = 80

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction must lie in (0, 1), got {self.test_fraction}")
        if not BYTES <= self.vocabulary <= MOST_TOKENS:
            raise ValueError(
                f"vocabulary must be between {BYTES} and {MOST_TOKENS:,}, got {self.vocabulary}"
            )
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {self.max_length}")


@dataclass(frozen=True)
class Corpus:
    """Different texts, divided into a training and a held-out part."""

    train: list[str]
    test: list[str]


def left_out(source: str, read: int, skipped: Counter[str]) -> str:
    """One line: ``stories.txt: 100 read, 97 kept, 3 skipped (2 repeated, 1 empty)``."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common() if count)
    total = skipped.total()
    tail = f" ({reasons})" if reasons else ""
    return f"{source}: {read:,} read, {read - total:,} kept, {total:,} skipped{tail}"


def read_corpus(config: TextData) -> Corpus:
    """The texts of a file without empty and repeated ones, saying on stderr how many those were.

    Raises:
        UsageError: if no file is named, if it cannot be read, or if one part would be empty.
    """
    if config.path is None or not Path(config.path).is_file():
        named = "it is not set" if config.path is None else f"there is no file {config.path}"
        raise UsageError(
            f"config key 'data.path': {named}; ROCStories is given out by its authors on request "
            f"only ({ROCSTORIES}): name its csv, or any text file with one text a line, as in "
            "molfldd train rocstories --data FILE"
        )
    texts = read_texts(Path(config.path))
    different = list(dict.fromkeys(filter(None, texts)))
    empty = texts.count("")
    skipped = Counter({"repeated": len(texts) - empty - len(different), "empty": empty})
    say(left_out(config.path, len(texts), skipped))
    held_out = [in_test_split(text, config.test_fraction) for text in different]
    corpus = Corpus(
        [text for text, held in zip(different, held_out, strict=True) if not held],
        [text for text, held in zip(different, held_out, strict=True) if held],
    )
    if not (corpus.train and corpus.test):
        raise UsageError(
            f"the {len(different):,} different texts of {config.path} cannot be divided into a "
            "training and a held-out part; give more texts or another data.test_fraction"
        )
    return corpus


@dataclass(frozen=True)
class Encoded:
    """Texts as tokens.

    Attributes:
        codes: (N, n_max) int32, padded with 0.
        sizes: Tokens of each text, (N,) int64.
        too_long: Texts left out.
    """

    codes: Tensor
    sizes: Tensor
    too_long: int


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Encoded:
    """Texts of 1 to ``max_length`` tokens as codes, in their order.

    Raises:
        MolflddError: if no text is left.
    """
    encoded = encode(tokenizer, texts)
    kept = [codes for codes in encoded if 0 < len(codes) <= max_length]
    if not kept:
        raise MolflddError(
            f"none of {len(texts):,} texts has 1 to {max_length} tokens; raise data.max_length"
        )
    sizes = torch.tensor([len(codes) for codes in kept])
    padded = torch.zeros(len(kept), int(sizes.max()), dtype=torch.int32)
    for row, codes in enumerate(kept):
        padded[row, : len(codes)] = torch.tensor(codes, dtype=torch.int32)
    return Encoded(padded, sizes, len(texts) - len(kept))


def fingerprint(tokenizer: Tokenizer, parts: Iterable[Encoded]) -> str:
    """SHA-256 (hex) of the tokenizer and of all codes."""
    digest = sha256(tokenizer.to_str().encode())
    for part in parts:
        for tensor in (part.codes, part.sizes):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
