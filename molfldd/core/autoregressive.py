r"""The elements of a step drawn one after another: an autoregressive head.

Eq. (7) draws all elements of z_s at once. Here each masked element, revealed as a value or left
masked, knows what became of those before it,

.. math:: p_\theta(z_s | z_t) = \prod_{i \, masked} Cat(z_s^i;
    softmax(\log v_\theta^i(z_t, t) + g_\theta^i(z_s^j : j < i \, masked))).

The reverse network gives v for all of them in one evaluation, and tells the head g some features of
every element; g is a small causal transformer over the masked elements, so that all of them
together cost a fraction of an evaluation. It begins at g = 0, which is Eq. (7). The paper has no
such head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn

from molfldd.core.attention import attention
from molfldd.core.blocks import Codes, Masks, draw
from molfldd.core.law import NEVER, Change, Hand, Law
from molfldd.core.unmasking import log_probs_from_mask

WIDTH = 64
"""Features of an element that the network tells the head, and channels of the head."""

LAYERS = 2
"""Of the head."""

HEADS = 4
"""Of its attention."""


@dataclass
class KeyValueCache:
    """Keys and values of what a layer has seen so far, (B, heads, past, C)."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def extended(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All of them, these included, which are kept."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], 2)
            values = torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


class CausalLayer(nn.Module):
    """Attention to what came before, and a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(WIDTH)
        self.norm_forward = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.merge = nn.Linear(WIDTH, WIDTH)
        self.expand = nn.Linear(WIDTH, 2 * WIDTH)
        self.contract = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, memory: KeyValueCache) -> Tensor:
        """The next elements (B, m, WIDTH), updated; they are added to the memory."""
        parts = self.qkv(self.norm_attention(x)).unflatten(-1, (3, HEADS, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        k, v = memory.extended(k, v)
        past = k.shape[2] - q.shape[2]
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=x.device).tril(past)
        x = x + self.merge(attention(q, k, v, seen).transpose(1, 2).flatten(2))
        hidden = nn.functional.gelu(self.expand(self.norm_forward(x)))
        updated: Tensor = x + self.contract(hidden)
        return updated


class Head(nn.Module):
    """g: what the elements before it add to the log-probabilities of an element.

    The states of all blocks are numbered together, block after block.

    Args:
        states: S of all blocks together.
    """

    def __init__(self, states: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(WIDTH))
        self.state = nn.Embedding(states, WIDTH)
        self.join = nn.Linear(2 * WIDTH, WIDTH)
        self.layers = nn.ModuleList(CausalLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.read = nn.Linear(WIDTH, states)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def before(self, told: Tensor, states: Tensor) -> Tensor:
        """What each element is to the next one, (..., WIDTH), from what became of it (...)."""
        embedded: Tensor = told + self.state(states)
        return embedded

    def forward(self, told: Tensor, before: Tensor, memory: list[KeyValueCache]) -> Tensor:
        """What to add to the log-probabilities, (B, m, states).

        Args:
            told: Features of the next elements, (B, m, WIDTH).
            before: Of the element before each of them, ``start`` for the first, (B, m, WIDTH).
            memory: Of each layer; changed in place.
        """
        x = self.join(torch.cat([told, before], -1))
        for layer, its in zip(self.layers, memory, strict=True):
            x = layer(x, its)
        added: Tensor = self.read(self.norm(x))
        return added

    def memory(self) -> list[KeyValueCache]:
        """Of each layer, of nothing."""
        return [KeyValueCache() for _ in self.layers]


@dataclass(frozen=True)
class Queue:
    """Some elements of each example one after another, in m places.

    Attributes:
        spots: Of those of each block: example, element and place, (N,) each.
        shape: (B, m).
    """

    spots: Mapping[str, tuple[Tensor, Tensor, Tensor]]
    shape: tuple[int, int]

    @classmethod
    def of(cls, chosen: Masks) -> Queue:
        """The queue of chosen elements, (B, n) bool per block."""
        together = torch.cat(list(chosen.values()), 1)
        lengths = [c.shape[1] for c in chosen.values()]
        places = torch.split(together.long().cumsum(1) - 1, lengths, 1)
        spots = {}
        for (name, c), place in zip(chosen.items(), places, strict=True):
            example, element = c.nonzero(as_tuple=True)
            spots[name] = example, element, place[c]
        longest = int(together.sum(1).max())
        return cls(spots, (len(together), max(1, longest)))

    def line_up(self, values: Mapping[str, Tensor]) -> Tensor:
        """Values (B, n, ...) of the blocks, by place (B, m, ...); 0 in empty places."""
        some = next(iter(values.values()))
        result = some.new_zeros(*self.shape, *some.shape[2:])
        for name, (example, element, place) in self.spots.items():
            result[example, place] = values[name][example, element]
        return result


@dataclass(frozen=True)
class AutoregressiveLaw(Law):
    """p_theta(z_s | z_t) with one element after another; see the module.

    Attributes:
        head: g.
        z: z_t, (B, n) int64 per block.
        hidden: Masked elements that exist, (B, n) bool per block.
        features: Logits of the values and the gate, see ``log_probs_from_mask``; (B, n, S) per
            block.
        told: What the network tells the head, (B, n, WIDTH) per block.
        index: Number of the step in its walk, (B,) int64.
        change: Of the probabilities, see the class ``Law``; None to leave them.
    """

    head: Head
    z: Codes
    hidden: Masks
    features: Mapping[str, Tensor]
    told: Mapping[str, Tensor]
    index: Tensor
    change: Change | None = None

    @cached_property
    def first(self) -> dict[str, int]:
        """The number of each block's first state among those of all."""
        ends = list(accumulate(f.shape[-1] for f in self.features.values()))
        return dict(zip(self.features, [0, *ends], strict=False))

    @cached_property
    def queue(self) -> Queue:
        """The masked elements."""
        return Queue.of(self.hidden)

    def base(self) -> Tensor:
        """log v by place, over the states of all blocks, (B, m, states)."""
        some = next(iter(self.features.values()))
        states = sum(f.shape[-1] for f in self.features.values())
        result = some.new_full((*self.queue.shape, states), NEVER)
        for name, (example, element, place) in self.queue.spots.items():
            f, start = self.features[name][example, element], self.first[name]
            log_v = log_probs_from_mask(f, self.index[example][:, None])
            result[example, place, start : start + f.shape[-1]] = log_v
        return result

    def log_probs(self, z: Codes) -> dict[str, Tensor]:
        """log p of each masked element given those before it as in z_s = z (B, n).

        Returns:
            (N, S) per block, in the order of ``queue.spots``.
        """
        told = self.queue.line_up(self.told)
        states = self.queue.line_up({name: z[name] + start for name, start in self.first.items()})
        start = self.head.start.expand(len(told), 1, -1)
        before = torch.cat([start, self.head.before(told, states)[:, :-1]], 1)
        log_p = self._normalized(self.base() + self.head(told, before, self.head.memory()))
        return {
            name: log_p[example, place, start : start + self.features[name].shape[-1]]
            for (name, (example, _, place)), start in zip(
                self.queue.spots.items(), self.first.values(), strict=True
            )
        }

    def log_prob(self, z: Codes, mask: Masks) -> Tensor:
        """See the class ``Law``."""
        total = torch.zeros(len(self.index), device=self.index.device)
        for name, log_p in self.log_probs(z).items():
            example, element, _ = self.queue.spots[name]
            chosen = log_p.gather(-1, z[name][example, element][:, None])[:, 0]
            changed = (z[name] != self.z[name]) & mask[name] & ~self.hidden[name]
            total = total.index_add(0, example, chosen) + NEVER * changed.sum(-1)
        return total

    def changed(self, change: Change) -> AutoregressiveLaw:
        """See the class ``Law``; each given those before it."""
        return replace(self, change=change)

    def draw(self, hand: Hand) -> dict[str, Tensor]:
        """One element after another, by the first of its numbers."""
        numbers = self.queue.line_up({name: u[..., 0] for name, u in hand.numbers.items()})
        told, base = self.queue.line_up(self.told), self.base()
        memory, before, drawn = self.head.memory(), self.head.start.expand(len(told), -1), []
        for k in range(told.shape[1]):
            here = told[:, k]
            added = self.head(here[:, None], before[:, None], memory)[:, 0]
            drawn.append(draw(self._normalized(base[:, k] + added).exp(), numbers[:, k]))
            before = self.head.before(here, drawn[-1])
        states = torch.stack(drawn, 1)
        result = {name: z.clone() for name, z in self.z.items()}
        for name, (example, element, place) in self.queue.spots.items():
            result[name][example, element] = states[example, place] - self.first[name]
        return result

    def _normalized(self, logits: Tensor) -> Tensor:
        """Log-probabilities (..., states) of elements, changed if they are to be."""
        log_p = torch.log_softmax(logits, -1)
        if self.change is None:
            return log_p
        sizes = [f.shape[-1] for f in self.features.values()]
        parts = zip(self.features, torch.split(log_p, sizes, -1), strict=True)
        return torch.cat([self.change(name, part) for name, part in parts], -1)
