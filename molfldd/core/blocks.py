"""Blocks of categorical variables, batches of examples, and the prior that defines the state space.

A *block* is a named group of variables that share their categories: atoms, bonds, pixels, tokens.
An example of size ``n`` has ``block.length(n)`` elements in each block; elements beyond that are
padding, always at the end, so the sizes alone determine every mask.

Shapes used throughout the core: ``B`` examples, ``n`` elements of a block (padded), ``K``
categories of the data, ``S`` states of the process (``S = K``, or ``K + 1`` with a mask state).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Codes = Mapping[str, Tensor]
"""Block name to category codes, (B, n) int64."""
Probs = Mapping[str, Tensor]
"""Block name to probabilities or features over the states, (B, n, S) float."""
Masks = Mapping[str, Tensor]
"""Block name to validity of elements, (B, n) bool; False marks padding."""

_ROWS = 4096
"""Examples counted at a time."""


@dataclass(frozen=True)
class Block:
    """A named group of categorical variables.

    Attributes:
        name: How configs, logs and networks call it.
        categories: Number of data categories ``K``.
        length: Number of elements for each example size, (B,) int64 to (B,) int64.
    """

    name: str
    categories: int
    length: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.categories < 1:
            raise ValueError(
                f"block '{self.name}' needs at least 1 category, got {self.categories}"
            )


@dataclass(frozen=True)
class Batch:
    """Examples side by side.

    Attributes:
        codes: Category codes of each block, (B, n) int64; padding holds 0.
        mask: True where an element exists, (B, n) bool.
        sizes: Size of each example, (B,) int64.
    """

    codes: Codes
    mask: Masks
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            {name: x.to(device) for name, x in self.codes.items()},
            {name: m.to(device) for name, m in self.mask.items()},
            self.sizes.to(device),
        )

    def repeat(self, times: int) -> Batch:
        """The batch ``times`` times over, (times * B, ...), whole batch after whole batch."""
        return Batch(
            {name: x.repeat(times, 1) for name, x in self.codes.items()},
            {name: m.repeat(times, 1) for name, m in self.mask.items()},
            self.sizes.repeat(times),
        )


def masks(blocks: Sequence[Block], sizes: Tensor) -> dict[str, Tensor]:
    """Validity of each element for examples of the given sizes.

    Args:
        blocks: The blocks of the domain.
        sizes: Example sizes, (B,) int64.

    Returns:
        Block name to (B, n) bool, with ``n`` the longest length in the batch.
    """
    result = {}
    for block in blocks:
        lengths = block.length(sizes)
        positions = torch.arange(int(lengths.max()), device=sizes.device)
        result[block.name] = positions < lengths[:, None]
    return result


Augmentation: TypeAlias = Callable[[Batch, torch.Generator], Batch]
"""Says the same examples of a batch in another way, at random: molecules with their atoms in
another order."""


@dataclass(frozen=True)
class Examples:
    """A data set, in memory or mapped into it; no method copies all of it.

    Attributes:
        blocks: The blocks of the domain.
        codes: Block name to codes, (N, n_max) of any integer type, padded at the end.
        sizes: Size of each example, (N,) int64; a larger one has no fewer elements of any block.
        augment: How they are said in another way each time; None: they are always said alike.

    Raises:
        ValueError: if codes and sizes do not fit, or an example has no elements.
    """

    blocks: tuple[Block, ...]
    codes: Codes
    sizes: Tensor
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        lengths = {block.name: block.length(self.sizes) for block in self.blocks}
        for name, length in lengths.items():
            rows, columns = self.codes[name].shape
            if rows != len(self.sizes) or (rows and columns < int(length.max())):
                raise ValueError(
                    f"block '{name}' has {rows} x {columns} codes for {len(self.sizes)} examples "
                    f"of up to {max(length.tolist(), default=0)} elements"
                )
        if bool((torch.stack(list(lengths.values())).sum(0) < 1).any()):
            raise ValueError("an example has no elements")

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def largest(self) -> int:
        """Elements of the largest example, all blocks together."""
        size = self.sizes.max().view(1)
        return sum(int(block.length(size)) for block in self.blocks)

    def drawn(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """The same as ``batch``, augmented if the data can be; on the CPU."""
        batch = self.batch(indices)
        return batch if self.augment is None else self.augment(batch, generator)

    def batch(self, indices: Tensor) -> Batch:
        """The examples at ``indices`` (B,), trimmed to the longest of them."""
        sizes = self.sizes[indices]
        mask = masks(self.blocks, sizes)
        codes = {
            name: torch.where(m, self.codes[name][indices, : m.shape[1]].long(), 0)
            for name, m in mask.items()
        }
        return Batch(codes, mask, sizes)

    def some(self, count: int) -> Tensor:
        """Indices of ``count`` examples from everywhere, or of all; always the same, (n,) int64."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count]

    def frequencies(self) -> dict[str, Tensor]:
        """Relative frequency of each category over all elements, block name to (K,) float.

        All are equally frequent in a block that has no elements.
        """
        counts = {
            block.name: torch.zeros(block.categories, dtype=torch.int64) for block in self.blocks
        }
        for start in range(0, len(self), _ROWS):
            batch = self.batch(torch.arange(start, min(start + _ROWS, len(self))))
            for block in self.blocks:
                codes = batch.codes[block.name][batch.mask[block.name]]
                counts[block.name] += torch.bincount(codes, minlength=block.categories)
        return {
            name: count / count.sum() if count.any() else torch.ones(len(count)) / len(count)
            for name, count in counts.items()
        }


@dataclass(frozen=True)
class SizeDistribution:
    """The empirical distribution p(n) of example sizes; ``counts[n]`` examples have size ``n``.

    Attributes:
        counts: Number of training examples of each size, (n_max + 1,).
    """

    counts: Tensor

    def __post_init__(self) -> None:
        if self.counts.ndim != 1 or self.counts.min() < 0 or self.counts.sum() <= 0:
            raise ValueError("size counts must be one row of non-negative numbers, not all zero")

    @classmethod
    def of(cls, sizes: Tensor) -> SizeDistribution:
        """The histogram of the given sizes, (N,) int64."""
        return cls(torch.bincount(sizes))

    @property
    def largest(self) -> int:
        """The largest size with positive probability."""
        return int(self.counts.nonzero().max())

    def log_prob(self, sizes: Tensor) -> Tensor:
        """log p(n) in nats, (B,); -inf for sizes never seen."""
        log_p = (self.counts / self.counts.sum()).double().log()
        inside = sizes < len(log_p)
        return torch.where(inside, log_p[sizes.clamp(max=len(log_p) - 1)], -torch.inf).float()

    def quantile(self, uniform: Tensor) -> Tensor:
        """Sizes drawn by inverting the distribution function at ``uniform`` in [0, 1), (B,)."""
        cdf = self.counts.double().cumsum(0)
        return torch.searchsorted(cdf, uniform.double() * cdf[-1], right=True)


@dataclass(frozen=True)
class Prior:
    """p(z_T), one factorized distribution per block; it also defines the states of the process.

    Attributes:
        probs: Block name to probabilities over the states, (S,). ``S = K`` when noise uses the
            categories of the data, ``S = K + 1`` when the last state is a mask.
        learned: Whether a forward process starts from these and learns them on.
    """

    probs: Mapping[str, Tensor]
    learned: bool = False

    def states(self, name: str) -> int:
        """Number of states ``S`` of a block."""
        return len(self.probs[name])

    @property
    def absorbing(self) -> bool:
        """Whether all of every block is on its last state, the mask."""
        return all(not p.requires_grad and float(p[-1]) == 1.0 for p in self.probs.values())

    def onehot(self, codes: Codes) -> dict[str, Tensor]:
        """States (B, n) as one-hot vectors, (B, n, S) float32."""
        return {
            name: torch.zeros(*x.shape, self.states(name), device=x.device).scatter_(
                -1, x.unsqueeze(-1), 1.0
            )
            for name, x in codes.items()
        }


def uniform_prior(blocks: Sequence[Block]) -> Prior:
    """Every category equally likely."""
    return Prior({b.name: torch.full((b.categories,), 1.0 / b.categories) for b in blocks})


def marginal_prior(frequencies: Mapping[str, Tensor]) -> Prior:
    """The categories as frequent as in the data, from frequencies or counts (K,) per block."""
    return Prior({name: p / p.sum() for name, p in frequencies.items()})


def absorbing_prior(blocks: Sequence[Block]) -> Prior:
    """One mask state after the data categories; everything is masked at t = T."""
    return Prior(
        {
            b.name: torch.nn.functional.one_hot(
                torch.tensor(b.categories), b.categories + 1
            ).float()
            for b in blocks
        }
    )


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """Categorical samples by inverting the distribution function.

    A state of probability zero is never drawn.

    Args:
        probs: Probabilities, (..., S).
        uniform: Numbers in [0, 1), (...).

    Returns:
        States, (...) int64.
    """
    cdf = probs.cumsum(-1)
    threshold = (uniform * cdf[..., -1]).unsqueeze(-1)
    return (cdf <= threshold).sum(-1).clamp(max=probs.shape[-1] - 1)


def total(values: Probs | Codes, mask: Masks) -> Tensor:
    """Sum of a per-element quantity over all valid elements of all blocks, (B, n) to (B,)."""
    return torch.stack([torch.where(mask[name], v, 0.0).sum(-1) for name, v in values.items()]).sum(
        0
    )


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the elements that exist; (B, n, C) and (B, n) to (B, C)."""
    exists = mask[..., None]
    found: Tensor = torch.where(exists, values, 0.0).sum(1) / exists.sum(1).clamp(min=1)
    return found
