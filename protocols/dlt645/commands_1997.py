"""What else is said to a DL/T 645-1997 meter: writing, setting its clock and address, its rate.

Nothing here is sent by any command or driver, as with `commands`. Known from implementations and one live log; the
data of 03 (read again), 0F (password) and 10 (clear demand) are in neither, so there is nothing for them.
"""

from protocols.bcd import low_first
from protocols.dialogue import Ask
from protocols.dlt645 import moment
from protocols.dlt645.authority import hexed
from protocols.dlt645.codes import Edition
from protocols.dlt645.commands import WRITE_MAX, Command, confirmed_or_refused, one_meter
from protocols.dlt645.frame import BROADCAST, OVERHEAD, Frame


def write(address: str, di: str, data: bytes, password: str, *, preamble: int = 4) -> Command:
    """04: set an identifier (4 hex digits); password: 8 hex digits, high byte first; data in wire order."""
    told = hexed(di, 2, "an identifier") + hexed(password, 4, "a password") + data
    if len(told) > WRITE_MAX:
        raise ValueError(f"expected at most {WRITE_MAX} bytes in a write, got {len(told)}")
    return _command(one_meter(address), 0x04, told, preamble)


def set_time(iso: str, *, preamble: int = 4) -> Command:
    """08: tell all meters the time, `2026-11-21T15:08:30`. Nobody answers."""
    found = moment.parts_of(iso)
    if len(found) != 6:
        raise ValueError(f"expected a time to the second, got {iso!r}")
    return _command(BROADCAST, 0x08, low_first(moment.join(found, "YYMMDDhhmmss")), preamble)


def write_address(new: str, *, address: str = BROADCAST, preamble: int = 4) -> Command:
    """0A: give a meter another address: that with the old one, or the only one on the line.

    Whether it answers with the old or the new address is not known: both are taken.
    """
    asked = address if address == BROADCAST else one_meter(address)
    return _command(asked, 0x0A, low_first(one_meter(new)), preamble, also=new)


def change_baud(address: str, word: int, *, preamble: int = 4) -> Command:
    """0C: another rate, by the meter's own rate word (one byte)."""
    return _command(one_meter(address), 0x0C, bytes((word,)), preamble)


def _command(address: str, function: int, told: bytes, preamble: int, *, also: str | None = None) -> Command:
    broadcast = address == BROADCAST and also is None

    def accepts(frame: Frame) -> bool:
        if (
            broadcast
            or not frame.from_meter
            or frame.more
            or frame.function != function
            or frame.address not in (address, also)
        ):
            return False
        return len(frame.data) == 1 if frame.abnormal else frame.data in (b"", told)

    question = Frame(address=address, control=function, data=told)
    reply_max = 0 if broadcast else preamble + OVERHEAD + max(1, len(told))
    ask = Ask(data=question.encode(preamble), reply_max=reply_max, accepts=accepts, repeatable=False)
    return confirmed_or_refused(ask, Edition.E1997)
