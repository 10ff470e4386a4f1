"""How a batch of graphs lies in memory: padded to the largest, or packed without padding.

A layout turns the dense, masked blocks of atoms and pairs into the rows a network works on and
back, and offers what a layer needs to know of the graph: which molecule a row belongs to, attention
among the atoms of a molecule, and the two atoms of a pair. Everything else a layer does, it does
row by row.

Pairs (i, j), i < j, are numbered j (j - 1) / 2 + i, so a smaller molecule is a prefix of a larger
one in both blocks.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from molfldd.core.blocks import Masks
from molfldd.molecules.segments import Segments


class Layout(Protocol):
    """Shapes below: ``atoms`` and ``pairs`` stand for the leading dimensions of their rows.

    They are (B, n) and (B, P) when padded, (N,) and (M,) when packed, with N atoms and M pairs in
    the whole batch.
    """

    def pack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Dense blocks (B, n, ...) and (B, P, ...) as rows (atoms, ...) and (pairs, ...)."""

    def unpack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Rows back as dense blocks, (B, n, C) and (B, P, C'); anything finite at padding."""

    def over_atoms(self, molecules: Tensor) -> Tensor:
        """What belongs to molecules (B, 1, C), for each atom: broadcastable to (atoms, C)."""

    def over_pairs(self, molecules: Tensor) -> Tensor:
        """What belongs to molecules (B, 1, C), for each pair: broadcastable to (pairs, C)."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, pairs: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attention of every atom to the atoms of its molecule, itself included.

        Args:
            q: Queries, (atoms, H, D).
            k: Keys, (atoms, H, D).
            v: Values, (atoms, H, D).
            pairs: Features that are averaged along with the values, (pairs, C).
            bias: Of the pair of two atoms on their attention logit, (pairs, H).

        Returns:
            Averages of values (atoms, H D) and of features of pairs (atoms, H C). An atom and
            itself are no pair: bias and features are zero.
        """

    def endpoints(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Features (atoms, C) of the atoms i and j of every pair, (pairs, C) each."""

    def triangles(self, a: Tensor, b: Tensor) -> Tensor:
        """What every pair (i, j) hears of its triangles: over all k, a_ik b_kj + b_ik a_kj.

        Args:
            a: Features of pairs, (pairs, C).
            b: Features of pairs, (pairs, C).

        Returns:
            The sum over the other atoms k of the molecule, divided by the square root of its
            number of atoms, (pairs, C).
        """


class Dense:
    """Every molecule is padded to the largest of the batch; all rows (B, n) and (B, P) are used.

    Args:
        mask: Atoms and bonds that exist, (B, n) and (B, P).
    """

    def __init__(self, mask: Masks) -> None:
        exists = mask["atoms"]
        self._table = pair_table(exists.shape[1], exists.device)
        self._ends = pair_endpoints(exists.shape[1], exists.device)
        self._bias = torch.where(exists, 0.0, -1e9)[:, None, None]
        self._pairs = mask["bonds"][..., None]
        self._root = exists.sum(-1).sqrt()[:, None, None, None]

    def pack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The same tensors."""
        return atoms, pairs

    def unpack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The same tensors."""
        return atoms, pairs

    def over_atoms(self, molecules: Tensor) -> Tensor:
        """The same tensor (B, 1, C)."""
        return molecules

    def over_pairs(self, molecules: Tensor) -> Tensor:
        """The same tensor (B, 1, C)."""
        return molecules

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, pairs: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """By matrices over atoms (n, n); see ``Layout``."""
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        neighbours = as_matrix(pairs, self._table)
        pair_bias = as_matrix(bias, self._table)
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = torch.softmax(logits + pair_bias.permute(0, 3, 1, 2) + self._bias, -1)
        from_atoms = (weights @ v).transpose(1, 2).flatten(-2)
        from_pairs = (weights.transpose(1, 2) @ neighbours.to(weights.dtype)).flatten(-2)
        return from_atoms, from_pairs

    def endpoints(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, C) to (B, P, C) twice."""
        i, j = self._ends
        return atoms.index_select(1, i), atoms.index_select(1, j)

    def triangles(self, a: Tensor, b: Tensor) -> Tensor:
        """By products of matrices over atoms (n, n); see ``Layout``."""
        left, right = (
            as_matrix(rows, self._table).permute(0, 3, 1, 2) for rows in (a * self._pairs, b)
        )
        product = left @ right / self._root
        i, j = self._ends
        return (product + product.transpose(-1, -2))[:, :, i, j].transpose(1, 2)


class Packed:
    """Atoms and pairs of all molecules one after another, (N,) and (M,), without padding.

    Attention runs over *edges*: all ordered pairs of atoms of one molecule, an atom with itself
    included, sorted by the atom that attends.

    Args:
        mask: Atoms and bonds that exist, (B, n) and (B, P); padding is at the end.
    """

    def __init__(self, mask: Masks) -> None:
        self._mask = mask
        exists = mask["atoms"]
        sizes = exists.sum(-1)
        pair_counts = mask["bonds"].sum(-1)
        first_atom = sizes.cumsum(0) - sizes
        first_pair = pair_counts.cumsum(0) - pair_counts
        self._molecules = exists.nonzero()[:, 0]
        self._pair_molecules, pair = mask["bonds"].nonzero().unbind(-1)
        offset = first_atom[self._pair_molecules]
        self._ends = tuple(
            offset + end[pair] for end in pair_endpoints(exists.shape[1], pair.device)
        )
        molecule, i, j = (exists[:, :, None] & exists[:, None]).nonzero().unbind(-1)
        self._edges = Segments.of(sizes[self._molecules])
        self._sources = first_atom[molecule] + j
        table = pair_table(exists.shape[1], exists.device)
        self._edge_pairs = torch.where(i == j, len(pair), first_pair[molecule] + table[i, j])
        self._sizes = sizes[self._pair_molecules]

    def pack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, ...) to (N, ...) and (B, P, ...) to (M, ...)."""
        return atoms[self._mask["atoms"]], pairs[self._mask["bonds"]]

    def unpack(self, atoms: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) to (B, n, C) and (M, C') to (B, P, C') with zeros at padding."""
        return spread(atoms, self._mask["atoms"]), spread(pairs, self._mask["bonds"])

    def over_atoms(self, molecules: Tensor) -> Tensor:
        """(B, 1, C) to (N, C)."""
        return molecules[:, 0].index_select(0, self._molecules)

    def over_pairs(self, molecules: Tensor) -> Tensor:
        """(B, 1, C) to (M, C)."""
        return molecules[:, 0].index_select(0, self._pair_molecules)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, pairs: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """By reductions over the edges of each atom; see ``Layout``."""
        queries = q.index_select(0, self._edges.index)
        logits = (queries * k.index_select(0, self._sources)).sum(-1) / q.shape[-1] ** 0.5
        weights = self._edges.softmax(logits + self._along_edges(bias))
        values = weights[..., None] * v.index_select(0, self._sources)
        features = weights[..., None] * self._along_edges(pairs)[:, None]
        return self._edges.sum(values).flatten(-2), self._edges.sum(features).flatten(-2)

    def _along_edges(self, pairs: Tensor) -> Tensor:
        """Pairs (M, C) for every edge; zero for an atom with itself."""
        return with_zero(pairs, 0).index_select(0, self._edge_pairs)

    def endpoints(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) to (M, C) twice."""
        i, j = self._ends
        return atoms.index_select(0, i), atoms.index_select(0, j)

    def triangles(self, a: Tensor, b: Tensor) -> Tensor:
        """By sums over the third atoms of each pair; see ``Layout``."""
        thirds, first, second = self._triangles
        a, b = with_zero(a, 0), with_zero(b, 0)
        left, right = (
            a.index_select(0, one) * b.index_select(0, other)
            for one, other in ((first, second), (second, first))
        )
        return thirds.sum(left + right) / self._sizes.sqrt()[:, None]

    @cached_property
    def _triangles(self) -> tuple[Segments, Tensor, Tensor]:
        """The atoms k of each pair's molecule, and the pairs of i and k and of k and j."""
        thirds = Segments.of(self._sizes)
        k = torch.arange(len(thirds.index), device=thirds.index.device) - thirds.ptr[thirds.index]
        first, second = (
            self._edge_pairs[self._edges.ptr[end][thirds.index] + k] for end in self._ends
        )
        return thirds, first, second


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows (R, C) at the R true entries of ``mask`` (B, n), zeros elsewhere, (B, n, C)."""
    dense = rows.new_zeros(*mask.shape, rows.shape[-1])
    dense[mask] = rows
    return dense


def pair_endpoints(atoms: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The two atoms i < j of every pair, (P,) each, in the order of j (j - 1) / 2 + i."""
    j, i = torch.tril_indices(atoms, atoms, -1, device=device)
    return i, j


def pair_table(atoms: int, device: torch.device | None = None) -> Tensor:
    """Index of the pair of any two atoms, (n, n); the diagonal holds P, one past the last."""
    i, j = pair_endpoints(atoms, device)
    table = torch.full((atoms, atoms), len(i), device=device)
    table[i, j] = table[j, i] = torch.arange(len(i), device=device)
    return table


def as_matrix(pairs: Tensor, table: Tensor) -> Tensor:
    """Pairs (B, P, C) as a symmetric matrix over atoms with a zero diagonal, (B, n, n, C)."""
    flat = with_zero(pairs, 1).index_select(1, table.flatten())
    return flat.reshape(len(pairs), *table.shape, pairs.shape[-1])


def with_zero(rows: Tensor, dim: int) -> Tensor:
    """One more row, of zeros, at the end of the dimension."""
    shape = [1 if d == dim else size for d, size in enumerate(rows.shape)]
    return torch.cat([rows, rows.new_zeros(shape)], dim)
