"""`meterwire keys`: who a gateway or a centre is, and whom it believes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from field import output
from field.output import Exit, Output, words
from field.usage import SpokenGroup
from identity.centre import Centre
from identity.files import IdentityError
from identity.gateway import GatewayIdentity
from identity.public import PublicKey, PublicKeys, fingerprint, key_id
from identity.trust import own, trust, trusted

PLACES: Final = {"gateway": Path("/var/lib/meterwire/keys"), "centre": Path("/var/lib/meterwire-central/keys")}
ROLES: Final = {"gateway": "网关", "centre": "主站"}
USES: Final = {"sign": "签名", "wrap": "加密"}

_directory = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), default=PLACES["gateway"], show_default=True,
    help="The directory of the keys: `keys.path` of the site file, or of central.toml.",
)  # fmt: skip


@click.group("keys", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """Keys of a gateway or a centre, and whose public keys it believes.

    Example: meterwire keys init gateway --id gw-0001
    """


@output.command("init")
@click.argument("role", type=click.Choice(list(PLACES)))
@click.option("--id", "name", help="The id: [a-z0-9-]{1,32}. A gateway needs one; a centre is called centre.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path),
    help=f"Where to; by default {PLACES['gateway']} or {PLACES['centre']}.",
)  # fmt: skip
def init(out: Output, role: str, name: str | None, directory: Path | None) -> Exit:
    """Make the keys of a gateway (P-256) or a centre (P-256 and RSA-3072), in files that only their owner reads.

    Never replaces keys that are there. Says where the public bundle is, for the other side's `keys trust`.

    Example: meterwire keys init gateway --id gw-0001

    With --json one object a key, as `keys show`. Exit codes: 0 made; 2 there are keys already, or the id or the
    directory will not do.
    """
    place = directory if directory is not None else PLACES[role]
    if role == "gateway" and name is None:
        out.error("a gateway needs --id, the id in its site file", "网关需要 --id，即站点文件中的标识")
        return Exit.USAGE
    try:
        if role == "gateway":
            public = GatewayIdentity.create(place, name or "").public
        else:
            public = Centre.create(place, id=name or "centre").public
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    bundle = place / f"{role}.json"
    other = "centre" if role == "gateway" else "gateway"
    _tell(out, public, mine=True)
    out.line(
        f"made in {place}; carry {bundle} to the {other}: meterwire keys trust {bundle.name}",
        f"已生成于 {place}；请将 {bundle} 交给{ROLES[other]}: meterwire keys trust {bundle.name}",
    )
    return Exit.GOOD


@output.command("show")
@_directory
def show(out: Output, directory: Path) -> Exit:
    """Show the fingerprints of the own keys and of those that are trusted. Never anything private.

    Example: meterwire keys show --dir /var/lib/meterwire/keys

    With --json one object a key: {"own": ..., "role": ..., "id": ..., "use": "sign" or "wrap", "in_use": ...,
    "kid": ..., "fingerprint": ...}. Exit codes: 0 good; 1 own keys good, a trusted bundle is damaged; 2 own keys are
    missing, damaged, or others can read them.
    """
    try:
        mine = own(directory)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    _tell(out, mine, mine=True)
    try:
        for bundle in trusted(directory):
            _tell(out, bundle, mine=False)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.PART
    return Exit.GOOD


def _tell(out: Output, keys: PublicKeys, *, mine: bool) -> None:
    """A line or an object for each of the keys."""
    for use, place, key in _each_key(keys):
        state = ("in use", "在用") if not place else ("earlier", "旧")
        whose = ("own", "自有") if mine else ("trusted", "信任")
        out.line(
            f"{whose[0]:<8}{keys.role:<8} {keys.id:<16} {use} {state[0]:<8}{fingerprint(key)}",
            f"{whose[1]}  {ROLES[keys.role]} {keys.id:<16} {USES[use]} {state[1]}  {fingerprint(key)}",
        )
        out.object(
            {"own": mine, "role": keys.role, "id": keys.id, "use": use, "in_use": not place,
             "kid": key_id(key).hex(), "fingerprint": fingerprint(key)}
        )  # fmt: skip


def _each_key(keys: PublicKeys) -> Iterator[tuple[str, int, PublicKey]]:
    """(what it is for, its place: 0 is in use, the key) of each."""
    for place, sign in enumerate(keys.sign):
        yield "sign", place, sign
    for place, wrap in enumerate(keys.wrap):
        yield "wrap", place, wrap


@output.command("trust")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@_directory
@click.option(
    "--replace", is_flag=True, help="Also where other keys of that id are trusted. Compare fingerprints first."
)
def take(out: Output, source: Path, directory: Path, replace: bool) -> Exit:
    """Take in the other side's public keys: a bundle, or every bundle (*.json) in a directory.

    A gateway believes centres, a centre believes gateways. Compare the fingerprints with what `meterwire keys show`
    says on the other side, over another channel than the one that the file came by.

    Example: meterwire keys trust centre.json

    With --json one object a bundle: {"file": ..., "role": ..., "id": ..., "result": "new", "known", "replaced" or
    "refused", "fingerprints": {kid: ...}, "error": ...}. Exit codes: 0 all taken in; 1 some; 2 own keys are missing or
    others can read them; 3 none.
    """
    try:
        own(directory)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    files = sorted(source.glob("*.json")) if source.is_dir() else [source]
    taken = sum(_take_one(out, file, directory, replace=replace) for file in files)
    if not files:
        out.error(f"{source}: expected bundles (*.json) in it, got none", f"{source}：应有公钥包（*.json），实为：无")
    return Exit.GOOD if files and taken == len(files) else Exit.PART if taken else Exit.NOTHING


def _take_one(out: Output, file: Path, directory: Path, *, replace: bool) -> bool:
    """Whether the bundle is trusted now."""
    told: dict[str, object] = {"file": str(file), "role": None, "id": None, "fingerprints": {}}
    try:
        bundle = PublicKeys.load(file)
        prints = {key_id(key).hex(): fingerprint(key) for _, _, key in _each_key(bundle)}
        told |= {"role": bundle.role, "id": bundle.id, "fingerprints": prints}
        result = trust(directory, bundle, replace=replace)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        out.object({**told, "result": "refused", "error": words(error)})
        return False
    said = {
        "new": ("now trusted", "已信任"),
        "known": ("already trusted", "早已信任"),
        "replaced": ("replaced", "已替换"),
    }
    en, zh = said[result]
    for use, _, key in _each_key(bundle):
        out.line(
            f"{bundle.role} {bundle.id}: {en}: {use} {fingerprint(key)}",
            f"{ROLES[bundle.role]} {bundle.id}：{zh}：{USES[use]} {fingerprint(key)}",
        )
    out.object({**told, "result": result, "error": None})
    return True


for _each in (init, show, take):
    command.add_command(_each)
