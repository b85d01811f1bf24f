"""How keys are shown: a line or an object each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.asymmetric import rsa

from field.output import Output
from identity.public import Dates, PublicKey, PublicKeys, fingerprint, key_id, moment
from identity.trust import Revoked
from protocols.suites import SHA_256

PLACES: Final = {"gateway": Path("/var/lib/meterwire/keys"), "centre": Path("/var/lib/meterwire-central/keys")}
ROLES: Final = {"gateway": "网关", "centre": "主站"}
USES: Final = {"sign": "签名", "wrap": "加密"}
STATES: Final = {"in use": "在用", "next": "待用", "earlier": "旧"}


def here() -> Path:
    """Where this machine's keys are: a gateway's place, or a centre's where there is only that."""
    gateway, centre = PLACES["gateway"], PLACES["centre"]
    return centre if os.path.exists(centre) and not os.path.exists(gateway) else gateway  # noqa: PTH110  no error


directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), callback=lambda ctx, param, value: value or here(),
    help=f"`keys.path` of the site file, or of central.toml; by default {PLACES['gateway']}, or {PLACES['centre']} "
    "where there is only that.",
)  # fmt: skip


def each_key(keys: PublicKeys) -> Iterator[tuple[str, str, PublicKey]]:
    """(what it is for, its state, the key) of each."""
    for use, found in (("sign", keys.sign), ("wrap", keys.wrap)):
        for place, key in enumerate(found):
            dates = keys.dates.get(key_id(key), Dates())
            ahead = dates.made is not None and dates.retired is None
            yield use, "in use" if not place else "next" if ahead else "earlier", key


def kind(key: PublicKey) -> str:
    """What kind of key it is, as people say."""
    return f"RSA-{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else "P-256"


def _day(ms: int | None) -> str:
    return moment(ms)[:10] if ms is not None else "-"


def tell(out: Output, keys: PublicKeys, *, mine: bool, digest: int = SHA_256) -> None:
    """A line or an object for each of the keys. Dates are those of UTC."""
    for use, state, key in each_key(keys):
        whose = ("own", "自有") if mine else ("trusted", "信任")
        dates = keys.dates.get(key_id(key), Dates())
        gone = f" - {_day(dates.retired)}" if dates.retired is not None else ""
        out.line(
            f"{whose[0]:<8}{keys.role:<8} {keys.id:<16} {use} {state:<8}{kind(key):<9} {_day(dates.made)}{gone}  "
            f"{fingerprint(key, digest)}",
            f"{whose[1]}  {ROLES[keys.role]} {keys.id:<16} {USES[use]} {STATES[state]}  {kind(key):<9} "
            f"{_day(dates.made)}{gone}  {fingerprint(key, digest)}",
        )
        out.object(
            {"own": mine, "role": keys.role, "id": keys.id, "use": use, "in_use": state == "in use", "state": state,
             "kind": kind(key), "made": _iso(dates.made), "retired": _iso(dates.retired), "kid": key_id(key).hex(),
             "fingerprint": fingerprint(key, digest)}
        )  # fmt: skip


def tell_revoked(out: Output, kid: bytes, revoked: Revoked) -> None:
    """A line or an object for a key that is never believed again."""
    out.line(
        f"revoked {revoked.role:<8} {revoked.id:<16} {_day(revoked.at)}  {kid.hex()}",
        f"吊销  {ROLES.get(revoked.role, revoked.role)} {revoked.id:<16} {_day(revoked.at)}  {kid.hex()}",
    )
    out.object({"own": False, "role": revoked.role, "id": revoked.id, "state": "revoked", "kid": kid.hex(),
                "revoked": _iso(revoked.at)})  # fmt: skip


def _iso(ms: int | None) -> str | None:
    return None if ms is None else moment(ms)
