"""Training in phases, on one process or many (Lightning Fabric).

A run is a list of phases, each with its own estimator, learning rates and length; typical are a
learning phase for both processes and a polishing phase with the forward process frozen. All
randomness of iteration i (which examples, which steps, which noise) is named by (seed, i,
process), so a resumed run continues bit for bit without any stored generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from molfldd.core.blocks import Batch, Codes, Examples, Masks
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import ControlVariate, Estimator, Term
from molfldd.core.reverse import ReverseProcess


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one objective.

    Attributes:
        name: For logs.
        iterations: Optimizer steps.
        estimator: Gradient estimator; a ``ControlVariate`` is given its parameters by the trainer.
        lr_forward: Peak learning rate of phi; 0 freezes the forward process.
        lr_reverse: Peak learning rate of theta.
        warmup: Iterations over which the rates rise linearly.
        schedule: What the rates do after that: stay, or fall to 0 along a cosine.
        ema_decay: Decay of the moving average in this phase; None for that of the run. An average
            over many iterations lags behind while the forward process moves.
    """

    name: str
    iterations: int
    estimator: Estimator | ControlVariate
    lr_forward: float = 2e-4
    lr_reverse: float = 2e-4
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"phase '{self.name}' needs at least 1 iteration")
        if not (0 <= self.lr_forward < math.inf and 0 < self.lr_reverse < math.inf):
            raise ValueError(f"phase '{self.name}' has a learning rate out of range")
        if self.warmup < 0:
            raise ValueError(f"phase '{self.name}' has a negative warmup")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"phase '{self.name}' has an ema_decay outside of [0, 1)")

    def rate(self, done: int) -> float:
        """Factor on the peak learning rates after ``done`` iterations of the phase."""
        if done < self.warmup:
            return (done + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        progress = (done - self.warmup) / max(1, self.iterations - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class TrainingOptions:
    """What all phases share.

    Attributes:
        batch_size: Examples per iteration over all processes.
        ema_decay: Decay of the moving average of the reverse network.
        clip: Largest gradient norm, of each process by itself.
        optimizer: "adamw", or "muon": Muon (orthogonalized momentum) for the hidden matrices of
            the reverse network, AdamW for all else, both with the same rates.
        weight_decay: The optimizer's.
        grouped: Batches among which examples are sorted by size, so that little of a batch is
            padding; at 1 every batch is of all sizes.
        seed: Names all randomness of the run.
    """

    batch_size: int = 128
    ema_decay: float = 0.999
    clip: float = 10.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.0
    grouped: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.grouped < 1:
            raise ValueError(f"grouped must be at least 1, got {self.grouped}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        if self.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
            raise ValueError("optimizer muon needs torch 2.9 or newer; take adamw")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True)
class Draws:
    """The random choices of every iteration, named by (seed, iteration, process).

    Attributes:
        sizes: Sizes of the examples of the data set, (N,) int64.
        steps: T.
        options: Batch size, grouping and seed.
        rank: Index of this process.
        processes: Number of processes; they share each batch evenly.
    """

    sizes: Tensor
    steps: int
    options: TrainingOptions
    rank: int = 0
    processes: int = 1

    _groups: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.options.batch_size % self.processes:
            raise ValueError(
                f"batch_size {self.options.batch_size} cannot be shared evenly by "
                f"{self.processes} processes"
            )

    def indices(self, iteration: int) -> Tensor:
        """This process' examples, one permutation of the data after another, (B,) int64."""
        share = self.options.batch_size // self.processes
        group, place = divmod(iteration, self.options.grouped)
        batch = self._group(group)[place]
        return batch[self.rank * share : (self.rank + 1) * share]

    def _group(self, number: int) -> Tensor:
        """The examples of ``grouped`` batches, similar sizes together, (grouped, batch)."""
        if number not in self._groups:
            self._groups.clear()
            self._groups[number] = self._grouped(number)
        return self._groups[number]

    def _grouped(self, number: int) -> Tensor:
        batches, examples = self.options.grouped, len(self.sizes)
        first = number * batches * self.options.batch_size
        positions = torch.arange(first, first + batches * self.options.batch_size)
        epochs = range(first // examples, int(positions[-1]) // examples + 1)
        orders = [
            self._permutation(e)[positions[positions // examples == e] % examples] for e in epochs
        ]
        rows = torch.cat(orders)
        if batches == 1:
            return rows[None]
        rows = rows[self.sizes[rows].argsort(stable=True)].view(batches, -1)
        return rows[torch.randperm(batches, generator=self._generator(number, -1))]

    def times(self, iteration: int) -> Tensor:
        """Steps of the examples, (B,) int64 in 1..T: each is uniform, together they are spread."""
        share = self.options.batch_size // self.processes
        offset = torch.randint(self.steps, (1,), generator=self._generator(iteration, 0))
        return (torch.arange(share) + self.rank * share + offset) % self.steps + 1

    def noise(self, iteration: int, device: torch.device) -> torch.Generator:
        """The randomness of z_t."""
        return self._generator(iteration, 1 + self.rank, device)

    def _permutation(self, epoch: int) -> Tensor:
        return _permutation(len(self.sizes), self.options.seed, epoch)

    def _generator(
        self, iteration: int, stream: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        seed = (self.options.seed * 1_000_003 + iteration) * 65_537 + stream
        return torch.Generator(device).manual_seed(seed % 2**63)


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator)


class Objective(nn.Module):
    """The loss as a module call, so that the engine can synchronize its gradients.

    Args:
        diffusion: Both processes.
        estimator: The gradient estimator of the phase.
    """

    def __init__(self, diffusion: Diffusion, estimator: Estimator) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.estimator = estimator
        self.generator = torch.Generator()
        self.progress = 0.0

    def forward(
        self, codes: Codes, mask: Masks, sizes: Tensor, t: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar, nats per example) and KL by block, (B,) each, at steps t (B,)."""
        term = Term(self.diffusion, Batch(codes, mask, sizes), t)
        estimate = self.estimator(term, self.generator, self.progress)
        return estimate.loss, estimate.kl


@dataclass(frozen=True)
class Iteration:
    """What one iteration of training reports.

    Attributes:
        number: Iterations done so far, this one included.
        phase: The phase it belongs to.
        t: Steps of the examples, (B,).
        kl: KL of each block at those steps, nats, (B,) per block.
        gradient_norm: Of "reverse", "forward" and what else is trained, before clipping.
    """

    number: int
    phase: Phase
    t: Tensor
    kl: dict[str, Tensor]
    gradient_norm: dict[str, float]


class Profile:
    """Running mean of the KL by step and block since the last reset.

    Args:
        steps: T.
        blocks: Names of the blocks.
    """

    def __init__(self, steps: int, blocks: tuple[str, ...]) -> None:
        self.blocks = blocks
        self._sum = torch.zeros(steps, len(blocks))
        self._visits = torch.zeros(steps)

    def add(self, iteration: Iteration) -> None:
        """Count one iteration."""
        rows = iteration.t.cpu() - 1
        kl = torch.stack([iteration.kl[name].float().cpu() for name in self.blocks], -1)
        self._sum.index_add_(0, rows, kl)
        self._visits.index_add_(0, rows, torch.ones(len(rows)))

    def reset(self) -> None:
        """Forget everything."""
        self._sum.zero_()
        self._visits.zero_()

    @property
    def kl(self) -> Tensor:
        """Mean KL, nats per example, (T, number of blocks)."""
        return self._sum / self._visits.clamp(min=1)[:, None]


class Trainer:
    """Trains both processes through all phases.

    Args:
        fabric: The engine; it carries device, precision and the number of processes.
        diffusion: Both processes.
        examples: Training data.
        phases: In order.
        options: What they share.

    Raises:
        ValueError: if the processes cannot share the batch evenly.
    """

    def __init__(
        self,
        fabric: Fabric,
        diffusion: Diffusion,
        examples: Examples,
        phases: tuple[Phase, ...],
        options: TrainingOptions,
    ) -> None:
        self.fabric = fabric
        self.diffusion = diffusion.to(fabric.device)
        self.examples = examples
        self.phases = phases
        self.options = options
        self.iteration = 0
        self.reset_average()
        self._draws = Draws(
            examples.sizes, diffusion.steps, options, fabric.global_rank, fabric.world_size
        )
        self._optimizers: list[torch.optim.Optimizer] = []
        self._resumed_optimizers: list[dict[str, Any]] = []
        self._estimator: Estimator | None = None
        self._resumed_estimator: dict[str, Any] | None = None

    @property
    def total_iterations(self) -> int:
        """Iterations of all phases together."""
        return sum(phase.iterations for phase in self.phases)

    @property
    def averaged(self) -> Diffusion:
        """The processes with the averaged reverse network; this is what samples."""
        return Diffusion(self.diffusion.forward_process, cast(ReverseProcess, self.ema.module))

    def reset_average(self) -> None:
        """Begin the moving average anew at the reverse network as it is."""
        average = ema(self.options.ema_decay)
        self.ema = AveragedModel(self.diffusion.reverse, multi_avg_fn=average)

    def run(self) -> Iterator[Iteration]:
        """Train to the end of the last phase, yielding after every iteration.

        The caller may stop at any yield; the state is then that of the iteration reported.

        Raises:
            FloatingPointError: if a gradient is infinite or NaN; nothing is updated by it.
        """
        first = 0
        for phase in self.phases:
            done, first = self.iteration - first, first + phase.iterations
            if done < phase.iterations:
                yield from self._run_phase(phase, done)

    def _run_phase(self, phase: Phase, done: int) -> Iterator[Iteration]:
        objective, optimizers = self._prepare(phase, started=done > 0)
        for number in range(done, phase.iterations):
            yield self._step(phase, number, objective, optimizers)
        self._optimizers, self._estimator = [], None

    def _prepare(self, phase: Phase, *, started: bool) -> tuple[Any, list[Any]]:
        estimator = self._estimator_of(phase)
        if started and self._resumed_estimator is not None and isinstance(estimator, nn.Module):
            estimator.load_state_dict(self._resumed_estimator)
        groups = parameter_groups(self.diffusion, phase, estimator)
        optimizers = build_optimizers(groups, self.diffusion, self.options)
        decay = self.options.ema_decay if phase.ema_decay is None else phase.ema_decay
        self.ema.multi_avg_fn = ema(decay)
        if started and self._resumed_optimizers:
            for optimizer, state in zip(optimizers, self._resumed_optimizers, strict=True):
                optimizer.load_state_dict(state)
        self._resumed_optimizers, self._resumed_estimator = [], None
        self._optimizers, self._estimator = optimizers, estimator
        module, *wrapped = self.fabric.setup(Objective(self.diffusion, estimator), *optimizers)
        return module, wrapped

    def _estimator_of(self, phase: Phase) -> Estimator:
        if not isinstance(phase.estimator, ControlVariate):
            return phase.estimator
        blocks = self.diffusion.blocks
        longest = {b.name: int(b.length(self.examples.sizes).max()) for b in blocks}
        categories = {b.name: b.categories for b in blocks}
        return phase.estimator.build(self.diffusion.steps, categories, longest)

    def _step(self, phase: Phase, done: int, objective: Any, optimizers: list[Any]) -> Iteration:
        device = self.fabric.device
        batch = self.examples.batch(self._draws.indices(self.iteration)).to(device)
        t = self._draws.times(self.iteration).to(device)
        objective.module.generator = self._draws.noise(self.iteration, device)
        objective.module.progress = done / phase.iterations
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * phase.rate(done)
        loss, kl = objective(batch.codes, batch.mask, batch.sizes, t)
        self.fabric.backward(loss)
        norms = self._clip(optimizers)
        for name, norm in norms.items():
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"the gradient of '{name}' is {norm} after {self.iteration} iterations"
                )
        for optimizer in optimizers:
            optimizer.step()
        self.ema.update_parameters(self.diffusion.reverse)
        self.iteration += 1
        return Iteration(self.iteration, phase, t, kl, norms)

    def _clip(self, optimizers: list[Any]) -> dict[str, float]:
        """Limit the gradient norm of each process' parameters; the norms before that.

        Each by itself, so that the noisy gradient of the forward process never shortens the
        step of the reverse process.
        """
        named: dict[str, list[nn.Parameter]] = {}
        for optimizer in optimizers:
            self.fabric.strategy.precision.unscale_gradients(optimizer)
            for group in optimizer.param_groups:
                named.setdefault(group["name"], []).extend(group["params"])
        return {
            name: float(clip_grad_norm_(params, self.options.clip))
            for name, params in named.items()
        }

    def gradient_variance(self) -> dict[str, float]:
        """Variance of the (clipped) gradient, summed over each process' parameters under Adam.

        Read off Adam's moments m and v, so it costs nothing: E[v - m^2] is the variance times
        2 beta / (1 + beta), with beta the decay of m. Muon keeps no v.
        """
        return {
            group["name"]: _variance(optimizer, group)
            for optimizer in self._optimizers
            if isinstance(optimizer, torch.optim.AdamW)
            for group in optimizer.param_groups
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue: networks, average, optimizer, iteration."""
        estimator = self._estimator
        return {
            "iteration": self.iteration,
            "diffusion": self.diffusion.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "estimator": estimator.state_dict() if isinstance(estimator, nn.Module) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``; call before ``run``."""
        self.iteration = int(state["iteration"])
        self.diffusion.load_state_dict(state["diffusion"])
        self.ema.load_state_dict(state["ema"])
        self._resumed_optimizers = state["optimizers"]
        self._resumed_estimator = state["estimator"]


def _variance(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    fast, slow = group["betas"]
    variance = 0.0
    for state in (optimizer.state[p] for p in group["params"] if p in optimizer.state):
        steps = float(state["step"])
        mean = state["exp_avg"] / (1 - fast**steps)
        square = state["exp_avg_sq"] / (1 - slow**steps)
        variance += float((square - mean**2).sum())
    return max(0.0, variance * float((1 + fast) / (2 * fast)))


def parameter_groups(
    diffusion: Diffusion, phase: Phase, estimator: Estimator
) -> list[dict[str, Any]]:
    """The parameters a phase trains, named, with their peak rates; freezes the others."""
    rates: list[tuple[str, nn.Module, float]] = [("reverse", diffusion.reverse, phase.lr_reverse)]
    if list(diffusion.forward_process.parameters()):
        rates.append(("forward", diffusion.forward_process, phase.lr_forward))
    if isinstance(phase.estimator, ControlVariate) and isinstance(estimator, nn.Module):
        rates.append(("estimator", estimator, phase.estimator.learning_rate))
    for _, module, rate in rates:
        module.requires_grad_(rate > 0)
    return [
        {"name": name, "params": list(module.parameters()), "lr": rate, "peak": rate}
        for name, module, rate in rates
        if rate > 0
    ]


def ema(decay: float) -> Any:
    """What torch's ``AveragedModel`` needs for an exponential moving average."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers inside a network's lists of layers (``nn.ModuleList``)."""
    lists = (m for m in network.modules() if isinstance(m, nn.ModuleList))
    linear = (m for layers in lists for m in layers.modules() if isinstance(m, nn.Linear))
    return list(dict.fromkeys(cast(nn.Parameter, m.weight) for m in linear))


def build_optimizers(
    groups: list[dict[str, Any]], diffusion: Diffusion, options: TrainingOptions
) -> list[torch.optim.Optimizer]:
    """AdamW for all groups; with "muon", Muon for the hidden matrices of the reverse network."""
    decay = options.weight_decay
    matrices = hidden_matrices(diffusion.reverse) if options.optimizer == "muon" else []
    if not matrices:
        return [torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=decay)]
    taken = {id(p) for p in matrices}
    rest = [{**g, "params": [p for p in g["params"] if id(p) not in taken]} for g in groups]
    reverse = next(group for group in groups if group["name"] == "reverse")
    return [
        torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=decay),
        torch.optim.Muon(
            [{**reverse, "params": matrices}],
            weight_decay=decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]
