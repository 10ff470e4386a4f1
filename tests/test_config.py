"""Recipes: the shipped ones parse, every mistake is named by its key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from molfldd.config import override, parse_config, read_recipe, recipes
from molfldd.core.estimators import ConcreteRelaxation, LeaveOneOut, Pathwise, Reinforce
from molfldd.errors import UsageError

SHIPPED = recipes()


@pytest.fixture
def toy() -> dict[str, Any]:
    return read_recipe("toy")


def refused(content: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        parse_config(content)
    message = str(caught.value)
    assert "\n" not in message
    return message


def leaves(content: Any, where: str = "") -> dict[str, Any]:
    """Dotted key of every plain value."""
    if isinstance(content, dict):
        parts = list(content.items())
    elif isinstance(content, list) and any(isinstance(x, dict) for x in content):
        parts = list(enumerate(content))
    else:
        return {where.removeprefix("."): content}
    return {k: v for key, part in parts for k, v in leaves(part, f"{where}.{key}").items()}


# What is right --------------------------------------------------------------------------------


def test_recipes_are_shipped() -> None:
    assert {"qm9", "toy"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_parse(name: str) -> None:
    content = read_recipe(name)
    config = parse_config(content)
    assert config.domain == content["domain"]
    assert config.process.steps == content["process"]["steps"]
    assert len(config.phases) == len(content["phases"])


@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_survive_being_stored(name: str) -> None:
    """As a checkpoint stores them: dumped as JSON, then parsed again."""
    config = parse_config(read_recipe(name))
    assert parse_config(config.model_dump(mode="json")) == config


def test_estimators_are_chosen_by_kind(toy: dict[str, Any]) -> None:
    for kind, expected in (
        ("pathwise", Pathwise()),
        ("reinforce", Reinforce()),
        ("leave-one-out", LeaveOneOut()),
        ("concrete", ConcreteRelaxation()),
    ):
        toy["phases"][0] |= {"estimator": {"kind": kind}, "lr_forward": 0.0}
        assert parse_config(toy).phases[0].estimator == expected


def test_configs_do_not_change(toy: dict[str, Any]) -> None:
    config = parse_config(toy)
    with pytest.raises(ValidationError):
        config.domain = "molecules"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.process.steps = 5  # type: ignore[misc]


def test_recipes_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("domain: mixture\n")
    assert read_recipe(str(path)) == {"domain": "mixture"}


# What is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_unknown_keys_are_named_at_every_level(name: str) -> None:
    content = read_recipe(name)
    places = ["", "data.", "network.", "process.", "training.", "monitor.", "phases.0."]
    phases = range(len(content["phases"]))
    for place in [*places, *(f"phases.{i}.estimator." for i in phases)]:
        key = f"{place}misspelt"
        assert key in refused(override(content, [f"{key}=1"]))


@pytest.mark.parametrize("name", SHIPPED)
def test_wrong_types_are_named_at_every_key(name: str) -> None:
    content = read_recipe(name)
    config = parse_config(content).model_dump(mode="json")
    for key in leaves(config):
        if key == "domain":
            continue
        message = refused(override(config, [f"{key}={{a: [b]}}"]))
        assert key.removesuffix(".kind") in message


@pytest.mark.parametrize(
    "key", ["data", "network", "process", "training", "monitor", "phases", "phases.0.estimator"]
)
@pytest.mark.parametrize("value", ["7", "null", "text", "[1, 2]"])
def test_sections_of_a_wrong_type_are_named(toy: dict[str, Any], key: str, value: str) -> None:
    assert key in refused(override(toy, [f"{key}={value}"]))


@pytest.mark.parametrize("key", ["data", "network", "process", "training", "monitor", "phases"])
def test_missing_sections_are_named(toy: dict[str, Any], key: str) -> None:
    del toy[key]
    assert key in refused(toy)


@pytest.mark.parametrize(
    ("assignment", "mentioned"),
    [
        ("process.steps=0", "steps"),
        ("process.components=0", "components"),
        ("process.steps=2.5", "process.steps"),
        ("process.prior=gaussian", "process.prior"),
        ("process.forward=diffusion", "process.forward"),
        ("process.forward=masking", "absorbing"),
        ("process.reverse=unmasking", "absorbing"),
        ("process.pin_power=0.5", "pin_power"),
        ("process.even_pace=0", "even_pace"),
        ("process.even_pace=.nan", "even_pace"),
        ("process.pin_power=.nan", "pin_power"),
        ("network.width=0", "width"),
        ("training.batch_size=0", "batch_size"),
        ("training.ema_decay=1", "ema_decay"),
        ("training.clip=0", "clip"),
        ("training.clip=.nan", "clip"),
        ("training.weight_decay=-1", "weight_decay"),
        ("monitor.log_every=0", "monitor"),
        ("monitor.samples=-5", "monitor"),
        ("phases=[]", "phases"),
        ("phases.1.iterations=0", "phases.1"),
        ("phases.1.iterations=many", "phases.1.iterations"),
        ("phases.0.lr_reverse=0", "phases.0"),
        ("phases.0.lr_reverse=.inf", "phases.0"),
        ("phases.0.lr_forward=-1", "phases.0"),
        ("phases.0.warmup=-1", "phases.0"),
        ("phases.0.schedule=linear", "phases.0.schedule"),
        ("phases.0.estimator.samples=1", "phases.0.estimator"),
        ("phases.0.estimator.kind=magic", "phases.0.estimator"),
        ("phases.0.estimator={kind: concrete, start: 0.1, end: 1}", "phases.0.estimator"),
        ("phases.0.estimator={}", "phases.0.estimator"),
        ("domain=music", "music"),
    ],
)
def test_impossible_values_are_named(toy: dict[str, Any], assignment: str, mentioned: str) -> None:
    assert mentioned in refused(override(toy, [assignment]))


def test_a_learning_forward_process_needs_an_estimator_of_its_gradient() -> None:
    pathwise = "phases.0.estimator={kind: pathwise}"
    with pytest.raises(UsageError, match=r"phases\.0: estimator pathwise"):
        parse_config(override(read_recipe("qm9"), [pathwise]))
    frozen = parse_config(override(read_recipe("qm9"), [pathwise, "phases.0.lr_forward=0"]))
    assert frozen.phases[0].lr_forward == 0


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [
        (["process.components=2"], "no mixture"),
        (["process.forward=free"], "direct"),
        (["process.prior=uniform", "process.forward=fixed"], "absorbing"),
        (["phases.0.lr_forward=0.1"], "lr_forward 0"),
        (["phases.0.estimator={kind: reinforce}"], "estimator pathwise"),
    ],
)
def test_an_autoregressive_step_needs_a_frozen_masking_process(
    changes: list[str], mentioned: str
) -> None:
    still = [f"phases.{i}.lr_forward=0" for i in (0, 1)]
    pathwise = ["phases.0.estimator={kind: pathwise}", "process.reverse=autoregressive"]
    recipe = override(read_recipe("qm9"), [*still, *pathwise])
    assert parse_config(recipe).process.reverse == "autoregressive"
    assert mentioned in refused(override(recipe, changes))


@pytest.mark.parametrize("forward", ["free", "pinned"])
def test_unmasking_cannot_follow_a_process_that_changes_values(forward: str) -> None:
    """The bound would be infinite: such a process also moves between values, or back to mask."""
    message = refused(override(read_recipe("qm9"), [f"process.forward={forward}"]))
    assert forward in message
    assert "direct" in message


def test_a_key_that_is_no_text_is_refused(toy: dict[str, Any]) -> None:
    toy[1] = 2
    assert "1" in refused(toy)


# Overrides ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_any_field_can_be_overridden(name: str) -> None:
    """Each value is written to its own key from a recipe in which it was something else."""
    content = parse_config(read_recipe(name)).model_dump(mode="json")
    for key, value in leaves(content).items():
        changed = override(content, [f"{key}=something else"])
        assert leaves(changed)[key] == "something else"
        assert override(changed, [f"{key}={value if value is not None else 'null'}"]) == content


def test_overrides_reach_the_config(toy: dict[str, Any]) -> None:
    assignments = [
        "process.steps=7",
        "phases.0.iterations=5",
        "phases.1.lr_reverse=2e-4",
        "phases.0.estimator={kind: leave-one-out, samples: 4}",
        "training.seed=11",
        "network.width=64",
    ]
    config = parse_config(override(toy, assignments))
    assert config.process.steps == 7
    assert config.phases[0].iterations == 5
    assert config.phases[1].lr_reverse == 2e-4
    assert config.phases[0].estimator == LeaveOneOut(samples=4)
    assert config.training.seed == 11
    assert config.network.width == 64
    rest = parse_config(toy)
    assert config.phases[1].iterations == rest.phases[1].iterations
    assert config.data == rest.data


def test_fields_a_recipe_leaves_out_can_be_overridden(toy: dict[str, Any]) -> None:
    assert "pin_power" not in toy["process"]
    assert parse_config(override(toy, ["process.pin_power=3"])).process.pin_power == 3


def test_later_overrides_win_and_the_original_stays(toy: dict[str, Any]) -> None:
    before = copy.deepcopy(toy)
    changed = override(toy, ["process.steps=3", "phases.0.iterations=1", "process.steps=4"])
    assert changed["process"]["steps"] == 4
    assert toy == before


@pytest.mark.parametrize(
    ("assignment", "mentioned"),
    [
        ("process.steps", "key.subkey=value"),
        ("", "key.subkey=value"),
        ("process.steps=[1", "process.steps=[1"),
        ("phases.9.iterations=1", "phases.9.iterations"),
        ("phases.first.iterations=1", "phases.first.iterations"),
        ("phases.².iterations=1", "phases"),
        ("domain.name=x", "domain.name"),
        ("process.steps.more=1", "process.steps.more"),
    ],
)
def test_overrides_that_lead_nowhere_are_refused(
    toy: dict[str, Any], assignment: str, mentioned: str
) -> None:
    with pytest.raises(UsageError) as caught:
        override(toy, [assignment])
    assert mentioned in str(caught.value)


# Files ----------------------------------------------------------------------------------------


def test_unknown_recipes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'qm10'.*qm9"):
        read_recipe("qm10")


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"", b"just text", b"a: [1", b"\xff\xfe\x00a"])
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        read_recipe(str(path))
    with pytest.raises(UsageError):
        read_recipe(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize("forward", ["masking", "fixed"])
def test_independent_coupling_is_for_learned_values(forward: str) -> None:
    changes = ["process.coupling=independent", f"process.forward={forward}"]
    message = refused(override(read_recipe("qm9"), changes))
    assert "revealed" in message or "Markov chain" in message
