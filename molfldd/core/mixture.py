r"""A step of the reverse process as a mixture of factorized laws; one of them is Eq. (7).

Given x the forward posterior factorizes, so the best p(z_s | z_t) is a mixture over x of
factorized laws. A single one cannot say that exactly one of two elements is revealed, or that
their values agree; a mixture can,

.. math:: p_\theta(z_s | z_t) = \sum_{k=1}^K w_\theta^k(z_t, t)
    \prod_i Cat(z_s^i; v_\theta^{ik}(z_t, t)),

and costs no further evaluation of the network: all components read the same features. The paper
has K = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Codes, Masks, draw
from molfldd.core.law import Change, Hand, Law

CODE = 16
"""Features of an element that the components of a mixture read each in their own way."""


@dataclass(frozen=True)
class MixtureLaw(Law):
    """p_theta(z_s | z_t) of a batch, as a mixture of K factorized laws.

    Attributes:
        log_weights: log w_theta of the components, (K, B) nats.
        log_probs: log v_theta of each element and state, (K, B, n, S) nats per block.
    """

    log_weights: Tensor
    log_probs: dict[str, Tensor]

    def marginals(self) -> dict[str, Tensor]:
        """log p_theta(z_s^i | z_t) of each element by itself, (B, n, S) nats per block."""
        weights = self.log_weights[:, :, None, None]
        return {name: torch.logsumexp(weights + v, 0) for name, v in self.log_probs.items()}

    def log_prob(self, z: Codes, mask: Masks) -> Tensor:
        """See the class ``Law``."""
        total = self.log_weights
        for name, v in self.log_probs.items():
            chosen = v.gather(-1, z[name].expand(len(v), -1, -1)[..., None])[..., 0]
            total = total + torch.where(mask[name], chosen, 0.0).sum(-1)
        return torch.logsumexp(total, 0)

    def changed(self, change: Change) -> MixtureLaw:
        """See the class ``Law``; in each component."""
        return replace(self, log_probs={n: change(n, v) for n, v in self.log_probs.items()})

    def draw(self, hand: Hand) -> dict[str, Tensor]:
        """First a component, then the elements by it."""
        chosen = draw(self.log_weights.T.exp(), hand.choice)
        rows = torch.arange(len(chosen), device=chosen.device)
        return {
            name: hand.joint_draw(name, v[chosen, rows].exp()) for name, v in self.log_probs.items()
        }


class Readings(nn.Module):
    """How each component reads the features of an element: f + gelu(c + b_k) A.

    At the start the components differ by their random b_k and A only.

    Args:
        channels: C, features of an element that each component gets.
        components: K.
    """

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.randn(components, CODE))
        self.read = nn.Parameter(0.3 * torch.randn(CODE, channels))

    def forward(self, shared: Tensor, code: Tensor) -> Tensor:
        """f (..., C) and c (..., CODE) to (K, ..., C)."""
        offsets = self.offsets.view(-1, *[1] * (code.dim() - 1), CODE)
        return shared + nn.functional.gelu(code + offsets) @ self.read


def mixture_kl(kl: dict[str, Tensor], log_weights: Tensor) -> dict[str, Tensor]:
    r"""An upper bound on the KL from a factorized q to a mixture of factorized laws p_k,

    .. math:: KL(q \,\|\, \textstyle\sum_k w_k p_k)
        \le -\log \sum_k w_k \exp(-KL(q \,\|\, p_k))
        = \sum_k r_k \, KL(q \,\|\, p_k) + KL(r \,\|\, w), \quad
        r_k \propto w_k \exp(-KL(q \,\|\, p_k))

    (Jensen; an equality for one component). It needs no samples of z_s. It is what z_s costs in a
    code that first says, by r, which component is meant; that part is shared out evenly among the
    blocks.

    Args:
        kl: KL(q || p_k) by block, (K, B) nats.
        log_weights: log w_k, (K, B) nats.

    Returns:
        Block name to nats per example, (B,).
    """
    log_r = torch.log_softmax(log_weights - torch.stack(list(kl.values())).sum(0), 0)
    r = log_r.exp()
    choice = (r * (log_r - log_weights)).sum(0) / len(kl)
    return {name: (r * k).sum(0) + choice for name, k in kl.items()}
