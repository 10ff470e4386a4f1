"""Molecules to files and pictures, SMILES from files: the suffix of the path names the format."""

import csv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, TextIO, cast

from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.rdBase import BlockLogs

from molfldd.entries import iterate_entries, unpacked
from molfldd.errors import MolflddError, UsageError
from molfldd.messages import say
from molfldd.molecules.codec import canonical_smiles, parse_smiles
from molfldd.molecules.report import ParseReport

PICTURE_MOLECULES = 24
"""A picture shows at most this many molecules."""

_PICTURE_COLUMNS = 6
_PICTURE_CELL = (200, 200)

Molecules = Iterable[Chem.Mol | None]
"""Molecules as `molfldd.molecules.domain.Molecules.usable` gives them: sanitized, or None."""


def _write_sdf(path: Path, mols: Molecules) -> None:
    """A record with 2D coordinates (angstrom) and the property SMILES per valid molecule.

    The coordinates follow from the SMILES alone: of a molecule that came from another process RDKit
    draws a mirror image. It makes the text but does not write it: its writer says nothing of a full
    disk.
    """
    with path.open("w", encoding="utf-8") as file:
        for mol in filter(None, mols):
            smiles = canonical_smiles(mol)
            record = Chem.MolFromSmiles(smiles)
            rdDepictor.Compute2DCoords(record)
            record.SetProp("SMILES", smiles)
            file.write(Chem.SDWriter.GetText(record))


def _write_smi(path: Path, mols: Molecules) -> None:
    """A stereo-free canonical SMILES per valid molecule."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{canonical_smiles(mol)}\n" for mol in mols if mol is not None)


def _write_csv(path: Path, mols: Molecules) -> None:
    """index, smiles, valid (0 or 1) for every molecule."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "smiles", "valid"])
        for index, mol in enumerate(mols):
            smiles = "" if mol is None else canonical_smiles(mol)
            writer.writerow([index, smiles, int(mol is not None)])


def _drawing() -> Callable[..., Any]:
    """RDKit's drawing of molecules; it needs libraries of X11, which servers may lack."""
    try:
        from rdkit.Chem import Draw
    except ImportError as error:
        raise MolflddError(
            f"RDKit cannot draw here ({error}); install that library, or write another kind of file"
        ) from error
    drawing: Callable[..., Any] = Draw.MolsToGridImage
    return drawing


def _grid(mols: Molecules, use_svg: bool) -> Any:
    """RDKit's picture of the first valid molecules, SVG text or a PIL image; all are drawn from."""
    shown = [mol for mol in mols if mol is not None][:PICTURE_MOLECULES]
    if not shown:
        raise MolflddError("there is no valid molecule to draw; write a .csv to see all of them")
    return _drawing()(
        shown,
        legends=list(map(canonical_smiles, shown)),
        molsPerRow=min(_PICTURE_COLUMNS, len(shown)),
        subImgSize=_PICTURE_CELL,
        useSVG=use_svg,
        returnPNG=False,
    )


def _write_png(path: Path, mols: Molecules) -> None:
    _grid(mols, use_svg=False).save(path, format="PNG")


def _write_svg(path: Path, mols: Molecules) -> None:
    path.write_text(_grid(mols, use_svg=True), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Molecules], None]] = {
    ".sdf": _write_sdf,
    ".smi": _write_smi,
    ".csv": _write_csv,
    ".png": _write_png,
    ".svg": _write_svg,
}
"""The writer of each suffix; pictures raise `MolflddError` where there is nothing to show."""


def _lines(column: str | None, file: TextIO) -> Iterator[str]:
    """First word of each line; there are no columns to choose from."""
    for line in file:
        yield next(iter(line.split()), "")


def _column_position(header: list[str], column: str | None) -> int:
    """Position of the named column in any case, or of the default: smiles, else the first."""
    names = [name.strip().lower() for name in header]
    if column is None:
        return names.index("smiles") if "smiles" in names else 0
    if column.strip().lower() not in names:
        raise UsageError(f"there is no column {column!r}; the columns are: {', '.join(header)}")
    return names.index(column.strip().lower())


def _values(rows: Iterator[list[str]], column: str | None) -> Iterator[str]:
    """One column of the rows after the header, which is the first that is not blank."""
    header = next((row for row in rows if any(map(str.strip, row))), [])
    position = _column_position(header, column)
    if column is None and header and parse_smiles(header[position].strip()) is not None:
        raise UsageError(
            "the first row of a table names its columns, but here it begins with a molecule, "
            f"{header[position].strip()}; put a header above it, such as smiles"
        )
    for row in rows:
        yield row[position].strip() if position < len(row) else ""


def _csv_values(column: str | None, file: TextIO) -> Iterator[str]:
    return _values(csv.reader(file), column)


def _tsv_values(column: str | None, file: TextIO) -> Iterator[str]:
    """A cell may be in quotation marks; else they are characters like others."""
    rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    return _values(([_unquoted(cell) for cell in row] for row in rows), column)


def _unquoted(cell: str) -> str:
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1] if quoted else cell


def _records(file: IO[bytes]) -> Iterator[str]:
    """The records of an SDF, without the lines that end them."""
    lines: list[bytes] = []
    for line in file:
        if line.strip() == b"$$$$":
            yield b"".join(lines).decode(errors="replace")
            lines = []
        else:
            lines.append(line)
    if any(map(bytes.strip, lines)):
        yield b"".join(lines).decode(errors="replace")


def _sdf_smiles(column: str | None, file: TextIO) -> Iterator[str]:
    """SMILES of each record, empty for one that RDKit cannot read; there are no columns."""
    for record in _records(cast(IO[bytes], file.buffer)):
        with BlockLogs():
            mol = Chem.MolFromMolBlock(record)
        yield Chem.MolToSmiles(mol) if mol is not None else ""


_READERS: dict[str, Callable[[str | None, TextIO], Iterator[str]]] = {
    ".smi": _lines,
    ".txt": _lines,
    ".csv": _csv_values,
    ".tsv": _tsv_values,
    ".sdf": _sdf_smiles,
}

GLANCE = 20
"""How many entries of a file tell what it is."""

_UNITS = {".csv": "row", ".tsv": "row", ".sdf": "record"}


def unit(path: Path) -> str:
    """What an entry of a file is called: a line, a row (the header not counted) or a record."""
    return _UNITS.get(unpacked(path).suffix.lower(), "line")


def iterate_smiles(path: Path, column: str | None = None) -> Iterator[str]:
    """The SMILES of a file one after another, as they stand; empty where there is none.

    A text file (``.smi``, ``.txt``) has a SMILES as the first word of each line. A table (``.csv``,
    ``.tsv``) has a header; the SMILES are in `column`, by default in "smiles" in any case or else
    in the first. Of an SDF record, it is the SMILES of the structure. Each also with ``.gz``.
    Raises `UsageError` for a file that does not exist, has another suffix, is no text, or lacks
    the column.
    """
    readers = {suffix: partial(reader, column) for suffix, reader in _READERS.items()}
    return iterate_entries(path, readers)


def read_smiles(path: Path, column: str | None = None) -> tuple[list[str], ParseReport]:
    """What `iterate_smiles` gives, without the empty ones, which the report counts.

    A SMILES that is no molecule is kept, since judging it is not reading. Raises what
    `iterate_smiles` raises.
    """
    entries = list(iterate_smiles(path, column))
    smiles = [entry for entry in entries if entry]
    empty = len(entries) - len(smiles)
    skipped = {"without a SMILES": empty} if empty else {}
    return smiles, ParseReport(len(entries), len(smiles), skipped)


def looks_like_molecules(path: Path) -> bool:
    """Whether most of what the first lines, rows or records begin with is molecules."""
    try:
        first = set(islice(filter(None, iterate_smiles(path)), GLANCE))
    except UsageError:
        return False
    return 2 * sum(parse_smiles(entry) is not None for entry in first) > len(first)


def read_smiles_aloud(path: Path) -> list[str]:
    """SMILES of a file (see `read_smiles`), saying on stderr what was left out."""
    smiles, report = read_smiles(path)
    say(f"{path}: {report}")
    return smiles


def read_molecules(path: Path) -> list[Chem.Mol | None]:
    """Molecules of a file (see `read_smiles`), None for each line or record that is none.

    Says on stderr how many those are.
    """
    smiles, report = read_smiles(path)
    molecules = [parse_smiles(entry) for entry in smiles]
    broken = molecules.count(None)
    say(f"{path}: {report}; {broken:,} of the kept cannot be parsed; both count as not valid")
    if broken == len(molecules) > 0:
        say(
            f"no {unit(path)} is a molecule, such as {smiles[0]!r}; of a table the column smiles "
            "is read, or else the first, and texts need --domain text"
        )
    return [*molecules, *[None] * (report.read - report.kept)]
