"""Keys: kept so that only their owner reads them, made so that no nonce repeats, believed only when they are shown."""

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from identity import tls
from identity.centre import Centre, GatewayTrust
from identity.datakey import key_record, new_data_key, open_key_record
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import PublicKeys, fingerprint, key_id
from identity.trust import own, trust, trusted
from protocols import envelope
from protocols.envelope import BatchKind
from protocols.errors import Malformed


@pytest.fixture(scope="module")
def pair() -> tuple[GatewayIdentity, Centre]:
    """A gateway and a centre, in memory."""
    centre = Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072))
    return GatewayIdentity.of("gw-1", ec.generate_private_key(ec.SECP256R1())), centre


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of gateway gw-1's keys."""
    GatewayIdentity.create(tmp_path / "keys", "gw-1")
    return tmp_path / "keys"


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a centre's keys, to be read only."""
    directory = tmp_path_factory.mktemp("centre") / "keys"
    Centre.create(directory)
    return directory


def test_keys_come_back_from_their_files(home: Path, seat: Path) -> None:
    gateway, centre = GatewayIdentity.load(home, "gw-1"), Centre.load(seat)
    assert gateway.public.verify(gateway.kid, b"data", gateway.sign(b"data"))
    assert centre.public.verify(centre.kid, b"data", centre.sign(b"data"))
    assert not gateway.public.verify(gateway.kid, b"other", gateway.sign(b"data"))
    assert not gateway.public.verify(centre.kid, b"data", gateway.sign(b"data"))
    assert not gateway.public.verify(gateway.kid, b"data", gateway.sign(b"data")[:63])
    assert own(home).id == "gw-1" and own(seat).role == "centre"


def test_everything_is_written_for_its_owner_alone(home: Path, seat: Path) -> None:
    before = os.umask(0)
    try:
        wide = GatewayIdentity.create(home.parent / "wide" / "keys", "gw-2")
    finally:
        os.umask(before)
    assert wide.gateway == "gw-2"
    for directory in (home, seat, home.parent / "wide" / "keys"):
        assert directory.stat().st_mode & 0o7777 == 0o700
        for file in directory.iterdir():
            assert file.stat().st_mode & 0o7777 == 0o600, file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused_with_the_reason(home: Path, mode: int) -> None:
    (home / "gateway.key").chmod(mode)
    with pytest.raises(IdentityError) as error:
        GatewayIdentity.load(home, "gw-1")
    for part in (str(home / "gateway.key"), "expected mode 0600", f"got {mode:04o}", "chmod 600"):
        assert part in str(error.value)


def test_a_directory_that_others_can_look_into_is_refused(home: Path) -> None:
    home.chmod(0o750)
    with pytest.raises(IdentityError, match=r"expected mode 0700, got 0750.*chmod 700"):
        GatewayIdentity.load(home, "gw-1")
    with pytest.raises(IdentityError, match="expected mode 0700"):
        GatewayIdentity.create(home, "gw-1")


def test_a_missing_key_is_named_with_what_to_do(tmp_path: Path, home: Path) -> None:
    with pytest.raises(IdentityError, match="keys init"):
        GatewayIdentity.load(tmp_path / "nowhere", "gw-1")
    (home / "gateway.key").unlink()
    with pytest.raises(IdentityError, match=r"gateway\.key: expected a key file, got No such file.*keys init"):
        GatewayIdentity.load(home, "gw-1")


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def _other_key(path: Path) -> None:
    other = path.parent.parent / "other"
    GatewayIdentity.create(other, "gw-1")
    path.write_bytes((other / path.name).read_bytes())


def _long(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("file", ["gateway.key", "gateway.json"])
@pytest.mark.parametrize("damage", [_garbage, _other_key, _long, _directory, _pipe])
def test_a_damaged_file_is_an_identity_error(home: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(home / file)
    with pytest.raises(IdentityError, match=r"gateway\."):
        GatewayIdentity.load(home, "gw-1")


def test_the_keys_of_one_gateway_do_not_serve_another(home: Path) -> None:
    with pytest.raises(IdentityError, match="expected the key of gateway gw-2, got that of gateway gw-1"):
        GatewayIdentity.load(home, "gw-2")


def test_keys_are_never_replaced(home: Path) -> None:
    before = (home / "gateway.key").read_bytes(), (home / "gateway.json").read_bytes()
    with pytest.raises(IdentityError, match="already there"):
        GatewayIdentity.create(home, "gw-2")
    assert before == ((home / "gateway.key").read_bytes(), (home / "gateway.json").read_bytes())
    assert sorted(path.name for path in home.iterdir()) == ["gateway.json", "gateway.key"]


@pytest.mark.parametrize("name", ["", "GW", "gw_1", "x" * 33, "../gw", "gw/1"])
def test_an_id_that_no_topic_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError, match="gateway id"):
        GatewayIdentity.create(tmp_path / "keys", name)


def test_a_key_record_gives_the_centre_the_data_key(pair: tuple[GatewayIdentity, Centre]) -> None:
    gateway, centre = pair
    key = new_data_key((5 << 32) | 9, 20_000, os.urandom)
    record = key_record(gateway, CentreTrust.of(centre.public), key)
    known = GatewayTrust.of(gateway.public)
    assert open_key_record(record, gateway="gw-1", centre=centre, verify=known.verifier("gw-1")) == key
    message = envelope.seal(key, gateway="gw-1", seq=1, kind=BatchKind.CAPTURES, body=b"body")
    assert key.key not in record and key.key not in message


def test_a_key_record_is_for_every_trusted_centre(pair: tuple[GatewayIdentity, Centre]) -> None:
    gateway, centre = pair
    second = Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072), id="standby")
    stranger = Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072))
    key = new_data_key(1, 2, os.urandom)
    record = key_record(gateway, CentreTrust.of(centre.public, second.public), key)
    known = GatewayTrust.of(gateway.public)
    for each in (centre, second):
        assert open_key_record(record, gateway="gw-1", centre=each, verify=known.verifier("gw-1")) == key
    with pytest.raises(Malformed, match="not wrapped for any key of this centre"):
        open_key_record(record, gateway="gw-1", centre=stranger, verify=known.verifier("gw-1"))


def test_a_key_record_of_another_gateway_is_rejected(pair: tuple[GatewayIdentity, Centre]) -> None:
    gateway, centre = pair
    record = key_record(gateway, CentreTrust.of(centre.public), new_data_key(1, 2, os.urandom))
    twin = PublicKeys(role="gateway", id="gw-2", sign=gateway.public.sign)
    for known, name in [
        (GatewayTrust.of(gateway.public), "gw-2"),
        (GatewayTrust.of(twin), "gw-2"),
        (GatewayTrust.of(), "gw-1"),
        (GatewayTrust.of(twin), "gw-1"),
    ]:
        with pytest.raises(Malformed):
            open_key_record(record, gateway=name, centre=centre, verify=known.verifier(name))


def test_trust_is_taken_in_and_taken_away_while_running(home: Path, seat: Path, tmp_path: Path) -> None:
    centre_home = tmp_path / "centre"
    centre_home.mkdir(mode=0o700)
    for name in ("sign.key", "wrap.key", "centre.json"):
        (centre_home / name).write_bytes((seat / name).read_bytes())
        (centre_home / name).chmod(0o600)
    known = GatewayTrust.load(centre_home)
    gateway = GatewayIdentity.load(home)
    signature = gateway.sign(b"hello")
    assert not known.verifier("gw-1")(gateway.kid, b"hello", signature)
    assert trust(centre_home, gateway.public) == "new"
    assert known.verifier("gw-1")(gateway.kid, b"hello", signature)
    assert not known.verifier("gw-2")(gateway.kid, b"hello", signature)
    assert trust(centre_home, gateway.public) == "known"
    (centre_home / "trusted" / "gateways" / "gw-1.json").unlink()
    assert not known.verifier("gw-1")(gateway.kid, b"hello", signature)


def test_other_keys_of_a_known_id_are_taken_only_on_purpose(home: Path, seat: Path, tmp_path: Path) -> None:
    first, centre = Centre.load(seat).public, GatewayIdentity.load(home)
    assert trust(home, first) == "new"
    other = PublicKeys(role="centre", id="centre", sign=centre.public.sign, wrap=first.wrap)
    with pytest.raises(IdentityError, match="--replace"):
        trust(home, other)
    assert trusted(home)[0].encode() == first.encode()
    assert trust(home, other, replace=True) == "replaced"
    assert trusted(home)[0].encode() == other.encode()


def test_a_gateway_believes_no_gateway(home: Path, tmp_path: Path) -> None:
    other = GatewayIdentity.create(tmp_path / "other", "gw-2")
    with pytest.raises(IdentityError, match="expected the public keys of a centre"):
        trust(home, other.public)
    with pytest.raises(IdentityError, match="keys trust"):
        CentreTrust.load(home)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("public-keys/1", "public-keys/2"),
        lambda text: text.replace('"centre"', '"queen"', 1),
        lambda text: text.replace('"wrap"', '"warp"'),
        lambda text: text.replace("-----BEGIN PUBLIC KEY-----", "-----BEGIN CARROT-----"),
        lambda text: text.replace('"role": "centre"', '"role": "gateway"'),
        lambda text: text[:-20],
        lambda text: "[" * 10_000,
    ],
)
def test_a_bundle_that_is_not_one_is_an_identity_error(
    seat: Path, tmp_path: Path, change: Callable[[str], str]
) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(change((seat / "centre.json").read_text()))
    with pytest.raises(IdentityError, match=r"bundle\.json"):
        PublicKeys.load(path)


def test_a_short_rsa_key_is_not_a_wrapping_key(tmp_path: Path, seat: Path) -> None:
    good = PublicKeys.load(seat / "centre.json")
    weak = PublicKeys(
        role="centre", id="centre", sign=good.sign, wrap=(rsa.generate_private_key(65537, 2048).public_key(),)
    )
    (tmp_path / "weak.json").write_bytes(weak.encode())
    with pytest.raises(IdentityError, match="at least 3072 bits"):
        PublicKeys.load(tmp_path / "weak.json")


@given(st.binary(max_size=100))
@settings(max_examples=30)
def test_a_random_bundle_is_an_identity_error(data: bytes) -> None:
    with pytest.raises(IdentityError):
        PublicKeys.decode(data, Path("bundle.json"))


def test_a_fingerprint_begins_with_the_id_of_its_key(seat: Path) -> None:
    key = PublicKeys.load(seat / "centre.json").sign[0]
    assert fingerprint(key).startswith(f"SHA256:{key_id(key).hex()}") and len(fingerprint(key)) == 71


def test_nothing_private_is_ever_shown(home: Path, seat: Path) -> None:
    for shown in (repr(GatewayIdentity.load(home)), repr(Centre.load(seat)), repr(new_data_key(1, 1, os.urandom))):
        assert "PRIVATE" not in shown and "key=" not in shown and "sign=<function" not in shown


@contextmanager
def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Iterator[ssl.SSLObject]:
    """TLS in memory: what the client's side knows afterwards."""
    wires = [ssl.MemoryBIO() for _ in range(4)]
    ends = [
        client.wrap_bio(wires[0], wires[1], server_hostname=name),
        server.wrap_bio(wires[2], wires[3], server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for at, end in enumerate(ends):
            try:
                end.do_handshake()
                done[at] = True
            except ssl.SSLWantReadError:
                done[at] = False
        wires[2].write(wires[1].read())
        wires[0].write(wires[3].read())
    assert done == [True, True]
    yield ends[1]


def test_issued_certificates_serve_mutual_tls_on_this_machine(tmp_path: Path) -> None:
    ca = tls.make_ca(tmp_path / "tls")
    broker = tls.issue(ca, "broker", tmp_path / "tls", server=True)
    gateway = tls.issue(ca, "gw-1", tmp_path / "tls")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca.certificate))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(broker.certificate, broker.key)
    client = ssl.create_default_context(cafile=str(ca.certificate))
    client.load_cert_chain(gateway.certificate, gateway.key)
    for name in ("localhost", "127.0.0.1"):
        with _handshake(server, client, name) as end:
            assert (end.getpeercert() or {})["subject"] == ((("commonName", "gw-1"),),)
    with pytest.raises(ssl.SSLCertVerificationError), _handshake(server, client, "example.org"):
        raise AssertionError("a name that the certificate does not have")
    impostor = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    impostor.load_cert_chain(gateway.certificate, gateway.key)
    with pytest.raises(ssl.SSLCertVerificationError), _handshake(impostor, client, "localhost"):
        raise AssertionError("a gateway's certificate does not make a broker")
    certificate = x509.load_pem_x509_certificate(gateway.certificate.read_bytes())
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
