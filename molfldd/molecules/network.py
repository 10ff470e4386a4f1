"""A graph transformer over atoms and bonds.

Atoms are nodes; every unordered pair of atoms is a bond variable with a state of its own. Atoms
attend to each other with a bias and a message from their pair; a pair is updated from its two
atoms symmetrically. Permuting the atoms thus permutes the output, unless the network is told who
is who: with ``identity="canonical"`` each atom and each pair gets an embedding of its position in
the canonical order.

Pairs (i, j), i < j, are numbered j (j - 1) / 2 + i, so a smaller molecule is a prefix of a larger
one in both blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Masks, Probs
from molfldd.nn.layers import Modulation, TimeEmbedding, feed_forward, zero_linear


@dataclass(frozen=True)
class GraphTransformerConfig:
    """Size of the network.

    Attributes:
        layers: Number of transformer layers.
        width: Channels of an atom.
        pair_width: Channels of a pair.
        heads: Attention heads; must divide ``width``.
        identity: "canonical" tells atoms apart by their position in the order they come in,
            "none" keeps the network equivariant.
    """

    layers: int = 4
    width: int = 128
    pair_width: int = 32
    heads: int = 8
    identity: Literal["canonical", "none"] = "canonical"

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.pair_width, self.heads) < 1:
            raise ValueError("layers, width, pair_width and heads must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")


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
    padded = torch.nn.functional.pad(pairs, (0, 0, 0, 1))
    flat = padded.index_select(1, table.flatten())
    return flat.reshape(len(pairs), *table.shape, pairs.shape[-1])


class GraphLayer(nn.Module):
    """One layer: attention of atoms with their pairs, then feed-forward on atoms and on pairs."""

    def __init__(self, config: GraphTransformerConfig) -> None:
        super().__init__()
        width, pair, heads = config.width, config.pair_width, config.heads
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_atoms = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_pairs = nn.LayerNorm(pair, elementwise_affine=False)
        self.modulate_atoms = Modulation(width, width, 2)
        self.modulate_pairs = Modulation(width, pair, 1)
        self.qkv = nn.Linear(width, 3 * width)
        self.pair_bias = nn.Linear(pair, heads)
        self.merge = nn.Linear(width + heads * pair, width)
        self.atoms_forward = feed_forward(width, 3)
        self.to_pair = nn.Linear(width, 2 * pair)
        self.pairs_forward = nn.Sequential(
            nn.Linear(3 * pair, 4 * pair), nn.GELU(), nn.Linear(4 * pair, pair)
        )

    def forward(
        self, atoms: Tensor, pairs: Tensor, condition: Tensor, bias: Tensor, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Atoms (B, n, width) and pairs (B, P, pair_width), both updated.

        Args:
            atoms: Features of atoms.
            pairs: Features of pairs.
            condition: (B, width).
            bias: 0 for atoms that exist, a large negative number for padding, (B, 1, 1, n).
            table: See ``pair_table``.
        """
        (scale, shift, gate), (scale2, shift2, gate2) = self.modulate_atoms(condition)
        x = self.norm_attention(atoms) * scale + shift
        atoms = atoms + gate * self.attend(x, self.norm_pairs(pairs), bias, table)
        x = self.norm_atoms(atoms) * scale2 + shift2
        atoms = atoms + gate2 * self.atoms_forward(x)
        ((scale, shift, gate),) = self.modulate_pairs(condition)
        e = self.norm_pairs(pairs) * scale + shift
        pairs = pairs + gate * self.pairs_forward(
            torch.cat([e, self.endpoints(self.norm_atoms(atoms))], -1)
        )
        return atoms, pairs

    def attend(self, x: Tensor, pairs: Tensor, bias: Tensor, table: Tensor) -> Tensor:
        """Attention over atoms; pairs bias the weights and are averaged with them."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)
        )
        neighbours = as_matrix(pairs, table)
        pair_bias = as_matrix(self.pair_bias(pairs), table)
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = torch.softmax(logits + pair_bias.permute(0, 3, 1, 2) + bias, -1)
        from_atoms = (weights @ v).transpose(1, 2).flatten(-2)
        from_pairs = (weights.transpose(1, 2) @ neighbours.to(weights.dtype)).flatten(-2)
        merged: Tensor = self.merge(torch.cat([from_atoms, from_pairs], -1))
        return merged

    def endpoints(self, atoms: Tensor) -> Tensor:
        """Symmetric features of the two atoms of each pair: sum and product, (B, P, 2 pair)."""
        i, j = pair_endpoints(atoms.shape[1], atoms.device)
        features = self.to_pair(atoms)
        a_i, b_i = features.index_select(1, i).chunk(2, -1)
        a_j, b_j = features.index_select(1, j).chunk(2, -1)
        return torch.cat([a_i + a_j, b_i * b_j], -1)


class GraphTransformer(nn.Module):
    """Atoms and bonds in, features of atoms and bonds out; see the module.

    Args:
        config: Size of the network.
        largest: The largest number of atoms of any molecule.
        inputs: States of "atoms" and "bonds".
        outputs: Channels wanted for "atoms" and "bonds"; the last layers start at zero.
    """

    def __init__(
        self,
        config: GraphTransformerConfig,
        largest: int,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> None:
        super().__init__()
        width, pair = config.width, config.pair_width
        self.embed_atoms = nn.Linear(inputs["atoms"], width)
        self.embed_pairs = nn.Linear(inputs["bonds"], pair)
        self.embed_time = TimeEmbedding(width)
        self.embed_size = nn.Embedding(largest + 1, width)
        if config.identity == "canonical":
            self.atom_identity = nn.Embedding(largest, width)
            self.pair_identity = nn.Embedding(largest * (largest - 1) // 2, pair)
        self.identity = config.identity
        self.layers = nn.ModuleList(GraphLayer(config) for _ in range(config.layers))
        self.norm_atoms = nn.LayerNorm(width)
        self.norm_pairs = nn.LayerNorm(pair)
        self.read_atoms = zero_linear(width, outputs["atoms"])
        self.read_pairs = zero_linear(pair, outputs["bonds"])

    def forward(
        self, values: Probs, mask: Masks, time: Tensor, positions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features of every atom and bond.

        Args:
            values: "atoms" (B, n, S) and "bonds" (B, n (n - 1) / 2, S).
            mask: Atoms and bonds that exist.
            time: t / T, (B,).
            positions: Position of each atom in the canonical order, (B, n) int64; the order they
                come in if not given. Without identity it has no effect.

        Returns:
            "atoms" (B, n, C) and "bonds" (B, P, C').
        """
        exists = mask["atoms"]
        n = exists.shape[1]
        condition = self.embed_time(time) + self.embed_size(exists.sum(-1))
        atoms = self.embed_atoms(values["atoms"]) + condition[:, None]
        pairs = self.embed_pairs(values["bonds"])
        if self.identity == "canonical":
            if positions is None:
                positions = torch.arange(n, device=exists.device).expand(len(exists), n)
            atoms = atoms + self.atom_identity(positions)
            pairs = pairs + self.pair_identity(pair_positions(positions))
        bias = torch.where(exists, 0.0, -1e9)[:, None, None]
        table = pair_table(n, exists.device)
        condition = torch.nn.functional.silu(condition)
        for layer in self.layers:
            atoms, pairs = layer(atoms, pairs, condition, bias, table)
        return {
            "atoms": self.read_atoms(self.norm_atoms(atoms)),
            "bonds": self.read_pairs(self.norm_pairs(pairs)),
        }


def pair_positions(positions: Tensor) -> Tensor:
    """Number of each pair in the canonical order, from the positions of atoms (B, n); (B, P)."""
    i, j = pair_endpoints(positions.shape[1], positions.device)
    a, b = positions[:, i], positions[:, j]
    high, low = torch.maximum(a, b), torch.minimum(a, b)
    return high * (high - 1) // 2 + low
