"""The study's folder: reading it changes nothing, and half a line in its journal is no harm."""

from pathlib import Path

import pytest
from made_outcomes import small_study

from mtl_search.errors import DamagedError
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


def journal_of_two_trials(folder: StudyFolder) -> Path:
    study = folder.optuna_study("journal")
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    return folder.path / "optuna.journal"


def test_a_journal_whose_last_line_was_torn_by_a_kill_is_read_and_goes_on(tmp_path: Path) -> None:
    config = small_study().config
    folder = StudyFolder(tmp_path, config.name)
    folder.path.mkdir(parents=True)
    folder.begin(config, resume=False)
    journal = journal_of_two_trials(folder)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"worker')
    assert [trial.value for trial in folder.read_trials("journal")] == [1.0, 2.0]
    folder.begin(config, resume=True)
    assert journal.read_bytes() == whole
    study = folder.optuna_study("journal")
    study.tell(study.ask(), 3.0)
    assert [trial.value for trial in folder.read_trials("journal")] == [1.0, 2.0, 3.0]


def test_a_journal_damaged_in_the_middle_is_said(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "spoilt")
    folder.path.mkdir(parents=True)
    journal = journal_of_two_trials(folder)
    journal.write_bytes(journal.read_bytes().replace(b'{"op_code":4', b'"op_code":4', 1))
    with pytest.raises(DamagedError, match=r"journal .*optuna.journal is damaged"):
        folder.read_trials("journal")
