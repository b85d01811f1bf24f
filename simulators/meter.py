"""What every simulated meter is on its wire: somebody with a name, line settings and a turnaround, who answers."""

import zlib
from dataclasses import dataclass

from config.model import ProtocolName, SerialSettings
from drivers.profile import Profile
from protocols.dlt645.codes import Edition
from simulators.answer import Holes
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.modbus import ModbusMeter
from simulators.trace import TraceName

Meter = Dlt645Meter | ModbusMeter


@dataclass(slots=True, kw_only=True)
class SimulatedMeter:
    """A meter on a wire.

    id: its name in the served log, the gateway's name for it. serial: how it is set up; it hears nothing else, and
    None hears everything. turnaround_ms: from the last byte of the question to the first of the answer, drawn anew
    for each answer; on a Modbus line never less than the t3.5 after which a meter knows that the question is over.
    """

    id: str
    meter: Meter
    serial: SerialSettings | None = None
    turnaround_ms: tuple[float, float] = (20.0, 20.0)
    present: bool = True
    """A meter that is not present is silent: switched off, or its wire is cut."""


def build_meter(
    profile: Profile, *, meter_id: str, address: str, protocol: ProtocolName, seed: int = 0, tariffs: int | None = None,
    trace: TraceName = "household", reverse: bool = False, serial: SerialSettings | None = None,
    turnaround_ms: tuple[float, float] = (20.0, 20.0), present: bool = True, holes: Holes = "zero",
) -> SimulatedMeter:  # fmt: skip
    """A meter of this model: as many phases and tariffs as its profile has. Its load follows from seed and meter_id."""
    load = Load(
        zlib.crc32(f"{seed} {meter_id}".encode()),
        phases=3 if "voltage.b" in profile.items else 1,
        tariffs=tariffs or profile.tariffs or 4,
        trace=trace,
        reverse=reverse,
    )
    meter: Meter
    if protocol.startswith("dlt645"):
        meter = Dlt645Meter(address, load, edition=Edition(protocol), holes=holes)
    else:
        meter = ModbusMeter(int(address), profile, load, holes=holes)
    return SimulatedMeter(id=meter_id, meter=meter, serial=serial, turnaround_ms=turnaround_ms, present=present)
