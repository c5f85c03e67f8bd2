"""Search spaces: what is sampled lies in its domain and on its branch, and the recipes to try first are as promised."""

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from mtl_search.recipe import Component, Recipe
from mtl_search.space.domains import Choice, Float, Int
from mtl_search.space.search_space import SearchSpace
from mtl_search.validation.study_file import FAMILIES

TASKS = ("colour", "shape", "size")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def interval(kind: str, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ends = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
    return st.builds(
        lambda ends, log: {kind: ends} | ({"log": True} if log and ends[0] > 0 else {}), ends, st.booleans()
    )


def choice(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=3, unique=True).map(lambda chosen: {"choice": chosen})


def reals(low: float, high: float) -> st.SearchStrategy[Any]:
    numbers = st.floats(low, high, width=32)
    return numbers | interval("float", numbers) | choice(numbers)


def wholes(low: int, high: int) -> st.SearchStrategy[Any]:
    numbers = st.integers(low, high)
    return numbers | interval("int", numbers) | choice(numbers)


def some(**params: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=params)


def variants(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One variant, or a list of them, each by name alone or with parameters."""
    entries = {
        name: st.just(name) | st.builds(dict, st.tuples(st.tuples(st.just(name), p))) for name, p in options.items()
    }
    lists = st.lists(st.sampled_from(list(options)), min_size=1, unique=True).flatmap(
        lambda names: st.tuples(*(entries[name] for name in names)).map(list)
    )
    return st.one_of(*entries.values()) | lists


def per_task(low: float, high: float, tasks: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return reals(low, high) | some(**{task: reals(low, high) for task in tasks})


SCHEDULE = some(
    epochs=wholes(1, 9),
    batch_size=wholes(1, 64),
    temperature=reals(1, 9),
    clip_norm=st.none() | reals(0.5, 4) | st.just({"choice": [None, 1.0]}),
    optimizer=variants(
        adamw=some(lr=reals(2**-9, 1), weight_decay=reals(0, 1)),
        sgd=some(lr=reals(2**-9, 1), momentum=reals(0, 0.5), nesterov=st.just({"choice": [False, True]})),
    ),
    decay=variants(cosine=some(warmup=reals(0, 1)), constant=some(warmup=reals(0, 1))),
)
SPACES = some(
    sharing=variants(hard=some(depth=st.none() | wholes(0, 9))),
    fusion=variants(mean=st.none(), weighted=some(coefficients=per_task(0.125, 8, TASKS))),
    weighting=variants(fixed=some(log_ratio=per_task(-4, 4, TASKS[1:]))),
    single_task=SCHEDULE,
    joint=SCHEDULE,
)


def parsed(raw: dict[str, Any], tasks: tuple[str, ...] = TASKS) -> SearchSpace:
    space, problems = SearchSpace.parse(raw, FAMILIES, tasks)
    assert problems == []
    assert space is not None
    return space


def value_at(recipe: Recipe, name: str) -> Any:
    """A parameter's value by its name in the space; a variant's name for a choice of variants."""
    node: Any = recipe.to_dict()
    for key in name.split("."):
        if key not in node:
            return "on another branch"
        node = node[key]
    return next(iter(node)) if isinstance(node, dict) else node


@settings(max_examples=60, deadline=None)
@given(raw=SPACES, seed=st.integers(0, 99))
def test_suggested_recipes_lie_in_their_domains_on_their_branch_and_bind(raw: dict[str, Any], seed: int) -> None:
    space = parsed(raw)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    trial = study.ask()
    recipe = space.suggest(trial)
    for name, domain in space.domains.items():
        value = value_at(recipe, name)
        assert (name in trial.params) == (value != "on another branch")
        if name not in trial.params:
            continue
        assert value == trial.params[name]
        if isinstance(domain, Choice):
            assert value in domain.values
        else:
            assert domain.low <= value <= domain.high
            assert isinstance(value, int if isinstance(domain, Int) else float)
    assert set(trial.params) <= set(space.domains)
    fixed = parsed(recipe.to_dict())
    assert fixed.domains == {}
    assert fixed.default().recipe == recipe
    assert space.suggest(FixedTrial(trial.params)) == recipe


@settings(max_examples=40, deadline=None)
@given(raw=SPACES)
def test_first_recipes_are_in_the_space_where_they_say_so(raw: dict[str, Any]) -> None:
    space = parsed(raw)
    default, plain = space.default(), space.plain()
    assert default.params is not None
    assert space.suggest(FixedTrial(default.params)) == default.recipe
    for name in default.params:
        assert value_at(default.recipe, name) == space.domains[name].default
    assert plain.recipe.fusion == Component("mean")
    ratio = plain.recipe.weighting.params["log_ratio"]
    assert set(ratio.values()) <= {0.0} if isinstance(ratio, dict) else ratio == 0.0
    assert (plain.recipe.sharing, plain.recipe.joint) == (default.recipe.sharing, default.recipe.joint)
    if plain.params is not None:
        assert space.suggest(FixedTrial(plain.params)) == plain.recipe


@settings(max_examples=40, deadline=None)
@given(raw=SPACES)
def test_corners_hold_every_variant_and_both_ends_of_every_domain(raw: dict[str, Any]) -> None:
    space = parsed(raw)
    extreme_recipes = space.extreme_recipes()
    assert len({recipe.key for recipe in extreme_recipes}) == len(extreme_recipes)
    for name, domain in space.domains.items():
        held = [value_at(recipe, name) for recipe in extreme_recipes]
        ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        assert all(end in held for end in ends), name


def test_default_recipe_takes_a_parameters_own_default_where_the_domain_holds_it() -> None:
    raw = {
        "joint": {
            "epochs": {"int": [5, 40]},
            "batch_size": {"choice": [16, 32]},
            "optimizer": ["sgd", {"adamw": {"lr": {"float": [0.01, 1.0], "log": True}}}],
            "temperature": {"float": [1, 5], "default": 2},
        }
    }
    joint = parsed(raw).default().recipe.joint
    assert (joint.epochs, joint.batch_size, joint.temperature) == (10, 16, 2.0)
    assert joint.optimizer.name == "sgd"
    middle = parsed(raw).domains["joint.optimizer.adamw.lr"]
    assert isinstance(middle, Float)
    assert middle.default == pytest.approx(0.1)


def test_plain_recipe_is_offered_though_the_space_holds_neither_part() -> None:
    raw: dict[str, Any] = {
        "fusion": {"weighted": {"coefficients": {"colour": {"float": [2, 3]}}}},
        "weighting": {"fixed": {"log_ratio": {"float": [1, 2]}}},
    }
    plain = parsed(raw).plain()
    assert plain.params is None
    assert plain.recipe.fusion == Component("mean")
    assert plain.recipe.weighting == Component("fixed", {"log_ratio": 0.0})
    held = parsed({"weighting": {"fixed": {"log_ratio": {"float": [-1, 2]}}}}).plain()
    assert held.params == {"weighting.fixed.log_ratio.shape": 0.0, "weighting.fixed.log_ratio.size": 0.0}


def test_a_domain_for_a_per_task_parameter_gives_each_task_its_own() -> None:
    space = parsed(
        {"fusion": {"weighted": {"coefficients": {"float": [0, 2]}}}, "weighting": {"fixed": {"log_ratio": 1}}}
    )
    assert list(space.domains) == [f"fusion.weighted.coefficients.{task}" for task in TASKS]
    assert space.default().recipe.weighting.params == {"log_ratio": 1.0}
    one_task = parsed({"weighting": {"fixed": {"log_ratio": {"size": {"float": [-1, 1]}}}}})
    assert list(one_task.domains) == ["weighting.fixed.log_ratio.size"]


def test_a_space_knows_the_ends_of_its_schedules_and_whether_it_branches() -> None:
    space = parsed({"joint": {"epochs": {"int": [2, 8]}, "batch_size": {"choice": [32, 16]}}})
    assert (space.largest("joint.epochs"), space.smallest("joint.batch_size")) == (8, 16)
    assert space.largest("single_task.epochs") == 10
    assert (space.sets("joint.epochs"), space.sets("joint.temperature")) == (True, False)
    assert not space.has_branches
    assert parsed({"fusion": ["mean", {"weighted": {"coefficients": {"float": [0, 1]}}}]}).has_branches
