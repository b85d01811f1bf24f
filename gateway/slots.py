"""The slots of a task: instants at multiples of its period, counted from the site's local midnight."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from config.model import TaskEntry

_EPOCH = date(1970, 1, 1)


class Slots:
    """The grid of slots in a time zone. All instants are UTC milliseconds.

    Counting begins anew at each local midnight, so that a day of 23 or 25 hours, where a zone has such, changes only
    the slots of that day.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._midnight = lru_cache(maxsize=16)(self._find_midnight)
        self._from = self._until = 0
        self._date = _EPOCH

    def day(self, at: int) -> int:
        """The local day that holds the instant, in days since 1970-01-01."""
        self._locate(at)
        return (self._date - _EPOCH).days

    def bounds(self, day: int) -> tuple[int, int]:
        """The first instant of a local day, and that of the next one."""
        date = _EPOCH + timedelta(days=day)
        return self._midnight(date), self._midnight(date + timedelta(days=1))

    def current(self, every_s: int, at: int) -> int:
        """The latest slot that is not after the instant."""
        self._locate(at)
        return self._from + (at - self._from) // (every_s * 1000) * (every_s * 1000)

    def of(self, task: TaskEntry, at: int) -> int:
        """The slot of a task whose time it is: its offset after the slot."""
        return self.current(task.every_s, at - task.offset_s * 1000)

    def following(self, every_s: int, slot: int) -> int:
        """The slot after this one."""
        self._locate(slot)
        return min(slot + every_s * 1000, self._until)

    def between(self, every_s: int, after: int, before: int) -> Iterator[int]:
        """The slots after one instant and before another, both left out."""
        slot = self.following(every_s, self.current(every_s, after))
        while slot < before:
            yield slot
            slot = self.following(every_s, slot)

    def _locate(self, at: int) -> None:
        """Set the local day that holds the instant; nearly always it is the one of the call before."""
        if self._from <= at < self._until:
            return
        self._date = datetime.fromtimestamp(at / 1000, self._zone).date()
        self._from = self._midnight(self._date)
        self._until = self._midnight(self._date + timedelta(days=1))

    def _find_midnight(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()) * 1000
