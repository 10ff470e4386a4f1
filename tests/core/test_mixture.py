"""Mixtures of factorized laws: the bound on their KL, their weights, and how one is drawn."""

import pytest
import torch
from tiny import all_states, build_diffusion, joint, random_batch, reverse_matrix, row_of, single
from torch import Tensor

from molfldd.core.bound import categorical_kl, step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.joint import NUMBERS
from molfldd.core.law import Hand
from molfldd.core.mixture import MixtureLaw, mixture_kl
from molfldd.core.reverse import ReverseProcess

KINDS = ["masking:3", "pinned-uniform:3", "fixed-uniform:2"]
STEPS = 2


def steps_of(diffusion: Diffusion, t: int) -> list[tuple[float, float]]:
    """What ``step_kl`` says of examples at a hard state, and the KL over all joint states."""
    batch = random_batch(6, sizes=(1, 2))
    pairs = []
    for i in range(len(batch)):
        x = single(batch, i)
        steps = torch.tensor([t])
        forward = diffusion.forward_process
        transition = forward.transition(x, forward.encode(x), steps)
        generator = torch.Generator().manual_seed(i)
        z = transition.draw(generator)
        kl = step_kl(diffusion, x, transition, z, steps, generator)
        found = torch.stack(list(kl.values())).sum()
        states = all_states(diffusion.blocks, diffusion.reverse.states, int(x.sizes))
        q = joint(transition.posterior(diffusion.prior.onehot(z)), states)
        here = row_of(states, type(x)(z, x.mask, x.sizes), 0)
        p = reverse_matrix(diffusion.reverse, diffusion.prior, states, t)[here]
        pairs.append((float(found), float(categorical_kl(q[0], p.log().clamp(min=-1e9)))))
    return pairs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [1, 2])
@torch.no_grad()
def test_the_kl_of_a_mixture_is_bounded_from_above(kind: str, t: int) -> None:
    pairs = steps_of(build_diffusion(kind, STEPS), t)
    assert all(found >= exact - 1e-4 for found, exact in pairs)
    if t == 1:  # q is certain, so Jensen's inequality is an equality
        assert all(found == pytest.approx(exact, rel=1e-4, abs=1e-4) for found, exact in pairs)


@torch.no_grad()
def test_components_that_are_all_alike_are_as_good_as_one() -> None:
    diffusion = build_diffusion("masking:3", STEPS)
    for readings in diffusion.reverse.readings.values():
        readings.read.zero_()
    assert all(
        found == pytest.approx(exact, rel=1e-4, abs=1e-4) for found, exact in steps_of(diffusion, 2)
    )


def test_a_mixture_can_say_what_no_factorized_law_can() -> None:
    """Two bits that are equal: ln 2 for two components, 2 ln 2 for one at best."""
    equal = [Tensor([0.0, 0.0]), Tensor([1.0, 1.0])]
    certain = torch.tensor([[1e-9, 1 - 1e-9], [1 - 1e-9, 1e-9]]).log()
    costs = torch.stack([certain[:, x.long()].sum(-1) for x in equal]).neg().T
    mixed = mixture_kl({"bits": costs}, torch.full((2, 2), 0.5).log())["bits"]
    torch.testing.assert_close(mixed, torch.full((2,), 2.0).log(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("components", [1, 4])
def test_blocks_share_the_bound(components: int) -> None:
    generator = torch.Generator().manual_seed(0)
    kl = {name: 3 * torch.rand(components, 5, generator=generator) for name in ("a", "b")}
    weights = torch.rand(components, 5, generator=generator).log_softmax(0)
    shares = mixture_kl(kl, weights)
    expected = -torch.logsumexp(weights - kl["a"] - kl["b"], 0)
    torch.testing.assert_close(shares["a"] + shares["b"], expected)
    if components == 1:
        torch.testing.assert_close(shares["a"], kl["a"][0])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_weights_are_a_distribution_and_padding_has_no_vote(kind: str) -> None:
    diffusion, batch = build_diffusion(kind, STEPS), random_batch(6)
    t = torch.arange(6) % STEPS + 1
    law = diffusion.reverse.law(diffusion.prior.onehot(batch.codes), batch.mask, t)
    torch.testing.assert_close(law.log_weights.exp().sum(0), torch.ones(6))
    assert law.log_weights.std(0).min() > 1e-3
    for i in range(6):
        alone = single(batch, i)
        own = diffusion.reverse.law(diffusion.prior.onehot(alone.codes), alone.mask, t[i : i + 1])
        torch.testing.assert_close(own.log_weights[:, 0], law.log_weights[:, i])


def test_states_are_drawn_as_often_as_the_marginals_say() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(3, 1, generator=generator).log_softmax(0)
    probs = torch.randn(3, 1, 4, 5, generator=generator).log_softmax(-1)
    count = 20_000
    law = MixtureLaw(weights.expand(3, count), {"all": probs.expand(3, count, 4, 5)})
    numbers = torch.rand(count, 4, NUMBERS, generator=generator)
    mask = torch.ones(count, 4, dtype=torch.bool)
    choice = (torch.arange(count) + 0.5) / count
    drawn = law.draw(Hand({"all": mask}, {"all": numbers}, choice, {}))["all"]
    found = torch.nn.functional.one_hot(drawn, 5).double().mean(0)
    expected = MixtureLaw(weights, {"all": probs}).marginals()["all"][0].exp().double()
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_components_differ_before_any_training() -> None:
    """Otherwise all would get the same gradient for ever."""
    reverse: ReverseProcess = build_diffusion("masking:4", STEPS).reverse
    read = reverse.readings["letters"](torch.zeros(1, 4), torch.zeros(1, 16))
    assert torch.pdist(read.flatten(1)).min() > 0.05
