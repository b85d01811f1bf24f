"""New keys for old: taken in by the word of the key before, never backwards, and whole after a crash at any write."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity import files, rotation, wrapping
from identity.centre import Centre, GatewayTrust
from identity.datakey import key_record, new_data_key, open_key_record, renewed
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import PublicKeys, key_id
from identity.trust import Revoked, own, revoke, revoked, trust, trusted

NOW = 1_790_000_000_000


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The directories of gateway gw-1 and of a centre (P-256, for HPKE: quickly made) that trust each other."""
    gateway, centre = tmp_path / "g", tmp_path / "c"
    GatewayIdentity.create(gateway, "gw-1", now_ms=NOW)
    Centre.create(centre, wrap="hpke", now_ms=NOW)
    trust(gateway, own(centre))
    trust(centre, own(gateway))
    return gateway, centre


def test_prepared_keys_are_believed_before_they_are_used(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    before, identity, key = Centre.load(centre), GatewayIdentity.load(gateway), new_data_key(1, 1, lambda n: bytes(n))
    records = [key_record(identity, CentreTrust.load(gateway), key)]
    prepared = rotation.prepare(centre, wrap="hpke", now_ms=NOW + 1)
    assert [len(prepared.sign), len(prepared.wrap)] == [2, 2]
    assert Centre.load(centre).kid == before.kid, "not in use yet"
    assert trust(gateway, PublicKeys.load(centre / "centre.json")) == "succeeded"
    believed = CentreTrust.load(gateway)
    rotation.rotate(centre, now_ms=NOW + 2)
    after = Centre.load(centre)
    assert after.kid == key_id(prepared.sign[1]) != before.kid
    assert believed.verify(after.kid, b"receipt", after.sign(b"receipt")), "the gateway knew it already"
    assert after.public.verify(before.kid, b"receipt", before.sign(b"receipt")), "and believes the one before still"
    records.append(key_record(identity, believed, key))
    for record in records:
        for each in (before, after):  # whichever of both keys a worker holds, it opens
            assert open_key_record(record, gateway="gw-1", centre=each, verify=identity.public.verify) == key
    assert after.public.dates[before.kid].made == NOW // 1000 * 1000
    assert after.public.dates[before.kid].retired == (NOW + 2) // 1000 * 1000


def test_the_gateway_rotates_likewise(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    known = GatewayTrust.load(centre)
    before = GatewayIdentity.load(gateway)
    rotation.prepare(gateway, now_ms=NOW)
    rotation.rotate(gateway, now_ms=NOW)
    after = GatewayIdentity.load(gateway, "gw-1")
    assert not known.verifier("gw-1")(after.kid, b"x", after.sign(b"x"))
    assert trust(centre, PublicKeys.load(gateway / "gateway.json")) == "succeeded"
    for each in (before, after):
        assert known.verifier("gw-1")(each.kid, b"x", each.sign(b"x"))
    assert sorted(path.name for path in gateway.rglob("*.key")) == ["gateway.key"], "the earlier private half is gone"


def test_an_earlier_bundle_never_takes_the_place_of_a_later_one(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    issues = [own(centre)]
    for _ in range(2):
        issues.append(rotation.prepare(centre, wrap="hpke", now_ms=NOW))
        issues.append(rotation.rotate(centre, now_ms=NOW))
    for later in issues[1:]:
        assert trust(gateway, later) == "succeeded"
    for earlier in issues[:-1]:
        with pytest.raises(IdentityError, match="--replace"):
            trust(gateway, earlier)
    assert trust(gateway, issues[-1]) == "known"


def test_a_bundle_that_the_key_in_use_did_not_sign_is_not_taken_in(pair: tuple[Path, Path], tmp_path: Path) -> None:
    gateway, centre = pair
    good = rotation.prepare(centre, wrap="hpke", now_ms=NOW)
    thief = Centre.create(tmp_path / "thief", wrap="hpke").public
    assert good.succession is not None
    for forged in (
        replace(thief, succession=good.succession, issue=9),
        replace(good, sign=(*good.sign, *thief.sign)),
        replace(good, wrap=thief.wrap),
        replace(good, issue=good.issue + 1),
        replace(good, succession=replace(good.succession, kid=key_id(good.sign[1]))),
        good.bare(),
        rotation.prepare(tmp_path / "thief", wrap="hpke"),
    ):
        with pytest.raises(IdentityError, match="--replace"):
            trust(gateway, forged)
    assert trust(gateway, good) == "succeeded"


def test_three_keys_of_a_use_are_published_and_all_wrapping_keys_still_open(pair: tuple[Path, Path]) -> None:
    _, centre = pair
    kids = [key_id(own(centre).wrap[0])]
    for _ in range(4):
        rotation.prepare(centre, wrap="hpke", now_ms=NOW)
        kids.append(key_id(rotation.rotate(centre, now_ms=NOW).wrap[0]))
    loaded = Centre.load(centre)
    assert [key_id(key) for key in loaded.public.wrap] == kids[:-4:-1]
    assert set(kids) == set(loaded.openers)
    assert len(loaded.public.sign) == rotation.PUBLISHED_MAX


class PowerCut(Exception):
    """The machine stops."""


def _cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Callable[[], int]:
    """Let so many writes and removals of key files happen, and not the next."""
    done = [0]

    def counting(action: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object, **named: object) -> None:
            if done[0] == steps:
                raise PowerCut
            done[0] += 1
            action(*arguments, **named)

        return step

    monkeypatch.setattr(files, "write", counting(files.write))
    monkeypatch.setattr(files, "remove", counting(files.remove))
    return lambda: done[0]


@pytest.mark.parametrize("role", ["gateway", "centre"])
def test_a_crash_between_any_two_writes_leaves_keys_that_load_and_the_command_finishes(
    pair: tuple[Path, Path], role: str
) -> None:
    place, other = pair if role == "gateway" else pair[::-1]
    for steps in range(20):
        before = own(place)
        with pytest.MonkeyPatch.context() as monkeypatch:
            count = _cut_after(monkeypatch, steps)
            try:
                rotation.prepare(place, wrap="hpke", now_ms=NOW)
                rotation.rotate(place, now_ms=NOW)
                whole = True
            except PowerCut:
                whole = False
        between = own(place)
        assert {key_id(before.sign[0])} <= between.kids
        if not whole:
            rotation.prepare(place, wrap="hpke", now_ms=NOW)
            rotation.rotate(place, now_ms=NOW)
        after = own(place)
        assert key_id(after.sign[0]) not in before.kids, "a new key is in use"
        assert after.dates[key_id(before.sign[0])].retired == NOW // 1000 * 1000
        assert not rotation.prepared(place)
        loaded = GatewayIdentity.load(place) if role == "gateway" else Centre.load(place)
        assert loaded.public.verify(loaded.kid, b"x", loaded.sign(b"x"))
        if isinstance(loaded, Centre):
            assert key_id(before.wrap[0]) in loaded.openers, "what was wrapped before still opens"
            assert {key_id(key) for key in loaded.public.wrap[:1]} <= loaded.openers.keys()
        trust(other, PublicKeys.load(place / rotation.BUNDLES[role]), replace=True)
        if whole:
            assert count() == steps
            return
    raise AssertionError("a rotation takes fewer writes than that")


def test_a_revoked_key_is_never_believed_again(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    known = GatewayTrust.load(centre)
    stolen = GatewayIdentity.load(gateway)
    rotation.prepare(gateway, now_ms=NOW)
    rotation.rotate(gateway, now_ms=NOW)
    trust(centre, PublicKeys.load(gateway / "gateway.json"))
    after = GatewayIdentity.load(gateway)
    revoke(centre, {stolen.kid: Revoked(role="gateway", id="gw-1", at=NOW)})
    assert not known.verifier("gw-1")(stolen.kid, b"x", stolen.sign(b"x"))
    assert known.verifier("gw-1")(after.kid, b"x", after.sign(b"x"))
    assert trust(centre, PublicKeys.load(gateway / "gateway.json")) == "known", "what is left of it is believed already"
    assert stolen.kid not in trusted(centre)[0].kids
    revoke(centre, {after.kid: Revoked(role="gateway", id="gw-1", at=NOW)})
    assert trusted(centre) == [] and set(revoked(centre)) == {stolen.kid, after.kid}
    with pytest.raises(IdentityError, match="revoked here"):
        trust(centre, PublicKeys.load(gateway / "gateway.json"), replace=True)


def test_a_revoked_wrapping_key_is_wrapped_for_no_more(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    rotation.prepare(centre, wrap="hpke", now_ms=NOW)
    public = rotation.rotate(centre, now_ms=NOW)
    trust(gateway, public)
    believed = CentreTrust.load(gateway)
    assert len(believed.recipients) == 2
    revoke(gateway, {key_id(public.wrap[1]): Revoked(role="centre", id="centre", at=NOW)})
    assert [key_id(key) for key in believed.recipients] == [key_id(public.wrap[0])]


def test_an_own_key_in_use_is_not_destroyed_and_an_earlier_one_is(pair: tuple[Path, Path]) -> None:
    _, centre = pair
    first = key_id(own(centre).wrap[0])
    with pytest.raises(IdentityError, match="in use"):
        rotation.destroy(centre, first)
    rotation.prepare(centre, wrap="hpke", now_ms=NOW)
    rotation.rotate(centre, now_ms=NOW)
    assert first in Centre.load(centre).openers
    assert rotation.destroy(centre, first)
    assert first not in Centre.load(centre).openers and first not in own(centre).kids
    assert not rotation.destroy(centre, first)


def test_a_record_is_made_anew_as_far_as_its_key_is_known(pair: tuple[Path, Path]) -> None:
    gateway, centre = pair
    identity, believed = GatewayIdentity.load(gateway), CentreTrust.load(gateway)
    key, other = new_data_key(1, 1, lambda n: bytes(n)), new_data_key(1, 2, lambda n: b"\1" * n)
    record = key_record(identity, believed, key)
    assert renewed(identity, believed, record, None) == record, "nothing has changed"
    rotation.prepare(gateway, now_ms=NOW)
    rotation.rotate(gateway, now_ms=NOW)
    new = GatewayIdentity.load(gateway)
    again = renewed(new, believed, record, None)
    assert again is not None and again != record
    only = GatewayTrust.of(new.public.without(frozenset({identity.kid})))
    assert open_key_record(again, gateway="gw-1", centre=Centre.load(centre), verify=only.verifier("gw-1")) == key
    second = Centre.of(ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()), id="second")
    both = CentreTrust.of(*believed.centres, second.public)
    assert renewed(new, both, record, None) is None and renewed(new, both, record, other) is None
    for_both = renewed(new, both, record, key)
    assert for_both is not None
    for each in (second, Centre.load(centre)):
        assert open_key_record(for_both, gateway="gw-1", centre=each, verify=only.verifier("gw-1")) == key


def test_an_old_library_without_hpke_says_so(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, centre = pair
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.hpke", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.hpke", raising=False)
    said = "HPKE: expected cryptography 47 or later"
    for what in (
        lambda: CentreTrust.load(gateway),
        lambda: Centre.load(centre),
        lambda: rotation.prepare(centre, wrap="hpke"),
    ):
        with pytest.raises(IdentityError, match=said):
            what()
    assert not wrapping.can_wrap(PublicKeys.load(centre / "centre.json").wrap[0])
