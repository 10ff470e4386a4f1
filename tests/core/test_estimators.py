"""Gradient estimators against the exact gradient of the bound, by enumeration and by sampling."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from tiny import (
    LEARNED,
    LETTERS,
    ONE_BLOCK,
    all_states,
    build_diffusion,
    exact_bound,
    gradient,
    random_batch,
    single,
)
from torch import Tensor

from molfldd.core.blocks import Batch
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import (
    ConcreteRelaxation,
    ControlVariate,
    Estimate,
    Estimator,
    LeaveOneOut,
    Pathwise,
    Reinforce,
    ReinMax,
    StraightThrough,
    Term,
    log_marginal,
)
from molfldd.core.estimators.control_variate import WithEffects

KINDS = [
    "free-uniform",
    "pinned-uniform",
    "pinned-independent",
    "pinned-monotone",
    "pinned-learned-prior",
    "masking",
    "masking-paced",
    "mixed",
]
STEPS = 3


def tiny_problem(kind: str) -> tuple[Diffusion, Batch]:
    """Two variables of two categories (and a mask): few enough states for pairs of samples."""
    diffusion = build_diffusion(kind, STEPS, seed=7, blocks=ONE_BLOCK, width=3)
    return diffusion, random_batch(2, sizes=(2,), seed=7, blocks=ONE_BLOCK)


def exact_gradient(diffusion: Diffusion, batch: Batch) -> tuple[Tensor, Tensor]:
    return gradient(exact_bound(diffusion, batch).mean(), diffusion)


def enumerated_gradient(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, samples: int
) -> tuple[Tensor, Tensor]:
    """The estimator's exact expectation over steps and all tuples of ``samples`` states."""
    mean = None
    for i, t in product(range(len(batch)), range(1, STEPS + 1)):
        x, step = single(batch, i), torch.tensor([t])
        states = all_states(diffusion.blocks, diffusion.reverse.states, int(x.sizes))
        forward = diffusion.forward_process
        transition = forward.transition(x, forward.encode(x), step).repeat(len(states))
        q = log_marginal(transition, states.codes, states).exp().detach()
        possible = (q > 1e-20).nonzero().flatten().tolist()
        for rows in product(possible, repeat=samples):
            chosen = {name: z[list(rows)] for name, z in states.codes.items()}
            estimate = with_draw(diffusion, chosen, estimator, x, step)
            weight = float(q[list(rows)].prod()) / (len(batch) * STEPS)
            new = tuple(weight * g for g in gradient(estimate.loss, diffusion))
            mean = new if mean is None else tuple(a + b for a, b in zip(mean, new, strict=True))
    assert mean is not None
    return mean[0], mean[1]


def with_draw(
    diffusion: Diffusion, z: dict[str, Tensor], estimator: Estimator, x: Batch, t: Tensor
) -> Estimate:
    """The estimate when the states drawn are ``z``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Term, "draw", lambda term, generator: z)
        return estimator(Term.of(diffusion, x, t), torch.Generator(), 0.0)


def agrees(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> bool:
    return all(
        float((a - b).norm()) <= 1e-4 * float(b.norm()) for a, b in zip(found, exact, strict=True)
    )


# Deliberately wrong estimators ----------------------------------------------------------------


def wrong_sign(term: Term, generator: torch.Generator, progress: float) -> Estimate:
    z = term.draw(generator)
    kl = term.kl(z, generator)
    value = sum_of_blocks(kl)
    return term.estimate(value - term.log_marginal(z) * value.detach(), kl)


def without_factor(term: Term, generator: torch.Generator, progress: float) -> Estimate:
    right = Reinforce()(term, generator, progress)
    return Estimate(right.loss / term.diffusion.steps, right.kl)


def mean_as_own_baseline(term: Term, generator: torch.Generator, progress: float) -> Estimate:
    """Leave-one-out without leaving one out: biased by the factor (K - 1) / K."""
    many = term.repeat(2)
    z = many.draw(generator)
    kl = many.kl(z, generator)
    value = sum_of_blocks(kl)
    rows = value.detach().view(2, -1)
    return many.estimate(value + many.log_marginal(z) * (rows - rows.mean(0)).flatten(), kl)


def control_variate_not_added_back(
    term: Term, generator: torch.Generator, progress: float
) -> Estimate:
    estimator = with_effects(term.diffusion, 1)
    right = estimator(term, generator, progress)
    added = term.diffusion.steps * estimator.effects.expectation(term).mean()
    return Estimate(right.loss - added, right.kl)


def sum_of_blocks(kl: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(kl.values())).sum(0)


def with_effects(diffusion: Diffusion, samples: int) -> WithEffects:
    """The control variate with random effects."""
    estimator = ControlVariate(samples=samples).build(diffusion, torch.tensor([3]))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.normal_(generator=generator)
    return estimator


# Unbiasedness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("estimator", "samples"), [(Reinforce(), 1), (LeaveOneOut(samples=2), 2)])
def test_expectation_is_the_exact_gradient(kind: str, estimator: Any, samples: int) -> None:
    diffusion, batch = tiny_problem(kind)
    exact = exact_gradient(diffusion, batch)
    assert min(float(g.norm()) for g in exact) > 1e-2
    assert agrees(enumerated_gradient(estimator, diffusion, batch, samples), exact)


@pytest.mark.parametrize("kind", [*LEARNED, "masking:jump", "free-uniform:jump", "mixed:jump"])
def test_expectation_is_the_exact_gradient_with_more_categories(kind: str) -> None:
    """Three, and a mask where there is one."""
    diffusion = build_diffusion(kind, STEPS, seed=7, blocks=(LETTERS,), width=3)
    batch = random_batch(1, sizes=(2,), seed=7, blocks=(LETTERS,))
    exact = exact_gradient(diffusion, batch)
    assert min(float(g.norm()) for g in exact) > 1e-2
    assert agrees(enumerated_gradient(Reinforce(), diffusion, batch, 1), exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 2])
def test_control_variate_is_unbiased_whatever_its_effects(kind: str, samples: int) -> None:
    diffusion, batch = tiny_problem(kind)
    found = enumerated_gradient(with_effects(diffusion, samples), diffusion, batch, samples)
    assert agrees(found, exact_gradient(diffusion, batch))


@pytest.mark.parametrize("biased", [StraightThrough(), ReinMax(), ConcreteRelaxation()])
def test_biased_estimators_are_seen_to_be_biased(biased: Any) -> None:
    """Otherwise the tests of unbiasedness would prove nothing."""
    diffusion = build_diffusion("masking", STEPS, seed=5, width=3)
    batch = random_batch(2, sizes=(2, 1), seed=3)
    exact = torch.cat(exact_gradient(diffusion, batch))
    assert not within_noise(draws_of_gradient(biased, diffusion, batch, 150, 40), exact)


@pytest.mark.parametrize("hard", [StraightThrough(), ReinMax()])
@pytest.mark.parametrize("kind", KINDS)
def test_straight_through_is_exact_for_theta(hard: Any, kind: str) -> None:
    diffusion = build_diffusion(kind, STEPS, seed=5, width=3)
    batch = random_batch(2, sizes=(2, 1), seed=3)
    phi = sum(p.numel() for p in diffusion.forward_process.parameters())
    exact = exact_gradient(diffusion, batch)[1]
    draws = draws_of_gradient(hard, diffusion, batch, 150, 40)[:, phi:]
    assert within_noise(draws, exact)


@pytest.mark.parametrize(
    ("wrong", "samples"),
    [
        (wrong_sign, 1),
        (without_factor, 1),
        (mean_as_own_baseline, 2),
        (control_variate_not_added_back, 1),
    ],
)
def test_wrong_estimators_are_found_out(wrong: Any, samples: int) -> None:
    diffusion, batch = tiny_problem("masking")
    exact = exact_gradient(diffusion, batch)
    assert not agrees(enumerated_gradient(wrong, diffusion, batch, samples), exact)


def test_pathwise_is_exact_for_theta_only() -> None:
    diffusion, batch = tiny_problem("masking")
    phi, theta = exact_gradient(diffusion, batch)
    found_phi, found_theta = enumerated_gradient(Pathwise(), diffusion, batch, 1)
    assert agrees((theta, found_theta), (theta, theta))
    assert not agrees((found_phi, theta), (phi, theta))


def draws_of_gradient(
    estimator: Estimator, diffusion: Diffusion, batch: Batch, calls: int, copies: int
) -> Tensor:
    """Gradients of independent calls as rows; each call sees every example at every step."""
    t = torch.arange(1, STEPS + 1).repeat_interleave(len(batch)).repeat(copies)
    generator = torch.Generator().manual_seed(0)

    def term() -> Term:
        return Term.of(diffusion, batch, t)

    return torch.stack(
        [
            torch.cat(
                gradient(estimator(Term.of(diffusion, batch, t), generator, 0.0).loss, diffusion)
            )
            for _ in range(calls)
        ]
    )


def within_noise(draws: Tensor, exact: Tensor) -> bool:
    """Every coordinate of the mean within 5 standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    return bool(((draws.mean(0) - exact).abs() <= 5 * error + 1e-5).all())


@pytest.mark.parametrize("estimator", [Reinforce(), LeaveOneOut(samples=3)])
def test_mean_over_random_draws_is_the_exact_gradient(estimator: Any) -> None:
    diffusion = build_diffusion("masking", STEPS, seed=5, width=3)
    batch = random_batch(2, sizes=(2, 1), seed=3)
    exact = torch.cat(exact_gradient(diffusion, batch))
    assert within_noise(draws_of_gradient(estimator, diffusion, batch, 150, 40), exact)


@pytest.mark.parametrize("wrong", [wrong_sign, without_factor, Pathwise()])
def test_random_draws_find_wrong_estimators_out(wrong: Any) -> None:
    diffusion = build_diffusion("masking", STEPS, seed=5, width=3)
    batch = random_batch(2, sizes=(2, 1), seed=3)
    exact = torch.cat(exact_gradient(diffusion, batch))
    assert not within_noise(draws_of_gradient(wrong, diffusion, batch, 150, 40), exact)


# Variance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_one_out_lowers_the_variance(kind: str) -> None:
    """At the same number of samples of z_t."""
    diffusion, batch = build_diffusion(kind, STEPS, seed=1), random_batch(2, sizes=(3,))
    phi = sum(p.numel() for p in diffusion.forward_process.parameters())
    plain = draws_of_gradient(Reinforce(), diffusion, batch, 150, 2)[:, :phi]
    less = draws_of_gradient(LeaveOneOut(samples=2), diffusion, batch, 150, 1)[:, :phi]
    assert less.var(0).sum() < 0.8 * plain.var(0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_effects_lower_the_variance_further(kind: str) -> None:
    """At the same number of samples of z_t."""
    diffusion, batch = build_diffusion(kind, STEPS, seed=1), random_batch(2, sizes=(3,))
    phi = sum(p.numel() for p in diffusion.forward_process.parameters())
    estimator = with_effects(diffusion, 2)
    fit(estimator, diffusion, batch)
    plain = draws_of_gradient(LeaveOneOut(samples=2), diffusion, batch, 150, 1)[:, :phi]
    less = draws_of_gradient(estimator, diffusion, batch, 150, 1)[:, :phi]
    assert less.var(0).sum() < 0.8 * plain.var(0).sum()


def fit(estimator: WithEffects, diffusion: Diffusion, batch: Batch) -> None:
    """Regress the effects on the KL; the processes stay."""
    t = torch.arange(1, STEPS + 1).repeat_interleave(20 * len(batch))
    optimizer = torch.optim.Adam(estimator.parameters(), 0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        estimator(Term.of(diffusion, batch, t), generator, 0.0).loss.backward()
        optimizer.step()
