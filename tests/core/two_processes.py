"""Trains a tiny problem on some processes and writes what came out; run by test_distributed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from tiny import build_diffusion, exact_bound, random_examples

from molfldd.core.estimators import LeaveOneOut, Pathwise
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.core.training import Trainer
from molfldd.engine import part


def learn(fabric: Fabric) -> dict[str, Any]:
    """A phase for both processes and one for the reverse alone."""
    phases = (
        Phase("learn", 90, LeaveOneOut(), lr_forward=5e-3, lr_reverse=2e-2, warmup=5),
        Phase("polish", 30, Pathwise(), lr_forward=0.0, lr_reverse=1e-2, schedule="cosine"),
    )
    examples = random_examples(40, sizes=(2,))
    trainer = Trainer(
        fabric,
        build_diffusion("masking", 2),
        examples,
        phases,
        TrainingOptions(batch_size=48, ema_decay=0.9),
    )
    held = examples.batch(torch.arange(12))
    with torch.no_grad():
        before = float(exact_bound(trainer.diffusion, held).mean())
    norms = [iteration.gradient_norm["reverse"] for iteration in trainer.run()]
    with torch.no_grad():
        after = float(exact_bound(trainer.averaged, held).mean())
    weights = torch.cat([p.detach().flatten() for p in trainer.diffusion.parameters()])
    gathered = fabric.all_gather(weights).view(fabric.world_size, -1)
    return {"before": before, "after": after, "norms": norms, "weights": gathered}


def gradients(fabric: Fabric) -> dict[str, Any]:
    """One step from all-masked has no noise, so only the sharing of the batch is left."""
    phase = Phase("learn", 2, Pathwise(), lr_forward=0.0, lr_reverse=1e-3)
    trainer = Trainer(
        fabric,
        build_diffusion("fixed-absorbing", 1),
        random_examples(31),
        (phase,),
        TrainingOptions(batch_size=16, clip=1e9),
    )
    found = []
    for iteration in trainer.run():
        flat = [
            p.grad.flatten() for p in trainer.diffusion.reverse.parameters() if p.grad is not None
        ]
        found.append((iteration.gradient_norm["reverse"], torch.cat(flat).clone()))
    return {"gradients": found}


def main(processes: int, path: Path) -> None:
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=processes)
    fabric.launch()
    assert fabric.world_size == processes
    result = {**gradients(fabric), **learn(fabric)}
    if fabric.is_global_zero:
        torch.save(result, path)
    part(fabric)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
