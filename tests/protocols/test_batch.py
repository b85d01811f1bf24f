"""Rows and batch bodies: what comes back is what was put in, and nothing else comes out of strange bytes."""

import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.batch import VALUES_MAX, TooMuch, decode, encode, pack, unpack
from protocols.batch.codes import (
    COLUMNS_MAX,
    FAULTS,
    FORMS,
    KINDS,
    QUALITIES,
    RAW_MAX,
    RECORDS_MAX,
    SIDES,
    SOURCES,
    STRINGS_MAX,
    TIME_STATES,
)
from protocols.batch.ints import Reader, Runs, write_column, write_varint
from protocols.capture import Capture, Event, Fault, Gap, Quality, Record, Source, TimeState, Value
from protocols.errors import Malformed
from protocols.quantity import Form, Kind, Quantity, Side, by_name
from tests.mutation import deflated, inflated
from tests.records import RECORDS, digits, reference_load, series

VOLTS = by_name("voltage.a")


def capture(*values: Value, **changed: object) -> Capture:
    """A capture like any other."""
    told: dict[str, object] = {
        "meter": "m1", "point": "p1", "task": "curve", "slot": 900_000, "stamp": 900_000, "read_at": 901_500,
        "time_state": TimeState.TRUSTED, "clock_error_ms": None, "source": Source.METER_LIVE,
        "values": values or (Value(quantity=VOLTS, number=Decimal("230.1")),),
    } | changed  # fmt: skip
    return Capture(**told)  # type: ignore[arg-type]


@given(RECORDS)
def test_a_row_gives_back_its_record_to_the_last_digit(record: Record) -> None:
    found = unpack(pack(record))
    assert found == record
    assert digits([found]) == digits([record])


@given(st.lists(RECORDS, max_size=8) | series())
@example([])
@settings(max_examples=150)
def test_a_body_gives_back_its_records_in_their_order_to_the_last_digit(records: list[Record]) -> None:
    found = decode(encode(records))
    assert found == records
    assert digits(found) == digits(records)


@pytest.mark.parametrize(
    "texts",
    [
        ["230.0", "230.00"],
        ["0", "-0", "0.0", "-0.00", "0E+2", "0E-9"],
        ["230.1", "230.15", "230", "0.000012", "123456.7"],
        ["1E+3", "1000", "1.0E+3", "1E-7", "0.0000001"],
        ["999999999999999", "-999999999999999", "1000000000000000", "9007199254740993"],
        ["1.7976931348623157E+308", "5E-324", "1"],
        ["-0.5", "0.5", "-12.5"],
    ],
)
def test_numbers_keep_their_digits_beside_others_of_the_same_column(texts: list[str]) -> None:
    records: list[Record] = [capture(Value(quantity=VOLTS, number=Decimal(text))) for text in texts]
    wanted = [str(Decimal(text)) for text in texts]
    assert [each for each in digits(decode(encode(records))) if each != "1"] == [each for each in wanted if each != "1"]
    assert [str(unpack(pack(record)).values[0].number) for record in records] == wanted  # type: ignore[union-attr]


def test_the_context_of_the_caller_changes_no_digit() -> None:
    records: list[Record] = [capture(Value(quantity=VOLTS, number=Decimal("1234567.891"))) for _ in range(3)]
    with localcontext(getcontext()) as context:
        context.prec = 2
        assert digits(decode(encode(records))) == digits(records)
        assert digits([unpack(pack(records[0]))]) == digits(records[:1])


def test_every_word_has_a_number() -> None:
    for words, kind in [
        (QUALITIES, Quality), (FAULTS, Fault), (SOURCES, Source), (TIME_STATES, TimeState), (KINDS, Kind),
        (FORMS, Form), (SIDES, Side),
    ]:  # fmt: skip
        assert list(words) == list(kind), f"{kind.__name__}: add new words at the end of both"


@pytest.mark.parametrize(
    "record",
    [
        capture(stamp=2**52),
        capture(slot=None, read_at=-(2**52)),
        capture(clock_error_ms=-(2**52)),
        capture(Value(quantity=VOLTS, number=Decimal("1E+401"))),
        capture(Value(quantity=VOLTS, number=Decimal("9" * 401))),
        capture(Value(quantity=VOLTS, text="x" * 20_000)),
        capture(meter="\ud800"),
        Gap(meter="m", task="t", slot=2**60, fault=Fault.MISSED, opened_at=0),
        Event(name="n", at=1, detail={"count": 2**53}),
        Event(name="n", at=1, detail={f"key{n}": n for n in range(2000)}),
        capture(Value(quantity=Quantity(number=-1, name="n", unit="", kind=Kind.STATUS), number=Decimal(1))),
    ],
)
def test_a_record_beyond_the_limits_is_refused_before_it_is_stored(record: Record) -> None:
    with pytest.raises(ValueError):
        pack(record)
    with pytest.raises(ValueError):
        encode([record])


def test_a_body_of_too_many_values_is_refused() -> None:
    many = capture(*(Value(quantity=VOLTS, number=Decimal(1)) for _ in range(1000)))
    with pytest.raises(TooMuch, match="values and details, expected at most"):
        encode([many] * (VALUES_MAX // 1000 + 1))


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for read, head in ((unpack, b""), (unpack, b"\x01"), (decode, b""), (decode, b"\x01")):
        with pytest.raises(Malformed):
            read(head + data)  # a random stream that is a whole record does not turn up


def _only_malformed(read: Callable[[bytes], object], data: bytes) -> None:
    try:
        read(data)
    except Malformed:
        return


@given(st.lists(RECORDS, min_size=1, max_size=5), st.data())
@settings(max_examples=150)
def test_damaged_columns_raise_only_malformed(records: list[Record], data: st.DataObject) -> None:
    raw = bytearray(zlib.decompress(encode(records)[1:], -zlib.MAX_WBITS))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (raw, raw[:cut], raw + b"\0"):
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        _only_malformed(decode, b"\x01" + deflater.compress(damaged) + deflater.flush())


@given(RECORDS, st.data())
@settings(max_examples=150)
def test_a_damaged_row_is_malformed_or_one_that_a_body_takes(record: Record, data: st.DataObject) -> None:
    row = bytearray(pack(record))
    for _ in range(data.draw(st.integers(1, 3))):
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(row), bytes(row[: data.draw(st.integers(0, len(row)))])):
        try:
            found = unpack(damaged)
        except Malformed:
            continue
        assert decode(encode([found])) == [found]
        assert unpack(pack(found)) == found


def test_a_body_with_anything_behind_it_is_malformed() -> None:
    body = encode([capture()])
    for damaged in (body + b"\0", body[:-1], b"\x02" + body[1:], b""):
        with pytest.raises(Malformed):
            decode(damaged)


def _deflated(raw: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b"\x01" + deflater.compress(raw) + deflater.flush()


def _varints(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        write_varint(out, number)
    return bytes(out)


@pytest.mark.parametrize(
    "raw",
    [
        lambda: bytes(200 << 20),
        lambda: bytes(RAW_MAX - 1),
        lambda: _varints(RECORDS_MAX, STRINGS_MAX) + bytes(64),
        lambda: _varints(1, STRINGS_MAX) + bytes(64),
        lambda: _varints(RECORDS_MAX, 0, COLUMNS_MAX) + bytes(64),
        lambda: _varints(RECORDS_MAX, 0, 1) + b"\x01\x02" + _varints(1) + b"\x03\x00\x02\x00" + bytes(64),
    ],
    ids=["bomb", "zeros", "texts", "empty texts", "quantities", "shape"],
)
def test_a_hostile_body_costs_little(raw: Callable[[], bytes]) -> None:
    body = _deflated(raw())
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(Malformed):
        decode(body)
    took, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    assert took < 1


@given(
    st.lists(st.lists(st.integers(-(2**54), 2**54), min_size=1, max_size=6), min_size=1, max_size=6)
    | st.lists(st.lists(st.integers(-300, 300), min_size=1, max_size=6), min_size=1, max_size=6)
)
def test_a_column_of_whole_numbers_comes_back(runs: list[list[int]]) -> None:
    lengths = Runs(list(map(len, runs)))
    numbers = [number for run in runs for number in run]
    out = bytearray()
    write_column(out, list(numbers), lengths)
    reader = Reader(bytes(out))
    assert reader.column(lengths) == numbers
    reader.end()


def test_an_hour_of_the_reference_load_takes_at_most_one_and_a_half_bytes_a_value() -> None:
    records = reference_load()
    body = encode(records)
    assert decode(body) == records
    count = sum(len(record.values) for record in records if isinstance(record, Capture))
    figure = {"bench": "bytes_per_value", "values": count, "body_bytes": len(body), "figure": len(body) / count}
    print(json.dumps(figure))
    assert len(body) / count <= 1.5


def test_each_body_stands_for_itself() -> None:
    records = reference_load(meters=5)
    assert [record for at in range(0, 20, 5) for record in decode(encode(records[at : at + 5]))] == records


def test_quantities_outside_the_catalogue_travel_in_full() -> None:
    own = Quantity(number=0, name="vendor.pulse", unit="1", kind=Kind.STATUS, zh="脉冲")
    changed = Quantity(number=VOLTS.number, name="voltage.a", unit="mV", kind=Kind.INSTANT)
    records: list[Record] = [
        capture(Value(quantity=own, number=Decimal(7)), Value(quantity=changed, number=Decimal(230_100)))
    ]
    assert decode(encode(records)) == records
    assert unpack(pack(records[0])) == records[0]


def test_a_quantity_that_could_not_be_written_is_not_read() -> None:
    last = Quantity(number=2**31 - 1, name="vendor.last", unit="1", kind=Kind.STATUS)
    record = capture(Value(quantity=last, number=Decimal(7)))
    row, columns = pack(record), inflated(encode([record]))
    assert unpack(row) == decode(deflated(columns))[0] == record
    beyond = row.replace(bytes.fromhex("1a7fffffff"), bytes.fromhex("1a80000000"))
    with pytest.raises(Malformed, match="number"):
        unpack(beyond)
    beyond = columns.replace(bytes.fromhex("ffffffff07"), bytes.fromhex("8080808008"))
    with pytest.raises(Malformed, match="varint"):
        decode(deflated(beyond))


def test_a_detail_that_could_not_be_written_is_not_read() -> None:
    event = Event(name="n", at=1, detail={"count": 1 - 2**53})
    assert decode(encode([event])) == [event]
    columns = inflated(encode([event]))
    beyond = columns.replace(_varints((2**54 - 3) << 1 | 1), _varints((2**54 - 1) << 1 | 1))
    assert beyond != columns
    with pytest.raises(Malformed, match="varint"):
        decode(deflated(beyond))


def test_an_event_names_each_detail_once() -> None:
    columns = inflated(encode([Event(name="n", at=1, detail={"a": 1, "b": 2})]))
    twice = columns.replace(b"\x02\x01\x05\x02\x09", b"\x02\x01\x05\x01\x09")
    assert twice != columns
    with pytest.raises(Malformed, match="2 details of 1 names"):
        decode(deflated(twice))
