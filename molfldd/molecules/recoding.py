"""What was learned about the atoms of one vocabulary, for another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

TABLES = {
    "network.embed_atoms.weight": 1,
    "network.read_atoms.weight": 0,
    "network.read_atoms.bias": 0,
    "head.state.weight": 0,
    "head.read.weight": 0,
    "head.read.bias": 0,
}
"""Parameters of a process that speak of each atom type, and along which dimension.

The atom types come first there, and then whatever else there is: the mask, or the bonds.
"""


def recoded(
    state: Mapping[str, Tensor], mine: Sequence[str], its: Sequence[str]
) -> dict[str, Tensor]:
    """The weights of a process with the atom types of another vocabulary.

    Args:
        state: Weights by the names of their parameters.
        mine: Names of the atom types that are wanted.
        its: Names of those that the weights speak of.

    Returns:
        The same weights, and 0 for what was not among ``its``. What has fewer entries than there
        are atom types, such as the scores of a forward process, does not speak of them.
    """
    sources = [its.index(name) if name in its else None for name in mine]
    result = dict(state)
    for name in TABLES.keys() & state.keys():
        table, dim = state[name], TABLES[name]
        if table.shape[dim] > len(its):
            entries = table.split(1, dim)  # type: ignore[no-untyped-call]
            nothing = torch.zeros_like(entries[0])
            atoms = [nothing if i is None else entries[i] for i in sources]
            result[name] = torch.cat([*atoms, *entries[len(its) :]], dim)
    return result
