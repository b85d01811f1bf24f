"""The settings that meters leave the works with, the likely ones first."""

from collections.abc import Iterator, Sequence

from config.model import ProtocolName, SerialSettings

USUAL_645 = ("2400-8E1", "1200-8E1", "4800-8E1", "9600-8E1", "19200-8E1", "2400-8N1", "9600-8N1", "600-8E1")
"""DL/T 645-2007 §5: 2400 by default on RS-485, 1200 on infrared; even parity. Without parity: seen in the field."""
USUAL_MODBUS = (
    "9600-8N1", "9600-8E1", "19200-8E1", "19200-8N1", "2400-8N1", "4800-8N1", "38400-8N1", "115200-8N1", "38400-8E1",
    "9600-8N2", "9600-8O1", "2400-8E1", "4800-8E1", "57600-8N1", "19200-8O1", "1200-8N1",
)  # fmt: skip
"""[SER] §2.5.1 asks for 19200-8E1; most energy meters come with 9600-8N1 (recalled)."""
USUAL_ASCII = ("9600-7E1", "19200-7E1", "9600-8N1", "9600-7N2", "19200-8N1", "4800-7E1", "2400-7E1")
"""[SER] §2.5.2 asks for 7 data bits and even parity."""


def usual(protocol: ProtocolName) -> Sequence[SerialSettings]:
    """The usual settings of a protocol; none where there is no serial line."""
    if protocol == "modbus-tcp":
        return ()
    texts = USUAL_645 if protocol.startswith("dlt645") else USUAL_ASCII if protocol == "modbus-ascii" else USUAL_MODBUS
    return tuple(SerialSettings.parse(text) for text in texts)


def others_than(settings: SerialSettings, protocol: ProtocolName) -> Iterator[SerialSettings]:
    """The usual ones without this."""
    return (one for one in usual(protocol) if one != settings)
