"""What landing promises: every message judged, each batch once, a receipt for what is committed and nothing else."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from central.landing import LETTERS_MAX, MISSING_MAX, MISSING_MS, Landing
from central.numbers import Numbers
from central.sinks.base import Arrival, Landed, SinkAway
from central.sinks.sqlite import SqliteSink
from protocols.capture import Capture, Event, Fault, Gap, Source, TimeState, Value
from protocols.messages import RANGE_BYTES_MAX, RECEIPT_BYTES_MAX, Health, Hello, Receipt, State, signed, topic
from protocols.quantity import by_name
from tests.fleet import NOW, Gateway, centre, identity, other_centre, trust

MOST = 560
"""Bytes that a broker carries: short of a hundred ranges."""
Message = tuple[str, bytes]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    opened = SqliteSink(tmp_path / "central.db")
    yield opened
    opened.close()


@pytest.fixture
def landing(sink: SqliteSink) -> Landing:
    return open_landing(sink)


def open_landing(sink: SqliteSink) -> Landing:
    return Landing(sink, centre=centre(), gateways=trust("gw-0001", "gw-0002"), now_ms=lambda: NOW)


def capture(n: int = 0, plain: str = "230.1") -> Capture:
    at = NOW - 9000 + 900_000 * n
    return Capture(
        meter="m-1", point="p-1", task="curve", slot=at, stamp=at, read_at=at + 700, time_state=TimeState.TRUSTED,
        clock_error_ms=None, source=Source.METER_LIVE,
        values=(Value(quantity=by_name("voltage.a"), number=Decimal(plain)),),
    )  # fmt: skip


def receive(landing: Landing, *messages: Message) -> None:
    for message in messages:
        landing.receive(*message)


def receipts(landing: Landing, gateway: Gateway) -> dict[int, Receipt]:
    """The receipts that are due, by epoch, as the gateway reads them."""
    found = {}
    for on, payload in landing.receipts():
        assert on == topic(gateway.id, "down", "receipt")
        receipt = gateway.receipt(payload)
        found[receipt.epoch] = receipt
    return found


def receipt(landing: Landing, gateway: Gateway) -> Receipt:
    (found,) = receipts(landing, gateway).values()
    return found


def stamps(sink: SqliteSink) -> list[int]:
    return sorted((row.stamp - (NOW - 9000)) // 900_000 for row in sink.readings())


def letters(sink: SqliteSink) -> dict[str, int]:
    with sink._reading() as cursor:
        return dict(cursor.execute("SELECT reason, sum(times) FROM dead_letter GROUP BY reason").fetchall())


def test_a_batch_lands_and_its_receipt_says_so(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), gateway.batch(1, [capture(0), capture(1)]), gateway.batch(2, [capture(2)]))
    assert stamps(sink) == [0, 1, 2]
    assert landing.due() == {gateway.id}
    said = receipt(landing, gateway)
    assert (said.epoch, said.contiguous_upto, said.ranges, said.rejected, said.need_key) == (
        gateway.epoch,
        2,
        (),
        (),
        (),
    )
    assert landing.due() == set()
    assert landing.receipts() == []


def test_captures_gaps_and_events_share_the_numbers(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    missed = Gap(meter="m-2", task="curve", slot=NOW, fault=Fault.SILENT, opened_at=NOW)
    receive(
        landing, gateway.key(), gateway.batch(1, [capture()]), gateway.events(2, [Event(name="store.damaged", at=NOW)]),
        gateway.batch(3, [missed]),
    )  # fmt: skip
    assert receipt(landing, gateway).contiguous_upto == 3
    assert [(row.meter, row.fault) for row in sink.gaps()] == [("m-2", "silent")]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_replayed_batch_is_receipted_again_and_lands_nothing(
    landing: Landing, sink: SqliteSink, restarted: bool
) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), gateway.batch(1, [capture()]))
    first = receipt(landing, gateway)
    if restarted:
        landing = open_landing(sink)
    receive(landing, gateway.batch(1, [capture()]))
    assert receipt(landing, gateway) == first
    assert stamps(sink) == [0]
    assert landing.counters["batches.repeated"] == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_another_batch_under_a_landed_number_is_kept_aside_and_refused(
    landing: Landing, sink: SqliteSink, restarted: bool
) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), gateway.batch(1, [capture(0)]), gateway.batch(1, [capture(1)]))
    if restarted:
        landing = open_landing(sink)
        receive(landing, gateway.hello())
    assert stamps(sink) == [0]
    assert letters(sink) == {"other_bytes": 1}
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.rejected) == (1, ((1, "other_bytes"),))
    receive(landing, gateway.hello(voided=((gateway.epoch, 1),)), gateway.batch(2, [capture(1)]))
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.rejected) == (2, ())
    assert stamps(sink) == [0, 1]


@pytest.mark.parametrize("restarted", [False, True])
def test_batches_may_come_in_any_order(landing: Landing, sink: SqliteSink, restarted: bool) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), *(gateway.batch(seq, [capture(seq)]) for seq in (3, 1, 7, 6, 4)))
    if restarted:
        landing = open_landing(sink)
        receive(landing, gateway.hello(next_seq=8))
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.ranges) == (1, ((3, 4), (6, 7)))
    receive(landing, gateway.batch(2, [capture(2)]))
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.ranges) == (4, ((6, 7),))


def test_a_batch_before_its_key_is_held_and_the_key_asked_for(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    receive(landing, gateway.batch(1, [capture()]))
    assert stamps(sink) == []
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.need_key) == (0, (gateway.data_key.kid,))
    receive(landing, gateway.key())
    said = receipt(landing, gateway)
    assert (said.epoch, said.contiguous_upto, said.need_key) == (gateway.epoch, 1, ())
    assert stamps(sink) == [0]
    assert letters(sink) == {}


def test_keys_of_batches_that_were_given_up_do_not_crowd_out_those_that_still_come(sink: SqliteSink) -> None:
    now = [NOW]
    landing = Landing(sink, centre=centre(), gateways=trust("gw-0001"), now_ms=lambda: now[0])
    given_up = [Gateway(seed=n, epoch=n << 32) for n in range(2, 2 + MISSING_MAX)]
    alive = Gateway()
    receive(landing, alive.batch(1, [capture()]), *(gateway.batch(1, [capture()]) for gateway in given_up))
    assert alive.data_key.kid not in receipt(landing, alive).need_key
    now[0] += 18 * 60_000
    receive(landing, alive.batch(1, [capture()]))  # offered again, as those that were given up are not
    asked = receipt(landing, alive).need_key
    assert asked[0] == alive.data_key.kid and len(asked) == MISSING_MAX
    now[0] += MISSING_MS - 18 * 60_000 + 1
    receive(landing, alive.hello())
    assert receipts(landing, alive)[alive.epoch].need_key == (alive.data_key.kid,)
    receive(landing, given_up[0].batch(1, [capture()]), given_up[0].key())
    assert stamps(sink) == [0], "one that comes after all is not lost"


def test_a_held_batch_outlives_a_restart(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    receive(landing, gateway.batch(1, [capture()]))
    again = open_landing(sink)
    receive(again, gateway.key())
    assert stamps(sink) == [0]
    assert receipt(again, gateway).contiguous_upto == 1


def test_what_is_held_without_a_key_is_bounded(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    receive(landing, *(gateway.batch(seq, [capture(seq)]) for seq in range(1, LETTERS_MAX + 6)))
    assert letters(sink) == {"unknown_key": LETTERS_MAX}
    receive(landing, gateway.key())
    assert stamps(sink) == list(range(6, LETTERS_MAX + 6))


def test_a_restarted_centre_opens_batches_with_the_key_it_was_once_given(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    receive(landing, gateway.key())
    again = open_landing(sink)
    receive(again, gateway.batch(1, [capture()]))
    assert receipt(again, gateway).contiguous_upto == 1


def test_no_data_key_stands_in_the_database_in_the_clear(landing: Landing, sink: SqliteSink, tmp_path: Path) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), gateway.batch(1, [capture()]))
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert gateway.data_key.kid in kept
    assert gateway.data_key.key not in kept


def flipped(message: bytes, bit: int) -> bytes:
    bit %= 8 * len(message)
    return message[: bit // 8] + bytes([message[bit // 8] ^ 1 << bit % 8]) + message[bit // 8 + 1 :]


@given(bit=st.integers(0, 1 << 16), seed=st.sampled_from(["batch", "key", "hello"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_message_with_a_flipped_bit_changes_nothing(landing: Landing, sink: SqliteSink, bit: int, seed: str) -> None:
    known, strange = Gateway(), Gateway(epoch=99, seed=2)
    receive(landing, known.key())
    messages = {
        "batch": known.batch(1, [capture()]), "key": strange.key(), "hello": known.hello(voided=((known.epoch, 1),)),
    }  # fmt: skip
    on, payload = messages[seed]
    before = sum(letters(sink).values())
    landing.receive(on, flipped(payload, bit))
    assert sum(letters(sink).values()) == before + 1
    assert stamps(sink) == []
    assert sink.closed_numbers(known.id, known.epoch) == []
    assert sink.key_record(strange.id, strange.data_key.kid) is None


@given(payload=st.binary(max_size=200), on=st.sampled_from(["batch", "event", "key", "hello", "state", "health"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_at_random_are_counted_and_kept_aside(
    landing: Landing, sink: SqliteSink, payload: bytes, on: str
) -> None:
    before = landing.counters["aside.malformed"]
    landing.receive(topic("gw-0001", "up", on), payload)
    assert landing.counters["aside.malformed"] == before + 1
    assert letters(sink)["malformed"] >= 1


def moved(message: Message, to: str) -> Message:
    return to, message[1]


def second_key_under_one_id() -> Message:
    other = Gateway(seed=9)
    other.data_key = replace(other.data_key, kid=Gateway().data_key.kid)
    return other.key()


def hello_signed_by_another() -> Message:
    hello = Hello(gateway="gw-0001", epoch=1, first_unsettled=1, next_seq=1, pending=0, oldest_at=None, sent_at=NOW)
    wrong = identity("gw-0002")
    return topic("gw-0001", "up", "hello"), signed(hello, kid=wrong.kid, sign=wrong.sign)


def state_of_another() -> Message:
    return topic("gw-0001", "up", "state"), State(gateway="gw-0002", online=True, epoch=1, at=NOW).encode()


def touched_batch() -> Message:
    on, sealed = Gateway().batch(1, [capture()])
    return on, flipped(sealed, 8 * len(sealed) - 9)


ODD: dict[str, tuple[Callable[[], Message], str]] = {
    "a batch of another gateway": (
        lambda: moved(Gateway().batch(1, [capture()]), topic("gw-0002", "up", "batch")), "unknown_key"),
    "a batch where events belong": (
        lambda: moved(Gateway().batch(1, [capture()]), topic("gw-0001", "up", "event")), "malformed"),
    "in a wrong bucket": (lambda: moved(Gateway().batch(1, [capture()]), "mw/v1/00/gw-0001/up/batch"), "topic"),
    "on a topic of the centre": (
        lambda: moved(Gateway().batch(1, [capture()]), topic("gw-0001", "down", "receipt")), "topic"),
    "on no topic of ours": (lambda: ("$SYS/broker/uptime", b"1"), "topic"),
    "a key of a gateway unknown here": (lambda: Gateway("gw-9999").key(), "unknown_gateway"),
    "a hello of another gateway": (
        lambda: moved(Gateway("gw-0002").hello(), topic("gw-0001", "up", "hello")), "malformed"),
    "a key of another gateway": (lambda: moved(Gateway("gw-0002").key(), topic("gw-0001", "up", "key")), "malformed"),
    "a key for another centre": (lambda: Gateway(seed=5).key(of=other_centre()), "misdirected"),
    "a second key under one id": (second_key_under_one_id, "misdirected"),
    "a hello that another gateway signed": (hello_signed_by_another, "forged"),
    "a state of another gateway": (state_of_another, "malformed"),
    "cut short": (lambda: (topic("gw-0001", "up", "batch"), Gateway().batch(1, [capture()])[1][:-1]), "malformed"),
    "a batch that was touched": (touched_batch, "forged"),
    "a body that is none": (lambda: Gateway().sealed(1, b"no batch body"), "bad_body"),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_an_odd_message_is_counted_kept_aside_and_never_lands(landing: Landing, sink: SqliteSink, what: str) -> None:
    made, reason = ODD[what]
    gateway = Gateway()
    receive(landing, gateway.key(), made())
    assert letters(sink) == {reason: 1}
    assert landing.counters[f"aside.{reason}"] == 1
    assert stamps(sink) == []
    receive(landing, gateway.batch(2, [capture()]))
    assert stamps(sink) == [0]


def test_a_batch_that_cannot_be_read_is_rejected_until_the_gateway_has_voided_it(
    landing: Landing, sink: SqliteSink
) -> None:
    gateway = Gateway()
    receive(landing, gateway.key(), gateway.sealed(1, b"no batch body"), gateway.batch(2, [capture(2)]))
    for _ in range(2):
        said = receipt(landing, gateway)
        assert (said.contiguous_upto, said.ranges, said.rejected) == (2, (), ((1, "bad_body"),))
        landing = open_landing(sink)
        receive(landing, gateway.batch(2, [capture(2)]))
    receive(landing, gateway.hello(voided=((gateway.epoch, 1),)), gateway.batch(3, [capture(1)]))
    said = receipt(landing, gateway)
    assert (said.contiguous_upto, said.rejected) == (3, ())


def test_a_forged_batch_closes_no_number(landing: Landing, sink: SqliteSink) -> None:
    gateway = Gateway()
    on, sealed = gateway.batch(1, [capture()])
    receive(landing, gateway.key(), (on, flipped(sealed, 8 * len(sealed) - 3)), gateway.hello())
    assert receipt(landing, gateway).contiguous_upto == 0
    receive(landing, (on, sealed))
    assert receipt(landing, gateway).contiguous_upto == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_voided_numbers_count_as_closed_and_nothing_lands_under_them(
    landing: Landing, sink: SqliteSink, restarted: bool
) -> None:
    before, gateway = Gateway(epoch=5, seed=8), Gateway()
    receive(landing, before.key(), gateway.key(), gateway.batch(1, [capture(1)]), gateway.batch(4, [capture(4)]))
    receive(landing, gateway.hello(voided=((gateway.epoch, 2), (gateway.epoch, 3), (5, 1))))
    landing.receipts()
    if restarted:
        landing = open_landing(sink)
    receive(landing, gateway.batch(2, [capture(2)]), before.batch(1, [capture(9)]), before.batch(2, [capture(5)]))
    said = receipts(landing, gateway)
    assert {epoch: (one.contiguous_upto, one.ranges, one.rejected) for epoch, one in said.items()} == {
        gateway.epoch: (4, (), ()), 5: (2, (), ()),
    }  # fmt: skip
    assert stamps(sink) == [1, 4, 5]
    assert landing.counters["batches.late_voided"] == 2


def test_state_and_health_are_remembered(landing: Landing, sink: SqliteSink) -> None:
    state = State(gateway="gw-0001", online=True, epoch=3, at=NOW)
    health = Health(gateway="gw-0001", epoch=3, at=NOW, counters={"captures": 3})
    receive(
        landing, (topic("gw-0001", "up", "state"), state.encode()), (topic("gw-0001", "up", "health"), health.encode())
    )
    with sink._reading() as cursor:
        notes = dict(cursor.execute("SELECT name, text FROM gateway_note").fetchall())
    assert notes == {"state": state.encode().decode(), "health": health.encode().decode()}


def test_while_the_database_is_away_nothing_is_said_and_all_lands_later(
    landing: Landing, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()
    receive(landing, gateway.key())

    def away(arrival: Arrival) -> Landed:
        raise SinkAway("gone")

    with monkeypatch.context() as patch:
        patch.setattr(sink, "land", away)
        with pytest.raises(SinkAway):
            receive(landing, gateway.batch(1, [capture()]))
        assert receipt(landing, gateway).contiguous_upto == 0
    receive(landing, gateway.batch(1, [capture()]))
    assert receipt(landing, gateway).contiguous_upto == 1


def test_a_mistake_of_ours_stops_one_message_and_not_the_fleet(
    landing: Landing, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()
    receive(landing, gateway.key())

    def wrong(arrival: Arrival) -> Landed:
        raise KeyError("oops")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(sink, "land", wrong)
        receive(landing, gateway.batch(1, [capture()]))
    assert "KeyError" in caplog.text
    assert letters(sink) == {"internal": 1}
    assert receipt(landing, gateway).contiguous_upto == 0
    receive(landing, gateway.batch(1, [capture()]))
    assert receipt(landing, gateway).contiguous_upto == 1


@given(st.lists(st.integers(1, 40), max_size=60))
def test_numbers_are_the_set_of_what_was_added(added: list[int]) -> None:
    numbers = Numbers()
    for n, seq in enumerate(added):
        assert numbers.add(seq) == (seq not in added[:n])
    held = set(added)
    assert {seq for seq in range(42) if seq in numbers} == held
    ranges = ([(1, numbers.upto)] if numbers.upto else []) + numbers.above
    assert [seq for first, last in ranges for seq in range(first, last + 1)] == sorted(held)
    assert all(b[0] > a[1] + 1 for a, b in pairwise(ranges))


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_batches_are_lost_repeated_and_shuffled_each_reading_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    random = Random(seed)
    sink = SqliteSink(tmp_path_factory.mktemp("shuffled") / "central.db")
    gateway = Gateway(seed=seed)
    landing = open_landing(sink)
    batches = [gateway.batch(seq, [capture(2 * seq), capture(2 * seq + 1)]) for seq in range(1, 9)]
    settled: set[int] = set()
    receive(landing, gateway.key())
    while len(settled) < len(batches):
        landing.receive(*random.choice(batches))
        if random.random() < 0.2:
            landing = open_landing(sink)
        if random.random() < 0.5:
            for _, payload in landing.receipts():
                said = gateway.receipt(payload)
                settled |= set(range(1, said.contiguous_upto + 1))
                settled |= {seq for first, last in said.ranges for seq in range(first, last + 1)}
        assert {2 * seq for seq in settled} <= set(stamps(sink))
    assert stamps(sink) == list(range(2, 18))
    sink.close()


def test_a_receipt_is_no_longer_than_the_broker_carries_and_says_nothing_untrue(landing: Landing) -> None:
    """A hundred holes: the first ranges are told, and with each hole that is filled the next."""
    gateway = Gateway("gw-0001")
    receive(landing, gateway.key())
    odd = range(1, 200, 2)
    for seq in odd:
        receive(landing, gateway.batch(seq, [capture(seq)]))
    ((_, whole),) = landing.receipts()
    receive(landing, gateway.batch(1, [capture(1)]))
    ((_, short),) = landing.receipts(bytes_max=MOST)
    assert len(whole) > MOST >= len(short)
    told = gateway.receipt(short)
    assert told.contiguous_upto == 1
    assert 2 < len(told.ranges) < 99 and told.ranges == gateway.receipt(whole).ranges[: len(told.ranges)]
    for seq in range(2, 151, 2):
        receive(landing, gateway.batch(seq, [capture(seq)]))
    ((_, later),) = landing.receipts(bytes_max=MOST)
    assert gateway.receipt(later).contiguous_upto == 151 and len(later) <= MOST


def test_what_a_receipt_takes_is_no_more_than_is_allowed_for() -> None:
    wide = (1 << 63) - 1
    for count in (0, 20):
        said = Receipt(
            gateway="g" * 32, epoch=wide, contiguous_upto=wide - 1000,
            ranges=tuple((wide - 900 + 4 * n, wide - 899 + 4 * n) for n in range(count)),
            rejected=tuple((wide - n, "r" * 32) for n in range(count)), need_key=(bytes(8),) * MISSING_MAX,
            sent_at=wide,
        )  # fmt: skip
        size = len(signed(said, kid=bytes(8), sign=lambda _: bytes(64)))
        assert size <= RECEIPT_BYTES_MAX + RANGE_BYTES_MAX * count
