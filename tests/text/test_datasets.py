"""A corpus is cleaned, divided by hash, and encoded with what is left out counted."""

from pathlib import Path

import pytest
import torch

from molfldd.errors import MolflddError, UsageError
from molfldd.splitting import in_test_split
from molfldd.text.datasets import (
    TextData,
    encode_texts,
    fingerprint,
    read_corpus,
)
from molfldd.text.tokenizer import BYTES, decode, train_tokenizer


def corpus_of(path: Path, lines: list[str], fraction: float = 0.3):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_corpus(TextData(str(path), test_fraction=fraction))


def test_repeated_and_empty_texts_are_counted(
    tmp_path: Path, stories: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = corpus_of(tmp_path / "a.txt", [*stories, "", stories[0], " ", stories[0] + " "])
    assert sorted(corpus.train + corpus.test) == sorted(stories)
    assert "148 read, 144 kept, 4 skipped (2 repeated, 2 empty)" in " ".join(
        capfd.readouterr().err.split()
    )


def test_split_depends_on_the_text_alone(tmp_path: Path, stories: list[str]) -> None:
    whole = corpus_of(tmp_path / "a.txt", stories)
    part = corpus_of(tmp_path / "b.txt", stories[::-2])
    more = corpus_of(tmp_path / "c.txt", stories, 0.6)
    assert set(part.test) == set(whole.test) & set(stories[::-2])
    assert set(whole.test) < set(more.test)
    assert len(whole.test) == pytest.approx(0.3 * 144, abs=20)
    assert not in_test_split("abc", 0.1)  # sha256("abc") begins with ba, 0.73 of the range
    assert in_test_split("abc", 0.75)


@pytest.mark.parametrize(
    ("path", "message"),
    [(None, "data.path': it is not set"), ("nowhere.txt", "there is no file nowhere.txt")],
)
def test_missing_corpus_says_where_to_ask(path: str | None, message: str) -> None:
    with pytest.raises(UsageError, match="on request only") as caught:
        read_corpus(TextData(path))
    assert message in str(caught.value)
    assert "https://www.cs.rochester.edu/nlp/rocstories/" in str(caught.value)


def test_too_few_texts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1 different texts .* cannot be divided"):
        corpus_of(tmp_path / "a.txt", ["one", "one"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("test_fraction", 0.0),
        ("test_fraction", 1.0),
        ("vocabulary", BYTES - 1),
        ("vocabulary", 10**12),
        ("max_length", 0),
    ],
)
def test_impossible_options(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        TextData(**{key: value})


def test_codes_are_the_texts_that_fit(stories: list[str]) -> None:
    tokenizer = train_tokenizer(stories, 300)
    short = ["a", "bc", "x" * 50, "", stories[0]]
    encoded = encode_texts(tokenizer, short, 20)
    assert encoded.too_long == 2  # the long and the empty one
    rows = [row[:n] for row, n in zip(encoded.codes.tolist(), encoded.sizes.tolist(), strict=True)]
    assert decode(tokenizer, rows) == ["a", "bc", stories[0]]
    padding = torch.arange(encoded.codes.shape[1]) >= encoded.sizes[:, None]
    assert not encoded.codes[padding].any()
    with pytest.raises(MolflddError, match="none of 1 texts has 1 to 2 tokens"):
        encode_texts(tokenizer, stories[:1], 2)


def test_fingerprint_sees_texts_and_tokenizer(stories: list[str]) -> None:
    tokenizers = [train_tokenizer(stories, size) for size in (290, 300)]
    prints = {
        fingerprint(tokenizer, [encode_texts(tokenizer, texts, 99)])
        for tokenizer in tokenizers
        for texts in (stories, stories[:-1], stories[::-1])
    }
    assert len(prints) == 6
