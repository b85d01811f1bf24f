"""Conversations with a DL/T 645-1997 meter: read identifiers, with their follow-up frames."""

from collections.abc import Sequence

from protocols.bcd import low_first
from protocols.capture import Value
from protocols.dialogue import Ask, Dialogue, Garbled, Reply
from protocols.dlt645.codes import Edition, refusal_of
from protocols.dlt645.frame import BROADCAST, OVERHEAD, Frame
from protocols.dlt645.items import PAYLOAD_MAX, reply_max
from protocols.dlt645.reading import FOLLOW_UPS_MAX, ReadItem, answers_for, failed, speaker, values_of

READ, FOLLOW_UP = 0x01, 0x02


def read(address: str, dis: Sequence[str], *, preamble: int = 4) -> Dialogue[Frame]:
    """Read identifiers (4 upper-case hex digits, high byte first); all Values that each of them gives.

    address: 12 digits; 999999999999 asks the only meter on the line (seen in a live log).
    """
    return read_items(address, [ReadItem(di=di) for di in dis], preamble=preamble)


def read_items(address: str, items: Sequence[ReadItem], *, preamble: int = 4) -> Dialogue[Frame]:
    """Read identifiers one after the other; exactly the Values that each item wants, in order."""
    values: list[Value] = []
    for item in items:
        values += yield from _read(address, item, preamble)
    return values


def _read(address: str, item: ReadItem, preamble: int) -> Dialogue[Frame]:
    di = low_first(item.di)
    payload, function = b"", READ

    def accepts(frame: Frame) -> bool:
        if not answers_for(address, frame, any_address=BROADCAST) or frame.function != function:
            return False
        return frame.abnormal or frame.data[:2] == di

    for follow_up in range(FOLLOW_UPS_MAX + 1):
        # A follow-up of 1997 has no sequence number (recalled): asked again after an uncertain end, it would skip.
        function = FOLLOW_UP if follow_up else READ
        answer = yield Ask(
            data=Frame(address=address, control=function, data=di).encode(preamble),
            reply_max=preamble + OVERHEAD + PAYLOAD_MAX
            if follow_up
            else reply_max(item.di, Edition.E1997, preamble=preamble, tariffs=item.tariffs),
            accepts=accepts,
            repeatable=not follow_up,
            holds_meter=bool(follow_up),
            divisible=item.divisible and not follow_up,
            wants=item.wants,
        )
        if not isinstance(answer, Reply):
            return failed(item, Edition.E1997, answer, f"follow-up frame {follow_up}" if follow_up else None)
        refusal = refusal_of(answer.frame, Edition.E1997)
        if refusal:
            return failed(item, Edition.E1997, refusal)
        payload += answer.frame.data[2:]
        address = speaker(address, answer.frame)
        if not answer.frame.more:
            return values_of(item, Edition.E1997, payload)
    return failed(item, Edition.E1997, Garbled(), f"more than {FOLLOW_UPS_MAX} follow-up frames")
