"""A value is taken only from the answer to its own question; everything else ends as a named fault."""

from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.capture import Fault, Quality, Value
from protocols.dialogue import Garbled, Reply, Silence
from protocols.errors import Refused
from protocols.modbus.dialogue import BUSY_PAUSES_S, Block, Item, answers, read_blocks, read_registers
from protocols.modbus.frame import Frame
from protocols.modbus.registers import Format, Type
from protocols.quantity import Kind, Quantity
from tests.modbus import accepted, always, converse, exception, reply


def item(address: int, kind: Type = Type.UINT16, *, function: int = 3) -> Item:
    quantity = Quantity(number=0, name=f"register.{address}", unit="", kind=Kind.INSTANT)
    return Item(quantity=quantity, function=function, address=address, format=Format(type=kind))


class Registers:
    """A meter that holds its address as the value of each register, and answers as told."""

    def __init__(self, *, holes: frozenset[int] = frozenset(), most: int = 125, tcp: bool = False) -> None:
        self.holes, self.most, self.tcp = holes, most, tcp
        self.asked: list[tuple[int, int]] = []

    def __call__(self, question: bytes) -> bytes:
        head = 6 if self.tcp else 0
        unit, function = question[head], question[head + 1]
        address, count = (int.from_bytes(question[n : n + 2], "big") for n in (head + 2, head + 4))
        transaction = int.from_bytes(question[:2], "big") if self.tcp else None
        self.asked.append((address, count))
        if count > self.most:
            return exception(3, unit=unit, function=function, transaction=transaction).encode()
        if self.holes & set(range(address, address + count)):
            return exception(2, unit=unit, function=function, transaction=transaction).encode()
        registers = range(address, address + count)
        return reply(registers, unit=unit, function=function, transaction=transaction).encode()


def plain(values: list[Value]) -> list[str | None]:
    return [value.plain for value in values]


@pytest.mark.parametrize("tcp", [False, True])
def test_values_stand_in_the_order_of_their_places(tcp: bool) -> None:
    blocks = [Block(1, [item(10), item(12)], [2, 0]), Block(1, [item(100, Type.UINT32)], [1])]
    transactions = iter(range(7, 100)) if tcp else None
    values = converse(read_blocks(blocks, transactions=transactions), Registers(tcp=tcp))
    assert plain(values) == ["12", str(100 << 16 | 101), "10"]


@pytest.mark.parametrize(
    ("frame", "right"),
    [(reply([1, 2]), True), (exception(2), True), (reply([1, 2], unit=2), False), (reply([1, 2], function=4), False),
     (reply([1]), False), (reply([1, 2, 3]), False), (exception(2, function=4), False), (exception(2, unit=9), False),
     (Frame(unit=1, function=3, data=b"\x02\0\1\0\2"), False), (Frame(unit=1, function=0x83, data=b""), False),
     (Frame(unit=1, function=0x83, data=b"\2\2"), False), (Frame(unit=1, function=3, data=b""), False)],
)  # fmt: skip
def test_an_answer_has_the_unit_the_function_and_the_bytes_that_were_asked(frame: Frame, right: bool) -> None:
    assert answers(frame, 1, 3, 2) is right
    assert Block(1, [item(0, Type.UINT32)]).ask().accepts(frame) is right


def test_an_answer_over_tcp_has_the_transaction_that_was_asked() -> None:
    ask = Block(1, [item(0)]).ask(500)
    assert ask.accepts(reply([7], transaction=500))
    assert not ask.accepts(reply([7], transaction=501)) and not ask.accepts(reply([7]))


ASKED = [
    ([item(0, Type.FLOAT32), item(2, Type.FLOAT32)], [0x4366, 0x199A, 0x4248, 0x0000]),
    ([item(0, Type.INT64)], [0, 0, 0x0001, 0xE240]),
    ([item(n) for n in range(10)], [0, 0xFFFF, 1, 0x8000, 0x0103, 0x0083, 2301, 5000, 0, 7]),
    ([item(40000), item(40004, Type.UINT32)], [1, 0, 0, 0, 0x0102, 0x0304]),
]


@pytest.mark.parametrize(("items", "registers"), ASKED)
@pytest.mark.parametrize("unit", [1, 3, 131, 247])
def test_a_flipped_bit_of_an_rtu_reply_is_never_a_reading(items: list[Item], registers: list[int], unit: int) -> None:
    block = Block(unit, items)
    right = converse(read_blocks([block]), always(reply(registers, unit=unit).encode()))
    assert all(value.quality is Quality.GOOD for value in right)
    whole = reply(registers, unit=unit).encode()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        values = converse(read_blocks([block]), always(bytes(flipped)))
        assert all(value.fault is Fault.GARBLED and value.plain is None for value in values), bit


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 11])
def test_a_flipped_bit_of_an_rtu_refusal_is_garbled(code: int) -> None:
    whole = exception(code).encode()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (value,) = converse(read_blocks([Block(1, [item(0)])]), always(bytes(flipped)))
        assert value.fault is Fault.GARBLED, bit


@pytest.mark.parametrize(("items", "registers"), ASKED)
@pytest.mark.parametrize("transaction", [0, 1, 0x1234, 0xFFFF])
def test_a_flipped_bit_of_a_tcp_header_function_or_byte_count_is_never_a_reading(
    items: list[Item], registers: list[int], transaction: int
) -> None:
    block = Block(1, items)
    whole = reply(registers, transaction=transaction).encode()
    for bit in range(8 * 9):  # MBAP 7 bytes, function, byte count; what follows is TCP's checksum to protect
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        dialogue = read_blocks([block], transactions=iter([transaction]))
        values = converse(dialogue, always(bytes(flipped)))
        assert all(value.fault is Fault.GARBLED for value in values), bit


@given(st.binary(max_size=80))
@settings(max_examples=100)
def test_noise_is_garbled_and_nothing_is_silent(noise: bytes) -> None:
    (value,) = converse(read_blocks([Block(1, [item(0)])]), always(noise))
    assert value.fault is (Fault.GARBLED if noise else Fault.SILENT)


def test_silence_ends_the_dialogue_and_what_was_not_asked_is_silent_too() -> None:
    asked: list[bytes] = []
    values = converse(
        read_blocks([Block(1, [item(0)], [1]), Block(1, [item(50)], [0])]), lambda data: asked.append(data)
    )
    assert len(asked) == 1 and [value.fault for value in values] == [Fault.SILENT, Fault.SILENT]


def test_after_noise_the_next_block_is_asked() -> None:
    meter = Registers()
    values = converse(
        read_blocks([Block(1, [item(5)]), Block(1, [item(50)], [1])]),
        lambda data: b"\x55\xaa" if data[3] == 5 else meter(data),
    )
    assert [value.fault for value in values] == [Fault.GARBLED, None] and values[1].plain == "50"
    assert values[0].detail == "55AA"


@pytest.mark.parametrize(
    ("code", "fault", "words"),
    [(1, Fault.REFUSED, "exception 01 illegal function"), (2, Fault.ABSENT, "exception 02 illegal data address"),
     (3, Fault.REFUSED, "exception 03 illegal data value"), (4, Fault.REFUSED, "exception 04 server device failure"),
     (6, Fault.REFUSED, "exception 06 server device busy"), (8, Fault.REFUSED, "exception 08 memory parity error"),
     (0x80, Fault.REFUSED, "exception 80 unknown"), (0xFF, Fault.REFUSED, "exception FF unknown")],
)  # fmt: skip
def test_a_refusal_is_recorded_with_its_code(code: int, fault: Fault, words: str) -> None:
    (value,) = converse(read_blocks([Block(1, [item(0)])]), always(exception(code).encode()))
    assert (value.fault, value.detail, value.quality) == (fault, words, Quality.UNAVAILABLE)


def test_a_gateway_that_finds_nobody_is_not_asked_for_the_rest() -> None:
    asked: list[bytes] = []

    def gateway(data: bytes) -> bytes:
        asked.append(data)
        return exception(0x0B).encode()

    values = converse(read_blocks([Block(1, [item(0)]), Block(1, [item(50)], [1])]), gateway)
    assert len(asked) == 1 and [value.fault for value in values] == [Fault.SILENT, Fault.SILENT]


@pytest.mark.parametrize(
    ("codes", "pauses", "fault"),
    [
        ([1], [0.0], Fault.REFUSED),
        ([2], [0.0], Fault.ABSENT),
        ([4], [0.0, 0.0], None),
        ([4, 4], [0.0, 0.0], Fault.REFUSED),
        ([6], [0.0, 0.1], None),
        ([5, 6], [0.0, 0.1, 0.3], None),
        ([6, 6, 6, 6], [0.0, *BUSY_PAUSES_S], Fault.REFUSED),
        ([6, 4, 6, 4], [0.0, 0.1, 0.0, 0.3], Fault.REFUSED),
        ([6, 11], [0.0, 0.1], Fault.SILENT),
        ([6, 2], [0.0, 0.1], Fault.ABSENT),
    ],
)
@pytest.mark.parametrize("transaction", [None, 7])
def test_each_kind_of_refusal_is_asked_again_as_often_as_it_is_worth(
    codes: list[int], pauses: list[float], fault: Fault | None, transaction: int | None
) -> None:
    numbers = count(transaction) if transaction is not None else None
    dialogue = read_blocks([Block(1, [item(0)])], transactions=numbers)
    answers, ask = iter(codes), next(dialogue)
    for asked, pause_s in enumerate(pauses):
        assert ask.pause_s == pause_s
        code, sent = next(answers, None), None if transaction is None else transaction + asked
        frame = reply([5], transaction=sent) if code is None else exception(code, transaction=sent)
        assert ask.accepts(frame)
        answer = Reply(frame=frame, sent_at=0, ended_at=0)
        if asked < len(pauses) - 1:
            ask = dialogue.send(answer)
    with pytest.raises(StopIteration) as ended:
        dialogue.send(answer)
    assert [value.fault for value in ended.value.value] == [fault]


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_a_gateway_that_cannot_reach_the_meter_speaks_for_its_silence(code: int) -> None:
    ask = Block(1, [item(0)]).ask(5)
    assert ask.speaks_for is not None
    assert ask.speaks_for(exception(code, transaction=5)) and not ask.speaks_for(exception(6, transaction=5))
    assert not ask.speaks_for(reply([0x0B], transaction=5))


def test_registers_that_did_not_change_give_the_same_value_again() -> None:
    block = Block(1, [item(0), item(1)])
    first = converse(read_blocks([block]), always(reply([7, 8]).encode()))
    again = converse(read_blocks([block]), always(reply([7, 9]).encode()))
    assert again[0] is first[0] and plain(again) == ["7", "9"] and plain(first) == ["7", "8"]
    assert plain(converse(read_blocks([block.of_unit(2)]), always(reply([1, 2], unit=2).encode()))) == ["1", "2"]
    assert plain(converse(read_blocks([block]), always(reply([7, 8]).encode()))) == ["7", "8"]


@given(st.lists(st.lists(st.sampled_from([0, 1, 0x1234, 0xFFFF]), min_size=6, max_size=6), min_size=2, max_size=6))
@settings(max_examples=60)
def test_what_is_kept_of_the_last_reply_changes_no_value(replies: list[list[int]]) -> None:
    items = [item(0), item(1, Type.INT32), item(2, Type.UINT16), item(3, Type.FLOAT32), item(5, Type.INT16)]
    kept = Block(1, items)
    for registers in replies:
        frame = reply(registers)
        assert kept.decode(frame) == Block(1, items).decode(frame)


def test_a_block_that_noise_would_not_let_through_is_asked_in_halves() -> None:
    block = Block(1, [item(10), item(11), item(12), item(13)])
    dialogue = read_blocks([block])
    assert next(dialogue).divisible
    first = dialogue.send(Garbled(too_long=True))
    second = dialogue.send(Reply(frame=reply([10, 11]), sent_at=0, ended_at=0))
    assert [ask.data[2:6].hex() for ask in (first, second)] == ["000a0002", "000c0002"]
    with pytest.raises(StopIteration) as done:
        dialogue.send(Reply(frame=reply([12, 13]), sent_at=0, ended_at=0))
    assert plain(done.value.value) == ["10", "11", "12", "13"]


def test_a_question_in_ascii_has_an_answer_in_ascii() -> None:
    block = Block(17, [item(0x6B), item(0x6C, Type.UINT32)], as_ascii=True)
    ask = block.ask()
    assert ask.data == b":1103006B00037E\r\n"  # [APP] §6.3 in [SER] §2.5.2: LRC of 11 03 00 6B 00 03 is 7E
    answer = reply([555, 0, 100], unit=17, as_ascii=True)
    assert len(answer.encode()) == ask.reply_max
    assert plain(converse(read_blocks([block]), always(answer.encode()))) == ["555", "100"]
    halves = block.halves()
    assert halves is not None and all(half.ask().data.startswith(b":") for half in halves)
    assert block.of_unit(3).ask().data.startswith(b":0303")


@given(st.sets(st.integers(0, 40), min_size=1, max_size=20), st.sets(st.integers(0, 60), max_size=6))
@settings(max_examples=60)
def test_a_block_over_holes_is_halved_until_only_the_missing_items_are_absent(
    addresses: set[int], holes: set[int]
) -> None:
    items = [item(address, Type.UINT32 if address % 3 == 0 else Type.UINT16) for address in sorted(addresses)]
    values = converse(read_blocks([Block(1, items)]), Registers(holes=frozenset(holes)))
    for one, value in zip(items, values, strict=True):
        missing = bool(holes & set(range(one.address, one.end)))
        assert (value.fault is Fault.ABSENT) if missing else (value.plain is not None)


def test_a_block_that_is_too_long_is_halved_and_the_halves_are_told() -> None:
    meter, told = Registers(most=10), list[tuple[int, int, int]]()
    values = converse(
        read_blocks(
            [Block(1, [item(n) for n in range(0, 40, 2)])],
            split=lambda pair: told.append((pair[0].count, pair[1][0].count, pair[1][1].count)),
        ),
        meter,
    )
    assert plain(values) == [str(n) for n in range(0, 40, 2)]
    assert told == [(39, 19, 19), (19, 9, 9), (19, 9, 9)] and meter.asked[-1] == (30, 9)


def test_a_block_can_be_divided_where_items_begin_at_more_than_one_place() -> None:
    assert Block(1, [item(10), item(11)]).ask().divisible
    for block in (Block(1, [item(10)]), Block(1, [item(10, Type.UINT32)]), Block(1, [item(10), item(10, Type.INT16)])):
        assert not block.ask().divisible and block.halves() is None


@pytest.mark.parametrize("transaction", [None, 7])
def test_the_time_of_an_answer_is_told_from_its_length(transaction: int | None) -> None:
    for items in ([item(10)], [item(10), item(20, Type.INT64)]):
        ask = Block(1, items).ask(transaction)
        count = int.from_bytes(ask.data[-4:-2] if transaction is None else ask.data[-2:], "big")
        assert ask.reply_max == len(reply([0] * count, transaction=transaction).encode())


def test_an_item_is_never_split() -> None:
    assert Block(1, [item(0, Type.FLOAT64)]).halves() is None
    assert Block(1, [item(0), item(0, Type.INT16)]).halves() is None  # two readings of the same register
    halves = Block(1, [item(4), item(0, Type.UINT32), item(2)]).halves()
    assert halves is not None and [(half.address, half.count) for half in halves] == [(0, 2), (2, 3)]


def test_an_item_is_not_absent_because_a_longer_one_from_the_same_register_is() -> None:
    items = [item(0, Type.UINT64), item(0), item(0, Type.UINT32), item(0, Type.INT16)]
    values = converse(read_blocks([Block(1, items)]), Registers(holes=frozenset({2})))
    assert plain(values) == [None, "0", "1", "0"] and values[0].fault is Fault.ABSENT


@pytest.mark.parametrize(
    ("items", "places"),
    [([], None), ([item(0), item(1, function=4)], None), ([item(0)], [0, 1]), ([item(0), item(125)], None)],
)
def test_a_block_that_cannot_be_asked_is_not_built(items: list[Item], places: list[int] | None) -> None:
    with pytest.raises(ValueError):
        Block(1, items, places)


def test_registers_without_a_meaning_are_read_as_bytes() -> None:
    reading = read_registers(1, 4, 10, 2)
    ask = next(reading)
    frame = accepted(ask, reply([1, 2], function=4).encode())
    assert frame is not None and ask.reply_max == 9
    with pytest.raises(StopIteration) as ended:
        reading.send(Reply(frame=frame, sent_at=0, ended_at=0))
    assert ended.value.value == b"\0\1\0\2"


def test_registers_that_are_refused_say_so() -> None:
    reading = read_registers(1, 3, 0, 1, transaction=3)
    next(reading)
    with pytest.raises(Refused, match="illegal data address") as refused:
        reading.send(Reply(frame=exception(2, transaction=3), sent_at=0, ended_at=0))
    assert refused.value.absent and refused.value.code == "02"


@pytest.mark.parametrize("answer", [Silence(), Garbled(seen=b"\x00")])
def test_registers_that_nobody_sends_are_handed_on_as_such(answer: Silence | Garbled) -> None:
    reading = read_registers(1, 3, 0, 1)
    next(reading)
    with pytest.raises(StopIteration) as ended:
        reading.send(answer)
    assert ended.value.value == answer


def test_a_not_available_code_is_a_value_without_number_or_fault() -> None:
    form = Format(type=Type.UINT16, unavailable=frozenset({0xFFFF}), scale=Decimal("0.1"))
    one = item(0)
    block = Block(1, [Item(quantity=one.quantity, function=3, address=0, format=form)])
    (value,) = converse(read_blocks([block]), always(reply([0xFFFF]).encode()))
    assert (value.plain, value.quality, value.fault) == (None, Quality.UNAVAILABLE, None)
