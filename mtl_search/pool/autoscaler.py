"""Growth: a pool takes room as it comes, and shows Ray's autoscaler what it could use.

Room that is not there yet is asked for by bare placement groups, which cost nothing while they wait and which the
autoscaler starts nodes for. One that is placed makes way for a worker group.
"""

import logging
from collections.abc import Callable
from typing import Any, final

from ray.util import placement_group, placement_group_table, remove_placement_group

_log = logging.getLogger(__name__)


@final
class Autoscaler:
    """Adds groups to a pool while there is room and use for them.

    Args:
        workers: Workers of one group.
        need: What one of them asks of Ray.
        first: Groups that are likely to fit now.
        most: Groups that the pool can use.
        add: Starts a group.
    """

    def __init__(self, workers: int, need: dict[str, float], first: int, most: int, add: Callable[[], None]) -> None:
        self._bundles = [need] * workers
        self._first, self._most, self._add = first, most, add
        self._asked: list[Any] = []

    def look(self, joined: int, started: int) -> None:
        """Start groups where room has come, and ask for more.

        While a started group has not joined nothing is asked for: what it waits for is the room to come, and it must
        find the room that was asked for in its name.

        Args:
            joined: Groups that can work now.
            started: Groups that were started.
        """
        if joined < started:
            self.stop()
            return
        placed = sum(placement_group_table(each)["state"] == "CREATED" for each in self._asked)
        if placed:
            self.stop()
            for _ in range(placed):
                self._add()
            return
        wanted = min(self._most - started, max(1, started, self._first - started))
        for _ in range(wanted - len(self._asked)):
            self._asked.append(placement_group(self._bundles, strategy="PACK"))

    def stop(self) -> None:
        """Ask for nothing."""
        for each in self._asked:
            remove_placement_group(each)
        self._asked.clear()
