r"""How the elements of a factorized step are drawn together.

Eq. (7) gives every element a distribution of its own, and Algorithm 2 draws the elements
independently. What is drawn at once can then contradict itself: of two bonds of which one exists,
both are drawn, or neither. Any joint law with these marginals keeps to the network's word, and
some contradict themselves less.

``independent`` is Algorithm 2. ``systematic`` draws as survey samplers do (Madow, 1949): the
probabilities p_i of an event are laid end to end, C_i = p_1 + ... + p_i, and the event befalls the
elements in whose interval a point of a grid of spacing 1 and random offset U lies,

.. math:: e_i = [\lceil C_{i-1} + U \rceil - (C_{i-1} + U) < p_i].

Each e_i has probability p_i exactly, and in any run of neighbours the event comes as often as
expected, up to less than one: :math:`|\sum_{i \in run} (e_i - p_i)| < 1`. That suits elements of
which each makes its neighbours less likely. ``Smooth`` is for the opposite, elements like their
neighbours. None of them costs an evaluation of a network. The bound is that of independent draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from molfldd.core.blocks import draw
from molfldd.core.coupling import ratio

EVENTS = 16
"""So many states are drawn systematically; the rest, where there are more, independently."""

JointDraw = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Draws states (B, n) int64 from probabilities (B, n, S), the mask of elements that exist (B, n),
and uniform numbers in [0, 1): one per element (B, n), and some for all of them, (B, EVENTS)."""


TINY = 2.0**-24
"""Distance that uniform numbers keep from 0 and 1 where those would be infinite."""


def turns(states: int) -> list[int]:
    """The states in the order in which they are decided on.

    The first category, then the last state (the mask, if there is one), then the others: whether
    an element is what most are, then whether it is revealed at all, then as what.
    """
    return [0, states - 1, *range(1, states - 1)][:states]


def independent(probs: Tensor, mask: Tensor, uniform: Tensor, offsets: Tensor) -> Tensor:
    """Every element by itself, as in Algorithm 2; see ``JointDraw``."""
    return draw(probs, uniform)


def systematic(probs: Tensor, mask: Tensor, uniform: Tensor, offsets: Tensor) -> Tensor:
    """One state after another, each systematically; see ``JointDraw`` and the module.

    Each time, in the order of ``turns``, among the elements that have no state yet, with what its
    probability then is.
    """
    count = probs.shape[-1]
    events = turns(count)[: min(EVENTS, count - 1)]
    others = probs.clone()
    others[..., events] = 0
    head = probs[..., events].double()
    left = head.flip(-1).cumsum(-1).flip(-1) + others.double().sum(-1, keepdim=True)
    states, undecided = draw(others, uniform), mask
    for i, state in enumerate(events):
        chance = torch.where(undecided, ratio(head[..., i], left[..., i]), 0.0)
        chosen = befalls(chance, offsets[:, i : i + 1].double())
        states, undecided = torch.where(chosen, state, states), undecided & ~chosen
    return states


def befalls(chance: Tensor, offset: Tensor) -> Tensor:
    """Which elements an event befalls, (B, n) bool, from its probabilities (B, n) and U (B, 1)."""
    start = offset + nn.functional.pad(chance[..., :-1], (1, 0)).cumsum(-1)
    return start.ceil() - start < chance


class Smooth:
    r"""Neighbours alike, by a Gaussian copula; see ``JointDraw``.

    The numbers of the elements are mixed as normal deviates, u = Phi(M Phi^-1(uniform)). Rows of M
    have length 1, so every u_i is uniform, and the deviates have correlation M M^T.

    Args:
        mix: M, (n, n), for a block of n elements; its rows are scaled to length 1.
    """

    def __init__(self, mix: Tensor) -> None:
        self.mix = mix / mix.norm(dim=1, keepdim=True)

    def __call__(self, probs: Tensor, mask: Tensor, uniform: Tensor, offsets: Tensor) -> Tensor:
        """See the class; the states in the order of ``turns``, so that neighbours get near ones."""
        deviates = torch.special.ndtri(uniform.double().clamp(min=TINY, max=1 - TINY))
        mixed = torch.special.ndtr(deviates @ self.mix.to(deviates).T)
        order = torch.tensor(turns(probs.shape[-1]), device=probs.device)
        return order[draw(probs[..., order], mixed.float().clamp(max=1 - TINY))]
