"""What the centre has asked of gateways, in the database: one row a request, and what came of it."""

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from central.sinks.asked import Asked
from central.sinks.rows import storable
from protocols.messages import Request


class AskingSink(ABC):
    """The part of a sink that keeps requests; over the same connection as the rest of it."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def _one(self, statement: str, arguments: tuple[object, ...]) -> Any: ...

    @abstractmethod
    def _all(self, statement: str, arguments: tuple[object, ...]) -> list[Any]: ...

    @abstractmethod
    def _sql(self, statement: str) -> Any: ...

    @abstractmethod
    def _time(self, ms: int | None) -> object: ...

    @abstractmethod
    def _ms(self, time: Any) -> int | None: ...

    def ask(self, request: Request, *, lost: str = "[]") -> None:
        """See Sink."""
        arguments = json.dumps(dict(request.arguments), ensure_ascii=False, sort_keys=True)
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO request (request, gateway, action, arguments, lost, sent_at, expires_at)"
                          " VALUES (?, ?, ?, ?, ?, ?, ?)"),
                (request.request, request.gateway, request.action, arguments, lost, self._time(request.sent_at),
                 self._time(request.expires_at)),
            )  # fmt: skip

    def answered(self, gateway: str, request: bytes, *, status: str, detail: str, at: int) -> Asked | None:
        """See Sink."""
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("UPDATE request SET status = ?, detail = ?, replied_at = ?"
                          " WHERE request = ? AND gateway = ? AND status IS NULL"),
                (storable(status), storable(detail), self._time(at), request, gateway),
            )  # fmt: skip
            if cursor.rowcount == 0:
                return None
            cursor.execute(self._sql(f"SELECT {_COLUMNS} FROM request WHERE request = ?"), (request,))
            return self._asked(cursor.fetchone())

    def last_asked(self, gateway: str, action: str) -> Asked | None:
        """See Sink."""
        row = self._one(
            f"SELECT {_COLUMNS} FROM request WHERE gateway = ? AND action = ? ORDER BY sent_at DESC LIMIT 1",
            (gateway, action),
        )
        return None if row is None else self._asked(row)

    def landed_epochs(self, gateway: str) -> list[tuple[int, int]]:
        """See Sink."""
        rows = self._all("SELECT epoch, max(received_at) FROM inbox WHERE gateway = ? GROUP BY epoch", (gateway,))
        return [(epoch, self._ms(received_at) or 0) for epoch, received_at in rows]

    def oldest_record(self, gateway: str, epoch: int, upto: int) -> int:
        """See Sink."""
        row = self._one(
            "SELECT oldest_at, received_at FROM inbox WHERE gateway = ? AND epoch = ? AND seq <= ?"
            " ORDER BY seq DESC LIMIT 1",
            (gateway, epoch, upto),
        ) or self._one(
            "SELECT oldest_at, received_at FROM inbox WHERE gateway = ? AND epoch = ? ORDER BY seq LIMIT 1",
            (gateway, epoch),
        )  # fmt: skip
        times = [] if row is None else [self._ms(time) for time in row]
        return min((time for time in times if time is not None), default=0)

    def _asked(self, row: Any) -> Asked:
        request, gateway, action, arguments, lost, sent_at, expires_at, status, detail, replied_at = row
        return Asked(bytes(request), gateway, action, arguments, lost, self._ms(sent_at) or 0,
                     self._ms(expires_at) or 0, status, detail, self._ms(replied_at))  # fmt: skip


_COLUMNS = ", ".join(Asked._fields)
