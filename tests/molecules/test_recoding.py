"""What was learned about molecules serves others: the same function of the same atoms."""

from functools import partial

import pytest
import torch
from torch import nn

from molfldd.beginning import fitting
from molfldd.core.blocks import absorbing_prior, masks
from molfldd.core.forward import MaskingForward
from molfldd.core.reverse import AutoregressiveReverse, ReverseProcess, UnmaskingReverse
from molfldd.molecules.domain import Molecules
from molfldd.molecules.network import GraphTransformerConfig
from molfldd.molecules.vocabulary import Vocabulary

ITS = Molecules(Vocabulary.from_json(["C", "N", "O", "F"]), 5)
LARGER = Molecules(Vocabulary.from_json(["O", "S", "C", "F", "N", "N+"]), 7)
SMALLER = Molecules(Vocabulary.from_json(["O", "C"]), 4)
REVERSE = [UnmaskingReverse, AutoregressiveReverse]


def process(
    kind: type[ReverseProcess] | type[MaskingForward], domain: Molecules, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    network = partial(domain.network, GraphTransformerConfig(2, 16, 8, 2))
    made = kind(domain.blocks, absorbing_prior(domain.blocks), 3, network)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def begun(kind: type[ReverseProcess] | type[MaskingForward], mine: Molecules) -> list[nn.Module]:
    """A process of ``ITS`` and one of another domain that begins with it."""
    given, taking = process(kind, ITS, 0), process(kind, mine, 1)
    carried = mine.carried_over(given.state_dict(), ITS)
    assert carried is not None
    taking.load_state_dict(fitting(carried, taking))
    return [given, taking]


def states(domain: Molecules, atoms: list[str]) -> tuple[dict[str, torch.Tensor], dict]:
    """Four molecules of such atoms, masked ones among them ("?"), as one-hot states, and masks."""
    names = [*domain.vocabulary.names, "?"]
    codes = torch.tensor([[names.index(atom) for atom in atoms]]).expand(4, -1)
    mask = masks(domain.blocks, torch.tensor([len(atoms)] * 4))
    bonds = torch.randint(5, mask["bonds"].shape, generator=torch.Generator().manual_seed(0))
    one_hot = nn.functional.one_hot
    return {
        "atoms": one_hot(codes, len(names)).float(),
        "bonds": one_hot(bonds, 5).float(),
    }, mask


@pytest.mark.parametrize("kind", REVERSE)
@pytest.mark.parametrize("mine", [LARGER, SMALLER])
def test_the_same_is_said_of_the_same_atoms(kind: type[ReverseProcess], mine: Molecules) -> None:
    """And nothing of new ones."""
    given, taking = begun(kind, mine)
    t = torch.tensor([1, 2, 3, 3])
    atoms = ["O", "C", "?", "O"]
    its, found = (
        made.features(*states(domain, atoms), t).shared
        for made, domain in ((given, ITS), (taking, mine))
    )
    torch.testing.assert_close(found["bonds"], its["bonds"])
    for column, name in enumerate(mine.vocabulary.names):
        expected = torch.zeros(4, 4)
        if name in ITS.vocabulary.names:
            expected = its["atoms"][..., ITS.vocabulary.names.index(name)]
        torch.testing.assert_close(found["atoms"][..., column], expected)
    beyond = [len(domain.vocabulary) for domain in (ITS, mine)]
    torch.testing.assert_close(found["atoms"][..., beyond[1] :], its["atoms"][..., beyond[0] :])


def test_a_head_knows_the_same_states() -> None:
    given, taking = begun(AutoregressiveReverse, LARGER)
    told, before = torch.randn(2, 3, 64), torch.randn(2, 3, 64)
    its, found = (made.head(told, before, made.head.memory()) for made in (given, taking))
    order = [2, None, 0, 3, 1, None, 4, 5, 6, 7, 8, 9]
    for column, source in enumerate(order):
        expected = torch.zeros(2, 3) if source is None else its[..., source]
        torch.testing.assert_close(found[..., column], expected)
        if source is not None:
            torch.testing.assert_close(
                taking.head.state.weight[column], given.head.state.weight[source]
            )


def test_the_scores_of_a_forward_process_are_the_same() -> None:
    given, taking = begun(MaskingForward, LARGER)
    atoms = ["O", "C", "N", "F"]
    its, found = (
        made.network(*states(domain, atoms), torch.zeros(4))
        for made, domain in ((given, ITS), (taking, LARGER))
    )
    for name, expected in its.items():
        torch.testing.assert_close(found[name], expected)
