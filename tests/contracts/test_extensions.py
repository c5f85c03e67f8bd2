"""What every way to extend a trained model promises, over the family's registry."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from grown_models import NEW, OLD, extend, rows, trained

from mtl_search.errors import ConfigError
from mtl_search.extension import EXTENSIONS
from mtl_search.extension.comparison import moved_outputs

over_variants = pytest.mark.parametrize("name", EXTENSIONS)


@over_variants
def test_old_answers_stay_bit_for_bit_where_that_is_promised_and_the_new_task_learns(name: str, tmp_path: Path) -> None:
    method = EXTENSIONS[name](like="petal")
    _, model, old, data = extend(method, tmp_path, epochs=6)
    moved = moved_outputs(old, model, data, torch.device("cpu"))
    assert set(moved) == set(OLD)
    assert (set(moved.values()) == {0.0}) == method.keeps
    with torch.inference_mode():
        outputs = model(rows(data))
    assert set(outputs) == {*OLD, *NEW}
    assert all(output.isfinite().all() for output in outputs.values())


@over_variants
def test_the_model_before_is_left_as_it_was(name: str, tmp_path: Path) -> None:
    _, _, old, _ = extend(EXTENSIONS[name](like="petal"), tmp_path, epochs=2)
    before = trained("hard")[2].state_dict()
    assert all(torch.equal(value, before[key]) for key, value in old.state_dict().items())


@over_variants
def test_training_again_gives_the_same_model_to_the_bit(name: str, tmp_path: Path) -> None:
    first, again = (
        extend(EXTENSIONS[name](like="petal", depth=1), tmp_path / place, epochs=2)[1].state_dict()
        for place in ("first", "again")
    )
    assert all(torch.equal(value, again[key]) for key, value in first.items())


@over_variants
def test_a_task_or_a_depth_that_the_model_has_not_is_refused_at_its_place(name: str) -> None:
    _, _, old = trained("hard")
    with pytest.raises(ConfigError, match=r"here\.like: must name a task of the model, got 'nobody'"):
        EXTENSIONS[name](like="nobody").task_branches(old, tuple(NEW), "here")
    with pytest.raises(ConfigError, match=r"here\.depth: must be at most the model's 3 blocks, got 9"):
        EXTENSIONS[name](like="petal", depth=9).task_branches(old, tuple(NEW), "here")


@over_variants
def test_the_usual_schedule_is_one_that_a_file_could_hold(name: str) -> None:
    usual = EXTENSIONS[name].usual
    from mtl_search.recipe import Schedule

    assert replace(Schedule(), **{key: value for key, value in usual.items() if key == "epochs"}).epochs >= 0
    assert set(usual) <= set(Schedule().to_dict())
