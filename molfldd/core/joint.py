r"""How the elements of a factorized step are drawn together.

Eq. (7) gives every element a distribution of its own, and Algorithm 2 draws the elements
independently. What is drawn at once can then contradict itself: of two bonds of which one exists,
both are drawn, or neither. Any joint law with these marginals keeps to the network's word, and
some contradict themselves less.

``independent`` is Algorithm 2. ``balanced`` draws as survey samplers do, by the ordered pivotal
method (Deville and Tille, 1998). Elements duel for an event, one after another: of two with
probabilities a and b of which one is to have it (a + b <= 1), the winner goes on with a + b and the
loser does not have it; otherwise one has it, and the other goes on with a + b - 1,

.. math::
    (a, b) \to (a + b, 0) \text{ or } (0, a + b) \text{ with odds } a : b, \qquad
    (a, b) \to (1, a + b - 1) \text{ or } (a + b - 1, 1) \text{ with odds } 1 - b : 1 - a.

Each element has the event with probability exactly p_i, and up to any element it has come as often
as expected, up to less than one: :math:`|\sum_{j \le i} (e_j - p_j)| < 1`. That suits elements of
which each makes its neighbours less likely. ``Smooth`` is for the opposite, elements like their
neighbours. None of them costs an evaluation of a network. The bound is that of independent draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from molfldd.core.blocks import draw
from molfldd.core.coupling import ratio

EVENTS = 4
"""So many states are balanced; the rest, where there are more, are drawn independently."""

NUMBERS = 1 + EVENTS
"""Random numbers that a joint draw gets for each element."""

JointDraw = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Draws states (B, n) int64 from probabilities (B, n, S), the mask of elements that exist (B, n),
and uniform numbers in [0, 1), (B, n, NUMBERS)."""

TINY = 2.0**-24
"""Distance that uniform numbers keep from 0 and 1 where those would be infinite."""


def turns(states: int) -> list[int]:
    """The states in the order in which they are decided on.

    The first category, then the last state (the mask, if there is one), then the others: whether
    an element is what most are, then whether it is revealed at all, then as what.
    """
    return [0, states - 1, *range(1, states - 1)][:states]


def independent(probs: Tensor, mask: Tensor, uniform: Tensor) -> Tensor:
    """Every element by itself, as in Algorithm 2; see ``JointDraw``."""
    return draw(probs, uniform[..., 0])


def balanced(probs: Tensor, mask: Tensor, uniform: Tensor) -> Tensor:
    """One state after another, each by ``pivotal``; see ``JointDraw`` and the module.

    Each time, in the order of ``turns``, among the elements that have no state yet, with what its
    probability then is. It goes from one element to the next, so it is computed on the CPU.
    """
    device = probs.device
    probs, mask, uniform = probs.cpu(), mask.cpu(), uniform.cpu()
    count = probs.shape[-1]
    events = turns(count)[: min(EVENTS, count - 1)]
    others = probs.clone()
    others[..., events] = 0
    head = probs[..., events].double()
    left = head.flip(-1).cumsum(-1).flip(-1) + others.double().sum(-1, keepdim=True)
    states, undecided = draw(others, uniform[..., 0]), mask
    for i, state in enumerate(events):
        chance = torch.where(undecided, ratio(head[..., i], left[..., i]), 0.0)
        chosen = pivotal(chance, uniform[..., 1 + i].double())
        states, undecided = torch.where(chosen, state, states), undecided & ~chosen
    return states.to(device)


def pivotal(chance: Tensor, uniform: Tensor) -> Tensor:
    """Which elements have an event, (B, n) bool, from its probabilities and numbers (B, n)."""
    chosen = torch.zeros_like(chance, dtype=torch.bool)
    if not chance.numel():
        return chosen
    possible = chance > 0
    duels = max(1, int(possible.sum(-1).max()))
    order = torch.sort(possible.int(), dim=-1, descending=True, stable=True).indices[:, :duels]
    chances, numbers = (x.gather(-1, order).T.contiguous().unbind() for x in (chance, uniform))
    won = torch.zeros(duels, len(chance), dtype=torch.bool)
    pivot, a = torch.zeros(len(chance), dtype=torch.long), chances[0]
    for i in range(1, duels):  # those without a chance would change nothing
        b, u = chances[i], numbers[i]
        both = a + b
        full = both > 1
        stays = torch.where(full, u * (2 - both) >= 1 - b, u * both < a)
        won.scatter_(0, torch.where(stays, i, pivot)[None], full[None])
        pivot, a = torch.where(stays, pivot, i), both - full.to(both)
    won.scatter_(0, pivot[None], (uniform[:, 0] < a)[None])
    return chosen.scatter(-1, order, won.T)


class Smooth:
    r"""Neighbours alike, by a Gaussian copula; see ``JointDraw``.

    The numbers of the elements are mixed as normal deviates, u = Phi(M Phi^-1(uniform)). Rows of M
    have length 1, so every u_i is uniform, and the deviates have correlation M M^T.

    Args:
        mix: M, (n, n), for a block of n elements; its rows are scaled to length 1.
    """

    def __init__(self, mix: Tensor) -> None:
        self.mix = mix / mix.norm(dim=1, keepdim=True)

    def __call__(self, probs: Tensor, mask: Tensor, uniform: Tensor) -> Tensor:
        """See the class; the states in the order of ``turns``, so that neighbours get near ones."""
        numbers = uniform[..., 0].cpu().double().clamp(min=TINY, max=1 - TINY)
        deviates = torch.special.ndtri(numbers)
        mixed = torch.special.ndtr(deviates @ self.mix.to(deviates).T).float().to(probs.device)
        order = torch.tensor(turns(probs.shape[-1]), device=probs.device)
        return order[draw(probs[..., order], mixed.clamp(max=1 - TINY))]
