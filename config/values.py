"""How single values of the site file are read: each takes a raw value, or raises ValueError with what it expected."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from config.model import GATEWAY_ID, SerialSettings

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_DLT645_ADDRESS = re.compile(r"^[0-9]{12}\Z")
_UNIT = re.compile(r"^[0-9]{1,3}\Z")
_DURATION = re.compile(r"^(\d{1,6})(s|m|h|d)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DAY_S = 86400


def text(raw: Any) -> str:
    """Some text, not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("a text that is not empty")
    return raw


def name(raw: Any) -> str:
    """A name: letters, digits, dot, dash and underscore, at most 64, beginning with a letter or digit."""
    if not isinstance(raw, str) or not _NAME.match(raw):
        raise ValueError("a name of at most 64 letters, digits, dots, dashes or underscores")
    return raw


def gateway_id(raw: Any) -> str:
    """The gateway's id: it stands in topics and in the certificate."""
    if not isinstance(raw, str) or not GATEWAY_ID.match(raw):
        raise ValueError("an id of 1 to 32 of a-z, 0-9 and dash")
    return raw


def zone(raw: Any) -> str:
    """A name from the time zone database."""
    try:
        ZoneInfo(text(raw))
    except (ValueError, KeyError, OSError):  # not found is a KeyError, a directory's name an OSError
        raise ValueError("a time zone such as Asia/Shanghai") from None
    return str(raw)


def token(raw: Any) -> str:
    """The URI of a key in a PKCS#11 token; `identity.token` reads it closer."""
    if not isinstance(raw, str) or not raw.startswith("pkcs11:"):
        raise ValueError("a URI such as pkcs11:token=LABEL;object=LABEL?pin-source=FILE")
    return raw


def choice(*allowed: str) -> Callable[[Any], str]:
    """One of these words."""

    def read(raw: Any) -> str:
        if raw not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return str(raw)

    return read


def integer(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within these limits."""

    def read(raw: Any) -> int:
        if type(raw) is not int or not low <= raw <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return raw

    return read


def path(raw: Any) -> Path:
    """A path; a relative one is taken from the directory of the site file (by the loader)."""
    return Path(text(raw))


def serial(raw: Any) -> SerialSettings:
    """Baud rate, parity and stop bits, such as 2400-8E1."""
    try:
        return SerialSettings.parse(raw if isinstance(raw, str) else "")
    except ValueError:
        raise ValueError("BAUD-8PS such as 2400-8E1 or 9600-8N1") from None


def port(raw: Any) -> str:
    """A device path, or tcp://host:port."""
    expected = "a device path such as /dev/ttyS1, or tcp://host:port"
    if not isinstance(raw, str):
        raise ValueError(expected)  # noqa: TRY004  every reader raises ValueError with what it expected
    if raw.startswith("tcp://"):
        _host_port(raw, expected)
    elif not raw.startswith("/"):
        raise ValueError(expected)
    return raw


def address(raw: str, protocol: str) -> str:
    """The address of a meter that speaks this protocol."""
    if protocol.startswith("dlt645"):
        if not _DLT645_ADDRESS.match(raw):
            raise ValueError("12 digits")
        return raw
    low, high = (0, 255) if protocol == "modbus-tcp" else (1, 247)
    if not _UNIT.match(raw) or not low <= int(raw) <= high:
        raise ValueError(f"a number from {low} to {high}")
    return str(int(raw))


def broker_url(raw: Any) -> str:
    """mqtts://host:port, or mqtt://host:port towards loopback only: readings never cross a network in the clear."""
    expected = "mqtts://host:port, or mqtt://host:port on this machine only"
    if not isinstance(raw, str) or not raw.startswith(("mqtts://", "mqtt://")):
        raise ValueError(expected)
    host = _host_port(raw, expected)
    if raw.startswith("mqtt://") and host not in _LOOPBACK:
        raise ValueError(expected)
    return raw


def _host_port(raw: str, expected: str) -> str:
    try:
        parts = urlsplit(raw)
        host, number = parts.hostname, parts.port
    except ValueError:
        raise ValueError(expected) from None
    if not host or not number or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(expected)
    return host


def duration(raw: Any) -> int:
    """A time span in seconds, from text such as 0s, 60s, 15m, 1h, 1d."""
    match = _DURATION.match(raw) if isinstance(raw, str) else None
    if match is None:
        raise ValueError("a time span such as 60s, 15m, 1h or 1d")
    return int(match[1]) * _SECONDS[match[2]]


def period(raw: Any) -> int:
    """A time span that divides the day, so that its slots stand at the same times of each day."""
    expected = "a time span that divides the day, such as 60s, 15m, 1h or 1d"
    try:
        seconds = duration(raw)
    except ValueError:
        raise ValueError(expected) from None
    if not seconds or DAY_S % seconds:
        raise ValueError(expected)
    return seconds


def names(raw: Any) -> tuple[str, ...]:
    """A list of names, none twice, not empty, of which one reading can hold all."""
    expected = "a list of at most 500 names, none of them twice"
    if not isinstance(raw, list) or not 0 < len(raw) <= 500 or not all(isinstance(item, str) and item for item in raw):
        raise ValueError(expected)
    if len(set(raw)) != len(raw):
        raise ValueError(expected)
    return tuple(raw)


def ratio(raw: Any) -> Decimal:
    """A transformer ratio: a plain positive number."""
    try:
        number = Decimal(raw)
    except (InvalidOperation, TypeError):
        raise ValueError("a ratio such as 1 or 800") from None
    if not number.is_finite() or not 0 < number <= 1_000_000:
        raise ValueError("a ratio above 0 and at most 1000000")
    return number
