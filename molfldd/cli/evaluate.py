"""``molfldd evaluate``: scores of generated examples, with the protocol they depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.parallel import Drawer
    from molfldd.report import Report


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Molecules: a .smi, .txt, .csv, .tsv or .sdf file, or texts: a .txt file, also "
            "with .gz; or a model to sample from: a .safetensors checkpoint or the name of an "
            "embedded one.",
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            help="What to compare with. Molecules: a data set, such as qm9 (FCD against its test "
            "split, novelty against its training split), or one of its parts, such as "
            "moses:test_scaffolds, a file of SMILES (FCD only), or none. "
            "Texts: a file with one text a line (MAUVE), or none. "
            "Default: the data set of the model, and none for a file."
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many examples to sample from a model.",
            show_default="as the domain's protocol says, 10,000 for molecules",
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
    domain: Annotated[
        str | None,
        typer.Option(
            help="What a file holds, such as text; a checkpoint says it itself.",
            show_default="by what the file begins with",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples sampled at once.")] = 500,
    device: Annotated[Device, typer.Option(help="Where to sample.")] = Device.auto,
    devices: Devices = 1,
    steps: StepsOption = None,
    joint: JointOption = None,
    temperature: TemperatureOption = None,
    min_p: MinPOption = None,
    min_reveal: MinRevealOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the report to this .json file.")
    ] = None,
) -> None:
    """Score molecules (validity by three conventions, uniqueness, novelty, FCD) or other examples.

    Prints every score with what it is a share of, and the protocol: sizes of all sets, treatment
    of stereochemistry, program versions and a hash of the reference. What cannot be read as a
    molecule counts as not valid.
    """
    if seed and len(set(seed)) < len(seed):
        raise UsageError("--seed: the same seed twice gives the same examples twice")
    if out is not None:
        from molfldd.storage import check_writable

        check_writable(out, [".json"])
    origin: dict[str, object] = {"input": source}
    manner = (joint, temperature, steps, min_p, min_reveal)
    if _is_model(source):
        if domain is not None:
            raise UsageError("--domain is for files; a model knows its own domain")
        from molfldd.model import Manner, variant

        with drawing(variant(source, steps), device, devices, Manner(*manner)) as drawer:
            report, seconds = _evaluate_model(drawer, reference, num, seed or [0], batch_size)
            origin |= {"seeds": seed or [0], **drawer.model.way, "seconds": seconds}
    elif devices == 1 and all(option is None for option in (num, seed, *manner)):
        report = _evaluate_file(Path(source), domain, reference)
    else:
        raise UsageError(
            "--num, --seed, --devices, --steps, --joint, --temperature, --min-p and "
            "--min-reveal are for models to sample from, not for a file"
        )
    _show(report)
    if out is not None:
        _write(out, {**origin, **report.to_json()})


def _is_model(source: str) -> bool:
    return Path(source).suffix in ("", ".safetensors")


def _evaluate_file(path: Path, domain: str | None, reference: str | None) -> Report:
    from molfldd.domain import domain_class, domain_of_file

    kind = domain_class(domain) if domain else domain_of_file(path)
    return kind.evaluate_file(path, reference)


def _evaluate_model(
    drawer: Drawer, reference: str | None, num: int | None, seeds: Sequence[int], batch_size: int
) -> tuple[Report, list[float]]:
    """The scores, and how long each seed's examples took to draw."""
    from molfldd.model import Model, batches

    model, domain = drawer.model, drawer.model.domain
    count = num or domain.scored
    seconds: list[float] = []

    def draws() -> Iterator[list[Any]]:
        title, indices = f"sampling {count:,} {domain.plural}", batches(count, batch_size)
        for seed in seeds:
            drawn = drawer.batches(Model.draw, seed, indices)
            generation = Generation(drawn, title, len(indices))
            examples = list(generation)
            seconds.append(round(generation.seconds, 2))
            yield examples

    report = domain.evaluate(draws(), model.config.data, model.recorded, reference)
    return report, seconds


def _show(report: Report) -> None:
    from rich.console import Console

    Console(highlight=False).print(report.table())


def _write(path: Path, content: dict[str, Any]) -> None:
    from molfldd.storage import atomic_path

    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    typer.echo(f"written to {path}", err=True)
