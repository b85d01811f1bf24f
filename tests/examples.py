"""The examples in the documents: blocks of `console` with commands and what they print.

`python -m tests.examples` runs them and shows what differs; with `--write` the documents are brought up to date: what
is printed takes the place of what was shown, the table of meter models in docs/profiles.md included.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import house
from tests.processes import free_port

ROOT = house.ROOT
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PORT = ":4001"
"""The port of the simulated site as the documents show it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A command, what the page shows below it, and where on the page that stands."""

    command: str
    shown: str
    at: int


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def examples(page: Path) -> list[Example]:
    """The commands of a page with what they print, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Example(match[1], match[2], block.start(1) + match.start(2))
        for block in re.finditer(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for match in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block[1], re.MULTILINE)
    ]


def alike(shown: str, printed: str) -> bool:
    """Whether a document shows what was printed: `…` is anything, as are the blanks around it."""
    parts = [re.escape(part.strip(" ") if "…" in shown else part) for part in shown.split("…")]
    return re.fullmatch(r" *\S*? *".join(parts), printed) is not None


@contextmanager
def simulated(directory: Path) -> Iterator[int]:
    """The simulated site of docs/cli.md, on a free port."""
    port = free_port()
    (text,) = blocks(ROOT / "docs/cli.md", "toml")
    assert "port = 4001" in text
    (directory / "sim.toml").write_text(text.replace("port = 4001", f"port = {port}"))
    command = [sys.executable, "-c", "from field.main import main; main()", "sim", "-c", str(directory / "sim.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith('{"ready": true')
        try:
            yield port
        finally:
            process.terminate()


def run(page: Path, directory: Path, port: int) -> Iterator[tuple[Example, str]]:
    """Each example of a page with what it printed, run one after the other in one new directory."""
    tools, place = directory / "tools", directory / "place"
    tools.mkdir()
    place.mkdir()
    (tools / "meterwire").write_text(f"#!{sys.executable}\nfrom field.main import main\nmain()\n")
    (tools / "meterwire").chmod(0o755)
    for name in ("site.toml", "meters.csv"):
        shutil.copy(ROOT / "deploy" / name, place)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "COLUMNS": "160", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    for example in examples(page):
        done = subprocess.run(
            ["bash", "-c", example.command.replace(PORT, f":{port}")],
            cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        yield example, done.stdout.replace(f":{port}", PORT)


def main(arguments: list[str]) -> int:
    """Say which examples differ, and with --write put right what can be."""
    differ = 0
    with tempfile.TemporaryDirectory() as work, simulated(Path(work)) as port:
        for number, page in enumerate(page for page in PAGES if examples(page)):
            text = page.read_text(encoding="utf-8")
            (directory := Path(work) / str(number)).mkdir()
            for example, printed in reversed(list(run(page, directory, port))):
                if not alike(example.shown, printed):
                    differ += 1
                    print(f"{page.relative_to(ROOT)}: $ {example.command}\n{printed}", end="")
                    text = text[: example.at] + printed + text[example.at + len(example.shown) :]
            if "--write" in arguments:
                page.write_text(text, encoding="utf-8")
    if "--write" in arguments:
        page = ROOT / "docs/profiles.md"
        rows = "".join(f"{row}\n" for row in house.models())
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"(?<=^\|---\|---\|---\|---\|\n)(\|.*\n)*", rows, text, count=1, flags=re.MULTILINE))
        return 0
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
