"""Taking in the other side's public keys: `keys trust`."""

from pathlib import Path
from typing import Final, Literal

from identity import centre, files, gateway
from identity.files import IdentityError
from identity.public import PublicKeys

Taken = Literal["new", "known", "replaced"]
PLACES: Final = {"centre": gateway.CENTRES, "gateway": centre.GATEWAYS}


def own(directory: Path) -> PublicKeys:
    """The public keys of the gateway or centre whose keys lie in the directory. Raises IdentityError."""
    if (directory / gateway.KEY_FILE).exists():
        return gateway.GatewayIdentity.load(directory).public
    if (directory / centre.SIGN_FILE).exists():
        return centre.Centre.load(directory).public
    files.check_directory(directory)
    raise IdentityError(f"{directory}: expected keys of a gateway or a centre; make them with `meterwire keys init`")


def trusted(directory: Path) -> list[PublicKeys]:
    """The other side's bundles that are believed here, by id. Raises IdentityError for a damaged one."""
    return [PublicKeys.load(path) for place in PLACES.values() for path in sorted((directory / place).glob("*.json"))]


def trust(directory: Path, bundle: PublicKeys, *, replace: bool = False) -> Taken:
    """Believe these keys from now on. A gateway believes centres, a centre gateways.

    Raises IdentityError if the bundle is of the own kind, or other keys of that id are believed and `replace` is off.
    """
    role = own(directory).role
    if bundle.role == role:
        other = "centre" if role == "gateway" else "gateway"
        raise IdentityError(f"{bundle.id}: expected the public keys of a {other}, got those of a {role}")
    path = directory / PLACES[bundle.role] / f"{bundle.id}.json"
    known = path.exists()
    if known and files.read_public(path) == bundle.encode():
        return "known"
    if known and not replace:
        raise IdentityError(
            f"{path}: other keys of {bundle.role} {bundle.id} are trusted; "
            "compare fingerprints with `meterwire keys show`, then use --replace"
        )
    files.make_directory(path.parent.parent)
    files.make_directory(path.parent)
    files.write(path, bundle.encode(), replace=True)
    return "replaced" if known else "new"
