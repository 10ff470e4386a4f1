"""Transport plans between marginals, by their defining properties."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from molfldd.core.coupling import (
    MonotoneCoupling,
    Plan,
    independent_coupling,
    markov_coupling,
    maximum_coupling,
)

every_plan = pytest.mark.parametrize("build", [maximum_coupling, MonotoneCoupling])

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


@st.composite
def marginals(draw: st.DrawFn, states: int) -> Tensor:
    """A distribution: one-hot, with some zeros, or positive everywhere."""
    weights = draw(
        st.lists(
            st.one_of(st.just(0.0), st.floats(1e-3, 1.0)), min_size=states, max_size=states
        ).filter(any)
    )
    u = torch.tensor(weights, dtype=torch.float64)
    return u / u.sum()


@st.composite
def pairs_of_marginals(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    states = draw(st.integers(2, 6))
    u_s = draw(marginals(states))
    u_t = u_s.clone() if draw(st.booleans()) and draw(st.booleans()) else draw(marginals(states))
    return u_s, u_t


def matrix(plan: Plan) -> Tensor:
    """q(z_s = column | z_t = row)."""
    like = plan.u_t if isinstance(plan, MonotoneCoupling) else plan.keep
    return plan.posterior(torch.eye(len(like), dtype=like.dtype))


@given(pairs_of_marginals(), st.sampled_from([torch.float64, torch.float32]))
def test_maximum_coupling_is_a_plan_from_u_t_to_u_s(
    pair: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    u_s, u_t = (u.to(dtype) for u in pair)
    q = matrix(maximum_coupling(u_s, u_t))
    torch.testing.assert_close(u_t @ q, u_s, atol=TOLERANCE[dtype], rtol=0)
    assert (q >= 0).all()


@given(pairs_of_marginals())
def test_rows_of_the_maximum_coupling_sum_to_one(pair: tuple[Tensor, Tensor]) -> None:
    u_s, u_t = pair
    rows = matrix(maximum_coupling(u_s, u_t)).sum(-1)[u_t > 0]
    torch.testing.assert_close(rows, torch.ones_like(rows), atol=1e-10, rtol=0)


@given(pairs_of_marginals())
def test_no_plan_keeps_more_mass(pair: tuple[Tensor, Tensor]) -> None:
    u_s, u_t = pair
    kept = u_t @ matrix(maximum_coupling(u_s, u_t)).diagonal()
    best = 1 - (u_s - u_t).abs().sum() / 2  # total variation bounds every coupling
    torch.testing.assert_close(kept, best, atol=1e-12, rtol=0)
    assert u_t @ matrix(independent_coupling(u_s, u_t)).diagonal() <= kept + 1e-12


@given(marginals(5))
def test_equal_marginals_move_nothing(u: Tensor) -> None:
    plan = maximum_coupling(u, u.clone())
    assert torch.equal(plan.move, torch.zeros(5, dtype=u.dtype))
    assert torch.equal(plan.keep, (u > 0).double())
    assert torch.equal(plan.target, torch.zeros(5, dtype=u.dtype))


def test_maximum_coupling_of_a_worked_example() -> None:
    u_s = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    u_t = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    expected = torch.tensor(
        [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [1 / 3 * 0.8, 1 / 3 * 0.2, 2 / 3, 0.0],
            [0.8, 0.2, 0.0, 0.0],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(matrix(maximum_coupling(u_s, u_t)), expected)


@every_plan
@given(pairs_of_marginals(), st.data())
def test_relaxed_posterior_is_the_mixture_of_the_hard_ones(
    build: Callable[[Tensor, Tensor], Plan], pair: tuple[Tensor, Tensor], data: st.DataObject
) -> None:
    plan = build(*pair)
    z = data.draw(marginals(len(pair[0])))
    torch.testing.assert_close(plan.posterior(z), z @ matrix(plan), atol=1e-12, rtol=0)


@given(marginals(4), marginals(4), st.integers(2, 8), st.data())
def test_markov_coupling_is_bayes_rule(
    x: Tensor, prior: Tensor, steps: int, data: st.DataObject
) -> None:
    """Against explicit matrices q(z_t | z_s) for u_t = (1 - t/T) x + (t/T) prior."""
    t = data.draw(st.integers(1, steps))
    kept, before = 1 - t / steps, 1 - (t - 1) / steps
    u_s, u_t = (k * x + (1 - k) * prior for k in (before, kept))
    stay = torch.tensor([kept / before], dtype=torch.float64)
    forward = stay * torch.eye(4) + (1 - stay) * prior.expand(4, 4)  # [z_s, z_t]
    torch.testing.assert_close(u_s @ forward, u_t, atol=1e-12, rtol=0)
    together = u_s[:, None] * forward
    possible = u_t > 1e-12
    bayes = (together[:, possible] / u_t[possible]).T
    q = matrix(markov_coupling(u_s, u_t, stay, prior))
    torch.testing.assert_close(q[possible], bayes, atol=1e-9, rtol=0)
    torch.testing.assert_close(u_t @ q, u_s, atol=1e-12, rtol=0)


@given(pairs_of_marginals())
def test_the_monotone_coupling_is_the_plan_that_keeps_the_order(
    pair: tuple[Tensor, Tensor],
) -> None:
    """It has both marginals, and no two parts of it cross."""
    u_s, u_t = pair
    plan = u_t[:, None] * matrix(MonotoneCoupling(u_s, u_t))
    torch.testing.assert_close(plan.sum(0), u_s, atol=1e-12, rtol=0)
    torch.testing.assert_close(plan.sum(1), u_t, atol=1e-12, rtol=0)
    for k, j in (plan > 1e-9).nonzero().tolist():
        assert plan[:k, j + 1 :].sum() < 1e-9
        assert plan[k + 1 :, :j].sum() < 1e-9


@given(pairs_of_marginals())
def test_the_monotone_coupling_moves_by_the_least_squared_distance(
    pair: tuple[Tensor, Tensor],
) -> None:
    u_s, u_t = pair
    states = torch.arange(len(u_s), dtype=u_s.dtype)
    squared = (states[:, None] - states) ** 2

    def cost(plan: Plan) -> Tensor:
        return (u_t[:, None] * matrix(plan) * squared).sum()

    least = cost(MonotoneCoupling(u_s, u_t))
    assert least <= cost(maximum_coupling(u_s, u_t)) + 1e-9
    assert least <= cost(independent_coupling(u_s, u_t)) + 1e-9


@given(pairs_of_marginals())
def test_independent_coupling_forgets_z_t(pair: tuple[Tensor, Tensor]) -> None:
    u_s, u_t = pair
    q = matrix(independent_coupling(u_s, u_t))
    assert torch.equal(q, u_s.expand_as(q))
    torch.testing.assert_close(u_t @ q, u_s)


@every_plan
@given(pairs_of_marginals(), st.integers(0, 5))
def test_values_and_gradients_are_finite(
    build: Callable[[Tensor, Tensor], Plan], pair: tuple[Tensor, Tensor], state: int
) -> None:
    u_s, u_t = (u.float().requires_grad_() for u in pair)
    plan = build(u_s, u_t)
    q = plan.posterior(torch.nn.functional.one_hot(torch.tensor(state % len(u_s)), len(u_s)))
    (q * torch.arange(1.0, len(u_s) + 1)).sum().backward()
    assert q.isfinite().all()
    assert u_s.grad is not None
    assert u_t.grad is not None
    assert u_s.grad.isfinite().all()
    assert u_t.grad.isfinite().all()


@every_plan
@pytest.mark.parametrize("tiny", [1e-37, 1e-39, 1e-44])
@pytest.mark.parametrize("other", [0.0, 1e-41, 0.5])
def test_gradients_are_finite_at_the_edge_of_float32(
    tiny: float, other: float, build: Callable[[Tensor, Tensor], Plan]
) -> None:
    u_s = torch.tensor([other, 1 - other, 0.0], requires_grad=True)
    u_t = torch.tensor([tiny, 1.0, tiny], requires_grad=True)
    plan = build(u_s, u_t)
    plan.posterior(torch.tensor([0.0, 1.0, 0.0])).square().sum().backward()
    assert u_t.grad is not None
    assert u_s.grad is not None
    assert u_t.grad.isfinite().all()
    assert u_s.grad.isfinite().all()


@every_plan
def test_repeat_puts_whole_batch_after_whole_batch(
    build: Callable[[Tensor, Tensor], Plan],
) -> None:
    u = torch.rand(2, 3, 4).softmax(-1)
    plan = build(u, u.flip(0))
    z = torch.eye(4)[torch.randint(4, (6, 3))]
    once = torch.cat([plan.posterior(part) for part in z.split(2)])
    assert torch.equal(plan.repeat(3).posterior(z), once)
