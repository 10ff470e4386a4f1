import networkx as nx
import numpy as np
import pytest
from rdkit import Chem

from molfldd.errors import MolflddError
from molfldd.molecules.codec import MoleculeGraph, canonical_smiles, encode, parse_smiles, to_smiles
from molfldd.molecules.interop import from_networkx, from_pyg, to_networkx, to_pyg
from molfldd.molecules.vocabulary import Vocabulary

SMILES = ["C", "CCO", "O=[N+]([O-])c1ccccc1", "c1cc[nH]c1", "C#N", "C[NH3+].[Cl-]"]


def graph_of(smiles: str) -> MoleculeGraph:
    mol = parse_smiles(smiles)
    return encode(mol, Vocabulary.from_molecules([mol]))


@pytest.mark.parametrize("smiles", SMILES)
def test_networkx_round_trip(smiles: str) -> None:
    mol = parse_smiles(smiles)
    graph = nx.relabel_nodes(to_networkx(mol), lambda node: f"atom {node}")
    assert to_smiles(from_networkx(graph)) == canonical_smiles(mol)


def test_networkx_attributes() -> None:
    graph = to_networkx(Chem.MolFromSmiles("C[NH+]=O"))
    assert graph.nodes[1] == {"element": "N", "charge": 1}
    assert dict(graph.edges) == {(0, 1): {"order": 1}, (1, 2): {"order": 2}}


def test_networkx_charge_may_be_missing() -> None:
    graph = nx.Graph()
    graph.add_node("a", element="C")
    graph.add_node("b", element="O")
    graph.add_edge("b", "a", order=2)
    assert to_smiles(from_networkx(graph)) == "C=O"


@pytest.mark.parametrize(
    ("element", "order", "reason"),
    [(None, 1, "no attribute"), ("C", 4, "order 4"), ("C", None, "order None"), ("Q", 1, "symbol")],
)
def test_networkx_graph_that_is_no_molecule(
    element: str | None, order: int | None, reason: str
) -> None:
    graph = nx.Graph()
    graph.add_node(0, **({"element": element} if element else {}))
    graph.add_node(1, element="C")
    graph.add_edge(0, 1, **({"order": order} if order else {}))
    with pytest.raises(MolflddError, match=reason):
        from_networkx(graph)


@pytest.mark.parametrize("smiles", SMILES)
def test_pyg_round_trip(smiles: str) -> None:
    graph = graph_of(smiles)
    data = to_pyg(graph)
    data.validate()
    assert data.num_nodes == len(graph.atoms)
    assert data.num_edges == 2 * np.count_nonzero(graph.bonds)
    back = from_pyg(data)
    np.testing.assert_array_equal(back.atoms, graph.atoms)
    np.testing.assert_array_equal(back.bonds, graph.bonds)


def test_pyg_edges_go_both_ways() -> None:
    data = to_pyg(graph_of("CC=O"))
    edges = zip(*data.edge_index.tolist(), data.edge_attr.tolist(), strict=True)
    assert sorted(edges) == [(0, 1, 1), (1, 0, 1), (1, 2, 2), (2, 1, 2)]


def test_pyg_one_direction_is_enough() -> None:
    graph = graph_of("CC=O")
    data = to_pyg(graph)
    data.edge_index, data.edge_attr = data.edge_index[:, 2:], data.edge_attr[2:]
    np.testing.assert_array_equal(from_pyg(data).bonds, graph.bonds)


def test_pyg_edge_to_itself_is_refused() -> None:
    data = to_pyg(graph_of("CC=O"))
    data.edge_index[1, 0] = data.edge_index[0, 0]
    with pytest.raises(MolflddError, match="to itself"):
        from_pyg(data)
