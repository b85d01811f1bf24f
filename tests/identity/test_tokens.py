"""Keys in a PKCS#11 token: they sign and open like those in files, never leave it, and every refusal has its reason."""

import os
import re
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from identity import rotation, token
from identity.centre import Centre
from identity.datakey import key_record, new_data_key, open_key_record
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from identity.private import load_signing
from identity.token import parse, unpad
from identity.wrapping import OAEP
from protocols.errors import Malformed
from tests import tokens

needs_token = pytest.mark.skipif(bool(tokens.LACKING), reason=f"without {' and '.join(tokens.LACKING)}")


@needs_token
@pytest.mark.slow
def test_a_gateway_and_a_centre_work_with_their_keys_in_a_token(tmp_path: Path) -> None:
    GatewayIdentity.create(tmp_path / "g", "gw-1", token=tokens.uri("gateway"))
    Centre.create(tmp_path / "c", sign_token=tokens.uri("sign"), wrap_token=tokens.uri("wrap"))
    gateway, centre = GatewayIdentity.load(tmp_path / "g", "gw-1"), Centre.load(tmp_path / "c")
    key = new_data_key(7, 1, os.urandom)
    record = key_record(gateway, CentreTrust.of(centre.public), key)
    assert open_key_record(record, gateway="gw-1", centre=centre, verify=gateway.public.verify) == key
    assert gateway.public.verify(gateway.kid, b"data", gateway.sign(b"data"))
    assert centre.public.verify(centre.kid, b"data", centre.sign(b"data"))
    for at in (60, -80, -1):
        damaged = bytearray(record)
        damaged[at] ^= 1
        with pytest.raises(Malformed):
            open_key_record(bytes(damaged), gateway="gw-1", centre=centre, verify=gateway.public.verify)
    for file in (tmp_path / "g" / "gateway.key", tmp_path / "c" / "sign.key", tmp_path / "c" / "wrap.key"):
        assert re.fullmatch(r"pkcs11:token=meterwire;object=\w+\?.*\n", file.read_text())
        assert file.stat().st_mode & 0o777 == 0o600


@needs_token
@pytest.mark.slow
def test_a_token_says_no_to_what_was_not_wrapped_for_it() -> None:
    wrap = token.parse(tokens.uri("no"))
    token.make_rsa(wrap, 3072)
    public = token.rsa_public(wrap)
    opener = token.opener(wrap, public, b"kid-0001")
    assert opener.open(public.encrypt(b"k" * 32, OAEP), b"") == b"k" * 32
    for bad in (bytes(384), b"\xff" * 384, b"", b"short"):
        with pytest.raises(ValueError, match="does not open"):
            opener.open(bad, b"")


@needs_token
def test_a_key_that_is_there_is_taken_not_made_again(tmp_path: Path) -> None:
    made = GatewayIdentity.create(tmp_path / "one", "gw-1", token=tokens.uri("again"))
    again = GatewayIdentity.create(tmp_path / "two", "gw-1", token=tokens.uri("again"))
    assert made.kid == again.kid
    with pytest.raises(IdentityError, match="already there"):
        GatewayIdentity.create(tmp_path / "one", "gw-1", token=tokens.uri("again"))


@needs_token
def test_a_uri_of_the_configuration_takes_the_place_of_the_file(tmp_path: Path) -> None:
    made = GatewayIdentity.create(tmp_path / "g", "gw-1", token=tokens.uri("configured"))
    (tmp_path / "g" / "gateway.key").unlink()
    assert GatewayIdentity.load(tmp_path / "g", "gw-1", token=tokens.uri("configured")).kid == made.kid
    GatewayIdentity.create(tmp_path / "other", "gw-1", token=tokens.uri("another"))
    with pytest.raises(IdentityError, match="not the public half"):
        GatewayIdentity.load(tmp_path / "g", "gw-1", token=tokens.uri("another"))


@needs_token
def test_a_key_moves_from_a_file_into_a_token_by_rotation(tmp_path: Path) -> None:
    before = GatewayIdentity.create(tmp_path / "g", "gw-1")
    rotation.prepare(tmp_path / "g", sign_token=tokens.uri("moved"))
    public = rotation.rotate(tmp_path / "g")
    after = GatewayIdentity.load(tmp_path / "g", "gw-1")
    assert after.kid != before.kid and public.follows(before.public)
    assert after.public.verify(after.kid, b"data", after.sign(b"data"))
    assert (tmp_path / "g" / "gateway.key").read_text().startswith("pkcs11:")


@needs_token
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("token=meterwire", "token=other", "expected that token, got none"),
        ("object=gateway", "object=nobody", "expected that key in the token, got none"),
        ("/usr/lib/softhsm/libsofthsm2.so", "/nowhere/module.so", "the token refused"),
        ("pin-source=", "pin-source=/nowhere", "expected a key file, got No such file"),
    ],
)
def test_a_token_that_will_not_do_is_refused_with_the_reason(old: str, new: str, said: str) -> None:
    with pytest.raises(IdentityError, match=re.escape(said)) as error:
        load_signing(tokens.uri("gateway").replace(old, new))
    assert tokens.PIN not in str(error.value)


@needs_token
def test_a_pin_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(tokens.PIN)
    (tmp_path / "pin").chmod(0o644)
    token._sessions.clear()
    with pytest.raises(IdentityError, match="expected mode 0600, got 0644"):
        load_signing(tokens.uri("gateway").replace(str(tokens.token()), str(tmp_path / "pin")))


@needs_token
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the binding's own tidying up
def test_a_session_that_ended_is_opened_anew(tmp_path: Path) -> None:
    made = GatewayIdentity.create(tmp_path / "g", "gw-1", token=tokens.uri("ended"))
    for session in token._sessions.values():
        session.close()
    assert made.public.verify(made.kid, b"data", made.sign(b"data"))


def test_without_the_package_a_uri_says_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(IdentityError, match="expected the package python-pkcs11"):
        load_signing("pkcs11:token=a;object=b")


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:", "pkcs11:token=a", "pkcs11:object=b", "pkcs11:token=a;object=b?pin-value=1234",
        "pkcs11:token=;object=b", "pkcs11:token", "pkcs12:token=a;object=b",
    ],
)  # fmt: skip
def test_a_uri_that_names_no_key_is_refused(uri: str) -> None:
    with pytest.raises(IdentityError, match="expected pkcs11:token=LABEL"):
        parse(uri)


def test_a_uri_is_read_with_its_escapes() -> None:
    found = parse("pkcs11:token=my%20token;object=key%3B1?pin-source=file:/etc/pin&module-path=/m.so")
    assert (found.token, found.object, found.pin_source, found.module) == (
        "my token", "key;1", Path("/etc/pin"), "/m.so"
    )  # fmt: skip
    assert parse("pkcs11:token=a;object=b;type=private").module == token.MODULE


RSA = rsa.generate_private_key(65537, 2048)


@given(st.binary(max_size=100))
@settings(max_examples=25)
def test_unpadding_agrees_with_the_library(message: bytes) -> None:
    wrapped = RSA.public_key().encrypt(message, OAEP)
    numbers = RSA.private_numbers()
    block = pow(int.from_bytes(wrapped, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
    assert unpad(block) == message
    for at in (0, 1, 40, 255):
        with pytest.raises(ValueError, match="does not open"):
            unpad(block[:at] + bytes((block[at] ^ 1,)) + block[at + 1 :])


@needs_token
def test_what_a_token_signs_any_library_verifies(tmp_path: Path) -> None:
    made = GatewayIdentity.create(tmp_path / "g", "gw-1", token=tokens.uri("signs"))
    raw = made.sign(b"data")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    made.public.sign[0].verify(der, b"data", ec.ECDSA(SHA256()))
