"""What else is said to a DL/T 645-1997 meter: writing, setting its address, its rate, its password and its demands.

Its clock is set as in 2007 (`commands.set_time`). Nothing here is sent by any command or driver, as with `commands`.
Known from implementations, one live log and a meter's firmware (hoanghon00/meter-dlt645-1997, Data_Trans.c and
Authority.c: lengths, passwords, confirmations). How a meter answers 03 (read again) is in none of them, so there is
nothing for it. Passwords: 8 hex digits P2 P1 P0 PA, high byte first; PA is the level.
"""

from protocols.bcd import low_first
from protocols.dialogue import Ask
from protocols.dlt645.authority import hexed
from protocols.dlt645.codes import Edition
from protocols.dlt645.commands import WRITE_MAX, Command, confirmed_or_refused, one_meter
from protocols.dlt645.frame import BROADCAST, OVERHEAD, Frame
from protocols.dlt645.reading import answers_for


def write(address: str, di: str, data: bytes, password: str, *, preamble: int = 4) -> Command:
    """04: set an identifier (4 hex digits); data in wire order."""
    told = hexed(di, 2, "an identifier") + hexed(password, 4, "a password") + data
    if len(told) > WRITE_MAX:
        raise ValueError(f"expected at most {WRITE_MAX} bytes in a write, got {len(told)}")
    return _command(one_meter(address), 0x04, told, preamble)


def write_address(new: str, *, address: str = BROADCAST, preamble: int = 4) -> Command:
    """0A: give a meter another address: that with the old one, or the only one on the line.

    A meter's firmware answers with the old address; a meter that has the new one already is taken, too.
    """
    asked = address if address == BROADCAST else one_meter(address)
    return _command(asked, 0x0A, low_first(one_meter(new)), preamble, also=new)


def change_baud(address: str, word: int, *, preamble: int = 4) -> Command:
    """0C: another rate, by the meter's own rate word (one byte)."""
    return _command(one_meter(address), 0x0C, bytes((word,)), preamble)


def change_password(address: str, old: str, new: str, *, preamble: int = 4) -> Command:
    """0F: another password for the level that the new one names. Confirmed by the new one."""
    now = hexed(new, 4, "a password")
    return _command(one_meter(address), 0x0F, hexed(old, 4, "a password") + now, preamble, confirmed=now)


def clear_demand(address: str, password: str, *, preamble: int = 4) -> Command:
    """10: the maximum demands start again."""
    return _command(one_meter(address), 0x10, hexed(password, 4, "a password"), preamble)


def _command(
    address: str, function: int, told: bytes, preamble: int, *, also: str | None = None, confirmed: bytes | None = None
) -> Command:  # fmt: skip
    """also: whose answer it is, besides that of the address (of anyone, where the only meter on the line was asked).
    confirmed: the data of the right answer; None: nothing, or what was told."""
    right = (b"", told) if confirmed is None else (confirmed,)

    def accepts(frame: Frame) -> bool:
        if frame.more or frame.function != function or not frame.from_meter:
            return False
        if frame.address != also and not answers_for(address, frame, any_address=BROADCAST):
            return False
        return len(frame.data) == 1 if frame.abnormal else frame.data in right

    question = Frame(address=address, control=function, data=told)
    reply_max = preamble + OVERHEAD + max(1, *map(len, right))
    ask = Ask(data=question.encode(preamble), reply_max=reply_max, accepts=accepts, repeatable=False)
    return confirmed_or_refused(ask, Edition.E1997)
