"""Which examples, steps and noise an iteration draws, on every process."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from molfldd.core.clock import Clock
from molfldd.core.draws import Draws
from molfldd.core.phases import TrainingOptions


def sizes_of(examples: int) -> Tensor:
    return torch.randint(1, 30, (examples,), generator=torch.Generator().manual_seed(examples))


@given(st.integers(1, 60), st.integers(1, 13), st.integers(2, 6), st.integers(0, 5))
def test_grouping_brings_the_same_examples_with_similar_sizes_together(
    examples: int, batch: int, grouped: int, seed: int
) -> None:
    options = TrainingOptions(batch_size=batch, seed=seed)
    sizes = sizes_of(examples)
    plain = Draws(sizes, Clock(3), options)
    draws = Draws(sizes, Clock(3), dataclasses.replace(options, grouped=grouped))
    for group in range(3):
        iterations = range(group * grouped, (group + 1) * grouped)
        batches = [draws.indices(i) for i in iterations]
        together = torch.cat([plain.indices(i) for i in iterations])
        assert sorted(torch.cat(batches).tolist()) == sorted(together.tolist())
        spans = sorted((int(sizes[b].min()), int(sizes[b].max())) for b in batches)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    again = Draws(sizes, Clock(3), draws.options)
    assert torch.equal(again.indices(2 * grouped + 1), draws.indices(2 * grouped + 1))


def test_groups_come_in_random_order() -> None:
    """Small and large examples take turns: the learning rate falls for both alike."""
    sizes = torch.arange(1000)
    draws = Draws(sizes, Clock(3), TrainingOptions(batch_size=10, grouped=100))
    means = [float(sizes[draws.indices(i)].float().mean()) for i in range(100)]
    assert sum(a < b for a, b in pairwise(means)) in range(30, 70)


@given(st.integers(1, 40), st.integers(1, 13), st.integers(0, 5))
def test_every_example_comes_once_per_epoch(examples: int, batch: int, seed: int) -> None:
    draws = Draws(sizes_of(examples), Clock(3), TrainingOptions(batch_size=batch, seed=seed))
    iterations = -(-3 * examples // batch)
    order = torch.cat([draws.indices(i) for i in range(iterations)])[: 3 * examples]
    for epoch in order.split(examples):
        assert sorted(epoch.tolist()) == list(range(examples))


def test_epochs_are_shuffled_anew() -> None:
    draws = Draws(sizes_of(30), Clock(3), TrainingOptions(batch_size=30))
    assert not torch.equal(draws.indices(0), draws.indices(1))
    assert torch.equal(
        draws.indices(0), Draws(sizes_of(30), Clock(3), TrainingOptions(batch_size=30)).indices(0)
    )


@given(
    st.integers(1, 50),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 30),
)
def test_processes_share_the_batch_of_a_single_one(
    examples: int, processes: int, share: int, each: int, iteration: int
) -> None:
    options = TrainingOptions(batch_size=share * processes, steps_per_example=each)
    alone = Draws(sizes_of(examples), Clock(7), options)
    parts = [
        Draws(sizes_of(examples), Clock(7), options, rank, processes) for rank in range(processes)
    ]
    together = torch.cat([part.indices(iteration) for part in parts])
    assert torch.equal(together, alone.indices(iteration))
    times = torch.cat([part.times(iteration).view(each, share) for part in parts], 1)
    assert torch.equal(times.flatten(), alone.times(iteration))


def test_processes_have_different_noise() -> None:
    cpu = torch.device("cpu")
    parts = [
        Draws(sizes_of(10), Clock(7), TrainingOptions(batch_size=4), rank, 2) for rank in range(2)
    ]
    streams = [torch.rand(4, generator=part.noise(i, cpu)) for part in parts for i in range(20)]
    assert len({tuple(s.tolist()) for s in streams}) == 40


@pytest.mark.parametrize("each", [1, 2])
def test_every_step_is_equally_likely_at_every_place_in_the_batch(each: int) -> None:
    draws = Draws(sizes_of(100), Clock(5), TrainingOptions(batch_size=2, steps_per_example=each))
    times = torch.stack([draws.times(i) for i in range(4000)])
    for place in range(2 * each):
        counts = torch.bincount(times[:, place], minlength=6)
        assert counts[0] == 0
        assert (counts[1:] - 800).abs().max() < 5 * math.sqrt(4000 * 0.2 * 0.8)
    assert max(Counter(times[0].tolist()).values()) == 1  # spread over the steps


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 5), st.integers(0, 30))
def test_the_steps_of_an_example_are_spread_over_the_walk(
    steps: int, each: int, batch: int, iteration: int
) -> None:
    """Each as often as any other, up to one; and no large gap between few of them."""
    options = TrainingOptions(batch_size=batch, steps_per_example=each)
    times = Draws(sizes_of(20), Clock(steps), options).times(iteration).view(each, batch)
    for own in times.T:
        counts = torch.bincount(own - 1, minlength=steps)
        assert int(counts.max() - counts.min()) <= 1
        around = sorted(set(own.tolist()))
        gaps = [b - a for a, b in pairwise([*around, around[0] + steps])]
        assert max(gaps) <= 3 * max(1, steps / len(around))


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        Draws(sizes_of(10), Clock(3), TrainingOptions(batch_size=5), 0, 2)
