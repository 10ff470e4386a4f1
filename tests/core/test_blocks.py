"""Batches and priors: trimming, padding, frequencies."""

import pytest
import torch
from tiny import BLOCKS, FREQUENCIES, random_examples

from molfldd.core import blocks
from molfldd.core.blocks import (
    Block,
    Examples,
    absorbing_prior,
    marginal_prior,
    masks,
    total,
    uniform_prior,
)


def test_batches_are_trimmed_to_their_longest_example() -> None:
    examples = random_examples(9, sizes=(1, 2, 3))
    batch = examples.batch(torch.tensor([1, 0, 4]))
    assert batch.sizes.tolist() == [2, 1, 2]
    assert batch.codes["letters"].shape == (3, 2)
    assert batch.codes["links"].shape == (3, 1)
    assert batch.mask["letters"].tolist() == [[True, True], [True, False], [True, True]]
    assert batch.mask["links"].tolist() == [[True], [False], [True]]
    for name, x in batch.codes.items():
        assert x.dtype == torch.int64
        assert (x[~batch.mask[name]] == 0).all()
        original = examples.codes[name][torch.tensor([1, 0, 4]), : x.shape[1]].long()
        assert torch.equal(x[batch.mask[name]], original[batch.mask[name]])


def test_a_block_may_be_empty_in_a_batch() -> None:
    batch = random_examples(2, sizes=(1,)).batch(torch.arange(2))
    assert batch.codes["links"].shape == (2, 0)
    assert total({"links": torch.ones(2, 0)}, batch.mask).tolist() == [0, 0]


def test_masks_follow_from_sizes() -> None:
    mask = masks(BLOCKS, torch.tensor([3, 1]))
    assert mask["letters"].sum(-1).tolist() == [3, 1]
    assert mask["links"].sum(-1).tolist() == [2, 0]


def test_repeat_puts_whole_batch_after_whole_batch() -> None:
    batch = random_examples(3).batch(torch.arange(3))
    twice = batch.repeat(2)
    assert len(twice) == 6
    assert torch.equal(twice.sizes[3:], batch.sizes)
    assert torch.equal(twice.codes["letters"][3:], batch.codes["letters"])
    assert torch.equal(twice.mask["links"][:3], batch.mask["links"])


def test_frequencies_count_valid_elements_only() -> None:
    codes = {"letters": torch.tensor([[2, 1, 9], [0, 2, 2]]), "links": torch.zeros(2, 2).long()}
    found = Examples(BLOCKS, codes, torch.tensor([2, 3])).frequencies()
    assert found["letters"].tolist() == pytest.approx([1 / 5, 1 / 5, 3 / 5])
    assert found["links"].tolist() == [1, 0]


def test_in_a_block_without_elements_all_categories_are_as_frequent() -> None:
    codes = {"letters": torch.zeros(2, 1, dtype=torch.int64)}
    codes["links"] = torch.zeros(2, 0, dtype=torch.int64)
    found = Examples(BLOCKS, codes, torch.tensor([1, 1])).frequencies()
    assert found["links"].unique().numel() == 1
    assert float(found["links"].sum()) == pytest.approx(1)


def test_frequencies_do_not_depend_on_how_many_are_counted_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = random_examples(9, sizes=(1, 2, 3))
    whole = examples.frequencies()
    monkeypatch.setattr(blocks, "_ROWS", 2)
    assert all(torch.equal(found, whole[name]) for name, found in examples.frequencies().items())


def test_total_ignores_padding() -> None:
    batch = random_examples(3, sizes=(1, 3)).batch(torch.arange(2))
    values = {n: torch.where(m, 1.0, torch.nan) for n, m in batch.mask.items()}
    assert total(values, batch.mask).tolist() == [1, 5]


def test_priors_define_the_states() -> None:
    assert uniform_prior(BLOCKS).probs["letters"].tolist() == pytest.approx([1 / 3] * 3)
    assert marginal_prior(FREQUENCIES).states("links") == 2
    absorbing = absorbing_prior(BLOCKS)
    assert absorbing.states("letters") == 4
    assert absorbing.probs["links"].tolist() == [0, 0, 1]
    assert absorbing.onehot({"links": torch.tensor([[1]])})["links"].tolist() == [[[0, 1, 0]]]


def test_a_block_needs_a_category() -> None:
    """One is enough: then only what is masked remains to be said."""
    assert Block("letters", 1, torch.Tensor.clone).categories == 1
    with pytest.raises(ValueError, match="at least 1"):
        Block("letters", 0, torch.Tensor.clone)


def test_some_examples_come_from_everywhere_and_are_always_the_same() -> None:
    examples = random_examples(1000)
    rows = examples.some(100)
    assert torch.equal(rows, examples.some(100))
    assert len(set(rows.tolist())) == 100
    assert rows.min() < 100 < 900 < rows.max()
    assert sorted(examples.some(5000).tolist()) == list(range(1000))
