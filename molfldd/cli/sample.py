"""``molfldd sample``: examples from a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molfldd.cli.generation import Device, Generation, model_on
from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.domain import Domain
    from molfldd.model import Model


def sample(
    num: Annotated[int, typer.Option(min=1, help="How many examples to generate.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Molecules: .sdf (with 2D coordinates), .smi, .csv (also the "
            "invalid ones), or a picture of the first 24: .png, .svg. Images: .png (a grid), "
            ".npz (arrays). Texts: .txt (one a line). Default: on stdout, SMILES for molecules."
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Name of an embedded model, or path of a checkpoint.")
    ] = "qm9",
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Sampling steps; must be what the model was trained for."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same examples.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples computed at once; does not change them.")
    ] = 500,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    trajectory: Annotated[
        bool,
        typer.Option(
            "--trajectory",
            help="Write all steps from noise to data. Images: .png (a row each), .gif, .npz.",
        ),
    ] = False,
) -> None:
    """Generate examples, by default molecules, with a trained model.

    Writes the valid molecules: one fragment, and RDKit accepts it as it is, without any repair.
    Says on stderr how many were generated, how many of them are valid, and how long it took.
    """
    if trajectory and out is None:
        raise UsageError("--trajectory needs --out, a file to write the steps to")
    if out is not None:
        _check_output(out)
    model = model_on(checkpoint, device)
    model.check_steps(steps)
    if out is not None and trajectory:
        typer.echo(_write_trajectories(model, num, seed, batch_size, out), err=True)
    else:
        typer.echo(_generate(model, num, seed, batch_size, out), err=True)


def _check_output(out: Path) -> None:
    """Refuse what no domain could write; which one it is only the checkpoint tells."""
    from molfldd.domain import FORMATS
    from molfldd.storage import check_writable

    check_writable(out, dict.fromkeys(suffix for known in FORMATS.values() for suffix in known))


def _generate(model: Model, num: int, seed: int, batch_size: int, out: Path | None) -> str:
    """Print or write examples, and sum it up."""
    domain = model.domain
    batches = model.stream(num, seed=seed, batch_size=batch_size)
    generation = Generation(batches, num, batch_size, domain.plural, quiet=out is None)
    usable = _Usable(domain, generation)
    if out is None:
        _print(usable)
    else:
        _write(out, domain.writers(), usable, domain)
    judged = "" if domain.judgement is None else _share(usable.count, num, domain.judgement)
    return _summary(generation, judged, out)


def _write_trajectories(model: Model, num: int, seed: int, batch_size: int, out: Path) -> str:
    """Write trajectories, and sum it up."""
    domain = model.domain
    batches = model.trajectories(num, seed=seed, batch_size=batch_size)
    generation = Generation(batches, num, batch_size, domain.plural)
    _write(out, domain.trajectory_writers(), generation, domain)
    return _summary(generation, "", out)


def _summary(generation: Generation, judged: str, out: Path | None) -> str:
    place = "printed" if out is None else f"written to {out}"
    return (
        f"{generation.num:,} {generation.plural} generated in {generation.seconds:.1f} s, "
        f"{judged}{place}"
    )


def _share(count: int, of: int, judgement: str) -> str:
    return f"{count:,} {judgement} ({100 * count / of:.1f} %), "


class _Usable:
    """What the domain makes of each example; ``count`` grows with those that are usable."""

    def __init__(self, domain: Domain, examples: Generation) -> None:
        self.domain = domain
        self.examples = examples
        self.count = 0

    def __iter__(self) -> Iterator[Any | None]:
        for usable in map(self.domain.usable, self.examples):
            self.count += usable is not None
            yield usable


def _print(examples: _Usable) -> None:
    for example in examples:
        if example is not None:
            typer.echo(examples.domain.text(example))


def _write(out: Path, writers: Any, examples: Any, domain: Domain) -> None:
    """Write the examples whole or not at all, in the format that the suffix names."""
    from molfldd.storage import atomic_path

    suffix = out.suffix.lower()
    if suffix not in writers:
        raise UsageError(
            f"cannot write {out}: of {domain.plural} (domain '{domain.name}') these formats can be "
            f"written: {' '.join(writers) or 'none'}"
        )
    with atomic_path(out) as temporary:
        writers[suffix](temporary, examples)
