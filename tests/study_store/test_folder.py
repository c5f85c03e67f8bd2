"""The study's folder: reading it changes nothing, and half a line in its journal is no harm."""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_outcomes import small_study

from mtl_search.analysis.overview import Overview
from mtl_search.config.search_config import SearchConfig
from mtl_search.errors import DamagedError, StudyError
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import Callback
from mtl_search.search.load_trials import TrialLoader
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.optuna_journal import leave_storage


class Found(Callback):
    found: Sequence[TrialRecord] = ()

    def on_trials_loaded(self, trials: Sequence[TrialRecord]) -> None:
        self.found = trials


@pytest.mark.parametrize("storage", ["journal", "sqlite:///{}/optuna.db"])
def test_reading_a_study_whose_search_has_not_begun_makes_none(tmp_path: Path, storage: str) -> None:
    folder, url = StudyFolder(tmp_path, "early"), storage.format(tmp_path)
    folder.path.mkdir(parents=True)
    assert folder.records(url) == []
    # Made by the first reader, it would have one objective for ever.
    study = folder.optuna_study(url, objectives=2)
    assert len(study.directions) == 2
    leave_storage(study._storage)
    assert folder.records(url) == []


def test_drawing_a_study_whose_search_has_not_begun_makes_none(tmp_path: Path) -> None:
    config = small_study(objective=["kind", "petal"]).config
    folder = StudyFolder(tmp_path, config.name)
    folder.path.mkdir(parents=True)
    folder.begin(config, {}, resume=False)
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
    folder.begin(config, {}, resume=False)
    journal = journal_of_two_trials(folder)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"worker')
    assert [trial.value for trial in folder.read_trials("journal")] == [1.0, 2.0]
    folder.begin(config, {}, resume=True)
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


def test_a_study_is_taken_up_with_the_trials_that_it_has(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "long")
    folder.path.mkdir(parents=True)
    journal_of_two_trials(folder)
    usual = sys.getswitchinterval(), gc.get_threshold()
    listener = Found()
    study = TrialLoader(folder, SearchConfig()).log_trials(listener)
    assert [trial.value for trial in listener.found] == [1.0, 2.0]
    assert (sys.getswitchinterval(), gc.get_threshold()) == usual
    study.tell(study.ask(), 3.0)
    assert [trial.value for trial in folder.read_trials("journal")] == [1.0, 2.0, 3.0]


def test_what_is_wrong_with_a_study_is_said_when_it_is_taken_up(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "spoilt")
    folder.path.mkdir(parents=True)
    journal = journal_of_two_trials(folder)
    journal.write_bytes(journal.read_bytes().replace(b'{"op_code":4', b'"op_code":4', 1))
    taking_up = TrialLoader(folder, SearchConfig())
    with pytest.raises(DamagedError, match=r"optuna.journal is damaged"):
        taking_up.log_trials([])
    with pytest.raises(StudyError, match=r"search\.storage: cannot open the database"):
        TrialLoader(folder, SearchConfig(storage="postgresql://nobody@127.0.0.1:1/none")).log_trials([])


def test_a_journal_in_use_does_not_keep_where_every_line_begins(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "long")
    folder.path.mkdir(parents=True)
    study = folder.optuna_study("journal")
    for value in range(50):
        study.tell(study.ask(), float(value))
    assert len(study._storage._backend._log_number_offset) < 10  # type: ignore[attr-defined]
    assert [trial.value for trial in study.get_trials()] == [float(value) for value in range(50)]
