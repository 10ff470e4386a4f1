r"""The variational bound on -log p(x), Eqs. (4)-(5), in nats per example.

.. math::
    -\log p_\theta(x) \le \sum_{t=1}^{T} E_{q(z_t|x)}
    KL(q(z_s | z_t, x) \,\|\, p_\theta(z_s | z_t)) + KL(q(z_T|x) \,\|\, p(z_T)) - \log p(n)

The term at t = 1 is the reconstruction (z_0 = x), the second is the prior term (0 by
construction, still computed), the last the size of a variable-size example. Estimating the sum
from one random t needs the factor T.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, SizeDistribution
from molfldd.core.diffusion import Diffusion


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
    posterior: dict[str, Tensor],
    z: dict[str, Tensor],
    t: Tensor,
) -> dict[str, Tensor]:
    """KL(q(z_s|z_t,x) || p_theta(z_s|z_t)) of each block.

    Args:
        diffusion: Both processes.
        batch: The examples, B of them.
        posterior: q(z_s | z_t, x), (B, n, S) per block.
        z: States at t as one-hot or simplex points, (B, n, S) per block.
        t: Step of each example, (B,) int64 in 1..T.

    Returns:
        Block name to nats per example, (B,).
    """
    log_v = diffusion.reverse.log_probs(z, batch.mask, t)
    return {
        name: torch.where(batch.mask[name], categorical_kl(q, log_v[name]), 0.0).sum(-1)
        for name, q in posterior.items()
    }


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
    """

    blocks: tuple[str, ...]
    kl: Tensor
    prior: float
    size: float
    kept: Tensor
    entropy: Tensor

    @property
    def total(self) -> float:
        """The bound on -log p(x), nats per example."""
        return float(self.kl.sum()) + self.prior + self.size

    @property
    def steps_in_use(self) -> int:
        """Steps that carry more than a twentieth of an even share of the KL."""
        per_step = self.kl.sum(-1)
        return int((per_step > 0.05 * per_step.mean()).sum())

    def to_json(self) -> dict[str, object]:
        """Plain numbers for logs: totals, and one list over steps per block."""
        per_block = {
            quantity: {
                name: [round(v, 4) for v in table[:, i].tolist()]
                for i, name in enumerate(self.blocks)
            }
            for quantity, table in (("kl", self.kl), ("kept", self.kept), ("entropy", self.entropy))
        }
        return {
            "bound": round(self.total, 4),
            "size": round(self.size, 4),
            "prior": round(self.prior, 6),
            "steps_in_use": self.steps_in_use,
            **per_block,
        }


@torch.no_grad()
def evaluate_bound(
    diffusion: Diffusion,
    batches: Iterable[Batch],
    sizes: SizeDistribution,
    generator: torch.Generator,
) -> BoundReport:
    """The bound with every step visited for every example, one hard sample each.

    Args:
        diffusion: Both processes.
        batches: The examples.
        sizes: p(n).
        generator: Randomness of z_t.

    Raises:
        ValueError: if there are no examples.
    """
    names = tuple(block.name for block in diffusion.blocks)
    steps = diffusion.steps
    kl, kept, spread, elements = (torch.zeros(steps, len(names)) for _ in range(4))
    prior_term, size_term, count = 0.0, 0.0, 0
    for batch in batches:
        count += len(batch)
        size_term -= float(sizes.log_prob(batch.sizes.cpu()).sum())
        encoding = diffusion.forward_process.encode(batch)
        for step in range(1, steps + 1):
            t = torch.full_like(batch.sizes, step)
            transition = diffusion.forward_process.transition(batch, encoding, t)
            z = diffusion.draw(transition.u_t, generator)
            onehot = diffusion.prior.onehot(z)
            values = step_kl(diffusion, batch, transition.posterior(onehot), onehot, t)
            for i, name in enumerate(names):
                mask, u_t = batch.mask[name], transition.u_t[name]
                kl[step - 1, i] += values[name].sum().cpu()
                same = u_t.gather(-1, batch.codes[name].unsqueeze(-1)).squeeze(-1)
                kept[step - 1, i] += same[mask].sum().cpu()
                spread[step - 1, i] += entropy(u_t)[mask].sum().cpu()
                elements[step - 1, i] += mask.sum().cpu()
                if step == steps:
                    log_prior = diffusion.prior.probs[name].to(u_t).clamp(min=1e-38).log()
                    prior_term += float(categorical_kl(u_t, log_prior)[mask].sum())
    if count == 0:
        raise ValueError("the bound needs at least one example")
    elements.clamp_(min=1)
    return BoundReport(
        names, kl / count, prior_term / count, size_term / count, kept / elements, spread / elements
    )
