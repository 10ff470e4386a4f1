"""The bound of held-out examples, and what it is made of by step and block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, SizeDistribution
from molfldd.core.bound import categorical_kl, step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition, Transition
from molfldd.core.network import evaluating

IDLE = 0.1
"""A step with less than this share of an even part of the KL has next to nothing to do."""

ALIKE = 0.01
"""The share of its largest entropy that a masking process with an order at least gives up."""


def entropy(q: Tensor) -> Tensor:
    """Entropy in nats; (..., S) to (...)."""
    entropies: Tensor = torch.special.entr(q)
    return entropies.sum(-1)


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
        """Steps t that carry no more than a tenth of an even share of the KL."""
        per_step = self.kl.sum(-1)
        return [t for t, nats in enumerate(per_step, 1) if nats <= IDLE * per_step.mean()]

    @property
    def steps_in_use(self) -> int:
        """How many others there are."""
        return len(self.kl) - len(self.idle_steps)

    @property
    def unordered_blocks(self) -> list[str]:
        """Blocks of a masking process whose elements are all masked alike at every step.

        No step falls short of the entropy of ``masked_alike`` by more than a hundredth.
        """
        alike = self.masked_alike
        close = self.entropy[:-1] >= (1 - ALIKE) * alike
        return [name for i, name in enumerate(self.blocks) if len(close) and close[:, i].all()]

    @property
    def order(self) -> dict[str, float]:
        """How far each block of a masking process is ordered: 0 if all elements are masked alike.

        The share of the entropy of ``masked_alike``, summed over steps, that u_t falls short of: 1
        if it is settled for every element when it is masked.
        """
        alike = self.masked_alike.sum(0)
        share = torch.where(alike > 0, 1 - self.entropy[:-1].sum(0) / alike, 0.0)
        return dict(zip(self.blocks, share.tolist(), strict=True))

    @property
    def masked_alike(self) -> Tensor:
        """Entropy that u_t had if it masked all elements with their mean probability.

        Nats per element, of the steps before the last and each block, (T - 1, number of blocks).
        """
        kept = self.kept[:-1].double()
        alike: Tensor = torch.special.entr(kept) + torch.special.entr(1 - kept)
        return alike

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
        self.kl = self.kept = self.entropy = self.elements = 0.0
        self.positions = torch.zeros(0)
        self.u_t = torch.zeros(0, 0)
        self.entropies = torch.zeros(0)

    def add(self, kl: Tensor, u_t: Tensor, codes: Tensor, mask: Tensor) -> None:
        """Count a batch: KL (B,), marginals (B, n, S), data and mask (B, n)."""
        same = u_t.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
        spread = torch.where(mask, entropy(u_t), 0.0)
        self.kl += float(kl.sum())
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


def _prior_kl(diffusion: Diffusion, batch: Batch, last: Transition | MaskingTransition) -> float:
    """KL(q(z_T | x) || p(z_T)) summed over a batch, from the transition of the last step."""
    found = 0.0
    for name, probs in diffusion.prior.probs.items():
        u_t = last.u_t[name]
        kl = categorical_kl(u_t, probs.to(u_t).clamp(min=1e-38).log())
        found += float(kl[batch.mask[name]].sum())
    return found


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
        ValueError: if there are no examples, or no such walk.
    """
    with evaluating(diffusion):
        return _evaluate(diffusion, batches, sizes, generator, steps)


def _evaluate(
    diffusion: Diffusion,
    batches: Iterable[Batch],
    sizes: SizeDistribution,
    generator: torch.Generator,
    steps: int | None,
) -> BoundReport:
    """See ``evaluate_bound``."""
    walk = diffusion.clock.steps(steps or diffusion.clock.walks[0])
    names = tuple(block.name for block in diffusion.blocks)
    tallies = [[_Tally() for _ in names] for _ in walk]
    prior_term, size_term, count = 0.0, 0.0, 0
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
                tally.add(kl[name], u_t, codes, mask)
        prior_term += _prior_kl(diffusion, batch, transition)
    if count == 0:
        raise ValueError("the bound needs at least one example")

    def table(value: Callable[[_Tally], float]) -> Tensor:
        return torch.tensor([[value(tally) for tally in row] for row in tallies])

    return BoundReport(
        blocks=names,
        kl=table(lambda tally: tally.kl / count),
        prior=prior_term / count,
        size=size_term / count,
        kept=table(lambda tally: tally.kept / max(tally.elements, 1.0)),
        entropy=table(lambda tally: tally.entropy / max(tally.elements, 1.0)),
        information=table(lambda tally: tally.information() / count),
    )
