"""Molecules as a domain: atoms and bonds are the two blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from rdkit import Chem
from torch import Tensor, nn

from molfldd.core.blocks import Block, Codes, Examples
from molfldd.domain import Data, Domain
from molfldd.molecules.codec import decode
from molfldd.molecules.datasets import MoleculeDataset, load_dataset, split, split_by_file
from molfldd.molecules.metrics import distinct, valid
from molfldd.molecules.network import GraphTransformer, GraphTransformerConfig
from molfldd.molecules.vocabulary import Vocabulary


@dataclass(frozen=True)
class MoleculeData:
    """Which molecules to train on.

    Attributes:
        name: A known data set (see ``molfldd datasets``).
        test_fraction: Share held out, by the hash of each SMILES.
        split: A JSON file of test molecules to use instead.
        split_convention: What the file's numbers mean: "gdb" ids or "rows" from 0.
    """

    name: str = "qm9"
    test_fraction: float = 0.1
    split: str | None = None
    split_convention: Literal["gdb", "rows"] = "gdb"

    def load(self) -> tuple[MoleculeDataset, MoleculeDataset]:
        """Training and test molecules."""
        dataset = load_dataset(self.name)
        if self.split is None:
            return split(dataset, self.test_fraction)
        return split_by_file(dataset, Path(self.split), self.split_convention)


def bond_count(sizes: Tensor) -> Tensor:
    """Unordered pairs of n atoms."""
    return sizes * (sizes - 1) // 2


@dataclass(frozen=True)
class Molecules(Domain):
    """Molecules over a vocabulary of atoms.

    Attributes:
        vocabulary: Element and charge of each atom category.
        largest: The largest number of atoms.
    """

    vocabulary: Vocabulary
    largest: int

    name = "molecules"
    DataConfig = MoleculeData
    NetworkConfig = GraphTransformerConfig

    @classmethod
    def load(cls, config: MoleculeData) -> Data:
        """Read (or take from the cache) and divide the molecules."""
        train, test = config.load()
        domain = cls(train.vocabulary, train.max_atoms)
        return Data(domain, domain.examples(train), domain.examples(test), train.fingerprint)

    def examples(self, dataset: MoleculeDataset) -> Examples:
        """Molecules as the core sees them."""
        codes = {"atoms": torch.from_numpy(dataset.atoms), "bonds": torch.from_numpy(dataset.bonds)}
        return Examples(self.blocks, codes, torch.from_numpy(dataset.sizes).long())

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Atoms (element and charge) and bonds (none, single, double, triple)."""
        return (
            Block("atoms", len(self.vocabulary), torch.Tensor.clone),
            Block("bonds", 4, bond_count),
        )

    def network(
        self,
        config: GraphTransformerConfig,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> nn.Module:
        """A graph transformer."""
        return GraphTransformer(config, self.largest, inputs, outputs)

    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[Chem.Mol]:
        """Unsanitized RDKit molecules."""
        atoms, bonds = codes["atoms"].numpy(), codes["bonds"].numpy()
        return [
            decode(atoms[row, :n], bonds[row, : n * (n - 1) // 2], self.vocabulary)
            for row, n in enumerate(sizes)
        ]

    def quality(self, decoded: Sequence[Chem.Mol]) -> dict[str, float]:
        """Share of valid and connected, and of distinct ones among the valid."""
        smiles = [valid(mol) for mol in decoded]
        kept = [entry for entry in smiles if entry is not None]
        return {
            "valid": len(kept) / max(1, len(decoded)),
            "unique": len(distinct(kept)) / max(1, len(kept)),
        }

    def to_json(self) -> dict[str, Any]:
        """Vocabulary and largest size."""
        return {"vocabulary": self.vocabulary.to_json(), "largest": self.largest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""
        return cls(Vocabulary.from_json(content["vocabulary"]), int(content["largest"]))
