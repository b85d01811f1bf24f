"""Every field of a message is taken up to the width that docs/wire.md gives it, and not beyond."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from protocols import cbor
from protocols.errors import Malformed
from protocols.manifest import DayPart, MeterDay, TaskDay
from protocols.messages import Health, Hello, KeyRecord, Manifest, Receipt, Reply, Request, State, Wrapped
from protocols.suites import ACCEPTED, HPKE_7_KE, RSA_OAEP_256, SM4_GCM, SUITES
from tests.protocols.test_messages import EXAMPLES

WRAPPED = Wrapped(kid=bytes(8), algorithm=RSA_OAEP_256, key=b"k")
TASK = TaskDay(task="curve", planned=96, captured=96, gaps=0)
METER = MeterDay(meter="m", values=1, total=2, tasks=(TASK,))
PLAIN = EXAMPLES | {DayPart: DayPart(since=0, until=1, cut=1, part=0, parts=1, meters=(METER,))}
KIB = 1024
MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("kind", "limit", "changed"),
    [
        (KeyRecord, 16, lambda n: {"wrapped": (WRAPPED,) * n}),
        (KeyRecord, 2048, lambda n: {"wrapped": (replace(WRAPPED, key=bytes(n)),)}),
        (KeyRecord, 2**32 - 1, lambda n: {"day": n}),
        (KeyRecord, MOST, lambda n: {"epoch": n}),
        (Hello, 4096, lambda n: {"voided": ((1, 1),) * n}),
        (Hello, MOST, lambda n: {"oldest_at": n}),
        (Hello, MOST, lambda n: {"voided": ((1, n),)}),
        (Receipt, 1024, lambda n: {"ranges": tuple((2 * at, 2 * at) for at in range(1, n + 1))}),
        (Receipt, 1024, lambda n: {"rejected": ((1, "bad_body"),) * n}),
        (Receipt, 32, lambda n: {"rejected": ((1, "b" * n),)}),
        (Receipt, 1024, lambda n: {"need_key": (bytes(8),) * n}),
        (Request, 64, lambda n: {"action": "a" * n}),
        (Request, 64, lambda n: {"arguments": {str(at): at for at in range(n)}}),
        (Reply, 16, lambda n: {"status": "s" * n}),
        (Reply, 1024, lambda n: {"detail": "d" * n}),
        (Reply, 256 * KIB, lambda n: {"sealed": bytes(n)}),
        (Manifest, 256 * KIB, lambda n: {"sealed": bytes(n)}),
        (Manifest, 2**32 - 1, lambda n: {"day": n}),
        (DayPart, 64, lambda n: {"meters": (METER,) * n}),
        (DayPart, 256, lambda n: {"meters": (replace(METER, tasks=(TASK,) * n),)}),
        (DayPart, 1024, lambda n: {"parts": n}),
        (DayPart, 1023, lambda n: {"part": n}),
        (DayPart, 255, lambda n: {"meters": (replace(METER, meter="m" * n),)}),
    ],
)
def test_a_field_is_taken_up_to_its_limit(
    kind: type[Any], limit: int, changed: Callable[[int], dict[str, Any]]
) -> None:
    widest = replace(PLAIN[kind], **changed(limit))
    assert kind.decode(widest.encode()) == widest
    with pytest.raises(Malformed):
        kind.decode(replace(PLAIN[kind], **changed(limit + 1)).encode())


@pytest.mark.parametrize(
    ("kind", "field", "length"),
    [(KeyRecord, "kid", 8), (KeyRecord, "salt", 4), (Request, "request", 16), (Reply, "request", 16),
     (Manifest, "plan", 32)],
)  # fmt: skip
def test_what_has_one_length_has_no_other(kind: type[Any], field: str, length: int) -> None:
    for other in (length - 1, length + 1):
        with pytest.raises(Malformed, match=field):
            kind.decode(replace(PLAIN[kind], **{field: bytes(other)}).encode())


def test_a_key_record_of_version_2_names_another_algorithm_than_version_1_has() -> None:
    record = replace(PLAIN[KeyRecord], algorithm=SM4_GCM)
    assert KeyRecord.decode(record.encode()) == record
    fields = cbor2.loads(PLAIN[KeyRecord].encode())
    with pytest.raises(Malformed, match="version 2 for A256GCM"):
        KeyRecord.decode(cbor2.dumps([2, *fields[1:], 3]))


def test_the_numbers_of_the_algorithms_are_those_of_the_page() -> None:
    assert (RSA_OAEP_256, HPKE_7_KE, SM4_GCM) == (-41, 53, -66001)
    assert (ACCEPTED, set(SUITES)) == (("aes",), {"aes", "sm"})


def test_the_software_of_a_state_is_cut_and_a_health_message_has_a_limit() -> None:
    state = State(gateway="gw-1", online=True, epoch=1, at=1, software="v" * 70)
    assert State.decode(state.encode()).software == "v" * 64
    health = Health(gateway="gw-1", epoch=1, at=1, counters={"polls": 3}, facts={"clock": "trusted"})
    widest = health.encode().ljust(256 * KIB)
    assert Health.decode(widest) == health
    with pytest.raises(Malformed, match="at most"):
        Health.decode(widest + b" ")


@pytest.mark.parametrize(
    ("part", "wrong"),
    [("counters", {"polls": 1.5}), ("counters", {"polls": True}), ("counters", [1]), ("facts", {"clock": 1}),
     ("facts", "trusted"), ("epoch", -1), ("at", None), ("gateway", "GW"), ("v", 2)],
)  # fmt: skip
def test_a_health_message_with_a_part_of_another_kind_is_malformed(part: str, wrong: object) -> None:
    told = json.loads(Health(gateway="gw-1", epoch=1, at=1).encode())
    with pytest.raises(Malformed):
        Health.decode(json.dumps(told | {part: wrong}).encode())


@pytest.mark.parametrize(
    "number", [0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -1, -24, -25, -256, -257]
)
def test_a_whole_number_has_one_form_and_no_longer_one(number: int) -> None:
    shortest = cbor2.dumps(number)
    assert cbor.read(shortest) == number
    major, argument = shortest[0] & 0xE0, number if number >= 0 else -1 - number
    for low, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if width >= len(shortest) and argument < 1 << 8 * width:
            with pytest.raises(Malformed, match="shortest"):
                cbor.read(bytes((major | low,)) + argument.to_bytes(width, "big"))


def test_arrays_stand_at_most_8_deep() -> None:
    assert cbor.read(b"\x81" * 8 + b"\x00") == [[[[[[[[0]]]]]]]]
    with pytest.raises(Malformed, match="inside each other"):
        cbor.read(b"\x81" * 9 + b"\x00")
