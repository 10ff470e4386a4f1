"""How fast training and sampling of molecules are, as ratios of one run on one thread.

1. A training step (learning and polishing phase) against the machine's limit: its time divided by
   the time its matrix products take at the measured rate of large products of the same type; in
   single precision, and in bfloat16 where the processor has it.
2. What learning the forward process costs: a step of both phases relative to one of conventional
   diffusion, by the samples of z_t and the steps per example that the gradient estimator takes.
3. The optimizers: a step for the hidden matrices relative to one of AdamW, torch's own Muon too.
4. Sampling: molecules per second of the same network in 10, 100 and 500 steps, and of the embedded
   models; what share of the time the network takes, drawing from what it says (with the head, where
   there is one), and decoding to molecules and writing SMILES. And the peak of memory.
5. Growth: time of a training step and memory, by atoms per molecule.

Random graphs stand for data, and random networks for trained ones but for the embedded models;
neither changes the cost.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import matplotlib.pyplot as plt
import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from molfldd import load_pretrained
from molfldd.building import build_diffusion
from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.config import Config, override, parse_config, read_recipe
from molfldd.core.blocks import Examples, SizeDistribution
from molfldd.core.muon import Muon
from molfldd.core.optimizers import hidden_matrices
from molfldd.core.sampling import Sampler
from molfldd.core.training import Trainer
from molfldd.domain import Data
from molfldd.engine import fast_precision
from molfldd.model import Manner, Model, batches, pretrained
from molfldd.molecules.domain import Molecules, bond_count
from molfldd.molecules.files import WRITERS
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.storage import check_writable

SIZES = {"qm9": 9, "zinc250k": 23}
"""Atoms per molecule of the first part: the usual number of each data set."""
SAMPLES_AND_STEPS = ((2, 1), (1, 1), (1, 2), (1, 4), (1, 8))
"""Samples of z_t at each of so many steps per example, for the second part."""
GROWTH = (9, 20, 38, 60, 100)
GROWTH_BATCH = 16
STEPS = (10, 100, 500)
BATCH = 500
"""Molecules that are sampled at once."""

console = Console(soft_wrap=True, highlight=False)


def random_data(atoms: int, count: int) -> Data:
    """Graphs of so many atoms with random categories, bonds as rare as in molecules."""
    vocabulary = Vocabulary.from_json(["C", "N", "O", "F"])
    domain = Molecules(vocabulary, atoms)
    sizes = torch.full((count,), atoms)
    bonds = (torch.rand(count, int(bond_count(sizes)[0])) < 2 / atoms).long()
    codes = {"atoms": torch.randint(4, (count, atoms)), "bonds": bonds}
    examples = Examples(domain.blocks, codes, sizes)
    return Data(domain, examples, examples, "random")


def trainer(config: Config[Any, Any], data: Data, precision: Any) -> Trainer:
    """On the CPU."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    diffusion = build_diffusion(config, data)
    return Trainer(fabric, diffusion, data.train, config.phases, config.training)


def least_seconds(call: Callable[[], object], times: int) -> float:
    """The least CPU time of several calls, after one that is not counted."""
    call()
    spent = []
    for _ in range(times):
        started = time.thread_time()
        call()
        spent.append(time.thread_time() - started)
    return min(spent)


def product_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of square matrix products."""
    a = torch.randn(size, size).to(dtype)
    return 2 * size**3 / least_seconds(lambda: a @ a, 10)


def step_costs(
    config: Config[Any, Any], data: Data, times: int, precision: str | None = None
) -> list[tuple[str, float, float]]:
    """Name, seconds and FLOPs of a step of each phase, as ``molfldd train`` computes it here."""
    precision = precision or fast_precision("cpu")
    costs = []
    for phase in config.phases:
        alone = config.model_copy(update={"phases": (replace(phase, iterations=times + 2),)})
        iterations = iter(trainer(alone, data, precision).run())
        with FlopCounterMode(display=False) as counter:
            next(iterations)
        flops = counter.get_total_flops()
        costs.append((phase.name, least_seconds(partial(next, iterations), times), flops))
    return costs


def bench_steps(times: int) -> None:
    """Part 1."""
    table = Table("recipe", "batch", "precision", "phase", "ms per step", "GFLOP", "time / limit")
    for precision in dict.fromkeys(("32-true", fast_precision("cpu"))):
        dtype = torch.bfloat16 if "bf16" in precision else torch.float32
        rate = product_rate(dtype)
        console.print(f"{dtype} products of 1,024 x 1,024: {rate / 1e9:.0f} GFLOP/s on one thread")
        for name, atoms in SIZES.items():
            config = parse_config(read_recipe(name))
            batch = config.training.batch_size
            data = random_data(atoms, 4 * batch)
            for phase, seconds, flops in step_costs(config, data, times, precision):
                cost = f"{1000 * seconds:.0f}", f"{flops / 1e9:.1f}"
                limit = f"{seconds * rate / flops:.2f}"
                table.add_row(name, str(batch), precision, phase, *cost, limit)
    console.print(table)


def bench_learning(times: int) -> None:
    """Part 2, with as many examples as make the same number of pairs of example and step."""
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
    """Part 3, of the network of the QM9 recipe with random gradients."""
    diffusion = build_diffusion(parse_config(read_recipe("qm9")), random_data(9, 100))
    matrices = hidden_matrices(diffusion.reverse)
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    optimizers = {"AdamW": torch.optim.AdamW(matrices), "Muon": Muon(matrices)}
    if hasattr(torch.optim, "Muon"):
        optimizers["Muon of torch"] = torch.optim.Muon(matrices)
    spent = {name: least_seconds(one.step, times) for name, one in optimizers.items()}
    table = Table("optimizer", "ms per step", "relative")
    for name, seconds in spent.items():
        table.add_row(name, f"{1000 * seconds:.1f}", f"{seconds / spent['AdamW']:.1f}")
    console.print(table)


def random_model(steps: int, data: Data) -> Model:
    """The network of the QM9 recipe for so many steps, untrained."""
    config = parse_config(override(read_recipe("qm9"), [f"process.steps={steps}"]))
    diffusion = build_diffusion(config, data)
    sampler = Sampler(
        diffusion.reverse.eval(), diffusion.prior, SizeDistribution.of(data.train.sizes)
    )
    return Model(config, data.domain, sampler, "random", {}, Manner())


class Clock:
    """CPU time of the calling thread spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.seconds -= time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time()

    def watch(self, module: torch.nn.Module) -> None:
        """Count the forward passes of a module."""
        module.register_forward_pre_hook(lambda *_: self.__enter__())
        module.register_forward_hook(lambda *_: self.__exit__())


def sampling_costs(model: Model, count: int) -> tuple[float, float, float]:
    """CPU seconds of the network, of drawing besides, and of decoding and writing SMILES."""
    network, sampling, everything = Clock(), Clock(), Clock()
    network.watch(model.sampler.reverse.network)

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
    """Part 4."""
    data = random_data(9, 1000)
    models = {f"untrained, {steps} steps": random_model(steps, data) for steps in STEPS}
    models |= {name: load_pretrained(name) for name in pretrained() if name.startswith("qm9")}
    table = Table("model", "molecules per second", "relative", "network", "drawing", "writing")
    first = None
    for name, model in models.items():
        drawn = max(1, count * STEPS[0] // max(model.steps, STEPS[0]))
        costs = sampling_costs(model, drawn)
        rate = drawn / sum(costs)
        first = first or rate
        shares = [f"{100 * cost / sum(costs):.1f} %" for cost in costs]
        table.add_row(name, f"{rate:.0f}", f"{rate / first:.3f}", *shares)
    console.print(table)
    peaks = [(number, measured_alone(_peak, number)) for number in (count // 4, count)]
    shown = ", ".join(f"{number:,} molecules {mebibytes:.0f} MiB" for number, mebibytes in peaks)
    console.print(f"peak of memory of all of it, {BATCH} molecules at once: {shown}")


def peak_memory() -> float:
    """The most this process has held, MiB; ``ru_maxrss`` would count what its parent held too."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


def _peak(count: int, results: Any) -> None:
    torch.set_num_threads(1)
    sampling_costs(load_pretrained("qm9"), count)
    results.put(peak_memory())


def measured_alone(measure: Callable[..., None], *arguments: object) -> Any:
    """What a function puts into the queue it is given last, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=measure, args=(*arguments, results))
    process.start()
    found = results.get()
    process.join()
    return found


def _growth(atoms: int, times: int, results: Any) -> None:
    torch.set_num_threads(1)
    changes = ["data.name=qm9", f"training.batch_size={GROWTH_BATCH}", "training.grouped=1"]
    config = parse_config(override(read_recipe("zinc250k"), changes))
    with redirect_stdout(StringIO()):
        data = random_data(atoms, 4 * GROWTH_BATCH)
        before = peak_memory()
        (_, seconds, _), *_ = step_costs(config, data, times)
    results.put((seconds, peak_memory() - before))


def bench_growth(times: int, picture: Path | None) -> None:
    """Part 5, each size in a process of its own, for its memory."""
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


def main(
    times: Annotated[int, typer.Option(min=1, help="Steps of which the fastest counts.")] = 5,
    molecules: Annotated[int, typer.Option(min=1, help="To sample in ten steps.")] = 2000,
    picture: Annotated[Path | None, typer.Option(help="Draw the last table here.")] = None,
) -> None:
    """Print the five tables."""
    if picture is not None:
        check_writable(picture, SUFFIXES)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bench_steps(times)
    bench_learning(times)
    bench_optimizers(times)
    bench_sampling(molecules)
    bench_growth(times, picture)


if __name__ == "__main__":
    run_script(main)
