"""The job queue as a plain object under asyncio, for the tests that tell its stories."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.jobs import Job, Lease, Update
from mtl_search.storage.reports import EpochReport

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


async def queue_with(*keys: str, groups: tuple[str, ...] = ("g",)) -> JobQueue:
    job_queue = JobQueue(len(groups), patience=SOON)
    for group in groups:
        await job_queue.join(group, "first")
    for key in keys:
        await job_queue.submit(job(key))
    return job_queue


async def take(job_queue: JobQueue, group: str = "g", incarnation: str = "first", count: int = 0) -> Lease:
    lease = await job_queue.take(group, incarnation, count, NOW)
    assert isinstance(lease, Lease)
    return lease


async def state(job_queue: JobQueue, key: str) -> Update:
    return await job_queue.follow(key, 0, 0)
