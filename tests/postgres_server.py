"""A real PostgreSQL on a free port with a folder of its own, from the system's package."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from mlflow_server import free_port

PATIENCE = 60.0
PASSWORD = "planted-database-password"
_HOMES = "usr/lib/postgresql/*/bin", "usr/pgsql-*/bin"  # of Debian and of Red Hat


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest; None where PostgreSQL is not installed."""
    found = [folder for home in _HOMES for folder in Path("/").glob(home) if (folder / "initdb").exists()]
    on_path = shutil.which("initdb")
    newest = max(found, key=lambda folder: int("".join(filter(str.isdigit, str(folder)))), default=None)
    return newest or (Path(on_path).parent if on_path else None)


def _somebody() -> dict[str, Any]:
    """Who runs it: PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return {}
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Postgres:
    """One server; its databases are made by name.

    Args:
        bin: Folder of PostgreSQL's programs.
    """

    def __init__(self, bin: Path) -> None:
        self._bin, self._who, self.port = bin, _somebody(), free_port()
        self._home = Path(tempfile.mkdtemp(prefix="mtl_search_pg_"))  # pytest's own folders let nobody else in
        self._process: subprocess.Popen[bytes] | None = None
        if self._who:
            os.chown(self._home, self._who["user"], self._who["group"])

    def start(self) -> None:
        data = str(self._home / "data")
        initdb = [str(self._bin / "initdb"), "-D", data, "-U", "anna", "-E", "UTF8", "--locale=C", "-N"]
        initdb += ["-A", "scram-sha-256", f"--pwfile={self._home / 'password'}"]
        postgres = [str(self._bin / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-F"]
        with (self._home / "log").open("ab") as log:
            said: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": "/", **self._who}
            if not (self._home / "data").exists():
                (self._home / "password").write_text(PASSWORD)
                subprocess.run(initdb, check=True, **said)
            self._process = subprocess.Popen([*postgres, "-k", ""], **said)
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, (self._home / "log").read_text()
            assert time.monotonic() < until, (self._home / "log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def database(self, name: str) -> str:
        """Make a database; its address, without the password."""
        import psycopg

        address = f"postgresql://anna@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(address, password=PASSWORD, autocommit=True) as connection:
            connection.execute(f'create database "{name}"')
        return f"postgresql+psycopg://anna@127.0.0.1:{self.port}/{name}"

    def crash(self) -> None:
        """All of its processes at once, as when its machine goes; ``start`` has it recover."""
        assert self._process is not None
        for process in (*psutil.Process(self._process.pid).children(), self._process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(PATIENCE)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # its fast way out; the gentle one waits for every client
            self._process.wait(PATIENCE)
        shutil.rmtree(self._home)
