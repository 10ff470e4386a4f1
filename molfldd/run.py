"""A training run: a folder with the recipe, the log, the state to resume from and the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from molfldd.beginning import warm_start
from molfldd.building import build_diffusion, load_data
from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.config import Config
from molfldd.core.blocks import SizeDistribution
from molfldd.core.estimators import ConcreteRelaxation
from molfldd.core.phases import learning_is_over
from molfldd.core.profile import Iteration, Profile
from molfldd.core.report import BoundReport, evaluate_bound
from molfldd.core.sampling import Sampler
from molfldd.core.training import Trainer
from molfldd.diagnosis import complaints, without_order
from molfldd.engine import Engine, lost_another, not_compiled, peak_memory, stop_signals
from molfldd.errors import MolflddError, UsageError
from molfldd.log import LOG, RunLog, rounded
from molfldd.model import batches, model_header

STATE = "state.safetensors"
"""Everything needed to resume."""
MODEL = "model.safetensors"
"""The averaged reverse process, which is all that ``molfldd sample`` needs, and the forward
process with its matrices in half precision, to go on from."""

SETTLED = 5
"""Time constants of the moving average after which it stands for the current network."""

Show = Callable[[Iteration, float], None]
"""Shows progress: the iteration and the bound of late."""


class Run:
    """Trains a recipe in a folder.

    Args:
        config: The recipe.
        folder: Where everything is written.
        engine: Where and how to compute.

    Raises:
        UsageError: if the recipe cannot be trained so.
    """

    def __init__(self, config: Config[Any, Any], folder: Path, engine: Engine) -> None:
        self.config = config
        self.folder = folder
        engine.check_batch(config.training.batch_size)
        self.fabric = engine.fabric()
        self.log = RunLog(folder / LOG, writes=self.leads)
        with self.fabric.rank_zero_first():
            self.data = load_data(config)
        torch.manual_seed(config.training.seed)
        diffusion = build_diffusion(config, self.data)
        try:
            self.trainer = Trainer(
                self.fabric, diffusion, self.data.train, config.phases, config.training
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.sizes = SizeDistribution.of(self.data.train.sizes)
        self.seconds = 0.0
        self.metrics: dict[str, Any] = {}
        self.sample_quality: dict[str, float] = {}
        self.soft_bound: float | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return bool(self.fabric.is_global_zero)

    def resume(self) -> None:
        """Continue from the folder's state.

        Raises:
            MolflddError: if there is none, if it belongs to other data, another network or another
                phase, or has more iterations than the recipe.
        """
        path = self.folder / STATE
        header, state = read_checkpoint(path)
        if header.get("fingerprint") != self.data.fingerprint:
            raise MolflddError(f"{path} was trained on other data; start a new run folder")
        try:
            self._check_optimizer(header["config"])
            self.trainer.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise MolflddError(
                f"{path} does not fit this recipe; resume with the recipe it was started with"
            ) from error
        if self.trainer.iteration > self.trainer.total_iterations:
            raise MolflddError(
                f"{path} is of {self.trainer.iteration:,} iterations, and the recipe has "
                f"{self.trainer.total_iterations:,}; give its phases more"
            )
        self.metrics = header["metrics"]
        self.seconds = float(self.metrics["seconds"])
        self.log.cut(self.trainer.iteration)

    def _check_optimizer(self, started_with: Mapping[str, Any]) -> None:
        if started_with["training"]["optimizer"] != self.config.training.optimizer:
            raise ValueError("another optimizer")

    def start_from(self, path: Path) -> bool:
        """Begin with the networks of a checkpoint instead of random ones; see ``warm_start``."""
        whole = warm_start(path, self.trainer.diffusion, self.config, self.data.domain)
        self.trainer.reset_average()
        return whole

    def train(self, console: Console) -> None:
        """Train to the end, or until Ctrl-C or SIGTERM, which keep the state reached.

        Args:
            console: For progress.

        Raises:
            MolflddError: if the gradient is no longer finite, or another process is gone.
        """
        try:
            self._train(console)
        except FloatingPointError as error:
            raise MolflddError(
                f"training broke down: {error}; {self._again()} with smaller learning rates "
                "(--set phases.0.lr_reverse=...)"
            ) from error
        except RuntimeError as error:
            if not_compiled(error):
                raise MolflddError(
                    f"the network cannot be compiled here: {str(error).splitlines()[0]}; "
                    f"{self._again()} without training.compile"
                ) from error
            if not lost_another(error):
                raise
            raise MolflddError(
                f"another process of this training ended or cannot be reached; {self._again()}"
            ) from error

    def _again(self) -> str:
        kept = (self.folder / STATE).is_file()
        return f"resume from the state kept in {self.folder}" if kept else "start again"

    def _train(self, console: Console) -> None:
        profile = Profile(self.trainer.diffusion.steps, self.block_names)
        started = time.monotonic() - self.seconds
        with self._progress(console) as show, stop_signals() as stop:
            for iteration in self.trainer.run():
                self.seconds = time.monotonic() - started
                profile.add(iteration)
                self._monitor(iteration, profile, show)
                if self._any(stop.is_set()):
                    self._stop(iteration, console)
                    return
        if self.metrics.get("evaluated_at") != self.trainer.iteration:
            self.evaluate(self.trainer.iteration)
        self.save()

    def _stop(self, iteration: Iteration, console: Console) -> None:
        self.save()
        if self.leads:
            console.print(
                f"stopped after {iteration.number} iterations; "
                f"continue with --resume from {self.folder / STATE}"
            )

    def _monitor(self, iteration: Iteration, profile: Profile, show: Show) -> None:
        monitor = self.config.monitor
        if iteration.number % monitor.log_every == 0:
            bound = self._log_training(iteration, profile)
            show(iteration, bound)
            profile.reset()
        if iteration.number % monitor.evaluate_every == 0:
            self.evaluate(iteration.number)
        if iteration.number % monitor.checkpoint_every == 0:
            self.save()

    def _any(self, flag: bool) -> bool:
        """Whether the flag is up in any process; they must stop together."""
        if self.fabric.world_size == 1:
            return flag
        raised = self.fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum")
        return float(cast(torch.Tensor, raised)) > 0

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in the order of the log's lists."""
        return tuple(block.name for block in self.data.domain.blocks)

    @property
    def size_term(self) -> float:
        """Mean of -log p(n) over the training data, nats per example."""
        return -float(self.sizes.log_prob(self.data.train.sizes).mean())

    def _log_training(self, iteration: Iteration, profile: Profile) -> float:
        first = self.trainer.diffusion.clock.walks[0]
        bound = float(profile.kl[:first].sum()) + self.size_term
        kl = {
            name: [round(v, 4) for v in profile.kl[:, i].tolist()]
            for i, name in enumerate(self.block_names)
        }
        soft = isinstance(iteration.phase.estimator, ConcreteRelaxation)
        decay = self.config.training.decay_of(iteration.phase)
        settled = iteration.number * (1 - decay) > SETTLED
        self.soft_bound = bound if soft and settled else None
        self.log.add(
            "train",
            iteration.number,
            phase=iteration.phase.name,
            seconds=round(self.seconds, 1),
            memory=round(peak_memory(self.fabric.device)),
            bound=round(bound, 4),
            gradient_norm=rounded(iteration.gradient_norm),
            gradient_variance=rounded(self.trainer.gradient_variance()),
            kl=kl,
        )
        return bound

    def evaluate(self, number: int) -> None:
        """Log the bound on held-out hard samples and the quality of generated ones."""
        if not self.leads:
            return
        report = self.bound()
        quality = rounded(self.quality())
        walks = self.trainer.diffusion.clock.walks[1:]
        reports = {steps: self.bound(steps) for steps in walks}
        orders = self.trainer.diffusion.forward_process.orders
        content, others = report.to_json(), other_bounds(reports)
        if orders:
            content["order"] = {name: round(share, 4) for name, share in report.order.items()}
        self.metrics = {"evaluated_at": number, "bound": content["bound"], **quality, **others}
        self.sample_quality = quality
        learned = orders and learning_is_over(self.config.phases, number)
        worries = complaints(report, self.soft_bound) + (without_order(report) if learned else [])
        for steps, other in reports.items():
            worries += [f"in {steps} steps: {message}" for message in complaints(other, None)]
        for message in worries:
            self.log.add("warning", number, message=message)
        seconds = round(self.seconds, 1)
        self.log.add("evaluate", number, seconds=seconds, **quality, **content, **others)

    def bound(self, steps: int | None = None) -> BoundReport:
        """The bound of the averaged model on held-out examples, always the same ones.

        Args:
            steps: T, one of those it is trained for; the first of them by default.
        """
        held_out = self.data.held_out(self.config.monitor.examples)
        batches = [batch.to(self.fabric.device) for batch in held_out]
        generator = torch.Generator(self.fabric.device).manual_seed(0)
        with self.fabric.autocast():
            return evaluate_bound(self.trainer.averaged, batches, self.sizes, generator, steps)

    def quality(self) -> dict[str, float]:
        """Quality of samples of the averaged model, always of the same seed."""
        averaged = self.trainer.averaged
        domain = self.data.domain
        joint = domain.joint_draws()[domain.joint]
        sampler = Sampler(averaged.reverse, averaged.prior, self.sizes, joint)
        decoded = []
        for indices in batches(self.config.monitor.samples, self.data.at_once):
            decoded += domain.samples(sampler.sample(0, indices))
        return domain.quality(decoded)

    def save(self) -> None:
        """Write the state to resume from, and the model."""
        if not self.leads:
            return
        metrics = {
            **self.metrics,
            "iterations": self.trainer.iteration,
            "seconds": round(self.seconds, 1),
        }
        header = model_header(self.config, self.data, metrics)
        write_checkpoint(self.folder / STATE, header, self.trainer.state_dict())
        averaged = self.trainer.averaged
        tree = {
            "reverse": averaged.reverse.state_dict(),
            "prior": averaged.prior.probs,
            "forward": halved(averaged.forward_process),
        }
        write_checkpoint(self.folder / MODEL, header, tree)

    @contextmanager
    def _progress(self, console: Console) -> Iterator[Show]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, disable=not self.leads) as bar:
            task = bar.add_task(
                "train",
                total=self.trainer.total_iterations,
                completed=self.trainer.iteration,
                status="",
            )

            def show(iteration: Iteration, bound: float) -> None:
                quality = "".join(f", {k} {v:.3f}" for k, v in self.sample_quality.items())
                bar.update(
                    task,
                    completed=iteration.number,
                    description=iteration.phase.name,
                    status=f"bound {bound:.2f}{quality}",
                )

            yield show


def other_bounds(reports: Mapping[int, BoundReport]) -> dict[str, Any]:
    """The bounds in the other numbers of steps, if there are any, for log and checkpoint."""
    bounds = {str(steps): report.to_json()["bound"] for steps, report in reports.items()}
    return {"other_bounds": bounds} if bounds else {}


def halved(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a module with its matrices in half precision; all else is small, and exact."""
    state = module.state_dict()
    return {
        name: v.half() if v.ndim > 1 and v.is_floating_point() else v for name, v in state.items()
    }
