"""New keys for old: made and published ahead, put to use, and taken out of the world again.

Two steps, so that nobody meets a key that it does not know. `prepare` makes the next keys and publishes them in the
bundle beside those in use; once the other side has taken that bundle in, `rotate` puts them to use. Every bundle is
signed by the key in use before it, so that the other side takes it in without comparing fingerprints again.

The order of the writes is such that a crash between any two leaves keys that load, and the same command finishes:
the bundle first, then an earlier wrapping key among the retired, then the key itself.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from identity import centre, files, gateway
from identity.centre import NEXT, RETIRED
from identity.files import IdentityError
from identity.private import load_signing, load_wrapping, new_signing, new_wrapping
from identity.public import Dates, PublicKey, PublicKeys, Succession, key_id
from identity.trust import own

PUBLISHED_MAX: Final = 3
"""Keys of one use in a bundle: that in use, the next, the one before."""
FILES: Final = {
    "gateway": {"sign": gateway.KEY_FILE},
    "centre": {"sign": centre.SIGN_FILE, "wrap": centre.WRAP_FILE},
}
BUNDLES: Final = {"gateway": gateway.BUNDLE_FILE, "centre": centre.BUNDLE_FILE}

Key = TypeVar("Key", bound=PublicKey)


def prepare(
    directory: Path,
    *,
    uses: frozenset[str] = frozenset({"sign", "wrap"}),
    wrap: str = "rsa",
    sign_token: str | None = None,
    wrap_token: str | None = None,
    now_ms: int | None = None,
) -> PublicKeys:
    """Make the next keys of these uses, where there are none yet, and publish them. Raises IdentityError."""
    public = own(directory)
    names = FILES[public.role]
    files.make_directory(directory / NEXT)
    if "sign" in uses and not (directory / NEXT / names["sign"]).exists():
        files.write(directory / NEXT / names["sign"], new_signing(sign_token))
    if "wrap" in uses & names.keys() and not (directory / NEXT / names["wrap"]).exists():
        files.write(directory / NEXT / names["wrap"], new_wrapping(wrap, wrap_token))
    sign, wraps = _next(directory, public)
    made = {key_id(key): Dates(made=now_ms) for key in (*sign, *wraps) if key_id(key) not in public.kids}
    if not made:
        return public
    changed = replace(
        public,
        sign=_behind_first(public.sign, sign),
        wrap=_behind_first(public.wrap, wraps),
        dates={**public.dates, **made},
    )
    return _publish(directory, changed)


def prepared(directory: Path) -> bool:
    """Whether there are next keys that wait to be put to use."""
    return any((directory / NEXT).glob("*.key"))


def rotate(directory: Path, *, now_ms: int | None = None) -> PublicKeys:
    """Put the next keys to use; an earlier wrapping key stays, to open what was wrapped for it. Raises IdentityError.

    The private half of an earlier signing key is gone for good.
    """
    public = own(directory)
    sign, wraps = _next(directory, public)
    if not sign and not wraps:
        raise IdentityError(f"{directory / NEXT}: expected prepared keys, got none")
    dates = dict(public.dates)
    for new, keys in ((sign, public.sign), (wraps, public.wrap)):
        if new:
            old = key_id(keys[0])
            dates[old] = replace(dates.get(old, Dates()), retired=now_ms)
    changed = replace(public, sign=_to_front(public.sign, sign), wrap=_to_front(public.wrap, wraps), dates=dates)
    made = _publish(directory, changed)
    names = FILES[public.role]
    for use in ("wrap", "sign"):
        name = names.get(use, "")
        if not name or not (directory / NEXT / name).exists():
            continue
        if use == "wrap":
            files.make_directory(directory / RETIRED)
            retired = directory / RETIRED / f"wrap.{key_id(public.wrap[0]).hex()}.key"
            files.write(retired, files.read_private(directory / name), replace=True)
        files.write(directory / name, files.read_private(directory / NEXT / name), replace=True)
        files.remove(directory / NEXT / name)
    return made


def _next(directory: Path, public: PublicKeys) -> tuple[list[PublicKey], list[PublicKey]]:
    """The public halves of the prepared keys: those that sign, those that wrap."""
    names = FILES[public.role]
    sign, wrap = directory / NEXT / names["sign"], directory / NEXT / names.get("wrap", "none")
    return (
        [load_signing(sign).public] if sign.exists() else [],
        [load_wrapping(wrap).public] if wrap.exists() else [],
    )


def _behind_first(keys: tuple[Key, ...], new: list[PublicKey]) -> tuple[Key, ...]:
    fresh = [key for key in new if key_id(key) not in {key_id(each) for each in keys}]
    return (*keys[:1], *fresh, *keys[1:])[:PUBLISHED_MAX]  # type: ignore[return-value]  # of the same use


def _to_front(keys: tuple[Key, ...], new: list[PublicKey]) -> tuple[Key, ...]:
    ids = {key_id(key) for key in new}
    return (*new, *(key for key in keys if key_id(key) not in ids))[:PUBLISHED_MAX]  # type: ignore[return-value]


def _publish(directory: Path, public: PublicKeys) -> PublicKeys:
    """Write the bundle as its next issue, signed by the key that is in use now."""
    bare = replace(public, issue=public.issue + 1, succession=None)
    key = load_signing(directory / FILES[public.role]["sign"])
    said = Succession(kid=key.kid, signature=key.sign(bare.encode()))
    signed = replace(bare, succession=said)
    files.write(directory / BUNDLES[public.role], signed.encode(), replace=True)
    return signed


def destroy(directory: Path, kid: bytes) -> bool:
    """Take one of the own keys that is not in use out of the bundle, and its private half out of the world.

    False if there is no such key. Raises IdentityError for a key in use. A key in a token stays there, for the token's
    own tools to remove.
    """
    public = own(directory)
    in_use = {key_id(keys[0]) for keys in (public.sign, public.wrap) if keys}
    if kid in in_use:
        raise IdentityError(f"{kid.hex()}: in use; put another in its place first with `meterwire keys rotate`")
    names = FILES[public.role]
    places = [directory / RETIRED / f"wrap.{kid.hex()}.key"]
    for use, name in names.items():
        place = directory / NEXT / name
        if place.exists():
            load = load_signing if use == "sign" else load_wrapping
            places += [place] if key_id(load(place).public) == kid else []
    found = [place for place in places if place.exists()]
    if kid not in public.kids and not found:
        return False
    if kid in public.kids:
        _publish(directory, public.without(frozenset({kid})))
    for place in found:
        files.remove(place)
    return True
