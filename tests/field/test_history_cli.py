"""What a gateway has read, looked up at the gateway itself."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buffer.history import History
from buffer.opening import STORE_NAME
from buffer.spare import NAME
from config.model import TaskEntry
from field.main import main
from protocols.capture import Event
from simulators import virtual
from simulators.describe import uniform
from simulators.site import write_site_files
from tests.chain import START, Chain

MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))
SPAN = ("--since", "2026-09-21T22:16", "--until", "2026-09-21T22:18")
"""Two slots of the site's own time; the gateway began at 22:15."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site file of a gateway that has run for five minutes, and is stopped."""
    directory = tmp_path_factory.mktemp("history")

    async def life() -> None:
        chain = Chain(directory, uniform(buses=1, meters_per_bus=2), [MINUTE])
        await chain.run(300)
        chain.close()
        write_site_files(chain.site, directory)

    virtual.run(life(), start_ms=START)
    return directory / "site.toml"


def run(site: Path, *words: str, lang: str = "en") -> Result:
    return CliRunner().invoke(main, ["history", "-c", str(site), *words, "--lang", lang])


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_without_a_meter_it_says_of_which_there_is_something(site: Path) -> None:
    result = run(site, "--json")
    assert result.exit_code == 0, result.output
    found = objects(result)
    assert len(found) == 2
    assert {one["task"] for one in found} == {"minute"}
    assert [(one["records"], one["gaps"]) for one in found] == [(5, 0)] * 2
    assert all(one["last_slot"] == "2026-09-21T14:19:00Z" for one in found)
    meter = str(found[0]["meter"])
    assert meter in run(site).output


def test_of_a_meter_it_shows_each_value_in_the_span_of_the_sites_own_time(site: Path) -> None:
    meter = str(objects(run(site, "--json"))[0]["meter"])
    found = objects(run(site, meter, *SPAN, "--json"))
    assert [one["slot"] for one in found] == ["2026-09-21T14:16:00Z"] * 2 + ["2026-09-21T14:17:00Z"] * 2
    assert {one["quantity"] for one in found} == set(MINUTE.items)
    assert all(one["value"] and one["quality"] == "good" and one["fault"] is None for one in found)
    shown = run(site, meter, *SPAN).output
    assert "2026-09-21 22:16:00" in shown and str(found[0]["value"]) in shown
    assert run(site, meter, *SPAN, "--task", "other").exit_code == 1


def test_events_are_those_of_the_gateway_or_of_a_meter(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = START + 60_000
    told = [Event(name="clock_jumped", at=at, detail={"ms": 5}),
            Event(name="slots_missed", at=at + 60_000, meter="m1", detail={"task": "minute", "first": at})]  # fmt: skip
    assert run(site, "--events").exit_code == 1, "it had a quiet life"
    monkeypatch.setattr(History, "events", lambda self: told)
    assert [one["name"] for one in objects(run(site, "--events", "--json"))] == ["clock_jumped", "slots_missed"]
    assert objects(run(site, "m1", "--events", "--json")) == [
        {"name": "slots_missed", "at": "2026-09-21T14:17:00Z", "meter": "m1", "detail": {"task": "minute", "first": at}}
    ]
    assert len(objects(run(site, "--events", "--json", "--since", "2026-09-21T22:17", "--until", "2026-09-22"))) == 1
    shown = run(site, "--events").output
    assert "2026-09-21 22:16:00" in shown and "task minute, first 2026-09-21 22:16:00" in shown


def test_a_store_of_a_newer_version_is_not_read(site: Path, tmp_path: Path) -> None:
    directory = tmp_path / "site"
    shutil.copytree(site.parent, directory)
    file = directory / "site.toml"
    file.write_text(file.read_text(encoding="utf-8").replace(str(site.parent), str(directory)), encoding="utf-8")
    assert run(file).exit_code == 0
    with closing(sqlite3.connect(directory / "store" / STORE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    for words in ([], ["--events"], ["anybody"]):
        result = run(file, *words)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "schema 99, written by a newer Meterwire" in result.stderr


def test_what_is_not_there_is_said(site: Path, tmp_path: Path) -> None:
    for lang, words in (("en", "the archive has no such meter"), ("zh", "档案中也没有该表")):
        stranger = run(site, "nobody", *SPAN, lang=lang)
        assert stranger.exit_code == 1 and words in stranger.output
        quiet = run(site, str(objects(run(site, "--json"))[0]["meter"]), "--until", "2026-01-01", lang=lang)
        assert quiet.exit_code == 1 and words not in quiet.output, "a meter of ours of which there is nothing then"
    assert run(tmp_path / "no.toml").exit_code == 2
    store = site.parent / "store"
    (store / STORE_NAME).rename(store / NAME)
    try:
        result = run(site)
        assert result.exit_code == 1
        assert f"left out: {store / STORE_NAME}" in result.output
        (store / NAME).rename(tmp_path / "away")
        assert run(site).exit_code == 3
        (tmp_path / "away").rename(store / NAME)
    finally:
        (store / NAME).rename(store / STORE_NAME)
