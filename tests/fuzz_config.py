"""What people write: the site file, the meter archive and the centre's file, damaged as text and as structure."""

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random

from central.config import load_central
from config.load import load_site
from config.mistake import ConfigError
from tests.fuzzing import Target

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CENTRAL = b"""\
[keys]
path = "keys"
[database]
url = "sqlite:///central.db"
[broker]
url = "mqtts://broker.example:8883"
ca = "ca.pem"
certificate = "central.pem"
key = "central.key"
buckets = "00-7f"
"""


@cache
def _directory(name: str) -> Path:
    """With whole files, of which a target damages the one of this name. Each process has its own."""
    directory = Path(tempfile.mkdtemp(prefix="meterwire-fuzz-"))
    for file in ("site.toml", "meters.csv"):
        (directory / file).write_bytes((DEPLOY / file).read_bytes())
    return directory


def _written(name: str, load: Callable[[Path], object], file: str) -> Callable[[bytes], None]:
    """Loading what is in one file: every mistake says where it is, what was expected and what came."""

    def run(data: bytes) -> None:
        (_directory(name) / name).write_bytes(data)
        try:
            load(_directory(name) / file)
        except ConfigError as error:
            for mistake in error.mistakes:
                assert mistake.where and mistake.expected and mistake.got, mistake
                assert len(str(mistake)) < 2000
            raise

    return run


def _lines(data: bytes) -> list[bytes]:
    """The file whole, without its remarks, and with each remark that shows a key made that key."""
    text = data.decode()
    plain = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    shown = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines(keepends=True)]
    return [data, "".join(plain).encode(), "".join(line for line in shown if not line.startswith("#")).encode()]


def mended_lines(random: Random, data: bytes) -> bytes:
    """The lines of which none is cut: some moved, doubled or left out."""
    lines = data.splitlines(keepends=True)
    for _ in range(random.choice((0, 1, 1, 2))):
        if lines:
            line = lines.pop(random.randrange(len(lines)))
            for _ in range(random.choice((0, 1, 2))):
                lines.insert(random.randrange(len(lines) + 1), line)
    return b"".join(lines)


TARGETS: Mapping[str, Target] = {
    "config-site": Target(
        run=_written("site.toml", load_site, "site.toml"), mend=mended_lines, size_max=4096,
        seeds=lambda: _lines((DEPLOY / "site.toml").read_bytes()),
    ),
    "config-meters": Target(
        run=_written("meters.csv", load_site, "site.toml"), mend=mended_lines,
        seeds=lambda: [(DEPLOY / "meters.csv").read_bytes()],
    ),
    "config-central": Target(
        run=_written("central.toml", load_central, "central.toml"), mend=mended_lines, seeds=lambda: [CENTRAL],
    ),
}  # fmt: skip
"""Configurations. Loading one takes hundreds of times as long as a frame."""
