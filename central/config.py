"""central.toml: what the subscriber is built from, read whole, every mistake at once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from central.sinks import POSTGRESQL, SQLITE
from config.mistake import ConfigError, Mistake
from config.toml import REQUIRED, Key, load_toml, read_table, spelled
from config.values import broker_url, name, path, token, zone
from protocols.suites import ACCEPTED, SUITES

_WORKER = re.compile(r"([0-9]{1,3})/([0-9]{1,3})")
_ALL = tuple(f"{bucket:02x}" for bucket in range(256))
_BUCKETS = re.compile(r"([0-9a-f]{2})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEntry:
    """Where the gateways publish. url: mqtts://host:port, or mqtt://host:port towards loopback."""

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_id: str = "meterwire-central"
    buckets: tuple[str, ...] = ()
    """The shares of the fleet that this subscriber takes, `00` to `ff`; empty for all of them."""
    group: str = "meterwire-central"
    """Of the shared subscription; the workers of one centre have one."""
    worker: tuple[int, int] = (1, 1)
    """Which worker this is, and of how many."""

    @property
    def shareable(self) -> bool:
        """Whether the broker may be asked to share the fleet out."""
        return self.worker[1] > 1 and not self.buckets

    @property
    def share(self) -> tuple[str, ...]:
        """This worker's buckets where the broker does not share; empty for all of them."""
        number, of = self.worker
        return self.buckets if of == 1 else (self.buckets or _ALL)[number - 1 :: of]

    @property
    def session(self) -> str:
        """The name of this worker's session."""
        return self.client_id if self.worker[1] == 1 else f"{self.client_id}-{self.worker[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CentralSite:
    """Everything that the subscriber is built from."""

    keys: Path
    suites: tuple[str, ...] = ACCEPTED
    sign_token: str | None = None
    wrap_token: str | None = None
    database: str
    broker: BrokerEntry
    zone: str = "Asia/Shanghai"
    """Whose days reports are of."""


def _buckets(raw: Any) -> tuple[str, ...]:
    match = _BUCKETS.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or match[1] > match[2]:
        raise ValueError("a range of buckets such as 00-ff or 00-7f")
    first, last = int(match[1], 16), int(match[2], 16)
    return () if (first, last) == (0, 255) else tuple(f"{bucket:02x}" for bucket in range(first, last + 1))


def _suites(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all(each in SUITES for each in raw):
        raise ValueError("a list with one or more of " + ", ".join(SUITES))
    return tuple(raw)


def worker(raw: Any) -> tuple[int, int]:
    """Number and count, such as 1/2. Raises ValueError."""
    match = _WORKER.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= len(_ALL):
        raise ValueError("a worker and how many there are, such as 1/2; at most 256")
    return int(match[1]), int(match[2])


def _database(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.startswith((SQLITE, POSTGRESQL)) or raw in (SQLITE, POSTGRESQL):
        raise ValueError(f"{SQLITE}PATH or {POSTGRESQL}USER@HOST/DATABASE")
    return raw


TABLES = {
    "keys": (
        Key("path", path, "/var/lib/meterwire-central/keys",
            "The directory of the centre's keys and of the gateways that it trusts, mode 0700.", "keys"),
        Key("suites", _suites, list(ACCEPTED),
            "What gateways may seal with: aes (AES-256-GCM), sm (SM4-GCM), or both."),
        Key("sign_token", token, None, "The signing key in a PKCS#11 token, as a URI, in place of the file sign.key."),
        Key("wrap_token", token, None, "The wrapping key in a PKCS#11 token, as a URI, in place of the file wrap.key."),
    ),
    "database": (
        Key("url", _database, "sqlite:////var/lib/meterwire-central/central.db",
            "Where readings land: sqlite:///PATH (a fourth slash begins an absolute path) or postgresql://USER@HOST/DATABASE."),
    ),
    "report": (
        Key("zone", zone, "Asia/Shanghai", "The time zone whose days the reports are of, and times without an offset."),
    ),
    "broker": (
        Key("url", broker_url, REQUIRED, "The broker: mqtts://host:port, or mqtt://host:port on this machine only."),
        Key("ca", path, None, "Certificates of the authorities that sign the broker's certificate; needed for mqtts."),
        Key("certificate", path, None, "The centre's own certificate; needed for mqtts."),
        Key("key", path, None, "The private key of that certificate, mode 0600; needed for mqtts."),
        Key("client_id", name, "meterwire-central", "The name of the session that the broker keeps; one a centre."),
        Key("worker", worker, "1/1", "Which worker this is, of how many; each has a session of its own."),
        Key("group", name, "meterwire-central", "The name under which the workers of one centre share what comes."),
        Key("buckets", _buckets, "00-ff", "The share of the fleet that this subscriber takes, by bucket of the topic."),
    ),
}  # fmt: skip


def load_central(file: Path) -> CentralSite:
    """What central.toml describes; relative paths are taken from its directory. Raises ConfigError."""
    mistakes: list[Mistake] = []
    raw = load_toml(file, str(file), mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    expected = f"one of the tables {', '.join(TABLES)}"
    mistakes += [Mistake(str(file), spelled(key), expected, "an unknown key") for key in raw if key not in TABLES]
    read = {
        table: read_table(raw.get(table, {}), keys, file=str(file), where=table, mistakes=mistakes)
        for table, keys in TABLES.items()
    }
    base = file.absolute().parent
    broker = read["broker"]
    if broker is not None:
        for key in ("ca", "certificate", "key"):
            if broker[key] is not None:
                broker[key] = base / broker[key]
            elif broker["url"].startswith("mqtts:"):
                mistakes.append(Mistake(str(file), f"broker.{key}", "a file, because the url is mqtts", "nothing"))
    if mistakes:
        raise ConfigError(mistakes)
    assert broker is not None
    assert read["keys"] is not None
    assert read["database"] is not None
    assert read["report"] is not None
    database: str = read["database"]["url"]
    if database.startswith(SQLITE):
        database = SQLITE + str(base / database.removeprefix(SQLITE))
    keys = read["keys"] | {"keys": base / read["keys"]["keys"]}
    return CentralSite(**keys, database=database, broker=BrokerEntry(**broker),
                       zone=read["report"]["zone"])  # fmt: skip
