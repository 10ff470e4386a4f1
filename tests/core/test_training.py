"""Resuming bit for bit, the draws of every process, phases, averages and rates."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from tiny import build_diffusion, random_examples
from torch import Tensor

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.core.draws import Draws
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
from molfldd.core.training import Profile, Trainer

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
    both = {"reverse", "forward"}
    trained = {"warm": both, "learn": both | {"estimator"}, "polish": {"reverse"}}
    assert [r.phase.name for r in reports] == ["warm"] * 4 + ["learn"] * 5 + ["polish"] * 4
    for report in reports:
        assert report.kl["letters"].shape == report.t.shape == (12,)
        assert all(math.isfinite(v) and v > 0 for v in report.gradient_norm.values())
        assert set(report.gradient_norm) == trained[report.phase.name]


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
        parameters = run.diffusion.forward_process.parameters()
        rows.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        if len(rows) > 200:
            found.append(run.gradient_variance()["forward"])
    exact = float(torch.stack(rows).var(0).sum())
    assert sum(found) / len(found) == pytest.approx(exact, rel=0.2)
    assert trainer().gradient_variance() == {}


# Rates ----------------------------------------------------------------------------------------


def test_rates_rise_linearly_then_fall_along_a_cosine() -> None:
    phase = Phase("p", 14, Pathwise(), warmup=4, schedule="cosine")
    rates = [phase.rate(done) for done in range(15)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[9] == pytest.approx(0.5)
    assert rates[14] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(rates[4:]))


def test_constant_rates_stay() -> None:
    phase = Phase("p", 10, Pathwise(), warmup=2)
    assert [phase.rate(done) for done in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


def test_optimizer_gets_the_rates_of_its_phase() -> None:
    run = trainer()
    seen = []
    for iteration in run.run():
        for optimizer in run._optimizers:
            groups = [group["lr"] for group in optimizer.param_groups]
            seen.append((iteration.number, groups))
    rates = dict(seen)
    assert rates[1] == pytest.approx([1e-2, 5e-3])  # warm-up: half of the peak
    assert rates[6] == pytest.approx([1e-2, 5e-3, ControlVariate().learning_rate])
    assert rates[12] == pytest.approx([1e-2 * 0.5])  # half-way down the cosine, phi frozen


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"lr_forward": -1e-3},
        {"lr_reverse": 0.0},
        {"lr_reverse": math.nan},
        {"lr_forward": math.inf},
        {"warmup": -1},
        {"time_power": math.nan},
        {"ema_decay": 1.0},
    ],
)
def test_impossible_phases_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'p'"):
        Phase(**{"name": "p", "iterations": 1, "estimator": Pathwise(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"elements": 0},
        {"grouped": 0},
        {"ema_decay": 1.0},
        {"ema_decay": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
        {"weight_decay": -0.1},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingOptions(**wrong)


# Draws ----------------------------------------------------------------------------------------


def sizes_of(examples: int) -> Tensor:
    return torch.randint(1, 30, (examples,), generator=torch.Generator().manual_seed(examples))


@given(st.integers(1, 60), st.integers(1, 13), st.integers(2, 6), st.integers(0, 5))
def test_grouping_brings_the_same_examples_with_similar_sizes_together(
    examples: int, batch: int, grouped: int, seed: int
) -> None:
    options = TrainingOptions(batch_size=batch, seed=seed)
    sizes = sizes_of(examples)
    plain = Draws(sizes, 3, options)
    draws = Draws(sizes, 3, dataclasses.replace(options, grouped=grouped))
    for group in range(3):
        iterations = range(group * grouped, (group + 1) * grouped)
        batches = [draws.indices(i) for i in iterations]
        together = torch.cat([plain.indices(i) for i in iterations])
        assert sorted(torch.cat(batches).tolist()) == sorted(together.tolist())
        spans = sorted((int(sizes[b].min()), int(sizes[b].max())) for b in batches)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    again = Draws(sizes, 3, draws.options)
    assert torch.equal(again.indices(2 * grouped + 1), draws.indices(2 * grouped + 1))


def test_groups_come_in_random_order() -> None:
    """Small and large examples take turns: the learning rate falls for both alike."""
    sizes = torch.arange(1000)
    draws = Draws(sizes, 3, TrainingOptions(batch_size=10, grouped=100))
    means = [float(sizes[draws.indices(i)].float().mean()) for i in range(100)]
    assert sum(a < b for a, b in pairwise(means)) in range(30, 70)


@given(st.integers(1, 40), st.integers(1, 13), st.integers(0, 5))
def test_every_example_comes_once_per_epoch(examples: int, batch: int, seed: int) -> None:
    draws = Draws(sizes_of(examples), 3, TrainingOptions(batch_size=batch, seed=seed))
    iterations = -(-3 * examples // batch)
    order = torch.cat([draws.indices(i) for i in range(iterations)])[: 3 * examples]
    for epoch in order.split(examples):
        assert sorted(epoch.tolist()) == list(range(examples))


def test_epochs_are_shuffled_anew() -> None:
    draws = Draws(sizes_of(30), 3, TrainingOptions(batch_size=30))
    assert not torch.equal(draws.indices(0), draws.indices(1))
    assert torch.equal(
        draws.indices(0), Draws(sizes_of(30), 3, TrainingOptions(batch_size=30)).indices(0)
    )


@given(st.integers(1, 50), st.sampled_from([1, 2, 3, 4]), st.integers(1, 5), st.integers(0, 30))
def test_processes_share_the_batch_of_a_single_one(
    examples: int, processes: int, share: int, iteration: int
) -> None:
    options = TrainingOptions(batch_size=share * processes)
    alone = Draws(sizes_of(examples), 7, options)
    parts = [Draws(sizes_of(examples), 7, options, rank, processes) for rank in range(processes)]
    together = torch.cat([part.indices(iteration) for part in parts])
    assert torch.equal(together, alone.indices(iteration))
    times = torch.cat([part.times(iteration) for part in parts])
    assert torch.equal(times, alone.times(iteration))


def test_processes_have_different_noise() -> None:
    cpu = torch.device("cpu")
    parts = [Draws(sizes_of(10), 7, TrainingOptions(batch_size=4), rank, 2) for rank in range(2)]
    streams = [torch.rand(4, generator=part.noise(i, cpu)) for part in parts for i in range(20)]
    assert len({tuple(s.tolist()) for s in streams}) == 40


def test_every_iteration_has_noise_of_its_own() -> None:
    seen: list[float] = []

    def recording(term: Term, generator: torch.Generator, progress: float) -> Estimate:
        before = generator.get_state()
        seen.append(float(torch.rand((), generator=generator)))
        return Pathwise()(term, generator.set_state(before), progress)

    advance(trainer(phases=(Phase("learn", 20, recording), Phase("more", 20, recording))))
    assert len(set(seen)) == 40


def test_every_step_is_equally_likely_at_every_place_in_the_batch() -> None:
    draws = Draws(sizes_of(100), 5, TrainingOptions(batch_size=3))
    times = torch.stack([draws.times(i) for i in range(4000)])
    for place in range(3):
        counts = torch.bincount(times[:, place], minlength=6)
        assert counts[0] == 0
        assert (counts[1:] - 800).abs().max() < 5 * math.sqrt(4000 * 0.2 * 0.8)
    assert max(Counter(times[0].tolist()).values()) == 1  # spread over the steps


def test_uneven_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        Draws(sizes_of(10), 3, TrainingOptions(batch_size=5), 0, 2)


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


@pytest.mark.parametrize(
    ("elements", "largest", "processes", "expected"),
    [
        (None, 10_000, 1, 128),
        (128 * 45, 45, 1, 128),
        (128 * 45 - 1, 45, 1, 127),
        (32_768, 741, 1, 44),
        (32_768, 741, 3, 42),
        (100, 5050, 1, 1),
        (100, 5050, 4, 4),
    ],
)
def test_batches_keep_to_the_budget_of_elements(
    elements: int | None, largest: int, processes: int, expected: int
) -> None:
    options = TrainingOptions(batch_size=128, elements=elements).for_examples(largest, processes)
    assert options.batch_size == expected
    assert options.batch_size % processes == 0 or processes == 1


def test_no_batch_of_a_run_exceeds_the_budget() -> None:
    run = trainer(options=TrainingOptions(batch_size=12, elements=30))
    assert run.examples.largest == 5  # three letters and two links
    assert run.options.batch_size == 6
    assert all(len(iteration.t) == 6 for iteration in advance(run))
