"""Measures on texts whose values are known by counting."""

import pytest

from molfldd.text.metrics import diversity, known_words, memorization, ngrams, words


def test_words() -> None:
    assert words("Tom didn't see Ann's dog, twice!") == [
        "Tom", "did", "n't", "see", "Ann", "'s", "dog", ",", "twice", "!",
    ]  # fmt: skip
    assert words("  ") == []
    assert words("I'm naïve… 3.5") == ["I", "'m", "naïve", "…", "3", ".", "5"]


def test_ngrams() -> None:
    assert list(ngrams("abcd", 2)) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert list(ngrams("ab", 3)) == []


def test_diversity_of_all_different_words_is_one() -> None:
    assert diversity(["a b c d e f"]) == 1


def test_diversity_of_repeated_text_falls_as_its_copies() -> None:
    assert diversity(["a b c d e f"] * 4) == pytest.approx(1 / 4**3)


def test_diversity_by_counting() -> None:
    # "a a a a": 1 of 3 pairs, 1 of 2 triples, 1 of 1 quadruples
    assert diversity(["a a a a"]) == pytest.approx(1 / 3 * 1 / 2)
    # n-grams do not cross texts
    assert diversity(["a b c d", "d c b a"]) == 1


def test_too_short_texts_have_no_diversity_and_no_memorization() -> None:
    assert diversity(["a b c", ""]) is None
    assert memorization(["a b c"], ["a b c d"]) is None


def test_memorization() -> None:
    training = ["the cat sat on the mat", "a dog ran"]
    assert memorization(training, training) == 1
    assert memorization(["a cat lay in the sun"], training) == 0
    assert memorization(["the cat sat on a mat"], training) == pytest.approx(1 / 3)
    assert memorization(["the cat sat on"] * 5, training) == 1


def test_known_words() -> None:
    assert known_words(["the cat xx", "the"], {"the", "cat"}) == pytest.approx(3 / 4)
    assert known_words([""], {"the"}) == 0
