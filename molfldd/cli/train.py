"""``molfldd train``: a recipe, trained in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molfldd.entries import unpacked
from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.config import Config
    from molfldd.run import Run

CONFIG = "config.yaml"
"""The complete recipe of a run, in its folder."""

FILE_SUFFIXES = (".smi", ".txt", ".csv", ".tsv", ".sdf")
"""Suffixes of files of examples, each also with ``.gz``."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, also of a training that keeps its state then."""


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a recipe (molfldd datasets lists them), a .yaml file, or a file: of "
            "molecules, .smi or .txt (a SMILES per line), .csv, .tsv or .sdf, or of texts, .txt "
            "(one per line), each also with .gz.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Read the recipe's data from this file, for images from this folder, instead of "
            "downloading them."
        ),
    ] = None,
    smiles_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the SMILES in a .csv or .tsv file.", show_default="smiles, or the first"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for everything written.", show_default="runs/RECIPE"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from the folder's state, by the folder's config."),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Begin with the networks of this checkpoint, or embedded model, of the same "
            "kind of data; the number of steps may differ.",
            show_default="random networks",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the recipe, such as training.seed=1 or phases.0.iterations=500; "
            "can be repeated.",
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="auto (bfloat16 where there is hardware for it), 32-true, bf16-mixed."),
    ] = "auto",
) -> None:
    """Train a model by a recipe, in a folder of its own.

    The folder gets config.yaml (the complete recipe), log.jsonl (what happened), model.safetensors
    (for molfldd sample) and state.safetensors (for --resume). Ctrl-C or SIGTERM keeps the state
    reached and exits with 130; a resumed training ends as an uninterrupted one would.

    From a file, vocabulary, largest size and the part to hold out come from the molecules or texts
    in it; what was skipped, and why, is said before the training starts.
    """
    folder = out or Path("runs") / _stem(recipe)
    if resume and init is not None:
        raise UsageError("--resume continues the folder's own networks; leave out --init")
    _check_suffix(recipe)
    content = _content(_recipe_of(recipe) if _is_file(recipe) else recipe, folder, resume)
    files = _files(recipe, data, smiles_column, content)
    config = _config(content, [*files, *(assignments or [])])
    if config.phases[0].only_last and init is None and not resume:
        raise UsageError(
            f"{recipe} trains the last layers of a trained model alone; name it by --init"
        )
    _check_folder(folder)

    from molfldd.engine import Engine
    from molfldd.run import Run

    run = Run(config, folder, Engine(accelerator, devices, nodes, precision))
    if init is not None:
        _start_from(run, init)
    _prepare(run, resume)
    _train(run)


def _stem(recipe: str) -> str:
    return unpacked(Path(recipe)).stem


def _is_file(recipe: str) -> bool:
    return unpacked(Path(recipe)).suffix.lower() in FILE_SUFFIXES


def _check_suffix(recipe: str) -> None:
    suffix = unpacked(Path(recipe)).suffix.lower()
    if suffix and suffix not in (*FILE_SUFFIXES, ".yaml", ".yml"):
        raise UsageError(
            f"cannot train on {recipe}: {suffix} is none of .yaml (a recipe) or "
            f"{', '.join(FILE_SUFFIXES)} (examples, also with .gz)"
        )


def _recipe_of(file: str) -> str:
    """The recipe for a file, by what is in it."""
    from molfldd.domain import domain_of_file

    recipe = domain_of_file(Path(file)).own
    assert recipe is not None
    return recipe


def _files(
    recipe: str, data: Path | None, column: str | None, content: dict[str, Any]
) -> list[str]:
    """What the arguments say of where the data lie, as assignments to the recipe."""
    path = data
    if _is_file(recipe):
        if data is not None:
            raise UsageError(f"there are two files of data, {recipe} and {data}; name one")
        path = Path(recipe)
    values = {_place(recipe, content) if path else "path": path, "smiles_column": column}
    return [f"data.{key}={json.dumps(str(value))}" for key, value in values.items() if value]


def _place(recipe: str, content: dict[str, Any]) -> str:
    """The key below ``data`` that says where a recipe's data lie."""
    from molfldd.domain import domain_class

    place = domain_class(str(content.get("domain", ""))).place
    if place is None:
        raise UsageError(f"{recipe} makes its own data; leave out --data")
    return place


def _config(content: dict[str, Any], assignments: Sequence[str]) -> Config[Any, Any]:
    """The recipe with the assignments."""
    from molfldd.config import override, parse_config

    return parse_config(override(content, assignments))


def _content(recipe: str, folder: Path, resume: bool) -> dict[str, Any]:
    """The recipe, or what is in the folder when resuming."""
    from molfldd.config import read_recipe
    from molfldd.run import MODEL, STATE

    started = (folder / STATE).is_file()
    if resume and not started:
        raise UsageError(f"there is no state to resume in {folder}; leave out --resume to start")
    if started and not resume:
        raise UsageError(
            f"{folder} already holds a training; continue it with --resume, "
            "or choose another folder with --out"
        )
    if (folder / MODEL).is_file() and not started:
        raise UsageError(
            f"{folder} already holds a model, {MODEL}; choose another folder with --out"
        )
    return read_recipe(str(folder / CONFIG) if resume else recipe)


def _check_folder(folder: Path) -> None:
    """Raise ``UsageError`` if the folder could not be made or written into; makes nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UsageError(f"cannot write into {folder}: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK):
        raise UsageError(f"cannot write into {folder}: no permission to write into {nearest}")


def _start_from(run: Run, init: str) -> None:
    from molfldd.model import pretrained_path

    whole = run.start_from(pretrained_path(init))
    if run.leads:
        parts = "both processes" if whole else "the reverse process"
        typer.echo(f"beginning with {parts} of {init}", err=True)


def _prepare(run: Run, resume: bool) -> None:
    """Load the state or begin the folder, and say what is going to happen."""
    from molfldd.log import LOG

    if resume:
        run.resume()
    if not run.leads:
        return
    if not resume:
        (run.folder / LOG).unlink(missing_ok=True)
    _write_config(run)
    done, total = run.trainer.iteration, run.trainer.total_iterations
    typer.echo(
        f"training in {run.folder}: iterations {done:,} to {total:,}, "
        f"{len(run.data.train):,} training and {len(run.data.test):,} held-out examples, "
        f"{run.trainer.options.batch_size} at a time",
        err=True,
    )


def _write_config(run: Run) -> None:
    import yaml

    from molfldd.storage import atomic_path

    run.folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False)
    with atomic_path(run.folder / CONFIG) as partial:
        partial.write_text(text, encoding="utf-8")


def _train(run: Run) -> None:
    from rich.console import Console

    from molfldd.engine import part
    from molfldd.log import LOG
    from molfldd.run import MODEL, STATE

    run.train(Console(stderr=True, soft_wrap=True))
    part(run.fabric)
    if run.leads:
        for name in (MODEL, STATE, LOG, CONFIG):
            typer.echo(run.folder / name)
    if run.trainer.iteration < run.trainer.total_iterations:
        raise typer.Exit(INTERRUPTED)
