"""A study's folder in the storage, or its copy here (see ``storage_sync``): where all lies, and who holds it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mtl_search.config.fields import NAME_RULE, is_name
from mtl_search.config.search_config import JOURNAL
from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import StudyError, shown
from mtl_search.results.trial_record import TrialRecord, drop_refused, records_of
from mtl_search.storage.files import read_json, write_json, write_json_once
from mtl_search.storage.paths import StoragePath, probe, storage_path
from mtl_search.study_store.check_resumable import check_resumable
from mtl_search.study_store.data_card import check_same_rows
from mtl_search.study_store.lease import StudyLease, lease_holder
from mtl_search.study_store.optuna_journal import cut_torn_line, leave_storage, open_storage
from mtl_search.study_store.storage_sync import StorageSync, storage_sync_of


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study.

    Attributes:
        storage: The ``storage`` of the study file; shared by studies, so that single-task models are.
        name: The study's name.
        notify: Told in a line what a user should know.

    Raises:
        StudyError: The name is none that a study can have.
    """

    storage: StoragePath
    name: str
    notify: Callable[[str], None] = field(default=lambda _: None, compare=False, repr=False)

    @classmethod
    def at(cls, study: str | Path, storage: str | StoragePath) -> "StudyFolder":
        """The study that a user means.

        Args:
            study: Its name, or its own folder or URL.
            storage: Where a study of that name lies.
        """
        own = storage_path(study)
        if (own / "study.json").exists() if isinstance(own, Path) else len(own.parts) > 1:
            found = cls(own.parent.parent, own.name)
        else:
            found = cls(storage_path(storage), str(study))
        found.refresh()
        return found

    def refresh(self) -> None:
        """See the study as it is now in a storage that is no folder; nothing to do elsewhere."""
        if self._storage_sync is not None:
            self._storage_sync.pull()

    def __post_init__(self) -> None:
        if not is_name(self.name):  # it comes from a command line, a server or a job, and becomes a path
            raise StudyError(f"a study's name {NAME_RULE}, got {shown(self.name)}")

    @property
    def location(self) -> StoragePath:
        """The study's own folder in the storage."""
        return self.storage / "studies" / self.name

    @property
    def path(self) -> Path:
        """The same, or the working folder that stands for it on this machine: the driver's own files."""
        return self.location if isinstance(self.location, Path) else storage_sync_of(self.location).path

    @property
    def trials(self) -> StoragePath:
        """Folders of the joint models, by job key."""
        return self.location / "trials"

    @property
    def cache(self) -> StoragePath:
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
    def modules_file(self) -> Path:
        """Folders in which the modules lie that the study file names; not there where it names none."""
        return self.path / "modules.json"

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
    def locked(self, *, shared: bool = False) -> Iterator[StudyLease]:
        """Hold the study for this process, and keep its files in the storage.

        Args:
            shared: With others that share it.

        Raises:
            StudyError: Another driver holds it.
            StorageError: The storage cannot be written.
        """
        probe(self.location)
        storage_sync = self._storage_sync
        gave_up = storage_sync.abandon if storage_sync is not None else lambda: None
        own = StudyLease(self.name, self.location, self.path / "lock", self.notify, shared=shared, gave_up=gave_up)
        with own.held(), nullcontext() if storage_sync is None else storage_sync.running():
            yield own

    def stored(self) -> None:
        """Take what this process has written to the storage, where that is elsewhere; it is there on return.

        Raises:
            StorageError: The store does not answer, or refuses.
        """
        if self._storage_sync is not None:
            self._storage_sync.push()

    @property
    def _storage_sync(self) -> StorageSync | None:
        return None if isinstance(self.location, Path) else storage_sync_of(self.location)

    @property
    def owner(self) -> str | None:
        """Who runs the study now, in words; None where nobody does."""
        return lease_holder(self.location, self.path / "lock")

    def begin(self, config: StudyConfig, card: Mapping[str, Any], *, resume: bool, join: bool = False) -> StudyConfig:
        """Take up the study: write what it is made with, or hold a resumed one's file and rows against what is there.

        The study's data card is written once and never replaced. The configuration is replaced after every check.

        Args:
            config: The study file.
            card: The rows as they are now, see ``describe_data``.
            resume: Whether to go on with a study of this name.
            join: Whether to run the study together with other drivers.

        Returns:
            The configuration to go on with.

        Raises:
            StudyError: The study exists and is not to be resumed, or it was begun with other rows, tasks or space, or
                its trials lie in another database.
        """
        if self.exists and not (resume or join):
            raise StudyError(
                f"study {self.name} exists in {self.storage}: add --resume to go on with it "
                "(--trials N extends it), or give the new study another name"
            )
        if not self.exists:
            self._check_new(config.search.storage)
            # Of drivers that join at the same moment, one begins the study.
            write_json_once(self.config_file, config.model_dump(mode="json"))
        before = read_json(self.config_file)
        config = check_resumable(self.name, before, config)
        self._check_trials(config.search.storage, before["search"].get("storage", JOURNAL))
        write_json_once(self.data_file, card)  # not there yet: the study is new, or was killed right here
        check_same_rows(self.name, read_json(self.data_file), card, "give the new study another name")
        if (snapshot := config.model_dump(mode="json")) != before:
            write_json(self.config_file, snapshot)
        if join:
            return config
        # This process holds the study: a lock in Optuna's journal is one that a killed driver left, as is half a line.
        Path(f"{self._journal}.lock").unlink(missing_ok=True)
        cut_torn_line(self._journal)
        return config

    def _check_new(self, database: str) -> None:
        """See that a new study finds no trials of another one.

        Raises:
            StudyError: The database holds a study of this name.
        """
        # A driver that joins at the same moment may have begun this very study since.
        if database != JOURNAL and self._holds(database) and not self.exists:
            raise StudyError(
                f"search.storage: {shown(database)} holds a study {self.name} that was begun in another storage than "
                f"{self.storage}; give that one as storage, or give the new study another name"
            )

    def _check_trials(self, database: str, before: str) -> None:
        """See that the study's trials are where they are looked for.

        Raises:
            StudyError: They are not.
        """
        if (database != before or self.trials.exists()) and not self._holds(database):
            raise StudyError(
                f"search.storage: {shown(database)} holds no study {self.name}, which has its trials in "
                f"{shown(before)}; name the database that has them, or give the new study another name"
            )

    def _holds(self, database: str) -> bool:
        """Whether Optuna's storage has this study."""
        if database == JOURNAL:  # reading a long one takes seconds
            return self._journal.exists() and self._journal.stat().st_size > 0
        storage = self.optuna_storage(database)
        try:
            storage.get_study_id_from_name(self.name)
        except KeyError:
            return False
        else:
            return True
        finally:
            leave_storage(storage)

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

    def read_data(self) -> dict[str, Any]:
        """The card of the rows that the study was begun with, see ``describe_data``.

        Raises:
            StudyError: There is none.
        """
        if not self.data_file.exists():
            raise StudyError(f"study {self.name} lacks the file that describes its data: {self.data_file}")
        card: dict[str, Any] = read_json(self.data_file)
        return card

    def read_outcome(self) -> dict[str, Any] | None:
        """What the study found, if it has ended well."""
        outcome: dict[str, Any] | None = read_json(self.outcome_file) if self.outcome_file.exists() else None
        return outcome

    def optuna_storage(self, url: str) -> optuna.storages.BaseStorage:
        """Optuna's storage: a journal file in this folder, or any database URL.

        Raises:
            StudyError: The database cannot be reached.
        """
        return open_storage(
            url, self._journal, self._storage_sync.nudge if self._storage_sync else lambda: None, self.notify
        )

    def records(self, url: str) -> list[TrialRecord]:
        """Every trial of the study, in order; none where its search has not begun."""
        return records_of(self.read_trials(url))

    def read_trials(self, url: str) -> list[FrozenTrial]:
        """The same as Optuna holds them. Reading makes no study: it would have one objective for ever."""
        storage = self.optuna_storage(url)
        try:
            trials = optuna.load_study(study_name=self.name, storage=storage).get_trials(deepcopy=False)
        except KeyError:
            return []
        else:
            return drop_refused(trials)
        finally:
            leave_storage(storage)

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
