"""The mailbox as a plain object under asyncio: who is told what, and that no job is lost or doubled."""

import asyncio

import pytest
from mailbox_stories import ATTEMPTS, NOW, SOON, epoch_report, job, mailbox_with, run, state, take

from mtl_search.execution.faults import DIED, LESS_MEMORY
from mtl_search.execution.jobs import JobState, Retire, Ticket, Update
from mtl_search.execution.ledger import MAX_BARREN
from mtl_search.execution.mailbox import Mailbox
from mtl_search.training.reports import StageResult


def test_jobs_come_in_the_order_of_submission() -> None:
    async def story() -> list[str]:
        mailbox = await mailbox_with("a", "b", "c")
        return [(await take(mailbox, count=count)).job.key for count in range(3)]

    assert run(story()) == ["a", "b", "c"]


def test_a_key_submitted_twice_is_one_job() -> None:
    async def story() -> tuple[Ticket, object]:
        mailbox = await mailbox_with("a", "a")
        return await take(mailbox), await mailbox.take("g", "first", 1, NOW)

    ticket, second = run(story())
    assert ticket.job.key == "a"
    assert second is None


def test_a_finished_job_submitted_again_is_not_run_again() -> None:
    async def story() -> tuple[object, Update]:
        mailbox = await mailbox_with("a")
        await mailbox.finish("g", "first", await take(mailbox), StageResult(best_score=1))
        await mailbox.submit(job("a"))
        return await mailbox.take("g", "first", 1, NOW), await state(mailbox, "a")

    ticket, update = run(story())
    assert ticket is None
    assert update == Update([], JobState.DONE, StageResult(best_score=1), "", 1)


def test_a_job_waits_for_what_it_needs_and_others_overtake_it() -> None:
    async def story() -> tuple[list[str], object, str]:
        mailbox = await mailbox_with("single")
        await mailbox.submit(job("joint", "single"))
        await mailbox.submit(job("other"))
        first, second = await take(mailbox), await take(mailbox, count=1)
        third = await mailbox.take("g", "first", 2, NOW)
        await mailbox.finish("g", "first", first, StageResult())
        return [first.job.key, second.job.key], third, (await take(mailbox, count=2)).job.key

    assert run(story()) == (["single", "other"], None, "joint")


def test_a_waiting_worker_is_woken_by_a_submission() -> None:
    async def story() -> Ticket | Retire | None:
        mailbox = await mailbox_with()
        waiting = asyncio.create_task(mailbox.take("g", "first", 0, SOON))
        await asyncio.sleep(0)
        await mailbox.submit(job("a"))
        return await waiting

    ticket = run(story())
    assert isinstance(ticket, Ticket)
    assert ticket.job.key == "a"


def test_all_ranks_of_a_group_get_the_same_tickets() -> None:
    async def story() -> list[list[str]]:
        mailbox = await mailbox_with("a", "b", "c", "d", groups=("g", "h"))
        seen: dict[str, list[str]] = {"g0": [], "g1": [], "h0": []}
        for count in range(2):
            for rank in ("g0", "h0", "g1"):
                seen[rank].append((await take(mailbox, rank[0], count=count)).job.key)
        return list(seen.values())

    assert run(story()) == [["a", "c"], ["a", "c"], ["b", "d"]]


def test_ranks_that_wait_together_wake_with_the_same_ticket() -> None:
    async def story() -> set[object]:
        mailbox = await mailbox_with()
        ranks = [asyncio.create_task(mailbox.take("g", "first", 0, SOON)) for _ in range(4)]
        await asyncio.sleep(0)
        await mailbox.submit(job("a"))
        await mailbox.submit(job("b"))
        return {ticket.job.key for ticket in await asyncio.gather(*ranks) if isinstance(ticket, Ticket)}

    assert run(story()) == {"a"}


def test_all_ranks_hear_the_verdict_that_the_first_one_heard() -> None:
    async def story() -> list[bool]:
        mailbox = await mailbox_with("a")
        ticket = await take(mailbox)
        first = await mailbox.proceed("g", "first", ticket, 0)
        await mailbox.stop("a")
        second = await mailbox.proceed("g", "first", ticket, 0)
        later = [await mailbox.proceed("g", "first", ticket, 1) for _ in range(2)]
        return [first, second, *later]

    assert run(story()) == [True, True, False, False]


def test_a_follower_gets_the_reports_it_has_not_seen_in_order() -> None:
    async def story() -> list[Update]:
        mailbox = await mailbox_with("a")
        ticket = await take(mailbox)
        for epoch in range(3):
            await mailbox.report("g", "first", ticket, epoch_report(epoch))
        some = await mailbox.follow("a", 1, SOON)
        await mailbox.finish("g", "first", ticket, StageResult(best_score=2))
        return [some, await mailbox.follow("a", 3, SOON)]

    some, last = run(story())
    assert [report.epoch for report in some.reports] == [1, 2]
    assert some.state is JobState.RUNNING
    assert last == Update([], JobState.DONE, StageResult(best_score=2), "", 1)


def test_following_an_unknown_job_ends_at_once() -> None:
    update = run(Mailbox().follow("nothing", 0, SOON))
    assert update.state is JobState.CANCELLED
    assert "nothing" in update.reason


def test_a_restarted_group_returns_its_job_to_the_front_as_the_next_attempt() -> None:
    async def story() -> list[tuple[str, int]]:
        mailbox = await mailbox_with("a", "b")
        await take(mailbox)
        await mailbox.join("g", "second")
        tickets = [await take(mailbox, "g", "second", count) for count in range(2)]
        return [(ticket.job.key, ticket.attempt) for ticket in tickets]

    assert run(story()) == [("a", 2), ("b", 1)]


def test_a_dead_incarnation_is_not_heard() -> None:
    async def story() -> tuple[Update, bool, object, int]:
        mailbox = await mailbox_with("a")
        old = await take(mailbox)
        await mailbox.report("g", "first", old, epoch_report(0))
        await mailbox.join("g", "second")
        new = await take(mailbox, "g", "second")
        await mailbox.report("g", "first", old, epoch_report(1))
        await mailbox.finish("g", "first", old, StageResult(key="of the dead"))
        await mailbox.fail("g", "first", old, "the dead one's")
        go_on = await mailbox.proceed("g", "first", old, 1)
        asked = await mailbox.take("g", "first", 1, SOON)
        return await state(mailbox, "a"), go_on, asked, new.attempt

    update, go_on, asked, attempt = run(story())
    assert update == Update([epoch_report(0)], JobState.RUNNING, None, "", 2)
    assert go_on is False
    assert asked == Retire()
    assert attempt == 2


def test_a_dead_incarnation_that_waits_for_work_is_not_given_any() -> None:
    async def story() -> tuple[object, Ticket]:
        mailbox = await mailbox_with()
        dead = asyncio.create_task(mailbox.take("g", "first", 0, SOON))
        await asyncio.sleep(0)
        await mailbox.join("g", "second")
        await mailbox.submit(job("a"))
        return await dead, await take(mailbox, "g", "second")

    dead, ticket = run(story())
    assert dead == Retire()
    assert (ticket.job.key, ticket.attempt) == ("a", 1)


def test_an_old_attempt_in_the_same_incarnation_is_not_heard() -> None:
    async def story() -> Update:
        mailbox = await mailbox_with("a", groups=("g", "h"))
        old = await take(mailbox)
        await mailbox.leave("g")
        await take(mailbox, "h")
        await mailbox.finish("g", "first", old, StageResult())
        return await state(mailbox, "a")

    assert run(story()).state is JobState.RUNNING


def test_a_resumed_job_does_not_double_its_reports() -> None:
    async def story() -> list[int]:
        mailbox = await mailbox_with("a")
        ticket = await take(mailbox)
        for epoch in range(3):
            await mailbox.report("g", "first", ticket, epoch_report(epoch))
        await mailbox.join("g", "second")
        ticket = await take(mailbox, "g", "second")
        for epoch in (2, 3):
            await mailbox.report("g", "second", ticket, epoch_report(epoch))
        return [report.epoch for report in (await state(mailbox, "a")).reports]

    assert run(story()) == [0, 1, 2, 3]


def test_another_group_takes_over_from_one_that_left() -> None:
    async def story() -> tuple[Ticket, dict[str, str]]:
        mailbox = await mailbox_with("a", groups=("g", "h"))
        await take(mailbox)
        await mailbox.leave("g")
        return await take(mailbox, "h"), await mailbox.groups()

    ticket, groups = run(story())
    assert (ticket.job.key, ticket.attempt) == ("a", 2)
    assert groups == {"h": "a"}


def test_a_job_whose_workers_die_every_time_fails_and_the_next_one_runs() -> None:
    async def story() -> tuple[Update, str]:
        mailbox = await mailbox_with("deadly", "harmless")
        for life in range(ATTEMPTS):
            assert (await take(mailbox, "g", f"life {life}" if life else "first")).attempt == life + 1
            await mailbox.join("g", f"life {life + 1}")
        return await state(mailbox, "deadly"), (await take(mailbox, "g", f"life {ATTEMPTS}")).job.key

    update, following = run(story())
    assert update.state is JobState.FAILED
    assert update.reason == f"{DIED}, {ATTEMPTS} times in a row; if it was killed for want of memory, {LESS_MEMORY}"
    assert following == "harmless"


async def lockstep_job(patience: float) -> tuple[Mailbox, Ticket]:
    mailbox = Mailbox(patience=patience)
    await mailbox.join("g", "first")
    await mailbox.submit(job("a", lockstep=True))
    return mailbox, await take(mailbox)


async def epoch(mailbox: Mailbox, ticket: Ticket, number: int) -> bool:
    await mailbox.report("g", "first", ticket, epoch_report(number))
    return await mailbox.proceed("g", "first", ticket, number)


def test_a_job_in_lockstep_runs_one_epoch_ahead_of_its_reader_and_no_more() -> None:
    async def story() -> list[bool]:
        mailbox, ticket = await lockstep_job(SOON)
        first = await epoch(mailbox, ticket, 0)
        second = asyncio.create_task(epoch(mailbox, ticket, 1))
        await asyncio.sleep(0.02)
        waited = not second.done()
        await mailbox.follow("a", 1, NOW)
        return [first, waited, await second]

    assert run(story()) == [True, True, True]


def test_a_job_in_lockstep_does_not_wait_for_ever() -> None:
    async def story() -> bool:
        mailbox, ticket = await lockstep_job(0.02)
        return all([await epoch(mailbox, ticket, number) for number in range(3)])

    assert run(story())


@pytest.mark.parametrize("event", ["stop", "close", "leave"])
def test_a_job_that_waits_for_its_reader_ends_when_nobody_wants_it(event: str) -> None:
    async def story() -> bool:
        mailbox, ticket = await lockstep_job(SOON)
        await epoch(mailbox, ticket, 0)
        waiting = asyncio.create_task(epoch(mailbox, ticket, 1))
        await asyncio.sleep(0.01)
        await {"stop": mailbox.stop, "leave": mailbox.leave}[event](
            "a" if event == "stop" else "g"
        ) if event != "close" else await mailbox.close()
        return await asyncio.wait_for(waiting, 1)

    assert run(story()) is False


def test_stopping_a_waiting_job_takes_it_out_of_the_queue() -> None:
    async def story() -> tuple[Update, str]:
        mailbox = await mailbox_with("a", "b")
        await mailbox.stop("a")
        return await state(mailbox, "a"), (await take(mailbox)).job.key

    update, following = run(story())
    assert update.state is JobState.CANCELLED
    assert following == "b"


def test_a_stopped_running_job_ends_as_cancelled() -> None:
    async def story() -> Update:
        mailbox = await mailbox_with("a")
        ticket = await take(mailbox)
        await mailbox.stop("a")
        assert not await mailbox.proceed("g", "first", ticket, 0)
        await mailbox.finish("g", "first", ticket, StageResult(stopped=True))
        return await state(mailbox, "a")

    assert run(story()).state is JobState.CANCELLED


def test_a_stopped_job_whose_worker_dies_is_not_run_again() -> None:
    async def story() -> tuple[Update, object]:
        mailbox = await mailbox_with("a")
        await take(mailbox)
        await mailbox.stop("a")
        await mailbox.join("g", "second")
        return await state(mailbox, "a"), await mailbox.take("g", "second", 0, NOW)

    update, ticket = run(story())
    assert update.state is JobState.CANCELLED
    assert ticket is None


def test_a_cancelled_job_submitted_again_goes_on() -> None:
    async def story() -> str:
        mailbox = await mailbox_with("a")
        await mailbox.stop("a")
        await mailbox.submit(job("a"))
        return (await take(mailbox)).job.key

    assert run(story()) == "a"


def test_what_is_submitted_together_is_there_together_for_a_waiting_worker() -> None:
    async def story() -> list[str]:
        mailbox = await mailbox_with()
        waiting = [asyncio.create_task(mailbox.take(group, "first", 0, SOON)) for group in ("g", "h")]
        await mailbox.join("h", "first")
        await asyncio.sleep(0)
        await mailbox.submit(job("single"), job("joint", "single"), job("other"))
        return [ticket.job.key for ticket in await asyncio.gather(*waiting)]  # type: ignore[union-attr]

    assert sorted(run(story())) == ["other", "single"]


def test_a_failed_need_fails_the_jobs_that_need_it_with_its_reason() -> None:
    async def story() -> tuple[Update, object]:
        mailbox = await mailbox_with("single")
        await mailbox.submit(job("joint", "single"))
        await mailbox.fail("g", "first", await take(mailbox), "diverged: loss is nan")
        following = asyncio.create_task(mailbox.follow("joint", 0, SOON))
        return await mailbox.take("g", "first", 1, NOW), await asyncio.wait_for(following, 1)

    ticket, update = run(story())
    assert ticket is None
    assert (update.state, update.reason) == (JobState.FAILED, "diverged: loss is nan")


def test_a_need_that_nobody_submitted_fails_the_job() -> None:
    async def story() -> Update:
        mailbox = await mailbox_with()
        await mailbox.submit(job("joint", "missing"))
        await mailbox.take("g", "first", 0, NOW)
        return await state(mailbox, "joint")

    update = run(story())
    assert update.state is JobState.FAILED
    assert "missing" in update.reason


def test_a_forgotten_job_leaves_no_trace_once_it_has_ended() -> None:
    async def story() -> list[str]:
        mailbox = await mailbox_with("a", "b")
        running = await take(mailbox)
        for key in "ab":
            await mailbox.stop(key)
            await mailbox.forget(key)
        before = await state(mailbox, "a")
        await mailbox.finish("g", "first", running, StageResult(stopped=True))
        return [before.state, *[(await state(mailbox, key)).reason for key in "ab"]]

    assert run(story()) == [JobState.RUNNING, "job a is not known", "job b is not known"]


def test_closing_retires_those_who_wait_and_ends_what_runs() -> None:
    async def story() -> list[object]:
        mailbox = await mailbox_with("a", groups=("g", "h"))
        ticket = await take(mailbox)
        waiting = asyncio.create_task(mailbox.take("h", "first", 0, SOON))
        await asyncio.sleep(0)
        await mailbox.submit(job("b"))
        await mailbox.submit(job("c"))
        await waiting
        await mailbox.close()
        last_rank = await mailbox.take("g", "first", 0, NOW)
        return [await mailbox.proceed("g", "first", ticket, 0), last_rank, await mailbox.take("g", "first", 1, SOON)]

    go_on, last_rank, following = run(story())
    assert go_on is False
    assert isinstance(last_rank, Ticket), "a rank gets the job that the others of its group have begun"
    assert following == Retire()


def test_when_every_group_is_broken_nothing_waits_for_ever() -> None:
    async def story() -> list[object]:
        mailbox = await mailbox_with("a", "b", groups=("g", "h"))
        await take(mailbox)
        await mailbox.broken("g", "out of memory")
        half = (await mailbox.problem(), (await state(mailbox, "a")).state, await mailbox.take("g", "first", 1, SOON))
        await mailbox.broken("h", "out of memory too")
        update = await mailbox.follow("a", 0, SOON)
        return [*half, await mailbox.problem(), update.state, update.reason]

    assert run(story()) == [
        "",
        JobState.WAITING,
        Retire(),
        "out of memory",
        JobState.CANCELLED,
        "out of memory",
    ]


def test_a_broken_group_that_works_again_is_no_problem() -> None:
    async def story() -> str:
        mailbox = await mailbox_with()
        await mailbox.broken("g", "the device was full")
        await mailbox.join("g", "second")
        await mailbox.submit(job("a"))
        await mailbox.report("g", "second", await take(mailbox, "g", "second"), epoch_report(0))
        return await mailbox.problem()

    assert run(story()) == ""


def test_a_group_that_dies_before_every_job_is_given_up() -> None:
    async def story() -> str:
        mailbox = Mailbox()
        for life in range(MAX_BARREN + 1):
            await mailbox.join("g", f"life {life}")
        return await mailbox.problem()

    assert "before it could take a job" in run(story())
