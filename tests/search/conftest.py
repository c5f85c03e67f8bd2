"""Commands of this project as processes, ended with the test that started them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_processes import Command


@pytest.fixture
def started() -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(place: Path, *options: str) -> Command:
        commands.append(Command.start(place, *options))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
