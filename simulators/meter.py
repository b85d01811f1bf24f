"""What every simulated meter is on its wire: somebody with a name, line settings and a turnaround, who answers."""

from dataclasses import dataclass
from typing import TypeVar

from config.model import SerialSettings
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from simulators.dlt645 import Dlt645Meter
from simulators.modbus import ModbusMeter

Meter = Dlt645Meter | ModbusMeter
FrameT = TypeVar("FrameT", Dlt645Frame, ModbusFrame)


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
