"""Looking into the event table, as `central.gaps` does into that of gaps."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from central.look import looking


class EventRow(NamedTuple):
    """Something that happened at a gateway, or at a meter of it (`meter` None: at the gateway). at: UTC ms."""

    at: int
    gateway: str
    meter: str | None
    name: str
    detail: dict[str, str | int]


def events(
    database: str, *, gateway: str | None = None, meter: str | None = None, name: str | None = None, since: int = 0,
    until: int | None = None,
) -> Iterator[EventRow]:  # fmt: skip
    """Events by time: since inclusive, until exclusive, UTC ms; only these, where one is named.

    database is as in central.toml. Raises SinkAway when it is not there, SinkUnfit when it is something else.
    """
    with looking(database) as look:
        chosen = [("gateway = ?", gateway), ("meter = ?", meter), ("name = ?", name), ("at >= ?", look.time(since)),
                  ("at < ?", None if until is None else look.time(until))]  # fmt: skip
        conditions = [(condition, value) for condition, value in chosen if value is not None]
        where = " AND ".join(condition for condition, _ in conditions)
        for of, at, about, word, detail in look.rows(
            f"SELECT gateway, at, meter, name, detail FROM event WHERE {where}"
            " ORDER BY at, gateway, name, meter, detail",
            [value for _, value in conditions],
        ):
            yield EventRow(look.ms(at) or 0, of, about, word, json.loads(detail))
