"""The part of the benchmark about sampling: molecules per second, shares of time, memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import CPU, Clock, console, measured_alone, random_data
from rich.table import Table

from molfldd import load_pretrained
from molfldd.building import build_diffusion
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import SizeDistribution
from molfldd.core.reverse import AutoregressiveReverse
from molfldd.core.sampling import Sampler
from molfldd.domain import Data
from molfldd.engine import peak_memory
from molfldd.model import Manner, Model, batches
from molfldd.molecules.files import WRITERS

STEPS = (10, 100, 500)
ATOMS = 9
"""Of each molecule of an untrained network. Of larger ones, as of more steps, fewer are made."""
EMBEDDED = ("qm9", "qm9-4steps", "qm9-100steps", "moses", "zinc250k")
BATCH = 500
"""Molecules that are sampled at once."""


def random_model(steps: int, data: Data) -> Model:
    """The network of the QM9 recipe for so many steps, untrained."""
    config = parse_config(override(read_recipe("qm9"), [f"process.steps={steps}"]))
    diffusion = build_diffusion(config, data)
    sampler = Sampler(
        diffusion.reverse.eval(), diffusion.prior, SizeDistribution.of(data.train.sizes)
    )
    return Model(config, data.domain, sampler, "random", {}, Manner())


def sampling_costs(model: Model, count: int) -> tuple[float, float, float]:
    """CPU seconds of the networks, of drawing besides, and of decoding and writing SMILES."""
    network, sampling, everything = Clock(), Clock(), Clock()
    reverse = model.sampler.reverse
    network.watch(reverse.network)
    if isinstance(reverse, AutoregressiveReverse):
        network.watch(reverse.head)

    def molecules() -> Iterator[Any]:
        for indices in batches(count, BATCH):
            with sampling:
                drawn = model.sampler.sample(0, indices)
            yield from map(model.domain.usable, model.domain.samples(drawn))

    with tempfile.TemporaryDirectory() as folder, everything:
        WRITERS[".smi"](Path(folder) / "all.smi", molecules())
    drawing = sampling.seconds - network.seconds
    return network.seconds, drawing, everything.seconds - sampling.seconds


def bench_sampling(count: int) -> None:
    """Part 5."""
    data = random_data(ATOMS, 1000)
    models = {f"untrained, {steps} steps": random_model(steps, data) for steps in STEPS}
    models |= {name: load_pretrained(name) for name in EMBEDDED}
    table = Table("model", "molecules per second", "relative", "networks", "drawing", "writing")
    first = None
    for name, model in models.items():
        each = max(model.steps, STEPS[0]) * model.sampler.sizes.largest**2
        drawn = max(1, count * STEPS[0] * ATOMS**2 // each)
        costs = sampling_costs(model, drawn)
        rate = drawn / sum(costs)
        first = first or rate
        shares = [f"{100 * cost / sum(costs):.1f} %" for cost in costs]
        table.add_row(name, f"{rate:.0f}", f"{rate / first:.3f}", *shares)
    console.print(table)
    peaks = [(number, measured_alone(_peak, number)) for number in (count // 4, count)]
    shown = ", ".join(f"{number:,} molecules {mebibytes:.0f} MiB" for number, mebibytes in peaks)
    console.print(f"peak of memory of all of it, {BATCH} molecules at once: {shown}")


def _peak(count: int, results: Any) -> None:
    torch.set_num_threads(1)
    sampling_costs(load_pretrained("qm9"), count)
    results.put(peak_memory(CPU))
