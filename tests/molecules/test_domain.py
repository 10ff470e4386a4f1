"""Molecules as a domain: the random order of atoms."""

import torch

from molfldd.core.blocks import Batch
from molfldd.molecules.codec import canonical_smiles
from molfldd.molecules.domain import MoleculeData, Molecules

SMILES = ["C" * n + end for n in range(1, 9) for end in ("O", "N", "C#N", "C(=O)O", "C1CC1N")]


def load(tmp_path, order):
    file = tmp_path / "mine.smi"
    file.write_text("\n".join(SMILES))
    return Molecules.load(MoleculeData("mine", path=str(file), test_fraction=0.2, order=order))


def smiles(data, batch: Batch) -> list[str | None]:
    return [canonical_smiles(mol) for mol in data.domain.decode(batch.codes, batch.sizes.tolist())]


def test_a_random_order_leaves_the_molecules_and_nothing_else_as_they_were(tmp_path):
    data = load(tmp_path, "random")
    rows = torch.arange(len(data.train))
    plain = data.train.batch(rows)
    for seed in range(5):
        drawn = data.train.drawn(rows, torch.Generator().manual_seed(seed))
        assert smiles(data, drawn) == smiles(data, plain)
        assert torch.equal(drawn.sizes, plain.sizes)
        for name, mask in drawn.mask.items():
            assert not drawn.codes[name][~mask].any()


def test_every_order_is_as_likely_and_named_by_the_generator(tmp_path):
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


def test_the_canonical_order_is_always_the_same(tmp_path):
    data = load(tmp_path, "canonical")
    rows = torch.arange(len(data.train))
    drawn = data.train.drawn(rows, torch.Generator().manual_seed(0))
    for name, codes in data.train.batch(rows).codes.items():
        assert torch.equal(drawn.codes[name], codes)
