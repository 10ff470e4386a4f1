"""The graph transformer with random weights everywhere: symmetry, identity, padding, pair order."""

from __future__ import annotations

import copy
import shutil
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from molfldd.core.network import compile_layers
from molfldd.molecules.codec import pair_index, pairs
from molfldd.molecules.layouts import as_matrix, pair_endpoints, pair_table
from molfldd.molecules.network import GraphTransformer, GraphTransformerConfig, pair_positions

Identity = Literal["canonical", "none"]
LayoutName = Literal["dense", "packed"]
LARGEST = 7
INPUTS = {"atoms": 5, "bonds": 4}
OUTPUTS = {"atoms": 3, "bonds": 2}
both = pytest.mark.parametrize("identity", ["canonical", "none"])
layouts = pytest.mark.parametrize("layout", ["dense", "packed"])


def network(identity: Identity, layout: LayoutName = "dense") -> GraphTransformer:
    config = GraphTransformerConfig(2, 16, 8, 4, identity, layout, triangles=3)
    module = GraphTransformer(config, LARGEST, INPUTS, OUTPUTS).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.25, generator=generator)
    return module


def graphs(sizes: list[int], seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Random values, masks and times."""
    n = torch.tensor(sizes)
    counts = {"atoms": n, "bonds": n * (n - 1) // 2}
    generator = torch.Generator().manual_seed(seed)
    mask = {name: torch.arange(int(c.max())) < c[:, None] for name, c in counts.items()}
    values = {
        name: torch.rand(*m.shape, INPUTS[name], generator=generator, dtype=torch.float64)
        for name, m in mask.items()
    }
    return values, mask, torch.rand(len(sizes), generator=generator, dtype=torch.float64)


def reordered(order: list[int]) -> tuple[list[int], list[int]]:
    """Atoms and pairs so that new atom i is old atom order[i]."""
    first, second = pairs(len(order))
    return order, [
        pair_index(order[i], order[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)
    ]


def permuted(values: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    atoms, bonds = reordered(order)
    return {"atoms": values["atoms"][:, atoms], "bonds": values["bonds"][:, bonds]}


ORDERS = [[4, 0, 3, 1, 2], [1, 0, 2, 3, 4], [4, 3, 2, 1, 0]]


@layouts
@both
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_permuting_atoms_and_their_positions_permutes_the_output(
    identity: Identity, order: list[int], layout: LayoutName
) -> None:
    module, (values, mask, time) = network(identity, layout), graphs([5, 5])
    positions = torch.tensor([[3, 0, 6, 2, 4], [0, 1, 2, 3, 4]])
    expected = permuted(module(values, mask, time, positions), order)
    found = module(permuted(values, order), mask, time, positions[:, order])
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], expected[name])
        assert expected[name].std() > 0.01


@layouts
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_without_identity_positions_do_not_matter(order: list[int], layout: LayoutName) -> None:
    module, (values, mask, time) = network("none", layout), graphs([5, 5])
    expected = permuted(module(values, mask, time), order)
    found = module(permuted(values, order), mask, time)
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], expected[name])


@layouts
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_with_identity_the_order_matters(order: list[int], layout: LayoutName) -> None:
    module, (values, mask, time) = network("canonical", layout), graphs([5, 5])
    expected = permuted(module(values, mask, time), order)
    found = module(permuted(values, order), mask, time)
    for name in OUTPUTS:
        assert (found[name] - expected[name]).abs().max() > 0.01


@layouts
@torch.no_grad()
def test_identity_tells_equal_atoms_apart(layout: LayoutName) -> None:
    for identity, apart in (("canonical", True), ("random", True), ("none", False)):
        module, (values, mask, time) = network(identity, layout), graphs([4])
        same = {name: v[:, :1].expand_as(v) for name, v in values.items()}
        for y in module(same, mask, time).values():
            assert bool((y - y[:, :1]).abs().max() > 1e-3) == apart


@layouts
@torch.no_grad()
def test_default_positions_are_the_order_they_come_in(layout: LayoutName) -> None:
    module, (values, mask, time) = network("canonical", layout), graphs([5, 5])
    found = module(values, mask, time)
    given = module(values, mask, time, torch.arange(5).expand(2, 5))
    assert all(torch.equal(found[name], given[name]) for name in OUTPUTS)


@layouts
@both
@torch.no_grad()
def test_padding_changes_nothing(identity: Identity, layout: LayoutName) -> None:
    module, (values, mask, time) = network(identity, layout), graphs([7, 3, 1, 5])
    together = module(values, mask, time)
    dirty = {name: torch.where(mask[name][..., None], v, 100.0) for name, v in values.items()}
    for found in (together, module(dirty, mask, time)):
        for row in range(4):
            part = {name: m[row : row + 1, : int(m[row].sum())] for name, m in mask.items()}
            cut = {name: v[row : row + 1, : part[name].shape[1]] for name, v in values.items()}
            for name, y in module(cut, part, time[row : row + 1]).items():
                torch.testing.assert_close(found[name][row, : y.shape[1]], y[0])


@layouts
@both
@torch.no_grad()
def test_every_input_matters_to_every_output(identity: Identity, layout: LayoutName) -> None:
    module, (values, mask, time) = network(identity, layout), graphs([4])
    before = module(values, mask, time)
    changes = [
        ({**values, "atoms": values["atoms"] + torch.eye(4)[:, :1] * 0.5}, time),
        ({**values, "bonds": values["bonds"] + torch.eye(6)[:, :1] * 0.5}, time),
        (values, time + 0.3),
    ]
    for changed, at in changes:
        after = module(changed, mask, at)
        for name in OUTPUTS:
            assert (after[name] - before[name]).abs().amax(-1).min() > 1e-5


@layouts
@both
def test_a_fresh_network_says_nothing(identity: Identity, layout: LayoutName) -> None:
    module = GraphTransformer(
        GraphTransformerConfig(1, 8, 4, 2, identity, layout, triangles=3), 5, INPUTS, OUTPUTS
    )
    values, mask, time = graphs([5, 2])
    y = module({n: v.float() for n, v in values.items()}, mask, time.float())
    assert all((v == 0).all() for v in y.values())
    assert {name: v.shape[-1] for name, v in y.items()} == OUTPUTS


@layouts
@both
def test_one_atom_has_no_pairs(identity: Identity, layout: LayoutName) -> None:
    module, (values, mask, time) = network(identity, layout), graphs([1])
    y = module(values, mask, time)
    assert y["bonds"].shape == (1, 0, 2)
    y["atoms"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


# The order of pairs ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_pair_order_is_the_codec_s(n: int) -> None:
    ours, theirs = pair_endpoints(n), pairs(n)
    assert ours[0].tolist() == theirs[0].tolist()
    assert ours[1].tolist() == theirs[1].tolist()
    table = pair_table(n)
    assert table.shape == (n, n)
    for i in range(n):
        assert int(table[i, i]) == n * (n - 1) // 2
        for j in range(n):
            if i != j:
                assert int(table[i, j]) == pair_index(i, j)


def test_pairs_of_positions_are_numbered_like_pairs_of_atoms() -> None:
    positions = torch.tensor([[0, 1, 2, 3], [5, 2, 6, 0]])
    found = pair_positions(positions)
    first, second = (part.tolist() for part in pairs(4))
    for row in range(2):
        at = positions[row].tolist()
        expected = [pair_index(at[i], at[j]) for i, j in zip(first, second, strict=True)]
        assert found[row].tolist() == expected


def test_matrix_of_pairs_is_symmetric_with_a_zero_diagonal() -> None:
    values = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(0))
    matrix = as_matrix(values, pair_table(5))
    assert torch.equal(matrix, matrix.transpose(1, 2))
    assert (matrix.diagonal(dim1=1, dim2=2) == 0).all()
    for i, j in ((0, 1), (2, 4), (4, 3)):
        assert torch.equal(matrix[:, i, j], values[:, pair_index(i, j)])


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"heads": 0}, {"width": 30, "heads": 8}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="width"):
        GraphTransformerConfig(**wrong)


def test_large_weights_and_many_layers_do_not_blow_up() -> None:
    """Each layer adds what it computes from normalized features, so growth is linear in depth."""
    config = GraphTransformerConfig(12, 16, 8, 4)
    module = GraphTransformer(config, LARGEST, INPUTS, OUTPUTS)
    generator = torch.Generator().manual_seed(0)
    values, mask, time = graphs([7, 5])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 2.0, generator=generator)
        outputs = module({k: v.float() for k, v in values.items()}, mask, time.float())
    assert all(y.abs().max() < 1e3 for y in outputs.values())
    assert all(y.isfinite().all() for y in outputs.values())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_compute_the_same_for_every_size_and_are_compiled_once() -> None:
    plain, compiled = network("canonical").float(), network("canonical").float()
    compile_layers(compiled)
    torch._dynamo.reset()
    counters.clear()
    for sizes in ([5, 3, 4], [7, 6, 4, 6], [2, 4, 5, 6, 3, 2]):
        values, mask, time = graphs(sizes)
        found = []
        for module in (plain, compiled):
            module.zero_grad()
            out = module({k: v.float() for k, v in values.items()}, mask, time.float())
            sum(y.square().sum() for y in out.values()).backward()
            found.append([*out.values(), *(p.grad for p in module.parameters())])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert counters["stats"]["unique_graphs"] == 1
    copied = copy.deepcopy(compiled)
    assert all(layer._compiled_call_impl is None for layer in copied.layers)
    assert all(layer._compiled_call_impl is not None for layer in compiled.layers)
