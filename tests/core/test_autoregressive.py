"""An autoregressive step: a law over joint states, its KL, and how it is drawn and trained."""

from __future__ import annotations

import pytest
import torch
from tiny import (
    all_states,
    build_diffusion,
    exact_model,
    joint,
    network_factory,
    random_batch,
    reverse_matrix,
    row_of,
    single,
)
from torch import Tensor

from molfldd.core.autoregressive import Head, Queue
from molfldd.core.blocks import Batch, Block, SizeDistribution, absorbing_prior, uniform_prior
from molfldd.core.bound import categorical_kl, relaxed_step_kl, step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators.base import sum_blocks
from molfldd.core.forward import FixedForward
from molfldd.core.reverse import AutoregressiveReverse, UnmaskingReverse
from molfldd.core.sampling import Sampler

STEPS = 2
KINDS = ["masking:head", "fixed-absorbing:head"]
every_process = pytest.mark.parametrize("kind", KINDS)
TWO = SizeDistribution(torch.tensor([0, 0, 1]))


@every_process
@pytest.mark.parametrize("t", [1, 2])
@torch.no_grad()
def test_probabilities_of_all_joint_states_sum_to_one(kind: str, t: int) -> None:
    diffusion = build_diffusion(kind, STEPS)
    states = all_states(diffusion.blocks, diffusion.reverse.states, 2)
    p = reverse_matrix(diffusion.reverse, diffusion.prior, states, t)
    torch.testing.assert_close(p.sum(1), torch.ones(len(states)))
    masked = torch.stack(
        [(states.codes[b.name] == b.categories).any(1) for b in diffusion.blocks]
    ).any(0)
    if t == 1:
        assert p[:, masked].sum(1)[masked].max() < 1e-6


@every_process
@torch.no_grad()
def test_values_depend_on_each_other(kind: str) -> None:
    """Of two letters revealed together, which no factorized law can say."""
    diffusion = build_diffusion(kind, 1)
    states, p = exact_model(diffusion.reverse, diffusion.prior, 2)
    pairs = torch.zeros(3, 3)
    letters = states.codes["letters"]
    data = (letters < 3).all(1)
    pairs.index_put_((letters[data, 0], letters[data, 1]), p[data], accumulate=True)
    assert (pairs - pairs.sum(1).outer(pairs.sum(0))).abs().max() > 1e-4


def head_and_plain() -> tuple[AutoregressiveReverse, UnmaskingReverse, Diffusion]:
    """A head that adds nothing yet, and the factorized process of the same network."""
    diffusion = build_diffusion("masking:head", STEPS)
    reverse = diffusion.reverse
    assert isinstance(reverse, AutoregressiveReverse)
    torch.nn.init.zeros_(reverse.head.read.weight)
    plain = UnmaskingReverse(reverse.blocks, diffusion.prior, STEPS, network_factory())
    state = {
        name: value[: len(own)] if name.startswith("network.read.") else value
        for (name, own), value in zip(
            plain.state_dict().items(),
            (reverse.state_dict()[name] for name in plain.state_dict()),
            strict=True,
        )
    }
    plain.load_state_dict(state)
    return reverse, plain, diffusion


@torch.no_grad()
def test_a_head_that_adds_nothing_leaves_the_factorized_law() -> None:
    reverse, plain, diffusion = head_and_plain()
    states = all_states(diffusion.blocks, reverse.states, 2)
    for t in (1, 2):
        torch.testing.assert_close(
            reverse_matrix(reverse, diffusion.prior, states, t),
            reverse_matrix(plain, diffusion.prior, states, t),
        )


def kl_at(diffusion: Diffusion, x: Batch, t: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Many estimates of the KL at one state, by block, and the KL over all joint states."""
    many, steps = x.repeat(8_000), torch.full((8_000,), t)
    forward = diffusion.forward_process
    transition = forward.transition(many, forward.encode(many), steps)
    generator = torch.Generator().manual_seed(seed)
    drawn = transition.draw(generator)
    z = {name: value[:1].expand_as(value).contiguous() for name, value in drawn.items()}
    found = step_kl(diffusion, many, transition, z, steps, generator)
    states = all_states(diffusion.blocks, diffusion.reverse.states, int(x.sizes))
    one = {name: value[:1] for name, value in z.items()}
    posterior = transition.posterior(diffusion.prior.onehot(z))
    q = joint({name: p[:1] for name, p in posterior.items()}, states)[0]
    p = reverse_matrix(diffusion.reverse, diffusion.prior, states, t)
    here = row_of(states, Batch(one, x.mask, x.sizes), 0)
    return found, categorical_kl(q, p[here].clamp(min=1e-30).log())


@every_process
@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kl_is_the_mean_of_its_estimates_and_so_is_its_gradient(
    kind: str, t: int, seed: int
) -> None:
    diffusion = build_diffusion(kind, STEPS, seed, scale=0.5)
    diffusion.forward_process.requires_grad_(False)
    x = single(random_batch(3, sizes=(2,), seed=seed), seed)
    found, exact = kl_at(diffusion, x, t, seed)
    estimates = sum_blocks(found)
    error = float(estimates.detach().std()) / len(estimates) ** 0.5
    assert abs(float((estimates.mean() - exact).detach())) <= 5 * error + 1e-4
    parameters = list(diffusion.reverse.parameters())
    mine, its = (
        torch.cat(
            [
                torch.zeros(p.numel()) if g is None else g.flatten()
                for p, g in zip(
                    parameters,
                    torch.autograd.grad(value, parameters, allow_unused=True),
                    strict=True,
                )
            ]
        )
        for value in (estimates.mean(), exact)
    )
    assert float((mine - its).norm()) <= 0.08 * float(its.norm()) + 1e-3


@torch.no_grad()
def test_padding_has_no_say() -> None:
    diffusion = build_diffusion("masking:head", STEPS)
    batch = random_batch(4, sizes=(3, 2, 1, 3))
    t = torch.tensor([2, 2, 1, 1])
    masked = {
        name: torch.full_like(x, diffusion.prior.states(name) - 1)
        for name, x in batch.codes.items()
    }
    law = diffusion.reverse.law(diffusion.prior.onehot(masked), batch.mask, t)
    whole = law.log_prob(batch.codes, batch.mask)
    for i in range(4):
        alone = single(batch, i)
        z = {name: masked[name][i : i + 1, : x.shape[1]] for name, x in alone.codes.items()}
        own = diffusion.reverse.law(diffusion.prior.onehot(z), alone.mask, t[i : i + 1])
        torch.testing.assert_close(own.log_prob(alone.codes, alone.mask)[0], whole[i])


@torch.no_grad()
def test_one_after_another_is_all_at_once() -> None:
    """What the head says when sampling is what it was trained to say."""
    torch.manual_seed(0)
    head = Head(5)
    torch.nn.init.normal_(head.read.weight)
    told, states = torch.randn(3, 6, 64), torch.randint(5, (3, 6))
    before = torch.cat([head.start.expand(3, 1, -1), head.before(told, states)[:, :-1]], 1)
    together = head(told, before, head.memory())
    memory = head.memory()
    parts = [head(told[:, k : k + 1], before[:, k : k + 1], memory) for k in range(6)]
    torch.testing.assert_close(torch.cat(parts, 1), together, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_nobody_hears_of_what_comes_later() -> None:
    torch.manual_seed(0)
    head = Head(5)
    torch.nn.init.normal_(head.read.weight)
    told, before = torch.randn(2, 6, 64), torch.randn(2, 6, 64)
    first = head(told, before, head.memory())
    told[:, 4:], before[:, 4:] = 0.0, 0.0
    second = head(told, before, head.memory())
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:], second[:, 4:])


def test_the_queue_keeps_the_order_of_blocks_and_elements() -> None:
    chosen = {
        "a": torch.tensor([[True, False, True], [False, False, False]]),
        "b": torch.tensor([[False, True], [True, False]]),
    }
    queue = Queue.of(chosen)
    lined = queue.line_up({"a": torch.tensor([[1, 2, 3]] * 2), "b": torch.tensor([[4, 5]] * 2)})
    assert lined.tolist() == [[1, 3, 5], [4, 0, 0]]
    empty = Queue.of({name: r & False for name, r in chosen.items()})
    assert empty.line_up({"a": torch.ones(2, 3), "b": torch.ones(2, 2)}).tolist() == [[0.0], [0.0]]


BITS = (Block("letters", 2, torch.Tensor.clone),)


def test_two_bits_that_agree_are_learned_in_one_step() -> None:
    """Ln 2 nats, where a factorized step costs 2 ln 2; and the samples agree."""
    torch.manual_seed(0)
    prior = absorbing_prior(BITS)
    reverse = AutoregressiveReverse(BITS, prior, 1, network_factory(scale=0.3))
    diffusion = Diffusion(FixedForward(BITS, prior, 1), reverse)
    x = torch.tensor([[0, 0], [1, 1]]).repeat(16, 1)
    batch = Batch(
        {"letters": x}, {"letters": torch.ones(32, 2, dtype=torch.bool)}, torch.full((32,), 2)
    )
    optimizer, generator = torch.optim.Adam(reverse.parameters(), 0.01), torch.Generator()
    t = torch.ones(32, dtype=torch.long)
    transition = diffusion.forward_process.transition(batch, {}, t)
    for _ in range(150):
        z = transition.draw(generator)
        loss = step_kl(diffusion, batch, transition, z, t, generator)["letters"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.75
    found = Sampler(reverse, prior, TWO).sample(0, range(500)).codes["letters"]
    assert float((found[:, 0] == found[:, 1]).double().mean()) > 0.97
    assert 0.4 < float(found.double().mean()) < 0.6


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="absorbing prior"):
        AutoregressiveReverse(BITS, uniform_prior(BITS), 2, network_factory())
    with pytest.raises(ValueError, match="no mixture"):
        AutoregressiveReverse(BITS, absorbing_prior(BITS), 2, network_factory(), 3)
    diffusion, batch = build_diffusion("masking:head", STEPS), random_batch(2)
    t = torch.ones(2, dtype=torch.long)
    forward = diffusion.forward_process
    transition = forward.transition(batch, forward.encode(batch), t)
    with pytest.raises(ValueError, match="factorized"):
        relaxed_step_kl(diffusion, batch, transition, diffusion.prior.onehot(batch.codes), t)
