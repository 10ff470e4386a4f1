"""Scores of generated molecules, never without the protocol that they depend on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, stdev
from typing import Any

from rdkit import Chem, rdBase
from rich.table import Table

from molfldd.errors import MolflddError, UsageError
from molfldd.metrics import Statistics, frechet_distance
from molfldd.molecules import metrics
from molfldd.molecules.fcd import (
    FCD_TORCH_VERSION,
    content_hash,
    fcd,
    reference_statistics,
    statistics,
)

DIGITS = {"fcd": 3, "fcd_nostereo": 3}
"""Decimals in tables: those given here for distances, per cent with two for shares."""

MEANING = {
    "valid": "of all: sanitizes as it is, one fragment",
    "valid_fragment": "of all: the largest fragment is valid",
    "valid_gdss": "of all: valences only, GDSS charge rule, fragments allowed",
    "connected": "of all: one fragment, valid or not",
    "unique": "different ones, of the valid",
    "unique_of_all": "different valid ones, of all",
    "novel": "not in the training set, of the different ones",
    "novel_of_all": "different and not in the training set, of all",
    "fcd": "valid ones, repetitions kept, against the reference as it is",
    "fcd_nostereo": "the same, against the reference without stereochemistry",
}
"""What each score says, in the words of the tables."""


@dataclass(frozen=True)
class Scores:
    """Shares between 0 and 1, and Fréchet ChemNet distances; `MEANING` says of what.

    None: nothing to compute it from. `unique` without a valid molecule; `novel` without training
    molecules; `fcd` without a reference or with fewer than two valid molecules; `fcd_nostereo`
    also with a reference that has no stereochemistry.
    """

    valid: float
    valid_fragment: float
    valid_gdss: float
    connected: float
    unique: float | None
    unique_of_all: float
    novel: float | None
    novel_of_all: float | None
    fcd: float | None
    fcd_nostereo: float | None


@dataclass(frozen=True)
class Protocol:
    """What scores depend on: the sets, the treatment of molecules and the programs.

    `reference_sha256` is `molfldd.molecules.fcd.content_hash` of the reference SMILES.
    """

    samples: int
    training: int | None
    reference: int | None
    reference_sha256: str | None
    reference_stereo: bool | None
    rdkit: str = rdBase.rdkitVersion
    fcd_torch: str = FCD_TORCH_VERSION
    correction: str = "none"
    samples_stereo: str = "removed"

    def lines(self) -> list[str]:
        """The protocol in words, for below a table."""
        chemistry = f"correction {self.correction}, stereochemistry {self.samples_stereo}"
        programs = f"RDKit {self.rdkit}, fcd-torch {self.fcd_torch}"
        return [
            f"{self.samples:,} samples, {chemistry}; {programs}",
            *([] if self.training is None else [f"{self.training:,} training molecules"]),
            *([] if self.reference is None else [self._reference_line()]),
        ]

    def _reference_line(self) -> str:
        stereo = "with" if self.reference_stereo else "without"
        return (
            f"{self.reference:,} reference molecules {stereo} stereochemistry, "
            f"sha256 {self.reference_sha256}"
        )


@dataclass(frozen=True)
class Report:
    """Scores of one set of samples and their protocol."""

    scores: Scores
    protocol: Protocol

    def to_json(self) -> dict[str, object]:
        """Nested mapping of numbers, strings and None, for a JSON file."""
        return asdict(self)

    def table(self) -> Table:
        """Scores and what they mean, with the protocol as caption."""
        rows = {name: (cell,) for name, cell in _cells(self.scores).items()}
        return _table(rows, ["value"], self.protocol.lines())


@dataclass(frozen=True)
class Summary:
    """Mean and spread of the scores of `runs` sampling seeds, under one protocol.

    The spread is the standard deviation over the seeds (n - 1 below), None for a single one. A
    score that one of the runs does not have is None.
    """

    mean: Scores
    spread: Mapping[str, float | None]
    runs: int
    protocol: Protocol

    def to_json(self) -> dict[str, object]:
        """Nested mapping of numbers, strings and None, for a JSON file."""
        return asdict(self)

    def table(self) -> Table:
        """Mean, spread and what the scores mean, with the protocol as caption."""
        mean, spread = _cells(self.mean), {key: _cell(key, v) for key, v in self.spread.items()}
        rows = {name: (mean[name], spread[name]) for name in mean}
        lines = [f"{self.runs} runs: mean and standard deviation", *self.protocol.lines()]
        return _table(rows, ["mean", "spread"], lines)


def evaluate(
    molecules: Sequence[Chem.Mol | None],
    reference: Sequence[str] | None,
    training: Sequence[str] | None,
) -> Report:
    """Scores of generated molecules; those that are not valid stay in every denominator of all.

    A molecule may be unsanitized and in several fragments; None stands for one that could not be
    read. `reference`: SMILES for FCD as they are; None leaves FCD out, which takes most of the
    time. `training`: canonical SMILES for novelty, with or without stereochemistry; None leaves
    novelty out. Raises `UsageError` without molecules, and for the reference what
    `molfldd.molecules.fcd.fcd` raises.
    """
    if not molecules:
        raise UsageError("there are no molecules to evaluate; give at least one")
    protocol = Protocol(
        samples=len(molecules),
        training=None if training is None else len(training),
        reference=None if reference is None else len(reference),
        reference_sha256=None if reference is None else content_hash(reference),
        reference_stereo=None if reference is None else any(map(metrics.has_stereo, reference)),
    )
    return Report(_scores(molecules, reference, training), protocol)


def _scores(
    molecules: Sequence[Chem.Mol | None],
    reference: Sequence[str] | None,
    training: Sequence[str] | None,
) -> Scores:
    total = len(molecules)
    valid = [smiles for smiles in map(metrics.valid, molecules) if smiles is not None]
    different = metrics.distinct(valid)
    novel = None if training is None else len(metrics.novel(different, training))
    generated = None if reference is None or len(valid) < 2 else statistics(valid)
    return Scores(
        valid=len(valid) / total,
        valid_fragment=sum(metrics.valid_fragment(mol) is not None for mol in molecules) / total,
        valid_gdss=sum(map(metrics.valid_gdss, molecules)) / total,
        connected=sum(map(metrics.connected, molecules)) / total,
        unique=len(different) / len(valid) if valid else None,
        unique_of_all=len(different) / total,
        novel=novel / len(different) if novel is not None and different else None,
        novel_of_all=None if novel is None else novel / total,
        fcd=_distance(generated, reference),
        fcd_nostereo=_distance(generated, _other_without_stereo(reference)),
    )


def _distance(generated: Statistics | None, reference: Sequence[str] | None) -> float | None:
    if generated is None or reference is None:
        return None
    return frechet_distance(generated, reference_statistics(reference))


def _other_without_stereo(reference: Sequence[str] | None) -> list[str] | None:
    """The reference without its stereochemistry; None if it has none."""
    if reference is None or not any(map(metrics.has_stereo, reference)):
        return None
    return [metrics.without_stereo(smiles) for smiles in reference]


def fcd_gdss(molecules: Iterable[Chem.Mol | None], reference: Sequence[str]) -> float:
    """FCD as GDSS computes it, only to stand beside numbers of that kind.

    All molecules count, after `molfldd.molecules.metrics.gdss_corrected` has repaired them; those
    that RDKit refuses even then are left out. Raises what `molfldd.molecules.fcd.fcd` raises.
    """
    corrected = map(metrics.gdss_corrected, molecules)
    return fcd([smiles for smiles in corrected if smiles is not None], reference)


def evaluate_draws(
    draws: Iterable[Sequence[Chem.Mol]],
    reference: Sequence[str] | None,
    training: Sequence[str] | None,
) -> Report | Summary:
    """Scores of one set of samples as `evaluate` gives them, or of several as `summarize` does.

    The reference comes first: if it cannot be used, nothing is drawn in vain.
    """
    if reference is not None:
        reference_statistics(reference)
    reports = [evaluate(molecules, reference, training) for molecules in draws]
    return reports[0] if len(reports) == 1 else summarize(reports)


def summarize(reports: Sequence[Report]) -> Summary:
    """Mean and spread of the reports of several sampling seeds.

    Raises `UsageError` without reports, and `MolflddError` if their protocols differ.
    """
    if not reports:
        raise UsageError("there are no reports to summarize; give at least one")
    protocol = reports[0].protocol
    if any(report.protocol != protocol for report in reports):
        raise MolflddError(
            "the reports follow different protocols (samples, reference, versions) and cannot be "
            "averaged; evaluate all runs in the same way"
        )
    columns = {
        field.name: [getattr(report.scores, field.name) for report in reports]
        for field in fields(Scores)
    }
    means: dict[str, Any] = {name: _mean(values) for name, values in columns.items()}
    spread = {name: _spread(values) for name, values in columns.items()}
    return Summary(Scores(**means), spread, len(reports), protocol)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) == len(values) > 1 else None


def _cells(scores: Scores) -> dict[str, str]:
    return {name: _cell(name, value) for name, value in asdict(scores).items()}


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.{DIGITS[name]}f}" if name in DIGITS else f"{100 * value:.2f} %"


def _table(
    rows: Mapping[str, Sequence[str]], columns: Sequence[str], caption: Sequence[str]
) -> Table:
    table = Table(caption="\n".join(caption), caption_justify="left")
    table.add_column("score", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("of what")
    for name, cells in rows.items():
        table.add_row(name, *cells, MEANING[name])
    return table
