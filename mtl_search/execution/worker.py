"""The worker's side of the pool: a Ray Train function that takes job after job, data and base staying in memory.

Every rank asks the dispatcher itself for its next job and for each epoch's verdict. Between two jobs nothing is left
but the workspace, so a job's result does not depend on what ran before it.
"""

import logging
import os
import pickle
import sys
import sysconfig
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train.torch
import torch
import torch.distributed as dist
from ray.exceptions import RayActorError

import mtl_search
from mtl_search.errors import DamagedError, MtlSearchError, StorageError, TrialError
from mtl_search.execution.faults import LESS_MEMORY, lacks_memory
from mtl_search.execution.jobs import Rejoin, Retire, Ticket
from mtl_search.execution.reach import check_here
from mtl_search.execution.streams import pick_beside
from mtl_search.training.reports import EpochReport, StageResult
from mtl_search.training.stages import Stage, finished, run_stage
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.training.world import World, use_threads

POLL_SECONDS = 20.0
"""Length of one long poll for the next job."""
_LIBRARIES = (str(Path(mtl_search.__file__).parent), *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib")))
_log = logging.getLogger(__name__)


class ForgottenError(Exception):
    """The dispatcher was started anew and does not know this group: what it does is another's to do again."""


class Messages:
    """This rank's line to the dispatcher, under the name of its group and incarnation."""

    def __init__(self, mailbox: Any, group: str, incarnation: str) -> None:
        self._mailbox = mailbox
        self._who = (group, incarnation)
        self.group = group
        self.taken = 0

    def take(self) -> Ticket | Retire:
        """Wait for the next job."""
        while True:
            ticket: Ticket | Retire | None = self.say("take", self.taken, POLL_SECONDS)
            if ticket is not None:
                self.taken += 1
                return ticket

    def say(self, verb: str, *words: Any) -> Any:
        """Call one of the mailbox's worker methods and wait for the answer.

        Raises:
            ForgottenError: The dispatcher does not know this group.
        """
        answer = ray.get(getattr(self._mailbox, verb).remote(*self._who, *words))
        if isinstance(answer, Rejoin):
            raise ForgottenError(f"worker group {self.group} is not known to the dispatcher")
        return answer

    def broken(self, why: str) -> None:
        """Say that this group cannot work."""
        ray.get(self._mailbox.broken.remote(self.group, f"worker group {self.group} {why}"))


class JobControl:
    """Tells the dispatcher of each epoch, and asks it whether to go on (a ``training.control.Control``)."""

    def __init__(self, messages: Messages, ticket: Ticket) -> None:
        self._messages, self._ticket = messages, ticket

    def report(self, epoch: EpochReport) -> None:
        """Send an epoch's report. Who trained it stands in the message alone: results are the same on every group."""
        self._messages.say("report", self._ticket, replace(epoch, group=self._messages.group))

    def proceed(self, epoch: int) -> bool:
        """Ask for an epoch's verdict."""
        return bool(self._messages.say("proceed", self._ticket, epoch))


def work(config: dict[str, Any]) -> None:
    """One worker's life in a group: join, then job after job until told to retire.

    Args:
        config: ``group`` (name), ``mailbox`` (actor handle), ``workload`` (object reference in a list, so that it is
            fetched once per node), ``precision``, ``activations``, ``threads``, ``home`` (the study's folder in the
            storage), and the driver's module search ``path`` and working ``folder``, so that a user's own modules and
            files are found here as they are there.
    """
    sys.path += [place for place in config["path"] if place not in sys.path]
    if Path(config["folder"]).is_dir():
        os.chdir(config["folder"])
    use_threads(config["threads"])
    try:
        _serve(config)
    except RayActorError:
        _log.error("the dispatcher is gone, and the study with it: worker retires")


def _serve(config: dict[str, Any]) -> None:
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)
    world = World.current(device, config["precision"])
    messages = _joined(config, world)
    try:
        check_here(config["home"])
        workload: Workload = ray.get(config["workload"][0])
        workspace = Workspace(workload, world, config["activations"], pick_beside)
    except Exception as error:  # noqa: BLE001  told to the dispatcher, which tells the user
        # Returning, not raising: Ray Train would start the same again, for ever. The other ranks are told to retire.
        _log.exception("worker group %s cannot work", config["group"])
        messages.broken(f"cannot start: {_reason(error)}")
        return
    while True:
        try:
            while not isinstance(ticket := messages.take(), Retire):
                _carry_out(ticket, workspace, messages)
        except ForgottenError:
            if world.size > 1:  # other ranks may wait in a collective: Ray Train starts the group again
                raise
            messages = _joined(config, world)
        else:
            return


def _joined(config: dict[str, Any], world: World) -> Messages:
    """Begin this group's life as the dispatcher knows it."""
    messages = Messages(config["mailbox"], config["group"], _new_incarnation(world))
    if world.rank == 0:
        messages.say("join")
    world.agree(True)
    messages.say("enrol", ray.get_runtime_context().current_actor)
    return messages


def _new_incarnation(world: World) -> str:
    """A name for this life of the group, the same on all of its ranks."""
    name = [uuid.uuid4().hex]
    if world.size > 1:
        dist.broadcast_object_list(name, src=0, device=world.device if world.device.type == "cuda" else None)
    return name[0]


def _carry_out(ticket: Ticket, workspace: Workspace, messages: Messages) -> None:
    """Do one job and tell its end. What goes wrong in it is the job's failure, not the worker's."""
    world = workspace.world
    try:
        stage: Stage = pickle.loads(ticket.job.payload)  # noqa: S301  packed by this study's own driver
        done = finished(stage) if world.rank == 0 else None  # another rank's node may see the folder as it was before
        if world.agree(done is not None):
            result = replace(done or StageResult(), cached=True)  # rank 0's counts
        else:
            result = run_stage(stage, workspace, JobControl(messages, ticket))
    except ForgottenError:
        raise
    except Exception as error:
        if isinstance(error, StorageError) and not isinstance(error, DamagedError):
            # No recipe is to blame, and the next job would meet the same: where all groups say so the study ends.
            # Raising ends the other ranks too, which may wait in a collective; Ray Train starts the group again.
            messages.broken(f"cannot go on: {error}")
            raise
        _log.exception("job %s failed on rank %d", ticket.job.key, world.rank)
        if _partner_died(error, world):  # the job is not to blame: it goes on when the group is back
            raise
        messages.say("fail", ticket, _reason(error))
        if _needs_restart(error, world):
            raise
    else:
        if world.rank == 0:
            messages.say("finish", ticket, result)
    if world.device.type == "cuda":
        torch.cuda.empty_cache()


def _partner_died(error: Exception, world: World) -> bool:
    """Whether a collective broke off. Gloo has no exception of its own, only words that name its source files."""
    return world.size > 1 and (isinstance(error, dist.DistError) or "/gloo/" in str(error))


def _needs_restart(error: Exception, world: World) -> bool:
    """Whether the group cannot go on after a failed job.

    All ranks see the same divergence and go on together. Any other failure may be one rank's alone, and would leave
    the rest waiting in a collective; and a failed GPU kernel leaves a process that can do nothing more.
    """
    if isinstance(error, TrialError):
        return False
    poisoned = isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)
    return world.size > 1 or poisoned


def _reason(error: Exception) -> str:
    """A failure in one line, with the user's own line where it came from code outside this package and libraries."""
    source = error.__cause__ if isinstance(error, MtlSearchError) else error
    if source is None:
        return str(error)
    frames = traceback.extract_tb(source.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, "<"))]
    words = str(error) if isinstance(error, MtlSearchError) else f"{type(error).__name__}: {error}"
    if not own and isinstance(error, MtlSearchError):
        return words
    frame = (own or frames)[-1]
    words = f"{words} ({Path(frame.filename).name}:{frame.lineno})"
    return f"{words}; {LESS_MEMORY}" if lacks_memory(source) else words
