"""What stands inside the frames of meters: items, registers, load records, and answers that lead a dialogue on."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from random import Random
from struct import pack, unpack
from typing import Any

from protocols import batch
from protocols.capture import Capture, Quality, Source, TimeState, Value
from protocols.dialogue import Answer, Ask, Garbled, Reply, Silence
from protocols.dlt645 import commands as commands_2007
from protocols.dlt645 import commands_1997, items, load_record, v1997, v2007
from protocols.dlt645 import frame as dlt645
from protocols.dlt645.authority import Authority
from protocols.dlt645.codes import Edition
from protocols.dlt645.commands import Command, Confirmed, Output
from protocols.modbus import commands
from protocols.modbus import frame as modbus
from protocols.modbus.registers import Format, Type
from tests.dlt645 import WHOLE
from tests.fuzzing import Target
from tests.mutation import mended_load_record

EXCHANGES_MAX = 600
"""Questions of one dialogue over an item: the most follow-up frames would be fewer."""
EDITIONS = tuple(Edition)
IDENTIFICATIONS = (
    b"\x0e\x01\x01\x00\x00\x03\x00\x02ab\x01\x01c\x02\x03v.1",
    b"\x0e\x01\x01\xff\x02\x01\x00\x02ab",
    b"\x0e\x01\x01\x00\x00\x01\x02\x04v1.0",
)
"""Data of replies to function 43/14: complete; with more to follow; what followed."""
_FORMATS = tuple(
    Format(type=kind, swap=swap, scale=scale, unavailable=frozenset(codes))
    for kind in Type for swap in (False, True) for scale in (Decimal(1), Decimal("0.001"), Decimal(-10))
    for codes in ((), ((1 << 16 * kind.words) - 1,))
)  # fmt: skip


def storable(values: Sequence[Value]) -> None:
    """What a meter said can be stored, and comes back as it was."""
    for start in range(0, len(values), 64):
        capture = Capture(
            meter="m", point="p", task="t", slot=0, stamp=0, read_at=0, clock_error_ms=None, ct=Decimal(1),
            time_state=TimeState.TRUSTED, source=Source.METER_LIVE, values=tuple(values[start : start + 64]),
        )  # fmt: skip
        assert batch.unpack(batch.pack(capture)) == capture


# An input of `item` is the edition (one byte), an identifier as on the wire, and a payload.


def item(data: bytes) -> None:
    """Every payload behind every identifier gives the values of that identifier, or none."""
    edition, di, payload = _taken_apart(data)
    found = items.layout(di, edition)
    values = items.decode_item(di, payload, edition)
    assert found is not None or not values
    assert items.payload_max(di, edition) <= items.PAYLOAD_MAX
    for value in values:
        assert value.number is None or value.number.is_finite()
        assert (value.quality is Quality.GOOD) <= (value.plain is not None)
    storable(values)


def _taken_apart(data: bytes) -> tuple[Edition, str, bytes]:
    edition = EDITIONS[data[0] % len(EDITIONS)] if data else Edition.E2007
    end = 1 + edition.di_length
    return edition, data[1:end][::-1].hex().upper(), data[end:]


@cache
def _identifiers() -> list[tuple[Edition, str]]:
    """Every kind of identifier that the tables know, of both editions."""
    ends = (0x00, 0x01, 0x02, 0x0C, 0xFF)
    known = [
        (Edition.E2007, f"{area:02X}{kind:02X}{high:02X}{low:02X}")
        for area in (*range(8), 0x10, 0x11, 0x1D, 0x1E) for kind in range(256) for high in ends for low in ends
    ]  # fmt: skip
    known += [(Edition.E1997, f"{number:04X}") for number in range(0x9000, 0x10000) if number & 0xF0 != 0xE0]
    return [(edition, di) for edition, di in known if items.layout(di, edition)]


@cache
def _payloads() -> list[bytes]:
    found = [bytes.fromhex(vector["hex"]) for vector in WHOLE]
    frames = [frame for raw in found for frame in dlt645.Deframer().feed(raw)]
    return [frame.data[4:] for frame in frames if len(frame.data) > 4]


def _item_seeds() -> list[bytes]:
    random = Random(1)
    seeds = []
    for edition, di in random.sample(_identifiers(), 600):
        seeds.append(_item(edition, di, random.choice(_payloads())))
        seeds.append(_mended_item(random, seeds[-1], di))
    return seeds


def _item(edition: Edition, di: str, payload: bytes) -> bytes:
    return bytes((EDITIONS.index(edition),)) + bytes.fromhex(di)[::-1] + payload


def mended_item(random: Random, data: bytes) -> bytes:
    """An identifier that there is, mostly, with a payload of a length that it may have."""
    edition, di, _ = _taken_apart(data)
    if random.randrange(3) == 0 or items.layout(di, edition) is None:
        edition, di = random.choice(_identifiers())
    return _mended_item(random, _item(edition, di, data[1 + edition.di_length :]), di)


def _mended_item(random: Random, data: bytes, di: str) -> bytes:
    edition, _, payload = _taken_apart(data)
    found = items.layout(di, edition)
    assert found is not None
    if payload.startswith((b"\xa0", b"\xe0")):
        payload = mended_load_record(random, payload)
    else:
        length = found.width * (random.choice((1, 1, 2, 5, 13)) if found.block else 1)
        payload = (payload * (length // len(payload) + 1) if payload else b"").ljust(length, b"\x12")[:length]
    return _item(edition, di, payload)


def load_records(data: bytes) -> None:
    """Every byte of an answer is in a record, or in one that says that it is none."""
    for record in load_record.parse(data[1:], data[0] % 8 if data else 0):
        storable((record.time, *record.values))


def _load_record_seeds() -> list[bytes]:
    shape = next(found.items[0] for di in ("06000001",) if (found := items.layout(di)))
    full: list[Any] = ["2026-11-15T12:30", *(Decimal(1) for _ in shape.quantities[1:])]
    some = full[:8] + [None] * (len(full) - 8)
    records = [items.encode_item("06000001", plain) for plain in (full, some)]
    return [bytes((only,)) + b"".join(group) for only in range(7) for group in (records, records[:1], records[1:])]


def registers(data: bytes) -> None:
    """Every content of registers is a number that the registers hold, or is said to be none."""
    form = _FORMATS[data[0] % len(_FORMATS)] if data else _FORMATS[0]
    raw = data[1 : 1 + 2 * form.words].ljust(2 * form.words, b"\0")
    found = form.decode(raw)
    if isinstance(found, Decimal):
        assert found.is_finite()
        again = form.encode(found)
        assert again == raw or form.decode(again) == found
        if form.type is Type.FLOAT32 and form.scale == 1 and not form.swap:
            assert pack(">f", float(found)) == raw or unpack(">f", raw) == (0.0,)


# An input of a dialogue is which one (one byte), and its answers, each as: what to do, length, bytes.


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(data):
        end = at + 2 + data[at + 1]
        yield data[at], data[at + 2 : end]
        at = end


def _talk(
    talk: Generator[Ask[Any], Answer[Any], Any], chunks: Iterator[tuple[int, bytes]],
    answered: Callable[[Ask[Any], int, bytes], Any],
) -> Any:  # fmt: skip
    """Hold a dialogue; silence when there are no more answers. What it returned."""
    try:
        ask = next(talk)
        for _ in range(EXCHANGES_MAX):
            what, came = next(chunks, (0, b""))
            frame = answered(ask, what, came) if what else None
            if frame is None:
                ask = talk.send(Garbled(came) if came else Silence())
            else:
                heard = ask.accepts(frame)
                ask = talk.send(Reply(frame=frame, sent_at=0, ended_at=0) if heard else Garbled(came))
    except StopIteration as end:
        return end.value
    raise AssertionError(f"a dialogue of more than {EXCHANGES_MAX} questions")


_DIS = ("0001FF00", "00010000", "03300001", "04000101", "06000002", "0610FFFF", "0201FF00", "01010000", "12345678")
_METER = "000000000001"
_TALKS: tuple[Callable[[], Generator[Ask[Any], Answer[Any], list[Value]]], ...] = (
    *(lambda di=di: v2007.read(_METER, [di]) for di in _DIS),
    lambda: v2007.read_load(_METER, "06000001", 3, since="2026-11-15T12:30"),
    v2007.read_address,
    *(lambda di=di: v1997.read(_METER, [di]) for di in ("9010", "901F", "B611", "C010")),
)
_WHO = Authority(level=2, password="000000", operator="00000001")
_COMMANDS: tuple[Callable[[], Command], ...] = (
    lambda: commands_2007.write(_METER, "04000103", b"\1", _WHO), lambda: commands_2007.change_baud(_METER, 9600),
    lambda: commands_2007.clear_demand(_METER, _WHO), lambda: commands_2007.set_output(_METER, Output.CLOCK_SECOND),
    lambda: commands_2007.pass_security(_METER, "070000FF", "00000001", b"\1\2"),
    lambda: commands_1997.write(_METER, "C032", b"\1", "00000000"), lambda: commands_1997.write_address(_METER),
    lambda: commands_1997.change_password(_METER, "00000000", "00000001"),
)  # fmt: skip


def dlt645_dialogue(data: bytes) -> None:
    """A read ends, with values that can be stored, whatever is answered; a command, at most with a refusal."""
    number = data[0] % (len(_TALKS) + len(_COMMANDS)) if data else 0
    if number >= len(_TALKS):
        done = _talk(_COMMANDS[number - len(_TALKS)](), _chunks(data[1:]), _answer_645)
        assert isinstance(done, Confirmed | Silence | Garbled)
        return
    values = _talk(_TALKS[number](), _chunks(data[1:]), _answer_645)
    assert values
    storable(values)


def _answer_645(ask: Ask[Any], what: int, came: bytes) -> dlt645.Frame:
    """what: bits 0 and 1 the kind of reply; bit 2 the identifier and bit 3 the sequence of the question stand in it."""
    asked = dlt645.parse(ask.data.lstrip(b"\xfe"))
    control = asked.control | (0x80, 0x80, 0xA0, 0xC0)[what & 3]
    sequence = asked.data[4:5] if what & 8 else b""
    told = (asked.data[:4] if what & 4 else b"") + came + sequence
    return dlt645.Frame(address=asked.address, control=control, data=told[: dlt645.LENGTH_MAX])


def identification(data: bytes) -> None:
    """Asking who made a device ends, whatever is answered; Malformed where it leads nowhere."""
    found = _talk(commands.identify(1, code=1 + data[0] % 3 if data else 1), _chunks(data[1:]), _answer_43)
    assert isinstance(found, dict | Silence | Garbled)


def _answer_43(ask: Ask[Any], what: int, came: bytes) -> modbus.Frame:
    function = 0xAB if what & 1 == 0 else 0x2B
    return modbus.Frame(unit=1, function=function, data=came[:252])


def _answers(*told: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((what, len(came))) + came for what, came in told)


def _dialogue_seeds() -> list[bytes]:
    replies = [(4, payload[:200]) for payload in _payloads()]
    more = [
        _answers((6, b"\x12" * 40), (14, b"\x34" * 20), (12, b"\x56" * 5)),
        _answers((3, b"\x02")),
        _answers((0, b"")),
    ]
    return [
        bytes((n,)) + each
        for n in range(len(_TALKS) + len(_COMMANDS))
        for each in (_answers(replies[n % len(replies)]), *more)
    ]


def mended_answers(random: Random, data: bytes) -> bytes:
    """Answers whose lengths are those of what is there."""
    chunks = list(_chunks(data[1:]))
    if chunks and random.randrange(3) == 0:
        chunks.append(random.choice(chunks))
    return data[:1] + _answers(*((what or 4, came) for what, came in chunks))


TARGETS: Mapping[str, Target] = {
    "dlt645-items": Target(run=item, seeds=_item_seeds, mend=mended_item, size_max=220),
    "dlt645-load-records": Target(
        run=load_records, seeds=_load_record_seeds, size_max=420,
        mend=lambda random, data: data[:1] + mended_load_record(random, data[1:]),
    ),
    "dlt645-dialogue": Target(run=dlt645_dialogue, seeds=_dialogue_seeds, mend=mended_answers, size_max=800),
    "modbus-registers": Target(
        run=registers, seeds=lambda: [bytes((n,)) + Random(n).randbytes(8) for n in range(len(_FORMATS))], size_max=9,
    ),
    "modbus-identification": Target(
        run=identification, mend=mended_answers, size_max=800,
        seeds=lambda: [b"\0" + _answers(*((1, data) for data in told))
                       for told in (IDENTIFICATIONS[:1], IDENTIFICATIONS[1:])],
    ),
}  # fmt: skip
"""What is inside the frames."""
