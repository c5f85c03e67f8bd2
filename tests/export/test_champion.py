"""The trained model is rebuilt from what a study leaves behind, or the user is told what is missing."""

import shutil
from collections.abc import Callable

import pytest
import torch
from finished_studies import Finished

from mtl_search.data.inputs import Inputs
from mtl_search.errors import StudyError
from mtl_search.export.champion import load_champion
from mtl_search.storage.files import read_json, write_json
from mtl_search.study_store.folder import StudyFolder


@pytest.mark.parametrize("name", ["table_study", "image_study", "numbers_study"])
def test_rebuilt_model_predicts_what_the_trained_one_does(name: str, request: pytest.FixtureRequest) -> None:
    study: Finished = request.getfixturevalue(name)
    champion = study.champion
    encoded = study.data.splits["test"][study.data.datasets[0]].encoded
    x = Inputs(study.data.preparation(*(torch.from_numpy(part) for part in encoded)))
    with torch.inference_mode():
        wanted, got = study.model(x), champion.model(x)
    assert all(torch.equal(wanted[task], got[task]) for task in wanted)
    assert champion.tasks == study.data.tasks
    assert champion.sample == study.data.sample


def test_loading_leaves_the_random_state_alone(numbers_study: Finished) -> None:
    before = torch.get_rng_state()
    load_champion(numbers_study.folder)
    assert torch.equal(before, torch.get_rng_state())


def test_study_in_a_moved_storage_is_found(numbers_study: Finished, copied: Callable[[Finished], StudyFolder]) -> None:
    folder = copied(numbers_study)
    outcome = read_json(folder.outcome_file)
    write_json(folder.outcome_file, outcome | {"folder": "/gone/studies/fitness/trials/abc"})
    got = load_champion(folder).model.state_dict()
    assert all(torch.equal(value, got[name]) for name, value in numbers_study.model.state_dict().items())


def test_study_without_a_winner_says_how_to_go_on(
    numbers_study: Finished, copied: Callable[[Finished], StudyFolder]
) -> None:
    folder = copied(numbers_study)
    folder.outcome_file.unlink()
    with pytest.raises(StudyError, match=r"fitness has no winner yet: .*--resume"):
        load_champion(folder)


def test_missing_files_are_named(numbers_study: Finished, copied: Callable[[Finished], StudyFolder]) -> None:
    folder = copied(numbers_study)
    outcome = read_json(folder.outcome_file)
    write_json(folder.outcome_file, outcome | {"folder": str(folder.trials / "abc")})
    shutil.rmtree(folder.trials)
    with pytest.raises(StudyError, match=r"no model\.safetensors in .*abc"):
        load_champion(folder)
    folder.data_file.unlink()
    with pytest.raises(StudyError, match=r"describes its data: .*data\.json"):
        load_champion(folder)


def test_model_of_another_backbone_is_refused(
    numbers_study: Finished, image_study: Finished, copied: Callable[[Finished], StudyFolder]
) -> None:
    folder = copied(numbers_study)
    outcome = read_json(folder.outcome_file)
    write_json(folder.outcome_file, outcome | {"folder": str(image_study.folder.trials / "abc")})
    with pytest.raises(StudyError, match="does not fit the study's backbone and recipe"):
        load_champion(folder)
