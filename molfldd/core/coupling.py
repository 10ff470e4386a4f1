r"""Transport plans between two marginals of one element: the forward posterior q(z_s | z_t, x).

Every plan but the monotone one sends state ``k`` either to itself or to one common target
distribution,

.. math:: q(z_s = j \mid z_t = k) = keep^k\,[j = k] + move^k\, target^j,

so a posterior costs O(S) and no S x S matrix is ever built. The consistency of Eq. (10),
``sum_k u_t^k q(z_s | z_t = k) = u_s``, holds for each plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Plan(Protocol):
    """A plan from u_t to u_s, for every element at once."""

    def posterior(self, z: Tensor) -> Tensor:
        """q(z_s | z_t = z), Eq. (10); for a point inside the simplex the mixture, Eq. (14).

        Args:
            z: One-hot states or simplex points, (..., S).

        Returns:
            Probabilities of z_s, (..., S).
        """

    def repeat(self, times: int) -> Self:
        """The plans ``times`` times over along the first axis."""


@dataclass(frozen=True)
class Coupling:
    """A plan that leaves a state alone or sends it to the common target; see ``Plan``.

    Attributes:
        keep: Probability to stay in each state as the plan's diagonal part, (..., S).
        move: Probability to leave each state for ``target``, (..., S).
        target: Where leaving mass goes, (..., S); sums to 1, or to 0 where nothing moves.
    """

    keep: Tensor
    move: Tensor
    target: Tensor

    def posterior(self, z: Tensor) -> Tensor:
        """See ``Plan``."""
        return z * self.keep + (z * self.move).sum(-1, keepdim=True) * self.target

    def repeat(self, times: int) -> Coupling:
        """See ``Plan``."""
        return Coupling(
            *(x.repeat(times, *[1] * (x.ndim - 1)) for x in (self.keep, self.move, self.target))
        )


@dataclass(frozen=True)
class MonotoneCoupling:
    """The plan that keeps the order: the lower part of z_t becomes the lower part of z_s.

    For states that are numbers, such as coordinates. Both marginals are laid out side by side on
    [0, 1]; state k of z_t goes to the states of z_s that it overlaps. Of all plans it moves by the
    least squared distance, |z_t - z_s|^2 on average, and by the least of any convex cost. A
    posterior costs O(S^2).

    Attributes:
        u_s: Marginals at the earlier step, (..., S).
        u_t: Marginals at the later step, (..., S).
    """

    u_s: Tensor
    u_t: Tensor

    def posterior(self, z: Tensor) -> Tensor:
        """See ``Plan``."""
        end_s, end_t = self.u_s.cumsum(-1)[..., None, :], self.u_t.cumsum(-1)[..., None]
        start_s, start_t = end_s - self.u_s[..., None, :], end_t - self.u_t[..., None]
        overlap = (torch.minimum(end_s, end_t) - torch.maximum(start_s, start_t)).clamp(min=0)
        return (ratio(z, self.u_t)[..., None] * overlap).sum(-2)

    def repeat(self, times: int) -> MonotoneCoupling:
        """See ``Plan``."""
        return MonotoneCoupling(
            *(u.repeat(times, *[1] * (u.ndim - 1)) for u in (self.u_s, self.u_t))
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
