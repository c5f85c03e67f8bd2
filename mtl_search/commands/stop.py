"""``mtl-search stop``: a study on a cluster, interrupted so that it can go on later."""

import argparse

from mtl_search.commands.shared import ADDRESS, STUDY_NAME, print_line, study_jobs

HELP = "stop a study on a cluster; nothing finished is lost"
_LAST_LINES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--address", help=ADDRESS)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.cluster.study_job import printable

    server, jobs = study_jobs(arguments)
    ongoing = [job for job in jobs if job.ongoing]
    if not ongoing:
        print_line(f"nothing to stop: job {jobs[0].id} has ended ({jobs[0].state.lower()})")
        return 0
    for job in ongoing:
        ended = server.stop(job.id)
        for line in server.log(job.id).splitlines()[-_LAST_LINES:]:
            print_line(f"  {printable(line)}")
        print_line(f"job {job.id} {ended.state.lower()}; {f'to go on: {job.again}' if job.again else ended.message}")
    return 0
