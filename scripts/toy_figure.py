"""Figure 1 of the paper: a mixture of two Gaussians in two steps, learned and fixed forward.

Trains the recipe ``toy``, the same with a fixed forward process, and the same in a single step,
factorized and as a mixture of two laws, in about three minutes on one core, and draws what they
generate. All distributions shown and measured are exact.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import matplotlib
import matplotlib.pyplot as plt
import typer
from rich.console import Console
from torch import Tensor

from molfldd.cli.diagnose import SUFFIXES
from molfldd.cli.running import run_script
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.diffusion import Diffusion
from molfldd.core.reverse import FactorizedReverse
from molfldd.engine import Engine
from molfldd.run import Run
from molfldd.storage import check_writable
from molfldd.toy.exact import generated, noised
from molfldd.toy.mixture import total_variation

console = Console(soft_wrap=True, highlight=False)


MODELS = {
    "learned": [],
    "fixed": ["process.forward=fixed"],
    "one step": ["process.steps=1"],
    "one step, two components": ["process.steps=1", "process.components=2"],
}
"""What is changed in the recipe, by the name of the model."""


def train(assignments: list[str]) -> tuple[Diffusion, Tensor]:
    """The processes with the averaged reverse network, and the data distribution (K, K)."""
    content = override(read_recipe("toy"), assignments)
    with TemporaryDirectory() as folder:
        engine = Engine(accelerator="cpu", precision="32-true")
        run = Run(parse_config(content), Path(folder), engine)
        run.train(console)
        domain: Any = run.data.domain
        return run.trainer.averaged, domain.distribution.probabilities()


def panel(axes: Any, probabilities: Tensor, title: str) -> None:
    """One distribution (S, S) as a picture, coordinate 0 to the right."""
    axes.imshow(probabilities.T, origin="lower", cmap="magma", vmin=0)
    axes.set(title=title, xticks=[], yticks=[])


def row(axes: Any, name: str, diffusion: Diffusion, data: Tensor) -> float:
    """Data, q(z_1), p(z_1) and p(z_0) side by side; returns the total variation of p(z_0)."""
    forward, reverse = diffusion.forward_process, diffusion.reverse
    assert isinstance(reverse, FactorizedReverse)
    q, p = noised(forward, data), generated(reverse, diffusion.prior)
    error = total_variation(p[-1], data)
    panel(axes[0], data, f"{name}\ndata")
    panel(axes[1], q[-2], f"{name}\nnoised, $q(z_1)$")
    panel(axes[2], p[-2], f"{name}\ngenerated, $p(z_1)$")
    panel(axes[3], p[-1], f"generated, $p(z_0)$\ntotal variation {error:.3f}")
    return error


def main(
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("toy.png"),
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: key.subkey=value.")
    ] = None,
) -> None:
    """Train all, print their total variations to the data and draw them."""
    check_writable(out, SUFFIXES)
    matplotlib.use("Agg")
    size = (12, 3.2 * len(MODELS))
    figure, axes = plt.subplots(len(MODELS), 4, figsize=size, layout="constrained")
    for (name, changes), cells in zip(MODELS.items(), axes, strict=True):
        error = row(cells, name, *train([*(assign or []), *changes]))
        console.print(f"{name}: total variation {error:.4f}")
    figure.savefig(out, dpi=100)
    console.print(f"written {out}")


if __name__ == "__main__":
    run_script(main)
