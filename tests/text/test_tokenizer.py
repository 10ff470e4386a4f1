"""The tokenizer gives every text back, and is trained once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import molfldd.text.tokenizer as module
from molfldd.errors import MolflddError, UsageError
from molfldd.text.tokenizer import (
    BYTES,
    cached_tokenizer,
    codes_of,
    decode,
    encode,
    named_tokenizer,
    parse_tokenizer,
    read_tokenizer,
    train_tokenizer,
)

CORPUS = ["The cat sat on the mat.", "The dog didn't sit; the cat did."] * 3
TOKENIZER = train_tokenizer(CORPUS, BYTES + 15)


def roundtrip(texts: list[str]) -> list[str]:
    return decode(TOKENIZER, encode(TOKENIZER, texts))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_exactly(text: str) -> None:
    assert roundtrip([text]) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces ",
        "tab\tand\nline\r\n",
        "naïve 東京 🙂 e\u0301",
        "\u2028\x85\x00",
        "[UNK] </s>",
    ],
)
def test_odd_texts_come_back_exactly(text: str) -> None:
    assert roundtrip([text, "The cat."]) == [text, "The cat."]


def test_frequent_words_become_one_token_and_codes_stay_in_the_vocabulary() -> None:
    (the,) = encode(TOKENIZER, ["The cat"])
    assert len(the) == 2
    assert TOKENIZER.get_vocab_size() == BYTES + 15
    codes = encode(TOKENIZER, ["".join(map(chr, range(0x20, 0x500)))])[0]
    assert max(codes) < BYTES + 15


def test_the_hub_names_tokenizers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that was downloaded before, and one that cannot be."""
    constants = pytest.importorskip("huggingface_hub.constants")
    model = tmp_path / "models--someone--tiny"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc").mkdir(parents=True)
    TOKENIZER.save(str(model / "snapshots" / "abc" / "tokenizer.json"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = named_tokenizer("someone/tiny")
    assert encode(found, CORPUS) == encode(TOKENIZER, CORPUS)
    with pytest.raises(UsageError, match="there is no file someone/else, and the Hugging Face hub"):
        named_tokenizer("someone/else")


def test_training_is_reproducible() -> None:
    assert train_tokenizer(CORPUS, BYTES + 15).to_str() == TOKENIZER.to_str()


def test_codes_that_are_no_utf8_decode() -> None:
    code = TOKENIZER.token_to_id("Ã")  # how byte-level tokenizers write the byte 0xC3
    assert decode(TOKENIZER, [[code]]) == ["\ufffd"]


def test_cache_keeps_one_tokenizer_for_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path))
    first = cached_tokenizer(CORPUS, 300).to_str()
    monkeypatch.setattr(module, "train_tokenizer", None)
    assert cached_tokenizer(CORPUS, 300).to_str() == first
    monkeypatch.undo()
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path))
    cached_tokenizer(CORPUS, 290)
    cached_tokenizer(CORPUS[:1], 300)
    assert len(list(tmp_path.iterdir())) == 3


def test_damaged_cache_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path))
    cached_tokenizer(CORPUS, 300)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert cached_tokenizer(CORPUS, 300).to_str() == train_tokenizer(CORPUS, 300).to_str()
    assert json.loads(path.read_text())


def test_read_ignores_padding_and_truncation(tmp_path: Path) -> None:
    tokenizer = parse_tokenizer(TOKENIZER.to_str(), "test")
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = read_tokenizer(tmp_path / "tokenizer.json")
    assert encode(read, CORPUS) == encode(TOKENIZER, CORPUS)


def test_codes_may_have_gaps_and_unknown_words_are_named() -> None:
    hf = pytest.importorskip("tokenizers")
    tokenizer = hf.Tokenizer(hf.models.WordLevel({"a": 0, "b": 350}, unk_token="?"))
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Whitespace()
    assert codes_of(tokenizer) == 351
    assert encode(tokenizer, ["a b"]) == [[0, 350]]
    with pytest.raises(UsageError, match="the tokenizer cannot encode the texts"):
        encode(tokenizer, ["a c"])


def test_unreadable_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UsageError, match="cannot read the tokenizer"):
        read_tokenizer(path)
    path.write_text('{"model": 3}')
    with pytest.raises(UsageError, match="is not the JSON of a tokenizer"):
        read_tokenizer(path)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MolflddError, match=r'pip install "molfldd\[text\]"'):
        train_tokenizer(CORPUS, 300)
