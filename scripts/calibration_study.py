"""How a calibration should be made: which layers change, what is compared, and how softly.

Molecules of a model are drawn once, with the scores of their chains. The change that follows from
two thirds of them gives each of the others a weight, which is how much likelier the changed model
draws it; so the FCD of the changed model is known to first order without sampling from it. It is
that to training molecules which the calibration does not count: the test molecules have no part in
it. Weights make the molecules worth fewer ones, and fewer have a larger FCD; compare it with the
column that says how many they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import numpy as np
import torch
import typer
from loading import molecule_model
from numpy.typing import NDArray
from tables import markdown
from torch import Tensor

from molfldd.calibration import COUNTED, Budget, Calibration, Comparison
from molfldd.cli.running import run_script
from molfldd.core.calibration import Moments, chains
from molfldd.metrics import Statistics, frechet_distance
from molfldd.model import Manner, batches, pretrained_path
from molfldd.molecules import fcd
from molfldd.molecules.domain import Molecules
from molfldd.molecules.metrics import valid
from molfldd.progress import shown

BATCH = 250


def reference(calibration: Calibration, domain: Molecules, num: int) -> Statistics:
    """ChemNet's statistics of training molecules that the calibration does not count."""
    train = calibration.data.train
    batch = train.batch(train.some(COUNTED + num)[COUNTED:])
    molecules = map(valid, domain.decode(batch.codes, batch.sizes.tolist()))
    return fcd.statistics(smiles for smiles in molecules if smiles is not None)


def weighted(features: NDArray[np.float64], weights: NDArray[np.float64]) -> Statistics:
    """Statistics of molecules that count by their weights."""
    mean = np.average(features, axis=0, weights=weights)
    covariance = np.cov(features, rowvar=False, aweights=weights)
    return Statistics(mean, covariance, len(features))


def main(
    model: Annotated[str, typer.Option(help="An embedded model or a checkpoint.")] = "qm9",
    num: Annotated[int, typer.Option(min=30, help="Molecules to draw.")] = 30_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the molecules.")] = 1_000,
    paired: Annotated[list[int] | None, typer.Option(help="Of so many numbers products.")] = None,
    softness: Annotated[list[float] | None, typer.Option(help="rho.")] = None,
) -> None:
    """Print what each way of calibrating would make of the model, in Markdown."""
    torch.set_num_threads(1)
    _, domain = molecule_model(model)
    calibration = Calibration(pretrained_path(model), Manner(), Budget(num=num, seed=seed))
    scores, molecules = drawn(calibration, domain, num, seed)
    fitted = 2 * num // 3
    good = torch.tensor([valid(mol) is not None for mol in molecules[fitted:]])
    smiles = [text for text in map(valid, molecules[fitted:]) if text is not None]
    features = fcd.activations(smiles)
    compared = reference(calibration, domain, len(smiles))
    found = [domain.statistics(mol) for mol in molecules[:fitted]]
    training = calibration.training()
    rows = [["none", "", "", *row(features, good, torch.zeros(len(good)), compared)]]
    for count, size in product(paired or (0, 12, 20, 30), calibration.layers.ends):
        comparison = Comparison.of(training, "valid", count)
        moments = Moments(size, comparison(training).nanmean(0))
        for start in range(0, fitted, 2_000):
            part = slice(start, min(start + 2_000, fitted))
            moments.add(scores[part, :size], comparison(found[part]))
        for rho in softness or (0.2, 0.5, 1.0):
            log_weights = scores[fitted:, :size].double() @ moments.change(rho)
            head = [f"{size:,}", str(len(moments.wanted)), f"{rho:g}"]
            rows.append([*head, *row(features, good, log_weights, compared)])
    headings = "weights changed|compared|rho|KL|worth|valid %|FCD to training"
    print(markdown(headings.split("|"), rows))


def drawn(
    calibration: Calibration, domain: Molecules, num: int, seed: int
) -> tuple[Tensor, list[Any]]:
    """The scores of chains, (num, weights), and the molecules they end in."""
    scores: list[Tensor] = []
    molecules: list[Any] = []
    for indices in shown(batches(num, BATCH), "sampling"):
        samples, score = chains(calibration.model.sampler, calibration.layers, seed, indices)
        scores.append(score.float())
        molecules += domain.samples(samples)
    return torch.cat(scores), molecules


def row(
    features: NDArray[np.float64], good: Tensor, log_weights: Tensor, compared: Statistics
) -> Sequence[str]:
    """What is printed of the molecules weighted so."""
    weights = log_weights.double().exp()
    kl = float(log_weights.double().square().mean() / 2)
    share = float(weights[good].sum() / weights.sum())
    used = weights[good].numpy()
    worth = float(used.sum() ** 2 / np.square(used).sum())
    distance = frechet_distance(weighted(features, used), compared)
    return [f"{kl:.3f}", f"{worth:,.0f}", f"{100 * share:.2f}", f"{distance:.4f}"]


if __name__ == "__main__":
    run_script(main)
