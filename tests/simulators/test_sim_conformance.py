"""Every item of every profile, asked as the gateway asks and answered as a meter answers: the values are those served.

The simulated meters write their registers apart from the code that decodes them, so each checks the other.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from config.model import MeterEntry, ProtocolName, SerialSettings
from drivers.plan import plan
from drivers.profile import load_profile, profile_names
from protocols.capture import Fault, Value
from protocols.dialogue import Ask, Deframer, Dialogue, Reply, Silence
from protocols.dlt645.frame import Deframer as Dlt645Deframer
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import RtuDeframer, TcpDeframer
from simulators.dlt645 import Dlt645Meter
from simulators.ear import Ear
from simulators.meter import SimulatedMeter, build_meter
from simulators.wire import answer_of

AT = 1_800_000_000_000
LACKING = ("balance.", "overdraft.", "price.")
"""What prepayment meters have, and a simulated meter has not."""

PROFILES: list[tuple[str, ProtocolName]] = [(name, protocol) for name in profile_names() if load_profile(name).items
            for protocol in load_profile(name).protocols]  # fmt: skip


def exchange(meter: SimulatedMeter, ask: Ask[Any], served: dict[str, str], protocol: str) -> Reply[Any] | Silence:
    """One question to one meter, without a wire between them."""
    tcp, characters = protocol == "modbus-tcp", protocol == "modbus-ascii"
    (question,) = TcpDeframer("requests").feed(ask.data) if tcp else Ear().hear(ask.data, 0.0)
    answer = answer_of(meter, question, AT)
    if answer is None:
        return Silence()
    deframer: Deframer[Any] = (
        Dlt645Deframer()
        if isinstance(meter.meter, Dlt645Meter)
        else TcpDeframer()
        if tcp
        else AsciiDeframer()
        if characters
        else RtuDeframer()
    )
    (frame,) = deframer.feed(answer.data)
    assert ask.accepts(frame)
    assert len(answer.data) <= ask.reply_max
    served |= answer.values
    return Reply(frame=frame, sent_at=AT, ended_at=AT)


def run(meter: SimulatedMeter, dialogue: Dialogue[Any], served: dict[str, str], protocol: str) -> list[Value]:
    """A whole dialogue."""
    try:
        ask = next(dialogue)
        while True:
            ask = dialogue.send(exchange(meter, ask, served, protocol))
    except StopIteration as stop:
        values: list[Value] = stop.value
        return values


def same(one: str | None, other: str) -> bool:
    if one is None:
        return False
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return one == other


@pytest.mark.parametrize(("name", "protocol"), PROFILES)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_item_of_a_profile_is_read_as_it_is_served(name: str, protocol: Any, reverse: bool) -> None:
    profile = load_profile(name)
    address = "000000000042" if protocol.startswith("dlt645") else "42"
    meter = build_meter(profile, meter_id="m", address=address, protocol=protocol, seed=6, reverse=reverse)
    entry = MeterEntry(id="m", point="m", bus="b", address=address, profile=name, protocol=protocol)
    reading = plan(profile, entry, tuple(profile.items), SerialSettings.parse("2400-8E1"))
    served: dict[str, str] = {}
    values = run(meter, reading.dialogue(), served, protocol)
    assert [value.quantity for value in values] == list(reading.quantities)
    for value in values:
        quantity = value.quantity.name
        if quantity.startswith(LACKING):
            assert value.fault is Fault.ABSENT
        else:
            assert quantity in served, f"{quantity} was not served: {value.fault} {value.detail}"
            assert same(value.plain, served[quantity]), f"{quantity}: {value.plain} is not {served[quantity]}"
