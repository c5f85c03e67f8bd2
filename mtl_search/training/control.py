"""Control: who listens to a stage while it runs, and may end it early."""

from typing import Protocol

from mtl_search.storage.reports import EpochReport


class Control(Protocol):
    """Who listens to a stage while it runs."""

    def report(self, epoch: EpochReport) -> None:
        """Hear of a finished epoch (called on rank 0 only); after a kill it hears of the same epochs again."""

    def proceed(self, epoch: int) -> bool:
        """Whether to go on after an epoch (called on every rank; all get the same answer)."""


class NoControl:
    """Nobody listens: the stage runs to its end."""

    def report(self, epoch: EpochReport) -> None:
        """Do nothing."""

    def proceed(self, epoch: int) -> bool:
        """Always go on."""
        return True
