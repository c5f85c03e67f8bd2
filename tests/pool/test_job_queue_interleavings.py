"""Random stories of a search and its worker groups: no job is lost, none is done twice at once."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.jobs import NODE_LOST, Job, JobState, Lease, Reregister, Shutdown
from mtl_search.storage.reports import EpochReport, StageResult

GROUPS = ("g", "h")
KEYS = tuple("abcdef")
NOW = 0
RETRIES = 3


async def cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class Stories(RuleBasedStateMachine):
    """Two groups of two ranks each take, report, finish, fail and die while jobs come and are stopped."""

    dead = Bundle("dead")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.job_queue = JobQueue(len(GROUPS), patience=NOW, max_retries=RETRIES)
        self.lives: dict[str, int] = {}
        self.joined: dict[str, set[str]] = {group: set() for group in GROUPS}
        self.taken: dict[str, list[Lease]] = {group: [] for group in GROUPS}
        self.working: dict[str, Lease] = {}
        self.submitted: dict[str, Job] = {}
        self.stopped: set[str] = set()
        self.attempts: dict[str, list[int]] = {}
        self.ended: dict[str, JobState] = {}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(cancel_the_rest())
            self.loop.close()

    def ask(self, verb: str, *words: Any) -> Any:
        return self.loop.run_until_complete(getattr(self.job_queue, verb)(*words))

    @rule(number=st.integers(0, len(KEYS) - 1), need=st.integers(0, len(KEYS) - 1), lockstep=st.booleans())
    def submit(self, number: int, need: int, lockstep: bool) -> None:
        key = KEYS[number]
        needs = (KEYS[need],) if need < number and KEYS[need] in self.submitted else ()
        job = self.submitted.setdefault(key, Job(key, None, needs, lockstep))
        self.ask("submit", job)
        if self.ended.get(key) is JobState.CANCELLED:
            del self.ended[key]
            self.attempts.pop(key, None)
        self.stopped.discard(key)

    @rule(target=dead, group=st.sampled_from(GROUPS))
    def restart(self, group: str) -> Any:
        """A group's processes are killed and come back; what the dead ones still say comes later."""
        before = (group, str(self.lives.get(group, 0)), self.working.pop(group, None))
        self.lives[group] = self.lives.get(group, 0) + 1
        self.taken[group] = []
        self.joined[group].add(str(self.lives[group]))
        self.ask("join", group, str(self.lives[group]))
        return before

    @rule(target=dead, group=st.sampled_from(GROUPS), fault=st.sampled_from(("", NODE_LOST)))
    def depart(self, group: str, fault: str) -> Any:
        before = (group, str(self.lives.get(group, 0)), self.working.pop(group, None))
        self.lives[group] = self.lives.get(group, 0) + 1
        self.taken[group] = []
        self.ask("down", group, fault)
        return before

    @precondition(lambda self: any(group not in self.working for group in GROUPS))
    @rule(group=st.sampled_from(GROUPS))
    def take(self, group: str) -> None:
        if group in self.working:
            return
        place = (group, str(self.lives.get(group, 0)), len(self.taken[group]))
        first, second = self.ask("take", *place, NOW), self.ask("take", *place, NOW)
        assert first == second or first is None, "ranks agree"
        lease = second
        if isinstance(lease, Lease):
            key = lease.job.key
            assert key not in self.ended
            assert key not in self.stopped
            assert all(other.job.key != key for other in self.working.values()), "nobody else has it"
            assert all(self.ended.get(need) is JobState.DONE for need in lease.job.needs)
            assert lease.attempt == len(self.attempts.setdefault(key, [])) + 1
            self.attempts[key].append(lease.attempt)
            self.taken[group].append(lease)
            self.working[group] = lease
        elif lease is None:
            assert group in self.ask("groups")

    @rule(group=st.sampled_from(GROUPS), epoch=st.integers(0, 3))
    def work(self, group: str, epoch: int) -> None:
        if group in self.working:
            place = (group, str(self.lives[group]), self.working[group])
            self.ask("report", *place, EpochReport(epoch, 0.0, 0.0))
            verdicts = [self.ask("proceed", *place, epoch) for _ in range(2)]
            assert verdicts[0] == verdicts[1]

    @rule(group=st.sampled_from(GROUPS), end=st.sampled_from(("finish", "stop", "fail")))
    def end(self, group: str, end: str) -> None:
        if group not in self.working:
            return
        lease = self.working.pop(group)
        words = {"finish": StageResult(key=group), "stop": StageResult(stopped=True), "fail": "diverged"}[end]
        self.ask("fail" if end == "fail" else "finish", group, str(self.lives[group]), lease, words)
        key = lease.job.key
        gave_way = end == "stop" and key not in self.stopped  # nobody asked for it: the job goes on elsewhere
        state = {"finish": JobState.DONE, "stop": JobState.CANCELLED, "fail": JobState.FAILED}[end]
        if gave_way:
            state = JobState.WAITING
        else:
            self.ended[key] = state
        assert self.ask("follow", key, 9, 0).state is state

    @rule(who=consumes(dead), verb=st.sampled_from(("finish", "fail", "report", "take", "proceed")))
    def the_dead_speak(self, who: Any, verb: str) -> None:
        group, life, lease = who
        if verb == "take":
            assert self.ask("take", group, life, 0, NOW) == (Shutdown() if life in self.joined[group] else Reregister())
        elif lease is not None and life in self.joined[group]:
            words = {
                "finish": StageResult(key="of the dead"),
                "fail": "of the dead",
                "report": EpochReport(99, 0.0, 0.0),
                "proceed": 99,
            }
            assert not self.ask(verb, group, life, lease, words[verb])

    @rule(key=st.sampled_from(KEYS))
    def stop(self, key: str) -> None:
        self.ask("stop", key)
        if key in self.submitted and key not in self.ended:
            self.stopped.add(key)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        if not hasattr(self, "job_queue"):
            return
        running = [key for key in self.ask("groups").values() if key]
        assert sorted(running) == sorted(lease.job.key for lease in self.working.values())
        for key in self.submitted:
            update = self.ask("follow", key, 0, 0)
            epochs = [report.epoch for report in update.reports]
            assert epochs == sorted(set(epochs))
            assert 99 not in epochs
            if key in self.ended:
                assert update.state is self.ended[key]
                continue
            assert (update.state is JobState.RUNNING) == (key in running)
            if update.state.ended:  # by the job queue itself: stopped, its workers died, or what it needs failed
                assert update.state is not JobState.DONE
                if update.state is JobState.CANCELLED:
                    assert key in self.stopped or self.ask("problem")
                elif "times in a row" in update.reason:
                    assert len(self.attempts[key]) > RETRIES
                self.ended[key] = update.state

    @rule()
    def work_everything_off(self) -> None:
        """A group that comes back finds every job that is left, each once."""
        for group in GROUPS:
            while group in self.working:
                self.end(group, "finish")
        if GROUPS[0] not in self.ask("groups"):
            self.restart(GROUPS[0])
        for _ in range(len(KEYS) + 1):
            self.take(GROUPS[0])
            self.end(GROUPS[0], "finish")
        self.every_job_is_in_one_place()
        assert set(self.ended) == set(self.submitted)


Stories.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStories = Stories.TestCase
