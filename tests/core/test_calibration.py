"""Scores are gradients of the chain's probability; the change brings exact means where they go."""

from __future__ import annotations

import pytest
import torch
from tiny import build_diffusion, exact_model
from torch import Tensor

from molfldd.core import calibration
from molfldd.core.blocks import SizeDistribution
from molfldd.core.calibration import LastLayers, Moments, chains, moments
from molfldd.core.law import Sharpness
from molfldd.core.sampling import Sampler, Samples

SIZES = SizeDistribution(torch.tensor([0, 1, 3]))
TWO = SizeDistribution(torch.tensor([0, 0, 1]))

every_process = pytest.mark.parametrize(
    "kind", ["masking", "masking:3", "masking:head", "fixed-uniform", "pinned-uniform:2"]
)


def sampler(kind: str, sizes: SizeDistribution = TWO) -> Sampler:
    seed = 5 if kind == "masking:head" else 0  # none of whose means is at its limit
    diffusion = build_diffusion(kind, 3, seed, scale=0.5)
    return Sampler(diffusion.reverse, diffusion.prior, sizes)


def counts(codes: dict[str, Tensor]) -> Tensor:
    """How many letters are 0, how many links are 1, and whether the letters are alike; (B, 3)."""
    letters, links = codes["letters"], codes["links"]
    zeros, ones = (letters == 0).sum(-1), (links == 1).sum(-1)
    return torch.stack([zeros, ones, (letters[:, 0] == letters[:, 1]).long()], -1).double()


def exact_means(model: Sampler) -> Tensor:
    """Means of ``counts`` over examples of size 2, summed over all states."""
    with torch.no_grad():
        states, p = exact_model(model.reverse, model.prior, 2)
    return p.double() @ counts(dict(states.codes))


def gradient(value: Tensor, layers: LastLayers) -> Tensor:
    """d value / d W, as the vectors of the calibration hold it: without what a head is told."""
    weights = [p for layer in layers.layers for p in (layer.weight, layer.bias)]
    found = torch.autograd.grad(value, weights, retain_graph=True)
    return torch.cat([g[: len(g) - layers.reverse.told].flatten() for g in found])


def change(model: Sampler, wanted: Tensor, num: int = 20_000) -> Tensor:
    batches = [range(start, start + 1_000) for start in range(0, num, 1_000)]
    return moments(model, lambda drawn: counts(drawn.codes), wanted, 0, batches).change(1e-3)


@every_process
@pytest.mark.parametrize("sharpness", [Sharpness(), Sharpness(0.7, min_p=0.3, min_reveal=0.4)])
def test_scores_are_the_gradients_of_each_chain(kind: str, sharpness: Sharpness) -> None:
    model = sampler(kind, SIZES)
    model.sharpness = sharpness
    layers = LastLayers(model.reverse)
    _, scores = chains(model, layers, 5, range(4))
    for i in range(4):
        states = list(model.walk(5, [i]))
        log_prob = sum(s.law.log_prob(s.z, s.mask) for s in states if s.law is not None)
        expected = gradient(log_prob.sum(), layers)
        torch.testing.assert_close(scores[i], expected, rtol=1e-3, atol=1e-5)


def test_watching_draws_the_same_examples_and_leaves_nothing_behind() -> None:
    model = sampler("masking", SIZES)
    drawn, _ = chains(model, LastLayers(model.reverse), 3, range(6))
    plain = model.sample(3, range(6))
    assert all(torch.equal(drawn.codes[name], x) for name, x in plain.codes.items())
    assert all(p.requires_grad for p in model.reverse.parameters())
    assert not any(m._forward_hooks for m in model.reverse.modules())


@every_process
def test_the_first_order_is_the_derivative_of_the_exact_means(kind: str) -> None:
    model = sampler(kind)
    layers = LastLayers(model.reverse)
    states, p = exact_model(model.reverse, model.prior, 2)
    means = p @ counts(dict(states.codes)).float()
    exact = torch.stack([gradient(mean, layers) for mean in means])
    drawn, scores = chains(model, layers, 0, range(8_000))
    f = counts(drawn.codes).float()
    found = (f - f.mean(0)).T @ scores / len(f)
    for mine, its in zip(found, exact, strict=True):
        assert torch.cosine_similarity(mine, its, 0) > 0.98
        assert float(mine.norm()) == pytest.approx(float(its.norm()), rel=0.1)


@pytest.mark.parametrize("kind", ["masking", "masking:3", "masking:head", "fixed-uniform"])
def test_exact_means_go_where_they_are_wanted(kind: str) -> None:
    model = sampler(kind)
    before = exact_means(model)
    wanted = before + torch.tensor([0.08, 0.05, -0.05])
    LastLayers(model.reverse).move(change(model, wanted))
    assert (exact_means(model) - wanted).abs().max() < 0.02


def test_further_rounds_reach_what_the_first_order_does_not() -> None:
    model = sampler("masking")
    wanted = exact_means(model) + torch.tensor([0.4, -0.2, 0.1])
    away = []
    for _ in range(4):
        away.append(float((exact_means(model) - wanted).abs().max()))
        LastLayers(model.reverse).move(change(model, wanted))
    assert away[1] > 0.03
    assert away[3] < 0.02


def test_a_mean_that_is_right_stays_when_another_is_moved() -> None:
    """Links and letters hang together, so that a change for one alone moves the other."""
    model = sampler("masking")
    before = exact_means(model)
    wanted = before + torch.tensor([0.0, 0.0, 0.08])
    LastLayers(model.reverse).move(change(model, wanted))
    after = exact_means(model)
    assert (after - wanted).abs().max() < 0.02


def test_the_change_is_the_least_of_those_that_reach_the_means() -> None:
    """By the closed form in the space of the statistics: any other costs more KL."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4_000, 5, generator=generator).double()
    statistics = scores[:, :2] @ torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    found = Moments(5, statistics.mean(0) + torch.tensor([0.1, 0.0]))
    found.add(scores, statistics)
    delta = found.change(1e-3)
    covariance = torch.cov(torch.cat([scores, statistics], 1).T)
    fisher, response = covariance[:5, :5], covariance[:5, 5:]
    reached = response.T @ delta
    torch.testing.assert_close(
        reached, torch.tensor([0.1, 0.0], dtype=torch.float64), rtol=0.05, atol=3e-3
    )
    for _ in range(20):
        other = torch.randn(5, generator=generator).double()
        other -= response @ torch.linalg.solve(response.T @ response, response.T @ other)
        assert (delta + other) @ fisher @ (delta + other) > delta @ fisher @ delta


def test_a_soft_change_weighs_what_it_costs_against_what_it_leaves_undone() -> None:
    """It minimizes the sum of both, so that any other change makes it larger."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4_000, 4, generator=generator).double()
    statistics = scores[:, :2] + 0.5 * torch.randn(4_000, 2, generator=generator).double()
    wanted = statistics.mean(0) + 0.2
    found = Moments(4, wanted)
    found.add(scores, statistics)
    covariance = torch.cov(torch.cat([scores, statistics], 1).T)
    deviation = covariance.diagonal()[4:].sqrt()

    def loss(delta: Tensor, softness: float) -> float:
        left = (wanted - statistics.mean(0) - covariance[4:, :4] @ delta) / deviation
        return float(delta @ covariance[:4, :4] @ delta + left @ left / softness) / 2

    for softness in (0.1, 1.0):
        delta = found.change(softness)
        for _ in range(20):
            other = delta + 0.05 * torch.randn(4, generator=generator)
            assert loss(other, softness) > loss(delta, softness)
    assert found.change(1.0).norm() < found.change(0.1).norm()


def test_a_change_goes_no_further_than_the_first_order_is_trusted() -> None:
    scores = torch.randn(4_000, 3, generator=torch.Generator().manual_seed(0)).double()
    near, far = (Moments(3, torch.tensor([mean])) for mean in (0.5, 50.0))
    for found in (near, far):
        found.add(scores, scores[:, :1])
    fisher = torch.cov(scores.T)
    delta = far.change(1e-3)
    assert float(delta @ fisher @ delta / 2) == pytest.approx(calibration.TRUST, rel=1e-3)
    assert near.change(1e-3) @ fisher @ near.change(1e-3) / 2 < 0.9 * calibration.TRUST
    assert torch.cosine_similarity(delta, near.change(1e-3), 0) > 0.99


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7])
def test_a_statistic_that_never_varies_changes_nothing(value: float) -> None:
    scores = torch.randn(999, 3, generator=torch.Generator().manual_seed(0)).double()
    found = Moments(3, torch.tensor([0.9]))
    found.add(scores, torch.full((999, 1), value).double())
    assert found.change().tolist() == [0.0, 0.0, 0.0]


def test_a_statistic_that_examples_lack_is_known_from_the_others() -> None:
    found = Moments(1, torch.tensor([2.0]))
    found.add(torch.tensor([[1.0], [-1.0]]), torch.tensor([[torch.nan], [5.0]]))
    assert found.means.tolist() == [5.0]
    nothing = Moments(1, torch.tensor([2.0]))
    nothing.add(torch.tensor([[1.0], [-1.0]]), torch.full((2, 1), torch.nan))
    assert nothing.change().tolist() == [0.0]


def test_last_layers_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST", 10)
    with pytest.raises(ValueError, match="no more than 10 can be"):
        LastLayers(sampler("masking").reverse)


def test_a_network_that_names_no_last_layers_is_refused() -> None:
    reverse = sampler("masking").reverse
    reverse.network = torch.nn.Identity()
    with pytest.raises(ValueError, match="names no last layers"):
        LastLayers(reverse)


def test_samples_are_those_that_were_asked_for() -> None:
    model = sampler("masking")
    drawn: list[Samples] = []

    def keep(samples: Samples) -> Tensor:
        drawn.append(samples)
        return counts(samples.codes)

    found = moments(model, keep, torch.zeros(3), 7, [range(3), range(3, 5)])
    expected = counts(model.sample(7, range(5)).codes).mean(0)
    torch.testing.assert_close(found.means, expected)
    assert [len(samples.sizes) for samples in drawn] == [3, 2]
