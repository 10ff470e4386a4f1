"""The packed layout computes what the dense one does, with and without torch-scatter."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch_geometric.typing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from molfldd.core.blocks import Masks
from molfldd.molecules.layouts import Dense, Packed
from molfldd.molecules.network import GraphTransformer, GraphTransformerConfig

Identity = Literal["canonical", "none"]
LARGEST = 8
INPUTS = {"atoms": 5, "bonds": 4}
OUTPUTS = {"atoms": 3, "bonds": 2}
identities = pytest.mark.parametrize("identity", ["canonical", "none"])
mixed = pytest.mark.parametrize("sizes", [[8, 3, 1, 5, 2], [1], [1, 1], [2, 2], [4, 4, 4], [1, 8]])


def masks(sizes: list[int]) -> dict[str, Tensor]:
    n = torch.tensor(sizes)
    counts = {"atoms": n, "bonds": n * (n - 1) // 2}
    return {name: torch.arange(int(c.max())) < c[:, None] for name, c in counts.items()}


def inputs(sizes: list[int], seed: int = 0) -> tuple[dict[str, Tensor], Masks, Tensor]:
    """Random values, padding included, masks and times."""
    mask, generator = masks(sizes), torch.Generator().manual_seed(seed)
    values = {
        name: torch.rand(*m.shape, INPUTS[name], generator=generator, dtype=torch.float64)
        for name, m in mask.items()
    }
    return values, mask, torch.rand(len(sizes), generator=generator, dtype=torch.float64)


def networks(identity: Identity) -> tuple[GraphTransformer, GraphTransformer]:
    """The same random weights in both layouts."""
    dense, packed = (
        GraphTransformer(
            GraphTransformerConfig(2, 16, 8, 4, identity, layout, triangles=3),
            LARGEST,
            INPUTS,
            OUTPUTS,
        ).double()
        for layout in ("dense", "packed")
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.normal_(0.0, 0.25, generator=generator)
    packed.load_state_dict(dense.state_dict())
    return dense, packed


def existing(y: dict[str, Tensor], mask: Masks) -> dict[str, Tensor]:
    return {name: v[mask[name]] for name, v in y.items()}


def gradients(
    module: GraphTransformer, sizes: list[int], positions: Tensor | None = None
) -> dict[str, Tensor]:
    """Of parameters and inputs, of a random combination of the outputs that exist."""
    values, mask, time = inputs(sizes)
    leaves = {name: v.requires_grad_() for name, v in values.items()}
    module.zero_grad()
    generator = torch.Generator().manual_seed(1)
    loss = torch.stack(
        [
            (y * torch.rand(y.shape, generator=generator, dtype=y.dtype)).sum()
            for y in existing(module(leaves, mask, time, positions), mask).values()
        ]
    ).sum()
    loss.backward()
    named = {**dict(module.named_parameters()), **leaves}
    return {k: torch.zeros_like(v) if v.grad is None else v.grad.clone() for k, v in named.items()}


@mixed
@identities
@torch.no_grad()
def test_packed_outputs_equal_dense_ones(sizes: list[int], identity: Identity) -> None:
    dense, packed = networks(identity)
    values, mask, time = inputs(sizes)
    positions = torch.stack([torch.randperm(LARGEST)[: max(sizes)] for _ in sizes])
    for given_positions in (None, positions):
        expected = dense(values, mask, time, given_positions)
        found = packed(values, mask, time, given_positions)
        for name, y in found.items():
            torch.testing.assert_close(y, expected[name])
            assert (y[~mask[name]] == 0).all()
        assert existing(expected, mask)["atoms"].std() > 0.01


@mixed
@identities
def test_packed_gradients_equal_dense_ones(sizes: list[int], identity: Identity) -> None:
    dense, packed = networks(identity)
    expected, found = gradients(dense, sizes), gradients(packed, sizes)
    assert expected.keys() == found.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@given(st.lists(st.integers(1, LARGEST), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_packing_and_unpacking_give_back_what_exists(sizes: list[int]) -> None:
    values, mask, _ = inputs(sizes)
    packed = Packed(mask)
    rows = packed.pack(values["atoms"], values["bonds"])
    for name, row, y in zip(mask, rows, packed.unpack(*rows), strict=True):
        assert len(row) == int(mask[name].sum())
        assert torch.equal(y, torch.where(mask[name][..., None], values[name], 0.0))


@given(st.lists(st.integers(1, LARGEST), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_endpoints_and_molecules_of_packed_rows_are_those_of_dense_ones(sizes: list[int]) -> None:
    values, mask, _ = inputs(sizes)
    dense, packed = Dense(mask), Packed(mask)
    atoms, _ = packed.pack(values["atoms"], values["bonds"])
    for found, expected in zip(
        packed.endpoints(atoms), dense.endpoints(values["atoms"]), strict=True
    ):
        assert torch.equal(found, expected[mask["bonds"]])
    molecules = torch.arange(len(sizes))[:, None, None]
    for over, name in ((packed.over_atoms, "atoms"), (packed.over_pairs, "bonds")):
        assert torch.equal(over(molecules)[:, 0], mask[name].nonzero()[:, 0])


@identities
def test_packed_is_close_to_dense_in_mixed_precision(identity: Identity) -> None:
    dense, packed = (module.float() for module in networks(identity))
    values, mask, time = inputs([8, 3, 1, 5])
    values = {name: v.float() for name, v in values.items()}
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = dense(values, mask, time.float()), packed(values, mask, time.float())
    for name, y in existing(found, mask).items():
        torch.testing.assert_close(y, expected[name][mask[name]], rtol=0.1, atol=0.1)
    torch.stack([y.float().sum() for y in found.values()]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in packed.parameters())


def test_state_dicts_are_interchangeable() -> None:
    dense, packed = networks("canonical")
    assert list(dense.state_dict()) == list(packed.state_dict())


@identities
def test_torch_scatter_gives_the_same_numbers(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    kernel, calls = torch_scatter.segment_csr, []
    monkeypatch.setattr(
        torch_scatter, "segment_csr", lambda *a, **k: calls.append(1) or kernel(*a, **k)
    )
    _, packed = networks(identity)
    sizes = [8, 3, 1, 5, 2]
    values, mask, time = inputs(sizes)
    found = []
    for use in (True, False):
        monkeypatch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", use)
        before = len(calls)
        outputs = existing(packed(values, mask, time), mask)
        assert (len(calls) > before) == use
        found.append({**outputs, **gradients(packed, sizes)})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], msg=name)
