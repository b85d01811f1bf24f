"""What is not a key, a bundle or an answer of a token as it should be is refused, each with its own error."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity import files, rotation, token
from identity.centre import Centre
from identity.client import client_context
from identity.datakey import key_record, new_data_key, open_key_record
from identity.files import FILE_BYTES_MAX, IdentityError
from identity.gateway import CentreTrust
from identity.private import load_signing, private_pem
from identity.public import KEYS_MAX, PublicKeys, key_id
from identity.trust import REVOKED_FILE, own, revoked
from identity.wrapping import info, wrap
from protocols.errors import Malformed
from protocols.messages import KeyRecord, Wrapped, signed, verified
from protocols.suites import RSA_OAEP_256
from tests.chain import keys

NOW = 1_790_000_000_000
KID = bytes(8)


def test_a_file_that_is_there_is_replaced_on_purpose_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.write(path, b"first")
    with pytest.raises(IdentityError, match="already there"):
        files.write(path, b"second")
    assert path.read_bytes() == b"first"
    files.write(path, b"third", replace=True)
    assert path.read_bytes() == b"third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.write(path, bytes(FILE_BYTES_MAX))
    assert len(files.read_secret(path)) == FILE_BYTES_MAX == 64 * 1024
    files.write(path, bytes(FILE_BYTES_MAX + 1), replace=True)
    for read in (files.read_secret, files.read_public):
        with pytest.raises(IdentityError, match="at most 65536 bytes"):
            read(path)


def test_a_file_that_is_not_there_may_be_removed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    for _ in range(2):
        files.remove(tmp_path / "key")
    assert not (tmp_path / "key").exists()


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def bundle(**changed: object) -> bytes:
    """The bundle of a gateway, with something else in it."""
    good = {"meterwire": "public-keys/1", "role": "gateway", "id": "gw-1",
            "sign": [pem(ec.generate_private_key(ec.SECP256R1()))]}  # fmt: skip
    return json.dumps(good | changed).encode()


@pytest.mark.parametrize("sign", [7, None, "text", {}, [], [7], [""], [pem(ec.generate_private_key(ec.SECP384R1()))],
                                  [pem(ec.generate_private_key(ec.SECP256R1()))] * (KEYS_MAX + 1)])  # fmt: skip
def test_keys_that_are_no_list_of_p256_keys_are_refused(sign: object) -> None:
    with pytest.raises(IdentityError, match="sign: "):
        PublicKeys.decode(bundle(sign=sign), Path("bundle.json"))


@pytest.mark.parametrize(
    "history",
    [{"issue": -1}, {"issue": 1 << 31}, {"issue": "1"}, {"issue": True}, {"issue": None}, {"dates": []},
     {"dates": {"xy": {}}}, {"dates": {"00": {"made": "yesterday"}}}, {"dates": {"00": 7}}, {"succeeds": 7},
     {"succeeds": {}}, {"succeeds": {"kid": "00"}}, {"succeeds": {"kid": "00", "signature": "xy"}}],
)  # fmt: skip
def test_a_history_that_is_none_is_refused(history: dict[str, object]) -> None:
    with pytest.raises(IdentityError, match="dates, issue, succeeds: "):
        PublicKeys.decode(bundle(**history), Path("bundle.json"))


def test_the_last_issue_is_taken() -> None:
    """The control of the two above."""
    assert PublicKeys.decode(bundle(issue=(1 << 31) - 1), Path("bundle.json")).issue == (1 << 31) - 1


def test_a_centre_does_not_work_with_a_gateways_bundle(tmp_path: Path) -> None:
    Centre.create(tmp_path / "c", wrap="hpke", now_ms=NOW)
    (tmp_path / "c" / "centre.json").write_bytes(bundle())
    with pytest.raises(IdentityError, match="expected the keys of a centre, got those of a gateway"):
        Centre.load(tmp_path / "c")


def test_what_is_wrapped_for_nobody_here_is_malformed() -> None:
    wrapped = Wrapped(kid=KID, algorithm=RSA_OAEP_256, key=bytes(384))
    with pytest.raises(Malformed, match="which is not one of this centre"):
        keys()[1].unwrap(wrapped, b"")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_data_key_of_another_length_is_malformed(length: int) -> None:
    """Truly signed and truly wrapped, by a gateway that is wrong: a message that is odd, and no mistake of ours."""
    gateway, centre = keys()
    key = new_data_key(7, 1, os.urandom)
    good = key_record(gateway, CentreTrust.of(centre.public), key)
    record = verified(KeyRecord, good, gateway=gateway.gateway, verify=gateway.public.verify)
    bound = info(gateway=gateway.gateway, epoch=key.epoch, kid=key.kid, algorithm=key.algorithm)
    (first,) = record.wrapped
    short = replace(record, wrapped=(replace(first, key=wrap(centre.public.wrap[0], bytes(length), bound)),))
    message = signed(short, kid=gateway.kid, sign=gateway.sign)
    with pytest.raises(Malformed, match=f"expected 32 bytes, got {length}"):
        open_key_record(message, gateway=gateway.gateway, centre=centre, verify=gateway.public.verify)


def test_an_rsa_key_signs_nothing(tmp_path: Path) -> None:
    files.make_directory(tmp_path / "keys")
    path = tmp_path / "keys" / "gateway.key"
    files.write(path, private_pem(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(IdentityError, match="expected a P-256 key, got RSAPrivateKey"):
        load_signing(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"xy": {}}', '{"00": 7}', '{"00": {"who": "?"}}'])
def test_a_damaged_list_of_revoked_keys_revokes_nothing_unsaid(tmp_path: Path, text: str) -> None:
    (tmp_path / REVOKED_FILE).write_text(text)
    with pytest.raises(IdentityError, match="expected the revoked keys"):
        revoked(tmp_path)


def test_prepared_keys_stand_behind_the_one_in_use_and_before_earlier_ones(tmp_path: Path) -> None:
    Centre.create(tmp_path / "c", wrap="hpke", now_ms=NOW)
    first = Centre.load(tmp_path / "c").kid
    rotation.prepare(tmp_path / "c", wrap="hpke", now_ms=NOW)
    rotation.rotate(tmp_path / "c", now_ms=NOW)
    second = Centre.load(tmp_path / "c").kid
    prepared = rotation.prepare(tmp_path / "c", wrap="hpke", now_ms=NOW)
    order = [key_id(key) for key in prepared.sign]
    assert [order[0], order[2]] == [second, first]
    assert len(set(order)) == len(order) == 3


def test_keys_are_prepared_until_they_are_in_use(tmp_path: Path) -> None:
    Centre.create(tmp_path / "c", wrap="hpke", now_ms=NOW)
    assert not rotation.prepared(tmp_path / "c")
    rotation.prepare(tmp_path / "c", wrap="hpke", now_ms=NOW)
    assert rotation.prepared(tmp_path / "c")
    rotation.rotate(tmp_path / "c", now_ms=NOW)
    assert not rotation.prepared(tmp_path / "c")
    before = own(tmp_path / "c")
    with pytest.raises(IdentityError, match="expected prepared keys, got none"):
        rotation.rotate(tmp_path / "c", now_ms=NOW)
    assert own(tmp_path / "c") == before


def test_a_key_that_is_published_no_more_is_destroyed_without_a_new_bundle(tmp_path: Path) -> None:
    """Its word would be asked of everyone for nothing."""
    Centre.create(tmp_path / "c", wrap="hpke", now_ms=NOW)
    first = key_id(own(tmp_path / "c").wrap[0])
    while first in own(tmp_path / "c").kids:
        rotation.prepare(tmp_path / "c", wrap="hpke", now_ms=NOW)
        rotation.rotate(tmp_path / "c", now_ms=NOW)
    before = own(tmp_path / "c")
    assert first in Centre.load(tmp_path / "c").openers
    assert rotation.destroy(tmp_path / "c", first)
    assert first not in Centre.load(tmp_path / "c").openers
    assert own(tmp_path / "c") == before


@pytest.mark.parametrize("mode", [0o610, 0o604, 0o640, 0o601])
def test_a_key_for_the_broker_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "gw.key"
    key.write_text("key")
    key.chmod(mode)
    with pytest.raises(PermissionError, match="others can read the private key"):
        client_context(ca=None, certificate=None, key=key)
    assert client_context(ca=None, certificate=None, key=None)


@dataclass(slots=True)
class _Key:
    """A private key in a token that refuses."""

    refuse: Callable[[], Exception]

    def decrypt(self, *_: object, **__: object) -> bytes:
        raise self.refuse()


@dataclass(slots=True)
class _Session:
    key: _Key

    def get_key(self, **_: object) -> _Key:
        return self.key


@pytest.mark.skipif(find_spec("pkcs11") is None, reason="without the package python-pkcs11")
@pytest.mark.parametrize(
    ("name", "error"),
    [("EncryptedDataInvalid", ValueError), ("EncryptedDataLenRange", ValueError), ("DataInvalid", ValueError),
     ("DataLenRange", ValueError), ("GeneralError", IdentityError), ("KeyTypeInconsistent", IdentityError),
     ("DeviceError", token.TokenAway)],
)  # fmt: skip
def test_what_a_token_cannot_open_is_told_from_a_token_that_fails(
    monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]
) -> None:
    """The one is a bad record, set aside for good; the other goes by, and the record must not go with it."""
    import pkcs11

    def opened(*_: object, **__: object) -> Any:
        return _Session(_Key(getattr(pkcs11.exceptions, name)))

    monkeypatch.setattr(token, "_sessions", {})
    monkeypatch.setattr(token, "_open", opened)
    (public,) = keys()[1].public.wrap
    assert isinstance(public, rsa.RSAPublicKey)
    opener = token.opener(token.parse("pkcs11:token=a;object=b"), public, KID)
    with pytest.raises(error) as refused:
        opener.open(bytes(384), b"")
    assert type(refused.value) is error
