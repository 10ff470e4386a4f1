r"""The variational bound on -log p(x), Eqs. (4)-(5), in nats per example.

.. math::
    -\log p_\theta(x) \le \sum_{t=1}^{T} E_{q(z_t|x)}
    KL(q(z_s | z_t, x) \,\|\, p_\theta(z_s | z_t)) + KL(q(z_T|x) \,\|\, p(z_T)) - \log p(n)

The term at t = 1 is the reconstruction (z_0 = x), the second is the prior term (0 by
construction, still computed), the last the size of a variable-size example. Estimating the sum
from one random t needs the factor T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from molfldd.core.blocks import Batch, Codes, SizeDistribution
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition, Transition
from molfldd.core.mixture import mixture_kl
from molfldd.core.reverse import AutoregressiveReverse, FactorizedReverse, UnmaskingReverse
from molfldd.core.unmasking import reveal_logit

ALIKE = 0.01
"""The share of its largest entropy that a masking process with an order at least gives up."""


def categorical_kl(q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) in nats, with 0 log 0 = 0; (..., S), (..., S) to (...)."""
    positive = q > 0
    log_q = torch.where(positive, q, 1.0).log()
    return torch.where(positive, q * (log_q - log_p), 0.0).sum(-1)


def entropy(q: Tensor) -> Tensor:
    """Entropy in nats; (..., S) to (...)."""
    entropies: Tensor = torch.special.entr(q)
    return entropies.sum(-1)


def step_kl(
    diffusion: Diffusion,
    batch: Batch,
    transition: Transition | MaskingTransition,
    z: Codes,
    t: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """KL(q(z_s|z_t,x) || p_theta(z_s|z_t)) of each block at hard states.

    For a mixture the upper bound of ``mixture_kl``; for an autoregressive step an estimate.

    Args:
        diffusion: Both processes.
        batch: The examples, B of them.
        transition: Of the forward process, at t.
        z: States at t, (B, n) int64 per block.
        t: Step of each example, (B,) int64 in 1..T.
        generator: Randomness of z_s, which only an autoregressive step needs.

    Returns:
        Block name to nats per example, (B,).
    """
    reverse = diffusion.reverse
    if isinstance(transition, MaskingTransition) and isinstance(reverse, UnmaskingReverse):
        return unmasking_kl(reverse, batch, transition, z, t)
    if isinstance(transition, MaskingTransition) and isinstance(reverse, AutoregressiveReverse):
        return autoregressive_kl(reverse, batch, transition, z, t, generator)
    return relaxed_step_kl(diffusion, batch, transition, diffusion.prior.onehot(z), t)


def relaxed_step_kl(
    diffusion: Diffusion,
    batch: Batch,
    transition: Transition | MaskingTransition,
    z: dict[str, Tensor],
    t: Tensor,
) -> dict[str, Tensor]:
    """``step_kl`` of a factorized process at one-hot states or simplex points, (B, n, S) per block.

    Raises:
        ValueError: if the reverse process is another one.
    """
    if not isinstance(diffusion.reverse, FactorizedReverse):
        raise ValueError("a relaxed state needs a factorized reverse process")
    law = diffusion.reverse.law(z, batch.mask, t)
    kl = {
        name: torch.where(batch.mask[name], categorical_kl(q, law.log_probs[name]), 0.0).sum(-1)
        for name, q in transition.posterior(z).items()
    }
    return mixture_kl(kl, law.log_weights)


def unmasking_kl(
    reverse: UnmaskingReverse,
    batch: Batch,
    transition: MaskingTransition,
    z: Codes,
    t: Tensor,
) -> dict[str, Tensor]:
    r"""``step_kl`` where both processes only mask and unmask.

    Elements that are not masked stay and cost nothing. A masked one stays masked with probability
    k = p_s / p_t and else becomes x; the reverse process reveals it with probability r, and then
    takes x with probability v(x):

    .. math:: k \log \frac{k}{1 - r} + (1 - k) \left( \log \frac{1 - k}{r} - \log v(x) \right).

    Only the network's features have a value per state, and only those of masked elements are
    normalized.
    """
    features = reverse.features(transition.prior.onehot(z), batch.mask, t)
    stays, masked = transition.stays_masked(), transition.is_masked(z)
    result = {}
    for name in features.shared:
        hidden = masked[name] & batch.mask[name]
        example, k = hidden.nonzero()[:, 0], stays[name][hidden]
        f = reverse.read(features, name, hidden)
        reveal = reveal_logit(f[..., -1], reverse.clock.index(t)[example])
        x = batch.codes[name][hidden].expand(len(f), -1)
        surprise = cross_entropy(f[..., :-1].movedim(-1, 1), x, reduction="none")
        kl = (
            _negentropy(k)
            + _negentropy(1 - k)
            - k * logsigmoid(-reveal)
            + (1 - k) * (surprise - logsigmoid(reveal))
        )
        result[name] = kl.new_zeros(len(f), len(batch)).index_add(1, example, kl)
    return mixture_kl(result, features.log_weights)


def autoregressive_kl(
    reverse: AutoregressiveReverse,
    batch: Batch,
    transition: MaskingTransition,
    z: Codes,
    t: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    r"""``step_kl`` where one element follows another.

    Given what became of the elements before it, of which one draw is taken, the KL of a masked
    element is that of ``unmasking_kl``,

    .. math:: E_{z_s \sim q} \sum_i KL(q(z_s^i | z_t^i, x) \,\|\, p_\theta(z_s^i | z_t, z_s^{<i})).

    The gradient in theta is that of the KL; in phi it lacks that of the draw, so the forward
    process has to be fixed or frozen.
    """
    law = reverse.law(transition.prior.onehot(z), batch.mask, t)
    stays, drawn = transition.stays_masked(), {}
    for name, hidden in law.hidden.items():
        uniform = torch.rand(hidden.shape, generator=generator, device=hidden.device)
        revealed = hidden & (uniform >= stays[name])
        drawn[name] = torch.where(revealed, batch.codes[name], z[name])
    result = {}
    for name, log_p in law.log_probs(drawn).items():
        example, element, _ = law.queue.spots[name]
        k, x = stays[name][example, element], batch.codes[name][example, element]
        log_x = log_p.gather(-1, x[:, None])[:, 0]
        kl = _negentropy(k) + _negentropy(1 - k) - k * log_p[:, -1] - (1 - k) * log_x
        result[name] = kl.new_zeros(len(batch)).index_add(0, example, kl)
    return result


def _negentropy(p: Tensor) -> Tensor:
    """p log p, and 0 with gradient 0 at p = 0."""
    positive = p > 0
    return torch.where(positive, p * torch.where(positive, p, 1.0).log(), 0.0)


@dataclass(frozen=True)
class BoundReport:
    """The bound of a set of examples and how it is made up, on hard samples.

    Attributes:
        blocks: Names of the blocks.
        kl: Nats per example of each step (row t - 1) and block, (T, number of blocks).
        prior: KL(q(z_T|x) || p(z_T)), nats per example.
        size: -log p(n), nats per example.
        kept: P(z_t = x) averaged over elements, of each step and block, (T, number of blocks).
        entropy: Entropy of u_t averaged over elements, nats, (T, number of blocks).
        information: Sum over elements of I(x; z_t^i), nats per example, (T, number of blocks):
            an upper bound on I(x; z_t), since z_t is factorized given x. Estimated from these
            examples; falls from about the entropy of the data, taken element by element, to 0.
    """

    blocks: tuple[str, ...]
    kl: Tensor
    prior: float
    size: float
    kept: Tensor
    entropy: Tensor
    information: Tensor

    @property
    def total(self) -> float:
        """The bound on -log p(x), nats per example."""
        return float(self.kl.sum()) + self.prior + self.size

    @property
    def idle_steps(self) -> list[int]:
        """Steps t that carry no more than a twentieth of an even share of the KL."""
        per_step = self.kl.sum(-1)
        return [t for t, nats in enumerate(per_step, 1) if nats <= 0.05 * per_step.mean()]

    @property
    def steps_in_use(self) -> int:
        """How many others there are."""
        return len(self.kl) - len(self.idle_steps)

    @property
    def unordered_blocks(self) -> list[str]:
        """Blocks of a masking process whose elements are all masked alike at every step.

        A mean probability p has the largest entropy where every element has it; here no step falls
        short of that by more than a hundredth.
        """
        interior = self.kept[:-1].double()
        alike = torch.special.entr(interior) + torch.special.entr(1 - interior)
        close = self.entropy[:-1] >= (1 - ALIKE) * alike
        return [name for i, name in enumerate(self.blocks) if len(close) and close[:, i].all()]

    def to_json(self) -> dict[str, object]:
        """Plain numbers for logs: totals, and one list over steps per block."""
        per_block = {
            quantity: {
                name: [round(v, 4) for v in table[:, i].tolist()]
                for i, name in enumerate(self.blocks)
            }
            for quantity, table in (
                ("kl", self.kl),
                ("kept", self.kept),
                ("entropy", self.entropy),
                ("information", self.information),
            )
        }
        return {
            "bound": _finite(self.total),
            "size": _finite(self.size),
            "prior": round(self.prior, 6),
            "steps_in_use": self.steps_in_use,
            **per_block,
        }


def _finite(value: float) -> float | None:
    """Rounded for a log; None where it is infinite, which JSON has no word for."""
    return round(value, 4) if math.isfinite(value) else None


class _Tally:
    """Sums over examples of what one step and block of a report is made of."""

    def __init__(self) -> None:
        self.kl = self.prior = self.kept = self.entropy = self.elements = 0.0
        self.positions = torch.zeros(0)
        self.u_t = torch.zeros(0, 0)
        self.entropies = torch.zeros(0)

    def add(self, kl: Tensor, u_t: Tensor, codes: Tensor, mask: Tensor, prior: Tensor) -> None:
        """Count a batch: KL (B,), marginals (B, n, S), data and mask (B, n), prior (S,)."""
        same = u_t.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
        spread = torch.where(mask, entropy(u_t), 0.0)
        self.kl += float(kl.sum())
        self.prior += float(categorical_kl(u_t, prior.to(u_t).clamp(min=1e-38).log())[mask].sum())
        self.kept += float(same[mask].sum())
        self.entropy += float(spread.sum())
        self.elements += float(mask.sum())
        self.positions = _grow(self.positions, mask.sum(0).cpu())
        self.entropies = _grow(self.entropies, spread.sum(0).cpu())
        self.u_t = _grow(self.u_t, torch.where(mask[..., None], u_t, 0.0).sum(0).cpu())

    def information(self) -> float:
        """Sum over positions of entropy of the mean minus mean of the entropy, times examples."""
        mean = self.u_t / self.positions.clamp(min=1)[:, None]
        return float((entropy(mean) * self.positions - self.entropies).sum().clamp(min=0))


def _grow(total: Tensor, more: Tensor) -> Tensor:
    """Sum of two tensors whose first lengths may differ; what is missing counts as zero."""
    if len(total) < len(more):
        total, more = more.clone(), total
    else:
        total = total.clone()
    if len(more):
        total[: len(more)] += more
    return total


@torch.no_grad()
def evaluate_bound(
    diffusion: Diffusion,
    batches: Iterable[Batch],
    sizes: SizeDistribution,
    generator: torch.Generator,
    steps: int | None = None,
) -> BoundReport:
    """The bound with every step visited for every example, one hard sample each.

    Args:
        diffusion: Both processes.
        batches: The examples.
        sizes: p(n).
        generator: Randomness of z_t.
        steps: T, one of the process' walks; its first by default.

    Raises:
        ValueError: if there are no examples.
    """
    walk = diffusion.clock.steps(steps or diffusion.clock.walks[0])
    names = tuple(block.name for block in diffusion.blocks)
    tallies = [[_Tally() for _ in names] for _ in walk]
    prior = diffusion.prior.probs
    size_term, count = 0.0, 0
    for batch in batches:
        count += len(batch)
        size_term -= float(sizes.log_prob(batch.sizes.cpu()).sum())
        encoding = diffusion.forward_process.encode(batch)
        for step, row in zip(walk, tallies, strict=True):
            t = torch.full_like(batch.sizes, step)
            transition = diffusion.forward_process.transition(batch, encoding, t)
            z = transition.draw(generator)
            kl = step_kl(diffusion, batch, transition, z, t, generator)
            for name, tally in zip(names, row, strict=True):
                u_t, codes, mask = transition.u_t[name], batch.codes[name], batch.mask[name]
                tally.add(kl[name], u_t, codes, mask, prior[name])
    if count == 0:
        raise ValueError("the bound needs at least one example")

    def table(value: Callable[[_Tally], float]) -> Tensor:
        return torch.tensor([[value(tally) for tally in row] for row in tallies])

    return BoundReport(
        blocks=names,
        kl=table(lambda tally: tally.kl / count),
        prior=sum(tally.prior for tally in tallies[-1]) / count,
        size=size_term / count,
        kept=table(lambda tally: tally.kept / max(tally.elements, 1.0)),
        entropy=table(lambda tally: tally.entropy / max(tally.elements, 1.0)),
        information=table(lambda tally: tally.information() / count),
    )
