"""Molecules as a domain: random identities of atoms."""

from pathlib import Path

import pytest
import torch

from molfldd.building import load_data
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import Batch
from molfldd.domain import Data
from molfldd.errors import UsageError
from molfldd.molecules.codec import canonical_smiles

SMILES = ["C" * n + end for n in range(1, 9) for end in ("O", "N", "C#N", "C(=O)O", "C1CC1N")]


def load(tmp_path: Path, identity: str) -> Data:
    file = tmp_path / "mine.smi"
    file.write_text("\n".join(SMILES))
    changes = [f"data.path={file}", "data.test_fraction=0.2", f"network.identity={identity}"]
    return load_data(parse_config(override(read_recipe("molecules"), changes)))


def smiles(data: Data, batch: Batch) -> list[str | None]:
    return [canonical_smiles(mol) for mol in data.domain.decode(batch.codes, batch.sizes.tolist())]


def test_random_identities_leave_the_molecules_and_nothing_else_as_they_were(
    tmp_path: Path,
) -> None:
    data = load(tmp_path, "random")
    rows = torch.arange(len(data.train))
    plain = data.train.batch(rows)
    for seed in range(5):
        drawn = data.train.drawn(rows, torch.Generator().manual_seed(seed))
        assert smiles(data, drawn) == smiles(data, plain)
        assert torch.equal(drawn.sizes, plain.sizes)
        for name, mask in drawn.mask.items():
            assert not drawn.codes[name][~mask].any()


def test_every_order_is_as_likely_and_named_by_the_generator(tmp_path: Path) -> None:
    data = load(tmp_path, "random")
    rows = torch.full((6000,), data.train.sizes.tolist().index(4))
    first, again, other = (
        data.train.drawn(rows, torch.Generator().manual_seed(seed)).codes for seed in (0, 0, 1)
    )
    for name, codes in first.items():
        assert torch.equal(codes, again[name])
        assert not torch.equal(codes, other[name])
    for codes in first.values():
        for state in codes.unique():
            share = (codes == state).double().mean(0)
            assert torch.allclose(share, share.mean().expand_as(share), atol=0.03)


@pytest.mark.parametrize("identity", ["canonical", "none"])
def test_without_random_identities_molecules_are_always_said_alike(
    tmp_path: Path, identity: str
) -> None:
    data = load(tmp_path, identity)
    rows = torch.arange(len(data.train))
    drawn = data.train.drawn(rows, torch.Generator().manual_seed(0))
    for name, codes in data.train.batch(rows).codes.items():
        assert torch.equal(drawn.codes[name], codes)


def test_older_recipes_name_the_order_with_the_data() -> None:
    content = read_recipe("molecules")
    parse_config(override(content, ["data.order=canonical"]))
    with pytest.raises(UsageError, match=r"network\.identity=random"):
        parse_config(override(content, ["data.order=random"]))
