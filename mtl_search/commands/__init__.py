"""Commands of ``mtl-search``: one file and one line each.

Every module has ``HELP``, ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit code; what takes
time to import is imported in ``run``.
"""

from types import ModuleType

from mtl_search.commands import (
    compare,
    export,
    extend,
    list_variants,
    logs,
    report,
    schema,
    search,
    status,
    stop,
    train,
    validate,
)

COMMANDS: dict[str, ModuleType] = {
    "search": search,
    "train": train,
    "validate": validate,
    "status": status,
    "logs": logs,
    "stop": stop,
    "report": report,
    "compare": compare,
    "export": export,
    "extend": extend,
    "list": list_variants,
    "schema": schema,
}
"""Command by its verb."""
KEEP_A_LOG = frozenset({"search", "train"})
"""Commands that write what other libraries say to the study's log; all others drop it."""
