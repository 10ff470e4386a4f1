"""``molfldd diagnose``: the health of a run as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molfldd.errors import MolflddError, UsageError

SUFFIXES = (".png", ".svg", ".pdf")


def diagnose(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a training, or a log.jsonl.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write.", show_default="RUN/diagnosis.png")
    ] = None,
) -> None:
    """Draw what the log of a training says about its health, and print its warnings.

    Bound, sample quality, norm and variance of the gradient along the training; KL, P(z_t = x),
    entropy of the marginals and information on x by step and block at the last evaluation.
    """
    from molfldd.diagnosis import draw
    from molfldd.log import LOG, read_log
    from molfldd.storage import atomic_path, check_writable

    log = run / LOG if run.is_dir() else run
    if not log.is_file():
        raise UsageError(f"there is no log {log}; name the folder of a training")
    picture = out or log.parent / "diagnosis.png"
    check_writable(picture, SUFFIXES)
    entries = read_log(log)
    try:
        with atomic_path(picture) as partial:
            draw(entries, partial, picture.suffix.lower())
    except KeyError as error:
        raise MolflddError(f"{log} has no {error}; another version of molfldd wrote it") from error
    for message in sorted({e["message"] for e in entries if e["event"] == "warning"}):
        typer.echo(f"warning: {message}", err=True)
    typer.echo(picture)
