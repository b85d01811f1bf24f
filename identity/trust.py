"""Taking in the other side's public keys, and never believing some of them again: `keys trust`, `keys revoke`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from identity import centre, files, gateway
from identity.files import IdentityError
from identity.public import PublicKeys

Taken = Literal["new", "known", "succeeded", "replaced"]
PLACES: Final = {"centre": gateway.CENTRES, "gateway": centre.GATEWAYS}
REVOKED_FILE: Final = "revoked.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A key that is never believed again. at: UTC milliseconds."""

    role: str
    id: str
    at: int


def own(directory: Path) -> PublicKeys:
    """The public keys of the gateway or centre whose keys lie in the directory. Raises IdentityError."""
    if _any(directory, gateway.BUNDLE_FILE, gateway.KEY_FILE):
        return gateway.GatewayIdentity.load(directory).public
    if _any(directory, centre.BUNDLE_FILE, centre.SIGN_FILE):
        return centre.Centre.load(directory).public
    files.check_directory(directory)
    raise IdentityError(f"{directory}: expected keys of a gateway or a centre; make them with `meterwire keys init`")


def _any(directory: Path, *names: str) -> bool:
    return any((directory / name).exists() for name in names)


def trusted(directory: Path) -> list[PublicKeys]:
    """The other side's bundles that are believed here, by id. Raises IdentityError for a damaged one."""
    return [PublicKeys.load(path) for place in PLACES.values() for path in sorted((directory / place).glob("*.json"))]


def revoked(directory: Path) -> dict[bytes, Revoked]:
    """The keys that are never believed again, by id. Raises IdentityError for a damaged file."""
    path = directory / REVOKED_FILE
    if not path.exists():
        return {}
    try:
        value = json.loads(files.read_public(path))
        return {bytes.fromhex(kid): Revoked(**each) for kid, each in value.items()}
    except (ValueError, TypeError, AttributeError):
        raise IdentityError(f"{path}: expected the revoked keys as `meterwire keys revoke` writes them") from None


def trust(directory: Path, bundle: PublicKeys, *, replace: bool = False) -> Taken:
    """Believe these keys from now on, without those that were revoked. A gateway believes centres, a centre gateways.

    Keys that follow those believed, by the word of the one in use, are taken in like that. Raises IdentityError if the
    bundle is of the own kind, if nothing is left of it, or if other keys of that id are believed and `replace` is off.
    """
    role = own(directory).role
    if bundle.role == role:
        other = "centre" if role == "gateway" else "gateway"
        raise IdentityError(f"{bundle.id}: expected the public keys of a {other}, got those of a {role}")
    path = directory / PLACES[bundle.role] / f"{bundle.id}.json"
    left = bundle.without(frozenset(revoked(directory))).bare()
    if not left.sign or bool(left.wrap) != bool(bundle.wrap):
        raise IdentityError(
            f"{bundle.id}: its keys were revoked here; have it make new ones with `meterwire keys rotate`"
        )
    before = PublicKeys.load(path) if path.exists() else None
    if before is not None and before.encode() == left.encode():
        return "known"
    follows = before is not None and bundle.follows(before)
    if before is not None and not follows and not replace:
        raise IdentityError(
            f"{path}: other keys of {bundle.role} {bundle.id} are trusted; "
            "compare fingerprints with `meterwire keys show`, then use --replace"
        )
    files.make_directory(path.parent.parent)
    files.make_directory(path.parent)
    files.write(path, left.encode(), replace=True)
    return "new" if before is None else "succeeded" if follows else "replaced"


def revoke(directory: Path, kids: Mapping[bytes, Revoked]) -> None:
    """Never believe these keys again: noted first, then taken out of the bundles that hold them. Raises IdentityError.

    A bundle in which nothing is left to sign with, or to wrap for, goes altogether: its gateway or centre is not
    trusted any more.
    """
    known = {**revoked(directory), **kids}
    value = {kid.hex(): {"role": each.role, "id": each.id, "at": each.at} for kid, each in sorted(known.items())}
    files.write(directory / REVOKED_FILE, (json.dumps(value, indent=1) + "\n").encode(), replace=True)
    for bundle in trusted(directory):
        left = bundle.without(frozenset(known))
        path = directory / PLACES[bundle.role] / f"{bundle.id}.json"
        if not left.sign or bool(left.wrap) != bool(bundle.wrap):
            files.remove(path)
        elif left is not bundle:
            files.write(path, left.encode(), replace=True)
