"""Figure 2 of the paper: masked diffusion of images in few steps, learned and fixed masking.

Takes two models, such as the embedded ``mnist`` and what ``molfldd train mnist-fixed`` leaves, and
draws side by side how both generate, what they generate, and when the learned process masks which
pixel. Prints the bound on all held-out images, the Fréchet distance and the recognizable share of
both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import matplotlib.pyplot as plt
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.core.blocks import Examples, SizeDistribution
from molfldd.core.diffusion import Diffusion
from molfldd.core.report import evaluate_bound
from molfldd.domain import Data
from molfldd.errors import MolflddError
from molfldd.images.domain import Images
from molfldd.images.evaluation import SCORES, evaluate
from molfldd.images.files import grid, square
from molfldd.images.network import PIXELS
from molfldd.model import Manner, Model, load_diffusion, load_model, pretrained_path
from molfldd.report import Report, Scores
from molfldd.storage import check_writable

TRAJECTORIES, SAMPLES, SCHEDULES = 6, 64, 5
"""How many of each are drawn."""
BATCH = 250

console = Console(soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Side:
    """One of the two models: its name, what it has reached, its data and its scores."""

    name: str
    model: Model
    diffusion: Diffusion
    data: Data
    report: Report


def load_side(name: str, checkpoint: str, num: int, seed: int, joint: str | None) -> Side:
    """A model with its bound on all held-out images and the scores of ``num`` samples."""
    path = pretrained_path(checkpoint)
    model, diffusion = load_model(path).drawing(Manner(joint)), load_diffusion(path)
    if not isinstance(model.domain, Images):
        raise MolflddError(f"{path} holds a model of '{model.domain.name}', not of images")
    data = model.domain.load(model.config.data)
    draws = [model.sample(num, seed=seed, batch_size=BATCH)]
    report = evaluate(draws, model.config.data, {"bound": held_out_bound(diffusion, data)})
    return Side(name, model, diffusion, data, report)


def held_out_bound(diffusion: Diffusion, data: Data) -> float:
    """The bound on all held-out images, one hard sample per step, nats per image."""
    batches = (data.test.batch(rows) for rows in torch.arange(len(data.test)).split(BATCH))
    sizes, generator = SizeDistribution.of(data.train.sizes), torch.Generator().manual_seed(0)
    return evaluate_bound(diffusion, batches, sizes, generator).total


@torch.no_grad()
def mask_probabilities(side: Side, images: Examples, rows: Tensor) -> Tensor:
    """P(z_t = mask | x) of each pixel for t = T - 1, ..., 1: (B, T - 1, H, W)."""
    batch = images.batch(rows)
    forward = side.diffusion.forward_process
    encoding = forward.encode(batch)
    assert isinstance(side.model.domain, Images)
    height, width = side.model.domain.shape
    steps = [
        forward.marginal(batch, encoding, torch.full_like(batch.sizes, t))[PIXELS][..., -1]
        for t in range(forward.clock.walks[0] - 1, 0, -1)
    ]
    return torch.stack(steps, 1).view(len(rows), -1, height, width)


def mean_mask_probabilities(side: Side) -> Tensor:
    """``mask_probabilities`` averaged over all held-out images, (T - 1, H, W)."""
    test = side.data.test
    parts = torch.arange(len(test)).split(BATCH)
    sums = [mask_probabilities(side, test, rows).sum(0) for rows in parts]
    return torch.stack(sums).sum(0) / len(test)


def by_surroundings(side: Side) -> dict[str, list[float]]:
    """Mean mask probability at t = T - 1, ..., 1 of white, edge and other black pixels.

    A black pixel is at an edge if one of the eight around it is white.
    """
    rows = torch.arange(len(side.data.test))[:BATCH]
    probabilities = mask_probabilities(side, side.data.test, rows)
    white = side.data.test.codes[PIXELS][rows].view(len(rows), 1, *probabilities.shape[-2:]).float()
    near = torch.nn.functional.max_pool2d(white, 3, stride=1, padding=1)
    kinds = {"white": white == 1, "edge": (white == 0) & (near == 1), "background": near == 0}
    return {
        name: [float(step[kind[:, 0]].mean()) for step in probabilities.unbind(1)]
        for name, kind in kinds.items()
    }


def picture(axes: Any, image: Any, title: str, **options: Any) -> Any:
    """An image without ticks."""
    axes.set(title=title, xticks=[], yticks=[])
    return axes.imshow(image, interpolation="nearest", **options)


def draw_generation(axes: Any, side: Side, seed: int) -> None:
    """Trajectories and samples of a model, one above the other."""
    model, report = side.model, side.report
    (trajectories,) = model.trajectories(TRAJECTORIES, seed=seed)
    states = [state for row in trajectories for state in row]
    greys = {"cmap": "gray", "vmin": 0, "vmax": 255}
    picture(axes[0], grid(states, model.steps + 1), f"{side.name}: {model.steps} steps", **greys)
    bound, distance, recognizable = _cells(report.mean)
    scores = f"{bound} bits/dim, Fréchet {distance}, {recognizable} recognizable"
    picture(axes[1], square(model.sample(SAMPLES, seed=seed)), scores, **greys)


def draw_schedule(figure: Any, axes: Any, learned: Side, fixed: Side) -> None:
    """When pixels are masked: columns are t = T - 1, ..., 1, rows are images, then the means."""
    rows = torch.arange(SCHEDULES)
    probabilities = mask_probabilities(learned, learned.data.test, rows)
    images = learned.data.test.codes[PIXELS][rows].view(-1, *probabilities.shape[2:])
    examples = [
        torch.cat([image[None].float(), p]) for image, p in zip(images, probabilities, strict=True)
    ]
    scale = {"vmin": 0.0, "vmax": 1.0}
    picture(axes[0], _tiled(examples), "learned: image, then P(mask) at t = T - 1, ..., 1", **scale)
    means = [mean_mask_probabilities(side) for side in (learned, fixed)]
    title = "mean over held-out images: learned (top), fixed"
    shown = picture(axes[1], _tiled(means), title, **scale)
    figure.colorbar(shown, ax=axes, shrink=0.8)


def _tiled(rows: Any) -> Tensor:
    """Maps (C, H, W) of each row side by side, rows below each other."""
    return torch.cat([torch.cat(list(row), -1) for row in rows])


def show_scores(sides: tuple[Side, Side]) -> None:
    """The numbers of both models, and how masking depends on the surroundings of a pixel."""
    table = Table("", "bits/dim", "Fréchet distance", "recognizable")
    for side in sides:
        table.add_row(side.name, *_cells(side.report.mean))
    table.add_row("real images", *_cells(sides[0].report.floor or {}))
    console.print(table)
    console.print("\n".join(sides[0].report.protocol.lines()))
    for kind, values in by_surroundings(sides[0]).items():
        steps = ", ".join(f"{value:.3f}" for value in values)
        console.print(f"learned P(mask) of {kind} pixels at t = T - 1, ..., 1: {steps}")


def _cells(scores: Scores) -> list[str]:
    return [kind.cell(scores.get(name)) for name, kind in SCORES.items()]


def main(
    learned: Annotated[str, typer.Argument(help="Embedded model or checkpoint: learned masking.")],
    fixed: Annotated[str, typer.Argument(help="Embedded model or checkpoint: fixed masking.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("mnist.png"),
    num: Annotated[int, typer.Option(min=2, help="Samples for the scores.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all samples.")] = 0,
    joint: Annotated[
        str | None, typer.Option(help="How steps draw their elements together.")
    ] = None,
) -> None:
    """Draw both models side by side and print their scores."""
    check_writable(out, SUFFIXES)
    matplotlib.use("Agg")
    sides = (
        load_side("learned", learned, num, seed, joint),
        load_side("fixed", fixed, num, seed, joint),
    )
    show_scores(sides)
    figure = plt.figure(figsize=(12, 21), layout="constrained")
    axes = figure.subplots(3, 2, height_ratios=[6, 5, 5])
    for column, side in enumerate(sides):
        draw_generation(axes[:2, column], side, seed)
    draw_schedule(figure, axes[2], *sides)
    figure.savefig(out, dpi=110)
    console.print(f"written {out}")


if __name__ == "__main__":
    run_script(main)
