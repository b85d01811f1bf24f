"""What comes again, in another order, damaged or for somebody else changes nothing: messages of every kind."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from central.landing import Landing
from central.sinks.sqlite import SqliteSink
from gateway.obeyed import AHEAD_MS_MAX, KEPT_MAX, Obeyed
from identity.centre import Centre, GatewayTrust
from identity.datakey import key_record, new_data_key, open_key_record
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import batch, envelope
from protocols.envelope import BatchKind
from protocols.errors import Malformed
from protocols.messages import Hello, Manifest, Receipt, Reply, Request, signed, topic, verified
from tests import fleet
from tests.crash.scenario import capture

IDENTITY = GatewayIdentity.of("gw-1", ec.derive_private_key(0xC0FFEE, ec.SECP256R1()))
OTHER = GatewayIdentity.of("gw-2", ec.derive_private_key(0xBAD, ec.SECP256R1()))
CENTRE = Centre.of(ec.derive_private_key(0xBEAD, ec.SECP256R1()), ec.derive_private_key(0xFACE, ec.SECP256R1()))
TRUST, KNOWN = CentreTrust.of(CENTRE.public), GatewayTrust.of(IDENTITY.public, OTHER.public)
NOW = 1_790_000_000_000
EPOCH = (3 << 32) | 77

UP: dict[type[Any], Any] = {
    Hello: Hello(gateway="gw-1", epoch=EPOCH, first_unsettled=1, next_seq=3, voided=((EPOCH, 2),), pending=5,
                 oldest_at=NOW, sent_at=NOW),
    Reply: Reply(gateway="gw-1", epoch=EPOCH, request=bytes(16), status="done", sealed=b"sealed", sent_at=NOW),
    Manifest: Manifest(gateway="gw-1", epoch=EPOCH, day=20_000, plan=bytes(32), sealed=b"sealed", sent_at=NOW),
}  # fmt: skip
DOWN: dict[type[Any], Any] = {
    Receipt: Receipt(gateway="gw-1", epoch=EPOCH, contiguous_upto=2, ranges=((4, 5),), rejected=((1, "bad_body"),),
                     need_key=(bytes(8),), sent_at=NOW),
    Request: Request(gateway="gw-1", request=bytes(16), action="read_now", arguments={"meter": "m-1"}, sent_at=NOW,
                     expires_at=NOW + 1),
}  # fmt: skip


def flipped(message: bytes) -> Iterator[bytes]:
    """The message with each of its bits turned over, one at a time."""
    for at in range(8 * len(message)):
        damaged = bytearray(message)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)


@pytest.mark.parametrize("kind", [*UP, *DOWN], ids=lambda kind: kind.__name__)
def test_every_flipped_bit_of_a_signed_message_is_rejected(kind: type[Any]) -> None:
    who, verify = (IDENTITY, KNOWN.verifier("gw-1")) if kind in UP else (CENTRE, TRUST.verify)
    message = signed({**UP, **DOWN}[kind], kid=who.kid, sign=who.sign)
    assert verified(kind, message, gateway="gw-1", verify=verify)
    for damaged in (message[:-1], message + b"\0", message[1:], *flipped(message)):
        with pytest.raises(Malformed):
            verified(kind, damaged, gateway="gw-1", verify=verify)


@pytest.mark.parametrize("wrapping", ["hpke", pytest.param("rsa", marks=pytest.mark.slow)])
def test_every_flipped_bit_of_a_key_record_is_rejected(wrapping: str) -> None:
    centre = CENTRE if wrapping == "hpke" else fleet.centre()
    key, verify = new_data_key(EPOCH, 20_000, os.urandom), KNOWN.verifier("gw-1")
    record = key_record(IDENTITY, CentreTrust.of(centre.public), key)
    assert open_key_record(record, gateway="gw-1", centre=centre, verify=verify) == key
    for damaged in flipped(record):
        with pytest.raises(Malformed):
            open_key_record(damaged, gateway="gw-1", centre=centre, verify=verify)


def test_nobody_speaks_for_another() -> None:
    """A trusted gateway, in another's name or on another's topic; a gateway in the centre's place and the reverse."""
    hello = UP[Hello]
    for who in (OTHER, CENTRE):
        message = signed(hello, kid=who.kid, sign=who.sign)
        with pytest.raises(Malformed, match="not signed by a trusted key"):
            verified(Hello, message, gateway="gw-1", verify=KNOWN.verifier("gw-1"))
    own = signed(hello, kid=IDENTITY.kid, sign=IDENTITY.sign)
    with pytest.raises(Malformed):
        verified(Hello, own, gateway="gw-2", verify=KNOWN.verifier("gw-2"))
    for message in (signed(DOWN[Receipt], kid=who.kid, sign=who.sign) for who in (IDENTITY, OTHER)):
        with pytest.raises(Malformed, match="not signed by a trusted key"):
            verified(Receipt, message, gateway="gw-1", verify=TRUST.verify)


def _messages() -> list[tuple[str, bytes]]:
    """What a gateway says in an epoch: its key, five batches, hellos in between."""
    key = new_data_key(EPOCH, 20_000, os.urandom)
    said: list[tuple[str, bytes]] = [("key", key_record(IDENTITY, TRUST, key))]
    for seq in range(1, 6):
        body = batch.encode([capture(seq)])
        sealed = envelope.seal(key, gateway="gw-1", seq=seq, kind=BatchKind.CAPTURES, body=body)
        said.append(("batch", sealed))
        hello = Hello(gateway="gw-1", epoch=EPOCH, first_unsettled=1, next_seq=seq + 1, pending=seq, oldest_at=NOW,
                      sent_at=NOW + seq)  # fmt: skip
        said.append(("hello", signed(hello, kid=IDENTITY.kid, sign=IDENTITY.sign)))
    return said


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_replayed_in_whatever_order_lands_once(tmp_path: Path, seed: int) -> None:
    sink = SqliteSink(tmp_path / "central.db")
    landing = Landing(sink, centre=CENTRE, gateways=KNOWN, now_ms=lambda: NOW)
    said, rng = _messages(), random.Random(seed)
    played = [*said, *rng.choices(said, k=30)]
    rng.shuffle(played)
    for name, payload in played:
        landing.receive(topic("gw-1", "up", name), payload)
        landing.receive(topic("gw-2", "up", name), payload)  # and in the name of another that is trusted
    receipts = [verified(Receipt, payload, gateway="gw-1", verify=TRUST.verify)
                for on, payload in landing.receipts() if on == topic("gw-1", "down", "receipt")]  # fmt: skip
    (receipt,) = [receipt for receipt in receipts if receipt.epoch == EPOCH]
    assert (receipt.contiguous_upto, receipt.rejected) == (5, ())
    assert len(list(sink.readings())) == 5 * 2
    assert landing.counters["batches.landed"] == 5
    assert landing.counters["aside.internal"] == 0
    sink.close()


class Memory:
    """The outbox's facts."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}

    def fact(self, name: str) -> str | None:
        return self.facts.get(name)

    async def set_fact(self, name: str, value: str) -> None:
        self.facts[name] = value


async def test_a_request_is_taken_up_once_also_after_a_restart() -> None:
    memory = Memory()
    taken, one = Obeyed(memory), b"request-number-1"
    assert one not in taken
    assert await taken.take(one, expires_at=NOW + 60_000, now_ms=NOW) is None
    assert one in taken and one in Obeyed(memory)
    assert await taken.take(b"request-number-2", expires_at=NOW - 1, now_ms=NOW) == "expired"
    assert await taken.take(b"request-number-3", expires_at=NOW + AHEAD_MS_MAX + 1, now_ms=NOW) is not None


async def test_requests_are_remembered_until_they_expire_and_no_longer() -> None:
    memory = Memory()
    taken = Obeyed(memory)
    for number in range(KEPT_MAX):
        assert await taken.take(number.to_bytes(16, "big"), expires_at=NOW + number, now_ms=NOW) is None
    assert "256 requests" in str(await taken.take(b"one more request", expires_at=NOW + 10, now_ms=NOW))
    assert await taken.take(b"one more request", expires_at=NOW + 10, now_ms=NOW + 1) is None
    again = Obeyed(memory)
    assert (0).to_bytes(16, "big") not in again and (1).to_bytes(16, "big") in again
