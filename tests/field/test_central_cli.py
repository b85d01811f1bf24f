"""`meterwire central`: lands until it is told to stop, refuses what is not safe, and shows what is missing."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from central.config import load_central
from central.sinks import open_sink
from config.mistake import ConfigError
from field.main import main
from identity.centre import GATEWAYS, Centre
from identity.files import write
from protocols.capture import Event, Fault
from tests.broker import CENTRE, Broker
from tests.central.test_landing import capture
from tests.central.test_sinks import SLOT, arrival, gap
from tests.central.test_sinks import capture as reading
from tests.central.test_subscriber import connected
from tests.field.test_cli_words import prose
from tests.fleet import Gateway, identity
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["central", *map(str, arguments)])


def write_config(directory: Path, text: str) -> Path:
    file = directory / "central.toml"
    file.write_text(text, encoding="utf-8")
    return file


def make_keys(directory: Path) -> Path:
    """The centre's keys, with one gateway trusted."""
    keys = directory / "keys"
    Centre.create(keys)
    for parent in (keys / GATEWAYS.parent, keys / GATEWAYS):
        parent.mkdir(mode=0o700)
    write(keys / GATEWAYS / "gw-0001.json", identity("gw-0001").public.encode())
    return keys


def test_a_whole_configuration_is_read_with_its_defaults(tmp_path: Path) -> None:
    site = load_central(write_config(tmp_path, '[broker]\nurl = "mqtt://127.0.0.1:1883"\n[keys]\npath = "keys"\n'))
    assert (site.keys, site.database) == (tmp_path / "keys", "sqlite:////var/lib/meterwire-central/central.db")
    assert (site.broker.client_id, site.broker.buckets, site.broker.ca) == ("meterwire-central", (), None)
    more = '[broker]\nurl = "mqtt://localhost:1"\nbuckets = "fe-ff"\n[database]\nurl = "sqlite:///central.db"\n'
    site = load_central(write_config(tmp_path, more))
    assert (site.broker.buckets, site.database) == (("fe", "ff"), f"sqlite:///{tmp_path}/central.db")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = write_config(
        tmp_path,
        'colour = "red"\n[keys]\npath = 3\n[database]\nurl = "mysql://h/d"\n'
        '[broker]\nurl = "mqtt://far.example:1883"\nbuckets = "ff-00"\nclient_id = "a b"\nuser = "x"\n',
    )
    with pytest.raises(ConfigError) as raised:
        load_central(file)
    assert {mistake.where for mistake in raised.value.mistakes} == {
        "colour", "keys.path", "database.url", "broker.url", "broker.buckets", "broker.client_id", "broker.user",
    }  # fmt: skip
    result = invoke("run", "-c", file)
    assert result.exit_code == 2
    assert all(str(mistake) in result.stderr for mistake in raised.value.mistakes)


def test_mqtts_needs_certificates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_central(write_config(tmp_path, '[broker]\nurl = "mqtts://far.example:8883"\n'))
    assert [mistake.where for mistake in raised.value.mistakes] == ["broker.ca", "broker.certificate", "broker.key"]


def test_without_a_file_there_is_nothing_to_run(tmp_path: Path) -> None:
    result = invoke("run", "-c", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "none.toml" in result.stderr


@pytest.mark.parametrize("spoiled", ["missing", "open key", "open directory"])
def test_it_does_not_start_on_keys_that_are_missing_or_open_to_others(tmp_path: Path, spoiled: str) -> None:
    keys = make_keys(tmp_path)
    match spoiled:
        case "missing":
            (keys / "sign.key").unlink()
        case "open key":
            (keys / "wrap.key").chmod(0o640)
        case _:
            keys.chmod(0o755)
    file = write_config(
        tmp_path,
        '[broker]\nurl = "mqtt://127.0.0.1:1"\n[keys]\npath = "keys"\n[database]\nurl = "sqlite:///central.db"\n',
    )
    result = invoke("run", "-c", file)
    assert result.exit_code == 2
    assert str(keys) in result.stderr
    assert "expected" in result.stderr
    assert not (tmp_path / "central.db").exists()


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    make_keys(tmp_path)
    sink = open_sink(f"sqlite:///{tmp_path}/central.db")
    with sink._transaction() as cursor:  # type: ignore[attr-defined]
        cursor.execute("PRAGMA user_version = 3")
    sink.close()
    file = write_config(
        tmp_path,
        '[broker]\nurl = "mqtt://127.0.0.1:1"\n[keys]\npath = "keys"\n[database]\nurl = "sqlite:///central.db"\n',
    )
    result = invoke("run", "-c", file)
    assert (result.exit_code, "version 2, got 3" in result.stderr) == (2, True)


def test_an_unknown_key_is_told_as_it_stands_in_the_file(tmp_path: Path) -> None:
    file = write_config(tmp_path, '"" = 1\n"a b" = 2\n[broker]\nurl = "mqtt://127.0.0.1:1"\n"\\u0007" = 3\n')
    told = invoke("run", "-c", file).stderr
    for spelled in ('""', '"a b"', 'broker."\\u0007"'):
        assert f"central.toml: {spelled}: expected" in told


def start(file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from field.main import main; main()", "central", "run", "-c", str(file), "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def running(file: Path) -> Iterator[subprocess.Popen[str]]:
    """`meterwire central run` as a process, connected to its broker."""
    process = start(file)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert json.loads(line or "{}").get("ready") is True, process.communicate(timeout=10)[1]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_process_lands_over_tls_and_stops_when_asked(
    tls_broker: Broker, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    make_keys(tmp_path)
    url = "sqlite:///central.db" if database == "sqlite" else request.getfixturevalue("postgres")
    assert tls_broker.certificates is not None
    mine = tls_broker.certificates.client(CENTRE)
    file = write_config(
        tmp_path,
        f'[broker]\nurl = "{tls_broker.url}"\nca = "{tls_broker.certificates.ca}"\n'
        f'certificate = "{mine.certificate}"\nkey = "{mine.key}"\n'
        f'[keys]\npath = "keys"\n[database]\nurl = "{url}"\n',
    )
    gateway, centre = Gateway(), Centre.load(tmp_path / "keys")
    gateway.centre = centre
    with running(file) as process, connected(tls_broker, gateway) as client:
        client.publish(gateway.key())
        client.publish(gateway.batch(1, [capture(0), capture(1)]))
        assert client.receipt(1).rejected == ()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
    counters = json.loads(out.splitlines()[-1])["counters"]
    assert (counters["batches.landed"], counters["readings"], counters["keys"]) == (1, 2, 1)
    sink = open_sink(load_central(file).database)
    assert [row.plain for row in sink.readings()] == ["230.1", "230.1"]
    sink.close()


@pytest.mark.slow
def test_it_waits_for_a_database_that_is_away_and_stops_when_asked(tmp_path: Path) -> None:
    make_keys(tmp_path)
    url = f"postgresql://meterwire@127.0.0.1:{free_port()}/none"
    process = start(
        write_config(
            tmp_path, f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[keys]\npath = "keys"\n[database]\nurl = "{url}"\n'
        )
    )
    assert process.stderr is not None
    try:
        assert "database away" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 3
    finally:
        process.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def holed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The configuration of a centre with gaps, one of them closed."""
    url = "sqlite:///central.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    file = write_config(tmp_path, f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[database]\nurl = "{url}"\n')
    sink = open_sink(load_central(file).database)
    sink.land(arrival(1, [gap(), gap(meter="m-2"), gap(meter="m-2", slot=SLOT + 900_000, fault=Fault.MISSED)]))
    sink.land(arrival(2, [reading()]))
    sink.close()
    return file


def test_gaps_are_listed_with_their_reasons(holed: Path) -> None:
    result = invoke("gaps", "-c", holed, "--json")
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.output.splitlines()]
    assert found[0] == {
        "meter": "m-2", "task": "curve", "slot": "2026-05-28T20:30:00Z", "fault": "silent", "detail": "no answer",
        "opened_at": "2026-05-28T20:30:05Z", "closed_at": None,
    }  # fmt: skip
    assert [(one["meter"], one["fault"]) for one in found] == [("m-2", "silent"), ("m-2", "missed")]


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        (["--all"], [("m-1", "20:30"), ("m-2", "20:30"), ("m-2", "20:45")]), (["--meter", "m-1"], []),
        (["--all", "--meter", "m-1"], [("m-1", "20:30")]), (["--since", "2026-05-29T04:45+08:00"], [("m-2", "20:45")]),
        (["--until", "2026-05-29T04:45"], [("m-2", "20:30")]), (["--since", "2026-05-30"], []),
    ],
)  # fmt: skip
def test_gaps_are_chosen_by_meter_and_time(holed: Path, options: list[str], slots: list[tuple[str, str]]) -> None:
    result = invoke("gaps", "-c", holed, "--json", *options)
    found = [json.loads(line) for line in result.output.splitlines()]
    assert [(one["meter"], one["slot"][11:16]) for one in found] == slots


def test_gaps_are_shown_to_people_in_their_language(holed: Path) -> None:
    shown = invoke("gaps", "-c", holed, "--lang", "en").output
    assert "missing slot" in shown.splitlines()[0] and "silent" in shown
    assert "2 个漏点" in invoke("gaps", "-c", holed, "--lang", "zh").output


@pytest.fixture
def eventful(holed: Path) -> Path:
    """The same, with three events of two moments."""
    sink = open_sink(load_central(holed).database)
    sink.land(arrival(3, [
        Event(name="clock_jumped", at=SLOT, detail={"ms": -5000}),
        Event(name="slots_missed", at=SLOT + 60_000, meter="m-2",
              detail={"task": "curve", "first": SLOT - 900_000, "last": SLOT, "slots": 2, "fault": "missed"}),
        Event(name="store_damaged", at=SLOT + 60_000, detail={"why": "file is not a database"}),
    ]))  # fmt: skip
    sink.close()
    return holed


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["clock_jumped", "slots_missed", "store_damaged"]), (["--meter", "m-2"], ["slots_missed"]),
        (["--name", "store_damaged"], ["store_damaged"]), (["--gateway", "gw-9999"], []),
        (["--since", "2026-05-29T04:31"], ["slots_missed", "store_damaged"]),
        (["--until", "2026-05-29T04:31"], ["clock_jumped"]),
    ],
)  # fmt: skip
def test_events_are_listed_as_gateways_told_them(eventful: Path, options: list[str], names: list[str]) -> None:
    result = invoke("events", "-c", eventful, "--json", *options)
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.output.splitlines()]
    assert [one["name"] for one in found] == names
    if not options:
        assert found[0] == {"at": "2026-05-28T20:30:00Z", "gateway": "gw-0001", "meter": None,
                            "name": "clock_jumped", "detail": {"ms": -5000}}  # fmt: skip


def test_events_are_shown_to_people_in_their_language(eventful: Path) -> None:
    english = invoke("events", "-c", eventful, "--lang", "en").output
    assert english.splitlines()[0].split() == ["happened", "gateway", "event", "of", "meter", "facts"]
    assert "clock_jumped" in english and "ms -5000" in english and "3 events" in english
    assert "first 2026-05-28T20:15:00Z" in english
    zh = invoke("events", "-c", eventful, "--lang", "zh").output
    assert "时钟跳变" in zh and "采集时刻数 2" in zh and "故障 漏采" in zh and "3 个事件" in zh
    assert not prose(zh)


def test_an_export_of_a_quantity_that_there_is_not_is_refused_with_what_may_be_meant(holed: Path) -> None:
    span = ["--since", "2026-05-01", "--until", "2026-06-30"]
    rows = csv.DictReader(invoke("export", "-c", holed, *span).output.splitlines())
    own = {row["quantity"] for row in rows}
    assert own
    good = [word for name in sorted(own) for word in ("--quantity", name)]
    assert len(invoke("export", "-c", holed, *span, *good).output.splitlines()) > 1
    for lang, said in (("en", ", such as voltage.a, "), ("zh", "（如 voltage.a, ")):
        refused = invoke("export", "-c", holed, *span, *good, "--quantity", "voltag.a", "--lang", lang)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
    assert invoke("export", "-c", holed, *span, "--quantity", "voltage.ab").exit_code == 0, "known, and none of it"


def test_looking_for_gaps_makes_no_database(tmp_path: Path) -> None:
    file = write_config(tmp_path, '[broker]\nurl = "mqtt://127.0.0.1:1"\n[database]\nurl = "sqlite:///central.db"\n')
    assert invoke("gaps", "-c", file).exit_code == 3
    assert not (tmp_path / "central.db").exists()
    assert invoke("gaps", "-c", file, "--since", "soon").exit_code == 2
