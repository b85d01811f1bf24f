"""What comes in from beyond the broker: rows, bodies, sealed and signed messages, and the landing of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from random import Random

import cbor2

from central.landing import Landing
from central.sinks.sqlite import SqliteSink
from protocols import batch, cbor, envelope
from protocols.capture import Event, Record
from protocols.envelope import BatchKind, DataKey, sign1
from protocols.errors import Malformed
from protocols.manifest import DayPart, MeterDay, TaskDay
from protocols.messages import (
    Health,
    Hello,
    KeyRecord,
    Manifest,
    Receipt,
    Reply,
    Request,
    State,
    Wrapped,
    topic,
)
from protocols.suites import SM4_GCM
from protocols.topics import DOWN, UP, Direction, bucket, parse_topic
from tests.fleet import NOW, Gateway, centre, identity, trust
from tests.fuzzing import Case, Make, Target
from tests.mutation import deflated, inflated, mended_cbor, mutate, some_records
from tests.records import digits
from tests.scratch import scratch

GATEWAY = "gw-0001"
WAYS: tuple[tuple[Direction, frozenset[str]], ...] = (("up", UP), ("down", DOWN))
CBOR2 = int(version("cbor2").partition(".")[0])
SIGNED = tuple(envelope.SignedKind)
_KID, _SALT = bytes(range(8)), b"salt"


def row(data: bytes) -> None:
    """What is read from a packed record can be packed and read again."""
    if _loses_memory(data[1:]):
        raise Malformed("a text that is not UTF-8")
    found = batch.unpack(data)
    again = batch.unpack(batch.pack(found))
    assert (again, digits([again])) == (found, digits([found]))


def _loses_memory(data: bytes) -> bool:
    """cbor2 before 6 loses some 700 bytes for good at each text that is not UTF-8; gateways have a later one."""
    if CBOR2 >= 6:
        return False
    try:
        cbor.read(data)
    except Malformed as error:
        return "UTF-8" in str(error)
    return False


def _some() -> list[list[Record]]:
    return [some_records(Random(n)) for n in range(100)]


# An input of `body` says with its first byte what the rest is: the body of a batch, what it holds inflated, or that
# with much of one byte in it, as a bomb has.


def whole_body(data: bytes) -> bytes:
    """The body that the input stands for."""
    kind, rest = data[:1], data[1:]
    if kind == b"\1":
        rest = deflated(rest)
    elif kind == b"\2" and len(rest) > 4:
        at = int.from_bytes(rest[:2], "big") % (len(rest) - 3)
        raw = rest[4:]
        rest = deflated(raw[:at] + rest[2:3] * (1 << rest[3] % 22) + raw[at:])
    return rest


def written_again(found: list[Record]) -> None:
    """What is read from the columns of a batch can be written and read again."""
    again = [record for each in _written(found) for record in batch.decode(each)]
    assert (again, digits(again)) == (found, digits(found))


def _written(records: list[Record]) -> list[bytes]:
    """As bodies; a stranger may have put more into one than we would, though never a record that fits into none."""
    try:
        return [batch.encode(records)]
    except batch.TooMuch:
        half = len(records) // 2
        assert half, "a record that fits into no body"
        return [*_written(records[:half]), *_written(records[half:])]


def _bodies() -> list[bytes]:
    whole = [batch.encode(records[:5]) for records in _some()]
    raw = [inflated(each) for each in whole]
    bombs = [b"\2\0\x40" + bytes((byte, 16)) + each for byte, each in zip(b"\0\1a\xff", raw, strict=False)]
    return [*(b"\0" + each for each in whole[:20]), *(b"\1" + each for each in raw), *bombs]


def sealed(data: bytes) -> None:
    """No message opens but one that was sealed."""
    head = envelope.header(data)
    opened = envelope.open(data, data_key=_data_keys()[head.algorithm], gateway=GATEWAY)
    assert data in _sealed(), "a message was opened that nobody sealed"
    assert opened.kind is head.kind


@cache
def _gateway() -> Gateway:
    return Gateway(seed=1)


@cache
def _data_keys() -> Mapping[int, DataKey]:
    """One for each algorithm."""
    sm4 = DataKey(kid=_KID, key=bytes(16), salt=_SALT, epoch=1, day=20_000, algorithm=SM4_GCM)
    return {key.algorithm: key for key in (_gateway().data_key, sm4)}


@cache
def _sealed() -> frozenset[bytes]:
    return frozenset(
        envelope.seal(key, gateway=GATEWAY, seq=seq, kind=kind, body=bytes(size))
        for size in (0, 1, 23, 24, 300) for seq in (1, 2**40) for kind in (BatchKind.CAPTURES, BatchKind.EVENTS)
        for key in _data_keys().values()
    )  # fmt: skip


@cache
def _messages() -> tuple[tuple[Callable[[bytes], object], bytes], ...]:
    """One of each kind: how it is read, and its bytes."""
    day = DayPart(
        since=NOW, until=NOW + 86_400_000, cut=NOW + 90_000_000, part=0, parts=1,
        meters=(MeterDay(meter="m", values=95, total=7, tasks=(
            TaskDay(task="curve", planned=96, captured=95, gaps=1),)),),
    )  # fmt: skip
    signed = (
        KeyRecord(gateway=GATEWAY, epoch=1, kid=_KID, day=20_000, salt=_SALT,
                  wrapped=(Wrapped(kid=_KID, algorithm=-41, key=b"k" * 384),)),
        KeyRecord(gateway=GATEWAY, epoch=1, kid=_KID, day=20_000, salt=_SALT, algorithm=SM4_GCM,
                  wrapped=(Wrapped(kid=_KID, algorithm=53, key=b"k" * 97), Wrapped(kid=_KID, algorithm=-41, key=b"k"))),
        Hello(gateway=GATEWAY, epoch=1, first_unsettled=1, next_seq=9, voided=((1, 3), (1, 4)), pending=3,
              oldest_at=NOW, sent_at=NOW),
        Receipt(gateway=GATEWAY, epoch=1, contiguous_upto=3, ranges=((5, 6), (9, 9)), rejected=((7, "bad_body"),),
                need_key=(_KID,), sent_at=NOW),
        Request(gateway=GATEWAY, request=b"r" * 16, action="read", arguments={"meter": "m", "n": 3}, sent_at=NOW,
                expires_at=NOW),
        Reply(gateway=GATEWAY, epoch=1, request=b"r" * 16, status="done", sealed=b"s" * 40, sent_at=NOW),
        Manifest(gateway=GATEWAY, epoch=1, day=20_000, plan=b"p" * 32, sealed=b"s" * 40, sent_at=NOW),
        State(gateway=GATEWAY, online=True, epoch=1, at=NOW, software="meterwire 1"),
        Health(gateway=GATEWAY, epoch=1, at=NOW, counters={"uplink.lost": 3}, facts={"clock": "unsure"}),
    )  # fmt: skip
    return tuple((type(each).decode, each.encode()) for each in (*signed, day))


def message(data: bytes) -> None:
    """What is read from the payload of a message reads the same again. The first byte says of which kind it is."""
    read, _ = _messages()[data[0] % len(_messages())] if data else _messages()[0]
    found = read(data[1:])
    assert read(found.encode()) == found  # type: ignore[attr-defined]


def signed(data: bytes) -> None:
    """No message is believed but one that was signed, as what it was signed as."""
    kind = SIGNED[data[0] % len(SIGNED)] if data else SIGNED[0]
    payload = envelope.verify1(data[1:], kind=kind, verify=trust(GATEWAY).verifier(GATEWAY))
    assert data[1:] == _once_signed(kind), "a message was believed that nobody signed"
    assert payload == identity(GATEWAY).kid


@cache
def _once_signed(kind: envelope.SignedKind) -> bytes:
    who = identity(GATEWAY)
    return sign1(who.kid, kind=kind, kid=who.kid, sign=who.sign)


@contextmanager
def landing() -> Iterator[Make]:
    """Whatever comes on whatever topic is dealt with: sealed and signed by a gateway that is trusted, or not."""
    with scratch(50) as directory:
        sink = SqliteSink(directory / "central.db")
        landed = Landing(sink, centre=centre(), gateways=trust(GATEWAY, "gw-0002"), now_ms=lambda: NOW)
        try:
            yield lambda random: _received(random, landed)
        finally:
            sink.close()


def _received(random: Random, landed: Landing) -> Case:
    on, payload = _published(random)
    if random.randrange(20) == 0:
        on = mutate(random, on.encode()).decode(errors="replace")
    if random.randrange(4) == 0:
        payload = mutate(random, payload)

    def run() -> None:
        before = landed.counters["aside.internal"]
        landed.receive(on, payload)
        assert landed.counters["aside.internal"] == before, f"set aside as our own mistake, from {on}"
        for where, receipt in landed.receipts():
            Gateway(id=where.split("/")[3]).receipt(receipt)

    return Case(on.encode() + b" " + payload, run)


def _published(random: Random) -> tuple[str, bytes]:
    """A message of a gateway that may have gone mad: it holds the keys, and seals and signs anything."""
    number = random.randrange(20)
    name = random.choice((GATEWAY, GATEWAY, GATEWAY, "gw-0002", "gw-0009"))
    gateway = Gateway(id=name, epoch=7 << 32 | number, seed=number)
    seq = random.choice((random.randrange(1, 100), random.randrange(1, 100), 2**40))
    match random.randrange(8):
        case 0:
            return gateway.key()
        case 1:
            hello = Hello(
                gateway=gateway.id, epoch=random.choice((gateway.epoch, 0, 2**63 - 1)), first_unsettled=seq,
                next_seq=random.choice((seq, 1)), voided=((gateway.epoch, random.randrange(500)), (0, 0)),
                pending=0, oldest_at=None, sent_at=NOW,
            )  # fmt: skip
            return _signed(gateway, "hello", envelope.SignedKind.HELLO, hello.encode(), random)
        case 2:
            record = KeyRecord(gateway=gateway.id, epoch=1, kid=_KID, day=1, salt=_SALT, wrapped=())
            return _signed(gateway, "key", envelope.SignedKind.KEY, record.encode(), random)
        case 3:
            name, whole = random.choice((("state", _messages()[7][1]), ("health", _messages()[8][1])))
            return topic(gateway.id, "up", name), mutate(random, whole)
        case 4:
            kept: list[Record] = [each for each in some_records(random) if not isinstance(each, Event)]
            return gateway.batch(seq, kept)
        case 5:
            return gateway.events(seq, some_records(random))
    records = some_records(random)
    damaged = deflated(mutate(random, inflated(batch.encode(records))))
    return gateway.sealed(seq, damaged)


def _signed(
    gateway: Gateway, name: str, kind: envelope.SignedKind, payload: bytes, random: Random
) -> tuple[str, bytes]:  # fmt: skip
    """Truly signed, though the payload may be damaged."""
    who = identity(gateway.id)
    if random.randrange(2):
        payload = mutate(random, payload)
    return topic(gateway.id, "up", name), sign1(payload or b"\0", kind=kind, kid=who.kid, sign=who.sign)


def address(data: bytes) -> None:
    """A topic that is taken apart can be put together again."""
    text = data.decode(errors="replace")
    found = parse_topic(text)
    assert topic(found.gateway, found.direction, found.name) == text


def mended_topic(_: Random, data: bytes) -> bytes:
    """The bytes with the share of the fleet that their gateway is in."""
    parts = data.split(b"/")
    if len(parts) > 3:
        parts[2] = bucket(parts[3].decode(errors="replace")).encode()
    return b"/".join(parts)


def cbor_item(data: bytes) -> None:
    """What our own reader takes, another reads as the same; and it is written in the same way again."""
    found = cbor.read(data)
    assert cbor2.loads(data) == found
    assert cbor2.dumps(found) == data


def _numbered(whole: Sequence[bytes]) -> list[bytes]:
    return [bytes((n,)) + each for n, each in enumerate(whole)]


def _mended_behind(random: Random, data: bytes) -> bytes:
    return data[:1] + mended_cbor(random, data[1:])


TARGETS: Mapping[str, Target] = {
    "row": Target(run=row, seeds=lambda: [batch.pack(record) for records in _some() for record in records[:2]]),
    "body": Target(run=batch.decode, made=whole_body, check=written_again, seeds=_bodies),
    "sealed": Target(run=sealed, seeds=lambda: sorted(_sealed())),
    "signed": Target(
        run=signed, seeds=lambda: _numbered([_once_signed(kind) for kind in SIGNED]), mend=_mended_behind,
    ),
    "message": Target(
        run=message, seeds=lambda: _numbered([whole for _, whole in _messages()]), mend=_mended_behind,
    ),
    "cbor": Target(run=cbor_item, seeds=lambda: [whole for _, whole in _messages()], mend=mended_cbor),
    "topic": Target(
        run=address, mend=mended_topic, size_max=200,
        seeds=lambda: [topic(name, way, kind).encode() for name in ("gw-0001", "a")
                       for way, kinds in WAYS for kind in sorted(kinds)],
    ),
}  # fmt: skip
"""What passes the broker."""
