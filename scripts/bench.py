"""How fast training and sampling of molecules are, as ratios of one run on one thread.

1. A training step (learning and polishing phase) against the machine's limit: its time divided by
   the time its matrix products take at the measured rate of large products of the same type; in
   single precision, and in bfloat16 where the processor has it; and with ``training.compile``.
2. The operations that a training step spends most time on.
3. What learning the forward process costs: a step of both phases relative to one of conventional
   diffusion, by the samples of z_t and the steps per example that the gradient estimator takes.
4. The optimizers: a step for the hidden matrices relative to one of AdamW, torch's own Muon too.
5. Sampling: molecules per second of the same network in 10, 100 and 500 steps, and of the embedded
   models; what share of the time the networks take (the head too, where there is one), drawing from
   what they say, and decoding to molecules and writing SMILES. And the peak of memory.
6. Growth: time of a training step and memory, by atoms per molecule.

Random graphs stand for data, and untrained networks for the recipes'. Few of the molecules that
those generate are valid, so what decoding and writing costs is told by the embedded models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from bench_sampling import bench_sampling
from bench_training import (
    bench_growth,
    bench_learning,
    bench_optimizers,
    bench_profile,
    bench_steps,
)

from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.storage import check_writable


def main(
    times: Annotated[int, typer.Option(min=1, help="Steps of which the fastest counts.")] = 5,
    molecules: Annotated[int, typer.Option(min=1, help="To sample in ten steps.")] = 2000,
    picture: Annotated[Path | None, typer.Option(help="Draw the last table here.")] = None,
) -> None:
    """Print the six tables."""
    if picture is not None:
        check_writable(picture, SUFFIXES)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bench_steps(times)
    bench_profile()
    bench_learning(times)
    bench_optimizers(times)
    bench_sampling(molecules)
    bench_growth(times, picture)


if __name__ == "__main__":
    run_script(main)
