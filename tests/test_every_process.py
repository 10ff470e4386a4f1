"""Every forward process with every prior it can have, on molecules, images and text alike."""

import math
from itertools import product

import pytest
import torch

from molfldd.building import build_diffusion, load_data
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import SizeDistribution
from molfldd.core.estimators import Reinforce, Term
from molfldd.core.report import evaluate_bound

TINY = {
    "molecules": ("molecules", ["network.layers=1", "network.width=16", "network.pair_width=4"]),
    "images": ("digits", ["network.layers=1", "network.width=16", "network.local=4"]),
    "text": (
        "rocstories",
        ["network.layers=1", "network.width=16", "network.heads=2", "data.vocabulary=300"],
    ),
}
ANY = [
    (forward, prior, reverse)
    for forward in ("fixed", "free", "pinned")
    for prior in ("uniform", "marginal", "absorbing", "learned")
    for reverse in ("direct", "jump")
]
MASKING = [
    *((forward, "absorbing", "unmasking") for forward in ("fixed", "masking", "unpaced")),
    ("mixed", "absorbing", "jump"),
    ("mixed", "absorbing", "direct"),
]


@pytest.fixture(scope="module", params=TINY)
def domain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A small recipe of a domain, and its data."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mine.smi").write_text("\n".join("C" * n + "O" for n in range(1, 9)))
    words = ("cat", "dog", "tree", "house")
    stories = [f"The {a} saw a {b} near the {c}. It ran." for a, b, c in product(words, repeat=3)]
    (folder / "stories.txt").write_text("\n".join(stories))
    name, changes = TINY[request.param]
    path = {"molecules": "mine.smi", "text": "stories.txt"}.get(request.param)
    if path:
        changes = [*changes, f"data.path={folder / path}", "data.test_fraction=0.3"]
    recipe = override(read_recipe(name), changes)
    return recipe, load_data(parse_config(recipe))


@pytest.mark.parametrize(("forward", "prior", "reverse"), [*ANY, *MASKING])
def test_bound_and_gradient_are_finite(domain, forward: str, prior: str, reverse: str) -> None:
    recipe, data = domain
    process = [f"process.forward={forward}", f"process.prior={prior}", f"process.reverse={reverse}"]
    torch.manual_seed(0)
    diffusion = build_diffusion(parse_config(override(recipe, [*process, "process.steps=3"])), data)
    batch = data.train.batch(torch.arange(2))
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(1, 4).repeat_interleave(2)
    Reinforce()(Term.of(diffusion, batch, t), generator, 0.0).loss.backward()
    for module in (diffusion.forward_process, diffusion.reverse):
        found = [p.grad for p in module.parameters() if p.grad is not None]
        assert all(bool(g.isfinite().all()) for g in found)
        assert not list(module.parameters()) or any(bool(g.any()) for g in found)
    sizes = SizeDistribution.of(data.train.sizes)
    assert math.isfinite(evaluate_bound(diffusion, [batch], sizes, generator).total)
