"""The Concrete relaxation: its temperatures, the support of its samples, its KL and gradients."""

from __future__ import annotations

import pytest
import torch
from tiny import build_diffusion, exact_bound, gradient, random_batch
from torch import Tensor

from molfldd.core.estimators import ConcreteRelaxation, Term
from molfldd.core.estimators.concrete import concrete

STEPS = 3


def test_temperature_falls_exponentially_from_start_to_end() -> None:
    schedule = ConcreteRelaxation(start=1.0, end=1e-2)
    assert [schedule.temperature(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.1, 0.01])
    for start, end in ((1.0, 0.0), (0.1, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="temperatures"):
            ConcreteRelaxation(start=start, end=end)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 1e-3])
def test_concrete_samples_lie_on_the_support(temperature: float) -> None:
    u = torch.tensor([0.0, 0.7, 0.0, 0.3]).expand(2000, 4)
    z = concrete(u, temperature, torch.Generator().manual_seed(0))
    assert (z[:, [0, 2]] == 0).all()
    assert z.isfinite().all()
    torch.testing.assert_close(z.sum(-1), torch.ones(2000))


def test_relaxed_states_seen_by_the_reverse_lie_on_the_support(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diffusion, batch = build_diffusion("masking", STEPS), random_batch(30)
    t = torch.arange(30) % STEPS + 1
    seen: list[dict[str, Tensor]] = []
    right = diffusion.reverse.law
    monkeypatch.setattr(
        diffusion.reverse, "law", lambda z, mask, t: (seen.append(z), right(z, mask, t))[1]
    )
    ConcreteRelaxation()(Term.of(diffusion, batch, t), torch.Generator().manual_seed(0), 0.0)
    possible = diffusion.prior.onehot(batch.codes)
    for name, z in seen[0].items():
        assert (z[..., :-1][possible[name][..., :-1] == 0] == 0).all()
        assert ((z > 0) & (z < 1)).any()


def test_cold_concrete_samples_are_draws_from_u() -> None:
    u = torch.tensor([0.5, 0.3, 0.2]).expand(20_000, 3)
    z = concrete(u, 1e-3, torch.Generator().manual_seed(0))
    assert (z.max(-1).values > 0.99).float().mean() > 0.99
    torch.testing.assert_close(z.mean(0), u[0], atol=0.015, rtol=0)


def test_cold_concrete_reports_the_hard_kl_and_a_warm_one_does_not() -> None:
    diffusion = build_diffusion("masking", STEPS)
    batch = random_batch(2, sizes=(2, 1)).repeat(2000)
    t = torch.arange(len(batch)) // 2 % STEPS + 1
    with torch.no_grad():
        exact = float(exact_bound(diffusion, random_batch(2, sizes=(2, 1))).mean())

    def reported(progress: float) -> float:
        estimate = ConcreteRelaxation()(
            Term.of(diffusion, batch, t), torch.Generator().manual_seed(0), progress
        )
        return STEPS * float(torch.stack(list(estimate.kl.values())).sum(0).mean())

    assert reported(1.0) == pytest.approx(exact, rel=0.05)
    assert reported(0.0) != pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("kind", ["free-uniform", "free-absorbing", "pinned-uniform", "masking"])
@pytest.mark.parametrize("progress", [0.0, 0.6, 0.8, 1.0])
def test_concrete_gradients_are_finite_at_any_temperature(kind: str, progress: float) -> None:
    diffusion = build_diffusion(kind, STEPS)
    batch = random_batch(600)
    t = torch.arange(len(batch)) % STEPS + 1
    estimate = ConcreteRelaxation()(
        Term.of(diffusion, batch, t), torch.Generator().manual_seed(0), progress
    )
    for g in gradient(estimate.loss, diffusion):
        assert g.isfinite().all()
    assert estimate.loss.isfinite()
