"""The command line: a verb -> its command, and errors -> exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mtl_search.commands import COMMANDS, KEEP_A_LOG
from mtl_search.display.redirect_output import silence_libraries
from mtl_search.errors import MtlSearchError, ProblemsError

_SHELLS = ("bash", "zsh", "tcsh")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if it did what was asked, 1 if nothing succeeded, 2 for the user's mistake, 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except MtlSearchError as error:
        lines = [str(p) for p in error.problems] if isinstance(error, ProblemsError) else [str(error)]
        for line in lines:
            sys.stderr.write(f"error: {line}\n")
        return error.exit_code
    except PermissionError as error:  # of another user's files
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: cannot be read or written ({error.strerror})\n")
        return MtlSearchError.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has had enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtl-search", description="Turn one backbone and N related tasks into the best single multi-task model."
    )
    parser.add_argument("--version", action=_PrintVersion, help="print the version")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=_SHELLS,
        metavar="SHELL",
        help=f"print what completes this command in a shell: {', '.join(_SHELLS)}",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb, command in COMMANDS.items():
        added = verbs.add_parser(verb, help=command.HELP, description=command.HELP)
        command.add_arguments(added)
        added.set_defaults(run=command.run if verb in KEEP_A_LOG else silence_libraries()(command.run))
    return parser


class _PrintVersion(argparse.Action):
    """Prints the version of the installed package, which only this option looks up."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('mtl_search')}\n")
        parser.exit()


class _PrintCompletion(argparse.Action):
    """Prints a shell's completion of all verbs and options."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, shell: Any, option: str | None = None) -> None:
        import shtab

        sys.stdout.write(shtab.complete(parser, shell))
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
