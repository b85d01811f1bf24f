"""What is installed is what the house says, and nothing of it stands in another package's way."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = {"protocols", "identity", "drivers", "buffer", "gateway", "config", "field", "simulators", "central"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(source.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.mark.slow
def test_the_wheel_holds_the_house_and_its_data_but_not_the_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == HOUSE
    assert "buffer/schema_1.sql" in names
    assert any(re.fullmatch(r"drivers/profiles/[a-z0-9-]+\.toml", name) for name in names)
    assert "protocols/py.typed" in names


def test_no_locked_dependency_claims_a_name_of_the_house() -> None:
    lock = (ROOT / "requirements/sim.txt").read_text(encoding="utf-8")
    locked = {match.lower().replace("_", "-") for match in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)}
    claims = {
        (distribution.name, top)
        for distribution in distributions()
        if distribution.name.lower().replace("_", "-") in locked
        for top in {file.parts[0].removesuffix(".py") for file in distribution.files or []}
    }
    assert len({name for name, _ in claims}) > 10
    assert not {(name, top) for name, top in claims if top in HOUSE}


@pytest.mark.parametrize("lock", ["runtime", "central", "parquet", "sim", "dev"])
def test_a_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^\S+==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("lock", ["runtime", "central", "parquet", "sim"])
def test_what_is_tested_is_what_is_installed(lock: str) -> None:
    def locked(name: str) -> set[str]:
        text = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^([A-Za-z0-9_.\[\]-]+==\S+)", text, re.MULTILINE))

    assert locked(lock) <= locked("dev")
