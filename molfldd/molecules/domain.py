"""Molecules as a domain: atoms and bonds are the two blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from rdkit import Chem
from rich.console import Console
from torch import Tensor, nn

from molfldd.core.blocks import Augmentation, Batch, Block, Codes, Examples
from molfldd.core.joint import JointDraw, balanced
from molfldd.domain import Data, Domain, Writer
from molfldd.errors import UsageError
from molfldd.molecules.codec import canonical_smiles, decode, parse_smiles
from molfldd.molecules.composition import composition, parts
from molfldd.molecules.datasets import (
    DATASETS,
    FILE,
    load_dataset,
    load_file,
)
from molfldd.molecules.files import (
    WRITERS,
    looks_like_molecules,
    read_molecules,
    read_smiles_aloud,
    unit,
)
from molfldd.molecules.metrics import distinct, valid
from molfldd.molecules.network import GraphTransformer, GraphTransformerConfig, pair_positions
from molfldd.molecules.parsing import MAX_ATOMS, Rules
from molfldd.molecules.recoding import recoded
from molfldd.molecules.splits import split, split_by_file
from molfldd.molecules.store import MoleculeDataset
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.report import Comparison, Report


@dataclass(frozen=True)
class MoleculeData:
    """Which molecules to train on.

    Attributes:
        name: A known data set (see ``molfldd datasets``).
        path: A file to read instead: a copy of that data set, or molecules of your own.
        smiles_column: Of a table in that file; by default "smiles" or else the first.
        max_atoms: Larger molecules of that file are left out.
        atoms: Molecules of that file with others are left out; by default it decides itself which
            atoms there are. Element and charge: C, N+, O-.
        test_fraction: Share held out, by the hash of each SMILES.
        split: What is held out: by default what is usual for the data set; "hash" for
            `test_fraction`; or a JSON file of test molecules.
        split_convention: What the file's numbers mean: "gdb" ids or "rows" from 0.
    """

    name: str = "qm9"
    path: str | None = None
    smiles_column: str | None = None
    max_atoms: int | None = None
    atoms: tuple[str, ...] | None = None
    test_fraction: float = 0.1
    split: str | None = None
    split_convention: Literal["gdb", "rows"] = "gdb"
    order: InitVar[str | None] = None

    def __post_init__(self, order: str | None) -> None:
        if order not in (None, "canonical"):  # which recipes had before network.identity could say
            raise ValueError(f"there is no order of atoms any more; set network.identity={order}")
        if self.max_atoms is not None and not 1 <= self.max_atoms <= MAX_ATOMS:
            raise ValueError(f"max_atoms must be between 1 and {MAX_ATOMS}, got {self.max_atoms}")

    def load(self) -> tuple[MoleculeDataset, MoleculeDataset]:
        """Training and test molecules.

        Raises:
            UsageError: for a file that cannot be read or divided, or that is not named.
            MolflddError: if the molecules cannot be had.
        """
        return self.divide(self.load_all())

    def load_all(self) -> MoleculeDataset:
        """The molecules before they are divided; raises as ``load`` does."""
        if self.path is not None:
            return load_file(Path(self.path), self.smiles_column, self._rules(), self.name)
        if self.name != FILE and (self.smiles_column or self.max_atoms or self.atoms):
            raise UsageError(
                f"smiles_column, max_atoms and atoms are for files, and {self.name} is none; "
                "leave them out, or name a file by the config key 'data.path'"
            )
        return load_dataset(self.name)

    def _rules(self) -> Rules:
        vocabulary = None if self.atoms is None else Vocabulary.from_json(self.atoms)
        return Rules(self.max_atoms or MAX_ATOMS, vocabulary)

    def divide(self, dataset: MoleculeDataset) -> tuple[MoleculeDataset, MoleculeDataset]:
        """Training and test part of the molecules that ``load_all`` gave; raises as ``load``."""
        parts = self._parts(dataset)
        if not all(map(len, parts)):
            raise UsageError(
                f"{dataset.name} has {len(dataset):,} usable molecules, too few to hold out "
                f"{self.test_fraction:.0%} of them; give more, or another data.test_fraction"
            )
        return parts

    def _parts(self, dataset: MoleculeDataset) -> tuple[MoleculeDataset, MoleculeDataset]:
        if self.split is None and dataset.name in DATASETS:
            return DATASETS[dataset.name].divide(dataset, self.test_fraction)
        if self.split is None or self.split == "hash":
            return split(dataset, self.test_fraction)
        return split_by_file(dataset, Path(self.split), self.split_convention)

    def show_report(self, dataset: MoleculeDataset) -> None:
        """Say on stderr what was read, skipped and why, and what is left, unless all was kept."""
        report = dataset.report
        if report is None or (self.path is None and not report.skipped):
            return
        console = Console(stderr=True, highlight=False)
        console.print(report.table(dataset.name, unit(Path(self.path or ""))))
        console.print(
            f"atoms {' '.join(dataset.vocabulary.names)}; {dataset.sizes.min()} to "
            f"{dataset.sizes.max()} per molecule, {dataset.sizes.mean():.1f} on average",
            soft_wrap=True,
            markup=False,
        )


def comparison_with(name: str, own: MoleculeData | None = None) -> Comparison:
    """What a name stands for: a data set, a file of SMILES (no training molecules) or "none".

    Args:
        name: The name; of a data set that comes in parts also NAME:PART instead of its test part.
        own: The data of the model that is evaluated; its split is used if it is of that name.

    Raises:
        UsageError: for another name, or for a file that cannot be read.
    """
    if name == "none":
        return Comparison(None, None)
    known = [dataset for dataset in DATASETS if dataset != FILE or own]
    dataset, _, part = name.partition(":")
    if dataset in known:
        return _comparison_with_data(
            own if own and own.name == dataset else MoleculeData(dataset), part
        )
    if Path(name).suffix:
        return Comparison(read_smiles_aloud(Path(name)), None)
    raise UsageError(
        f"there is no reference '{name}'; known are: {', '.join(known)}, none, "
        "or give the path of a file of SMILES"
    )


def _comparison_with_data(data: MoleculeData, part: str) -> Comparison:
    """With the part of that name, or with what is held out; raises as ``comparison_with``."""
    whole = data.load_all()
    train, test = data.divide(whole)
    if part and part not in whole.parts:
        raise UsageError(
            f"{whole.name} has no part '{part}'; known are: {', '.join(whole.parts) or 'none'}"
        )
    reference = whole.part(part) if part else test
    computed = DATASETS[data.name].statistics if data.name in DATASETS else None
    if computed and data.split is None and data.path is None:
        from molfldd.molecules.fcd import remember

        remember(reference.smiles, partial(computed, part or "test"))
    return Comparison(reference.smiles, train.smiles)


def bond_count(sizes: Tensor) -> Tensor:
    """Unordered pairs of n atoms."""
    return sizes * (sizes - 1) // 2


def reordered(batch: Batch, generator: torch.Generator) -> Batch:
    """The same molecules with their atoms, and with them their bonds, in a random order."""
    exists = batch.mask["atoms"]
    order = torch.rand(exists.shape, generator=generator).masked_fill(~exists, 2.0).argsort(-1)
    codes = {
        "atoms": batch.codes["atoms"].gather(1, order),
        "bonds": batch.codes["bonds"].gather(1, pair_positions(order)),
    }
    return Batch(codes, batch.mask, batch.sizes)


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
    plural = "molecules"
    judgement = "valid"
    joint = "balanced"
    own = "molecules"
    DataConfig = MoleculeData
    NetworkConfig = GraphTransformerConfig

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """SMILES in lines or in a column, or records of an SDF."""
        return looks_like_molecules(path)

    @classmethod
    def load(cls, config: MoleculeData) -> Data:
        """Read (or take from the cache) and divide the molecules."""
        dataset = config.load_all()
        rank_zero_only(config.show_report)(dataset)
        train, test = config.divide(dataset)
        domain = cls(train.vocabulary, train.max_atoms)
        return Data(domain, domain.examples(train), domain.examples(test), train.fingerprint)

    def examples(self, dataset: MoleculeDataset) -> Examples:
        """Molecules as the core sees them, in canonical order."""
        codes = {"atoms": torch.from_numpy(dataset.atoms), "bonds": torch.from_numpy(dataset.bonds)}
        return Examples(self.blocks, codes, torch.from_numpy(dataset.sizes).long())

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Atoms (element and charge) and bonds (none, single, double, triple)."""
        return (
            Block("atoms", len(self.vocabulary), torch.Tensor.clone),
            Block("bonds", 4, bond_count),
        )

    def joint_draws(self) -> Mapping[str, Mapping[str, JointDraw]]:
        """Balanced are the bonds: those of an atom exclude each other, atoms do not."""
        return {**super().joint_draws(), "balanced": {"bonds": balanced}}

    def carried_over(
        self, state: Mapping[str, Tensor], other: Domain
    ) -> Mapping[str, Tensor] | None:
        """Atoms by their names, whatever their order; new ones say nothing at first."""
        if not isinstance(other, Molecules):
            return None
        return recoded(state, self.vocabulary.names, other.vocabulary.names)

    def network(
        self,
        config: GraphTransformerConfig,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> nn.Module:
        """A graph transformer."""
        return GraphTransformer(config, self.largest, inputs, outputs)

    def augmentation(self, config: GraphTransformerConfig) -> Augmentation | None:
        """Another order of the atoms each time, for random identities."""
        return reordered if config.identity == "random" else None

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

    @property
    def elements(self) -> tuple[str, ...]:
        """The chemical elements of the vocabulary."""
        return tuple(dict.fromkeys(symbol for symbol, _ in self.vocabulary.atoms))

    def statistics(self, example: Chem.Mol) -> dict[str, float] | None:
        """The ``composition`` and the ``parts`` of a valid molecule."""
        mol = self.usable(example)
        return None if mol is None else {**composition(mol, self.elements), **parts(mol)}

    def usable(self, example: Chem.Mol) -> Chem.Mol | None:
        """The molecule of its canonical SMILES; None unless valid by the headline definition."""
        smiles = valid(example)
        return None if smiles is None else parse_smiles(smiles)

    def text(self, example: Chem.Mol) -> str:
        """Stereo-free canonical SMILES."""
        return canonical_smiles(example)

    @classmethod
    def writers(cls) -> Mapping[str, Writer]:
        """See ``molfldd.molecules.files``."""
        return WRITERS

    def evaluate(
        self,
        draws: Iterable[Sequence[Chem.Mol]],
        data: MoleculeData,
        metrics: Mapping[str, Any],
        reference: str | None,
    ) -> Report:
        """Validity, uniqueness, novelty and FCD; the reference as for ``evaluate_file``."""
        from molfldd.molecules import evaluation

        return evaluation.evaluate(draws, comparison_with(reference or data.name, data))

    @classmethod
    def evaluate_file(cls, path: Path, reference: str | None) -> Report:
        """The same of molecules in a file, see ``molfldd.molecules.files.read_molecules``.

        The reference is the name of a data set, a file of SMILES (no novelty then) or "none".
        """
        from molfldd.molecules import evaluation

        molecules = read_molecules(path)
        return evaluation.evaluate([molecules], comparison_with(reference or "none"))

    def to_json(self) -> dict[str, Any]:
        """Vocabulary and largest size."""
        return {"vocabulary": self.vocabulary.to_json(), "largest": self.largest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""
        return cls(Vocabulary.from_json(content["vocabulary"]), int(content["largest"]))
