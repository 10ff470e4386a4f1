"""Several numbers of steps: each is a whole process, and none disturbs another."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import (
    FORWARD,
    build_diffusion,
    build_forward,
    exact_bound,
    exact_model,
    random_batch,
    row_of,
)
from torch import Tensor

from molfldd.core.blocks import SizeDistribution
from molfldd.core.clock import Clock
from molfldd.core.draws import Draws
from molfldd.core.estimators import Pathwise
from molfldd.core.estimators.base import Term
from molfldd.core.phases import TrainingOptions
from molfldd.core.report import evaluate_bound

WALKS = (3, 1, 4)
every_process = pytest.mark.parametrize("kind", FORWARD)
walks = st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True)


@given(walks)
def test_every_walk_goes_from_data_to_noise_step_by_step(lengths: list[int]) -> None:
    clock = Clock(lengths)
    assert sorted(t for length in lengths for t in clock.steps(length)) == list(
        range(1, sum(lengths) + 1)
    )
    for length in lengths:
        t = torch.tensor(clock.steps(length))
        assert clock.index(t).tolist() == list(range(1, length + 1))
        assert clock.length(t).tolist() == [length] * length
        assert clock.before(t).tolist() == [0, *t[:-1].tolist()]
        assert clock.is_last(t).tolist() == [False] * (length - 1) + [True]
    assert not clock.is_last(torch.tensor([0]))


@given(walks)
def test_the_network_is_told_step_and_walk(lengths: list[int]) -> None:
    """No two steps look alike, and those of the first walk are told as if it were alone."""
    clock = Clock(lengths)
    told = clock.reading(torch.arange(1, clock.total + 1)).tolist()
    assert len(set(told)) == clock.total
    first = [float(Fraction(i + 1, lengths[0])) for i in range(lengths[0])]
    assert told[: lengths[0]] == pytest.approx(first)


@pytest.mark.parametrize("steps", [0, (), (3, 0), (2, 2)])
def test_impossible_numbers_of_steps_are_refused(steps: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="steps"):
        Clock(steps)


def test_a_walk_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="2 steps"):
        Clock(WALKS).steps(2)


@every_process
def test_each_walk_is_exact_at_both_ends_and_consistent_between(kind: str) -> None:
    process, batch = build_forward(kind, WALKS), random_batch(6)
    encoding, x = process.encode(batch), process.prior.onehot(batch.codes)
    for length in WALKS:
        before = x
        for t in process.clock.steps(length):
            transition = process.transition(batch, encoding, torch.full((6,), t))
            for name, u_t in transition.u_t.items():
                torch.testing.assert_close(transition.u_s[name], before[name])
                plan, kept = transition.couplings[name], torch.zeros_like(u_t)
                for k in range(u_t.shape[-1]):
                    hard = torch.nn.functional.one_hot(torch.tensor(k), u_t.shape[-1]).float()
                    kept = kept + u_t[..., k, None] * plan.posterior(hard.expand_as(u_t))
                torch.testing.assert_close(kept, before[name], atol=1e-5, rtol=0)
            before = transition.u_t
        for name, u in before.items():
            assert torch.equal(u, process.prior.probs[name].expand_as(u))


@pytest.mark.parametrize("kind", ["fixed-uniform", "fixed-absorbing", "masking"])
def test_with_an_even_pace_a_walk_is_what_it_is_alone(kind: str) -> None:
    together, batch = build_forward(kind, WALKS), random_batch(6)
    for length in WALKS:
        alone = build_forward(kind, length)
        for own, t in enumerate(together.clock.steps(length), start=1):
            many, one = (
                process.transition(batch, process.encode(batch), torch.full((6,), step))
                for process, step in ((together, t), (alone, own))
            )
            for name, u in one.u_t.items():
                torch.testing.assert_close(many.u_t[name], u)
                torch.testing.assert_close(many.u_s[name], one.u_s[name])


@pytest.mark.parametrize("kind", ["fixed-uniform", "pinned-absorbing", "masking-paced"])
@torch.no_grad()
def test_bound_of_each_walk_is_above_its_likelihood(kind: str) -> None:
    diffusion = build_diffusion(kind, WALKS, seed=1)
    batch = random_batch(4, sizes=(1, 2))
    for length in WALKS:
        bounds = exact_bound(diffusion, batch, length)
        for i, bound in enumerate(bounds):
            prior = diffusion.prior
            states, p = exact_model(diffusion.reverse, prior, int(batch.sizes[i]), length)
            assert bound >= -p[row_of(states, batch, i)].log() - 1e-5


@torch.no_grad()
def test_evaluated_bound_is_that_of_the_walk() -> None:
    diffusion, sizes = build_diffusion("masking", WALKS, seed=1), torch.tensor([0, 1, 1])
    batch = random_batch(2, sizes=(1, 2))
    for length in WALKS:
        report = evaluate_bound(
            diffusion,
            [batch.repeat(4000)],
            SizeDistribution(sizes),
            torch.Generator().manual_seed(0),
            length,
        )
        assert len(report.kl) == length
        exact = float(exact_bound(diffusion, batch, length).mean())
        assert float(report.kl.sum()) == pytest.approx(exact, rel=0.02)


def steps_drawn(iterations: int) -> Tensor:
    draws = Draws(torch.ones(50, dtype=torch.int64), Clock(WALKS), TrainingOptions(batch_size=10))
    return torch.cat([draws.times(i) for i in range(iterations)])


def test_walks_are_drawn_alike_and_the_steps_of_each_too() -> None:
    clock, t = Clock(WALKS), steps_drawn(3000)
    for length in WALKS:
        for step in clock.steps(length):
            share = float((t == step).float().mean())
            assert share == pytest.approx(1 / (len(WALKS) * length), rel=0.05)


@torch.no_grad()
def test_the_loss_is_the_mean_bound_of_the_walks() -> None:
    diffusion, batch = build_diffusion("masking", WALKS, seed=1), random_batch(1, sizes=(2,))
    exact = sum(float(exact_bound(diffusion, batch, length)) for length in WALKS) / len(WALKS)
    t = steps_drawn(3000)
    term = Term.of(diffusion, batch, t)
    loss = float(Pathwise()(term, torch.Generator().manual_seed(0), 0.0).loss)
    assert loss == pytest.approx(exact, rel=0.02)


@given(walks, st.floats(-2, 2))
def test_weights_are_a_power_of_the_time_and_one_on_average(
    lengths: list[int], power: float
) -> None:
    clock = Clock(lengths)
    weights = clock.weights(power)
    for length in lengths:
        own = weights[torch.tensor(clock.steps(length)) - 1]
        assert float(own.mean()) == pytest.approx(1, rel=1e-4)
        ratio = float(own[-1] / own[0])
        assert ratio == pytest.approx(length**power, rel=1e-3)


@torch.no_grad()
def test_the_loss_weighs_the_steps() -> None:
    diffusion, batch = build_diffusion("masking", WALKS, seed=1), random_batch(1, sizes=(2,))
    t = torch.arange(1, diffusion.steps + 1)
    weights = diffusion.clock.weights(1.5)
    estimates = [
        Pathwise()(Term.of(diffusion, batch, t, w), torch.Generator().manual_seed(0), 0.0)
        for w in (None, weights)
    ]
    kl = torch.stack(list(estimates[0].kl.values())).sum(0)
    lengths = diffusion.clock.length(t)
    for estimate, w in zip(estimates, (torch.ones(len(t)), weights), strict=True):
        torch.testing.assert_close(estimate.loss, (lengths * w * kl).mean())
