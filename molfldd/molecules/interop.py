"""Molecules for other libraries: NetworkX graphs and PyTorch Geometric data, and back."""

from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from rdkit import Chem

from molfldd.errors import MolflddError
from molfldd.molecules.codec import (
    MoleculeGraph,
    assemble,
    disassemble,
    num_pairs,
    pair_index,
    pairs,
)
from molfldd.molecules.vocabulary import BOND_ORDERS, NO_BOND

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_networkx(mol: Chem.Mol) -> nx.Graph:
    """NetworkX graph of a sanitized molecule, kekulized, nodes numbered as its atoms.

    Nodes have `element` (symbol) and `charge`, edges have `order` (1, 2 or 3).
    Raises `codec.NotRepresentable` for a bond of another order.
    """
    atoms, bonds = disassemble(mol)
    graph = nx.Graph()
    for node, (element, charge) in enumerate(atoms):
        graph.add_node(node, element=element, charge=charge)
    first, second = pairs(len(atoms))
    for pair in np.flatnonzero(bonds != NO_BOND):
        graph.add_edge(int(first[pair]), int(second[pair]), order=int(bonds[pair]))
    return graph


def from_networkx(graph: nx.Graph) -> Chem.Mol:
    """Unsanitized molecule of a graph with the attributes that `to_networkx` gives.

    Atoms come in the order of the nodes, whatever these are called; `charge` may be missing.
    Raises `MolflddError` for a node whose `element` is missing or no symbol, and for an edge whose
    `order` is not 1, 2 or 3.
    """
    position = {node: index for index, node in enumerate(graph.nodes)}
    bonds = np.zeros(num_pairs(len(position)), np.uint8)
    for first, second, order in graph.edges(data="order"):
        if first == second or order not in range(1, len(BOND_ORDERS)):
            raise MolflddError(
                f"edge {first!r} - {second!r} has the order {order!r}; a bond needs two atoms "
                'and an attribute "order" of 1, 2 or 3'
            )
        bonds[pair_index(position[first], position[second])] = order
    atoms = []
    for node, attributes in graph.nodes(data=True):
        if "element" not in attributes:
            raise MolflddError(f'node {node!r} has no attribute "element"; set it to a symbol')
        atoms.append((attributes["element"], attributes.get("charge", 0)))
    try:
        return assemble(atoms, bonds)
    except RuntimeError as error:
        symbols = ", ".join(sorted({str(symbol) for symbol, _ in atoms}))
        raise MolflddError(f"not all of these are element symbols: {symbols}") from error


def to_pyg(graph: MoleculeGraph) -> "Data":
    """PyTorch Geometric data of a molecule graph with n atoms and b bonds.

    `x` (n,) int64 atom codes, `edge_index` (2, 2 b) int64 with both directions of each bond,
    `edge_attr` (2 b,) int64 bond codes 1..3.
    """
    import torch
    from torch_geometric.data import Data

    first, second = pairs(len(graph.atoms))
    bonded = np.flatnonzero(graph.bonds != NO_BOND)
    one_way = np.stack([first[bonded], second[bonded]])
    codes = np.tile(graph.bonds[bonded].astype(np.int64), 2)
    return Data(
        x=torch.from_numpy(graph.atoms.astype(np.int64)),
        edge_index=torch.from_numpy(np.concatenate([one_way, one_way[::-1]], axis=1)),
        edge_attr=torch.from_numpy(codes),
    )


def from_pyg(data: "Data") -> MoleculeGraph:
    """Molecule graph of data with the tensors that `to_pyg` gives; the inverse of `to_pyg`.

    An edge given in one direction only is a bond as well. Raises `MolflddError` for an edge from a
    node to itself.
    """
    atoms = data.x.cpu().numpy().astype(np.uint8)
    first, second = np.sort(data.edge_index.cpu().numpy(), axis=0)
    if (first == second).any():
        raise MolflddError("an edge goes from a node to itself; a bond needs two atoms")
    bonds = np.zeros(num_pairs(len(atoms)), np.uint8)
    bonds[num_pairs(second) + first] = data.edge_attr.cpu().numpy()
    return MoleculeGraph(atoms, bonds)
