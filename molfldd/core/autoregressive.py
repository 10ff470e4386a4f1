r"""The elements of a step drawn one after another: an autoregressive head.

Eq. (7) draws all elements of z_s at once. Here each masked element, revealed as a value or left
masked, knows what became of those before it,

.. math:: p_\theta(z_s | z_t) = \prod_{i \, masked} Cat(z_s^i;
    softmax(\log v_\theta^i(z_t, t) + g_\theta^i(z_s^j : j < i \, masked))).

The reverse network gives v for all of them in one evaluation, and tells the head g some features of
every element; g is a small causal transformer over the masked elements, so that all of them
together cost a fraction of an evaluation. It begins at g = 0, which is Eq. (7). The paper has no
such head.

Elements may meet at *sites*, such as the bonds of an atom at that atom. Where the network says
which (``module.sites``), the head also hears the sum over what is there already at the sites of an
element: of what was known before the step, and of what has come before it in the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Codes, Masks, draw
from molfldd.core.law import NEVER, Hand, Law, sharpened
from molfldd.core.unmasking import log_probs_from_mask

WIDTH = 64
"""Features of an element that the network tells the head, and channels of the head."""

LAYERS = 2
"""Of the head."""

HEADS = 4
"""Of its attention."""


@dataclass(frozen=True)
class Line:
    """Elements in the order in which they have their turn, m of each example.

    Attributes:
        told: What the network tells the head of them, (B, m, WIDTH).
        sites: Two sites of each, -1 for none, (B, m, 2) int64.
        known: Sum over what was at these sites before the step, (B, m, 2, WIDTH).
    """

    told: Tensor
    sites: Tensor
    known: Tensor

    def at(self, k: int) -> Line:
        """The element in place k alone."""
        here = slice(k, k + 1)
        return Line(self.told[:, here], self.sites[:, here], self.known[:, here])


@dataclass(frozen=True)
class Last:
    """The elements that had their turn before those of a line.

    Attributes:
        told: As of the line; 0 before the first.
        sites: As of the line; -1 before the first.
        states: What became of them, (B, m) int64; ``Head.nothing`` before the first.
    """

    told: Tensor
    sites: Tensor
    states: Tensor


class Past:
    """Tensors of what has had its turn, by name; grows along dimension ``along``."""

    def __init__(self, along: int) -> None:
        self.along = along
        self.seen: dict[str, Tensor] = {}

    def extended(self, **more: Tensor) -> tuple[Tensor, ...]:
        """All there are of each name, these included, which are kept."""
        for name, new in more.items():
            old = self.seen.get(name)
            self.seen[name] = new if old is None else torch.cat([old, new], self.along)
        return tuple(self.seen[name] for name in more)


@dataclass(frozen=True)
class Memory:
    """What the head has seen so far: keys and values of each layer, and what is at the sites."""

    layers: list[Past]
    sites: Past


def up_to(now: int, seen: int, device: torch.device) -> Tensor:
    """Which of the seen ones each of the latest may hear of, itself included; (now, seen) bool."""
    return torch.ones(now, seen, dtype=torch.bool, device=device).tril(seen - now)


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

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """The next elements (B, m, WIDTH), updated; they are added to the past."""
        parts = self.qkv(self.norm_attention(x)).unflatten(-1, (3, HEADS, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        k, v = past.extended(keys=k, values=v)
        heard = up_to(q.shape[2], k.shape[2], x.device)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~heard, -torch.inf)
        x = x + self.merge((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))
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
        self.nothing = states
        self.state = nn.Embedding(states + 1, WIDTH)
        self.at_site = nn.Embedding(states + 1, WIDTH)
        self.join = nn.Linear(4 * WIDTH, WIDTH)
        self.layers = nn.ModuleList(CausalLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.read = nn.Linear(WIDTH, states)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, line: Line, last: Last, memory: Memory) -> Tensor:
        """What to add to the log-probabilities, (B, m, states).

        Args:
            line: The next elements.
            last: Those before each of them.
            memory: Changed in place.
        """
        before = last.told + self.state(last.states)
        first, second = self._at_sites(line, last, memory.sites).unbind(2)
        x = self.join(torch.cat([line.told, before, first, second], -1))
        for layer, past in zip(self.layers, memory.layers, strict=True):
            x = layer(x, past)
        added: Tensor = self.read(self.norm(x))
        return added

    def _at_sites(self, line: Line, last: Last, past: Past) -> Tensor:
        """Sum over what is at both sites of each element by now, (B, m, 2, WIDTH)."""
        sites, states = past.extended(sites=last.sites, states=self.at_site(last.states))
        heard = up_to(line.sites.shape[1], sites.shape[1], sites.device)
        sums = []
        for mine in line.sites.unbind(2):
            meets = (mine[:, :, None, None] == sites[:, None]).any(-1) & (mine >= 0)[..., None]
            sums.append((meets & heard).to(states.dtype) @ states)
        return line.known + torch.stack(sums, 2)

    def nobody(self, line: Line) -> Last:
        """Who is before the first of a line."""
        told, sites = line.told[:, :1], line.sites[:, :1]
        states = torch.full(told.shape[:2], self.nothing, device=told.device)
        return Last(torch.zeros_like(told), torch.full_like(sites, -1), states)

    def followed(self, line: Line, states: Tensor) -> Last:
        """Who is before each of a line of whose elements became these states, (B, m)."""
        first = self.nobody(line)
        return Last(
            torch.cat([first.told, line.told[:, :-1]], 1),
            torch.cat([first.sites, line.sites[:, :-1]], 1),
            torch.cat([first.states, states[:, :-1]], 1),
        )

    def memory(self) -> Memory:
        """Of nothing."""
        return Memory([Past(2) for _ in self.layers], Past(1))


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
        exists: Elements that exist, (B, n) bool per block.
        features: Logits of the values and the gate, see ``log_probs_from_mask``; (B, n, S) per
            block.
        told: What the network tells the head, (B, n, WIDTH) per block.
        sites: Two sites of each element, -1 for none, (n, 2) int64 per block.
        index: Number of the step in its walk, (B,) int64.
    """

    head: Head
    z: Codes
    hidden: Masks
    exists: Masks
    features: Mapping[str, Tensor]
    told: Mapping[str, Tensor]
    sites: Mapping[str, Tensor]
    index: Tensor

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

    def known(self) -> Tensor:
        """Sum over what is known at each site, (B, sites, WIDTH)."""
        count = 1 + int(torch.cat(list(self.sites.values())).max())
        result = self.head.at_site.weight.new_zeros(len(self.index), count + 1, WIDTH)
        for name, sites in self.sites.items():
            stands = (self.exists[name] & ~self.hidden[name])[..., None]
            states = torch.where(stands, self.head.at_site(self.z[name] + self.first[name]), 0.0)
            for site in sites.unbind(1):
                result = result.index_add(1, site % (count + 1), states)
        return result[:, :count]

    def line(self) -> Line:
        """The masked elements."""
        known, batch = self.known(), len(self.index)
        padded = torch.cat([known, known.new_zeros(batch, 1, WIDTH)], 1)
        sites = {name: x.expand(batch, -1, -1) for name, x in self.sites.items()}
        here = {name: padded[:, x] for name, x in self.sites.items()}
        told = self.queue.line_up(self.told)
        return Line(told, self.queue.line_up(sites), self.queue.line_up(here))

    def log_probs(self, z: Codes) -> dict[str, Tensor]:
        """log p of each masked element given those before it as in z_s = z (B, n).

        Returns:
            (N, S) per block, in the order of ``queue.spots``.
        """
        line = self.line()
        states = self.queue.line_up({name: z[name] + start for name, start in self.first.items()})
        added = self.head(line, self.head.followed(line, states), self.head.memory())
        log_p = torch.log_softmax(self.base() + added, -1)
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

    def draw(self, hand: Hand) -> dict[str, Tensor]:
        """One element after another, by the first of its numbers."""
        numbers = self.queue.line_up({name: u[..., 0] for name, u in hand.numbers.items()})
        line, base = self.line(), self.base()
        memory, last, drawn = self.head.memory(), self.head.nobody(line), []
        for k in range(numbers.shape[1]):
            here = line.at(k)
            log_p = torch.log_softmax(base[:, k] + self.head(here, last, memory)[:, 0], -1)
            drawn.append(draw(self._sharpened(log_p, hand).exp(), numbers[:, k]))
            last = Last(here.told, here.sites, drawn[-1][:, None])
        states = torch.stack(drawn, 1)
        result = {name: z.clone() for name, z in self.z.items()}
        for name, (example, element, place) in self.queue.spots.items():
            result[name][example, element] = states[example, place] - self.first[name]
        return result

    def _sharpened(self, log_p: Tensor, hand: Hand) -> Tensor:
        """At the hand's temperature, (B, states)."""
        if hand.temperature == 1:
            return log_p
        sizes = [f.shape[-1] for f in self.features.values()]
        parts = zip(self.features, torch.split(log_p, sizes, -1), strict=True)
        return torch.cat(
            [sharpened(part, hand.categories[name], hand.temperature) for name, part in parts], -1
        )
