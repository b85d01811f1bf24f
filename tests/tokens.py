"""A PKCS#11 token to test with: softhsm2, in a directory of its own."""

import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN: Final = "2468"
LABEL: Final = "meterwire"
LACKING: Final = [
    what
    for what, there in (
        ("the Debian package softhsm2", MODULE.exists() and shutil.which("softhsm2-util") is not None),
        ("the package python-pkcs11", find_spec("pkcs11") is not None),
    )
    if not there
]
"""What the tests of tokens cannot do without, and is not here."""


@cache
def token() -> Path:
    """The PIN's file of a token that is there for as long as the tests run; a process loads a module only once."""
    directory = Path(mkdtemp(prefix="meterwire-token-"))
    (directory / "tokens").mkdir()
    conf = directory / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    command = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "13579"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pin = directory / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    return pin


def uri(name: str) -> str:
    """The URI of a key in that token."""
    return f"pkcs11:token={LABEL};object={name}?pin-source={token()}&module-path={MODULE}"
