"""What a gateway's store holds, seen from outside, with no gateway that answers."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buffer.opening import STORE_NAME
from buffer.spare import NAME
from config.model import TaskEntry
from field.main import main
from simulators import virtual
from simulators.describe import uniform
from simulators.site import write_site_files
from tests.chain import START, Chain

MINUTE = TaskEntry(name="minute", every_s=60, items=("voltage.a",))


def lived(directory: Path, *, away: bool) -> Path:
    """The site file of a gateway that has run for five minutes and is stopped; away: its broker was, at the end."""

    async def life() -> None:
        chain = Chain(directory, uniform(buses=1, meters_per_bus=2), [MINUTE])
        async with chain.running() as daemon:
            await asyncio.sleep(200)
            chain.broker.away = away
            await asyncio.sleep(100)
            if not away:
                await chain.drain(daemon)
        chain.close()
        write_site_files(chain.site, directory)

    directory.mkdir()
    virtual.run(life(), start_ms=START)
    return directory / "site.toml"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived(tmp_path_factory.mktemp("store") / "done", away=False)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lived(tmp_path_factory.mktemp("store") / "waiting", away=True)


def run(site: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["store", "-c", str(site), *words])


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_where_the_centre_has_all_of_it_that_is_said(done: Path) -> None:
    result = run(done, "--json")
    assert result.exit_code == 0, result.output
    (found,) = objects(result)
    assert found["records"] == 10 and found["unsealed"] == found["batches"] == found["requeued_ranges"] == 0
    assert (found["clean"], found["boot"], found["set_aside"]) == (True, 1, [])
    assert "the centre has all of it" in run(done, "--lang", "en").stdout
    assert "主站已收齐" in run(done, "--lang", "zh").stdout


def test_what_waits_is_counted(waiting: Path) -> None:
    result = run(waiting, "--json")
    assert result.exit_code == 1
    (found,) = objects(result)
    assert found["unsealed"] == 2 and found["records"] == 10
    assert "does not have all of it yet" in run(waiting, "--lang", "en").stdout


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_its_meters_are_shown_in_either_language(waiting: Path, lang: str) -> None:
    found = objects(run(waiting, "--show", "meters", "--json"))
    assert [(one["task"], one["records"], one["gaps"]) for one in found] == [("minute", 5, 0)] * 2
    text = run(waiting, "--show", "meters", "--lang", lang).stdout
    assert all(str(one["meter"]) in text for one in found)
    assert ("电能表" in text) is (lang == "zh")
    assert "2026-09-21 22:19:00" in text and str(found[0]["last_slot"]) not in text, "a moment of the site for people"


@pytest.mark.parametrize("view", ["batches", "requeued", "gone"])
def test_of_what_there_is_none_that_is_said(done: Path, view: str) -> None:
    assert run(done, "--show", view, "--lang", "en").stdout == "there are none\n"
    assert run(done, "--show", view, "--lang", "zh").stdout == "没有\n"
    assert run(done, "--show", view, "--json").stdout == ""


def test_the_spare_file_is_named_and_not_passed_over(done: Path) -> None:
    spare = done.parent / "store" / NAME
    spare.write_bytes(b"")
    try:
        result = run(done, "--json")
    finally:
        spare.unlink()
    assert result.exit_code == 1
    assert NAME in result.stderr


def test_a_store_of_a_newer_version_is_not_read_as_if_it_were_known(done: Path) -> None:
    store = done.parent / "store" / STORE_NAME
    with closing(sqlite3.connect(store)) as connection:
        (known,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    result = run(done)
    with closing(sqlite3.connect(store)) as connection:
        connection.execute(f"PRAGMA user_version = {known}")
    assert result.exit_code == 3
    assert "written by a newer Meterwire" in result.stderr


def test_without_a_store_it_says_so(done: Path, tmp_path: Path) -> None:
    store = done.parent / "store" / STORE_NAME
    for path, data in ((store, None), (store, b"no database" * 500)):
        kept = path.read_bytes()
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        result = run(done)
        path.write_bytes(kept)
        assert result.exit_code == 3
        assert STORE_NAME in result.stderr
