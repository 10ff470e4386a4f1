"""What each part of the method is worth: variants of the QM9 recipe, trained for the same time.

Every variant is trained for the same CPU time of one thread, a part of it learning and the rest
polishing; how many iterations that is follows from the time that one takes, measured beforehand.
It begins with nothing, or with the networks of a model that another study has left (--init). Then
it is sampled and scored. The network is a small one, except in the study "full size", so that a
variant takes minutes; compare the lines of a table with each other.

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
"""Share of the time that goes to the first phase."""

SMALL = [
    "network.layers=3",
    "network.width=64",
    "network.pair_width=16",
    "network.triangles=8",
    "network.identity=none",
    "training.batch_size=16",
    "process.even_pace=0.2",
    "phases.0.warmup=100",
    "monitor.evaluate_every=1000000",
    "monitor.checkpoint_every=1000000",
    "monitor.examples=4096",
    "monitor.samples=10",
]
"""The network and the monitoring of every variant, unless it says otherwise."""


@dataclass(frozen=True)
class Variant:
    """A line of a table: a recipe and what is different in it."""

    recipe: str
    changes: tuple[str, ...] = ()

    @property
    def key(self) -> dict[str, Any]:
        """What its results are found by, whatever a study calls it."""
        return {"recipe": self.recipe, "changes": list(self.changes)}

    def config(self, *more: str) -> Config[Any, Any]:
        """The small form of the recipe with the changes."""
        return parse_config(override(read_recipe(self.recipe), [*SMALL, *self.changes, *more]))


def learned(*changes: str) -> Variant:
    """A departure from the default, learned masking."""
    return Variant("qm9", changes)


def fixed(*changes: str) -> Variant:
    """A conventional process: masking, if not changed; one step of each of more examples."""
    return Variant("qm9-fixed", ("training.batch_size=64", *changes))


def general(*changes: str) -> Variant:
    """Learned marginals over all values, between the data and their frequencies."""
    return learned("process.prior=marginal", "process.reverse=jump", *changes)


def estimator(text: str) -> Variant:
    """The default by another gradient estimator, given in YAML."""
    return learned(f"phases.0.estimator={text}")


def shared(examples: int, steps: int) -> Variant:
    """The default with so many steps of each of so many examples in a batch."""
    return learned(f"training.batch_size={examples}", f"training.steps_per_example={steps}")


FULL = (
    "network.layers=4",
    "network.width=128",
    "network.pair_width=32",
    "network.triangles=0",
    "network.identity=canonical",
    "training.batch_size=32",
)
"""The network of the recipe again."""


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
        "conventional masking, Muon": fixed(*FULL, "training.batch_size=128"),
        "conventional masking, AdamW": fixed(
            *FULL, "training.batch_size=128", "training.optimizer=adamw"
        ),
    },
    "learning": {
        "nothing learned: conventional masking": fixed(),
        "control variate, K = 1, 4 steps of each of 16 examples": learned(),
        "one step of each of 64 examples": shared(64, 1),
        "10 steps of each of 12 examples": shared(12, 10),
        "control variate, K = 2": estimator("{kind: control-variate, samples: 2}"),
        "leave-one-out, K = 2": estimator("{kind: leave-one-out, samples: 2}"),
        "REINFORCE": estimator("{kind: reinforce}"),
        "straight-through": estimator("{kind: straight-through}"),
        "ReinMax": estimator("{kind: reinmax}"),
        "Concrete": estimator("{kind: concrete}"),
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
        "even pace": learned("process.even_pace=1"),
        "free pace": learned("process.even_pace=0.02"),
        "rates fall while learning": learned("phases.0.schedule=cosine"),
        "two fifths of the rate of phi": learned("phases.0.lr_forward=0.0002"),
        "twice the rate of phi": learned("phases.0.lr_forward=0.001"),
        "four times the rate of phi": learned("phases.0.lr_forward=0.002"),
        "ten times the rate of phi": learned("phases.0.lr_forward=0.005"),
        "twice the rate, falling": learned("phases.0.schedule=cosine", "phases.0.lr_forward=0.001"),
    },
}
"""The tables by name."""


def paces(variant: Variant, folder: Path) -> list[float]:
    """CPU seconds of an iteration of each phase, after a few that do not count."""
    short = [f"phases.{i}.iterations=80" for i in (0, 1)]
    run = Run(variant.config(*short), folder, ENGINE)
    clock = [time.process_time()]
    for _ in run.trainer.run():
        clock.append(time.process_time())
    return [(clock[80 * i + 80] - clock[80 * i + 20]) / 60 for i in (0, 1)]


@dataclass(frozen=True)
class Budget:
    """What every variant of a table has.

    Attributes:
        minutes: CPU time of its training.
        samples: Molecules to score.
        init: The model to begin with, if any.
    """

    minutes: float
    samples: int
    init: Path | None


def measured(variant: Variant, budget: Budget, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Train a variant into the folder; what it took, and what came of it in each number of steps.

    Raises:
        KeyboardInterrupt: if the training is stopped.
    """
    shares = zip((LEARNING, 1 - LEARNING), paces(variant, folder), strict=True)
    iterations = [max(1, round(60 * budget.minutes * share / pace)) for share, pace in shares]
    lengths = [f"phases.{i}.iterations={n}" for i, n in enumerate(iterations)]
    config = variant.config(*lengths, f"training.seed={seed}")
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(config, folder, ENGINE)
    if budget.init is not None:
        run.start_from(budget.init)
    started = time.process_time()
    run.train(Console(quiet=True))
    if run.trainer.iteration < sum(iterations):
        raise KeyboardInterrupt
    spent = (time.process_time() - started) / 60
    for steps in run.trainer.diffusion.clock.walks:
        report = run.bound(steps)
        yield {
            "learning": iterations[0],
            "polishing": iterations[1],
            "minutes": spent,
            "bound": report.total,
            "steps": steps,
            "steps_in_use": report.steps_in_use,
            "kl": [round(nats, 3) for nats in report.kl.sum(-1).tolist()],
            **scores(folder / MODEL, steps, budget.samples),
        }


def scores(path: Path, steps: int, num: int) -> dict[str, float | None]:
    """Scores of samples of a trained model, seed 0."""
    model = load_model(path)
    drawn = model.sample(num, steps=steps)
    report = model.domain.evaluate([drawn], model.config.data, model.metrics, None)
    return {name: report.mean[name] for name in ("valid", "unique", "fcd")}


def study_results(path: Path) -> list[dict[str, Any]]:
    """What has been measured already."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(variants: Mapping[str, Variant], results: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds with their spread, in Markdown; the KL by step from t = 1 on."""
    columns = {
        "bound": (1, 2),
        "valid": (100, 1),
        "unique": (100, 1),
        "fcd": (1, 2),
        "learning": (1, 0),
        "polishing": (1, 0),
        "minutes": (1, 1),
    }
    headings = "bound|valid %|unique %|FCD|iterations: learn|polish|CPU minutes|KL by step"
    rows = []
    for name, steps in product(variants, sorted({result["steps"] for result in results})):
        sought = {**variants[name].key, "steps": steps}
        found = [r for r in results if sought.items() <= r.items()]
        if found:
            cells = [cell([r[key] for r in found], *how) for key, how in columns.items()]
            kl = [fmean(nats) for nats in zip(*(r["kl"] for r in found), strict=True)]
            profile = " ".join(f"{nats:.1f}" for nats in kl)
            rows.append([name, str(steps), str(len(found)), *cells, profile])
    return markdown(["variant", "steps", "seeds", *headings.split("|")], rows)


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
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds 0, 1, ...")] = 1,
    num: Annotated[int, typer.Option(min=2, help="Molecules to score.")] = 5_000,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant.")] = None,
    init: Annotated[Path | None, typer.Option(help="Checkpoint to begin with.")] = None,
) -> None:
    """Measure what is missing of a study and print its table."""
    if study not in STUDIES:
        raise UsageError(f"there is no study '{study}'; known are: {', '.join(STUDIES)}")
    for name in only or []:
        if name not in STUDIES[study]:
            known = "; ".join(STUDIES[study])
            raise UsageError(f"there is no variant '{name}' in '{study}'; known are: {known}")
    torch.set_num_threads(1)
    variants, budget, path = STUDIES[study], Budget(minutes, num, init), out / "results.jsonl"
    given = {"budget": minutes, "samples": num, "init": str(init) if init else None}
    for seed, name in product(range(seeds), only or variants):
        key = {**variants[name].key, "seed": seed, **given}
        if any(key.items() <= result.items() for result in study_results(path)):
            continue
        folder = out / "runs" / f"{study}-{list(variants).index(name)}-{seed}-{minutes:g}"
        for result in measured(variants[name], budget, seed, folder):
            with path.open("a") as file:
                file.write(json.dumps(key | result) + "\n")
            print(json.dumps(key | result), flush=True)
    results = [result for result in study_results(path) if given.items() <= result.items()]
    print(table(variants, results))
    print(f"\n{num:,} molecules each, drawn with seed 0; {minutes:g} CPU minutes of training.")


if __name__ == "__main__":
    run_script(main)
