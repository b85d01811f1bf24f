"""Whether one voice or two speak by an address: told from values that should hardly move."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from protocols.capture import Value

SHOWN_MAX = 6
"""Values that are shown to people."""
STEP_FREE = Decimal("0.1")
"""What an energy may rise by at once, whatever the time between: registers move in steps."""


@dataclass(frozen=True, slots=True)
class Voices:
    """More than one voice was heard. shown: the values as they came. by_turns: it went to another value and came back;
    otherwise it went to another value once, and stayed."""

    shown: tuple[str, ...]
    by_turns: bool


def voices(series: Sequence[tuple[float, Value]], *, power_kw_max: Decimal) -> Voices | None:
    """More than one voice in the values of one steady item with their times in seconds; None for a single one.

    A text stays as it is. An energy (a number) goes up, at most as fast as power_kw_max."""
    told = [(at, value) for at, value in series if value.plain is not None]
    tracks: list[tuple[float, Value]] = []
    changes, track = 0, -1
    for at, value in told:
        followed = [n for n, one in enumerate(tracks) if _follows(one, (at, value), power_kw_max)]
        mine = track if track in followed else followed[-1] if followed else len(tracks)
        if mine == len(tracks):
            tracks.append((at, value))
        tracks[mine] = (at, value)
        changes += track not in (-1, mine)
        track = mine
    if len(tracks) < 2:
        return None
    shown = tuple(str(value.plain) for _, value in told[:SHOWN_MAX])
    return Voices(shown=shown, by_turns=changes >= 2)


def _follows(before: tuple[float, Value], after: tuple[float, Value], power_kw_max: Decimal) -> bool:
    """Whether one meter can have said both."""
    (then, first), (now, second) = before, after
    if first.number is None or second.number is None:
        return first.plain == second.plain
    risen = second.number - first.number
    return 0 <= risen <= STEP_FREE + power_kw_max * Decimal(now - then) / 3600
