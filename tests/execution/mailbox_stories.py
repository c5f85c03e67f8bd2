"""The mailbox as a plain object under asyncio, for the tests that tell its stories."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mtl_search.execution.jobs import Job, Ticket, Update
from mtl_search.execution.mailbox import Mailbox
from mtl_search.training.reports import EpochReport

T = TypeVar("T")
NOW = 0.001
SOON = 5.0
ATTEMPTS = 4  # the first, and three more


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(story)


def job(key: str, *needs: str, lockstep: bool = False) -> Job:
    return Job(key, f"payload of {key}", needs, lockstep)


def epoch_report(epoch: int) -> EpochReport:
    return EpochReport(epoch, score=0.0, best_score=0.0)


async def mailbox_with(*keys: str, groups: tuple[str, ...] = ("g",)) -> Mailbox:
    mailbox = Mailbox(len(groups), patience=SOON)
    for group in groups:
        await mailbox.join(group, "first")
    for key in keys:
        await mailbox.submit(job(key))
    return mailbox


async def take(mailbox: Mailbox, group: str = "g", incarnation: str = "first", count: int = 0) -> Ticket:
    ticket = await mailbox.take(group, incarnation, count, NOW)
    assert isinstance(ticket, Ticket)
    return ticket


async def state(mailbox: Mailbox, key: str) -> Update:
    return await mailbox.follow(key, 0, 0)
