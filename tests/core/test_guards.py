"""What does not fit is refused where it is put together; what is frozen or evaluated stays so."""

from collections.abc import Mapping

import pytest
import torch
from lightning_fabric import Fabric
from tiny import BLOCKS, FREQUENCIES, LETTERS, LINKS, TinyNetwork
from torch import Tensor, nn

from molfldd.core.blocks import (
    Block,
    Examples,
    SizeDistribution,
    absorbing_prior,
    marginal_prior,
)
from molfldd.core.coupling import independent_coupling
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import ControlVariate, Estimator, LeaveOneOut, Pathwise, Term
from molfldd.core.estimators.reinforce import Reinforce
from molfldd.core.forward import (
    FixedForward,
    ForwardProcess,
    FreeForward,
    MaskingForward,
    MixedForward,
)
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.core.report import evaluate_bound
from molfldd.core.reverse import AutoregressiveReverse, JumpReverse, UnmaskingReverse
from molfldd.core.sampling import Sampler
from molfldd.core.training import Trainer

STEPS = 3
PRIOR = absorbing_prior(BLOCKS)


def network(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> TinyNetwork:
    return TinyNetwork(inputs, outputs, generator=torch.Generator().manual_seed(0))


def examples(count: int = 8) -> Examples:
    sizes = torch.tensor([2, 3] * (count // 2))
    codes = {"letters": torch.zeros(count, 3), "links": torch.zeros(count, 2)}
    return Examples(BLOCKS, {name: x.long() for name, x in codes.items()}, sizes)


def learned() -> Diffusion:
    return Diffusion(
        MaskingForward(BLOCKS, PRIOR, STEPS, network),
        UnmaskingReverse(BLOCKS, PRIOR, STEPS, network),
    )


def independent() -> ForwardProcess:
    forward = MaskingForward(BLOCKS, PRIOR, STEPS, network)
    forward.coupling = independent_coupling
    return forward


@pytest.mark.parametrize("reverse", [UnmaskingReverse, AutoregressiveReverse])
@pytest.mark.parametrize(
    "forward",
    [
        FreeForward(BLOCKS, PRIOR, STEPS, network),
        MixedForward(BLOCKS, PRIOR, STEPS, network),
        independent(),
    ],
)
def test_what_changes_values_is_not_undone_by_unmasking(
    forward: ForwardProcess, reverse: type[UnmaskingReverse]
) -> None:
    with pytest.raises(ValueError, match="changes values"):
        Diffusion(forward, reverse(BLOCKS, PRIOR, STEPS, network))
    assert Diffusion(forward, JumpReverse(BLOCKS, PRIOR, STEPS, network))


def test_fixed_masking_is_undone_by_unmasking_and_uniform_noise_is_not() -> None:
    reverse = UnmaskingReverse(BLOCKS, PRIOR, STEPS, network)
    assert Diffusion(FixedForward(BLOCKS, PRIOR, STEPS), reverse)
    with pytest.raises(ValueError, match="changes values"):
        Diffusion(FixedForward(BLOCKS, marginal_prior(FREQUENCIES), STEPS), reverse)


@pytest.mark.parametrize("steps", [[0, 1], [1, 2, 3]])
def test_steps_begin_at_one_and_are_as_many_for_each(steps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"for 2 .*from 1 on"):
        Term.of(learned(), examples().batch(torch.arange(2)), torch.tensor(steps))


@pytest.mark.parametrize(
    ("codes", "sizes"), [((2, 3), [2, 2, 2]), ((2, 1), [2, 2]), ((2, 3), [2, 0])]
)
def test_data_that_do_not_fit_are_refused(codes: tuple[int, int], sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"codes for|no elements"):
        Examples((LETTERS,), {"letters": torch.zeros(codes).long()}, torch.tensor(sizes))


def test_a_marginal_prior_can_be_given_as_counts() -> None:
    counts = marginal_prior({"letters": torch.tensor([5.0, 3.0, 2.0])})
    torch.testing.assert_close(counts.probs["letters"], torch.tensor([0.5, 0.3, 0.2]))


@pytest.mark.parametrize("estimator", [Reinforce(), LeaveOneOut(), ControlVariate()])
def test_the_loss_of_an_estimator_is_that_of_its_kl(estimator: Estimator | ControlVariate) -> None:
    """Whatever it adds for the sake of its gradient has the value 0."""
    diffusion = learned()
    if isinstance(estimator, ControlVariate):
        estimator = estimator.build(diffusion, examples().sizes)
    term = Term.of(diffusion, examples(4).batch(torch.arange(4)), torch.tensor([1, 2, 3, 3]))
    estimate = estimator(term, torch.Generator().manual_seed(0), 0.0)
    nats = STEPS * torch.stack(list(estimate.kl.values())).sum(0).mean()
    torch.testing.assert_close(estimate.loss.detach(), nats)
    estimate.loss.backward()
    assert any(p.grad.abs().sum() > 0 for p in term.diffusion.forward_process.network.parameters())


def test_options_of_estimators_are_given_by_position() -> None:
    assert LeaveOneOut(4).samples == 4
    assert LeaveOneOut(4).kind == "leave-one-out"


def trained(diffusion: Diffusion, **options: object) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    phase = Phase("polish", 2, Pathwise(), lr_forward=0.0, lr_reverse=0.1)
    training = TrainingOptions(batch_size=4, **options)
    list(Trainer(fabric, diffusion, examples(), (phase,), training).run())


def test_what_is_frozen_stays_frozen() -> None:
    diffusion = learned()
    embed, read = (diffusion.reverse.network.embed, diffusion.reverse.network.read)
    embed.requires_grad_(False)
    before = [part["letters"].weight.clone() for part in (embed, read)]
    trained(diffusion)
    assert torch.equal(embed["letters"].weight, before[0])
    assert not torch.equal(read["letters"].weight, before[1])


def test_muon_without_anything_to_train_is_refused() -> None:
    diffusion = learned()
    diffusion.reverse.network.layers = nn.Sequential(*diffusion.reverse.network.layers)
    with pytest.raises(ValueError, match=r"nn\.ModuleList"):
        trained(diffusion, optimizer="muon")


class Dropping(nn.Module):
    """A network that drops some of its features while it is trained."""

    def __init__(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.within = network(inputs, outputs)
        self.drop = nn.Dropout(0.5)

    def forward(self, *arguments: Tensor) -> dict[str, Tensor]:
        return {name: self.drop(y) for name, y in self.within(*arguments).items()}


def test_bound_and_samples_are_those_of_evaluation_mode() -> None:
    """And training goes on in the mode that it was in."""
    reverse = UnmaskingReverse(BLOCKS, PRIOR, STEPS, Dropping)
    diffusion = Diffusion(MaskingForward(BLOCKS, PRIOR, STEPS, network), reverse)
    sizes = SizeDistribution.of(examples().sizes)

    def found() -> tuple[float, list[Tensor]]:
        batches = [examples().batch(torch.arange(8))]
        report = evaluate_bound(diffusion, batches, sizes, torch.Generator().manual_seed(0))
        drawn = Sampler(reverse, PRIOR, sizes).sample(0, range(20)).codes
        return report.total, list(drawn.values())

    diffusion.train()
    first, again = found(), found()
    assert reverse.network.drop.training
    diffusion.eval()
    quiet = found()
    assert first[0] == again[0] == quiet[0]
    for one, other, third in zip(first[1], again[1], quiet[1], strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_blocks_of_other_lengths_have_examples_without_elements_of_one() -> None:
    """Only an example without any is refused: a single letter has no links."""
    block = Block("letters", 2, torch.Tensor.clone)
    assert (
        len(
            Examples(
                (block, LINKS),
                {"letters": torch.zeros(1, 1), "links": torch.zeros(1, 0)},
                torch.tensor([1]),
            )
        )
        == 1
    )
