"""The parts of the benchmark about training: the limit, learning, optimizers, profile, growth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import torch
from lightning_fabric import Fabric
from measuring import CPU, console, least_seconds, measured_alone, random_data
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from molfldd.building import build_diffusion
from molfldd.config import Config, override, parse_config, read_recipe
from molfldd.core.muon import Muon
from molfldd.core.optimizers import hidden_matrices
from molfldd.core.phases import Phase
from molfldd.core.profile import Iteration
from molfldd.core.training import Trainer
from molfldd.domain import Data
from molfldd.engine import fast_precision, peak_memory

SIZES = {"qm9": 9, "zinc250k": 23}
"""Atoms per molecule: the usual number of each data set."""
SAMPLES_AND_STEPS = ((2, 1), (1, 1), (1, 2), (1, 4), (1, 8))
"""Samples of z_t at each of so many steps per example, for what learning costs."""
GROWTH = (9, 20, 38, 60, 100)
GROWTH_BATCH = 16
PROFILED = 8
"""Operations that are named, those that take most."""


def steps_of(
    config: Config[Any, Any], phase: Phase, data: Data, precision: Any = None
) -> Iterator[Iteration]:
    """Steps of a phase alone, on the CPU, in the fastest precision if none is named."""
    precision = precision or fast_precision("cpu")
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    alone = (replace(phase, iterations=1_000),)
    return Trainer(fabric, build_diffusion(config, data), data.train, alone, config.training).run()


def product_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of square matrix products."""
    a = torch.randn(size, size).to(dtype)
    return 2 * size**3 / least_seconds(lambda: a @ a, 10)


def step_costs(
    config: Config[Any, Any], data: Data, times: int, precision: str | None = None
) -> list[tuple[str, float, float]]:
    """Name, seconds and FLOPs of a step of each phase, as ``molfldd train`` computes it here."""
    costs = []
    for phase in config.phases:
        iterations = steps_of(config, phase, data, precision)
        with FlopCounterMode(display=False) as counter:
            next(iterations)
        flops = counter.get_total_flops()
        costs.append((phase.name, least_seconds(partial(next, iterations), times), flops))
    return costs


def compiled(config: Config[Any, Any]) -> Config[Any, Any]:
    """The same with ``training.compile``."""
    return parse_config(override(config.model_dump(mode="json"), ["training.compile=true"]))


def bench_steps(times: int) -> None:
    """Part 1."""
    headings = "recipe|batch|precision|phase|GFLOP|ms|time / limit|compiled: ms|time / limit"
    table = Table(*headings.split("|"))
    for precision in dict.fromkeys(("32-true", fast_precision("cpu"))):
        dtype = torch.bfloat16 if "bf16" in precision else torch.float32
        rate = product_rate(dtype)
        console.print(f"{dtype} products of 1,024 x 1,024: {rate / 1e9:.0f} GFLOP/s on one thread")
        for name, atoms in SIZES.items():
            config = parse_config(read_recipe(name))
            batch = config.training.share(1)
            data = random_data(atoms, 4 * batch)
            for phase, (title, seconds, flops) in zip(
                config.phases, step_costs(config, data, times, precision), strict=True
            ):
                faster = steps_of(compiled(config), phase, data, precision)
                row = [name, str(batch), precision, title, f"{flops / 1e9:.1f}"]
                for spent in (seconds, least_seconds(partial(next, faster), times)):
                    row += [f"{1000 * spent:.0f}", f"{spent * rate / flops:.2f}"]
                table.add_row(*row)
    console.print(table)


def bench_learning(times: int) -> None:
    """Part 3, with as many examples as make the same number of pairs of example and step."""
    pairs = 64
    table = Table("process", "samples", "steps per example", "learning", "polishing")

    def costs(name: str, *changes: str) -> list[float]:
        config = parse_config(override(read_recipe(name), list(changes)))
        found = step_costs(config, random_data(SIZES["qm9"], 4 * pairs), times)
        return [seconds for _, seconds, _ in found]

    (conventional, _) = costs("qm9-fixed", f"training.batch_size={pairs}")
    for samples, steps in SAMPLES_AND_STEPS:
        learning, polishing = costs(
            "qm9",
            f"training.batch_size={pairs // steps}",
            f"training.steps_per_example={steps}",
            f"phases.0.estimator={{kind: control-variate, samples: {samples}}}",
        )
        relative = f"{learning / conventional:.2f}", f"{polishing / conventional:.2f}"
        table.add_row("learned", str(samples), str(steps), *relative)
    console.print(
        f"relative to a step of conventional diffusion, {pairs} pairs of example and step"
    )
    console.print(table)


def bench_optimizers(times: int) -> None:
    """Part 4, of the network of the QM9 recipe with random gradients."""
    diffusion = build_diffusion(parse_config(read_recipe("qm9")), random_data(9, 100))
    matrices = hidden_matrices(diffusion.reverse)
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    optimizers = {
        "AdamW": torch.optim.AdamW(matrices),
        "Muon": Muon(matrices),
        "Muon, bfloat16": Muon(matrices, dtype=torch.bfloat16),
    }
    if hasattr(torch.optim, "Muon"):
        optimizers["Muon of torch"] = torch.optim.Muon(matrices)
    spent = {name: least_seconds(one.step, times) for name, one in optimizers.items()}
    table = Table("optimizer", "ms per step", "relative")
    for name, seconds in spent.items():
        table.add_row(name, f"{1000 * seconds:.1f}", f"{seconds / spent['AdamW']:.1f}")
    console.print(table)


def bench_profile() -> None:
    """Part 2, of a step of the last phase, in the precision of ``molfldd train``."""
    table = Table("operation", *SIZES, title="share of the CPU time of a polishing step, %")
    shares = {}
    for name, atoms in SIZES.items():
        config = parse_config(read_recipe(name))
        iterations = steps_of(config, config.phases[-1], random_data(atoms, 100))
        next(iterations)
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
            next(iterations)
        spent = {event.key: event.self_cpu_time_total for event in found.key_averages()}
        shares[name] = {key: time / sum(spent.values()) for key, time in spent.items()}
    first, *_ = shares.values()
    for key in sorted(first, key=first.__getitem__, reverse=True)[:PROFILED]:
        table.add_row(key, *(f"{100 * share.get(key, 0.0):.1f}" for share in shares.values()))
    console.print(table)


def _growth(atoms: int, times: int, results: Any) -> None:
    torch.set_num_threads(1)
    changes = ["data.name=qm9", f"training.batch_size={GROWTH_BATCH}", "training.grouped=1"]
    config = parse_config(override(read_recipe("zinc250k"), changes))
    with redirect_stdout(StringIO()):
        data = random_data(atoms, 4 * GROWTH_BATCH)
        before = peak_memory(CPU)
        (_, seconds, _), *_ = step_costs(config, data, times)
    results.put((seconds, peak_memory(CPU) - before))


def bench_growth(times: int, picture: Path | None) -> None:
    """Part 6, each size in a process of its own, for its memory."""
    table = Table("atoms", "pairs", "ms per molecule at four steps", "MiB for the step")
    found: list[tuple[float, float]] = []
    for atoms in GROWTH:
        seconds, memory = measured_alone(_growth, atoms, times)
        found.append((seconds, memory))
        per_molecule = f"{1000 * seconds / GROWTH_BATCH:.1f}"
        table.add_row(str(atoms), str(atoms * (atoms - 1) // 2), per_molecule, f"{memory:.0f}")
    console.print(table)
    seconds, memory = ([pair[part] for pair in found] for part in (0, 1))
    console.print(
        f"with the atoms per molecule, time grows to the power {exponent(seconds):.2f}, "
        f"memory to the power {exponent(memory):.2f}"
    )
    if picture is not None:
        draw_growth(seconds, memory, picture)


def draw_growth(seconds: list[float], memory: list[float], picture: Path) -> None:
    """Both relative to the smallest molecules, beside linear and quadratic growth."""
    matplotlib.use("Agg")
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    relative = [atoms / GROWTH[0] for atoms in GROWTH]
    for name, values in (("time of a training step", seconds), ("memory", memory)):
        label = f"{name}: power {exponent(values):.2f}"
        axes.loglog(GROWTH, [value / values[0] for value in values], "o-", label=label)
    axes.loglog(GROWTH, relative, ":", color="gray", label="linear, quadratic")
    axes.loglog(GROWTH, [ratio**2 for ratio in relative], ":", color="gray")
    axes.set(xlabel="atoms per molecule", ylabel=f"relative to {GROWTH[0]} atoms")
    axes.set_xticks(GROWTH, [str(atoms) for atoms in GROWTH])
    axes.legend()
    figure.savefig(picture, dpi=130)
    console.print(f"written {picture}")


def exponent(values: list[float]) -> float:
    """Slope of log value against log atoms, by least squares."""
    x = Tensor([math.log(atoms) for atoms in GROWTH])
    y = Tensor([math.log(value) for value in values])
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
