"""What a training run is told: its phases, and what they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from molfldd.core.estimators import ControlVariate, Estimator


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one objective.

    Attributes:
        name: For logs.
        iterations: Optimizer steps.
        estimator: Gradient estimator; a ``ControlVariate`` is given its parameters by the trainer.
            ``Pathwise`` is for a forward process that is fixed or frozen (``lr_forward`` 0), and so
            is every estimator where the reverse process is autoregressive.
        lr_forward: Peak learning rate of phi; 0 freezes the forward process.
        lr_reverse: Peak learning rate of theta.
        warmup: Iterations over which the rates rise linearly.
        schedule: What the rates do after that: stay, or fall to 0 along a cosine.
        time_power: The loss weighs the KL of step t by (t / T)^power, scaled to a mean of 1: above
            0 the steps that a sampler takes first count more, below 0 its last. 0 is the bound.
        ema_decay: Decay of the moving average in this phase; None for that of the run. An average
            over many iterations lags behind while the forward process moves.
        only_last: Of the reverse process train the network's last layers (``readouts``) and what
            is not its network, such as the head. What is before them stays as it is, and is not
            differentiated.
    """

    name: str
    iterations: int
    estimator: Estimator | ControlVariate
    lr_forward: float = 2e-4
    lr_reverse: float = 2e-4
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    time_power: float = 0.0
    ema_decay: float | None = None
    only_last: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"phase '{self.name}' needs at least 1 iteration")
        if not (0 <= self.lr_forward < math.inf and 0 < self.lr_reverse < math.inf):
            raise ValueError(f"phase '{self.name}' has a learning rate out of range")
        if self.warmup < 0:
            raise ValueError(f"phase '{self.name}' has a negative warmup")
        if not math.isfinite(self.time_power):
            raise ValueError(f"phase '{self.name}' has a time_power that is not finite")
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


def learning_is_over(phases: Sequence[Phase], iterations: int) -> bool:
    """Whether the forward process was trained, and no longer is after so many iterations."""
    ends = zip(accumulate(phase.iterations for phase in phases), phases, strict=True)
    learning = [end for end, phase in ends if phase.lr_forward > 0]
    return bool(learning) and iterations >= learning[-1]


@dataclass(frozen=True)
class TrainingOptions:
    """What all phases share.

    Attributes:
        batch_size: Examples per iteration over all processes, at most; "auto" takes as many as
            ``elements`` allows.
        steps_per_example: M, the steps at which each of them is seen. The forward network reads an
            example once for all of them, so M steps of few examples cost less than one of many.
        elements: How many elements (atoms and bonds, pixels, tokens) a batch of the largest
            examples may have, counted at each of their steps; batches get fewer examples where
            they would have more. With None they are of ``batch_size`` in any case.
        ema_decay: Decay of the moving average of the reverse network.
        clip: Largest gradient norm, of each network, and of what is not network, by itself.
        optimizer: "adamw", or "muon": Muon (orthogonalized momentum) for the hidden matrices of
            the reverse network (linear layers within an ``nn.ModuleList``), AdamW for all else,
            both with the same rates.
        weight_decay: The optimizer's.
        grouped: Batches among which examples are sorted by size, so that little of a batch is
            padding; at 1 every batch is of all sizes.
        compile: Compile the layers of both networks (``torch.compile``), which takes up to a minute
            before the first steps and makes those after it faster, on a GPU several times.
        seed: Names all randomness of the run.
    """

    batch_size: int | Literal["auto"] = 128
    steps_per_example: int = 1
    elements: int | None = None
    ema_decay: float = 0.999
    clip: float = 10.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.0
    grouped: int = 1
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size == "auto":
            if self.elements is None:
                raise ValueError("batch_size auto needs a number of elements")
        elif self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.steps_per_example < 1:
            raise ValueError(f"steps_per_example must be at least 1, got {self.steps_per_example}")
        if self.elements is not None and self.elements < 1:
            raise ValueError(f"elements must be at least 1, got {self.elements}")
        if self.grouped < 1:
            raise ValueError(f"grouped must be at least 1, got {self.grouped}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in [0, 2^63), got {self.seed}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")

    def decay_of(self, phase: Phase) -> float:
        """Decay of the moving average in a phase."""
        return self.ema_decay if phase.ema_decay is None else phase.ema_decay

    def for_examples(self, largest: int, processes: int) -> TrainingOptions:
        """The options with the batch size that ``elements`` allows.

        Args:
            largest: Elements of the largest example.
            processes: How many share a batch; each gets at least one example.
        """
        if self.elements is None:
            return self
        each = largest * self.steps_per_example
        most = max(1, self.elements // (each * processes)) * processes
        wanted = most if self.batch_size == "auto" else self.batch_size
        return replace(self, batch_size=min(wanted, most))

    def share(self, processes: int) -> int:
        """Examples of an iteration for each process, once their number is known.

        Raises:
            ValueError: if the processes cannot share them evenly, or ``batch_size`` is "auto".
        """
        if self.batch_size == "auto":
            raise ValueError("batch_size auto is not known before the examples are")
        if self.batch_size % processes:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {processes} processes"
            )
        return self.batch_size // processes
