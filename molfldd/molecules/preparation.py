"""From a source of SMILES to one memory-mapped cache file, with bounded memory.

The molecules are parsed chunk by chunk into a working folder beside the cache file; when the
vocabulary and the largest size are known, they are written out, padded, in their final order.
About 60 bytes per molecule are held in memory; everything else is on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from molfldd.errors import MolflddError
from molfldd.mapped import Pieces, write_mapped
from molfldd.messages import say
from molfldd.molecules.codec import num_pairs
from molfldd.molecules.parsing import Entry, Parsed, Rules, parse_all
from molfldd.molecules.ragged import Ragged, ranges
from molfldd.molecules.report import EXAMPLES, ParseReport, shortened
from molfldd.molecules.store import CACHE_FORMAT, SEAL_BYTES, seal_dataset
from molfldd.molecules.vocabulary import AtomType, Vocabulary
from molfldd.storage import unwritable_cache

REPEATED = "the same as an earlier one"
"""Why a molecule of a source of distinct ones is left out."""

_ROWS = 4096
"""Molecules written at a time."""

_MAX_KINDS = 2**16 - 1


@dataclass(frozen=True)
class Source:
    """Where molecules come from.

    Attributes:
        name: What messages and the data set are called.
        version: What the content depends on, for the name of the cache file.
        parts: The molecules of each part, such as a training and a test part, by its name. They
            are read in this order, each when its turn comes.
        rules: Which molecules are left out.
        distinct: Leave out repetitions, and order by the hash of the SMILES rather than as in the
            source, so that a split by hash consists of two consecutive ranges.
    """

    name: str
    version: str
    parts: Mapping[str, Callable[[], Iterable[Entry]]]
    rules: Rules = field(default_factory=Rules)
    distinct: bool = False


def prepare(source: Source, path: Path) -> None:
    """Parse a source and write its cache file, all of it or nothing.

    Raises:
        MolflddError: if no molecule can be used, or if the file cannot be written.
    """
    try:
        with _working_folder(path) as folder, _Spool(folder) as spool:
            _fill(spool, source)
            whole = folder / "whole"
            _write(spool, source, whole)
            os.replace(whole, path)
    except OSError as error:
        raise unwritable_cache(path, error) from error


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Let other processes that prepare the same cache file wait meanwhile.

    Raises:
        MolflddError: if the folder of the cache cannot be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable_cache(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _working_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside the cache file, gone afterwards; what was left in it is removed."""
    folder = path.with_name(f".{path.name}.partial")
    if folder.exists():
        say(f"an earlier preparation of {path} was interrupted; starting again")
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Spool:
    """Parsed molecules in flat files, in the order they came.

    Attributes:
        kinds: Position of each atom type, from 1 on, in the order of their first atoms.
        counts: Number of atoms of each type.
        parts: Molecules of each part.
        report: What was read, kept and skipped.
    """

    _FILES = ("atoms", "bonds", "sizes", "text", "keys", "numbers")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._files = {
            name: self._stack.enter_context((folder / name).open("wb")) for name in self._FILES
        }
        self.kinds: dict[AtomType, int] = {}
        self.counts: Counter[AtomType] = Counter()
        self.parts: dict[str, int] = {}
        self.report = ParseReport(0, 0, {})

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, part: str, parsed: Parsed) -> None:
        """Append molecules of a part."""
        positions = [self.kinds.setdefault(kind, len(self.kinds) + 1) for kind in parsed.kinds]
        if len(self.kinds) > _MAX_KINDS:
            raise MolflddError(f"there are more than {_MAX_KINDS} atom types; restrict them")
        lookup = np.array([0, *positions], np.uint16)
        arrays: dict[str, NDArray[Any]] = {
            "atoms": lookup[parsed.atoms],
            "bonds": parsed.bonds,
            "sizes": parsed.sizes,
            "keys": parsed.keys,
            "numbers": parsed.numbers,
        }
        for name, array in arrays.items():
            self._files[name].write(array.data)
        self._files["text"].write("".join(f"{smiles}\n" for smiles in parsed.smiles).encode())
        counted = np.bincount(parsed.atoms, minlength=len(parsed.kinds) + 1)[1:].tolist()
        self.counts.update(dict(zip(parsed.kinds, counted, strict=True)))
        self.parts[part] = self.parts.get(part, 0) + len(parsed.sizes)
        self.report += parsed.report

    def finish(self) -> None:
        """No more molecules follow; the arrays can be read."""
        self._stack.close()

    def array(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """One of the files, mapped into memory."""
        path = self._folder / name
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def _fill(spool: _Spool, source: Source) -> None:
    """Parse everything into the spool, showing how far it is."""
    console = Console(stderr=True)
    columns = (
        TextColumn("preparing {task.description}: {task.completed:,.0f} molecules"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(source.name, total=None)
        for part, entries in source.parts.items():
            spool.parts[part] = 0
            for parsed in parse_all(entries(), source.rules):
                spool.add(part, parsed)
                bar.advance(task, parsed.report.read)
    spool.finish()


def _write(spool: _Spool, source: Source, path: Path) -> None:
    if not spool.report.kept:
        raise MolflddError(f"no molecule of {source.name} can be used: {spool.report.in_words()}")
    text = Ragged.of_lines(spool.array("text", np.uint8))
    rows = np.arange(len(text))
    report = spool.report
    if source.distinct:
        _, rows = np.unique(spool.array("keys", np.uint64), return_index=True)
        report = _without_repeated(report, rows, text, spool.array("numbers", np.int64))
    vocabulary = source.rules.vocabulary or Vocabulary.from_counts(spool.counts)
    metadata = {
        "format": str(CACHE_FORMAT),
        "name": source.name,
        "vocabulary": json.dumps(vocabulary.to_json()),
        "parts": json.dumps({} if source.distinct else spool.parts),
        "report": json.dumps(report.to_json()),
    }
    write_mapped(path, _arrays(spool, vocabulary, text, rows), metadata)
    seal_dataset(path)


def _without_repeated(
    report: ParseReport, rows: NDArray[np.int64], text: Ragged, numbers: NDArray[Any]
) -> ParseReport:
    """The report after all but these rows were left out for being repetitions."""
    is_repeated = np.ones(len(text), bool)
    is_repeated[rows] = False
    repeated = np.flatnonzero(is_repeated)
    if not len(repeated):
        return report
    examples = [(int(numbers[row]), _line(text, row)) for row in repeated[:EXAMPLES].tolist()]
    return report.without(REPEATED, len(repeated), examples)


def _line(text: Ragged, row: int) -> str:
    """One SMILES, as examples show it."""
    return shortened(bytes(text.take(slice(row, row + 1)).values).decode().strip())


def _arrays(
    spool: _Spool, vocabulary: Vocabulary, text: Ragged, rows: NDArray[np.int64]
) -> dict[str, Pieces]:
    """The arrays of the cache file, in their order in it; see `molfldd.molecules.store`."""
    all_sizes = np.asarray(spool.array("sizes", np.uint8))
    sizes = all_sizes[rows]
    width = int(sizes.max())
    kinds = Ragged.of_lengths(spool.array("atoms", np.uint16), all_sizes)
    lengths = np.array([num_pairs(n) for n in range(width + 1)])[all_sizes]
    bonds = Ragged.of_lengths(spool.array("bonds", np.uint8), lengths)
    codes = np.array([0, *(vocabulary.index(kind) for kind in spool.kinds)], np.uint8)
    parts = [rows[part] for part in ranges(len(rows), _ROWS)]
    return {
        "ids": Pieces("int64", rows.shape, [spool.array("numbers", np.int64)[rows]]),
        "sizes": Pieces("uint8", rows.shape, [sizes]),
        "atoms": Pieces(
            "uint8", (len(rows), width), (codes[kinds.padded(part, width)] for part in parts)
        ),
        "bonds": Pieces(
            "uint8",
            (len(rows), num_pairs(width)),
            (bonds.padded(part, num_pairs(width)) for part in parts),
        ),
        "text": Pieces(
            "uint8",
            (int(np.diff(text.offsets)[rows].sum()),),
            (text.take(part).values for part in parts),
        ),
        "seal": Pieces("uint8", (SEAL_BYTES,), [np.zeros(SEAL_BYTES, np.uint8)]),
    }
