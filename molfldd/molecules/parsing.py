"""From SMILES to graphs, many at a time and on all processors, without holding all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molfldd.molecules.codec import Codes, NotRepresentable, TypedGraph, parse_smiles, typed_graph
from molfldd.molecules.report import EXAMPLES, Example, ParseReport, shortened
from molfldd.molecules.vocabulary import AtomType, Vocabulary, atom_name
from molfldd.processes import Processes, processors
from molfldd.splitting import content_key

MAX_ATOMS = 255
"""Sizes are stored in a byte."""

CHUNK = 2000
"""Molecules that a process parses at a time."""

Entry = tuple[int, str]
"""Number of a molecule in its source, and its SMILES, empty where there is none."""


@dataclass(frozen=True)
class Rules:
    """Which molecules are left out.

    Attributes:
        max_atoms: Those with more atoms, hydrogens not counted.
        vocabulary: Those with atoms outside it; None leaves out none for its atoms.
    """

    max_atoms: int = MAX_ATOMS
    vocabulary: Vocabulary | None = None


class Parsed(NamedTuple):
    """m molecules as graphs side by side, without padding, in their order.

    `kinds` are the K atom types found, `atoms` (sum of sizes,) their positions in `kinds` from 1
    on, `bonds` (sum of pairs,) the bond codes, `sizes` (m,) atoms per molecule, `smiles` the m
    canonical SMILES, `keys` (m,) their hashes, `numbers` (m,) those of the entries.
    """

    kinds: tuple[AtomType, ...]
    atoms: NDArray[np.uint16]
    bonds: Codes
    sizes: Codes
    smiles: list[str]
    keys: NDArray[np.uint64]
    numbers: NDArray[np.int64]
    report: ParseReport


def parse_entry(smiles: str, rules: Rules) -> tuple[str, TypedGraph] | str:
    """Canonical SMILES and graph of a molecule, or the reason to leave it out."""
    if not smiles:
        return "without a SMILES"
    mol = parse_smiles(smiles)
    if mol is None:
        return "not a SMILES"
    if len(Chem.GetMolFrags(mol)) > 1:
        return "in several fragments (salts, mixtures)"
    too_large = f"with more than {rules.max_atoms} atoms"
    if mol.GetNumHeavyAtoms() > rules.max_atoms:
        return too_large
    try:
        canonical, graph = typed_graph(mol)
    except NotRepresentable:
        return "with radicals, isotopes, map numbers, wildcards or special bonds"
    if len(graph.atoms) > rules.max_atoms:
        return too_large
    return _outside(graph, rules.vocabulary) or (canonical, graph)


def _outside(graph: TypedGraph, vocabulary: Vocabulary | None) -> str | None:
    """The reason to leave out a graph with an atom that a vocabulary does not have."""
    if vocabulary is None:
        return None
    unknown = next((atom for atom in graph.atoms if atom not in vocabulary.atoms), None)
    return None if unknown is None else f"with {atom_name(unknown)}, not in the vocabulary"


@dataclass
class _Collector:
    """Graphs and reasons, one after another."""

    smiles: list[str] = field(default_factory=list)
    graphs: list[TypedGraph] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, number: int, text: str, result: tuple[str, TypedGraph] | str) -> None:
        """Take a graph, or count why there is none."""
        if isinstance(result, str):
            self.skipped[result] += 1
            if self.skipped[result] <= EXAMPLES:
                self.examples.setdefault(result, []).append((number, shortened(text)))
            return
        self.smiles.append(result[0])
        self.graphs.append(result[1])
        self.numbers.append(number)

    def packed(self) -> Parsed:
        """All of it in flat arrays."""
        atoms = [atom for graph in self.graphs for atom in graph.atoms]
        kinds = tuple(dict.fromkeys(atoms))
        position = {kind: place for place, kind in enumerate(kinds, start=1)}
        report = ParseReport(
            len(self.graphs) + self.skipped.total(),
            len(self.graphs),
            dict(self.skipped),
            self.examples,
        )
        return Parsed(
            kinds,
            np.array([position[atom] for atom in atoms], np.uint16),
            np.concatenate([np.zeros(0, np.uint8), *(graph.bonds for graph in self.graphs)]),
            np.array([len(graph.atoms) for graph in self.graphs], np.uint8),
            self.smiles,
            np.array([content_key(smiles) for smiles in self.smiles], np.uint64),
            np.array(self.numbers, np.int64),
            report,
        )


def parse_chunk(entries: Sequence[Entry], rules: Rules) -> Parsed:
    """Graphs of the molecules that can be used, and a report of the others."""
    collector = _Collector()
    for number, smiles in entries:
        collector.add(number, smiles, parse_entry(smiles, rules))
    return collector.packed()


def parse_all(entries: Iterable[Entry], rules: Rules) -> Iterator[Parsed]:
    """`parse_chunk` of all entries in their order, chunk by chunk.

    Works on all processors that this process may use if there is more than one chunk; only a few
    chunks are in memory at a time.

    Raises:
        MolflddError: if one of the processes is ended from outside.
    """
    chunks = _chunks(entries)
    first = list(islice(chunks, 2))
    parse = partial(parse_chunk, rules=rules)
    workers = processors()
    if workers == 1 or len(first) < 2:
        yield from map(parse, chain(first, chunks))
        return
    with Processes(workers) as processes:
        yield from processes.map(parse, chain(first, chunks))


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    iterator = iter(entries)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
