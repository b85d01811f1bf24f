"""`meterwire` with changes to its centre, for destructive tests: `centre_process.py CHANGE[,CHANGE] ...`."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from central.landing import Landing
from central.sinks.sqlite import SqliteSink
from field.main import main

Patch = Callable[[type, str, object], None]
"""Puts another function in the place of a method."""
_VALUES = "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def no_inbox_row(patch: Patch = setattr) -> None:
    """The control: values land without the row of their batch, which is all that a centre remembers of it."""
    real = SqliteSink._sql

    def without(self: SqliteSink, statement: str) -> str:
        if statement.startswith("INSERT INTO inbox"):
            assert statement.endswith(_VALUES)
            statement = statement.removesuffix(_VALUES) + "SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE FALSE"
        return real(self, statement)

    patch(SqliteSink, "_sql", without)


def row_first(patch: Patch = setattr) -> None:
    """The control: the row of a batch is committed, and only then are its values landed."""
    real = SqliteSink._land_readings

    def apart(self: SqliteSink, cursor: Any, *what: Any) -> Any:
        cursor.execute("COMMIT")
        cursor.execute("BEGIN IMMEDIATE")
        return real(self, cursor, *what)

    patch(SqliteSink, "_land_readings", apart)


def dies_before_puback(patch: Patch = setattr) -> None:
    """SIGKILL when a batch with readings is committed, and the broker does not know yet."""
    real, die = Landing.receive_all, _second()

    def landed(of: Landing) -> int:
        return sum(of.counters[name] for name in ("readings", "readings.repeated", "batches.repeated"))

    def receive_all(self: Landing, messages: Sequence[tuple[str, bytes]]) -> None:
        before = landed(self)
        real(self, messages)
        if landed(self) > before:  # one of gaps alone repeats no reading
            die()

    patch(Landing, "receive_all", receive_all)


def dies_before_values(patch: Patch = setattr) -> None:
    """SIGKILL when a batch is known to be new, and none of its values has landed."""
    real, die = SqliteSink._land_readings, _second()

    def dying(self: SqliteSink, *what: Any) -> Any:
        die()
        return real(self, *what)

    patch(SqliteSink, "_land_readings", dying)


def _second() -> Callable[[], None]:
    """SIGKILL at the second call: the first batch of a life is the one of which the life before died."""
    calls = count(1)

    def die() -> None:
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


CHANGES = {change.__name__: change for change in (dies_before_puback, dies_before_values, no_inbox_row, row_first)}


def program(*changes: str) -> list[str]:
    """What runs the arguments of a centre with these changes."""
    return [sys.executable, "-P", str(Path(__file__)), ",".join(changes)]


if __name__ == "__main__":
    for name in filter(None, sys.argv.pop(1).split(",")):
        CHANGES[name]()
    main()
