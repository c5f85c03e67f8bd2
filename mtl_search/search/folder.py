"""A study's folder in the storage: where everything lies, and the lock that keeps a second driver out."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from mtl_search.config import StudyConfig
from mtl_search.errors import StudyError
from mtl_search.recipe import content_key
from mtl_search.search.record import REFUSED, TrialRecord
from mtl_search.training.files import read_json, write_json

_DECIDING = ("data", "tasks", "source_tasks", "backbone", "space", "seed")
"""Sections that decide what a trial's result means; a resumed study must not change them."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study.

    Attributes:
        storage: The ``storage`` of the study file; shared by studies, so that single-task models are.
        name: The study's name.
    """

    storage: Path
    name: str

    @property
    def path(self) -> Path:
        """The study's own folder."""
        return self.storage / "studies" / self.name

    @property
    def trials(self) -> Path:
        """Folders of the joint models, by job key."""
        return self.path / "trials"

    @property
    def cache(self) -> Path:
        """Folders of the single-task models, by content key; shared by all studies on this storage."""
        return self.storage / "cache"

    @property
    def ray(self) -> Path:
        """Run files of Ray Train and Ray Tune."""
        return self.path / "ray"

    @property
    def log(self) -> Path:
        """What Ray, Optuna and MLflow have to say."""
        return self.path / "search.log"

    @property
    def config_file(self) -> Path:
        """The study file as it was when the study began."""
        return self.path / "study.json"

    @property
    def data_file(self) -> Path:
        """What export needs to know of the data: tasks, input preparation, a few sample rows."""
        return self.path / "data.json"

    def clock_file(self, driver: str = "") -> Path:
        """How long the study has run so far; one of several drivers has a clock of its own."""
        return self.path / f"clock{driver and '-'}{driver}.json"

    @property
    def bases_file(self) -> Path:
        """Content key of each base that was not learned here, by the key of its component."""
        return self.path / "bases.json"

    @property
    def affinity_file(self) -> Path:
        """Task affinity and the groups it makes, by the kind it was measured with; there once it is known."""
        return self.path / "affinity.json"

    @property
    def outcome_file(self) -> Path:
        """What the study found; there once it has ended well."""
        return self.path / "outcome.json"

    @property
    def _journal(self) -> Path:
        return self.path / "optuna.journal"

    @property
    def exists(self) -> bool:
        """Whether a study of this name was begun here."""
        return self.config_file.exists()

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the study for this process; the system lets go when the process ends, however it ends.

        Args:
            shared: With others that share it.

        Raises:
            StudyError: Another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                owner = file.read().strip() or "another process"
                also = "" if shared else ", or run it together with --join on both sides"
                raise StudyError(f"study {self.name} is being run by {owner}; wait for it or end it{also}") from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
            yield

    def begin(self, config: StudyConfig, *, resume: bool, join: bool = False) -> None:
        """Take up the study: write its configuration, or hold a resumed one's against what was written.

        Raises:
            StudyError: It exists and is not to be resumed, or it was begun with other data, tasks or space.
        """
        snapshot = config.model_dump(mode="json")
        if self.exists:
            before = read_json(self.config_file)
            if not (resume or join):
                raise StudyError(
                    f"study {self.name} exists in {self.storage}: add --resume to go on with it "
                    "(--trials N extends it), or give the new study another name"
                )
            changed = [part for part in _DECIDING if content_key(before.get(part)) != content_key(snapshot[part])]
            if before["search"]["objective"] != snapshot["search"]["objective"]:
                changed.append("search.objective")
            if before["search"].get("baseline_seeds", 1) != snapshot["search"]["baseline_seeds"]:
                changed.append("search.baseline_seeds")
            if changed:
                raise StudyError(
                    f"study {self.name} was begun with another {', '.join(changed)}: its trials would not compare; "
                    "give the new study another name"
                )
        write_json(self.config_file, snapshot)
        if join:
            return
        # This process holds the study: a lock in Optuna's journal is one that a killed driver left.
        Path(f"{self._journal}.lock").unlink(missing_ok=True)

    def read_config(self) -> StudyConfig:
        """The configuration the study was begun with.

        Raises:
            StudyError: There is no such study.
        """
        if not self.exists:
            there = sorted(path.parent.name for path in self.storage.glob("studies/*/study.json"))
            known = f" (there: {', '.join(there)})" if there else ""
            raise StudyError(f"no study {self.name!r} in {self.storage}{known}")
        return StudyConfig.model_validate(read_json(self.config_file))

    def read_outcome(self) -> dict[str, Any] | None:
        """What the study found, if it has ended well."""
        outcome: dict[str, Any] | None = read_json(self.outcome_file) if self.outcome_file.exists() else None
        return outcome

    def optuna_storage(self, url: str) -> optuna.storages.BaseStorage:
        """Optuna's storage: a journal file in this folder, or any database URL.

        Raises:
            StudyError: The database cannot be reached.
        """
        if url == "journal":
            return JournalStorage(JournalFileBackend(str(self._journal)))
        try:
            return RDBStorage(url)
        except Exception as error:  # each database driver raises its own kinds
            reason = str(error).partition("\n")[0]
            raise StudyError(f"search.storage: cannot open the database ({type(error).__name__}: {reason})") from error

    def records(self, url: str) -> list[TrialRecord]:
        """Every trial of the study, in order; none where its search has not begun."""
        return [TrialRecord.of(trial) for trial in self.read_trials(url)]

    def read_trials(self, url: str) -> list[FrozenTrial]:
        """The same as Optuna holds them. Reading makes no study: it would have one objective for ever."""
        storage = self.optuna_storage(url)
        try:
            trials = optuna.load_study(study_name=self.name, storage=storage).get_trials(deepcopy=False)
        except KeyError:
            return []
        else:
            return [trial for trial in trials if REFUSED not in trial.user_attrs]
        finally:
            if isinstance(storage, RDBStorage):  # a server has few connections to give
                storage.remove_session()
                storage.engine.dispose()

    def optuna_study(self, url: str, objectives: int = 1) -> optuna.Study:
        """The Optuna study, made if it is new; maximises.

        Args:
            url: As in ``search.storage``.
            objectives: How many numbers a new study maximises.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would say on stderr that it found the study
        return optuna.create_study(
            study_name=self.name,
            storage=self.optuna_storage(url),
            directions=["maximize"] * objectives,
            load_if_exists=True,
        )
