"""``mtl-search logs``: what a study on a cluster prints."""

import argparse
import sys

from mtl_search.commands.shared import ADDRESS, STUDY_NAME, study_jobs

HELP = "show what a study prints on a cluster, or last printed there"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--follow", action="store_true", help="go on until the job ends; Ctrl-C leaves the job running")
    parser.add_argument("--address", help=ADDRESS)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.cluster.study_job import printable
    from mtl_search.cluster.submit import exit_code_of, line_printer

    server, (job, *_) = study_jobs(arguments)
    if arguments.follow:
        return exit_code_of(server.follow(job.id, line_printer(sys.stdout)))
    sys.stdout.write(printable(server.log(job.id)))
    return 0
