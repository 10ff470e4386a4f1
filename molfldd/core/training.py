"""Training in phases, on one process or many (Lightning Fabric).

A run is a list of phases, each with its own estimator, learning rates and length; typical are a
learning phase for both processes and a polishing phase with the forward process frozen. All
randomness of iteration i (which examples, which steps, which noise) is named by (seed, i,
process), so a resumed run continues bit for bit without any stored generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from molfldd.core.blocks import Batch, Codes, Examples, Masks
from molfldd.core.diffusion import Diffusion
from molfldd.core.draws import Draws
from molfldd.core.estimators import ControlVariate, Estimator, Term
from molfldd.core.network import compile_layers
from molfldd.core.optimizers import (
    build_optimizers,
    continue_optimizer,
    ema,
    hidden_matrices,
    parameter_groups,
    variance,
)
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.core.profile import Iteration
from molfldd.core.reverse import ReverseProcess


class Objective(nn.Module):
    """The loss as a module call, so that the engine can synchronize its gradients.

    Args:
        diffusion: Both processes.
        estimator: The gradient estimator of the phase.
        time_power: The weights of its steps.
    """

    def __init__(self, diffusion: Diffusion, estimator: Estimator, time_power: float) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.estimator = estimator
        self.register_buffer("weights", diffusion.clock.weights(time_power), persistent=False)
        self.generator = torch.Generator()
        self.progress = 0.0

    def forward(
        self, codes: Codes, mask: Masks, sizes: Tensor, t: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar, nats per example) and KL by block, (M * B,) each, at steps t (M * B,)."""
        term = Term.of(self.diffusion, Batch(codes, mask, sizes), t, self.get_buffer("weights"))
        estimate = self.estimator(term, self.generator, self.progress)
        return estimate.loss, estimate.kl


class Trainer:
    """Trains both processes through all phases.

    Args:
        fabric: The engine; it carries device, precision and the number of processes.
        diffusion: Both processes; what is frozen in them stays so.
        examples: Training data.
        phases: In order.
        options: What they share.

    Raises:
        ValueError: if the processes cannot share the batch evenly, or there is nothing for Muon.
    """

    def __init__(
        self,
        fabric: Fabric,
        diffusion: Diffusion,
        examples: Examples,
        phases: tuple[Phase, ...],
        options: TrainingOptions,
    ) -> None:
        if options.optimizer == "muon" and not hidden_matrices(diffusion.reverse):
            raise ValueError(
                "optimizer 'muon' is for linear layers within an nn.ModuleList, of which the "
                "network has none; take 'adamw'"
            )
        self.fabric = fabric
        self.diffusion = diffusion.to(fabric.device)
        self.examples = examples
        self.phases = phases
        self.options = options.for_examples(examples.largest, fabric.world_size)
        self.iteration = 0
        self._frozen = [p for p in diffusion.parameters() if not p.requires_grad]
        self.reset_average()
        self._draws = Draws(
            examples.sizes,
            diffusion.clock,
            self.options,
            fabric.global_rank,
            fabric.world_size,
        )
        self._optimizers: list[torch.optim.Optimizer] = []
        self._estimator: Estimator | None = None
        if options.compile:
            compile_layers(self.diffusion)

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
        self.ema = AveragedModel(self.diffusion.reverse)

    def run(self) -> Iterator[Iteration]:
        """Train to the end of the last phase, yielding after every iteration.

        The caller may stop at any yield; the state is then that of the iteration reported.

        Raises:
            FloatingPointError: if a gradient is infinite or NaN; nothing is updated by it.
        """
        for phase, done in self._progress():
            if done < phase.iterations:
                yield from self._run_phase(phase, done)

    def _progress(self) -> Iterator[tuple[Phase, int]]:
        """The phases that have begun or are next, and how many iterations of each are done."""
        first = 0
        for phase in self.phases:
            if self.iteration >= first:
                yield phase, min(self.iteration - first, phase.iterations)
            first += phase.iterations

    def _run_phase(self, phase: Phase, done: int) -> Iterator[Iteration]:
        if done == 0:
            self._begin(phase)
        assert self._estimator is not None
        self.ema.multi_avg_fn = ema(self.options.decay_of(phase))
        objective, *optimizers = self.fabric.setup(
            Objective(self.diffusion, self._estimator, phase.time_power), *self._optimizers
        )
        for number in range(done, phase.iterations):
            yield self._step(phase, number, objective, optimizers)

    def _begin(self, phase: Phase) -> None:
        """Make the estimator and the optimizers of a phase."""
        self._estimator = self._estimator_of(phase)
        groups = parameter_groups(self.diffusion, phase, self._estimator, self._frozen)
        half = "bf16" in str(self.fabric.strategy.precision.precision)
        dtype = torch.bfloat16 if half else torch.float32
        self._optimizers = build_optimizers(groups, self.diffusion, self.options, dtype)

    def _estimator_of(self, phase: Phase) -> Estimator:
        if not isinstance(phase.estimator, ControlVariate):
            return phase.estimator
        estimator = phase.estimator.build(self.diffusion, self.examples.sizes)
        return estimator.to(self.fabric.device)

    def _step(self, phase: Phase, done: int, objective: Any, optimizers: list[Any]) -> Iteration:
        device = self.fabric.device
        indices = self._draws.indices(self.iteration)
        batch = self.examples.drawn(indices, self._draws.augmentation(self.iteration)).to(device)
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
        """Limit the gradient norm of each group of parameters; the norms before that.

        Each by itself, so that the noisy gradient of the forward process never shortens the step
        of the reverse process, nor that of the pace the one of the forward network.
        """
        named: dict[str, list[nn.Parameter]] = {}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                named.setdefault(group["name"], []).extend(group["params"])
        norms = [clip_grad_norm_(parameters, self.options.clip) for parameters in named.values()]
        return dict(zip(named, torch.stack(norms).tolist(), strict=True))

    def gradient_variance(self) -> dict[str, float]:
        """Variance of the (clipped) gradient, summed over each process' parameters under Adam.

        Read off Adam's moments m and v, so it costs nothing: E[v - m^2] is the variance times
        2 beta / (1 + beta), with beta the decay of m. Muon keeps no v.
        """
        return {
            group["name"]: variance(optimizer, group)
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
        """Continue from a ``state_dict``; call before ``run``.

        In the middle of a phase, or at its end, its estimator and optimizers continue too; learning
        rates and weight decay are those of now.

        Raises:
            ValueError: if the phase is another one, which trains other parameters.
        """
        self.iteration = int(state["iteration"])
        self.diffusion.load_state_dict(state["diffusion"])
        self.ema.load_state_dict(state["ema"])
        *_, (phase, done) = self._progress()
        if done > 0:
            self._begin(phase)
            self._load_phase(state)

    def _load_phase(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            continue_optimizer(optimizer, saved)
        if isinstance(self._estimator, nn.Module):
            self._estimator.load_state_dict(state["estimator"])
