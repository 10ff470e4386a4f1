"""What the log of a run says about its health: complaints while it trains, one picture after.

A learned forward process can fail in ways that the bound hides: steps that carry nothing, and a
relaxed "bound" that soft samples make too low because they tell the generator what x is. Only the
KL by step and block, P(z_t = x), the entropy of the marginals, the information left in z_t and
the noise of the gradient show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from molfldd.core.report import BoundReport

LEAK = 0.9
"""A soft bound below this share of the hard one is called a leak."""


def complaints(report: BoundReport, soft_bound: float | None) -> list[str]:
    """What is wrong with a run, one sentence each.

    Args:
        report: The bound on hard samples.
        soft_bound: What training on relaxed samples reports, nats per example, if it does so.
    """
    found = []
    if math.isinf(report.size):
        found.append(
            "the bound is infinite: some held-out example has a size that no training example has, "
            "and p(n) is 0 there; the KL by step is as it is"
        )
    if report.idle_steps:
        found.append(
            f"steps collapse: only {report.steps_in_use} of {len(report.kl)} steps carry "
            f"information, steps {', '.join(map(str, report.idle_steps))} do not; pin the "
            "marginals or the pace more tightly"
        )
    if soft_bound is not None and soft_bound < LEAK * report.total < math.inf:
        found.append(
            f"the relaxation leaks: {soft_bound:.2f} nats on soft samples, {report.total:.2f} on "
            "hard ones; lower the temperature or use an estimator on hard samples"
        )
    return found


def without_order(report: BoundReport) -> list[str]:
    """A sentence if a process that was to learn an order masks all elements of a block alike.

    Args:
        report: The bound of learned masking, its forward process at the end of its training.
    """
    if not report.unordered_blocks:
        return []
    return [
        f"no order was learned within {' and '.join(report.unordered_blocks)}: all are masked with "
        "nearly the same probability, and what was learned is the pace; learn at a lower "
        "lr_forward, or longer: an order shows after thousands of iterations, and then quickly"
    ]


def draw(entries: Sequence[Mapping[str, Any]], path: Path, suffix: str) -> None:
    """One picture of a run, from the entries of its log, in the format of ``suffix``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    training = [e for e in entries if e["event"] == "train"]
    evaluations = [e for e in entries if e["event"] == "evaluate"]
    last = evaluations[-1]
    figure, axes = plt.subplots(2, 4, figsize=(18, 8), layout="constrained")
    _draw_bound(axes[0, 0], training, evaluations)
    _draw_quality(axes[0, 1], evaluations)
    _draw_gradient(axes[0, 2], training, "gradient_norm", "gradient norm")
    _draw_gradient(axes[0, 3], training, "gradient_variance", "gradient variance")
    _draw_steps(axes[1, 0], last["kl"], "KL by step", "nats per example", stacked=True)
    _draw_steps(axes[1, 1], last["kept"], "P(z_t = x)", "mean over elements")
    _draw_steps(axes[1, 2], last["entropy"], "entropy of u_t", "nats per element")
    _draw_steps(axes[1, 3], last["information"], "information on x in z_t", "nats per example")
    worries = sorted({e["message"] for e in entries if e["event"] == "warning"})
    figure.suptitle("\n".join([f"iteration {last['iteration']:,}", *worries]), fontsize=10)
    figure.savefig(path, format=suffix.removeprefix("."), dpi=110)
    plt.close(figure)


def _draw_bound(
    axes: Axes, training: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> None:
    """Bound while training, and on held-out hard samples; phases apart."""
    for name in dict.fromkeys(e["phase"] for e in training):
        part = [e for e in training if e["phase"] == name]
        axes.plot([e["iteration"] for e in part], [e["bound"] for e in part], lw=1, label=name)
    numbers = [e["iteration"] for e in evaluations]
    axes.plot(numbers, [e["bound"] for e in evaluations], "k.-", label="held-out, averaged")
    axes.set(title="bound", xlabel="iteration", ylabel="nats per example", yscale="log")
    axes.legend(fontsize=8)


def _draw_quality(axes: Axes, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Every plain number of the evaluations that belongs to the domain."""
    own = {"iteration", "seconds", "bound", "size", "prior", "steps_in_use"}
    names = [k for k, v in evaluations[-1].items() if isinstance(v, float | int) and k not in own]
    for name in names:
        values = [(e["iteration"], e[name]) for e in evaluations if name in e]
        axes.plot(*zip(*values, strict=True), ".-", label=name)
    axes.set(title="samples", xlabel="iteration")
    if names:
        axes.legend(fontsize=8)


def _draw_gradient(axes: Axes, training: Sequence[Mapping[str, Any]], key: str, title: str) -> None:
    for name in dict.fromkeys(name for e in training for name in e[key]):
        values = [(e["iteration"], e[key][name]) for e in training if name in e[key]]
        axes.plot(*zip(*values, strict=True), lw=1, label=name)
    axes.set(title=title, xlabel="iteration", yscale="log")
    axes.legend(fontsize=8)


def _draw_steps(
    axes: Axes,
    table: Mapping[str, Sequence[float]],
    title: str,
    unit: str,
    stacked: bool = False,
) -> None:
    """A quantity by step, one colour per block."""
    bottom = [0.0] * len(next(iter(table.values())))
    for name, values in table.items():
        steps = range(1, len(values) + 1)
        if stacked:
            axes.bar(steps, values, bottom=bottom, label=name)
            bottom = [a + b for a, b in zip(bottom, values, strict=True)]
        else:
            axes.plot(steps, values, "o-", label=name)
    axes.set(title=title, xlabel="step t", ylabel=unit)
    axes.legend(fontsize=8)
