"""``molfldd evaluate``: scores of molecules, with the protocol they depend on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molfldd.cli.generation import Device, Generation, molecule_model
from molfldd.errors import UsageError

if TYPE_CHECKING:
    from rdkit import Chem

    from molfldd.model import Model
    from molfldd.molecules.evaluation import Report, Summary

SAMPLES = 10_000
"""Molecules sampled from a checkpoint unless told otherwise."""


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Molecules: a .smi, .txt, .csv or .sdf file, also with .gz; or a model to sample "
            "from: a .safetensors checkpoint or the name of an embedded one.",
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            help="What to compare with: a data set, such as qm9 (FCD against its test split, "
            "novelty against its training split), a file of SMILES (FCD only), or none. "
            "Default: the data set of the model, and none for a file."
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many molecules to sample from a model.", show_default=f"{SAMPLES:,}"
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Seed of sampling; give several for mean and standard deviation.",
            show_default="0",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Molecules sampled at once.")] = 500,
    device: Annotated[Device, typer.Option(help="Where to sample.")] = Device.auto,
    out: Annotated[
        Path | None, typer.Option(help="Also write the report to this .json file.")
    ] = None,
) -> None:
    """Score molecules: validity by three conventions, uniqueness, novelty and FCD.

    Prints every score with what it is a share of, and the protocol: sizes of all sets, treatment
    of stereochemistry, program versions and a hash of the reference. What cannot be read as a
    molecule counts as not valid.
    """
    if out is not None:
        _check_report_path(out)
    if _is_model(source):
        model = molecule_model(source, device)
        report = _evaluate_model(model, reference, num or SAMPLES, seed or [0], batch_size)
    elif num is None and seed is None:
        report = _evaluate_file(Path(source), reference)
    else:
        raise UsageError("--num and --seed are for models to sample from, not for a file")
    _show(report)
    if out is not None:
        _write(out, {"input": source, "seeds": seed or [0], **report.to_json()})


def _check_report_path(path: Path) -> None:
    if path.suffix.lower() != ".json":
        raise UsageError(f"cannot write the report {path}: its suffix must be .json")
    if path.is_dir():
        raise UsageError(f"cannot write the report {path}: it is a directory")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write the report {path}: there is no writable directory for it")


def _is_model(source: str) -> bool:
    return Path(source).suffix in ("", ".safetensors")


@dataclass(frozen=True)
class _Comparison:
    """SMILES to compare with; None where there are none."""

    reference: list[str] | None
    training: list[str] | None


def _comparison(name: str, own: Any = None) -> _Comparison:
    """The comparison of a name; ``own`` is the data config of the model that is evaluated."""
    from molfldd.molecules.datasets import DATASETS
    from molfldd.molecules.domain import MoleculeData

    if name == "none":
        return _Comparison(None, None)
    if name in DATASETS:
        data = own if own is not None and own.name == name else MoleculeData(name)
        train, test = data.load()
        return _Comparison(test.smiles, train.smiles)
    if Path(name).suffix:
        return _Comparison(_read(Path(name)), None)
    raise UsageError(
        f"there is no reference '{name}'; known are: {', '.join(DATASETS)}, none, "
        "or give the path of a file of SMILES"
    )


def _read(path: Path) -> list[str]:
    """SMILES of a file, telling what was left out."""
    from molfldd.molecules.files import read_smiles

    smiles, report = read_smiles(path)
    typer.echo(f"{path}: {report}", err=True)
    return smiles


def _evaluate_file(path: Path, reference: str | None) -> Report:
    from molfldd.molecules.evaluation import evaluate as score

    molecules = list(_molecules(path))
    comparison = _comparison(reference or "none")
    return score(molecules, comparison.reference, comparison.training)


def _molecules(path: Path) -> Iterator[Chem.Mol | None]:
    """Molecules of a file, None for a line or record that is none, telling how many those are."""
    from molfldd.molecules.codec import parse_smiles
    from molfldd.molecules.files import read_smiles

    smiles, report = read_smiles(path)
    molecules = [parse_smiles(entry) for entry in smiles]
    broken = molecules.count(None)
    typer.echo(
        f"{path}: {report}; {broken:,} of the kept cannot be parsed; both count as not valid",
        err=True,
    )
    yield from molecules
    yield from [None] * (report.read - report.kept)


def _evaluate_model(
    model: Model, reference: str | None, num: int, seeds: list[int], batch_size: int
) -> Report | Summary:
    from molfldd.molecules.evaluation import evaluate as score
    from molfldd.molecules.evaluation import summarize

    comparison = _comparison(reference or model.config.data.name, model.config.data)
    reports = [
        score(
            list(Generation(model, num, seed, batch_size)),
            comparison.reference,
            comparison.training,
        )
        for seed in seeds
    ]
    return reports[0] if len(reports) == 1 else summarize(reports)


def _show(report: Report | Summary) -> None:
    from rich.console import Console

    Console(highlight=False).print(report.table())


def _write(path: Path, content: dict[str, Any]) -> None:
    from molfldd.storage import atomic_path

    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"written to {path}", err=True)
