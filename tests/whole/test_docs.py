"""The documents tell the truth: what they name is there, what is there is named, and examples print what is shown."""

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from central.config import load_central
from config.load import load_site
from simulators.describe import load_plan
from tests import house
from tests.examples import PAGES, alike, blocks, examples, run, simulated
from tests.field.test_status_cli import TWO, snapshot_of

ROOT = house.ROOT
CLI = (ROOT / "docs/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("check", house.CHECKS, ids=lambda check: check.__name__)
def test_the_house_keeps_its_rules(check: Callable[[], Iterator[str]]) -> None:
    assert list(check()) == []


def test_the_rules_see_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("docs/cli.md", "docs/config.md", "docs/central.md", "docs/profiles.md", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "docs/cli.md"
    page.write_text(page.read_text().replace("`--watch`", "").replace("## `meterwire sim`", "## `meterwire fly`"))
    for document, key in {"docs/config.md": "`bus.serial`", "docs/central.md": "`broker.buckets`"}.items():
        (tmp_path / document).write_text((tmp_path / document).read_text().replace(key, "it"))
    (tmp_path / "docs/profiles.md").write_text((tmp_path / "docs/profiles.md").read_text().replace("SDM120", "SDM121"))
    wrong = tmp_path / "wrong.md"
    wrong.write_text("[x](nowhere.md) `meterwire fly` `docs/nowhere.md`\n```sh\nmake fly\nmeterwire keys sing\n```\n")
    (tmp_path / "long.py").write_text("\n" * (house.LINES_MAX + 1))
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "tracked", lambda *patterns: [wrong] if "*.md" in patterns else [tmp_path / "long.py"])
    found = {check.__name__: " ".join(check()) for check in house.CHECKS}
    assert "501 lines" in found["long_files"]
    for words in ("status does not name --watch", "no section '## `meterwire sim`'", "fly is documented but"):
        assert words in found["undocumented_commands"]
    assert "bus.serial" in found["undocumented_keys"]
    assert "broker.buckets" in found["undocumented_keys"]
    assert "nowhere.md" in found["broken_links"]
    for words in ("`meterwire fly`", "`meterwire keys sing`", "`make fly`", "docs/nowhere.md"):
        assert words in found["wrong_examples"]
    assert "eastron-sdm120" in found["unnamed_profiles"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.stem)
def test_toml_in_a_document_is_what_it_says_it_is(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        tables = tomllib.loads(text)
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        if "broker" in tables:
            assert load_central(file)
        elif "uplink" in tables:
            shutil.copy(ROOT / "deploy/meters.csv", tmp_path)
            assert load_site(file)
        else:
            assert load_plan(file).buses, sorted(tables)


@pytest.fixture(scope="module")
def meters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The simulated site of docs/cli.md."""
    with simulated(tmp_path_factory.mktemp("sim")) as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.stem)
def test_examples_print_what_the_document_shows(page: Path, tmp_path: Path, meters: int) -> None:
    """`make docs` brings a page up to date."""
    for example, printed in run(page, tmp_path, meters):
        assert alike(example.shown, printed), f"$ {example.command}\nshown:\n{example.shown}\nprinted:\n{printed}"


def test_examples_are_held_to_every_letter_that_is_shown() -> None:
    assert alike("value   …   kWh\n", "value   35670.17   kWh\n")
    assert alike('"value": "…", "unit"\n', '"value": "217.6", "unit"\n')
    assert not alike("value   …   kWh\n", "value   1 2   kWh\n")
    assert not alike("checksum, right\n", "checksum, wrong\n")
    assert not alike("one\n", "one\ntwo\n")
    assert len(examples(ROOT / "docs/cli.md")) > 20


def section(command: str) -> str:
    """The section of a command in docs/cli.md."""
    return CLI.split(f"## `{command}`\n")[1].split("\n## ")[0]


def test_the_keys_of_status_are_the_documented_ones(tmp_path: Path) -> None:
    told = section("meterwire status").split("JSON:")[1]
    keys = list(snapshot_of(tmp_path / "chain", TWO))
    assert [f"`{key}`" for key in keys if f"`{key}`" not in told] == []


def test_readme_says_the_same_two_commands_as_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("\n") < 120, "short enough to be read"
    for target in ("make demo", "make test"):
        assert target in blocks(ROOT / "README.md", "sh")[0]
    assert re.search(r"\[docs/limits\.md\]", readme)
