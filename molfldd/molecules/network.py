"""A graph transformer over atoms and bonds.

Atoms are nodes; every unordered pair of atoms is a bond variable with a state of its own. Atoms
attend to each other with a bias and a message from their pair; a pair is updated from its two
atoms, and from the triangles it is part of, symmetrically. Permuting the atoms thus permutes the
output, unless the network is told who is who: unless ``identity="none"`` each atom and each pair
gets an embedding of its position in the order the atoms come in. How rows of atoms and pairs lie in
memory is the layout's affair and changes no number; see ``molfldd.molecules.layouts``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Masks, Probs
from molfldd.molecules.layouts import Dense, Layout, Packed, pair_endpoints
from molfldd.nn.layers import (
    Modulation,
    ResidualLayer,
    TimeEmbedding,
    feed_forward,
    small_embedding,
    zero_linear,
)

LAYOUTS: Mapping[str, Callable[[Masks], Layout]] = {"dense": Dense, "packed": Packed}


@dataclass(frozen=True)
class GraphTransformerConfig:
    """Size of the network.

    Attributes:
        layers: Number of transformer layers.
        width: Channels of an atom.
        pair_width: Channels of a pair.
        heads: Attention heads; must divide ``width``.
        identity: What tells atoms apart: their position in the order of the "canonical" SMILES, a
            "random" one, another each time a molecule is seen, so that all numberings of the atoms
            are learned alike, or "none", which keeps the network equivariant.
        layout: "dense" pads every molecule to the largest of its batch, "packed" computes without
            padding, by segment reductions; parameters and results are the same.
        triangles: Channels by which a pair hears of the triangles it is part of; 0 for none.
    """

    layers: int = 4
    width: int = 128
    pair_width: int = 32
    heads: int = 8
    identity: Literal["canonical", "random", "none"] = "canonical"
    layout: Literal["dense", "packed"] = "dense"
    triangles: int = 0

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.pair_width, self.heads) < 1:
            raise ValueError("layers, width, pair_width and heads must be at least 1")
        if self.triangles < 0:
            raise ValueError(f"triangles must be at least 0, got {self.triangles}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")


class GraphLayer(ResidualLayer):
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
        self.to_triangles = nn.Linear(pair, 2 * config.triangles) if config.triangles else None
        self.pairs_forward = nn.Sequential(
            nn.Linear(3 * pair + config.triangles, 4 * pair), nn.GELU(), nn.Linear(4 * pair, pair)
        )

    def outputs(self) -> list[nn.Module]:
        """See ``ResidualLayer``."""
        return [self.merge, self.atoms_forward[-1], self.pairs_forward[-1]]

    def forward(
        self, atoms: Tensor, pairs: Tensor, condition: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """Atoms (atoms, width) and pairs (pairs, pair_width), both updated.

        Args:
            atoms: Features of atoms, in rows of the layout.
            pairs: Features of pairs, in rows of the layout.
            condition: (B, width).
            layout: How the rows belong together.
        """
        attention, forward = (
            [layout.over_atoms(part) for part in triple]
            for triple in self.modulate_atoms(condition)
        )
        scale, shift, gate = attention
        x = self.norm_attention(atoms) * scale + shift
        atoms = atoms + gate * self.attend(x, self.norm_pairs(pairs), layout)
        scale, shift, gate = forward
        x = self.norm_atoms(atoms) * scale + shift
        atoms = atoms + gate * self.atoms_forward(x)
        scale, shift, gate = (layout.over_pairs(part) for part in self.modulate_pairs(condition)[0])
        e = self.norm_pairs(pairs) * scale + shift
        heard = [e, self.endpoints(self.norm_atoms(atoms), layout)]
        if self.to_triangles is not None:
            heard.append(layout.triangles(*self.to_triangles(e).chunk(2, -1)))
        pairs = pairs + gate * self.pairs_forward(torch.cat(heard, -1))
        return atoms, pairs

    def attend(self, x: Tensor, pairs: Tensor, layout: Layout) -> Tensor:
        """Attention over atoms; pairs bias the weights and are averaged with them."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)) for y in self.qkv(x).chunk(3, -1))
        merged: Tensor = self.merge(
            torch.cat(layout.attend(q, k, v, pairs, self.pair_bias(pairs)), -1)
        )
        return merged

    def endpoints(self, atoms: Tensor, layout: Layout) -> Tensor:
        """Symmetric features of the two atoms of each pair: sum and product, (pairs, 2 pair)."""
        i, j = layout.endpoints(self.to_pair(atoms))
        (a_i, b_i), (a_j, b_j) = i.chunk(2, -1), j.chunk(2, -1)
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
        self.embed_size = small_embedding(largest + 1, width)
        self.tells_apart = config.identity != "none"
        if self.tells_apart:
            self.atom_identity = small_embedding(largest, width)
            self.pair_identity = small_embedding(largest * (largest - 1) // 2, pair)
        self.layout = LAYOUTS[config.layout]
        self.layers = nn.ModuleList(GraphLayer(config) for _ in range(config.layers))
        self.norm_atoms = nn.LayerNorm(width)
        self.norm_pairs = nn.LayerNorm(pair)
        self.read_atoms = zero_linear(width, outputs["atoms"])
        self.read_pairs = zero_linear(pair, outputs["bonds"])
        self.read_ends = zero_linear(width, outputs["bonds"])

    @property
    def readouts(self) -> tuple[nn.Linear, ...]:
        """The last layers: of atoms, of pairs, and of the two atoms of each pair."""
        return self.read_atoms, self.read_pairs, self.read_ends

    def forward(
        self, values: Probs, mask: Masks, time: Tensor, positions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features of every atom and bond.

        Args:
            values: "atoms" (B, n, S) and "bonds" (B, n (n - 1) / 2, S).
            mask: Atoms and bonds that exist.
            time: t / T, and which walk it is of (``Clock.reading``), (B,).
            positions: The number that each atom goes by, (B, n) int64; its place if not given.
                Without identity it has no effect.

        Returns:
            "atoms" (B, n, C) and "bonds" (B, P, C'), 0 for those that do not exist.
        """
        exists = mask["atoms"]
        layout = self.layout(mask)
        condition = self.embed_time(time) + self.embed_size(exists.sum(-1))
        atoms, pairs = layout.pack(values["atoms"], values["bonds"])
        atoms = self.embed_atoms(atoms) + layout.over_atoms(condition[:, None])
        pairs = self.embed_pairs(pairs)
        if self.tells_apart:
            if positions is None:
                positions = torch.arange(exists.shape[1], device=exists.device).expand_as(exists)
            atom, pair = layout.pack(positions, pair_positions(positions))
            atoms = atoms + self.atom_identity(atom)
            pairs = pairs + self.pair_identity(pair)
        condition = torch.nn.functional.silu(condition)
        for layer in self.layers:
            atoms, pairs = layer(atoms, pairs, condition, layout)
        atoms, pairs = layout.unpack(self.norm_atoms(atoms), self.norm_pairs(pairs))
        i, j = pair_endpoints(atoms.shape[1], atoms.device)
        ends = self.read_ends(atoms)
        bonds = self.read_pairs(pairs) + ends[:, i] + ends[:, j]
        read = {"atoms": self.read_atoms(atoms), "bonds": bonds}
        return {name: torch.where(mask[name][..., None], y, 0.0) for name, y in read.items()}


def pair_positions(positions: Tensor) -> Tensor:
    """Number of each pair from those that its atoms go by, (B, n); (B, P)."""
    i, j = pair_endpoints(positions.shape[1], positions.device)
    a, b = positions[:, i], positions[:, j]
    high, low = torch.maximum(a, b), torch.minimum(a, b)
    return high * (high - 1) // 2 + low
