"""Problems small enough to enumerate: every state, every trajectory, every expectation.

Two blocks over an example of size n: "letters" with n variables of 3 categories, and "links" with
n - 1 variables of 2 categories. The networks are random, with nothing left at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from molfldd.core.blocks import (
    Batch,
    Block,
    Examples,
    Prior,
    absorbing_prior,
    marginal_prior,
    masks,
    uniform_prior,
)
from molfldd.core.clock import Steps
from molfldd.core.coupling import MonotoneCoupling, Plan, independent_coupling
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import (
    FixedForward,
    ForwardProcess,
    FreeForward,
    MaskingForward,
    MixedForward,
    PinnedForward,
    UnpacedMaskingForward,
)
from molfldd.core.mixture import MixtureLaw
from molfldd.core.network import NetworkFactory
from molfldd.core.reverse import (
    AutoregressiveReverse,
    DirectReverse,
    JumpReverse,
    ReverseProcess,
    UnmaskingReverse,
)

LETTERS = Block("letters", 3, torch.Tensor.clone)
LINKS = Block("links", 2, lambda sizes: sizes - 1)
BLOCKS = (LETTERS, LINKS)
ONE_BLOCK = (Block("letters", 2, torch.Tensor.clone),)

FREQUENCIES = {"letters": torch.tensor([0.5, 0.3, 0.2]), "links": torch.tensor([0.9, 0.1])}


class TinyNetwork(nn.Module):
    """Every element sees its value, its position, the time and the mean over all valid elements."""

    def __init__(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        *,
        width: int = 8,
        scale: float = 1.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({name: nn.Linear(s, width) for name, s in inputs.items()})
        self.place = nn.ParameterDict({name: torch.empty(8, width) for name in inputs})
        self.time = nn.Linear(1, width)
        self.layers = nn.ModuleList([nn.Linear(2 * width, width)])
        self.read = nn.ModuleDict({name: nn.Linear(width, c) for name, c in outputs.items()})
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0.0, scale, generator=generator)

    @property
    def readouts(self) -> tuple[nn.Linear, ...]:
        return tuple(self.read.values())

    def forward(
        self, values: Mapping[str, Tensor], mask: Mapping[str, Tensor], time: Tensor
    ) -> dict[str, Tensor]:
        hidden = {
            name: torch.tanh(self.embed[name](v) + self.place[name][: v.shape[1]])
            for name, v in values.items()
        }
        summed = sum((h * mask[name][..., None]).sum(1) for name, h in hidden.items())
        count = sum(mask[name].sum(1) for name in hidden)
        common = summed / count[:, None] + self.time(time[:, None])
        return {
            name: self.read[name](
                torch.tanh(self.layers[0](torch.cat([h, common[:, None].expand_as(h)], -1)))
            )
            for name, h in hidden.items()
        }


def network_factory(seed: int = 0, scale: float = 1.0, width: int = 8) -> NetworkFactory:
    generator = torch.Generator().manual_seed(seed)

    def build(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> nn.Module:
        return TinyNetwork(inputs, outputs, width=width, scale=scale, generator=generator)

    return build


Build = Callable[[Sequence[Block], Steps, NetworkFactory], ForwardProcess]


def paced_masking(blocks: Sequence[Block], steps: Steps, network: NetworkFactory) -> MaskingForward:
    process = MaskingForward(blocks, absorbing_prior(blocks), steps, network, even=0.3)
    with torch.no_grad():
        process.pace_logits.copy_(torch.linspace(-0.1, 0.1, process.steps))
    return process


def learned_prior(blocks: Sequence[Block]) -> Prior:
    weights = {b.name: torch.arange(1.0, b.categories + 1) for b in blocks}
    return Prior({name: w / w.sum() for name, w in weights.items()}, learned=True)


def coupled(coupling: Callable[[Tensor, Tensor], Plan]) -> Build:
    """Pinned marginals with another plan between them than the maximum coupling."""

    def build(blocks: Sequence[Block], steps: Steps, network: NetworkFactory) -> PinnedForward:
        process = PinnedForward(blocks, uniform_prior(blocks), steps, network)
        process.coupling = coupling
        return process

    return build


FORWARD: dict[str, Build] = {
    "fixed-uniform": lambda b, T, net: FixedForward(b, uniform_prior(b), T),
    "fixed-marginal": lambda b, T, net: FixedForward(b, marginal_prior(FREQUENCIES), T),
    "fixed-learned-prior": lambda b, T, net: FixedForward(b, learned_prior(b), T),
    "fixed-absorbing": lambda b, T, net: FixedForward(b, absorbing_prior(b), T),
    "free-uniform": lambda b, T, net: FreeForward(b, uniform_prior(b), T, net),
    "free-marginal": lambda b, T, net: FreeForward(b, marginal_prior(FREQUENCIES), T, net),
    "free-absorbing": lambda b, T, net: FreeForward(b, absorbing_prior(b), T, net),
    "pinned-uniform": lambda b, T, net: PinnedForward(b, uniform_prior(b), T, net),
    "pinned-absorbing": lambda b, T, net: PinnedForward(b, absorbing_prior(b), T, net),
    "masking": lambda b, T, net: MaskingForward(b, absorbing_prior(b), T, net),
    "masking-paced": paced_masking,
    "masking-unpaced": lambda b, T, net: UnpacedMaskingForward(
        b, absorbing_prior(b), T, net, even=0.5
    ),
    "pinned-independent": coupled(independent_coupling),
    "pinned-monotone": coupled(MonotoneCoupling),
    "mixed": lambda b, T, net: MixedForward(b, absorbing_prior(b), T, net, 0.6, 0.4),
    "pinned-learned-prior": lambda b, T, net: PinnedForward(b, learned_prior(b), T, net),
}
LEARNED = (
    "free-uniform",
    "pinned-uniform",
    "pinned-absorbing",
    "masking",
    "masking-paced",
    "masking-unpaced",
    "pinned-independent",
    "pinned-monotone",
    "mixed",
    "free-absorbing",
    "free-marginal",
    "pinned-learned-prior",
)


def build_forward(
    kind: str, steps: Steps, seed: int = 0, *, scale: float = 1.0, blocks: Sequence[Block] = BLOCKS
) -> ForwardProcess:
    return FORWARD[kind](blocks, steps, network_factory(seed, scale))


def build_diffusion(
    kind: str,
    steps: Steps,
    seed: int = 0,
    *,
    blocks: Sequence[Block] = BLOCKS,
    scale: float = 1.0,
    width: int = 8,
) -> Diffusion:
    """Random processes; the reverse unmasks where the forward only masks.

    The kind may end in the number of components of the reverse process, as in "masking:3", or in
    "head" for an autoregressive one, or in "jump" for ``JumpReverse``.
    """
    kind, _, suffix = kind.partition(":")
    network = network_factory(seed, scale, width)
    torch.manual_seed(seed)
    forward = FORWARD[kind](blocks, steps, network)
    if suffix == "head":
        reverse = AutoregressiveReverse(blocks, forward.prior, steps, network)
        torch.nn.init.normal_(reverse.head.read.weight, std=0.3)
        return Diffusion(forward, reverse)
    only_masks = kind in ("masking", "masking-paced", "masking-unpaced", "fixed-absorbing")
    if suffix == "jump":
        return Diffusion(forward, JumpReverse(blocks, forward.prior, steps, network))
    reverse = (UnmaskingReverse if only_masks else DirectReverse)(
        blocks, forward.prior, steps, network, int(suffix or 1)
    )
    if isinstance(reverse, DirectReverse):
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for skip in reverse.skip.values():
                skip.normal_(generator=generator)
    return Diffusion(forward, reverse)


def random_examples(
    count: int, sizes: Sequence[int] = (1, 2, 3), seed: int = 0, blocks: Sequence[Block] = BLOCKS
) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    n = torch.tensor(sizes)[torch.arange(count) % len(sizes)]
    codes = {}
    for block in blocks:
        longest = max(1, int(block.length(n).max()))
        codes[block.name] = torch.randint(
            block.categories, (count, longest), generator=generator
        ).to(torch.uint8)
    return Examples(tuple(blocks), codes, n)


def random_batch(
    count: int, sizes: Sequence[int] = (1, 2, 3), seed: int = 0, blocks: Sequence[Block] = BLOCKS
) -> Batch:
    return random_examples(count, sizes, seed, blocks).batch(torch.arange(count))


# Enumeration ----------------------------------------------------------------------------------


def all_states(blocks: Sequence[Block], states: Mapping[str, int], size: int) -> Batch:
    """Every joint state of an example of one size, one per row."""
    sizes = torch.tensor([size])
    lengths = {b.name: int(b.length(sizes)) for b in blocks}
    ranges = [range(states[name]) for name, length in lengths.items() for _ in range(length)]
    table = torch.tensor(list(product(*ranges))).view(-1, sum(lengths.values()))
    columns = dict(zip(lengths, table.split(list(lengths.values()), -1), strict=True))
    sizes = sizes.repeat(len(table))
    return Batch(columns, masks(blocks, sizes), sizes)


def joint(probs: Mapping[str, Tensor], states: Batch) -> Tensor:
    """Joint probability of each of N states under M products of (M, n, S) marginals, (M, N)."""
    result = torch.ones(())
    for name, p in probs.items():
        chosen = (
            p[:, None]
            .expand(-1, len(states), -1, -1)
            .gather(-1, states.codes[name][None, :, :, None].expand(len(p), -1, -1, 1))
        )
        result = result * chosen.squeeze(-1).prod(-1)
    return result


def reverse_matrix(reverse: ReverseProcess, prior: Prior, states: Batch, t: int) -> Tensor:
    """p_theta(z_s = column | z_t = row)."""
    law = reverse.law(prior.onehot(states.codes), states.mask, torch.full((len(states),), t))
    if not isinstance(law, MixtureLaw):
        count = len(states)
        each = ({name: x[j].expand_as(x) for name, x in states.codes.items()} for j in range(count))
        return torch.stack([law.log_prob(z, states.mask).exp() for z in each], 1)
    components = [
        weight.exp()[:, None]
        * joint({name: v[k].exp() for name, v in law.log_probs.items()}, states)
        for k, weight in enumerate(law.log_weights)
    ]
    return torch.stack(components).sum(0)


def exact_model(
    reverse: ReverseProcess, prior: Prior, size: int, steps: int | None = None
) -> tuple[Batch, Tensor]:
    """All joint states of an example of one size, and p_theta(z_0) of each, in so many steps."""
    states = all_states(reverse.blocks, reverse.states, size)
    spread = {name: prior.probs[name].expand(1, x.shape[1], -1) for name, x in states.codes.items()}
    p = joint(spread, states)[0]
    for t in reversed(reverse.clock.steps(steps or reverse.clock.walks[0])):
        p = p @ reverse_matrix(reverse, prior, states, t)
    return states, p


def row_of(states: Batch, batch: Batch, i: int) -> int:
    """The row of ``states`` that equals example i of the batch."""
    same = torch.ones(len(states), dtype=torch.bool)
    for name, x in states.codes.items():
        same &= (x == batch.codes[name][i, : x.shape[1]]).all(-1)
    return int(same.nonzero().squeeze())


def single(batch: Batch, i: int) -> Batch:
    """Example i alone, without padding."""
    size = batch.sizes[i : i + 1]
    width = {name: int(m[i].sum()) for name, m in batch.mask.items()}
    return Batch(
        {name: x[i : i + 1, : width[name]] for name, x in batch.codes.items()},
        {name: m[i : i + 1, : width[name]] for name, m in batch.mask.items()},
        size,
    )


def exact_step(diffusion: Diffusion, x: Batch, t: int) -> Tensor:
    """E_{q(z_t|x)} KL(q(z_s|z_t,x) || p(z_s|z_t)) of one example over joint states; nats."""
    prior = diffusion.prior
    states = all_states(diffusion.blocks, diffusion.reverse.states, int(x.sizes))
    many = x.repeat(len(states))
    forward = diffusion.forward_process
    transition = forward.transition(many, forward.encode(many), torch.full((len(states),), t))
    weight = joint({name: u[:1] for name, u in transition.u_t.items()}, states)[0]
    q = joint(transition.posterior(prior.onehot(states.codes)), states)
    p = reverse_matrix(diffusion.reverse, prior, states, t)
    positive = q > 0
    log_ratio = torch.where(positive, q, 1.0).log() - torch.where(positive, p, 1.0).log()
    return (weight * torch.where(positive, q * log_ratio, 0.0).sum(-1)).sum()


def exact_bound(diffusion: Diffusion, batch: Batch, steps: int | None = None) -> Tensor:
    """The bound without the size term of every example, (B,), with its exact gradient."""
    walk = diffusion.clock.steps(steps or diffusion.clock.walks[0])
    return torch.stack(
        [
            torch.stack([exact_step(diffusion, single(batch, i), t) for t in walk]).sum()
            for i in range(len(batch))
        ]
    )


# Gradients ------------------------------------------------------------------------------------


def gradient(loss: Tensor, diffusion: Diffusion) -> tuple[Tensor, Tensor]:
    """Gradient with respect to phi and to theta, each as one row."""
    modules = (diffusion.forward_process, diffusion.reverse)
    parameters = [list(m.parameters()) for m in modules]
    flat = torch.autograd.grad(loss, [p for part in parameters for p in part], allow_unused=True)
    rows = [
        torch.zeros_like(p).flatten() if g is None else g.flatten()
        for p, g in zip([p for part in parameters for p in part], flat, strict=True)
    ]
    split = len(parameters[0])
    return torch.cat(rows[:split]), torch.cat(rows[split:])
