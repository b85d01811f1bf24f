"""What comes in from beyond the broker: rows, bodies, sealed and signed messages, and the landing of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from random import Random

from central.landing import Landing
from central.sinks.sqlite import SqliteSink
from protocols import batch, envelope
from protocols.capture import Event, Record
from protocols.envelope import BatchKind, sign1
from protocols.messages import (
    Health,
    Hello,
    KeyRecord,
    Manifest,
    ManifestRow,
    Receipt,
    Reply,
    Request,
    State,
    Wrapped,
    manifest_body,
    manifest_rows,
    topic,
)
from tests.fleet import NOW, Gateway, centre, identity, trust
from tests.fuzzing import Case, Make
from tests.mutation import deflated, inflated, mutate, some_records
from tests.records import digits
from tests.scratch import scratch

GATEWAY = "gw-0001"
_KID, _SALT = bytes(range(8)), b"salt"


def row(random: Random) -> Case:
    """A packed record, damaged: what is read from it can be packed and read again."""
    record = random.choice(some_records(random))
    data = mutate(random, batch.pack(record))

    def run() -> None:
        found = batch.unpack(data)
        again = batch.unpack(batch.pack(found))
        assert (again, digits([again])) == (found, digits([found]))

    return Case(data, run)


def body(random: Random) -> Case:
    """The columns of a batch, damaged and deflated again: what is read from them can be written and read again."""
    raw = mutate(random, inflated(batch.encode(some_records(random))))
    if random.randrange(100) == 0:  # a bomb: little on the wire, much when it is inflated
        at = random.randrange(len(raw) + 1)
        raw = raw[:at] + random.choice((b"\0", b"\1", b"a", b"\xff")) * random.choice((2**12, 2**16, 2**21)) + raw[at:]
    data = deflated(raw)
    if random.randrange(10) == 0:
        data = mutate(random, data)

    def run() -> None:
        found = batch.decode(data)
        again = batch.decode(batch.encode(found))
        assert (again, digits(again)) == (found, digits(found))

    return Case(data, run)


def sealed(random: Random) -> Case:
    """A sealed message, damaged: none opens but the one that was sealed."""
    gateway = Gateway(seed=random.randrange(3))
    body = random.randbytes(random.choice((0, 1, 23, 24, 300)))
    kind = random.choice((BatchKind.CAPTURES, BatchKind.EVENTS))
    whole = envelope.seal(gateway.data_key, gateway=GATEWAY, seq=random.choice((1, 2**40)), kind=kind, body=body)
    data = mutate(random, whole)

    def run() -> None:
        head = envelope.header(data)
        opened = envelope.open(data, data_key=gateway.data_key, gateway=GATEWAY)
        assert data == whole, "a message was opened that nobody sealed"
        assert (opened.body, opened.kind, head.kind) == (body, kind, kind)

    return Case(data, run)


@cache
def _messages() -> tuple[tuple[Callable[[bytes], object], bytes], ...]:
    """One of each kind: how it is read, and its bytes."""
    rows = (ManifestRow(meter="m", task="curve", planned=96, captured=95, gaps=1),)
    signed = (
        KeyRecord(gateway=GATEWAY, epoch=1, kid=_KID, day=20_000, salt=_SALT,
                  wrapped=(Wrapped(kid=_KID, algorithm=-41, key=b"k" * 384),)),
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
    return (*((type(each).decode, each.encode()) for each in signed), (manifest_rows, manifest_body(rows)))


def message(random: Random) -> Case:
    """The payload of a message, damaged: what is read from it reads the same again."""
    read, whole = random.choice(_messages())
    data = mutate(random, whole, [other for _, other in _messages()])

    def run() -> None:
        found = read(data)
        again = manifest_body(found) if isinstance(found, tuple) else found.encode()  # type: ignore[attr-defined]
        assert read(again) == found

    return Case(data, run)


def signed_message(random: Random) -> Case:
    """A signed message, damaged: none is believed but the one that was signed."""
    who = identity(GATEWAY)
    kind = random.choice(list(envelope.SignedKind))
    whole = _once_signed(kind)
    data = mutate(random, whole)
    verify = trust(GATEWAY).verifier(GATEWAY)

    def run() -> None:
        payload = envelope.verify1(data, kind=kind, verify=verify)
        assert payload == who.kid, "a message was believed that nobody signed"

    return Case(data, run)


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
            name, whole = random.choice((("state", _messages()[6][1]), ("health", _messages()[7][1])))
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
