"""The study's folder: reading it changes nothing."""

from pathlib import Path

import pytest
from made_outcomes import small_study

from mtl_search.search.folder import StudyFolder
from mtl_search.search.overview import Overview


@pytest.mark.parametrize("storage", ["journal", "sqlite:///{}/optuna.db"])
def test_reading_a_study_whose_search_has_not_begun_makes_none(tmp_path: Path, storage: str) -> None:
    folder, url = StudyFolder(tmp_path, "early"), storage.format(tmp_path)
    folder.path.mkdir(parents=True)
    assert folder.records(url) == []
    # Made by the first reader, it would have one objective for ever.
    assert len(folder.optuna_study(url, objectives=2).directions) == 2
    assert folder.records(url) == []


def test_drawing_a_study_whose_search_has_not_begun_makes_none(tmp_path: Path) -> None:
    config = small_study(objective=["kind", "petal"]).config
    folder = StudyFolder(tmp_path, config.name)
    folder.path.mkdir(parents=True)
    folder.begin(config, resume=False)
    overview = Overview(folder)
    assert (overview.records, overview.params, overview.searched) == ([], {}, [])
    assert len(folder.optuna_study("journal", objectives=2).directions) == 2
