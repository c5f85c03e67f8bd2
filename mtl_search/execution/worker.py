"""The worker's side of the pool: a Ray Train function that takes job after job, data and base staying in memory.

Every rank asks the dispatcher itself for its next job and for each epoch's verdict. Between two jobs nothing is left
but the workspace, so a job's result does not depend on what ran before it.
"""

import logging
import traceback
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train.torch
import torch
import torch.distributed as dist

from mtl_search.errors import MtlSearchError
from mtl_search.execution.jobs import Retire, Ticket
from mtl_search.training.stages import Stage, finished, run_stage
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.training.world import World, use_threads

POLL_SECONDS = 20.0
"""Length of one long poll for the next job."""
_log = logging.getLogger(__name__)


class Messages:
    """This rank's line to the dispatcher, under the name of its group and incarnation."""

    def __init__(self, mailbox: Any, group: str, incarnation: str) -> None:
        self._mailbox = mailbox
        self._who = (group, incarnation)
        self.taken = 0

    def take(self) -> Ticket | Retire:
        """Wait for the next job."""
        while True:
            ticket: Ticket | Retire | None = ray.get(self._mailbox.take.remote(*self._who, self.taken, POLL_SECONDS))
            if ticket is not None:
                self.taken += 1
                return ticket

    def say(self, verb: str, *words: Any) -> Any:
        """Call one of the mailbox's worker methods and wait for the answer."""
        return ray.get(getattr(self._mailbox, verb).remote(*self._who, *words))


class JobControl:
    """Tells the dispatcher of each epoch, and asks it whether to go on (a ``training.loop.Control``)."""

    def __init__(self, messages: Messages, ticket: Ticket) -> None:
        self._messages, self._ticket = messages, ticket

    def report(self, epoch: dict[str, Any]) -> None:
        """Send an epoch's report."""
        self._messages.say("report", self._ticket, epoch)

    def proceed(self, epoch: int) -> bool:
        """Ask for an epoch's verdict."""
        return bool(self._messages.say("proceed", self._ticket, epoch))


def work(config: dict[str, Any]) -> None:
    """One worker's life in a group: join, then job after job until told to retire.

    Args:
        config: ``group`` (name), ``mailbox`` (actor handle), ``workload`` (object reference in a list, so that it is
            fetched once per node), ``precision``, ``threads``.
    """
    use_threads(config["threads"])
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)
    world = World.current(device, config["precision"])
    incarnation = _new_incarnation(world)
    messages = Messages(config["mailbox"], config["group"], incarnation)
    if world.rank == 0:
        messages.say("join")
    world.agree(True)
    try:
        workload: Workload = ray.get(config["workload"][0])
        workspace = Workspace(workload, world)
    except Exception as error:
        ray.get(config["mailbox"].broken.remote(config["group"], f"{type(error).__name__}: {error}"))
        raise
    while not isinstance(ticket := messages.take(), Retire):
        _carry_out(ticket, workspace, messages)


def _new_incarnation(world: World) -> str:
    """A name for this life of the group, the same on all of its ranks."""
    name = [uuid.uuid4().hex]
    if world.size > 1:
        dist.broadcast_object_list(name, src=0, device=world.device if world.device.type == "cuda" else None)
    return name[0]


def _carry_out(ticket: Ticket, workspace: Workspace, messages: Messages) -> None:
    """Do one job and tell its end. What goes wrong in it is the job's failure, not the worker's.

    A rank that fails alone would leave the others waiting in a collective, so in a group of several the whole group
    starts again.
    """
    stage: Stage = ticket.job.payload
    world = workspace.world
    try:
        done = finished(stage) if world.agree(finished(stage) is not None) else None
        result = {**done, "cached": True} if done else run_stage(stage, workspace, JobControl(messages, ticket))
    except Exception as error:
        _log.exception("job %s failed on rank %d", ticket.job.key, world.rank)
        messages.say("fail", ticket, _reason(error))
        if world.size > 1 and not isinstance(error, MtlSearchError):
            raise
        return
    if world.rank == 0:
        messages.say("finish", ticket, result)
    if world.device.type == "cuda":
        torch.cuda.empty_cache()


def _reason(error: Exception) -> str:
    """A failure in one line, with the user's own line where the error came from code outside this package."""
    if isinstance(error, MtlSearchError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
