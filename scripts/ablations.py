"""What each part of the method is worth: variants of a recipe, trained for the same time.

Every variant is trained for the same CPU time of one thread, a part of it learning and the rest
polishing; how many iterations that is follows from the time that one takes, measured beforehand.
Variants whose iterations cost the same can be given as many iterations instead (--iterations),
whatever else the machine is doing.
It begins with nothing, or with the networks of a model that another study has left (--init). Then
it is sampled and scored. The recipe is that of QM9, except in the studies "images", of MNIST, and
"stories". The network is a small one, except in the study "full size", so that a variant takes
minutes; compare the lines of a table with each other.

Results are kept in FOLDER/results.jsonl; what is there already is not trained again, whichever
study it was for, so a study can be interrupted, and extended by further seeds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from tables import markdown

from molfldd.cli.running import run_script
from molfldd.config import Config, override, parse_config, read_recipe
from molfldd.engine import Engine
from molfldd.errors import UsageError
from molfldd.model import load_model
from molfldd.run import MODEL, Run

LEARNING = 0.55
"""Share of the time until polishing, the last phase, begins."""

WARM_UP = 0.1
"""The share of it that goes to a warm-up, where there is one."""

QUIET = (
    "phases.0.warmup=100",
    "monitor.evaluate_every=1000000",
    "monitor.checkpoint_every=1000000",
    "monitor.samples=10",
)
"""The monitoring of every variant."""

SMALL = (
    *QUIET,
    "network.layers=3",
    "network.width=64",
    "network.pair_width=16",
    "network.triangles=8",
    "network.identity=none",
    "training.batch_size=16",
    "process.even_pace=0.2",
    "monitor.examples=4096",
)
"""The network of QM9's, unless it says otherwise."""

DIGITS = (*QUIET, "network.layers=3", "network.width=64", "network.local=8")
"""The network of MNIST's."""

STORIES = (
    *QUIET,
    "data.vocabulary=2000",
    "data.max_length=96",
    "network.layers=4",
    "network.width=192",
    "network.heads=6",
    "phases.0.lr_forward=0.0006",
    "phases.0.lr_reverse=0.0006",
    "phases.1.lr_reverse=0.0006",
    "monitor.examples=256",
)
"""The network of those of stories, as datasets/rocstories.md has it for one core."""

BASES = {
    "qm9": SMALL,
    "qm9-fixed": SMALL,
    "mnist": DIGITS,
    "mnist-fixed": DIGITS,
    "rocstories": (*STORIES, "training.batch_size=8"),
    "rocstories-fixed": (*STORIES, "training.batch_size=32"),
}


@dataclass(frozen=True)
class Variant:
    """A line of a table: a recipe and what is different in it."""

    recipe: str
    changes: tuple[str, ...] = ()

    @property
    def key(self) -> dict[str, Any]:
        """What its results are found by, whatever a study calls it."""
        return {"recipe": self.recipe, "changes": list(self.changes)}

    def changed(self, *more: str) -> Variant:
        """With further changes."""
        return Variant(self.recipe, (*self.changes, *more))

    def config(self, *more: str) -> Config[Any, Any]:
        """The small form of the recipe with the changes."""
        settings = [*BASES[self.recipe], *self.changes, *more]
        return parse_config(override(read_recipe(self.recipe), settings))


def learned(*changes: str) -> Variant:
    """A departure from the default, learned masking."""
    return Variant("qm9", changes)


def fixed(*changes: str) -> Variant:
    """A conventional process: masking, if not changed; one step of each of more examples."""
    return Variant("qm9-fixed", ("training.batch_size=64", *changes))


def general(*changes: str) -> Variant:
    """Learned marginals over all values, between the data and their frequencies."""
    return learned("process.prior=marginal", "process.reverse=jump", *changes)


def estimator(text: str) -> str:
    """The change to another gradient estimator, given in YAML."""
    return f"phases.0.estimator={text}"


def shared(examples: int, steps: int) -> tuple[str, str]:
    """The change to so many steps of each of so many examples in a batch."""
    return f"training.batch_size={examples}", f"training.steps_per_example={steps}"


def other_domain(recipe: str, drawn: tuple[str, str]) -> dict[str, Variant]:
    """What the defaults of MNIST or of stories are compared with.

    Args:
        recipe: Their recipe; that of the control has "-fixed" behind it.
        drawn: The change to another way of drawing a batch.
    """
    changes = {
        "learned masking": (),
        "another batch": drawn,
        "leave-one-out, K = 2": (LEAVE_ONE_OUT,),
        **{f"lr_forward {rate}": (f"phases.0.lr_forward={rate}",) for rate in RATES},
        **{f"even_pace {share}": (f"process.even_pace={share}",) for share in PACES},
        "Muon": ("training.optimizer=muon",),
        "AdamW": ("training.optimizer=adamw",),
    }
    found = {name: Variant(recipe, change) for name, change in changes.items()}
    return {"conventional masking": Variant(f"{recipe}-fixed")} | found


LEAVE_ONE_OUT = estimator("{kind: leave-one-out, samples: 2}")
RATES = (0.0002, 0.0005, 0.002)
PACES = (0.02, 0.1, 0.2, 0.3, 1)


FULL = (
    "network.layers=4",
    "network.width=128",
    "network.pair_width=32",
    "network.triangles=0",
    "network.identity=canonical",
    "training.batch_size=32",
)
"""The network of the recipe again."""


WITH_WARM_UP = "phases=" + json.dumps(
    [
        {
            "name": "warm-up",
            "iterations": 1,
            "estimator": {"kind": "pathwise"},
            "lr_forward": 0.0,
            "lr_reverse": 0.001,
            "warmup": 100,
        },
        *read_recipe("qm9")["phases"],
    ]
)
"""Conventional masking at first."""

STEPS = (10, 4, 2, 20, 1, 50, 100)
"""Among which one network can choose, or of one network each; the first is that of the other
studies."""

STUDIES: dict[str, dict[str, Variant]] = {
    "steps": {
        "conventional masking": fixed(f"process.steps={list(STEPS)}"),
        "learned masking": learned(f"process.steps={list(STEPS)}"),
    },
    "lengths": {
        f"{name}, T = {steps}": process(f"process.steps={steps}")
        for steps in sorted(STEPS)
        for name, process in (("conventional masking", fixed), ("learned masking", learned))
    },
    "parts": {
        "learned masking": learned(),
        "conventional masking": fixed(),
        "conventional, uniform prior": fixed("process.prior=uniform", "process.reverse=jump"),
        "conventional, marginal prior": fixed("process.prior=marginal", "process.reverse=jump"),
        "masking without a pace for every example": learned("process.forward=unpaced"),
        "masking and changed values": learned("process.forward=mixed", "process.reverse=jump"),
        "pinned marginals": general("process.forward=pinned"),
        "pinned marginals, learned prior": general(
            "process.forward=pinned", "process.prior=learned"
        ),
        "free marginals": general("process.forward=free"),
        "reverse: direct": learned("process.reverse=direct"),
        "reverse: keep or jump": learned("process.reverse=jump"),
        "reverse: mixture of 4": learned("process.components=4"),
        "coupling: independent": learned("process.coupling=independent", "process.reverse=jump"),
        "identity: canonical": learned("network.identity=canonical"),
        "identity: canonical, conventional": fixed("network.identity=canonical"),
        "identity: random order": learned("network.identity=random"),
        "triangles: none": learned("network.triangles=0"),
        "optimizer: AdamW": learned("training.optimizer=adamw"),
    },
    "full size": {
        "learned masking, Muon": learned(*FULL),
        "learned masking, AdamW": learned(*FULL, "training.optimizer=adamw"),
        "learned masking, Muon, even pace": learned(*FULL, "process.even_pace=1"),
        "conventional masking, Muon": fixed(*FULL, "training.batch_size=128"),
        "conventional masking, AdamW": fixed(
            *FULL, "training.batch_size=128", "training.optimizer=adamw"
        ),
    },
    "pace": {
        f"even_pace {share}": learned("training.optimizer=adamw", f"process.even_pace={share}")
        for share in PACES
    }
    | {
        "even_pace 0.2, after a warm-up": learned(
            "training.optimizer=adamw", "process.even_pace=0.2", WITH_WARM_UP, "phases.1.warmup=100"
        )
    },
    "images": other_domain("mnist", shared(16, 4)),
    "stories": other_domain("rocstories", shared(32, 1)),
    "learning": {
        "nothing learned: conventional masking": fixed(),
        "control variate, K = 1, 4 steps of each of 16 examples": learned(),
        "one step of each of 64 examples": learned(*shared(64, 1)),
        "10 steps of each of 12 examples": learned(*shared(12, 10)),
        "control variate, K = 2": learned(estimator("{kind: control-variate, samples: 2}")),
        "leave-one-out, K = 2": learned(LEAVE_ONE_OUT),
        "REINFORCE": learned(estimator("{kind: reinforce}")),
        "straight-through": learned(estimator("{kind: straight-through}")),
        "ReinMax": learned(estimator("{kind: reinmax}")),
        "Concrete": learned(estimator("{kind: concrete}")),
        "as published: free marginals, Concrete, then REINFORCE": general(
            "process.forward=free",
            "process.reverse=direct",
            "phases.0.estimator={kind: concrete}",
            "phases.1.estimator={kind: reinforce}",
            "phases.1.lr_forward=0.0005",
        ),
        "average of 100 iterations": learned("training.ema_decay=0.99"),
        "no average": learned("training.ema_decay=0"),
        "early steps weigh more": learned("phases.1.time_power=0.5"),
        "late steps weigh more": learned("phases.1.time_power=-0.5"),
        "rates fall while learning": learned("phases.0.schedule=cosine"),
        "two fifths of the rate of phi": learned("phases.0.lr_forward=0.0002"),
        "twice the rate of phi": learned("phases.0.lr_forward=0.001"),
        "four times the rate of phi": learned("phases.0.lr_forward=0.002"),
        "ten times the rate of phi": learned("phases.0.lr_forward=0.005"),
        "twice the rate, falling": learned("phases.0.schedule=cosine", "phases.0.lr_forward=0.001"),
    },
}
"""The tables by name."""


@dataclass(frozen=True)
class Budget:
    """What every variant of a table has.

    Attributes:
        minutes: CPU time of its training.
        iterations: Of its training, instead.
        samples: How many to score.
        init: The model to begin with, if any.
        path: The file of the data, if the recipe leaves it open.
    """

    minutes: float
    iterations: int | None
    samples: int
    init: Path | None
    path: Path | None

    @property
    def data(self) -> list[str]:
        """The change to a recipe that says where the data lie."""
        return [] if self.path is None else [f"data.path={json.dumps(str(self.path))}"]

    def __str__(self) -> str:
        minutes = f"{self.minutes:g} CPU minutes"
        return minutes if self.iterations is None else f"{self.iterations:,} iterations"

    @property
    def key(self) -> dict[str, Any]:
        """What results are found by, besides variant and seed; not by where the data lie."""
        init = None if self.init is None else str(self.init)
        return {"budget": self.iterations or self.minutes, "samples": self.samples, "init": init}


def seconds_each(variant: Variant, budget: Budget, folder: Path) -> list[float]:
    """CPU seconds of an iteration of each phase, after a few that do not count."""
    phases = range(len(variant.config(*budget.data).phases))
    short = [f"phases.{i}.iterations=80" for i in phases]
    run = Run(variant.config(*budget.data, *short), folder, ENGINE)
    clock = [time.process_time()]
    for _ in run.trainer.run():
        clock.append(time.process_time())
    return [(clock[80 * i + 80] - clock[80 * i + 20]) / 60 for i in phases]


def shares(phases: int) -> list[float]:
    """The share of the time that each of so many phases, at least two, has."""
    before = [WARM_UP] * (phases - 2)
    return [*before, LEARNING - sum(before), 1 - LEARNING]


def lengths(variant: Variant, budget: Budget, folder: Path) -> list[int]:
    """How many iterations of each phase fit into the budget."""
    if budget.iterations is not None:
        parts = shares(len(variant.config(*budget.data).phases))
        return [max(1, round(budget.iterations * share)) for share in parts]
    each = seconds_each(variant, budget, folder)
    spend = [60 * budget.minutes * share for share in shares(len(each))]
    return [max(1, round(part / one)) for part, one in zip(spend, each, strict=True)]


def measured(variant: Variant, budget: Budget, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Train a variant into the folder; what it took, and what came of it in each number of steps.

    Raises:
        KeyboardInterrupt: if the training is stopped.
    """
    iterations = lengths(variant, budget, folder)
    changes = [f"phases.{i}.iterations={n}" for i, n in enumerate(iterations)]
    config = variant.config(*budget.data, *changes, f"training.seed={seed}")
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(config, folder, ENGINE)
    if budget.init is not None:
        run.start_from(budget.init)
    started = time.process_time()
    run.train(Console(quiet=True))
    if run.trainer.iteration < sum(iterations):
        raise KeyboardInterrupt
    spent = (time.process_time() - started) / 60
    orders = run.trainer.diffusion.forward_process.orders
    for steps in run.trainer.diffusion.clock.walks:
        report = run.bound(steps)
        yield {
            **scores(folder / MODEL, steps, budget.samples),
            "learning": sum(iterations[:-1]),
            "polishing": iterations[-1],
            "minutes": spent,
            "bound": report.total,
            "steps": steps,
            "steps_in_use": report.steps_in_use,
            "kl": [round(nats, 3) for nats in report.kl.sum(-1).tolist()],
            "order": report.order[report.blocks[-1]] if orders else None,
        }


def scores(path: Path, steps: int, num: int) -> dict[str, float | None]:
    """Scores of samples of a trained model, seed 0."""
    model = load_model(path)
    drawn = model.sample(num, steps=steps)
    report = model.domain.evaluate([drawn], model.config.data, model.metrics, None)
    return {name: value for name, value in report.mean.items() if name in COLUMNS}


def study_results(path: Path) -> list[dict[str, Any]]:
    """What has been measured already."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


COLUMNS = {
    "bound": ("bound", 1, 2),
    "valid": ("valid %", 100, 1),
    "unique": ("unique %", 100, 1),
    "fcd": ("FCD", 1, 2),
    "frechet": ("Fréchet distance", 1, 1),
    "recognizable": ("recognizable %", 100, 1),
    "mauve": ("MAUVE", 1, 3),
    "ppl": ("PPL", 1, 0),
    "order": ("order %", 100, 1),
    "learning": ("iterations: learn", 1, 0),
    "polishing": ("polish", 1, 0),
    "minutes": ("CPU minutes", 1, 1),
}
"""What a table shows of what results have: heading, factor and decimals.

The bound is in nats per example. The order is that of the last block, the bonds: see
``molfldd.core.report.BoundReport.order``.
"""


def table(variants: Mapping[str, Variant], results: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds with their spread, in Markdown; the KL by step from t = 1 on."""
    columns = {k: how for k, how in COLUMNS.items() if any(k in result for result in results)}
    rows = []
    for name, steps in product(variants, sorted({result["steps"] for result in results})):
        sought = {**variants[name].key, "steps": steps}
        found = [r for r in results if sought.items() <= r.items()]
        if found:
            cells = [cell([r.get(key) for r in found], *how) for key, (_, *how) in columns.items()]
            kl = [fmean(nats) for nats in zip(*(r["kl"] for r in found), strict=True)]
            profile = " ".join(f"{nats:.1f}" for nats in kl)
            rows.append([name, str(steps), str(len(found)), *cells, profile])
    headings = [heading for heading, _, _ in columns.values()]
    return markdown(["variant", "steps", "seeds", *headings, "KL by step"], rows)


def cell(values: Sequence[float | None], factor: float, digits: int) -> str:
    """Mean, and standard deviation where there are several and digits."""
    known = [factor * value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    text = f"{fmean(known):,.{digits}f}"
    return f"{text} ± {stdev(known):.{digits}f}" if len(known) > 1 and digits else text


ENGINE = Engine(accelerator="cpu")


def main(
    study: Annotated[str, typer.Argument(help=f"Which table: {', '.join(STUDIES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for results and runs.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time of a variant.")] = 12,
    iterations: Annotated[
        int | None,
        typer.Option(min=2, help="As many iterations instead, of variants that cost the same."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds 0, 1, ...")] = 1,
    num: Annotated[int, typer.Option(min=2, help="How many samples to score.")] = 5_000,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant.")] = None,
    init: Annotated[Path | None, typer.Option(help="Checkpoint to begin with.")] = None,
    data: Annotated[Path | None, typer.Option(help="The file of stories.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change of every variant, KEY=VALUE.")
    ] = None,
) -> None:
    """Measure what is missing of a study and print its table."""
    if study not in STUDIES:
        raise UsageError(f"there is no study '{study}'; known are: {', '.join(STUDIES)}")
    for name in only or []:
        if name not in STUDIES[study]:
            known = "; ".join(STUDIES[study])
            raise UsageError(f"there is no variant '{name}' in '{study}'; known are: {known}")
    torch.set_num_threads(1)
    variants = {name: v.changed(*change or []) for name, v in STUDIES[study].items()}
    path = out / "results.jsonl"
    budget = Budget(minutes, iterations, num, init, data)
    for seed, name in product(range(seeds), only or variants):
        key = {**variants[name].key, "seed": seed, **budget.key}
        if any(key.items() <= result.items() for result in study_results(path)):
            continue
        length = f"{iterations or minutes:g}"
        parts = [study, str(list(variants).index(name)), str(seed), length, *(change or [])]
        folder = out / "runs" / "-".join(parts).replace("/", "-")
        for result in measured(variants[name], budget, seed, folder):
            with path.open("a") as file:
                file.write(json.dumps(key | result) + "\n")
            print(json.dumps(key | result), flush=True)
    results = [result for result in study_results(path) if budget.key.items() <= result.items()]
    print(table(variants, results))
    print(f"\n{num:,} samples each, drawn with seed 0; {budget} of training.")


if __name__ == "__main__":
    run_script(main)
