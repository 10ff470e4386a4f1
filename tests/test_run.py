"""What a run does when training breaks down, and what is read back from its folder."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from molfldd.beginning import fitting, what_it_has
from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.config import override, parse_config, read_recipe
from molfldd.core.blocks import Batch
from molfldd.engine import Engine, peak_memory
from molfldd.errors import MolflddError
from molfldd.images.network import PatchTransformer, PatchTransformerConfig
from molfldd.log import LOG
from molfldd.model import load_diffusion
from molfldd.molecules.network import GraphTransformer, GraphTransformerConfig
from molfldd.run import MODEL, STATE, Run
from molfldd.text.network import Transformer, TransformerConfig
from molfldd.toy.network import Perceptron, PerceptronConfig

linux = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system does not say what it holds"
)


def tiny_run(folder: Path, *more: str) -> Run:
    changes = ["data.grid=8", "data.means=[[2.0, 2.0], [5.0, 5.0]]", "data.examples=500"]
    small = ["network.width=8", "monitor.checkpoint_every=2", "monitor.evaluate_every=1000"]
    config = parse_config(override(read_recipe("toy"), [*changes, *small, *more]))
    folder.mkdir(exist_ok=True)
    return Run(config, folder, Engine(accelerator="cpu", precision="32-true"))


def test_a_gradient_that_is_not_finite_ends_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run")
    save = run.save

    def save_then_poison() -> None:
        save()
        next(run.trainer.diffusion.reverse.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(run, "save", save_then_poison)
    with pytest.raises(
        MolflddError,
        match=r"gradient of 'reverse' is nan after 2 iterations; resume from the state",
    ):
        run.train(Console(file=io.StringIO()))
    again = tiny_run(tmp_path / "run")
    again.resume()
    assert again.trainer.iteration == 2
    assert (tmp_path / "run" / STATE).is_file()
    assert all(p.isfinite().all() for p in again.trainer.diffusion.parameters())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = tiny_run(tmp_path_factory.mktemp("run"), "phases.0.iterations=5", "phases.1.iterations=2")
    run.train(Console(file=io.StringIO()))
    return run


@linux
def test_the_log_says_how_much_memory_was_taken(tmp_path: Path) -> None:
    changes = ("phases.0.iterations=2", "phases.1.iterations=1", "monitor.log_every=1")
    run = tiny_run(tmp_path / "run", *changes)
    before = peak_memory(torch.device("cpu"))
    run.train(Console(file=io.StringIO()))
    lines = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    found = [line["memory"] for line in lines if line["event"] == "train"]
    assert len(found) == 3
    assert round(before) <= found[0] <= found[1] <= found[2]
    assert found[2] <= round(peak_memory(torch.device("cpu")))


@linux
def test_the_peak_of_memory_grows_by_what_is_held_and_stays() -> None:
    program = (
        "import torch; from molfldd.engine import peak_memory as peak; cpu = torch.device('cpu');"
        "first = peak(cpu); held = torch.ones(50 * 2**20); second = peak(cpu); del held;"
        "print(second - first, peak(cpu) - second)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    grown, after = map(float, ran.stdout.split())
    assert 180 < grown < 240
    assert after < 10


def test_both_processes_of_a_run_are_read_back(finished: Run) -> None:
    """The reverse one exactly, the forward one in half precision."""
    found, averaged = load_diffusion(finished.folder / MODEL), finished.trainer.averaged
    assert not found.training
    state = averaged.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, value in found.state_dict().items():
        exact = name.startswith("reverse.")
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-6}
        torch.testing.assert_close(value, state[name], **tolerance)


def test_a_checkpoint_without_forward_process_says_so(finished: Run, tmp_path: Path) -> None:
    header, tree = read_checkpoint(finished.folder / MODEL)
    del tree["forward"]
    write_checkpoint(tmp_path / MODEL, header, tree)
    with pytest.raises(MolflddError, match="no forward process"):
        load_diffusion(tmp_path / MODEL)


@pytest.mark.parametrize("prior", ["uniform", "marginal", "learned"])
def test_the_prior_is_read_back_exactly(tmp_path: Path, prior: str) -> None:
    run = tiny_run(tmp_path / "run", f"process.prior={prior}", "process.forward=pinned")
    run.save()
    found = load_diffusion(tmp_path / "run" / MODEL).prior.probs["coordinates"]
    torch.testing.assert_close(found, run.trainer.diffusion.prior.probs["coordinates"])
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)


def test_a_run_begins_with_the_model_of_another(finished: Run, tmp_path: Path) -> None:
    other = tiny_run(tmp_path / "run", "training.seed=5")
    assert other.start_from(finished.folder / MODEL)
    mine, its = other.trainer.diffusion.reverse, finished.trainer.averaged.reverse
    for name, value in mine.state_dict().items():
        assert torch.equal(value, its.state_dict()[name]), name


def test_the_bound_is_of_held_out_examples_from_everywhere_always_the_same(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones may be alike: data sets come sorted, molecules by size."""
    seen: list[torch.Tensor] = []

    def record(diffusion: object, batches: list[Batch], *more: object) -> None:
        seen.append(torch.cat([next(iter(batch.codes.values())) for batch in batches]))

    monkeypatch.setattr("molfldd.run.evaluate_bound", record)
    monitor = replace(finished.config.monitor, examples=20)
    monkeypatch.setattr(finished, "config", finished.config.model_copy(update={"monitor": monitor}))
    finished.bound()
    finished.bound()
    assert torch.equal(*seen)
    held_out = finished.data.test
    (whole,) = held_out.batch(torch.arange(len(held_out))).codes.values()
    assert len(seen[0]) == 20 < len(whole)
    assert not torch.equal(seen[0], whole[:20])
    assert {tuple(x) for x in seen[0].tolist()} <= {tuple(x) for x in whole.tolist()}


def warnings(run: Run) -> list[str]:
    lines = (run.folder / LOG).read_text(encoding="utf-8").splitlines()
    return [entry["message"] for entry in map(json.loads, lines) if entry["event"] == "warning"]


def test_a_run_whose_steps_collapse_says_so_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "phases.0.iterations=2", "phases.1.iterations=1")
    healthy = run.bound()
    kl = healthy.kl.clone()
    kl[-1] = 0.0
    monkeypatch.setattr(run, "bound", lambda *_: replace(healthy, kl=kl))
    run.train(Console(file=io.StringIO()))
    assert any("steps collapse" in message for message in warnings(run))


def test_every_number_of_steps_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["process.steps=[3,2]", "phases.0.iterations=2", "phases.1.iterations=1"]
    run = tiny_run(tmp_path / "run", *changes)
    reports = {steps: run.bound(steps) for steps in (None, 2)}
    reports[2] = replace(reports[2], kl=reports[2].kl * torch.tensor([[1.0], [0.0]]))
    monkeypatch.setattr(run, "bound", lambda steps=None: reports[steps])
    run.train(Console(file=io.StringIO()))
    assert any(message.startswith("in 2 steps: steps collapse") for message in warnings(run))
    assert not any(message.startswith("steps collapse") for message in warnings(run))


def test_a_run_that_learned_no_order_says_so_after_learning(tmp_path: Path) -> None:
    """Here it has no time for it; a process that was never to learn does not complain."""
    process = ["process.prior=absorbing", "process.reverse=unmasking", "monitor.evaluate_every=1"]
    phases = ["phases.0.iterations=3", "phases.1.iterations=2"]
    for forward, expected in (("masking", {3, 4, 5}), ("fixed", set())):
        run = tiny_run(tmp_path / forward, f"process.forward={forward}", *process, *phases)
        run.train(Console(file=io.StringIO()))
        lines = (run.folder / LOG).read_text(encoding="utf-8").splitlines()
        found = [
            e for e in map(json.loads, lines) if "no order was learned" in e.get("message", "")
        ]
        assert {entry["iteration"] for entry in found} == expected


def test_a_run_whose_soft_bound_leaves_the_hard_one_says_so_in_its_log(tmp_path: Path) -> None:
    """Warm soft samples tell the generator what x is."""
    changes = [
        "phases.0.estimator={kind: concrete, start: 5.0, end: 5.0}",
        "phases.0.lr_reverse=0.01",
    ]
    quick = ["training.ema_decay=0.5", "phases.0.ema_decay=0.5", "monitor.log_every=20"]
    steps = ["monitor.evaluate_every=300", "phases.0.iterations=300", "phases.1.iterations=1"]
    run = tiny_run(tmp_path / "run", *changes, *quick, *steps)
    run.train(Console(file=io.StringIO()))
    assert any("relaxation leaks" in message for message in warnings(run))


def network(kind: str, layers: int, triangles: int = 0) -> nn.Module:
    """The network of a domain without a zero anywhere."""
    graph = GraphTransformerConfig(layers, 16, 8, 2, triangles=triangles)
    patch = PatchTransformerConfig(2, layers, 16, 2, 4)
    built: dict[str, Any] = {
        "molecules": (GraphTransformer, graph, 5, *({"atoms": s, "bonds": s} for s in (4, 5))),
        "images": (PatchTransformer, patch, (4, 4), {"pixels": 3}, {"pixels": 5}),
        "text": (Transformer, TransformerConfig(layers, 16, 2), 6, {"tokens": 7}, {"tokens": 8}),
        "toy": (Perceptron, PerceptronConfig(layers, 16), {"coordinates": 4}, {"coordinates": 5}),
    }
    torch.manual_seed(layers)
    build, *arguments = built[kind]
    made: nn.Module = build(*arguments)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


INPUTS = {
    "molecules": {"atoms": (5, 4), "bonds": (10, 4)},
    "images": {"pixels": (16, 3)},
    "text": {"tokens": (6, 7)},
    "toy": {"coordinates": (2, 4)},
}


@pytest.mark.parametrize(
    ("kind", "larger"),
    [*((kind, {"layers": 3}) for kind in INPUTS), ("molecules", {"triangles": 4})],
)
def test_an_enlarged_network_begins_as_the_function_it_was(
    kind: str, larger: dict[str, int]
) -> None:
    """And is another one as soon as its new parts say something."""
    shallow, deep = network(kind, 2), network(kind, **{"layers": 2, **larger})
    generator = torch.Generator().manual_seed(0)
    values = {k: torch.rand(3, *shape, generator=generator) for k, shape in INPUTS[kind].items()}
    mask = {k: torch.ones(3, shape[0], dtype=torch.bool) for k, shape in INPUTS[kind].items()}
    given = nn.ModuleDict({"network": shallow})
    taking = nn.ModuleDict({"network": deep})
    arguments = (values, mask, torch.tensor([0.2, 0.5, 0.9]))
    before = deep(*arguments)
    taking.load_state_dict(fitting(given.state_dict(), taking))
    for name, expected in shallow(*arguments).items():
        assert not torch.allclose(before[name], expected, atol=1e-3)
        torch.testing.assert_close(deep(*arguments)[name], expected)
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter += 0.3 * torch.randn(parameter.shape) * (parameter == 0)
    for name, expected in shallow(*arguments).items():
        assert not torch.allclose(deep(*arguments)[name], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"layers": 3}, {}),
        ({"triangles": 4, "identity": "canonical"}, {}),
        ({"layers": 1}, {"layers": 2}),
        ({"width": 32, "pair_width": 16, "triangles": 4}, {"width": 16, "pair_width": 8}),
    ],
)
def test_a_network_can_be_enlarged_but_not_made_smaller_or_wider(
    changes: dict[str, Any], missing: dict[str, Any]
) -> None:
    its = GraphTransformerConfig(2, 16, 8, 2, identity="none")
    assert what_it_has(its, replace(its, **changes)) == missing
