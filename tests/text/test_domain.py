"""Texts as a domain: what training, checkpoints and sampling see of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from molfldd.config import parse_config, read_recipe
from molfldd.domain import Data, domain_class
from molfldd.text.datasets import TextData, read_corpus
from molfldd.text.domain import Text
from molfldd.text.network import TOKENS
from molfldd.text.tokenizer import read_tokenizer


@pytest.fixture(scope="module")
def config(stories_file: Path) -> TextData:
    return TextData(str(stories_file), vocabulary=300, max_length=24)


@pytest.fixture(scope="module")
def data(config: TextData) -> Data:
    return Text.load(config)


def test_decoding_the_codes_gives_the_texts_that_fit(data: Data, config: TextData) -> None:
    corpus = read_corpus(config)
    for examples, texts in ((data.train, corpus.train), (data.test, corpus.test)):
        codes = {TOKENS: examples.codes[TOKENS].long()}
        decoded = data.domain.decode(codes, examples.sizes.tolist())
        assert set(decoded) <= set(texts)
        assert len(decoded) > len(texts) / 4
    assert int(data.train.sizes.max()) <= 24


def test_too_long_texts_are_counted(config: TextData, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = Text.load(config)
    kept = len(loaded.train) + len(loaded.test)
    assert kept < 144
    said = " ".join(capfd.readouterr().err.split())
    assert f"144 read, {kept} kept, {144 - kept} skipped" in said
    assert "longer than 24 tokens" in said


def test_loading_is_reproducible(data: Data, config: TextData) -> None:
    again = Text.load(config)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.train.codes[TOKENS], data.train.codes[TOKENS])


def test_checkpoint_holds_the_whole_domain(data: Data) -> None:
    domain = Text.from_json(json.loads(json.dumps(data.domain.to_json())))
    assert domain.to_json() == data.domain.to_json()
    assert domain.blocks[0].categories == data.domain.blocks[0].categories == 300
    codes = {TOKENS: data.train.codes[TOKENS].long()}
    sizes = data.train.sizes.tolist()
    assert domain.decode(codes, sizes) == data.domain.decode(codes, sizes)


def test_quality_of_training_texts(data: Data, stories: list[str]) -> None:
    quality = data.domain.quality(stories)
    assert set(quality) == {"div", "words", "known"}
    assert 0 < quality["div"] < 0.1
    assert quality["known"] == 1
    assert data.domain.quality(["qqq zzz", ""]) == {"div": 0.0, "words": 1.0, "known": 0.0}


def test_given_tokenizer_is_used(data: Data, config: TextData, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(data.domain.to_json()["tokenizer"], encoding="utf-8")
    other = Text.load(TextData(config.path, tokenizer=str(path), vocabulary=999, max_length=24))
    assert other.fingerprint == data.fingerprint
    assert read_tokenizer(path).get_vocab_size() == 300


def test_registered() -> None:
    assert domain_class("text") is Text


def test_recipes_differ_in_the_forward_process_alone() -> None:
    """And in how the 64 states of an iteration are drawn."""
    learned, fixed = (
        parse_config(read_recipe(name)) for name in ("rocstories", "rocstories-fixed")
    )
    for part in ("domain", "data", "network", "monitor"):
        assert getattr(learned, part) == getattr(fixed, part)
    assert learned.training.batch_size * learned.training.steps_per_example == 64
    assert replace(learned.training, batch_size=64, steps_per_example=1) == fixed.training
    assert learned.process.steps == fixed.process.steps == 10
    assert [p.iterations for p in learned.phases] == [p.iterations for p in fixed.phases]
    assert [p.lr_reverse for p in learned.phases] == [p.lr_reverse for p in fixed.phases]
    assert (learned.process.forward, fixed.process.forward) == ("masking", "fixed")


def test_networks_know_the_tokens_and_not_the_texts(data: Data) -> None:
    mine = data.domain
    assert isinstance(mine, Text)
    assert mine.like(replace(mine, words=frozenset()))
    assert not mine.like(replace(mine, longest=mine.longest + 1))
