"""Both parameterizations of the reverse process."""

import math

import pytest
import torch
from tiny import BLOCKS, network_factory, random_batch, single
from torch import Tensor, nn

from molfldd.core.blocks import Batch, Prior, absorbing_prior, draw, uniform_prior
from molfldd.core.network import NetworkFactory
from molfldd.core.reverse import DirectReverse, JumpReverse, ReverseProcess, UnmaskingReverse

KINDS = ["direct-uniform", "jump-uniform", "direct-absorbing", "jump-absorbing", "unmasking"]
every_kind = pytest.mark.parametrize("kind", KINDS)
with_mask = pytest.mark.parametrize("kind", KINDS[2:])


def build(
    kind: str, steps: int, network: NetworkFactory | None = None
) -> tuple[ReverseProcess, Prior]:
    prior = (uniform_prior if kind.endswith("uniform") else absorbing_prior)(BLOCKS)
    classes = {"direct": DirectReverse, "jump": JumpReverse, "unmasking": UnmaskingReverse}
    return classes[kind.split("-")[0]](BLOCKS, prior, steps, network or network_factory(3)), prior


def random_states(prior: Prior, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(prior.states(name), m.shape, generator=generator)
        for name, m in batch.mask.items()
    }


def random_simplex(prior: Prior, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(*m.shape, prior.states(name), generator=generator).softmax(-1)
        for name, m in batch.mask.items()
    }


@every_kind
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("relaxed", [False, True])
def test_rows_are_normalized(kind: str, steps: int, relaxed: bool) -> None:
    reverse, prior = build(kind, steps)
    batch = random_batch(8)
    z = random_simplex(prior, batch) if relaxed else prior.onehot(random_states(prior, batch))
    log_v = reverse.law(z, batch.mask, torch.arange(8) % steps + 1).marginals()
    for v in log_v.values():
        torch.testing.assert_close(v.exp().sum(-1), torch.ones(v.shape[:-1]), atol=1e-5, rtol=0)
        assert v.isfinite().all()


@with_mask
def test_data_never_holds_the_mask(kind: str) -> None:
    reverse, prior = build(kind, 3)
    batch = random_batch(6)
    z = prior.onehot({name: torch.full(m.shape, prior.states(name) - 1) for name, m in
                      batch.mask.items()})  # fmt: skip
    for v in reverse.law(z, batch.mask, torch.ones(6, dtype=torch.long)).marginals().values():
        assert (v[..., -1].exp() == 0).all()
    for v in reverse.law(z, batch.mask, torch.full((6,), 2)).marginals().values():
        assert (v[..., -1].exp() > 0).all()


def test_unmasking_leaves_revealed_elements_alone() -> None:
    reverse, prior = build("unmasking", 3)
    batch = random_batch(8)
    z = random_states(prior, batch)
    log_v = reverse.law(prior.onehot(z), batch.mask, torch.arange(8) % 3 + 1).marginals()
    for name, v in log_v.items():
        revealed = z[name] < prior.states(name) - 1
        assert revealed.any()
        assert torch.equal(v.exp()[revealed], prior.onehot(z)[name][revealed])


class Zero(nn.Module):
    """A network as it is before training."""

    def __init__(self, outputs: dict[str, int]) -> None:
        super().__init__()
        self.outputs = outputs
        self.parameter = nn.Parameter(torch.zeros(()))

    def forward(
        self, values: dict[str, Tensor], mask: dict[str, Tensor], time: Tensor
    ) -> dict[str, Tensor]:
        return {name: torch.zeros(*mask[name].shape, c) for name, c in self.outputs.items()}


@pytest.mark.parametrize("t", [1, 2, 3, 5])
def test_unmasking_starts_at_the_pace_of_uniform_masking(t: int) -> None:
    reverse, prior = build("unmasking", 5, lambda inputs, outputs: Zero(dict(outputs)))
    batch = random_batch(2)
    masked = prior.onehot({n: torch.full(m.shape, prior.states(n) - 1) for n, m in
                           batch.mask.items()})  # fmt: skip
    for v in reverse.law(masked, batch.mask, torch.full((2,), t)).marginals().values():
        p, values = v.exp(), v.shape[-1] - 1
        torch.testing.assert_close(p[..., -1], torch.full(p.shape[:-1], 1 - 1 / t))
        torch.testing.assert_close(p[..., 0], torch.full(p.shape[:-1], 1 / (t * values)))


def test_direct_skip_pulls_towards_the_present_state() -> None:
    reverse, prior = build("direct-uniform", 4, lambda inputs, outputs: Zero(dict(outputs)))
    assert isinstance(reverse, DirectReverse)
    with torch.no_grad():
        reverse.skip["letters"][2] = math.log(7.0)
    batch = random_batch(2)
    z = random_states(prior, batch)
    for t, expected in ((2, 1 / 3), (3, 7 / 9)):
        v = (
            reverse.law(prior.onehot(z), batch.mask, torch.full((2,), t))
            .marginals()["letters"]
            .exp()
        )
        same = v.gather(-1, z["letters"][..., None])
        torch.testing.assert_close(same, torch.full_like(same, expected))


@pytest.mark.parametrize("prior_kind", ["uniform", "absorbing"])
def test_jump_stays_or_goes_where_all_go(prior_kind: str) -> None:
    """From any two states of the same example, the jumps are proportional."""
    reverse, prior = build(f"jump-{prior_kind}", 3)
    batch = single(random_batch(1, sizes=(1,)), 0)
    batch = batch.repeat(2)
    z = {"letters": torch.tensor([[0], [1]]), "links": torch.zeros(2, 0, dtype=torch.long)}
    reverse.network = ConstantNetwork({"letters": [0.3, -0.2, 0.5, 0.1, -0.4]}, prior)
    v = reverse.law(prior.onehot(z), batch.mask, torch.tensor([2, 2])).marginals()["letters"].exp()
    keep = torch.sigmoid(torch.tensor(-0.4 if prior_kind == "absorbing" else 0.1))
    torch.testing.assert_close(v[0, 0, 2:], v[1, 0, 2:])
    torch.testing.assert_close(v[0, 0, 0] - v[1, 0, 0], keep)


class ConstantNetwork(nn.Module):
    """The same features whatever the state; as many of them as the prior has states, and one."""

    def __init__(self, features: dict[str, list[float]], prior: Prior) -> None:
        super().__init__()
        self.features = {k: torch.tensor(v)[: prior.states(k) + 1] for k, v in features.items()}

    def forward(self, values: dict[str, Tensor], mask: object, time: Tensor) -> dict[str, Tensor]:
        return {
            name: self.features.get(name, torch.zeros(v.shape[-1] + 1)).expand(*v.shape[:2], -1)
            for name, v in values.items()
        }


def test_relaxed_unmasking_mixes_the_outcomes() -> None:
    """For a given network output, a simplex point's row is the mixture of one-hot rows."""
    reverse, _ = build("unmasking", 4)
    block, t = BLOCKS[0], torch.tensor([1, 2, 4])
    features = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    z = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).softmax(-1)
    hard = torch.stack(
        [
            reverse.log_probs_of_block(block, features, torch.eye(4)[k].expand(3, 5, 4), t).exp()
            for k in range(4)
        ],
        -2,
    )
    mixed = (z[..., None] * hard).sum(-2)
    relaxed = reverse.log_probs_of_block(block, features, z, t).exp()
    torch.testing.assert_close(relaxed, mixed, atol=1e-6, rtol=1e-5)


@every_kind
def test_a_simplex_point_near_a_corner_is_like_the_corner(kind: str) -> None:
    reverse, prior = build(kind, 4)
    batch, t = random_batch(8), torch.arange(8) % 4 + 1
    corner = prior.onehot(random_states(prior, batch))
    near = {n: (1 - 1e-6) * z + 1e-6 / z.shape[-1] for n, z in corner.items()}
    at, beside = (reverse.law(z, batch.mask, t).marginals() for z in (corner, near))
    for name in at:
        torch.testing.assert_close(at[name].exp(), beside[name].exp(), atol=1e-4, rtol=0)


@every_kind
@pytest.mark.parametrize("relaxed", ["no", "inside", "underflow"])
def test_gradients_are_finite(kind: str, relaxed: str) -> None:
    reverse, prior = build(kind, 4)
    batch, t = random_batch(8), torch.arange(8) % 4 + 1
    z = prior.onehot(random_states(prior, batch))
    if relaxed == "inside":
        z = random_simplex(prior, batch)
    if relaxed == "underflow":
        z = {name: (v + 1e-42).clamp(max=1.0) for name, v in z.items()}
    z = {name: v.clone().requires_grad_() for name, v in z.items()}
    log_v = reverse.law(z, batch.mask, t).marginals()
    # What a KL asks for: the log-probability wherever it is not absurd.
    loss = sum((torch.where(v > -50, v, 0.0) * torch.rand_like(v)).sum() for v in log_v.values())
    loss.backward()
    tensors = [*reverse.parameters(), *z.values()]
    assert all(x.grad is None or x.grad.isfinite().all() for x in tensors)
    assert any(x.grad is not None and (x.grad != 0).any() for x in reverse.parameters())


@every_kind
def test_padding_changes_nothing(kind: str) -> None:
    reverse, prior = build(kind, 4)
    batch, t = random_batch(6), torch.arange(6) % 4 + 1
    codes = random_states(prior, batch)
    padded = reverse.law(prior.onehot(codes), batch.mask, t).marginals()
    for i in range(len(batch)):
        alone = single(Batch(codes, batch.mask, batch.sizes), i)
        log_v = reverse.law(prior.onehot(alone.codes), alone.mask, t[i : i + 1]).marginals()
        for name, v in log_v.items():
            torch.testing.assert_close(padded[name][i, : v.shape[1]].exp(), v[0].exp())


def test_unmasking_needs_a_mask_state() -> None:
    with pytest.raises(ValueError, match="absorbing"):
        UnmaskingReverse(BLOCKS, uniform_prior(BLOCKS), 2, network_factory())


def test_chains_end_in_data() -> None:
    reverse, prior = build("unmasking", 3)
    batch = random_batch(30)
    z = {n: torch.full(m.shape, prior.states(n) - 1) for n, m in batch.mask.items()}
    generator = torch.Generator().manual_seed(0)
    for step in (3, 2, 1):
        log_v = reverse.law(prior.onehot(z), batch.mask, torch.full((30,), step)).marginals()
        z = {n: draw(v.exp(), torch.rand(v.shape[:-1], generator=generator)) for n, v in
             log_v.items()}  # fmt: skip
    assert all((x < prior.states(name) - 1).all() for name, x in z.items())
