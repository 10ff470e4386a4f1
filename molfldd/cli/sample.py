"""``molfldd sample``: examples from a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molfldd.cli.generation import (
    Device,
    Devices,
    Generation,
    JointOption,
    MinPOption,
    MinRevealOption,
    StepsOption,
    TemperatureOption,
    drawing,
)
from molfldd.errors import MolflddError, UsageError

if TYPE_CHECKING:
    from molfldd.domain import Domain
    from molfldd.model import Model
    from molfldd.parallel import Drawer

PATIENCE = 10_000
"""So many examples are drawn before ``--only-valid`` may give up."""

LEAST_BATCH = 100
"""So many are drawn at once, or the batch size, where fewer are wanted: they may not be usable."""

LEAST_USABLE = 0.01
"""It does if a smaller share of what was drawn is usable."""


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
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same examples.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples computed at once; does not change them.")
    ] = 500,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    devices: Devices = 1,
    joint: JointOption = None,
    temperature: TemperatureOption = None,
    min_p: MinPOption = None,
    min_reveal: MinRevealOption = None,
    only_valid: Annotated[
        bool,
        typer.Option(
            "--only-valid",
            help="Leave out what is not valid, and go on until there are --num valid ones: the "
            "first of the same seed. Says how many were drawn for them.",
        ),
    ] = False,
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
    if trajectory:
        _check_trajectory(out, devices, only_valid)
    from molfldd.model import Manner, variant

    wanted = _Wanted(num, seed, batch_size, out)
    manner = Manner(joint, temperature, steps, min_p, min_reveal)
    with drawing(variant(checkpoint, steps), device, devices, manner) as drawer:
        if out is not None:
            _check_output(out, drawer.model.domain, trajectory)
        if trajectory and out is not None:
            summary = _write_trajectories(drawer.model, wanted, out)
        elif only_valid:
            summary = _generate_usable(drawer, wanted)
        else:
            summary = _generate(drawer, wanted)
    typer.echo(summary, err=True)


@dataclass(frozen=True)
class _Wanted:
    """What was asked for; examples go to a file, or to stdout where there is none."""

    num: int
    seed: int
    batch_size: int
    out: Path | None

    @property
    def batches(self) -> list[range]:
        from molfldd.model import batches

        return batches(self.num, self.batch_size)

    @property
    def place(self) -> str:
        return "printed" if self.out is None else f"written to {self.out}"


def _check_trajectory(out: Path | None, devices: int, only_valid: bool) -> None:
    if out is None:
        raise UsageError("--trajectory needs --out, a file to write the steps to")
    if devices > 1 or only_valid:
        raise UsageError("--trajectory goes neither with --devices nor with --only-valid")


def _check_output(out: Path, domain: Domain, trajectory: bool) -> None:
    """Refuse what the domain cannot write before anything is drawn."""
    from molfldd.storage import check_writable

    writers = domain.trajectory_writers() if trajectory else domain.writers()
    if not writers:
        raise UsageError(
            f"cannot write {out}: {domain.plural} of the domain '{domain.name}' have no file format"
        )
    check_writable(out, writers)


def _generate(drawer: Drawer, wanted: _Wanted) -> str:
    """Print or write as many examples as are wanted, and sum it up."""
    from molfldd.model import Model

    domain = drawer.model.domain
    indices = wanted.batches
    drawn = drawer.batches(Model.draw_usable, wanted.seed, indices)
    title = f"sampling {wanted.num:,} {domain.plural}"
    generation = Generation(drawn, title, len(indices), quiet=wanted.out is None)
    usable = _Counted(generation)
    _put(usable, domain, wanted.out)
    made = f"{wanted.num:,} {domain.plural} generated in {generation.seconds:.1f} s"
    if domain.judgement is None:
        return f"{made}, {wanted.place}"
    share = 100 * usable.count / wanted.num
    return f"{made}, {usable.count:,} {domain.judgement} ({share:.1f} %), {wanted.place}"


def _generate_usable(drawer: Drawer, wanted: _Wanted) -> str:
    """Print or write as many usable examples as are wanted, and sum it up."""
    from molfldd.model import Model

    domain = drawer.model.domain
    if domain.judgement is None:
        raise UsageError(
            f"all {domain.plural} count, since the domain '{domain.name}' does not judge them; "
            "leave out --only-valid"
        )
    size = min(wanted.batch_size, max(wanted.num, LEAST_BATCH))
    indices = (range(start, start + size) for start in count(0, size))
    drawn = drawer.batches(Model.draw_usable, wanted.seed, indices)
    title = f"sampling {wanted.num:,} {domain.judgement} {domain.plural}"
    generation = Generation(drawn, title, None, quiet=wanted.out is None)
    usable = _Counted(generation)
    _put(_first_usable(usable, wanted.num, domain.judgement), domain, wanted.out)
    return (
        f"{usable.count:,} {domain.judgement} of {usable.drawn:,} drawn "
        f"({100 * usable.count / usable.drawn:.1f} %) in {generation.seconds:.1f} s, {wanted.place}"
    )


def _write_trajectories(model: Model, wanted: _Wanted, out: Path) -> str:
    """Write trajectories, and sum it up."""
    domain = model.domain
    drawn = model.trajectories(wanted.num, seed=wanted.seed, batch_size=wanted.batch_size)
    title = f"sampling {wanted.num:,} {domain.plural}"
    generation = Generation(drawn, title, len(wanted.batches))
    _write(generation, domain.trajectory_writers(), out)
    made = f"{wanted.num:,} {domain.plural} generated in {generation.seconds:.1f} s"
    return f"{made}, {wanted.place}"


class _Counted:
    """Examples as they are, None those that are not usable; counts all and the usable ones."""

    def __init__(self, examples: Iterable[Any | None]) -> None:
        self.examples = examples
        self.drawn = 0
        self.count = 0

    def __iter__(self) -> Iterator[Any | None]:
        for example in self.examples:
            self.drawn += 1
            self.count += example is not None
            yield example


def _first_usable(examples: _Counted, num: int, judgement: str) -> Iterator[Any]:
    """The first usable ones; raises ``MolflddError`` when they turn out to be too rare."""
    for example in examples:
        if example is not None:
            yield example
        if examples.count == num:
            return
        if examples.drawn >= PATIENCE and examples.count < LEAST_USABLE * examples.drawn:
            raise MolflddError(
                f"only {examples.count:,} of {examples.drawn:,} drawn are {judgement}; leave out "
                "--only-valid to see all of them, or train the model longer"
            )


def _put(examples: Iterable[Any | None], domain: Domain, out: Path | None) -> None:
    """Print the usable ones, or write them to a file."""
    if out is not None:
        _write(examples, domain.writers(), out)
        return
    for example in examples:
        if example is not None:
            typer.echo(domain.text(example))


def _write(examples: Iterable[Any], writers: Any, out: Path) -> None:
    """Write the examples whole or not at all, in the format that the suffix names."""
    from molfldd.storage import atomic_path

    with atomic_path(out) as temporary:
        writers[out.suffix.lower()](temporary, examples)
