"""Where no message gets through: sealed batches go by hand, land once, and their receipts come back by hand."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from buffer.carry import Carried, carried
from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.spare import NAME
from central.offline import brought, receipts
from config.model import TaskEntry, UplinkEntry
from field.chain import Installation
from field.main import main
from field.offline import write_whole
from gateway.offline import DIRECTORY, ROUND_S, CarriedReceipts
from gateway.sealer import Sealer
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import transfer
from protocols.errors import Malformed
from protocols.topics import UP
from protocols.transfer import SUFFIXES, Transfer, written
from simulators import virtual
from simulators.describe import uniform
from simulators.site import MemorySite
from tests.chain import GATEWAY, START, Chain
from tests.crash.trouble import Trouble
from tests.gateway.test_pace import old

T = TypeVar("T")
MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))
ENTRIES = st.lists(st.tuples(st.sampled_from(sorted(UP)), st.binary(max_size=300)), max_size=5)
HEAD = Transfer(gateway=GATEWAY, direction="up")


def good_part(data: bytes) -> tuple[list[tuple[str, bytes]], bool]:
    """The messages before the damage, and whether there was none."""
    found: list[tuple[str, bytes]] = []
    file = BytesIO(data)
    try:
        found.extend(transfer.messages(transfer.head(file.read), file.read))
    except Malformed:
        return found, False
    return found, True


def read(data: bytes) -> list[tuple[str, bytes]]:
    file = BytesIO(data)
    return list(transfer.messages(transfer.head(file.read), file.read))


# The file.


@given(ENTRIES)
def test_messages_come_out_of_a_file_as_they_went_in(entries: list[tuple[str, bytes]]) -> None:
    data = b"".join(written(HEAD, entries))
    assert transfer.head(BytesIO(data).read) == HEAD
    assert read(data) == entries


@given(ENTRIES, st.data())
def test_a_file_that_is_cut_off_or_damaged_says_so_and_what_stands_before_is_good(
    entries: list[tuple[str, bytes]], draw: st.DataObject
) -> None:
    data = b"".join(written(HEAD, entries))
    at = draw.draw(st.integers(0, len(data) - 1))
    flipped = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    for harmed in (data[:at], flipped):
        found, whole = good_part(harmed)
        assert found == entries[: len(found)]
        assert not whole or transfer.head(BytesIO(harmed).read) != HEAD, (
            "the head has no sum: messages prove themselves"
        )


@given(st.binary(max_size=200))
def test_no_bytes_are_anything_but_a_file_or_malformed(data: bytes) -> None:
    assert not good_part(transfer.MAGIC + b"up gw\n" + data)[1]


def test_a_message_of_two_mebibytes_is_the_longest() -> None:
    widest = [("batch", bytes(2 << 20))]
    assert good_part(b"".join(written(HEAD, widest))) == (widest, True)
    assert good_part(b"".join(written(HEAD, [("batch", bytes((2 << 20) + 1))]))) == ([], False)


# The way, in virtual time.


def test_what_is_carried_lands_and_what_is_carried_back_settles(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        chain.broker.away = True
        async with chain.running() as daemon:
            await asyncio.sleep(3 * 3600)
            assert daemon.parts is not None
            outbox = daemon.parts.outbox
            assert outbox.unsettled >= 2
            count, stick = Carried(), tmp_path / f"{GATEWAY}-1{SUFFIXES['up']}"
            write_whole(stick, written(HEAD, carried(chain.site.store, count)))
            assert (count.batches, count.unsealed) == (outbox.unsettled, outbox.unsealed().records)
            one = brought(chain.landing, stick)
            assert (one.landed, one.repeated, one.aside, one.damage) == (count.batches, 0, 0, "")
            again = brought(chain.landing, stick)
            assert (again.landed, again.repeated) == (0, count.batches)
            back = chain.site.store / DIRECTORY
            back.mkdir()
            write_whole(back / f"{GATEWAY}-1{SUFFIXES['down']}", receipts(chain.landing, GATEWAY))
            (back / f"{GATEWAY}-0{SUFFIXES['down']}").write_bytes(b"something else")
            await asyncio.sleep(2 * ROUND_S)
            assert daemon.parts.uplink.counters.settled_batches == count.batches
            assert daemon.parts.carried.settled == 1
            assert not list(back.iterdir()), "what was taken in is taken away"
            chain.broker.away = False
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_receipts_that_the_store_cannot_keep_just_now_wait_for_it(tmp_path: Path) -> None:
    """Nobody carries them a second time."""
    disk = Trouble("carried", tmp_path / "store", default=True)

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        chain.broker.away = True
        async with chain.running() as daemon:
            await asyncio.sleep(2 * 3600)
            assert daemon.parts is not None
            count, stick = Carried(), tmp_path / f"{GATEWAY}-1{SUFFIXES['up']}"
            write_whole(stick, written(HEAD, carried(chain.site.store, count)))
            brought(chain.landing, stick)
            back = chain.site.store / DIRECTORY
            back.mkdir()
            disk.begin("readonly", lasting=True)
            write_whole(back / f"{GATEWAY}-1{SUFFIXES['down']}", receipts(chain.landing, GATEWAY))
            await asyncio.sleep(5 * ROUND_S)
            disk.relieve()
            assert daemon.parts.carried.settled == 0 and list(back.iterdir())
            await asyncio.sleep(5 * ROUND_S)
            assert daemon.parts.carried.settled == 1 and not list(back.iterdir())
            assert daemon.parts.uplink.counters.settled_batches == count.batches > 0
            chain.broker.away = False
            await chain.drain(daemon)
        assert chain.truth().passed
        chain.close()

    try:
        virtual.run(scenario(), start_ms=START)
    finally:
        disk.unregister()


def test_receipts_for_another_gateway_settle_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(130)
            assert daemon.parts is not None
            unsettled = daemon.parts.outbox.unsettled
            back = chain.site.store / DIRECTORY
            back.mkdir()
            other = replace(HEAD, gateway="gw-other", direction="down")
            forged = replace(HEAD, direction="down")
            write_whole(back / f"a{SUFFIXES['down']}", written(other, [("receipt", b"x")]))
            write_whole(back / f"b{SUFFIXES['down']}", written(forged, [("receipt", b"x" * 100)]))
            await asyncio.sleep(2 * ROUND_S)
            assert daemon.parts.outbox.unsettled >= unsettled > 0
            assert daemon.parts.carried.settled == 0
            chain.connect_centre()
            await chain.drain(daemon)
        chain.close()

    virtual.run(scenario(), start_ms=START)


# The commands.


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    """A gateway with sealed batches, and its centre, neither running."""
    site = MemorySite(uniform(buses=1, meters_per_bus=2), now_ms=lambda: START).site(
        uplink=UplinkEntry(url="mqtt://127.0.0.1:1"), tasks=[MINUTE], gateway=GATEWAY, directory=tmp_path
    )
    made = Installation(tmp_path, site)

    async def fill() -> None:
        outbox = Outbox.open(site.store, gateway=GATEWAY, random=bytes, now_ms=lambda: START, writer="inline")
        identity, trust = GatewayIdentity.load(site.keys, GATEWAY), CentreTrust.load(site.keys)
        sealer = Sealer(outbox, identity=identity, trust=trust, profile="prompt", zone=site.zone,
                        now_ms=lambda: START, random=_random)  # fmt: skip
        async with outbox:
            await outbox.append(old(1), urgent=True)
            sealer.at_once()
            await sealer.seal_due()

    asyncio.run(fill())
    return made


def _random(count: int) -> bytes:
    return bytes(range(count))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--lang", "en"])


def objects(result: Result) -> Sequence[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_export_import_and_settle_from_the_command_line(installed: Installation, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    site, centre = ("-c", str(tmp_path / "site.toml")), ("-c", str(tmp_path / "central.toml"))
    assert run("offline", "settle", *site, str(stick)).exit_code == 3
    assert run("central", "import", *centre, str(stick)).exit_code == 3

    exported = run("offline", "export", *site, str(stick), "--json")
    assert exported.exit_code == 0, exported.output
    (told,) = objects(exported)
    assert told["batches"] == 2
    assert told["keys"] == 1

    landed = run("central", "import", *centre, str(stick), "--json")
    assert landed.exit_code == 0, landed.output
    (one,) = objects(landed)
    assert (one["landed"], one["repeated"], one["aside"], one["damage"]) == (2, 0, 0, None)
    assert installed.inbox().captures == 400
    assert "2 were here" in run("central", "import", *centre, str(stick)).output

    settled = run("offline", "settle", *site, str(stick), "--json")
    assert settled.exit_code == 0, settled.output
    assert objects(settled) == [{"files": 2, "receipts": 2, "refused": 0}]
    assert len(list((installed.site.store / DIRECTORY).iterdir())) == 2


def test_a_file_that_was_cut_off_lands_as_far_as_it_goes_and_a_foreign_one_is_refused(
    installed: Installation, tmp_path: Path
) -> None:
    site, centre = ("-c", str(tmp_path / "site.toml")), ("-c", str(tmp_path / "central.toml"))
    run("offline", "export", *site, str(tmp_path))
    (path,) = tmp_path.glob(f"*{SUFFIXES['up']}")
    path.write_bytes(path.read_bytes()[:-3000])
    (tmp_path / f"x{SUFFIXES['up']}").write_bytes(b"\0" * 100)
    result = run("central", "import", *centre, str(tmp_path), "--json")
    assert result.exit_code == 1
    (one,) = objects(result)
    assert one["landed"] == 1
    assert one["damage"] == "transfer: the file is cut off"
    assert "refused" in result.output
    (tmp_path / f"{GATEWAY}-x{SUFFIXES['down']}").write_bytes(b"".join(written(HEAD, [])))
    refused = run("offline", "settle", *site, str(tmp_path))
    assert refused.exit_code == 0  # a file of another direction holds no receipts


def test_a_gateway_with_nothing_to_carry_writes_no_file(installed: Installation, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    for file in installed.site.store.iterdir():
        file.unlink()

    async def make() -> None:
        async with Outbox.open(
            installed.site.store, gateway=GATEWAY, random=bytes, now_ms=lambda: START, writer="inline"
        ):
            pass

    site = ("-c", str(tmp_path / "site.toml"))
    assert run("offline", "export", *site, str(stick)).exit_code == 3, "there is no store"
    asyncio.run(make())
    assert run("offline", "export", *site, str(stick)).exit_code == 1
    assert not list(stick.iterdir())


def test_an_export_says_which_file_of_the_store_it_could_not_read(installed: Installation, tmp_path: Path) -> None:
    """The store has gone on in its spare file, as its own cannot be opened; here the one stands in for the other."""
    store = installed.site.store
    (store / STORE_NAME).rename(store / NAME)
    result = run("offline", "export", "-c", str(tmp_path / "site.toml"), str(tmp_path), "--json")
    assert result.exit_code == 1, result.output
    (told,) = objects(result)
    assert told["batches"] == 2
    assert f"{store / STORE_NAME}: " in str(told["unread"])
    assert f"left out: {store / STORE_NAME}" in result.output


async def test_receipts_that_cannot_be_looked_for_just_now_are_looked_for_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails a look into its directory; here it is a name that no file system takes."""

    async def settle(payload: bytes) -> None:
        raise AssertionError(payload)

    async def beside(work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    nowhere = CarriedReceipts(tmp_path / ("x" * 300), gateway=GATEWAY, settle=settle, beside=beside)
    taking = asyncio.create_task(nowhere.run())
    await asyncio.sleep(0.05)
    assert not taking.done()
    assert "carried receipts not looked for" in caplog.text
    taking.cancel()
