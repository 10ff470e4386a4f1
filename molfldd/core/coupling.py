r"""Transport plans between two marginals of one element: the forward posterior q(z_s | z_t, x).

Every plan used here sends state ``k`` either to itself or to one common target distribution,

.. math:: q(z_s = j \mid z_t = k) = keep^k\,[j = k] + move^k\, target^j,

so a posterior costs O(S) and no S x S matrix is ever built. The consistency of Eq. (10),
``sum_k u_t^k q(z_s | z_t = k) = u_s``, holds for each plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Coupling:
    """A plan from u_t to u_s, for every element at once.

    Attributes:
        keep: Probability to stay in each state as the plan's diagonal part, (..., S).
        move: Probability to leave each state for ``target``, (..., S).
        target: Where leaving mass goes, (..., S); sums to 1, or to 0 where nothing moves.
    """

    keep: Tensor
    move: Tensor
    target: Tensor

    def posterior(self, z: Tensor) -> Tensor:
        """q(z_s | z_t = z), Eq. (11); for a point inside the simplex the relaxation of Eq. (14).

        Args:
            z: One-hot states or simplex points, (..., S).

        Returns:
            Probabilities of z_s, (..., S).
        """
        return z * self.keep + (z * self.move).sum(-1, keepdim=True) * self.target

    def repeat(self, times: int) -> Coupling:
        """The plans ``times`` times over along the first axis."""
        return Coupling(
            *(x.repeat(times, *[1] * (x.ndim - 1)) for x in (self.keep, self.move, self.target))
        )


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 (with zero gradient) where the denominator is 0.

    Denominators below the normal range of the number format count as 0: their reciprocals
    overflow, and so would the gradient.
    """
    positive = denominator >= torch.finfo(denominator.dtype).tiny
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def maximum_coupling(u_s: Tensor, u_t: Tensor) -> Coupling:
    r"""The plan that moves the least mass, Eq. (11).

    .. math::
        keep^k = \min(u_s^k, u_t^k) / u_t^k, \quad
        move^k = \max(0, u_t^k - u_s^k) / u_t^k, \quad
        target = \max(0, u_s - u_t) / \lVert \max(0, u_s - u_t) \rVert_1.

    The paper prints ``min(0, u_s - u_t)`` for both excess and deficit and ``u_s`` in one
    denominator; the form above is the one that satisfies Eq. (10).

    Args:
        u_s: Marginals at the earlier step, (..., S).
        u_t: Marginals at the later step, (..., S).
    """
    deficit = (u_s - u_t).clamp(min=0)
    return Coupling(
        keep=ratio(torch.minimum(u_s, u_t), u_t),
        move=ratio((u_t - u_s).clamp(min=0), u_t),
        target=ratio(deficit, deficit.sum(-1, keepdim=True).expand_as(deficit)),
    )


def markov_coupling(u_s: Tensor, u_t: Tensor, stay: Tensor, prior: Tensor) -> Coupling:
    r"""The posterior of a conventional Markov chain, Eq. (2).

    With one transition ``q(z_t | z_s) = stay [z_t = z_s] + (1 - stay) prior``, Bayes' rule gives
    ``q(z_s = j | z_t = k, x) = u_s^j (stay [j = k] + (1 - stay) prior^k) / u_t^k``.

    Args:
        u_s: Marginals at the earlier step, (..., S).
        u_t: Marginals at the later step, (..., S).
        stay: Probability that one step leaves an element alone, broadcastable to (..., 1).
        prior: Where the others are drawn from, (S,).
    """
    return Coupling(
        keep=ratio(stay * u_s, u_t),
        move=ratio(((1 - stay) * prior).expand_as(u_t), u_t),
        target=u_s,
    )


def independent_coupling(u_s: Tensor, u_t: Tensor) -> Coupling:
    """z_s drawn from u_s whatever z_t is: the control without any transport."""
    return Coupling(keep=torch.zeros_like(u_t), move=torch.ones_like(u_t), target=u_s)
