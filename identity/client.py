"""TLS towards a broker, certificates on both sides: files in, a context out, and what is wrong with which file."""

import ssl
import stat
from pathlib import Path


def client_context(*, ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later that believes `ca` and shows `certificate`. Raises OSError naming the file."""
    for file in (ca, certificate, key):
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{file}: expected a PEM file, got none")
    if key is not None and (mode := stat.S_IMODE(key.stat().st_mode)) & 0o077:
        raise PermissionError(f"{key}: expected mode 0600, got {mode:04o}: others can read the private key")
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise OSError(f"{ca}: expected certificates in PEM, got something else") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise OSError(f"{key}: expected the private key of {certificate}, got another one") from error
            raise OSError(f"{certificate}: expected a certificate in PEM, and its private key in {key}") from error
    return context
