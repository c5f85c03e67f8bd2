"""Recipes as data: their plain form, their key and their flat view."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.errors import ConfigError
from mtl_search.fusion import FUSIONS
from mtl_search.recipe import Component, Recipe, Schedule, content_key, seed_from
from mtl_search.variants.building import build

NAMES = st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,4}:[A-Z][a-z]{0,4})?", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | st.text(max_size=4)
WORDS = st.text("abcdef", min_size=1, max_size=4)
PARAMS = st.dictionaries(WORDS, SCALARS | st.dictionaries(WORDS, st.floats(-5, 5), max_size=3), max_size=3)
COMPONENTS = st.builds(Component, NAMES, PARAMS)
SCHEDULES = st.builds(
    Schedule,
    epochs=st.integers(0, 50),
    batch_size=st.integers(1, 512),
    optimizer=COMPONENTS,
    decay=COMPONENTS,
    unfreezing=COMPONENTS,
    clip_norm=st.none() | st.floats(0.1, 10),
    temperature=st.floats(1, 10),
    layer_decay=st.floats(0.1, 1),
    l2_sp=st.floats(0, 1),
    average=st.floats(0, 0.99),
    patience=st.none() | st.integers(1, 9),
)
RECIPES = st.builds(Recipe, COMPONENTS, COMPONENTS, COMPONENTS, SCHEDULES, SCHEDULES)
ALIGNED = st.builds(Recipe, COMPONENTS, COMPONENTS, COMPONENTS, SCHEDULES, SCHEDULES, COMPONENTS)


def turned(value: Any) -> Any:
    """The same plain value with the keys of every mapping in reverse order."""
    return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


@settings(max_examples=25, deadline=None)
@given(recipe=ALIGNED)
def test_plain_form_gives_the_same_recipe_back_through_json_too(recipe: Recipe) -> None:
    plain = recipe.to_dict()
    assert Recipe.from_dict(plain) == recipe
    through_json = Recipe.from_dict(json.loads(json.dumps(plain)))
    assert through_json == recipe
    assert through_json.key == recipe.key
    assert hash(through_json) == hash(recipe)


@settings(max_examples=25, deadline=None)
@given(recipe=RECIPES)
def test_key_does_not_depend_on_the_order_of_keys(recipe: Recipe) -> None:
    assert Recipe.from_dict(turned(recipe.to_dict())).key == recipe.key


@settings(max_examples=25, deadline=None)
@given(one=RECIPES, other=RECIPES)
def test_different_recipes_have_different_keys(one: Recipe, other: Recipe) -> None:
    assert (one.key == other.key) == (content_key(one.to_dict()) == content_key(other.to_dict()))
    if one != other:
        assert one.key != other.key


@settings(max_examples=25, deadline=None)
@given(recipe=RECIPES)
def test_flat_view_holds_every_variant_and_only_scalars(recipe: Recipe) -> None:
    flat = recipe.flat()
    assert all(value is None or isinstance(value, bool | int | float | str) for value in flat.values())
    assert flat["weighting"] == recipe.weighting.name
    assert flat["joint.optimizer"] == recipe.joint.optimizer.name
    assert flat["single_task.epochs"] == recipe.single_task.epochs
    for name, value in recipe.fusion.params.items():
        if isinstance(value, dict):
            assert all(flat[f"fusion.{name}.{task}"] == number for task, number in value.items())
        else:
            assert flat[f"fusion.{name}"] == value


def test_flat_view_reads_like_the_study_file() -> None:
    recipe = Recipe(
        Component("hard", {"depth": 2}),
        Component("mean"),
        Component("fixed", {"log_ratio": {"petal": 0.5}}),
        Schedule(),
        Schedule(optimizer=Component("sgd", {"lr": 0.1, "steps": [1, 2]})),
    )
    flat = recipe.flat()
    assert list(flat)[:5] == ["sharing", "sharing.depth", "fusion", "weighting", "weighting.log_ratio.petal"]
    assert flat["joint.optimizer.lr"] == 0.1
    assert flat["joint.optimizer.steps"] == "[1, 2]"


def test_key_and_seed_are_the_same_in_another_process() -> None:
    recipe = Recipe(Component("a"), Component("b", {"x": 1.5}), Component("c"), Schedule(), Schedule(epochs=3))
    code = (
        "import json, sys; from mtl_search.recipe import Recipe, seed_from\n"
        f"recipe = Recipe.from_dict(json.loads({json.dumps(recipe.to_dict())!r}))\n"
        "print(recipe.key, seed_from(7, recipe.key))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split() == [recipe.key, str(seed_from(7, recipe.key))]
    assert len(recipe.key) == 24


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(SCALARS, max_size=4))
def test_seeds_are_what_numpy_and_torch_take(parts: list[Any]) -> None:
    assert 0 <= seed_from(*parts) < 2**31


@settings(max_examples=5, deadline=None)
@given(recipe=RECIPES)
def test_a_recipe_from_before_alignments_has_none(recipe: Recipe) -> None:
    plain = recipe.to_dict()
    assert plain.pop("alignment") == {"none": {}}
    assert Recipe.from_dict(plain) == recipe


def test_a_number_that_json_cannot_hold_has_no_key() -> None:
    with pytest.raises(ValueError, match="JSON"):
        content_key(float("nan"))


def test_what_an_own_constructor_raises_is_told_with_its_parameters(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_fusions.py").write_text(
        "from mtl_search.fusion.mean import Mean\n"
        "class Picky(Mean):\n"
        "    def __init__(self, sharpness: float) -> None:\n"
        "        raise RuntimeError('too sharp')\n"
    )
    with pytest.raises(ConfigError, match=r"must take these parameters \(RuntimeError: too sharp\), got {'sharpness'"):
        build(FUSIONS, Component("own_fusions:Picky", {"sharpness": 3.0}))
