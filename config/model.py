"""What a site is: the words of the site file, checked and complete. Built by `config.load`, read by everyone."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

Parity = Literal["N", "E", "O"]
ProtocolName = Literal["dlt645-2007", "dlt645-1997", "modbus-rtu", "modbus-tcp", "modbus-ascii"]
ClockTrust = Literal["kernel", "chrony", "centre", "always"]
UplinkProfile = Literal["prompt", "metered"]
Suite = Literal["aes", "sm"]
Rs485 = Literal["auto", "rts", "rts-inverted"]
Priority = Literal["normal", "priority"]
Keep = Literal["auto", "monthly", "daily", "curve", "bulk"]

_SERIAL = re.compile(r"^(\d+)-([78])([NEO])([12])\Z")
GATEWAY_ID = re.compile(r"^[a-z0-9-]{1,32}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """How characters stand on the wire, written `2400-8E1`. 7 data bits are for Modbus ASCII alone."""

    baud: int
    parity: Parity
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8

    @classmethod
    def parse(cls, text: str) -> "SerialSettings":
        """From text like `2400-8E1`. Raises ValueError with what was expected."""
        match = _SERIAL.match(text)
        if match is None or not 300 <= int(match[1]) <= 921600:
            raise ValueError(f"expected BAUD-8PS such as 2400-8E1 or 9600-8N1, got {text!r}")
        baud, data_bits, parity, stop_bits = match.groups()
        return cls(
            baud=int(baud), parity=parity, stop_bits=int(stop_bits), data_bits=int(data_bits)  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def bits(self) -> int:
        """Bits a character takes on the wire, start bit included."""
        return 1 + self.data_bits + (self.parity != "N") + self.stop_bits

    @property
    def character_s(self) -> float:
        """Seconds a character takes on the wire."""
        return self.bits / self.baud

    def __str__(self) -> str:
        return f"{self.baud}-{self.data_bits}{self.parity}{self.stop_bits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusEntry:
    """One RS-485 pair or TCP endpoint. port: a device path or tcp://host:port."""

    name: str
    port: str
    serial: SerialSettings = SerialSettings(baud=2400, parity="E")
    """Settings for meters that name none of their own; for a TCP endpoint those of the line behind it."""
    rs485: Rs485 = "auto"
    """Who turns the pair to sending. auto: the adapter or its driver, by itself; rts, rts-inverted: the kernel's driver
    by the line RTS, which is high, or low, while it sends."""
    pipeline: int = 1
    """Questions that may be on their way at once, over Modbus TCP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterEntry:
    """A meter on a bus and the measuring point that it serves: one row of meters.csv."""

    id: str
    """Unique in the fleet."""
    point: str
    bus: str
    address: str
    """12 digits for DL/T 645, 1..247 for Modbus (0..255 over TCP)."""
    profile: str
    """The name of a file in drivers/profiles, without its ending."""
    protocol: ProtocolName
    serial: SerialSettings | None = None
    tasks: tuple[str, ...] = ()
    priority: Priority = "normal"
    ct: Decimal = Decimal(1)
    pt: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """What is read, and when: every `every_s` seconds, aligned to the site's wall clock, `offset_s` after the slot."""

    name: str
    every_s: int
    items: tuple[str, ...]
    """Names of quantities."""
    offset_s: int = 0
    slot_tolerance_s: int = 60
    """A live read later than this after its slot is stamped with its own time; it still fills its slot."""
    lane: Literal["event", "billing", "curve", "backfill"] = "curve"
    keep: Keep = "auto"
    """As what its records are kept; auto: by its lane and items, see `kept_as`."""

    @property
    def kept_as(self) -> Keep:
        """As what its records are kept. A billing task that reads former periods only is monthly, any other daily."""
        if self.keep != "auto":
            return self.keep
        if self.lane != "billing":
            return "curve"
        return "monthly" if all(".last_" in item for item in self.items) else "daily"


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkEntry:
    """Where batches go. url: mqtts://host:port or mqtt://host:port (mqtt only towards loopback)."""

    url: str
    profile: UplinkProfile = "prompt"
    batch_kib: int = 0
    """The largest batch as it is sent; 0: 8 on a prompt link, 16 on a metered one."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def batch_bytes(self) -> int:
        """The same in bytes. On a metered link, where bytes are paid for, an hour of 100 meters stays in one piece."""
        return 1024 * (self.batch_kib or (8 if self.profile == "prompt" else 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferEntry:
    """How long settled records stay as history, in days of running, and what the store may take of the disk."""

    monthly_days: int = 731
    daily_days: int = 62
    curve_days: int = 62
    curve_days_min: int = 10
    """What a disk that is full leaves of it."""
    bulk_days: int = 10
    events: int = 1000
    """The newest of them stay, however old they are."""
    max_mb: int = 0
    """What the store's file may take; 0: what the disk has."""
    ballast_mb: int = 8
    """Given back to a disk that is full, so that records can be let go."""
    spare: Path | None = None
    """Directory on another disk, where the store goes on when this one fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that the daemon is built from."""

    gateway: str
    zone: str = "Asia/Shanghai"
    clock_trust: ClockTrust = "kernel"
    store: Path = Path("/var/lib/meterwire")
    """Directory of the outbox, the evidence ring and the learned facts."""
    keys: Path = Path("/var/lib/meterwire/keys")
    suite: Suite = "aes"
    """What batches are sealed with: a name in `protocols.suites`."""
    token: str | None = None
    """The URI of the gateway's key in a PKCS#11 token, in place of its file."""
    socket: Path = Path("/run/meterwire/meterwire.sock")
    evidence_mb: int = 64
    buffer: BufferEntry = BufferEntry()
    uplink: UplinkEntry
    buses: tuple[BusEntry, ...]
    meters: tuple[MeterEntry, ...]
    tasks: tuple[TaskEntry, ...]
    origin: Path = field(default=Path("site.toml"), compare=False)
    """The file that it was read from, for messages."""
    archive: Path = field(default=Path("meters.csv"), compare=False)
    """The meter archive, likewise."""
