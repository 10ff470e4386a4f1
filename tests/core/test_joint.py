"""Joint draws keep every element's probabilities; what they add is how elements go together."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import build_diffusion
from torch import Tensor

from molfldd.core.blocks import SizeDistribution
from molfldd.core.joint import (
    EVENTS,
    NUMBERS,
    JointDraw,
    Smooth,
    balanced,
    independent,
    pivotal,
    turns,
)
from molfldd.core.sampling import Sampler

ELEMENTS = 6
ALIKE = Smooth(torch.exp(-((torch.arange(6.0)[:, None] - torch.arange(6.0)) ** 2) / 4))
every_draw = pytest.mark.parametrize("joint", [independent, balanced, ALIKE])


def numbers(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, ELEMENTS, NUMBERS, generator=generator)


def random_probs(states: int, seed: int = 0) -> Tensor:
    """Of ``ELEMENTS`` elements; some states are impossible, some elements certain."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(1, ELEMENTS, states, generator=generator) ** 3
    p[0, 0] = torch.eye(states)[seed % states]
    p[0, 1, (seed + 1) % states] = 0
    return p / p.sum(-1, keepdim=True)


def drawn(joint: JointDraw, p: Tensor, rows: int, mask: Tensor | None = None) -> Tensor:
    exists = torch.ones(rows, ELEMENTS, dtype=torch.bool) if mask is None else mask
    return joint(p.expand(rows, -1, -1), exists, numbers(rows))


@every_draw
@pytest.mark.parametrize("states", [2, 3, 5, EVENTS, EVENTS + 1, EVENTS + 2, 40])
def test_every_element_keeps_its_probabilities(joint: JointDraw, states: int) -> None:
    p, rows = random_probs(states, seed=states), 20_000
    z = drawn(joint, p, rows)
    found = torch.nn.functional.one_hot(z, states).double().mean(0)
    error = (p[0] * (1 - p[0]) / rows).sqrt()
    assert ((found - p[0]).abs() <= 5 * error + 1e-6).all()


@every_draw
@pytest.mark.parametrize("states", [2, 5, 40])
def test_the_impossible_never_happens(joint: JointDraw, states: int) -> None:
    for seed in range(5):
        p = random_probs(states, seed)
        z = drawn(joint, p, 2000)
        assert (p.expand(2000, -1, -1).gather(-1, z[..., None]) > 0).all()


@given(
    st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), max_size=12),
    st.integers(0, 10_000),
)
def test_up_to_any_element_events_have_come_as_often_as_expected(
    chances: list[float], seed: int
) -> None:
    p = torch.tensor([chances], dtype=torch.double).view(1, -1)
    uniform = torch.rand(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
    e = pivotal(p, uniform).double()
    assert ((e - p).cumsum(-1).abs() < 1 + 1e-9).all()
    assert (e[p == 0] == 0).all()
    assert (e[p == 1] == 1).all()


def test_duels_keep_every_chance_and_make_neighbours_exclude_each_other() -> None:
    p = torch.tensor([0.3, 0.6, 0.9, 0.0, 0.5, 1.0, 0.2], dtype=torch.double).expand(40_000, -1)
    uniform = torch.rand(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype)
    e = pivotal(p, uniform).double()
    error = (p[0] * (1 - p[0]) / len(p)).sqrt()
    assert ((e.mean(0) - p[0]).abs() <= 5 * error + 1e-9).all()
    for i, j in ((0, 1), (4, 6)):
        assert float((e[:, i] * e[:, j]).mean()) < float(p[0, i] * p[0, j]) - 0.01


def test_balance_leaves_draws_as_different_as_they_can_be() -> None:
    """One random offset for all, as in systematic sampling, would leave two outcomes."""
    p = torch.full((1, ELEMENTS, 2), 0.5)
    different = drawn(balanced, p, 500).unique(dim=0)
    assert len(different) == 2 ** (ELEMENTS // 2)


def test_one_of_several_candidates_is_drawn_exactly_once() -> None:
    """What independent draws get wrong more often than right."""
    candidates = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.1])
    p = torch.stack([1 - candidates, candidates], -1)[None]
    assert (drawn(balanced, p, 1000).sum(-1) == 1).all()
    assert (drawn(independent, p, 1000).sum(-1) == 1).double().mean() < 0.6


def test_balanced_draws_leave_padding_out_of_the_count() -> None:
    p = torch.full((1, ELEMENTS, 2), 0.5)
    mask = torch.tensor([True, False, True, False, True, True]).expand(500, -1)
    z = drawn(balanced, p, 500, mask)
    assert (((z == 0) & mask).sum(-1) == 2).all()


def test_smooth_draws_make_near_elements_alike() -> None:
    p = torch.full((1, ELEMENTS, 2), 0.5)
    z = drawn(ALIKE, p, 4000)
    near, far = ((z[:, i] == z[:, j]).double().mean() for i, j in ((2, 3), (0, 5)))
    correlation = float(ALIKE.mix[2] @ ALIKE.mix[3])
    assert float(near) == pytest.approx(0.5 + math.asin(correlation) / math.pi, abs=0.03)
    assert near > far + 0.1


@pytest.mark.parametrize("joint", [independent, balanced])
def test_a_step_keeps_the_probabilities_of_the_reverse_process(joint: JointDraw) -> None:
    diffusion = build_diffusion("pinned-uniform", 1)
    sizes = SizeDistribution(torch.tensor([0, 1, 1]))
    sampler = Sampler(
        diffusion.reverse, diffusion.prior, sizes, {b.name: joint for b in diffusion.blocks}
    )
    samples = sampler.sample(0, range(6000), keep_trajectory=True)
    z = diffusion.prior.onehot(samples.trajectory[0])
    with torch.no_grad():
        log_v = diffusion.reverse.law(z, samples.mask, torch.ones_like(samples.sizes)).marginals()
    for name, exists in samples.mask.items():
        p = log_v[name].exp()[exists]
        found = torch.nn.functional.one_hot(samples.codes[name][exists], p.shape[-1])
        error = (p * (1 - p)).sum(0).sqrt() / len(p)
        assert ((found - p).mean(0).abs() <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("states", [1, 2, 3, 7])
def test_every_state_has_its_turn(states: int) -> None:
    assert sorted(turns(states)) == list(range(states))


def test_decided_first_is_the_first_category_then_the_mask() -> None:
    assert turns(5) == [0, 4, 1, 2, 3]
