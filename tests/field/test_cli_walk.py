"""A walk through every command with what goes wrong in the field, in both languages, for people and for machines.

Whatever comes: the exit code of the page, the reason in words, no traceback, JSON one object a line, and nothing half
in one language and half in the other.
"""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from field.main import main
from identity.centre import Centre
from identity.gateway import GatewayIdentity
from identity.trust import trust
from tests.broker import Certificates
from tests.field.test_cli_words import HAN, prose
from tests.processes import free_port
from tests.sites import GATEWAY, HEAD, METER, gateway

CENTRAL = """\
[keys]
path = "centre-keys"
[database]
url = "sqlite:///central.db"
[broker]
url = "mqtt://127.0.0.1:1"
"""
TEN = """\
colour = "red"
[gateway]
id = "GW 1"
zone = "Mars/Olympus"
[clock]
trust = "moon"
[buffer]
curve_days = "many"
[uplink]
url = "mqtt://far.example:1883"
profile = "fast"
[[bus]]
name = "a b"
port = "ttyS0"
serial = "2400-9X1"
[[task]]
name = "t"
every = "7m"
items = ["voltage.a"]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with files that are right, and many that are not."""
    place = tmp_path_factory.mktemp("w")
    own = GatewayIdentity.create(place / "keys", "gw-1")
    centre = Centre.create(place / "centre-keys")
    GatewayIdentity.create(place / "lonely", "gw-1")
    trust(place / "keys", centre.public)
    trust(place / "centre-keys", own.public)
    shutil.copytree(place / "keys", place / "open", copy_function=shutil.copy2)
    (place / "open/gateway.key").chmod(0o644)
    shutil.copytree(place / "keys", place / "wide")
    (place / "wide").chmod(0o755)
    shutil.copytree(place / "centre-keys", place / "centre-open")
    (place / "centre-open/sign.key").chmod(0o640)
    texts = {
        "central.toml": CENTRAL,
        "ten.toml": TEN,
        "broken.toml": "this is not [ TOML",
        "twice.toml": "[gateway]\n[gateway]\n",
        "no-meters.toml": 'meters = "nowhere.csv"\n' + GATEWAY,
        "unknown-item.toml": GATEWAY.replace("voltage.a", "voltage.q"),
        "no-keys.toml": GATEWAY.replace('"keys"', '"no-keys"'),
        "lonely.toml": GATEWAY.replace('"keys"', '"lonely"'),
        "other-id.toml": GATEWAY.replace("gw-1", "gw-2"),
        "open.toml": GATEWAY.replace('"keys"', '"open"'),
        "wide.toml": GATEWAY.replace('"keys"', '"wide"'),
        "long-socket.toml": GATEWAY.replace("s.sock", "s" * 120),
        "no-store.toml": GATEWAY.replace('"store"', '"meters.csv"'),
        "no-tls.toml": GATEWAY.replace(
            'url = "mqtt://127.0.0.1:1"', 'url = "mqtts://127.0.0.1:1"\nca = "a"\ncertificate = "b"\nkey = "c"'
        ),
        "bad-tls.toml": GATEWAY.replace(
            'url = "mqtt://127.0.0.1:1"',
            'url = "mqtts://127.0.0.1:1"\nca = "meters.csv"\ncertificate = "meters.csv"\nkey = "keys/gateway.key"',
        ),
        "central-no-keys.toml": CENTRAL.replace("centre-keys", "no-keys"),
        "central-open.toml": CENTRAL.replace("centre-keys", "centre-open"),
        "central-text.toml": CENTRAL.replace("central.db", "meters.csv"),
        "central-other.toml": CENTRAL.replace("central.db", "other.db"),
        "central-wrong.toml": CENTRAL + 'buckets = "ff-00"\ncolour = 1\n',
        "sim-wrong.toml": 'seed = "x"\n[[bus]]\nname = "a"\nkind = "zigbee"\n'
        '[[bus.meters]]\nprofile = "none"\naddress = "1"\n',
        "no-profile.toml": 'meters = "no-profile.csv"\n' + GATEWAY,
        "no-profile.csv": HEAD + METER.replace("dlt645-2007-3p", "dlt645-2007-3"),
        "bundle.json": "{}",
    }
    gateway(place)
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    (place / "latin1.toml").write_bytes(b'[gateway]\nid = "gw-1"\nzone = "\xe9"\n')
    (place / "empty").mkdir()
    with sqlite3.connect(place / "other.db") as other:
        other.execute("PRAGMA user_version = 77")
        other.execute("CREATE TABLE t (x)")
    return place


def walk(world: Path, *words: str) -> Iterator[tuple[str, Result]]:
    """The command for people in both languages, and for machines in both."""
    here = Path.cwd()
    os.chdir(world)
    try:
        for lang in ("en", "zh"):
            for form in ([], ["--json"]):
                yield lang, CliRunner().invoke(main, [*words, "--lang", lang, *form])
    finally:
        os.chdir(here)


def check(world: Path, line: str, code: int, said: str) -> None:
    """All four runs end alike; said: what stands in the English one."""
    for lang, result in walk(world, *line.split()):
        assert result.exit_code == code, (line, result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        people = "\n".join(text for text in result.output.splitlines() if not text.startswith("{"))
        if lang == "en":
            assert said in result.output, (line, result.output)
            assert not HAN.search(people), people
        else:
            assert HAN.search(people) or not people, (line, people)
            assert not prose(people), (line, people)
    for text in result.stdout.splitlines():  # of the last, which was with --json
        assert isinstance(json.loads(text), dict), (line, text)


CONFIG = [
    ("nowhere.toml", "nowhere.toml: file: expected a readable file, got No such file or directory"),
    ("broken.toml", "expected TOML in UTF-8, got Expected '=' after a key in a key/value pair (at line 1, column 6)"),
    ("twice.toml", "Cannot declare ('gateway',) twice (at line 2"),
    ("latin1.toml", "got byte E9, which is not UTF-8, in line 3"),
    ("no-meters.toml", "nowhere.csv: file: expected a readable file, got No such file or directory"),
    ("unknown-item.toml", "task curve, items: expected a quantity of dlt645-2007-3p, such as voltage.a, "),
    ("long-socket.toml", "status.socket: expected a path of at most 107 bytes for a socket, got "),
    ("no-profile.toml", "meter m1, profile: expected one of the profiles, such as dlt645-2007-3p, "),
    ("ten.toml", "uplink.profile: expected one of prompt, metered, got 'fast'"),
]


@pytest.mark.parametrize("command", ["config check", "config show", "plan check", "plan show", "run"])
@pytest.mark.parametrize(("file", "said"), CONFIG, ids=[file for file, _ in CONFIG])
def test_a_mistake_in_the_site_is_said_and_nothing_starts(world: Path, command: str, file: str, said: str) -> None:
    check(world, f"{command} -c {file}", 2, said)
    assert not (world / "store").exists()


def test_ten_mistakes_and_more_are_listed_at_once(world: Path) -> None:
    wheres = ["colour", "gateway.id", "gateway.zone", "clock.trust", "buffer.curve_days", "uplink.url",
              "uplink.profile", "bus[1].name", "bus[1].port", "bus[1].serial", "task[1].every"]  # fmt: skip
    for lang, result in walk(world, "config", "check", "-c", "ten.toml"):
        listed = result.stderr.splitlines()
        assert [line.split(": " if lang == "en" else "：")[1] for line in listed] == wheres
        if result.stdout.startswith("{"):
            told = [json.loads(line) for line in result.stdout.splitlines()]
            assert [each["where"] for each in told] == wheres
            assert all(each.keys() == {"file", "where", "expected", "got"} for each in told)
            assert not HAN.search(result.stdout), "keys and words for machines are the same in either language"


KEYS = [
    ("run -c no-keys.toml", "no-keys: expected the directory of the keys, got No such file or directory; make it with"),
    ("run -c lonely.toml", "expected the public keys of a centre, got none; run `meterwire keys trust centre.json`"),
    ("run -c other-id.toml", "expected the key of gateway gw-2, got that of gateway gw-1"),
    ("run -c open.toml", "open/gateway.key: expected mode 0600, got 0644: others can read it; run `chmod 600 "),
    ("run -c wide.toml", "wide: expected mode 0700, got 0755: others can look into it; run `chmod 700 "),
    ("run -c no-tls.toml", "a: expected a PEM file, got none"),
    ("run -c bad-tls.toml", "meters.csv: expected certificates in PEM, got something else"),
    ("central run -c central-no-keys.toml", "no-keys: expected the directory of the keys, got No such file"),
    ("central run -c central-open.toml", "sign.key: expected mode 0600, got 0640: others can read it"),
    ("central run -c nowhere.toml", "nowhere.toml: file: expected a readable file, got No such file or directory"),
    ("central run -c central-wrong.toml", "broker.buckets: expected a range of buckets such as 00-ff or 00-7f"),
    ("central run -c central-text.toml", "meters.csv: file is not a database"),
    ("central run -c central-other.toml", "other.db: expected central tables of version 2, got 77"),
    ("keys init gateway", "a gateway needs --id"),
    ("keys init gateway --id GW_1 --dir new", "gateway id: expected"),
    ("keys init gateway --id gw-1 --dir keys", "gateway.key: already there; move it away first"),
    ("keys init centre --dir centre-keys", "already there; move it away first"),
    ("keys init centre --dir meters.csv", "meters.csv: File exists"),
    ("keys show --dir nowhere", "nowhere: expected the directory of the keys, got No such file or directory"),
    ("keys show --dir open", "expected mode 0600, got 0644"),
    ("keys trust centre-keys/centre.json --dir open", "expected mode 0600, got 0644"),
    ("keys trust nowhere.json --dir keys", "Path 'nowhere.json' does not exist."),
]


@pytest.mark.parametrize(("line", "said"), KEYS, ids=[line for line, _ in KEYS])
def test_keys_certificates_and_databases_that_will_not_do_are_refused(world: Path, line: str, said: str) -> None:
    check(world, line, 2, said)


NOTHING = [
    ("run -c no-store.toml", "meters.csv: File exists"),
    ("run -c site.toml --accepted nowhere/accepted.jsonl", "nowhere/accepted.jsonl: No such file or directory"),
    ("status -c site.toml", "no gateway answers (No such file or directory); is `meterwire run` running"),
    ("keys trust bundle.json --dir keys", 'expected a bundle {"meterwire": "public-keys/1", ...}, got '),
    ("keys trust keys/gateway.json --dir keys", "expected the public keys of a centre, got those of a gateway"),
    ("keys trust empty --dir keys", "empty: expected bundles (*.json) in it, got none"),
    ("central gaps -c central.toml", "central.db: no central database there; `meterwire central run` makes it"),
    ("central gaps -c central-text.toml", "meters.csv: file is not a database"),
    ("central drop -c central-text.toml --before 2026-01-01 --yes", "meters.csv: file is not a database"),
    ("central gaps -c central-other.toml", "expected central tables of version 2, got 77"),
    ("read --port /dev/ttyNONE --protocol dlt645-2007 --meter 000000000001 voltage.a",
     "cannot open the port: /dev/ttyNONE: no such device"),
    ("read --port meters.csv --protocol dlt645-2007 --meter 000000000001 voltage.a", "meters.csv: not a serial device"),
    ("read --port empty --protocol dlt645-2007 --meter 000000000001 voltage.a", "port: empty: not a serial device"),
    ("read --port tcp://127.0.0.1:1 --protocol modbus-rtu --meter 1 holding:0", "127.0.0.1:1: Connection refused"),
    ("decode zz", "hex: expected digits 0-9 A-F, got 'z' at character 1"),
    ("decode 68680 6868", "hex: expected whole bytes, got 5 digits"),
    ("decode 6801004423520068910633363435955500", "length: expected 18 bytes (L=6), got 17"),
    ("decode --protocol modbus-rtu 0103000000020000", "checksum: expected C40B, got 0000"),
    ("decode --protocol modbus-tcp 000100010006010300000002", "protocol: expected 0000, got 0001"),
    ("sim -c site-sim.toml --served nowhere/served.jsonl", "nowhere/served.jsonl: No such file or directory"),
    ("offline export -c site.toml empty", "outbox.db: no store there yet; `meterwire run` makes it"),
    ("demo --broker mqtt://127.0.0.1:1", "mqtt://127.0.0.1:1: no broker answers (Connection refused)"),
    ("demo --keep meters.csv/deeper", "meters.csv/deeper: Not a directory"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), NOTHING, ids=[line for line, _ in NOTHING])
def test_where_nothing_worked_the_reason_is_said(world: Path, line: str, said: str) -> None:
    (world / "site-sim.toml").write_text(
        '[[bus]]\nname = "a"\nkind = "tcp"\n[[bus.meters]]\nprofile = "dlt645-1997"\naddress = "000000000001"\n'
    )
    check(world, line, 3, said)


USAGE = [
    ("read --port /dev/x --protocol dlt645-2007 --meter 12 voltage.a", "--meter: expected 12 digits"),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 300 holding:0",
        "--meter: expected a number from 1 to 247, got 300",
    ),
    (
        "read --port /dev/x --protocol modbus-tcp --meter 1 holding:0",
        "--port: expected tcp://host:port with modbus-tcp",
    ),
    ("read --port tcp://h --protocol modbus-rtu --meter 1 holding:0", "--port: expected a device path such as"),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --serial 9600 holding:0",
        "--serial: expected BAUD-8PS such as",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --profile dlt645-1997 holding:0",
        "--profile: expected one that",
    ),
    (
        "read --port /dev/x --protocol dlt645-2007 --meter 000000000001 voltage.z",
        "has, such as voltage.a, voltage.b, voltage.c, or an identifier of 8 hex digits, got 'voltage.z'",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --profile eastron-sdm630 Power.activ.a",
        "such as power.active.a, ",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --profile eastron-sdm630 energy",
        "a quantity of eastron-sdm630, such as energy.",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --profile eastron-sdm630 0x10",
        "expected a quantity of eastron-sdm630, or registers such as holding:10:uint16, got '0x10'",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 voltage.a",
        "expected registers such as holding:10:uint16, as modbus-generic has no names, got 'voltage.a'",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 holding:70000",
        "holding:70000: expected 1 to 125 numbers within",
    ),
    ("read --port /dev/x --protocol modbus-rtu --meter 1 holding:1:uint128", "expected a type among uint16"),
    ("read --port 10.0.0.7:4001 --protocol modbus-rtu --meter 1 holding:0", "--port: expected a device path such as"),
    (
        "doctor --port /dev/x --meter 000000000001 --profile eastron-sdm120",
        "--meter: expected 12 digits for DL/T 645, or a number from 1 to 247, got 000000000001",
    ),
    ("probe --port /dev/x --meter 20241111000", "--meter: expected 12 digits for DL/T 645, or a number from 1 to 247"),
    (
        "doctor --port /dev/x --meter 1 --protocol modbus-rtu --profile dlt645-1997",
        "--profile: expected one that speaks",
    ),
    ("scan --port tcp://127.0.0.1:1 --serial 9600-7E1", "--serial: expected 8 data bits, which dlt645-2007 needs"),
    ("sim -c nowhere.toml", "nowhere.toml: file: expected a readable file"),
    ("sim -c broken.toml", "broken.toml: file: expected TOML in UTF-8"),
    ("sim -c sim-wrong.toml", "bus[1].kind: expected one of pty, tcp, modbus-tcp, got 'zigbee'"),
    ("demo --broker ftp://x", "--broker: expected mqtts://host:port, or mqtt://host:port on this machine only"),
    ("demo --keep empty", "empty is there already: name a new directory"),
    ("offline settle -c site.toml nowhere", "Directory 'nowhere' does not exist."),
    ("central run -c central.toml --worker 3/2", "expected a worker and how many there are, such as 1/2; at most 256"),
    ("central kpi -c central.toml --day 2026-13-01", "expected a date such as 2026-05-03"),
    ("status -c broken.toml", "broken.toml: file: expected TOML in UTF-8"),
    ("status -c long-socket.toml", "status.socket: expected a path of at most 107 bytes"),
    ("central gaps -c central.toml --since 2026-05-03 --until 2026-05-03", "--since must be before --until"),
    ("central events -c central.toml --since 2026-05-04 --until 2026-05-03", "--since must be before --until"),
    ("central export -c central.toml --since 2026-05-03 --until 2026-05-03T00:00+08:00", "--since must be before"),
    ("history -c site.toml m1 --since 2026-05-03T08:00 --until 2026-05-03", "--since must be before --until"),
    (
        "central kpi -c central.toml --day 2026-05-03 --to 2026-05-01",
        "--to: expected 1 to 366 days, --day the first of them",
    ),
    (
        "read --port /dev/x --protocol modbus-rtu --meter 1 --profile eastron-sdm63 voltage.a",
        "'eastron-sdm63' is no profile, such as eastron-sdm630, ",
    ),
    ("doctor --port /dev/x --meter 1 --profile zz", "'zz' is not one of 'abb-b21', "),
    ("central gaps -c broken.toml", "broken.toml: file: expected TOML in UTF-8"),
]


@pytest.mark.parametrize(("line", "said"), USAGE, ids=[line for line, _ in USAGE])
def test_what_was_asked_wrongly_is_said(world: Path, line: str, said: str) -> None:
    check(world, line, 2, said)


def test_a_port_that_is_taken_is_busy(world: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (world / "taken.toml").write_text(
            f'[[bus]]\nname = "a"\nkind = "tcp"\nport = {port}\n'
            '[[bus.meters]]\nprofile = "dlt645-1997"\naddress = "000000000001"\n'
        )
        check(world, "sim -c taken.toml", 4, "address already in use")


@pytest.mark.slow
def test_who_does_not_answer_is_told_with_what_to_look_at(world: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        line = f"read --port tcp://127.0.0.1:{port} --protocol dlt645-2007 --meter 000000000001 --attempts 1 voltage.a"
        check(world, f"{line} --timeout 0.05", 3, "did not answer on tcp://127.0.0.1")


def test_the_private_key_of_another_certificate_is_refused(world: Path, certificates: Certificates) -> None:
    files = certificates.client("gw-0001"), certificates.client("gw-0002")
    entries = f'ca = "{certificates.ca}"\ncertificate = "{files[0].certificate}"\nkey = "{files[1].key}"'
    text = GATEWAY.replace('url = "mqtt://127.0.0.1:1"', f'url = "mqtts://127.0.0.1:{free_port()}"\n{entries}')
    (world / "crossed.toml").write_text(text)
    check(world, "run -c crossed.toml", 2, "expected the private key of ")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(("lang", "said"), [("en", "interrupted"), ("zh", "已中断")])
def test_a_command_that_is_interrupted_says_so_and_was_done_in_part(lang: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        line = f"scan --port tcp://127.0.0.1:{deaf.getsockname()[1]} --protocol modbus-rtu --lang {lang}"
        program = [sys.executable, "-c", "from field.main import main; main()"]
        run = subprocess.Popen([*program, *line.split()], stderr=subprocess.PIPE, text=True, encoding="utf-8")
        deaf.accept()
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=20)[1].splitlines()[-1] == said
    assert run.returncode == 1


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_frames_from_a_pipe_come_out_in_order_good_and_bad(form: list[str]) -> None:
    lines = b"\xff\xfe\n\n68010044235200689106333634359555DD16\nno frame\n"
    result = CliRunner().invoke(main, ["decode", *form, "--lang", "en"], input=lines)
    assert result.exit_code == 1
    if form:
        assert [json.loads(line)["valid"] for line in result.stdout.splitlines()] == [False, True, False]
    else:
        assert result.stdout.index("not valid") < result.stdout.index("226.2 V") < result.stdout.rindex("not valid")
    assert CliRunner().invoke(main, ["decode", *form], input=b"").output == ""


def test_what_an_installation_lacks_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for module in ("postgres", "postgres_look"):
        monkeypatch.delitem(sys.modules, f"central.sinks.{module}", raising=False)
    away = CENTRAL.replace("sqlite:///central.db", "postgresql://nobody@127.0.0.1:1/none")
    (world / "postgres.toml").write_text(away)
    check(
        world, "central gaps -c postgres.toml", 3, "the package psycopg is not installed; see requirements/central.txt"
    )
    monkeypatch.setattr("simulators.broker.MOSQUITTO", None)
    monkeypatch.setitem(sys.modules, "iotcore", None)
    check(world, "demo", 3, "there is no broker: install mosquitto, or the packages of requirements/sim.txt")
