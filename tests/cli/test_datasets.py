"""``molfldd datasets`` as a user runs it."""

import importlib.util

import pytest
from program import Command

from molfldd.config import recipes
from molfldd.domain import DOMAINS, domain_class


def test_datasets_lists(molfldd: Command) -> None:
    result = molfldd("datasets")
    assert result.code == 0
    assert "tiny: a few molecules" in result.out
    assert f"recipes: {', '.join(recipes())}" in result.out
    assert {"qm9", "qm9-fixed", "toy"} <= set(recipes())
    assert "embedded models:" in result.out


def test_datasets_describes(molfldd: Command) -> None:
    result = molfldd("datasets", "tiny")
    assert result.code == 0
    assert "tiny: 70 molecules" in result.out
    assert "vocabulary: C" in result.out
    assert result.out.count("fingerprint") == 3


def test_other_domains_are_listed_and_described(molfldd: Command) -> None:
    listed = molfldd("datasets").out
    for domain in DOMAINS:
        assert all(f"  {name}: " in listed for name in domain_class(domain).sources)
    result = molfldd("datasets", "digits")
    assert result.code == 0
    assert "digits: 1,618 training and 179 held-out images" in result.out
    assert "64 to 64 pixels of 2 categories" in result.out
    result = molfldd("datasets", "rocstories")
    assert result.code == 2
    assert "given out by its authors on request" in result.error


def test_unknown_dataset(molfldd: Command) -> None:
    result = molfldd("datasets", "zinc99")
    assert result.code == 2
    assert "zinc99" in result.error
    assert "known are: qm9, " in result.error


def test_missing_dataset(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "qm9pack" else find(name, package),
    )
    result = molfldd("datasets", "qm9")
    assert result.code == 1
    assert 'pip install "molfldd[qm9]"' in result.error
