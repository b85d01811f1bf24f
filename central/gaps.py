"""Looking into the gap table without disturbing what lands: read-only, from another process if need be."""

from collections.abc import Iterator

from central.look import looking
from central.sinks.base import GapRow
from central.sinks.sql import select_gaps


def gaps(
    database: str, *, meter: str | None = None, since: int = 0, until: int | None = None, closed: bool = False
) -> Iterator[GapRow]:
    """Gaps by meter and slot: since inclusive, until exclusive, UTC ms; the closed ones only if asked.

    database is as in central.toml. Raises SinkAway when it is not there, SinkUnfit when it is something else;
    nothing is ever made by looking.
    """
    with looking(database) as look:
        query = select_gaps(look.time, meter=meter, since=since, until=until, closed=closed)
        for name, task, slot, fault, detail, opened_at, closed_at in look.rows(*query):
            yield GapRow(name, task, look.ms(slot) or 0, fault, detail, look.ms(opened_at) or 0, look.ms(closed_at))
