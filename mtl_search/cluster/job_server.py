"""The job server: a cluster's studies as Ray jobs, submitted, found by their study, followed and stopped.

The commands call it from outside of the cluster; what it starts is the same command line there.
"""

import asyncio
import contextlib
import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, final

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from mtl_search.cluster.study_job import STUDY, StudyJob, printable
from mtl_search.errors import StudyError
from mtl_search.pool.addresses import asks_for_a_job, without_environment

_CLOSING = 180
"""Seconds that a stopped study has to close its runs; Ray's own default of 3 would cut that short."""
_AWAY = 120.0
"""Seconds without an answer after which nobody waits for the server any longer."""
_TRIES = 3
"""How often a cluster is asked for a client: the process that Ray starts for each may die as it starts."""
_TOKEN = (
    "the cluster asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` says there"
)


def _client(address: str) -> JobSubmissionClient:
    with without_environment():
        for _ in range(_TRIES - 1):
            with contextlib.suppress(ConnectionAbortedError):
                return JobSubmissionClient(address)
        return JobSubmissionClient(address)


@final
class JobServer:
    """A cluster's job server.

    Args:
        address: ``http(s)://HOST:PORT`` of the dashboard, or one that tells it: ``ray://``, ``auto``, ``HOST:PORT``.

    Attributes:
        url: Of the dashboard.

    Raises:
        StudyError: Nobody answers there, or asks for a token.
    """

    def __init__(self, address: str) -> None:
        # The first two set their own level when they are imported.
        for module in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "client_builder"):
            logging.getLogger(f"ray.{module}").setLevel(logging.WARNING)
        try:
            self._client = _client(address)
        except AuthenticationError as error:
            raise StudyError(f"{address}: {_TOKEN}") from error
        except (OSError, RuntimeError, ValueError) as error:  # OSError: those of requests too
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = printable(" ".join(dict.fromkeys([*lines[:1], *lines[-1:]])))  # what, and what it came from
            hint = "" if address.startswith("http") else "; give the dashboard's own address, http://HOST:8265"
            at = "" if asks_for_a_job(address) else "of a running Ray "
            raise StudyError(f"no job server {at}answers at {address} ({reason}){hint}") from error
        self.url = self._client.get_address()

    def probe(self, script: str, requirements: list[str], mark: str) -> dict[str, Any]:
        """Run a short script on the cluster.

        Args:
            script: Its text.
            requirements: Its argument.
            mark: What begins the line of its answer.

        Returns:
            What it tells.

        Raises:
            StudyError: It cannot run, or says nothing.
        """
        command = f"python -c {shlex.quote(script)} {shlex.quote(json.dumps(requirements))}"
        job = self._submit(command, {}, {})
        deadline = time.monotonic() + _AWAY
        while not self._client.get_job_status(job).is_terminal():
            if time.monotonic() > deadline:
                self._client.stop_job(job)
                raise StudyError(
                    f"{self.url} took a job and did not begin it for {_AWAY:.0f} s; see `ray status` there"
                )
            time.sleep(0.2)
        log = self._client.get_job_logs(job)
        answer = next((line for line in log.splitlines() if line.startswith(mark)), None)
        if answer is None:
            message = self._client.get_job_info(job).message or ""
            last = printable((log.strip() or message.strip() or "it said nothing").splitlines()[-1])
            raise StudyError(f"{self.url} runs jobs, but no `python` that Ray is installed for: {last}")
        self._client.delete_job(job)
        told: dict[str, Any] = json.loads(answer.removeprefix(mark))
        return told

    def submit(self, study: str, command: str, environment: Mapping[str, Any], notes: Mapping[str, str]) -> str:
        """Start a study's driver on the cluster.

        Args:
            study: Its name.
            command: What runs there.
            environment: Ray's runtime environment: folder, package, pins.
            notes: Further metadata.

        Returns:
            The job's id.

        Raises:
            StudyError: The server refuses.
        """
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(_CLOSING), **environment.get("env_vars", {})}
        name = f"{study}-{os.urandom(4).hex()}"
        return self._submit(command, {**environment, "env_vars": variables}, {STUDY: study, **notes}, name)

    def _submit(self, command: str, environment: dict[str, Any], notes: dict[str, str], name: str | None = None) -> str:
        try:
            submitted: str = self._client.submit_job(
                entrypoint=command, runtime_env=environment, metadata=notes, submission_id=name
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = printable(str(error).strip().splitlines()[-1][:300])
            raise StudyError(f"{self.url} does not take the job: {reason}") from error
        return submitted

    def jobs_of(self, study: str) -> list[StudyJob]:
        """A study's jobs: those that run, then the others, of either kind the one that was last at work first.

        Raises:
            StudyError: It has none here, or the server is away.
        """
        listed = self._asked(self._client.list_jobs)
        mine = [each for each in listed if each.submission_id and (each.metadata or {}).get(STUDY) == study]
        if not mine:
            raise StudyError(f"no job of study {study!r} at {self.url}")
        return sorted(map(StudyJob.of, mine), key=StudyJob.last_at_work, reverse=True)

    def job(self, job: str) -> StudyJob:
        """A job as it is now."""
        return StudyJob.of(self._asked(lambda: self._client.get_job_info(job)))

    def log(self, job: str) -> str:
        """What a job has printed so far."""
        text: str = self._asked(lambda: self._client.get_job_logs(job))
        return text

    def stop(self, job: str) -> StudyJob:
        """Interrupt a job and wait until it has closed its runs and ended.

        Raises:
            StudyError: It does not end.
        """
        self._asked(lambda: self._client.stop_job(job))
        deadline = time.monotonic() + _CLOSING + 20
        while (now := self.job(job)).ongoing:
            if time.monotonic() > deadline:
                raise StudyError(f"job {job} does not end; see {self.url}")
            time.sleep(0.5)
        return now

    def follow(self, job: str, notify: Callable[[str], object]) -> StudyJob:
        """Tell what a job prints, from its first line on, until it ends; a connection that breaks is made again.

        Args:
            job: Its id.
            notify: Told each piece of text.

        Returns:
            The job, ended.

        Raises:
            StudyError: The server is away for long.
        """
        heard = 0

        def tell(text: str, place: int) -> None:
            nonlocal heard
            if place + len(text) > heard:
                notify(printable(text[max(heard - place, 0) :]))
                heard = place + len(text)

        async def listen() -> None:
            place = 0
            async for text in self._client.tail_job_logs(job):
                tell(text, place)
                place += len(text)

        while True:
            with contextlib.suppress(RuntimeError, aiohttp.ClientError, OSError):
                asyncio.run(listen())
            now = self.job(job)
            if not now.ongoing:
                tell(self.log(job), 0)  # what came between the last message and the end
                return self.job(job)
            time.sleep(1.0)

    def _asked(self, question: Callable[[], Any]) -> Any:
        """The server's answer; a server that is away for a while is asked again."""
        deadline = time.monotonic() + _AWAY
        while True:
            try:
                return question()
            except AuthenticationError as error:
                raise StudyError(f"{self.url}: {_TOKEN}") from error
            except OSError as error:
                if time.monotonic() > deadline:
                    raise StudyError(
                        f"{self.url} has not answered for {_AWAY:.0f} s: {type(error).__name__}"
                    ) from error
                time.sleep(2.0)
            except RuntimeError as error:
                raise StudyError(f"{self.url}: {printable(str(error).strip().splitlines()[-1][:300])}") from error
