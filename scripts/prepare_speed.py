"""Measure what a data set takes: molecules per second and core, bytes, memory, and reading it."""

from __future__ import annotations

import resource
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Annotated

import torch
import typer
from measuring import CPU
from rich.console import Console

from molfldd.cli.running import run_script
from molfldd.engine import peak_memory
from molfldd.molecules.domain import Molecules
from molfldd.molecules.moses import moses_source
from molfldd.molecules.own_files import file_source
from molfldd.molecules.parsing import Entry
from molfldd.molecules.preparation import Source, prepare
from molfldd.molecules.qm9 import qm9_source
from molfldd.molecules.store import MoleculeDataset, read_dataset
from molfldd.molecules.zinc250k import zinc250k_source

BATCH = 16
"""Molecules that are read at once: a batch of the recipes for drug-like ones."""

SOURCES = {"qm9": qm9_source, "zinc250k": zinc250k_source, "moses": moses_source}


def first(source: Source, count: int | None) -> Source:
    """The first molecules of the first part of a source."""
    part, entries = next(iter(source.parts.items()))

    def taken() -> list[Entry]:
        return list(islice(entries(), count))

    return Source(source.name, source.version, {part: taken}, source.rules, source.distinct)


def cpu_seconds() -> float:
    """Time on processors of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def reading(dataset: MoleculeDataset, batches: int = 200) -> float:
    """Seconds that a random batch takes to be read from the file, as training reads it."""
    examples = Molecules(dataset.vocabulary, dataset.max_atoms).examples(dataset)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(examples), (batches, BATCH), generator=generator)
    started = perf_counter()
    for indices in drawn:
        examples.batch(indices)
    return (perf_counter() - started) / batches


def main(
    name: Annotated[
        str, typer.Argument(help="qm9, zinc250k, moses, or a file of SMILES.", metavar="NAME|FILE")
    ] = "qm9",
    num: Annotated[
        int | None, typer.Option(min=1, help="Only so many molecules.", show_default="all")
    ] = None,
) -> None:
    """Prepare a data set in a folder of its own, read it, and print what it took."""
    whole = SOURCES[name]() if name in SOURCES else file_source(Path(name))
    source = whole if num is None else first(whole, num)
    console = Console(soft_wrap=True, highlight=False)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        wall, cpu = perf_counter(), cpu_seconds()
        prepare(source, path)
        wall, cpu = perf_counter() - wall, cpu_seconds() - cpu
        opened = perf_counter()
        dataset = read_dataset(path)
        opened = perf_counter() - opened
        size = path.stat().st_size
        batch = reading(dataset)
    read = dataset.report.read if dataset.report else 0
    console.print(f"{source.name}: {dataset.report}")
    console.print(f"{read / cpu:,.0f} molecules per second and core; {wall:,.1f} s in all")
    console.print(f"{size / len(dataset):,.0f} bytes per molecule, {size / 1e6:,.1f} MB in all")
    console.print(f"a batch of {BATCH} is read in {1000 * batch:.2f} ms")
    console.print(
        f"opened and checked in {opened:.2f} s; at most {peak_memory(CPU):,.0f} MiB of memory"
    )


if __name__ == "__main__":
    run_script(main)
