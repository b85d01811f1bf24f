"""Conversations with a DL/T 645-2007 meter: read identifiers with their follow-up frames, load records, the address."""

from collections.abc import Callable, Sequence

from protocols.bcd import high_first, low_first
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Ask, Dialogue, Garbled, Reply
from protocols.dlt645 import moment
from protocols.dlt645.codes import Edition, refusal_of
from protocols.dlt645.frame import ANY_METER, OVERHEAD, Frame
from protocols.dlt645.items import PAYLOAD_MAX, decode_item, reply_max
from protocols.dlt645.reading import FOLLOW_UPS_MAX, ReadItem, answers_for, failed, speaker, values_of
from protocols.quantity import by_name

READ, FOLLOW_UP, READ_ADDRESS = 0x11, 0x12, 0x13
ADDRESS = "04000401"
"""Its identifier; 13 gives the same six bytes without one."""
NORMAL, MORE, ABNORMAL = 0x80, 0xA0, 0xC0
_FOLLOW_UP_REPLY_MAX = OVERHEAD + PAYLOAD_MAX


def read(address: str, dis: Sequence[str], *, preamble: int = 4) -> Dialogue[Frame]:
    """Read identifiers (upper-case hex, high byte first) one after the other; all Values that each of them gives.

    address: 12 digits; `A` digits stand for any. A block over tariffs gives as many as came. An identifier that is
    not in the catalogue gives its payload as text.
    """
    return read_items(address, [ReadItem(di=di) for di in dis], preamble=preamble)


def read_items(address: str, items: Sequence[ReadItem], *, preamble: int = 4) -> Dialogue[Frame]:
    """Read identifiers one after the other; exactly the Values that each item wants, in order."""
    values: list[Value] = []
    for item in items:
        values += yield from _read(address, item, preamble)
    return values


def read_load(address: str, di: str, blocks: int, *, since: str | None = None, preamble: int = 4) -> Dialogue[Frame]:
    """Read load records (06 0c 00 the earliest, 01 from a time, 02 the latest) or a curve (0610).

    blocks: how many at most, 1 to 99, sent as two decimal digits (the standard's NN). since: the meter's civil time, to
    the minute, as `2026-11-15T12:30`. Of each record its moment comes first, then what it holds; of a curve as `read`
    gives it. A meter that has none of them says so with one Value. Raises ValueError when the time or the number cannot
    be.
    """
    if not 1 <= blocks <= 99:
        raise ValueError(f"expected 1 to 99 blocks, got {blocks}")
    which = bytes.fromhex(f"{blocks:02}") + (_minute(since) if since is not None else b"")
    return _read(address, ReadItem(di=di), preamble, which)


def _minute(iso: str) -> bytes:
    """mm hh DD MM YY of a time."""
    found = moment.parts_of(iso)
    if len(found) < 5:
        raise ValueError(f"expected a time to the minute, got {iso!r}")
    return low_first(moment.join(found, "YYMMDDhhmm"))


def _read(address: str, item: ReadItem, preamble: int, which: bytes = b"") -> Dialogue[Frame]:
    """which: what the request says behind the identifier."""
    di = low_first(item.di)

    def accepts(frame: Frame) -> bool:
        if frame.control == READ | NORMAL or frame.control == READ | MORE:
            return frame.data[:4] == di and answers_for(address, frame, any_address=ANY_METER)
        return frame.control == READ | ABNORMAL and answers_for(address, frame, any_address=ANY_METER)

    answer = yield Ask(
        data=Frame(address=address, control=READ, data=di + which).encode(preamble),
        reply_max=reply_max(item.di, preamble=preamble, tariffs=item.tariffs),
        accepts=accepts,
        divisible=item.divisible,
        wants=item.wants,
    )
    if not isinstance(answer, Reply):
        return failed(item, Edition.E2007, answer)
    refusal = refusal_of(answer.frame, Edition.E2007)
    if refusal:
        return failed(item, Edition.E2007, refusal)
    payload, more, sequence = answer.frame.data[4:], answer.frame.more, 0
    address = speaker(address, answer.frame)
    while more:
        sequence += 1
        if sequence > FOLLOW_UPS_MAX:
            return failed(item, Edition.E2007, Garbled(), f"more than {FOLLOW_UPS_MAX} follow-up frames")
        answer = yield Ask(
            data=Frame(address=address, control=FOLLOW_UP, data=di + bytes([sequence])).encode(preamble),
            reply_max=preamble + _FOLLOW_UP_REPLY_MAX,
            accepts=_follow_up(address, di, sequence),
            holds_meter=True,
            wants=item.wants,
        )
        if not isinstance(answer, Reply):
            return failed(item, Edition.E2007, answer, f"follow-up frame {sequence}")
        refusal = refusal_of(answer.frame, Edition.E2007)
        if refusal:
            return failed(item, Edition.E2007, refusal)
        payload += answer.frame.data[4:-1]
        more = answer.frame.more
    return values_of(item, Edition.E2007, payload)


def _follow_up(address: str, di: bytes, sequence: int) -> Callable[[Frame], bool]:
    """An answer repeats identifier and SEQ. One with another identifier is a status report that a meter slips in."""

    def accepts(frame: Frame) -> bool:
        if frame.control == FOLLOW_UP | ABNORMAL:
            return answers_for(address, frame, any_address=ANY_METER)
        return (
            frame.control in (FOLLOW_UP | NORMAL, FOLLOW_UP | MORE)
            and frame.data[:4] == di
            and len(frame.data) >= 5
            and frame.data[-1] == sequence
            and answers_for(address, frame, any_address=ANY_METER)
        )

    return accepts


def read_address(*, preamble: int = 4) -> Dialogue[Frame]:
    """Ask the only meter on the line for its address: one Value, `address`, of 12 digits. It is unavailable where the
    meter says all F, and invalid where it says other digits that are none."""

    def accepts(frame: Frame) -> bool:
        return (
            frame.control == READ_ADDRESS | NORMAL
            and len(frame.data) == 6
            and frame.address in (high_first(frame.data), ANY_METER)
        )

    answer = yield Ask(
        data=Frame(address=ANY_METER, control=READ_ADDRESS).encode(preamble),
        reply_max=preamble + OVERHEAD + 6,
        accepts=accepts,
    )
    if not isinstance(answer, Reply):
        fault = Fault.GARBLED if isinstance(answer, Garbled) else Fault.SILENT
        return [faulty(by_name("address"), fault)]
    return decode_item(ADDRESS, answer.frame.data)
