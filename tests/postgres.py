"""A real PostgreSQL for tests: Debian's, run as an unprivileged user on a free loopback port; a new database a test."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.processes import free_port, wait_until
from tests.substitution import required_as_root

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "meterwire"
_numbers = count(1)


def _unprivileged() -> Mapping[str, object]:
    """How to run a server that refuses to run as root: as the package's own user, or as nobody."""
    if os.geteuid() != 0:
        return {}
    name = next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Postgres:
    """A PostgreSQL server that can be stopped, crashed and started again on the same port.

    fsync is off by default: what these tests kill is the process, and what it has written to the kernel outlives it.
    All else, synchronous_commit included, is as in a real one.
    """

    def __init__(self, directory: Path, *, fsync: bool = False, shared_buffers: str = "64MB") -> None:
        self.directory = directory
        self._settings = ("-c", f"fsync={'on' if fsync else 'off'}", "-c", f"shared_buffers={shared_buffers}")
        self.port = free_port()
        self.log = directory / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._as = _unprivileged()
        if self._as:
            os.chown(directory, self._as["user"], self._as["group"])  # type: ignore[arg-type]
        subprocess.run(
            [BIN / "initdb", "-D", directory / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C",
             "--no-sync"],
            cwd=directory, check=True, stdout=subprocess.DEVNULL, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            **self._as,  # type: ignore[call-overload]
        )  # fmt: skip

    def url(self, database: str = "postgres") -> str:
        """Where to connect, as in central.toml."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> "Postgres":
        """Start it, or start it again after a crash, and return when it takes queries."""
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "postgres", "-D", self.directory / "data", "-p", str(self.port), "-k", self.directory,
                 "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=20", *self._settings],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, **self._as,  # type: ignore[call-overload]
            )  # fmt: skip
        assert self._process is not None
        wait_until(self._answers, self._process, self.log)
        return self

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """SIGQUIT, PostgreSQL's own way to crash a whole server: nothing is written, the next start recovers."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """SIGINT: connections are cut, everything is written."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def create(self) -> str:
        """A new, empty database: its URL."""
        name = f"test_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Postgres]:
    """A running server for the whole run. A test that stops it starts it again."""
    if not os.access(BIN / "postgres", os.X_OK):
        required_as_root("postgresql-15")
        pytest.skip("needs PostgreSQL 15 (Debian's postgresql-15; no wheel was found that runs a server)")
    directory = Path(tempfile.mkdtemp(prefix="mw-pg-"))
    cluster = Postgres(directory).start()
    try:
        yield cluster
    finally:
        cluster.kill()
        shutil.rmtree(directory)


@pytest.fixture
def postgres(postgres_cluster: Postgres) -> str:
    """The URL of a new, empty database."""
    return postgres_cluster.create()
