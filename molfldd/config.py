"""Recipes: YAML files, validated against the typed classes of what they configure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from molfldd.core.clock import Clock
from molfldd.core.estimators import (
    ConcreteRelaxation,
    ControlVariate,
    LeaveOneOut,
    Pathwise,
    Reinforce,
    ReinMax,
    StraightThrough,
)
from molfldd.core.phases import Phase, TrainingOptions
from molfldd.domain import domain_class
from molfldd.errors import UsageError

AnyEstimator = Annotated[
    Pathwise
    | Reinforce
    | LeaveOneOut
    | ControlVariate
    | ConcreteRelaxation
    | StraightThrough
    | ReinMax,
    Field(discriminator="kind"),
]

KINDS = frozenset(estimator.kind for estimator in get_args(get_args(AnyEstimator)[0]))
"""Names of the estimators."""


@dataclass(frozen=True)
class PhaseConfig(Phase):
    """A phase whose estimator is named by ``kind``."""

    estimator: AnyEstimator


@dataclass(frozen=True)
class ProcessConfig:
    """The two processes.

    Attributes:
        steps: T, or several, among which one can choose when sampling.
        prior: p(z_T): "uniform", "marginal" (as frequent as in the data), "learned" (from there
            on) or "absorbing" (masked).
        forward: "fixed" (conventional diffusion), "free", "pinned", "masking", "unpaced" (masking
            that may be early for one example and late for another) or "mixed" (masking and changed
            values); all but the first are learned.
        reverse: "direct" (softmax), "jump" (stay or jump), for masking only "unmasking", or
            "autoregressive" (unmasking, the revealed values one after another).
        components: Factorized laws that a step of the reverse process mixes; 1 is Eq. (7).
        coupling: Between the marginals of a learned process: "maximum" (Eq. (11)), "monotone" (for
            states that are numbers), or "independent" as a control.
        pin_power: How loose the pinned marginals are.
        even_pace: For learned masking: the share of its pace that is even; 1 learns no pace.
        change: For "mixed": the largest share of what is not masked that may change its value.
    """

    steps: int | tuple[int, ...] = 10
    prior: Literal["uniform", "marginal", "learned", "absorbing"] = "absorbing"
    forward: Literal["fixed", "free", "pinned", "masking", "unpaced", "mixed"] = "masking"
    reverse: Literal["direct", "jump", "unmasking", "autoregressive"] = "unmasking"
    components: int = 1
    coupling: Literal["maximum", "monotone", "independent"] = "maximum"
    pin_power: float = 2.0
    even_pace: float = 1.0
    change: float = 0.5

    def __post_init__(self) -> None:
        Clock(self.steps)
        if self.components < 1:
            raise ValueError(f"components must be at least 1, got {self.components}")
        if self.forward in ("masking", "unpaced", "mixed") and self.prior != "absorbing":
            raise ValueError(f"forward '{self.forward}' needs prior 'absorbing'")
        only_unmasks = self.reverse in ("unmasking", "autoregressive")
        if only_unmasks and self.prior != "absorbing":
            raise ValueError(f"reverse '{self.reverse}' needs prior 'absorbing'")
        if self.reverse == "autoregressive" and self.components > 1:
            raise ValueError("reverse 'autoregressive' is no mixture; it needs components 1")
        if only_unmasks and self.forward in ("free", "pinned", "mixed"):
            raise ValueError(
                f"forward '{self.forward}' changes values besides masking them; it needs "
                "reverse 'direct' or 'jump'"
            )
        if self.coupling != "maximum" and self.forward == "fixed":
            raise ValueError("forward 'fixed' has the coupling of its own Markov chain")
        if self.coupling != "maximum" and only_unmasks:
            raise ValueError(
                f"coupling '{self.coupling}' masks again what was revealed; it needs reverse "
                "'direct' or 'jump'"
            )
        if not 1 <= self.pin_power < math.inf:
            raise ValueError(f"pin_power must be at least 1 and finite, got {self.pin_power}")
        if not 0 < self.even_pace <= 1:
            raise ValueError(f"even_pace must lie in (0, 1], got {self.even_pace}")
        if not 0 <= self.change <= 1:
            raise ValueError(f"change must lie in [0, 1], got {self.change}")


@dataclass(frozen=True)
class MonitorConfig:
    """What is written while training, counted in iterations.

    Attributes:
        log_every: Between lines of the log (training KL by step and block).
        evaluate_every: Between evaluations (bound on held-out hard samples, generated samples).
        checkpoint_every: Between checkpoints.
        examples: Held-out examples for the bound.
        samples: Samples generated for the quality.
    """

    log_every: int = 200
    evaluate_every: int = 2000
    checkpoint_every: int = 1000
    examples: int = 1024
    samples: int = 500

    def __post_init__(self) -> None:
        values = (self.log_every, self.evaluate_every, self.checkpoint_every, self.examples)
        if min(*values, self.samples) < 1:
            raise ValueError("the monitor's numbers must be at least 1")


D = TypeVar("D")
N = TypeVar("N")


class Config(BaseModel, Generic[D, N]):
    """A complete recipe; ``data`` and ``network`` belong to the domain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    data: D
    network: N
    process: ProcessConfig
    training: TrainingOptions
    monitor: MonitorConfig
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _estimator_for_what_learns(self) -> Self:
        """Without an estimator of phi's part of the gradient the forward process learns nothing."""
        learns = self.process.forward != "fixed" or self.process.prior == "learned"
        for number, phase in enumerate(self.phases):
            if learns and phase.lr_forward > 0 and phase.estimator.kind == "pathwise":
                raise ValueError(
                    f"phases.{number}: estimator pathwise is for a forward process that is fixed "
                    "or frozen; choose another, or lr_forward 0"
                )
        return self

    @model_validator(mode="after")
    def _frozen_for_autoregression(self) -> Self:
        """The gradient that an autoregressive step gives phi is not that of the bound."""
        learning = self.process.forward != "fixed" and any(p.lr_forward > 0 for p in self.phases)
        if self.process.reverse != "autoregressive":
            return self
        if learning or any(phase.estimator.kind != "pathwise" for phase in self.phases):
            raise ValueError(
                "reverse 'autoregressive' is for a forward process that is fixed or frozen; every "
                "phase needs lr_forward 0 and estimator pathwise (learn it with reverse "
                "'unmasking' first, and begin with that model by --init)"
            )
        return self


def config_directory() -> Path:
    """Where the recipes that come with the package lie."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in config_directory().glob("*.yaml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The content of a recipe by name or by path of a YAML file, not yet validated.

    Raises:
        UsageError: if there is none, or if it is not a YAML mapping.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_directory() / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no recipe '{name}'; known are: {', '.join(recipes())}, "
            "or give the path of a .yaml file"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"cannot read the recipe {path}: {reason}") from error
    if not isinstance(content, dict):
        raise UsageError(f"the recipe {path} is not a mapping of keys to values")
    return content


def override(content: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The content with ``key.subkey=value`` assignments applied; list items are numbered from 0.

    Raises:
        UsageError: if an assignment has no "=" or its key leads nowhere.
    """
    return reduce(_assign, assignments, dict(content))


def _assign(content: dict[str, Any], assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"cannot read '{assignment}'; write it as key.subkey=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"cannot read the value of '{assignment}' as YAML") from error
    replaced: dict[str, Any] = _replace(content, key.split("."), value, key)
    return replaced


def _replace(node: Any, path: Sequence[str], value: Any, key: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, list) and head.isdecimal() and int(head) < len(node):
        index = int(head)
        return [*node[:index], _replace(node[index], rest, value, key), *node[index + 1 :]]
    if isinstance(node, dict):
        return {**node, head: _replace(node.get(head, {}), rest, value, key)}
    raise UsageError(f"the key '{key}' leads nowhere at '{head}'")


def parse_config(content: Mapping[str, Any]) -> Config[Any, Any]:
    """The validated recipe.

    Raises:
        UsageError: for an unknown key, a wrong type or an impossible value, naming the key.
    """
    domain = domain_class(str(content.get("domain", "")))
    try:
        return Config[domain.DataConfig, domain.NetworkConfig].model_validate(content)  # type: ignore[name-defined]
    except ValidationError as error:
        raise UsageError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    problems = [(_key(problem["loc"]), problem) for problem in error.errors()]
    key, problem = problems[0]
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"config key '{key}' is unknown"
    messages = [its["msg"].removeprefix("Value error, ") for name, its in problems if name == key]
    if not key:
        return messages[0]
    return f"config key '{key}': " + ", or ".join(m[0].lower() + m[1:] for m in messages)


def _key(place: Sequence[str | int]) -> str:
    """The key in a recipe, without the estimators and types among which a value is one."""
    parts = [str(part) for part in place if part not in KINDS]
    return ".".join(part for part in parts if part != "int" and "[" not in part)
