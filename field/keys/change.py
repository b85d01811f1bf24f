"""`meterwire keys rotate` and `revoke`: new keys for old, and keys that are never believed again."""

from pathlib import Path

import click

from field import output
from field.clock import wall_ms
from field.keys.told import ROLES, directory_option, each_key, tell
from field.output import Exit, Output, words
from identity import rotation
from identity.files import IdentityError
from identity.private import KINDS
from identity.public import PublicKeys, key_id
from identity.trust import Revoked, own, revoke, trusted


@output.command("rotate")
@directory_option
@click.option("--prepare", is_flag=True, help="Only make the next keys and publish them; put them to use later.")
@click.option(
    "--use",
    "uses",
    type=click.Choice(["sign", "wrap"]),
    multiple=True,
    help="Only keys of this use; may be given twice.",
)
@click.option("--wrap", type=click.Choice(KINDS), default="rsa", show_default=True, help="What a new wrapping key is.")
@click.option("--sign-token", metavar="URI", help="Make the new signing key in a PKCS#11 token.")
@click.option("--wrap-token", metavar="URI", help="Make the new wrapping key in a PKCS#11 token.")
def rotate(
    out: Output, directory: Path, prepare: bool, uses: tuple[str, ...], wrap: str,
    sign_token: str | None, wrap_token: str | None,
) -> Exit:  # fmt: skip
    """Give a gateway or a centre new keys: those prepared before, or new ones at once.

    Nothing is lost on the way. With --prepare the new keys are only published: carry the bundle to the other side,
    whose `keys trust` takes it in without --replace, for the key in use vouches for it; then run `keys rotate` again,
    and restart. Data under an earlier wrapping key still opens. `keys revoke` ends what is not to be believed any more.

    Example: meterwire keys rotate --prepare --dir /var/lib/meterwire-central/keys

    With --json one object a key, as `keys show`. Exit codes: 0 done; 2 the own keys are missing or damaged, others can
    read them, or the library or the token cannot make such a key.
    """
    try:
        chosen = frozenset(uses or ("sign", "wrap"))
        if prepare or not rotation.prepared(directory):
            made = rotation.prepare(
                directory, uses=chosen, wrap=wrap, sign_token=sign_token, wrap_token=wrap_token, now_ms=wall_ms()
            )
        if not prepare:
            made = rotation.rotate(directory, now_ms=wall_ms())
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    tell(out, made, mine=True)
    bundle = directory / rotation.BUNDLES[made.role]
    other = "centre" if made.role == "gateway" else "gateway"
    then = ("then `meterwire keys rotate`", "然后执行 `meterwire keys rotate`") if prepare else (
        "and restart here", "并重启本端"
    )  # fmt: skip
    out.line(
        f"carry {bundle} to the {other}: meterwire keys trust {bundle.name}; {then[0]}",
        f"请将 {bundle} 交给{ROLES[other]}: meterwire keys trust {bundle.name}；{then[1]}",
    )
    return Exit.GOOD


@output.command("revoke")
@click.argument("what")
@directory_option
def withdraw(out: Output, what: str, directory: Path) -> Exit:
    """Never believe a key again: one of the other side's, or an own one that is not in use.

    WHAT is a key's id or fingerprint, or the id of a gateway or centre, for all of its keys. What one of the other
    side's keys signs is refused from now on, nothing is wrapped for it, and no bundle brings it back. The private half
    of an own key is destroyed: what was wrapped for it alone is sealed again by the gateways.

    Example: meterwire keys revoke 1f0c3a5577e9d2b4 --dir /var/lib/meterwire-central/keys

    With --json one object a key: {"role": ..., "id": ..., "kid": ..., "result": "revoked" or "destroyed"}. Exit codes:
    0 done; 2 the own keys are missing or damaged, or the key is the own one in use; 3 there is no such key.
    """
    try:
        mine, theirs = own(directory), trusted(directory)
        found = [(bundle, kid) for bundle in theirs for kid in _named(bundle, what)]
        kids = {kid: Revoked(role=bundle.role, id=bundle.id, at=wall_ms()) for bundle, kid in found}
        if kids:
            revoke(directory, kids)
        destroyed = [kid for kid in _kids(what) if not kids and rotation.destroy(directory, kid)]
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    for bundle, kid in found:
        _say(out, bundle, kid, "revoked")
    for kid in destroyed:
        _say(out, mine, kid, "destroyed")
    if destroyed:
        place = directory / rotation.BUNDLES[mine.role]
        out.line(f"carry {place} to the other side", f"请将 {place} 交给对方")
    if not found and not destroyed:
        out.error(f"{what}: no such key here; `meterwire keys show` lists them",
                  f"{what}：没有此密钥；`meterwire keys show` 会列出")  # fmt: skip
        return Exit.NOTHING
    return Exit.GOOD


def _kids(what: str) -> list[bytes]:
    """The key id in what was given, if it is one or a fingerprint."""
    text = what.removeprefix("SHA256:").lower()
    if len(text) not in (16, 64) or not all(digit in "0123456789abcdef" for digit in text):
        return []
    return [bytes.fromhex(text[:16])]


def _named(bundle: PublicKeys, what: str) -> list[bytes]:
    if what == bundle.id:
        return [key_id(key) for _, _, key in each_key(bundle)]
    return [kid for kid in _kids(what) if kid in bundle.kids]


def _say(out: Output, keys: PublicKeys, kid: bytes, result: str) -> None:
    said = {"revoked": "已吊销", "destroyed": "已销毁"}[result]
    out.line(f"{keys.role} {keys.id}: {result}: {kid.hex()}", f"{ROLES[keys.role]} {keys.id}：{said}：{kid.hex()}")
    out.object({"role": keys.role, "id": keys.id, "kid": kid.hex(), "result": result})
