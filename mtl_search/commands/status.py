"""``mtl-search status``: who runs a study, and how far it has come."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_search.commands.shared import ADDRESS, OUTPUT, STUDY_NAME, print_line, study_folder, study_jobs

if TYPE_CHECKING:
    from mtl_search.cluster.study_job import StudyJob

HELP = "say who runs a study, here or on a cluster, and how far it has come"
_MOST_JOBS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--address", help=f"{ADDRESS}; without any, of a study on this machine")
    parser.add_argument("--output", help=OUTPUT)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.cluster.study_job import printable
    from mtl_search.errors import MtlSearchError, StudyError
    from mtl_search.pool.addresses import address_of
    from mtl_search.report.terminal import status_lines

    try:
        found = study_jobs(arguments) if address_of(arguments.address, server=True) is not None else None
    except StudyError:
        if arguments.address is not None:
            raise
        found = None  # a cluster of the environment, whose jobs do not run this study
    if found is None:
        for line in status_lines(study_folder(arguments)):
            print_line(line)
        return 0
    server, jobs = found
    for job in jobs[:_MOST_JOBS]:
        print_line(_told(job))
    newest = jobs[0]
    if newest.ongoing and (printed := server.log(newest.id).rstrip().splitlines()):
        print_line(f"  last line: {printable(printed[-1])}")
    if arguments.output is None and ("://" in newest.storage or Path(newest.storage).expanduser().is_dir()):
        arguments.output = newest.storage
    try:
        lines = status_lines(study_folder(arguments))
    except MtlSearchError as error:
        where = f" ({newest.storage})" if newest.storage else ""
        lines = [f"its storage{where} is not seen from here, so its trials are not: {error}"]
    for line in lines:
        print_line(line)
    if newest.state not in ("PENDING", "RUNNING", "SUCCEEDED") and newest.again:
        print_line(f"to go on: {newest.again}")
    return 0


def _told(job: "StudyJob") -> str:
    """A job in a line."""
    began = "" if job.started is None else time.strftime(", begun %Y-%m-%d %H:%M:%S", time.localtime(job.started))
    minutes = "" if job.started is None else f", {((job.ended or time.time()) - job.started) / 60:.1f} minutes"
    code = "" if job.exit_code is None else f" with code {job.exit_code}"
    return f"job {job.id}: {job.state.lower()}{code}{began}{minutes}"
