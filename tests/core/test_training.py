"""Training runs: resuming bit for bit, averages, optimizers, and what iterations report."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from tiny import build_diffusion, random_examples
from torch import Tensor

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.core.estimators import (
    ConcreteRelaxation,
    ControlVariate,
    Estimate,
    LeaveOneOut,
    Pathwise,
    Term,
)
from molfldd.core.optimizers import hidden_matrices
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.core.profile import Profile
from molfldd.core.training import Trainer

OPTIONS = TrainingOptions(batch_size=12, ema_decay=0.9, seed=3)
PHASES = (
    Phase("warm", 4, ConcreteRelaxation(), lr_forward=1e-2, lr_reverse=2e-2, warmup=2),
    Phase("learn", 5, ControlVariate(), lr_forward=5e-3, lr_reverse=1e-2),
    Phase("polish", 4, Pathwise(), lr_forward=0.0, lr_reverse=1e-2, schedule="cosine"),
)
TOTAL = 13


def trainer(
    kind: str = "masking",
    phases: tuple[Phase, ...] = PHASES,
    options: TrainingOptions = OPTIONS,
    seed: int = 0,
) -> Trainer:
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(fabric, build_diffusion(kind, 3, seed), random_examples(50), phases, options)


def advance(run: Trainer, iterations: int | None = None) -> list[Any]:
    done = []
    for iteration in run.run():
        done.append(iteration)
        if len(done) == iterations:
            break
    return done


def tensors(tree: Any, where: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and lists."""
    if isinstance(tree, dict):
        parts = tree.items()
    elif isinstance(tree, list | tuple):
        parts = enumerate(tree)
    else:
        return {where: tree}
    return {k: v for key, part in parts for k, v in tensors(part, f"{where}/{key}").items()}


def same(one: Any, other: Any) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(
        torch.equal(x, b[k]) if isinstance(x, Tensor) else x == b[k] for k, x in a.items()
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("masking", OPTIONS),
        ("pinned-uniform", OPTIONS),
        ("fixed-uniform", OPTIONS),
        ("masking", dataclasses.replace(OPTIONS, optimizer="muon")),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(kind: str, options: TrainingOptions) -> None:
    """Stopped after every possible iteration, mid-phase and at both boundaries."""
    whole = trainer(kind, options=options)
    advance(whole)
    for stop in range(1, TOTAL + 1):
        first = trainer(kind, options=options)
        advance(first, stop)
        state = copy.deepcopy(first.state_dict())
        resumed = trainer(kind, options=options, seed=99)
        resumed.load_state_dict(state)
        rest = advance(resumed)
        assert [i.number for i in rest] == list(range(stop + 1, TOTAL + 1))
        assert same(resumed.diffusion.state_dict(), whole.diffusion.state_dict()), stop
        assert same(resumed.ema.state_dict(), whole.ema.state_dict()), stop


def test_states_along_the_way_are_equal_too() -> None:
    """Optimizer included: what is written later does not depend on an earlier interruption."""
    whole, first = trainer(), trainer()
    advance(whole, 11)
    advance(first, 6)
    resumed = trainer(seed=99)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    advance(resumed, 5)
    assert same(resumed.state_dict(), whole.state_dict())
    assert not same(first.state_dict(), whole.state_dict())


@pytest.mark.parametrize("stop", [4, 7, 13])
def test_resuming_from_a_file_is_no_different(tmp_path: Path, stop: int) -> None:
    whole, first = trainer(), trainer()
    advance(whole)
    advance(first, stop)
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, {}, first.state_dict())
    resumed = trainer(seed=99)
    resumed.load_state_dict(read_checkpoint(path)[1])
    advance(resumed)
    assert same(resumed.diffusion.state_dict(), whole.diffusion.state_dict())
    assert same(resumed.ema.state_dict(), whole.ema.state_dict())


def changed(at: int, **changes: Any) -> tuple[Phase, ...]:
    """The phases with one of them changed."""
    return tuple(
        dataclasses.replace(phase, **changes) if i == at else phase
        for i, phase in enumerate(PHASES)
    )


@pytest.mark.parametrize("stop", [TOTAL, TOTAL - 1])
def test_a_run_that_gets_longer_is_as_if_it_had_been_from_the_start(stop: int) -> None:
    """Also where it had come to its end and was resumed in vain."""
    longer = changed(2, iterations=7, schedule="constant")
    whole, first = trainer(phases=longer), trainer(phases=changed(2, schedule="constant"))
    advance(whole)
    advance(first, stop)
    if stop == TOTAL:
        state = copy.deepcopy(first.state_dict())
        first = trainer(seed=98)
        first.load_state_dict(state)
        assert advance(first) == []
    resumed = trainer(phases=longer, seed=99)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    advance(resumed)
    assert same(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_can_go_on_with_other_rates(optimizer: Any) -> None:
    """They are those of now; the moments of the gradient are those it had."""
    options = dataclasses.replace(OPTIONS, optimizer=optimizer)
    first = trainer(options=options)
    advance(first, 6)
    state = copy.deepcopy(first.state_dict())
    phases = changed(1, lr_forward=3e-9, lr_reverse=7e-9)
    resumed = trainer(
        phases=phases, options=dataclasses.replace(options, weight_decay=0.5), seed=99
    )
    resumed.load_state_dict(state)
    groups = [group for one in resumed.state_dict()["optimizers"] for group in one["param_groups"]]
    assert {(g["name"], g["peak"]) for g in groups} == {
        ("reverse", 7e-9),
        ("forward", 3e-9),
        ("pace", 3e-9),
        ("estimator", ControlVariate().learning_rate),
    }
    assert {group["weight_decay"] for group in groups} == {0.5}
    for one, saved in zip(resumed.state_dict()["optimizers"], state["optimizers"], strict=True):
        assert same(one["state"], saved["state"])
    before = copy.deepcopy(resumed.diffusion.state_dict())
    advance(resumed, 1)
    for name, value in resumed.diffusion.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize("change", [{"lr_forward": 0.0}, {"estimator": Pathwise()}])
def test_the_middle_of_a_phase_that_trains_something_else_is_no_start(change: Any) -> None:
    first = trainer()
    advance(first, 6)
    with pytest.raises(ValueError, match="the state trains"):
        trainer(phases=changed(1, **change)).load_state_dict(first.state_dict())


def test_another_seed_trains_differently() -> None:
    one, other = trainer(), trainer(options=TrainingOptions(batch_size=12, seed=4))
    advance(one), advance(other)
    assert not same(one.diffusion.state_dict(), other.diffusion.state_dict())


def test_frozen_forward_does_not_change_and_reverse_does() -> None:
    run = trainer()
    advance(run, 9)
    before = copy.deepcopy(run.diffusion.state_dict())
    advance(run)
    assert run.iteration == TOTAL
    after = run.diffusion.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    assert all(k.startswith("reverse.") for k in changed)
    assert not any(p.requires_grad for p in run.diffusion.forward_process.parameters())


def test_forward_learns_before_it_is_frozen() -> None:
    run = trainer()
    before = copy.deepcopy(run.diffusion.forward_process.state_dict())
    advance(run, 9)
    assert not same(before, run.diffusion.forward_process.state_dict())


def test_average_is_the_exponential_moving_average_of_the_reverse_network() -> None:
    run = trainer()
    expected: dict[str, Tensor] = {}
    for iteration in run.run():
        now = {k: v.detach().clone() for k, v in run.diffusion.reverse.named_parameters()}
        if iteration.number == 1:
            expected = now
        else:
            expected = {k: 0.9 * expected[k] + 0.1 * v for k, v in now.items()}
    averaged = dict(run.averaged.reverse.named_parameters())
    assert averaged.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name].detach(), value)
        assert not torch.equal(value, now[name])
    assert run.averaged.forward_process is run.diffusion.forward_process


def test_training_lowers_the_bound() -> None:
    phases = (Phase("learn", 150, LeaveOneOut(), lr_forward=5e-3, lr_reverse=2e-2),)
    run = trainer("masking", phases, TrainingOptions(batch_size=30))
    totals = [float(sum(k.mean() for k in i.kl.values())) for i in run.run()]
    assert sum(totals[-20:]) < 0.8 * sum(totals[:20])


def test_iterations_report_what_happened() -> None:
    run = trainer()
    reports = advance(run)
    assert run.total_iterations == TOTAL
    both = {"reverse", "forward", "pace"}
    trained = {"warm": both, "learn": both | {"estimator"}, "polish": {"reverse"}}
    assert [r.phase.name for r in reports] == ["warm"] * 4 + ["learn"] * 5 + ["polish"] * 4
    for report in reports:
        assert report.kl["letters"].shape == report.t.shape == (12,)
        assert all(math.isfinite(v) and v > 0 for v in report.gradient_norm.values())
        assert set(report.gradient_norm) == trained[report.phase.name]


def test_the_pace_does_not_shorten_the_gradient_of_the_forward_network() -> None:
    phase = Phase("learn", 1, LeaveOneOut(), lr_forward=1e-2, lr_reverse=1e-2)
    left = []
    for scale in (1.0, 1e3):
        run = trainer(phases=(phase,), options=dataclasses.replace(OPTIONS, clip=20.0))
        forward = run.diffusion.forward_process
        for number in forward.numbers:
            number.register_hook(lambda g, scale=scale: scale * g)
        (report,) = run.run()
        assert (report.gradient_norm["pace"] > 20.0) == (scale > 1)
        left.append([p.grad for p in forward.network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*left, strict=True))


def test_muon_takes_the_hidden_matrices_of_the_reverse_network_alone() -> None:
    phase = Phase("learn", 1, LeaveOneOut(), lr_forward=1e-2, lr_reverse=1e-2)
    run = trainer(phases=(phase,), options=dataclasses.replace(OPTIONS, optimizer="muon"))
    ((hidden,), before) = hidden_matrices(run.diffusion.reverse), copy.deepcopy(run.diffusion)
    assert hidden is run.diffusion.reverse.network.layers[0].weight
    names = {id(p): name for name, p in run.diffusion.named_parameters()}
    for _ in run.run():
        adam, muon = run._optimizers
        assert [p for group in muon.param_groups for p in group["params"]] == [hidden]
        rest = [p for group in adam.param_groups for p in group["params"]]
        assert {names[id(p)] for p in rest} == set(names.values()) - {names[id(hidden)]}
    step = hidden - before.reverse.network.layers[0].weight
    values = torch.linalg.svdvals(step.detach())
    assert float(values.median()) > 0.5 * float(values.max())  # nearly orthogonal


def test_a_network_without_hidden_matrices_trains_by_adamw() -> None:
    assert hidden_matrices(torch.nn.Linear(3, 3)) == []


def test_a_phase_can_have_an_average_of_its_own() -> None:
    """Decay 0 is the network itself; the phase after it averages again."""
    still = dataclasses.replace(PHASES[0], ema_decay=0.0)
    run = trainer(phases=(still, PHASES[2]))
    for iteration in run.run():
        averaged, now = run.averaged.reverse.state_dict(), run.diffusion.reverse.state_dict()
        assert same(averaged, now) == (iteration.phase is still)


def test_average_can_begin_anew() -> None:
    run = trainer()
    advance(run, 3)
    run.reset_average()
    assert same(run.averaged.reverse.state_dict(), run.diffusion.reverse.state_dict())


def test_gradient_variance_is_that_of_the_gradients() -> None:
    """A run that hardly moves draws its gradients from one distribution."""
    phase = Phase("still", 400, LeaveOneOut(), lr_forward=1e-12, lr_reverse=1e-12)
    run = trainer(phases=(phase,), options=TrainingOptions(batch_size=12, clip=1e9))
    found, rows = [], []
    for _ in run.run():
        parameters = run.diffusion.forward_process.network.parameters()
        rows.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        if len(rows) > 200:
            found.append(run.gradient_variance()["forward"])
    exact = float(torch.stack(rows).var(0).sum())
    assert sum(found) / len(found) == pytest.approx(exact, rel=0.2)
    assert trainer().gradient_variance() == {}


def test_optimizer_gets_the_rates_of_its_phase() -> None:
    run = trainer()
    seen = []
    for iteration in run.run():
        for optimizer in run._optimizers:
            groups = [group["lr"] for group in optimizer.param_groups]
            seen.append((iteration.number, groups))
    rates = dict(seen)
    assert rates[1] == pytest.approx([1e-2, 5e-3, 5e-3])  # warm-up: half of the peak
    assert rates[6] == pytest.approx([1e-2, 5e-3, 5e-3, ControlVariate().learning_rate])
    assert rates[12] == pytest.approx([1e-2 * 0.5])  # half-way down the cosine, phi frozen


def test_every_iteration_has_noise_of_its_own() -> None:
    seen: list[float] = []

    def recording(term: Term, generator: torch.Generator, progress: float) -> Estimate:
        before = generator.get_state()
        seen.append(float(torch.rand((), generator=generator)))
        return Pathwise()(term, generator.set_state(before), progress)

    advance(trainer(phases=(Phase("learn", 20, recording), Phase("more", 20, recording))))
    assert len(set(seen)) == 40


def test_profile_is_the_mean_by_step_and_block() -> None:
    run = trainer()
    profile = Profile(3, ("letters", "links"))
    reports = advance(run)
    for report in reports:
        profile.add(report)
    t = torch.cat([r.t for r in reports])
    for column, name in enumerate(("letters", "links")):
        kl = torch.cat([r.kl[name] for r in reports])
        expected = torch.stack([kl[t == step].mean() for step in (1, 2, 3)])
        torch.testing.assert_close(profile.kl[:, column], expected)
    profile.reset()
    assert (profile.kl == 0).all()


def test_no_batch_of_a_run_exceeds_the_budget() -> None:
    run = trainer(options=TrainingOptions(batch_size=12, elements=30))
    assert run.examples.largest == 5  # three letters and two links
    assert run.options.batch_size == 6
    assert all(len(iteration.t) == 6 for iteration in advance(run))
    run = trainer(options=TrainingOptions(batch_size="auto", elements=50))
    assert all(len(iteration.t) == 10 for iteration in advance(run))
    run = trainer(options=TrainingOptions(batch_size=12, elements=30, steps_per_example=2))
    assert all(len(iteration.t) == 6 for iteration in advance(run))
