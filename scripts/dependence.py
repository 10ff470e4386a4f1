"""How much the values that a step draws depend on one another, for any models of masking.

In each step the values cost so many nats drawn at once, as the sampler does, and so many one after
another; the difference is their total correlation, see ``molfldd.core.dependence``. It is what a
head, more steps or another order could gain at most; the rest is what the network does not know.
"""

from __future__ import annotations

from math import sqrt
from typing import Annotated

import torch
import typer
from tables import markdown
from torch import Tensor

from molfldd.building import load_data
from molfldd.cli.running import run_script
from molfldd.core.dependence import surprisals
from molfldd.errors import UsageError
from molfldd.model import Manner, load_diffusion, load_model, pretrained_path


def measured(name: str, steps: int | None, num: int, draws: int) -> tuple[Tensor, Tensor]:
    """``surprisals`` of held-out examples under a model, (num, T) each."""
    path = pretrained_path(name)
    model, diffusion = load_model(path).drawing(Manner(steps=steps)), load_diffusion(path)
    batches = load_data(model.config).held_out(num)
    generator = torch.Generator().manual_seed(0)
    try:
        found = [
            surprisals(diffusion, batch, generator, steps=model.steps, draws=draws)
            for batch in batches
        ]
    except ValueError as error:
        raise UsageError(f"{name} cannot be measured: {error}") from error
    together, apart = (torch.cat(parts) for parts in zip(*found, strict=True))
    return together, apart


def row(name: str, together: Tensor, apart: Tensor) -> list[str]:
    """A line of the table."""
    each = (together - apart).sum(1)
    mean, error = float(each.mean()), float(each.std()) / sqrt(len(each))
    cost = float(together.sum(1).mean())
    by_step = " ".join(f"{nats:.2f}" for nats in (together - apart).mean(0).tolist())
    share = f"{100 * mean / cost:.1f}"
    return [
        name,
        str(together.shape[1]),
        f"{cost:.2f}",
        f"{mean:.2f} ± {error:.2f}",
        share,
        by_step,
    ]


def main(
    models: Annotated[list[str], typer.Argument(help="Embedded models or checkpoints.")],
    num: Annotated[int, typer.Option(min=2, help="Held-out examples.")] = 512,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each step of each.")] = 4,
    steps: Annotated[
        int | None, typer.Option(min=1, help="T, for models that know several.")
    ] = None,
) -> None:
    """Print the table as Markdown, in nats per example; the error is that of the mean."""
    rows = [row(name, *measured(name, steps, num, draws)) for name in models]
    headings = ["model", "steps", "values at once", "of it dependence", "%", "t = 1, 2, ..."]
    print(markdown(headings, rows))


if __name__ == "__main__":
    run_script(main)
