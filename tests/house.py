"""What `make check` asks of the house beyond form, types and layers: sizes, and that documents name what exists.

Run as `python -m tests.house`; prints each thing that is not so, and exits 1 if there is any.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from central import config as central_config
from config import load as site_config
from config.toml import Key
from drivers.profile import load_profile, profile_names
from field.main import main as cli

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 500


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks, or would (not ignored), matching the patterns."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).exists()]


def long_files() -> Iterator[str]:
    """A Python file over the limit holds a second idea."""
    for path in tracked("*.py"):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > LINES_MAX:
            yield f"{path.relative_to(ROOT)}: {count} lines, at most {LINES_MAX}"


def commands(group: click.Command, prefix: str = "meterwire") -> Iterator[tuple[str, click.Command]]:
    """Every command, with its whole name."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            child = group.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{prefix} {name}")
    else:
        yield prefix, group


def undocumented_commands() -> Iterator[str]:
    """Every command has help with an example, --json, --lang, and a section in docs/cli.md that names its options."""
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    section = re.compile(r"^## `(meterwire[^`]*)`\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    sections = {match[1]: match[2] for match in section.finditer(text)}
    known = dict(commands(cli))
    for name, command in known.items():
        if not command.help:
            yield f"{name}: has no help"
        elif f"{name} " not in command.help and f"{name}\n" not in f"{command.help}\n":
            yield f"{name}: its help shows no example of {name!r}"
        options = {o for p in command.params for o in p.opts if o.startswith("--")}
        if not {"--json", "--lang"} <= options:
            yield f"{name}: takes no --json or no --lang"
        if name not in sections:
            yield f"docs/cli.md: no section '## `{name}`'"
            continue
        yield from (
            f"docs/cli.md: {name} does not name {option}"
            for option in sorted(options - {"--json", "--lang", "--help"})
            if option not in sections[name]
        )
    yield from (f"docs/cli.md: {name} is documented but does not exist" for name in sections if name not in known)


def undocumented_keys() -> Iterator[str]:
    """Every key of the site file and of central.toml stands in its document, in the form `table.key`."""
    site: dict[str, tuple[Key, ...]] = {"": site_config.TOP, **site_config.TABLES, **site_config.ARRAYS}
    for document, tables in (("docs/config.md", site), ("docs/central.md", central_config.TABLES)):
        text = (ROOT / document).read_text(encoding="utf-8")
        names = [f"{table}.{key.name}".lstrip(".") for table, keys in tables.items() for key in keys]
        yield from (f"{document}: does not name `{name}`" for name in names if f"`{name}`" not in text)


def broken_links() -> Iterator[str]:
    """A relative link in a document leads to a file."""
    for path in tracked("*.md"):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                yield f"{path.relative_to(ROOT)}: links to {target}, which is not there"


def code(text: str) -> Iterator[str]:
    """The pieces of code in a document: lines of its blocks, and what stands in backticks."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", prose)


_COMMAND = re.compile(r"^(?:\$ )?(?:\S*/)?meterwire ([a-z]+)(?: ([a-z|]+))?")
_PATH = re.compile(r"(?:bench|buffer|central|config|deploy|docs|drivers|field|gateway|identity|news|protocols"
                   r"|requirements|simulators|tests)/[A-Za-z0-9_./-]*")  # fmt: skip


def wrong_examples() -> Iterator[str]:
    """A command, a make target or a file that a document shows in code is there."""
    known = {name.partition(" ")[2] for name, _ in commands(cli)}
    groups = {name.partition(" ")[0] for name in known if " " in name}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for path in tracked("*.md"):
        where = path.relative_to(ROOT)
        for piece in code(path.read_text(encoding="utf-8")):
            if match := _COMMAND.match(piece):
                group, names = match[1], (match[2] or "").split("|")
                full = [f"{group} {name}".strip() for name in names] if group in groups else [group]
                yield from (
                    f"{where}: shows `meterwire {name}`, which is not there" for name in full if name not in known
                )
            if match := re.match(r"^(?:\$ )?make ((?:[a-z]+ ?)+)", piece):
                for target in set(match[1].split()) - set(targets):
                    yield f"{where}: shows `make {target}`, which is not there"
            if _PATH.fullmatch(piece) and not any((base / piece).exists() for base in (ROOT, path.parent)):
                yield f"{where}: names {piece}, which is not there"


def models() -> Iterator[str]:
    """The lines of the table of meter models in docs/profiles.md."""
    for name in profile_names():
        profile = load_profile(name)
        yield f"| `{name}` | {profile.model} | {', '.join(profile.protocols)} | {profile.maturity} |"


def unnamed_profiles() -> Iterator[str]:
    """Every meter model has its line in docs/profiles.md."""
    lines = (ROOT / "docs/profiles.md").read_text(encoding="utf-8").splitlines()
    yield from (f"docs/profiles.md: lacks {row} (make docs)" for row in models() if row not in lines)


CHECKS = (long_files, undocumented_commands, undocumented_keys, broken_links, wrong_examples, unnamed_profiles)


def main() -> int:
    """Print what is not so; 1 if anything is not."""
    found = [line for check in CHECKS for line in check()]
    for line in found:
        print(line)
    print(f"house: {len(tracked('*.py'))} Python files, {len(list(commands(cli)))} commands, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
