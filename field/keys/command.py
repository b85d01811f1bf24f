"""`meterwire keys`: who a gateway or a centre is, and whom it believes."""

from pathlib import Path

import click

from field import output
from field.clock import wall_ms
from field.keys import change
from field.keys.told import PLACES, ROLES, USES, directory_option, each_key, tell, tell_revoked
from field.output import Exit, Output, words
from field.usage import SpokenGroup
from identity.centre import Centre
from identity.files import IdentityError
from identity.gateway import GatewayIdentity
from identity.private import KINDS
from identity.public import PublicKeys, fingerprint, key_id
from identity.trust import own, revoked, trust, trusted
from protocols.suites import SHA_256, SM3_256


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
@click.option(
    "--wrap", type=click.Choice(KINDS), default="rsa", show_default=True, help="What a centre's wrapping key is."
)
@click.option("--sign-token", metavar="URI", help="Make the signing key in a PKCS#11 token, not in a file.")
@click.option("--wrap-token", metavar="URI", help="Make a centre's wrapping key in a PKCS#11 token.")
def init(
    out: Output, role: str, name: str | None, directory: Path | None, wrap: str,
    sign_token: str | None, wrap_token: str | None,
) -> Exit:  # fmt: skip
    """Make the keys of a gateway (P-256) or a centre (P-256 and RSA-3072), in files that only their owner reads.

    Never replaces keys that are there. Says where the public bundle is, for the other side's `keys trust`. With a
    token's URI the key is made there, unless it is there already, and its file holds the URI:
    pkcs11:token=LABEL;object=LABEL?pin-source=FILE&module-path=LIBRARY.

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
            public = GatewayIdentity.create(place, name or "", token=sign_token, now_ms=wall_ms()).public
        else:
            public = Centre.create(
                place, id=name or "centre", wrap=wrap, sign_token=sign_token, wrap_token=wrap_token, now_ms=wall_ms()
            ).public
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    bundle = place / f"{role}.json"
    other = "centre" if role == "gateway" else "gateway"
    tell(out, public, mine=True)
    out.line(
        f"made in {place}; carry {bundle} to the {other}: meterwire keys trust {bundle.name}",
        f"已生成于 {place}；请将 {bundle} 交给{ROLES[other]}: meterwire keys trust {bundle.name}",
    )
    return Exit.GOOD


@output.command("show")
@directory_option
@click.option("--sm3", is_flag=True, help="Fingerprints by SM3, not SHA-256.")
def show(out: Output, directory: Path, sm3: bool) -> Exit:
    """Show the own keys, those that are trusted and those that were revoked, with fingerprints and dates.

    Never anything private. A key is in use, the next one (published, not in use yet) or an earlier one; the dates are
    when it was made and when another took its place.

    Example: meterwire keys show --dir /var/lib/meterwire/keys

    With --json one object a key: {"own": ..., "role": ..., "id": ..., "use": "sign" or "wrap", "in_use": ...,
    "state": ..., "kind": ..., "made": ..., "retired": ..., "kid": ..., "fingerprint": ...}. Exit codes: 0 good; 1 own
    keys good, a trusted bundle is damaged; 2 own keys are missing, damaged, or others can read them.
    """
    try:
        mine = own(directory)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    digest = SM3_256 if sm3 else SHA_256
    tell(out, mine, mine=True, digest=digest)
    try:
        for bundle in trusted(directory):
            tell(out, bundle, mine=False, digest=digest)
        for kid, each in revoked(directory).items():
            tell_revoked(out, kid, each)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.PART
    return Exit.GOOD


@output.command("trust")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@directory_option
@click.option(
    "--replace", is_flag=True, help="Also where other keys of that id are trusted. Compare fingerprints first."
)
def take(out: Output, source: Path, directory: Path, replace: bool) -> Exit:
    """Take in the other side's public keys: a bundle, or every bundle (*.json) in a directory.

    A gateway believes centres, a centre believes gateways. Compare the fingerprints with what `meterwire keys show`
    says on the other side, over another channel than the one that the file came by.

    Example: meterwire keys trust centre.json

    With --json one object a bundle: {"file": ..., "role": ..., "id": ..., "result": "new", "known", "succeeded",
    "replaced" or "refused", "fingerprints": {kid: ...}, "error": ...}. Exit codes: 0 all taken in; 1 some; 2 own keys
    are missing or others can read them; 3 none.
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
        prints = {key_id(key).hex(): fingerprint(key) for _, _, key in each_key(bundle)}
        told |= {"role": bundle.role, "id": bundle.id, "fingerprints": prints}
        result = trust(directory, bundle, replace=replace)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        out.object({**told, "result": "refused", "error": words(error)})
        return False
    said = {
        "new": ("now trusted", "已信任"),
        "known": ("already trusted", "早已信任"),
        "succeeded": ("vouched for by the key before", "由前一密钥担保"),
        "replaced": ("replaced", "已替换"),
    }
    en, zh = said[result]
    for use, _, key in each_key(bundle):
        out.line(
            f"{bundle.role} {bundle.id}: {en}: {use} {fingerprint(key)}",
            f"{ROLES[bundle.role]} {bundle.id}：{zh}：{USES[use]} {fingerprint(key)}",
        )
    out.object({**told, "result": result, "error": None})
    return True


for _each in (init, show, take, change.rotate, change.withdraw):
    command.add_command(_each)
