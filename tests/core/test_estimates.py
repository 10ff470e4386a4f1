"""The KL that estimators report, parameters they refuse, and their formulas on small cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import build_diffusion, exact_bound, gradient, random_batch
from torch import Tensor

from molfldd.core.estimators import (
    ConcreteRelaxation,
    ControlVariate,
    LeaveOneOut,
    Pathwise,
    Reinforce,
    ReinMax,
    StraightThrough,
    Term,
    log_marginal,
)
from molfldd.core.estimators.base import sum_blocks
from molfldd.core.estimators.reinmax import second_order

STEPS = 3


@pytest.mark.parametrize(
    "estimator",
    [
        Pathwise(),
        Reinforce(),
        LeaveOneOut(),
        ConcreteRelaxation(),
        StraightThrough(),
        ReinMax(),
    ],
)
def test_forward_gets_no_gradient_at_the_last_step_through_z(estimator: Any) -> None:
    """With one step there is nothing to learn for phi, whatever the estimator."""
    diffusion = build_diffusion("pinned-uniform", 1)
    batch = random_batch(4)
    t = torch.ones(4, dtype=torch.long)
    loss = estimator(Term.of(diffusion, batch, t), torch.Generator().manual_seed(0), 0.0).loss
    phi, theta = gradient(loss, diffusion)
    assert (phi == 0).all()
    assert theta.norm() > 0


@pytest.mark.parametrize(
    "estimator",
    [Pathwise(), Reinforce(), LeaveOneOut(samples=3), StraightThrough(), ReinMax()],
)
def test_reported_kl_is_that_of_hard_samples(estimator: Any) -> None:
    diffusion = build_diffusion("masking", STEPS)
    batch = random_batch(2, sizes=(2, 1)).repeat(1500)
    t = torch.arange(len(batch)) // 2 % STEPS + 1
    estimate = estimator(Term.of(diffusion, batch, t), torch.Generator().manual_seed(0), 0.0)
    total = torch.stack(list(estimate.kl.values())).sum(0)
    assert total.shape == (3000,)
    assert not total.requires_grad
    with torch.no_grad():
        exact = exact_bound(diffusion, random_batch(2, sizes=(2, 1))).mean()
    assert STEPS * float(total.mean()) == pytest.approx(float(exact), rel=0.05)


def test_several_steps_of_an_example_take_one_pass_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diffusion, batch = build_diffusion("masking", STEPS), random_batch(2, sizes=(2, 1))
    t = torch.tensor([1, STEPS, 2, 1, STEPS, 1])
    one_by_one = Term.of(diffusion, batch.repeat(3), t)
    seen: list[int] = []
    read = diffusion.forward_process.encode
    monkeypatch.setattr(
        diffusion.forward_process, "encode", lambda x: (seen.append(len(x)), read(x))[1]
    )
    together = Term.of(diffusion, batch, t)
    assert seen == [2]
    generator = torch.Generator().manual_seed(0)
    z = one_by_one.draw(generator)
    losses = [
        term.estimate(sum_blocks(term.kl(z, generator)), {}).loss for term in (one_by_one, together)
    ]
    for found, expected in zip(*(gradient(loss, diffusion) for loss in losses), strict=True):
        torch.testing.assert_close(found, expected)


def test_leave_one_out_needs_another_sample() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        LeaveOneOut(samples=1)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        ControlVariate(samples=0)
    with pytest.raises(ValueError, match="learning_rate"):
        ControlVariate(learning_rate=0.0)
    with pytest.raises(ValueError, match="temperature"):
        StraightThrough(temperature=0.0)


def test_reinmax_is_exact_for_a_quadratic_function_of_one_variable() -> None:
    """The gradient of E f(z), enumerated over z, against the estimator's mean."""
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.double, requires_grad=True)
    matrix = torch.tensor([[1.0, 0.2, -3.0], [0.5, 2.0, 0.1], [0.0, -1.0, 4.0]]).double()

    def f(z: Tensor) -> Tensor:
        return z @ matrix @ z + 2 * z[0]

    u = logits.softmax(-1)
    states = torch.eye(3, dtype=torch.double)
    exact = torch.autograd.grad(sum(u[k] * f(states[k]) for k in range(3)), logits)[0]
    found = torch.zeros(3, dtype=torch.double)
    for k in range(3):
        u = logits.softmax(-1)
        soft = second_order(u, torch.tensor(k))
        value = f(states[k] + soft - soft.detach())
        found += u[k].detach() * torch.autograd.grad(value, logits)[0]
    torch.testing.assert_close(found, exact)


def test_log_marginal_sums_over_valid_elements_of_all_blocks() -> None:
    diffusion = build_diffusion("fixed-uniform", 2)
    batch = random_batch(3)
    forward = diffusion.forward_process
    transition = forward.transition(batch, forward.encode(batch), torch.ones(3, dtype=torch.long))
    found = log_marginal(transition, batch.codes, batch)
    elements = 2 * batch.sizes - 1
    letters, links = math.log(0.5 + 0.5 / 3), math.log(0.5 + 0.5 / 2)
    expected = batch.sizes * letters + (elements - batch.sizes) * links
    torch.testing.assert_close(found, expected)
