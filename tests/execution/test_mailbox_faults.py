"""The mailbox under faults: workers that die or hang, groups that rest, a dispatcher in a new life."""

import asyncio
from typing import Any

import pytest
from mailbox_stories import ATTEMPTS, NOW, SOON, epoch_report, job, mailbox_with, run, state, take

from mtl_search.execution.faults import DIED, NODE_LOST, OUT_OF_MEMORY, fault_of
from mtl_search.execution.jobs import JobState, Rejoin, Ticket, Update
from mtl_search.execution.mailbox import Mailbox
from mtl_search.training.reports import StageResult


def test_a_job_that_finishes_an_epoch_between_its_groups_deaths_is_never_given_up() -> None:
    async def story() -> Update:
        mailbox = await mailbox_with("unlucky")
        for life in range(3 * ATTEMPTS):
            ticket = await take(mailbox, "g", f"life {life}" if life else "first")
            await mailbox.report("g", f"life {life}" if life else "first", ticket, epoch_report(life))
            await mailbox.join("g", f"life {life + 1}")
        return await state(mailbox, "unlucky")

    update = run(story())
    assert (update.state, update.attempts) == (JobState.WAITING, 3 * ATTEMPTS)


def test_retries_are_as_many_as_configured_and_the_reason_is_the_last_fault() -> None:
    async def story() -> Update:
        mailbox = Mailbox(max_retries=0)
        await mailbox.join("g", "first")
        await mailbox.submit(job("a"))
        await take(mailbox)
        await mailbox.down("g", NODE_LOST)
        return await state(mailbox, "a")

    assert run(story()) == Update([], JobState.FAILED, None, NODE_LOST, 1)


def test_a_group_that_is_down_gives_its_job_to_another_before_it_comes_back() -> None:
    async def story() -> tuple[Ticket, Any, Any]:
        mailbox = await mailbox_with("a", groups=("g", "h"))
        await take(mailbox)
        waiting = asyncio.create_task(mailbox.take("h", "first", 0, SOON))
        await asyncio.sleep(0)
        await mailbox.down("g", NODE_LOST)
        ticket = await waiting
        assert isinstance(ticket, Ticket)
        return ticket, await mailbox.leave("g"), await mailbox.leave("g")

    ticket, worked, again = run(story())
    assert (ticket.job.key, ticket.attempt) == ("a", 2)
    assert (worked, again) == ((True, None), (False, None))


def test_workers_of_a_job_that_goes_silent_are_killed_and_it_is_tried_again_then_fails() -> None:
    async def story() -> tuple[list[Ticket], list[str], Update]:
        killed: list[str] = []
        mailbox, tickets = Mailbox(2, max_retries=1, report_timeout=0.2, kill=killed.append), []
        for group in ("g", "h"):
            await mailbox.join(group, "first")
            for rank in range(2):
                await mailbox.enrol(group, "first", f"{group}{rank}")
        await mailbox.submit(job("a"))
        for group in ("g", "h"):
            ticket = await mailbox.take(group, "first", 0, SOON)
            assert isinstance(ticket, Ticket)
            tickets.append(ticket)
        ended = await mailbox.follow("a", 0, SOON)
        return tickets, killed, ended

    tickets, killed, update = run(story())
    assert [ticket.attempt for ticket in tickets] == [1, 2]
    assert killed == ["g0", "g1", "h0", "h1"]
    assert update.state is JobState.FAILED
    assert update.reason == "it reported nothing for 0.2 s (resources.report_timeout), 2 times in a row"


def test_a_job_that_reports_in_time_is_left_alone() -> None:
    async def story() -> list[str]:
        killed: list[str] = []
        mailbox = Mailbox(report_timeout=0.3, kill=killed.append)
        await mailbox.join("g", "first")
        await mailbox.enrol("g", "first", "g0")
        await mailbox.submit(job("a"))
        ticket = await take(mailbox)
        for epoch in range(6):
            await asyncio.sleep(0.1)
            await mailbox.report("g", "first", ticket, epoch_report(epoch))
        await mailbox.finish("g", "first", ticket, StageResult())
        await asyncio.sleep(0.5)  # a group without a job may be silent
        return killed

    assert run(story()) == []


def test_workers_that_hang_before_they_ask_for_a_job_are_killed() -> None:
    async def story() -> list[str]:
        killed: list[str] = []
        mailbox = Mailbox(2, report_timeout=0.2, kill=killed.append)
        for group in ("g", "h"):
            await mailbox.join(group, "first")
            await mailbox.enrol(group, "first", f"{group}0")
        assert await mailbox.take("h", "first", 0, NOW) is None
        await asyncio.sleep(0.6)  # one waits for a job, the other for a file perhaps
        return killed

    assert run(story()) == ["g0"]


def test_a_job_that_waits_for_its_reader_does_not_hang() -> None:
    async def story() -> tuple[list[str], bool]:
        killed: list[str] = []
        mailbox = Mailbox(report_timeout=0.4, kill=killed.append)
        await mailbox.join("g", "first")
        await mailbox.enrol("g", "first", "g0")
        await mailbox.submit(job("a", lockstep=True))
        ticket = await take(mailbox)
        goes_on = True
        for epoch in range(3):
            await mailbox.report("g", "first", ticket, epoch_report(epoch))
            goes_on = goes_on and await mailbox.proceed("g", "first", ticket, epoch) is True
        return killed, goes_on

    assert run(story()) == ([], True)


def test_groups_that_get_no_job_further_for_want_of_room_end_the_study_though_each_takes_it_again() -> None:
    async def story() -> tuple[Update, str]:
        mailbox = await mailbox_with("a", groups=("g", "h"))
        await mailbox.report("g", "first", await take(mailbox), epoch_report(0))
        await mailbox.broken("g", "cannot go on: no space is left")
        await mailbox.join("g", "second")
        ticket = await take(mailbox, "h")
        await mailbox.report("h", "first", ticket, epoch_report(0))
        await mailbox.broken("h", "cannot go on: no space is left")
        return await state(mailbox, "a"), await mailbox.problem()

    update, problem = run(story())
    assert update.state is JobState.CANCELLED
    assert update.reason == problem == "cannot go on: no space is left"


def test_a_group_that_gets_a_job_further_is_not_lost_any_more() -> None:
    async def story() -> tuple[Update, str]:
        mailbox = await mailbox_with("a", "b", groups=("g", "h"))
        first = await take(mailbox)
        await mailbox.broken("g", "cannot go on: the folder is away")
        await mailbox.join("g", "second")
        again = await take(mailbox, "g", "second")
        assert again.job == first.job
        await mailbox.report("g", "second", again, epoch_report(0))
        await take(mailbox, "h")
        await mailbox.broken("h", "cannot go on: the folder is away")
        return await state(mailbox, "a"), await mailbox.problem()

    update, problem = run(story())
    assert (update.state, problem) == (JobState.RUNNING, "")


def test_a_group_at_rest_gives_its_job_back_with_its_epoch_and_takes_no_other() -> None:
    async def story() -> tuple[bool, bool, list[Any], Ticket, Update]:
        mailbox = await mailbox_with("a", "b")
        ticket = await take(mailbox)
        before = await mailbox.proceed("g", "first", ticket, 0) and not await mailbox.rest("g", NOW)
        resting = asyncio.create_task(mailbox.rest("g", SOON))
        await asyncio.sleep(0)
        verdicts = [await mailbox.proceed("g", "first", ticket, epoch) for epoch in (0, 1)]
        waited = not resting.done()
        await mailbox.finish("g", "first", ticket, StageResult(stopped=True))
        assert await resting
        assert await mailbox.rest("nobody", NOW)
        nothing = await mailbox.take("g", "first", 1, NOW)
        await mailbox.join("g", "second")
        return before, waited, [*verdicts, nothing], await take(mailbox, "g", "second"), await state(mailbox, "a")

    before, waited, told, ticket, update = run(story())
    assert before is waited is True
    assert told == [True, False, None], "no rank hears another verdict than the first one did"
    assert (ticket.job.key, ticket.attempt) == ("a", 2)
    assert (update.state, update.result) == (JobState.RUNNING, None)


def test_in_a_new_life_of_the_dispatcher_readers_wait_and_workers_join_again() -> None:
    async def story() -> tuple[list[Any], list[Any], Ticket, Update]:
        mailbox = Mailbox(begun=False)
        ticket = Ticket(job("a"), 1)
        words = [
            await mailbox.take("g", "of the old life", 3, SOON),
            await mailbox.report("g", "of the old life", ticket, epoch_report(4)),
            await mailbox.proceed("g", "of the old life", ticket, 4),
            await mailbox.finish("g", "of the old life", ticket, StageResult()),
            await mailbox.fail("g", "of the old life", ticket, "no reason"),
        ]
        early = [await mailbox.follow("a", 5, NOW), await mailbox.groups()]
        await mailbox.join("g", "new")
        assert await mailbox.take("g", "new", 0, NOW) is None
        following = asyncio.create_task(mailbox.follow("a", 5, SOON))
        await asyncio.sleep(0)
        await mailbox.begin(1, [job("a")])
        again = await take(mailbox, "g", "new")
        for epoch in range(6):  # the group tells its job's history as it goes on from the checkpoint
            await mailbox.report("g", "new", again, epoch_report(epoch))
        return words, early, again, await following

    words, early, again, update = run(story())
    assert words == [Rejoin()] * 5
    assert early == [Update(), None]
    assert (again.job.key, again.attempt) == ("a", 1)
    assert [report.epoch for report in update.reports] == [5], "the reader hears what it has not had"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", OUT_OF_MEMORY),
        ("The actor died because its node has died. Node Id: 17", NODE_LOST),
        ("Worker exit type: SYSTEM_ERROR. (1) the process was killed by the OOM killer", DIED),
    ],
)
def test_a_fault_is_told_by_what_ray_says_of_a_death(words: str, fault: str) -> None:
    assert fault_of(words) == fault
