"""In which order a learned masking process generates the kinds of atoms and bonds.

An element that is masked at t with probability p_t is generated, on the average, in step
T + 1 - sum_t p_t: T is the first step of the generation, 1 the last. Printed for held-out
molecules by kind of atom and bond, with the spread of the scores within each block, which is 0 if
nothing but "atoms before bonds" (or the reverse) was learned. A model with several numbers of steps
is shown with the first of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from loading import molecule_model
from rich.console import Console
from rich.table import Table
from torch import Tensor

from molfldd.building import load_data
from molfldd.cli.running import run_script
from molfldd.core.blocks import Batch
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingForward
from molfldd.errors import MolflddError
from molfldd.model import load_diffusion, pretrained_path
from molfldd.molecules.domain import Molecules
from molfldd.molecules.vocabulary import BOND_ORDERS, atom_name

console = Console(soft_wrap=True, highlight=False)


def generation_steps(forward: MaskingForward, batch: Batch) -> dict[str, Tensor]:
    """The mean step in which each element is generated, 1..T, (B, n) per block."""
    encoding = forward.encode(batch)
    last = forward.clock.walks[0]
    total = {name: torch.full(x.shape, float(last)) for name, x in batch.codes.items()}
    for t in range(1, last):
        masked = forward.masked(batch, encoding, torch.full_like(batch.sizes, t))
        total = {name: steps - masked[name] for name, steps in total.items()}
    return total


def scores(forward: MaskingForward, batch: Batch) -> dict[str, Tensor]:
    """The score of each element, (B, n) per block."""
    return {name: s[..., 0] for name, s in forward.encode(batch).items()}


def masking_process(path: Path) -> MaskingForward:
    """The forward process of a checkpoint; raises ``MolflddError`` if it is not learned masking."""
    diffusion: Diffusion = load_diffusion(path)
    forward = diffusion.forward_process
    if not isinstance(forward, MaskingForward):
        raise MolflddError(f"{path} has no learned masking; its order is not learned")
    return forward


def kinds(domain: Molecules) -> dict[str, list[str]]:
    """Names of the categories of each block."""
    bonds = ["no bond" if order is None else str(order).lower() for order in BOND_ORDERS]
    return {"atoms": [atom_name(atom) for atom in domain.vocabulary.atoms], "bonds": bonds}


def show(domain: Molecules, forward: MaskingForward, batch: Batch) -> None:
    """Print the table for held-out molecules."""
    steps, given = generation_steps(forward, batch), scores(forward, batch)
    table = Table("block", "kind", "share", "generated in step", "score", "its spread")
    for name, names in kinds(domain).items():
        exists, codes = batch.mask[name], batch.codes[name]
        for code, kind in enumerate(names):
            chosen = exists & (codes == code)
            if chosen.any():
                table.add_row(
                    name,
                    kind,
                    f"{100 * float(chosen.sum() / exists.sum()):.1f} %",
                    f"{float(steps[name][chosen].mean()):.2f}",
                    f"{float(given[name][chosen].mean()):+.2f}",
                    f"{float(given[name][chosen].std(correction=0)):.2f}",
                )
        spread = float(given[name][exists].std(correction=0))
        mean = float(steps[name][exists].mean())
        table.add_row(name, "all", "100.0 %", f"{mean:.2f}", "", f"{spread:.2f}", end_section=True)
    console.print(table)
    last = forward.clock.walks[0]
    pace = ", ".join(f"{m:.3f}" for m in forward.pace()[:last].tolist())
    console.print(f"mean share masked at t = 1, ..., {last}: {pace}")


@torch.no_grad()
def main(
    model: Annotated[str, typer.Argument(help="Embedded model or checkpoint.")] = "qm9",
    num: Annotated[int, typer.Option(min=1, help="Held-out molecules.")] = 2000,
) -> None:
    """Print in which order a model of molecules generates the kinds of atoms and bonds."""
    loaded, domain = molecule_model(model)
    data = load_data(loaded.config)
    batch = data.test.batch(data.test.some(num))
    show(domain, masking_process(pretrained_path(model)), batch)


if __name__ == "__main__":
    run_script(main)
