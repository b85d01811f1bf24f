"""TLS certificates of a small authority of one's own, for the demo and the tests: P-256, common name = gateway id."""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity import files
from identity.private import private_pem

VALID: Final = timedelta(days=365)
EARLY: Final = timedelta(days=1)
"""Certificates hold from a day before they were made: a peer's clock may be behind."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its certificate's file for those who check, its key for issuing."""

    certificate: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


def make_ca(directory: Path, *, cn: str = "Meterwire demo authority", now: datetime | None = None) -> Authority:
    """Make an authority: ca.pem and ca.key in the directory. Raises IdentityError if there already is one."""
    files.make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    files.write(directory / "ca.key", private_pem(key))
    files.write(directory / "ca.pem", certificate.public_bytes(Encoding.PEM))
    return Authority(directory / "ca.pem", name, key)


def issue(ca: Authority, cn: str, directory: Path, *, server: bool = False, now: datetime | None = None) -> Issued:
    """Make CN.pem and CN.key in the directory: a client's certificate, or one for a server on this machine.

    A server's names are localhost, 127.0.0.1 and ::1. Raises IdentityError if the files are there.
    """
    files.make_directory(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(name, ca.name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if server:
        loopback = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), *loopback])
        builder = builder.add_extension(names, critical=False)
    made = Issued(directory / f"{cn}.pem", directory / f"{cn}.key")
    files.write(made.key, private_pem(key))
    files.write(made.certificate, builder.sign(ca.key, SHA256()).public_bytes(Encoding.PEM))
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime | None
) -> x509.CertificateBuilder:
    start = now if now is not None else datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - EARLY)
        .not_valid_after(start + VALID)
    )
