"""Makes docs/wire-vectors.json: what another central system checks itself against, with docs/wire.md.

    python -m tests.wire_vectors            writes the file again

What is not the same each time (keys, the wrapped key, signatures where the library draws a nonce, deflated bytes) is
kept from the file as long as it is right, so that a file that is true comes out unchanged.
"""

import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from identity import wrapping
from identity.centre import Centre, GatewayTrust
from identity.datakey import open_key_record
from identity.gateway import GatewayIdentity
from identity.public import key_id
from protocols import batch, cbor, envelope, messages
from protocols.batch.ints import Runs, write_column
from protocols.batch.writing import _Body
from protocols.capture import Capture, Event, Fault, Gap, Quality, Record, Source, TimeState, Value, faulty
from protocols.envelope import REPLY_SEQ, BatchKind, DataKey
from protocols.errors import Malformed
from protocols.manifest import SUM_BELOW, SUM_BYTES, DayPart, MeterDay, TaskDay, term
from protocols.quantity import STORES, Kind, Quantity, bases, by_name, variant
from protocols.suites import HPKE_7_KE, SM4_GCM
from protocols.topics import bucket, topic

FILE: Final = Path(__file__).parent.parent / "docs" / "wire-vectors.json"
ABOUT: Final = (
    "Test vectors for docs/wire.md. Bytes are hex. The private keys are published: never trust them. "
    "tests/protocols/test_wire_vectors.py keeps this file true; python -m tests.wire_vectors writes it."
)
GATEWAY: Final = "gw-0001"
EPOCH: Final = (3 << 32) | 0x5EED
HPKE_WRAP: Final = f"{0xCE28:064x}"
SLOT: Final = 1_763_683_200_000
DAY_MS: Final = 86_400_000


def build(previous: dict[str, Any]) -> dict[str, Any]:
    """The vectors; `previous` is the file as it is, or empty."""
    keys = previous.get("keys") or _new_keys()
    gateway = GatewayIdentity.of(GATEWAY, _p256(keys["gateway_sign"]))
    centre = Centre.of(_p256(keys["centre_sign"]), _rsa(keys["centre_wrap_pkcs8"]))
    data_key = DataKey(
        kid=bytes.fromhex("0102030405060708"), key=bytes(range(32)), salt=b"salt", epoch=EPOCH, day=20413
    )
    bodies = _bodies(previous.get("bodies", []))
    account = _account(bodies[2]["records"])
    sealed = _sealed(data_key, bodies, bytes.fromhex(account["body"]))
    return {
        "about": ABOUT,
        "keys": keys,
        "key_ids": {
            "gateway_sign": gateway.kid.hex(),
            "centre_sign": centre.kid.hex(),
            "centre_wrap": key_id(centre.public.wrap[0]).hex(),
        },
        "data_key": {
            "kid": data_key.kid.hex(), "key": data_key.key.hex(), "salt": data_key.salt.hex(), "epoch": EPOCH,
            "day": data_key.day,
        },
        "topics": [
            {"gateway": name, "bucket": bucket(name), "batch": topic(name, "up", "batch")}
            for name in (GATEWAY, "gw-0002", "a", "substation-12-feeder-7")
        ],
        "columns": _columns(),
        "bodies": bodies,
        "account": account,
        "sealed": sealed,
        "signed": _signed(previous.get("signed", []), gateway, centre, data_key, sealed),
        "algorithms": _algorithms(previous.get("algorithms", {}), gateway, bodies),
        "plain": _plain(),
        "variants": [
            {"number": each.number, "name": each.name, "unit": each.unit, "form": each.form.value}
            for each in (
                by_name("energy.active.import.t2"), by_name("energy.active.import.t2.last_1"),
                by_name("energy.reactive.q1.total.last_12"), by_name("demand.active.import.total.time"),
                variant(by_name("demand.active.import.total"), tariff=3, last=2, time=True),
                by_name("energy.active.import.t2.daily_1"), by_name("demand.active.import.total.hourly_254.time"),
                by_name("record.time.load"), by_name("event.programming.start.record_10"), by_name("holiday.entry_3"),
            )
        ],
        "stores": [
            {"code": each.code, "name": each.name, "depth": each.depth,
             "kinds": sorted(kind.value for kind in each.kinds)}
            for each in STORES.values()
        ],
        "catalogue": [
            {"number": each.number, "name": each.name, "unit": each.unit, "kind": each.kind.value,
             "form": each.form.value}
            for each in bases()
        ],
    }  # fmt: skip


def _new_keys() -> dict[str, str]:
    wrap = rsa.generate_private_key(65537, 3072)
    return {
        "gateway_sign": f"{0x6A7E:064x}",
        "centre_sign": f"{0xCE27:064x}",
        "centre_wrap_pkcs8": wrap.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex(),
    }


def _p256(scalar: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(scalar, 16), ec.SECP256R1())


def _rsa(pkcs8: str) -> rsa.RSAPrivateKey:
    key = load_der_private_key(bytes.fromhex(pkcs8), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _columns() -> list[dict[str, Any]]:
    cases: list[list[list[int]]] = [
        [[0, 0, 0]],
        [[1, -1, 2, -2]],
        [[2301, 2302, 2300], [2287, 2290, 2291]],
        [[1000, 1900, 2800, 3700], [1000, 1900, 2800, 3700]],
        [[5], [7], [70000]],
        [[-(2**40), 2**52]],
    ]
    columns = []
    for runs in cases:
        out = bytearray()
        write_column(out, [number for run in runs for number in run], Runs(list(map(len, runs))))
        columns.append({"runs": runs, "bytes": out.hex()})
    return columns


def _capture(meter: str, at: int, *values: Value, **changed: Any) -> Capture:
    told: dict[str, Any] = {
        "meter": meter, "point": f"pt-{meter}", "task": "curve", "slot": at, "stamp": at, "read_at": at + 1500,
        "time_state": TimeState.TRUSTED, "clock_error_ms": None, "source": Source.METER_LIVE, "values": values,
    } | changed  # fmt: skip
    return Capture(**told)


def _cases() -> list[tuple[str, list[Record]]]:
    """Names and records of the bodies."""
    volts, energy, clock = by_name("voltage.a"), by_name("energy.active.import.total"), by_name("clock")
    own = Quantity(number=0, name="vendor.pulses", unit="1", kind=Kind.STATUS, zh="脉冲数")

    def number(quantity: Quantity, text: str, **changed: Any) -> Value:
        return Value(quantity=quantity, number=Decimal(text), **changed)

    steady: list[Record] = [
        _capture(meter, SLOT + 900_000 * step, number(energy, f"{base + step * 0.37:.2f}"), number(volts, f"{volt}"))
        for step, volt in enumerate(("230.1", "229.8", "230.4"))
        for meter, base in (("202411110001", 1325.72), ("202411110002", 88.0))
    ]
    pulses, later = number(own, "7"), SLOT + 2_700_000
    odd: list[Record] = [
        _capture("m1", SLOT, number(volts, "230.1"), Value(quantity=clock, time="2025-11-21T08:00:03"), pulses),
        _capture("m1", SLOT + 900_000, faulty(volts, Fault.REFUSED, "02"),
                 Value(quantity=clock, quality=Quality.UNAVAILABLE), number(own, "-0.0")),
        _capture("m1", SLOT + 1_800_000, number(volts, "230.15", quality=Quality.DOUBTFUL, detail="step"),
                 Value(quantity=clock, text="??"), number(own, "123456789012345678901234567890")),
        _capture("m2", SLOT + 17, number(energy, "1E+3"), slot=None, source=Source.MANUAL, clock_error_ms=-2100,
                 time_state=TimeState.UNTRUSTED, ct=Decimal("40.0")),
        Gap(meter="m3", task="curve", slot=SLOT, fault=Fault.SILENT, opened_at=SLOT + 60_000),
        Gap(meter="m3", task="curve", slot=later, fault=Fault.SILENT, detail="3 tries", opened_at=later + 60_000),
        _capture("m1", later, number(volts, "231"), Value(quantity=clock, time="2025-11-21"), pulses),
    ]  # fmt: skip
    events: list[Record] = [
        Event(name="boot", at=SLOT, detail={"version": "0.1.0", "count": 3}),
        Event(name="meter.silent", at=SLOT + 5, meter="m3", detail={"tries": -3}),
    ]
    return [("none", []), ("steady", steady), ("odd", odd), ("events", events)]


def _bodies(previous: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = {each["name"]: bytes.fromhex(each["body"]) for each in previous}
    bodies = []
    for name, records in _cases():
        writer = _Body()
        for record in records:
            writer.add(record)
        raw = b"".join(writer.sections())
        body = kept.get(name, b"")
        if body[:1] != b"\x01" or zlib.decompressobj(-15).decompress(body[1:]) != raw:
            body = batch.encode(records)
        bodies.append({"name": name, "records": list(map(told, records)), "inflated": raw.hex(), "body": body.hex()})
    return bodies


def told(record: Record) -> dict[str, Any]:
    """A record as JSON."""
    if isinstance(record, Gap):
        return {"type": "gap", "meter": record.meter, "task": record.task, "slot": record.slot,
                "fault": record.fault.value, "detail": record.detail, "opened_at": record.opened_at}  # fmt: skip
    if isinstance(record, Event):
        return {"type": "event", "name": record.name, "at": record.at, "meter": record.meter,
                "detail": dict(record.detail)}  # fmt: skip
    return {
        "type": "capture", "meter": record.meter, "point": record.point, "task": record.task, "slot": record.slot,
        "stamp": record.stamp, "read_at": record.read_at, "time_state": record.time_state.value,
        "clock_error_ms": record.clock_error_ms, "source": record.source.value, "ct": str(record.ct),
        "pt": str(record.pt),
        "values": [
            {"quantity": value.quantity.name, "number": None if value.number is None else str(value.number),
             "time": value.time, "text": value.text, "quality": value.quality.value,
             "fault": None if value.fault is None else value.fault.value, "detail": value.detail}
            for value in record.values
        ],
    }  # fmt: skip


def _account(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The account of the day of these records, and the values that its sums are over."""
    captures = [record for record in records if record["type"] == "capture"]
    gaps = [record for record in records if record["type"] == "gap"]
    counted = {
        (capture["meter"], value["quantity"], capture["stamp"], capture["source"]): plain
        for capture in captures for value in capture["values"] if (plain := _plainly(value)) is not None
    }  # fmt: skip
    days, told_values = [], []
    for meter in sorted({record["meter"] for record in captures + gaps}):
        own = {key[1:]: plain for key, plain in counted.items() if key[0] == meter}
        tasks = sorted({record["task"] for record in captures + gaps if record["meter"] == meter})
        days.append(MeterDay(
            meter=meter, values=len(own), total=sum(term(*key, plain) for key, plain in own.items()) % SUM_BELOW,
            tasks=tuple(
                TaskDay(task=task, planned=96, captured=_slots(captures, meter, task), gaps=_slots(gaps, meter, task))
                for task in tasks
            ),
        ))  # fmt: skip
        told_values.append({"meter": meter, "values": [[*key, plain] for key, plain in own.items()],
                            "sum": days[-1].total.to_bytes(SUM_BYTES, "big").hex()})  # fmt: skip
    part = DayPart(since=SLOT, until=SLOT + DAY_MS, cut=SLOT + DAY_MS, part=0, parts=1, meters=tuple(days))
    return {"meters": told_values, "body": part.encode().hex()}


def _plainly(value: dict[str, Any]) -> str | None:
    number: str | None = value["number"]
    return format(Decimal(number), "f") if number is not None else value["time"] or value["text"]


def _slots(records: list[dict[str, Any]], meter: str, task: str) -> int:
    return len({each["slot"] for each in records if (each["meter"], each["task"]) == (meter, task)} - {None})


def _sealed(data_key: DataKey, bodies: list[dict[str, Any]], account: bytes) -> list[dict[str, Any]]:
    found = []
    captures, events, reply, manifest = BatchKind.CAPTURES, BatchKind.EVENTS, BatchKind.REPLY, BatchKind.MANIFEST
    for seq, kind, body in (
        (1, captures, bodies[1]["body"]), (2, events, bodies[3]["body"]), (3, captures, bodies[2]["body"]),
        (REPLY_SEQ, reply, bodies[1]["body"]), (REPLY_SEQ + 1, manifest, account.hex()),
    ):  # fmt: skip
        message = envelope.seal(data_key, gateway=GATEWAY, seq=seq, kind=kind, body=bytes.fromhex(body))
        protected = message[3:20]
        found.append(
            {"gateway": GATEWAY, "epoch": EPOCH, "seq": str(seq), "kind": kind.name.lower(), "content_type": int(kind),
             "nonce": (data_key.salt + seq.to_bytes(8, "big")).hex(),
             "enc_structure": envelope._associated(protected, GATEWAY, EPOCH, kind).hex(), "body": body,
             "message": message.hex()}
        )  # fmt: skip
    return found


def _signed(
    previous: list[dict[str, Any]], gateway: GatewayIdentity, centre: Centre, data_key: DataKey,
    sealed: list[dict[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    inside = {each["kind"]: bytes.fromhex(each["message"]) for each in sealed}
    kept = {each["kind"]: each for each in previous}
    record = messages.KeyRecord(
        gateway=GATEWAY,
        epoch=EPOCH,
        kid=data_key.kid,
        day=data_key.day,
        salt=data_key.salt,
        wrapped=(_wrapped(kept.get("key"), gateway, centre, data_key),),
    )
    hello = messages.Hello(
        gateway=GATEWAY,
        epoch=EPOCH,
        first_unsettled=4,
        next_seq=9,
        voided=((EPOCH - (1 << 32), 17),),
        pending=1200,
        oldest_at=SLOT,
        sent_at=SLOT + 10_000,
    )
    receipt = messages.Receipt(
        gateway=GATEWAY,
        epoch=EPOCH,
        contiguous_upto=4,
        ranges=((6, 6), (8, 11)),
        rejected=((3, "bad_body"),),
        need_key=(data_key.kid,),
        sent_at=SLOT + 11_000,
    )
    request = messages.Request(
        gateway=GATEWAY,
        request=bytes(range(16)),
        action="read_now",
        arguments={"meter": "m1", "items": "voltage.a;voltage.b"},
        sent_at=SLOT,
        expires_at=SLOT + 60_000,
    )
    reply = messages.Reply(
        gateway=GATEWAY, epoch=EPOCH, request=bytes(range(16)), status="part", detail="1 of 2", sealed=inside["reply"],
        sent_at=SLOT + 900,
    )  # fmt: skip
    manifest = messages.Manifest(
        gateway=GATEWAY, epoch=EPOCH, day=20413, plan=bytes(32), sealed=inside["manifest"], sent_at=SLOT + DAY_MS
    )  # fmt: skip
    found = []
    for message, signer in (
        (record, gateway), (hello, gateway), (receipt, centre), (request, centre), (reply, gateway), (manifest, gateway)
    ):  # fmt: skip
        name = message.KIND.name.lower()
        old = bytes.fromhex(kept.get(name, {}).get("message", ""))
        try:
            right = messages.verified(type(message), old, gateway=GATEWAY, verify=signer.public.verify) == message
        except Malformed:
            right = False
        new = old if right else messages.signed(message, kid=signer.kid, sign=signer.sign)
        found.append({"kind": name, "content_type": int(message.KIND), "signer": f"{signer.public.role}_sign",
                      "fields": _told(cbor.read(message.encode())), "payload": message.encode().hex(),
                      "message": new.hex()})  # fmt: skip
    return found


def _told(item: object) -> Any:
    """CBOR as JSON can tell it: bytes in hex."""
    match item:
        case bytes():
            return item.hex()
        case list():
            return list(map(_told, item))
        case dict():
            return {key: _told(value) for key, value in item.items()}
    return item


def _wrapped(
    previous: dict[str, Any] | None, gateway: GatewayIdentity, centre: Centre, data_key: DataKey
) -> messages.Wrapped:
    """The data key wrapped for the centre: as it was, if it still opens."""
    if previous is not None:
        old = bytes.fromhex(previous["message"])
        known = GatewayTrust.of(gateway.public)
        try:
            if open_key_record(old, gateway=GATEWAY, centre=centre, verify=known.verifier(GATEWAY)) == data_key:
                return messages.KeyRecord.decode(bytes.fromhex(previous["payload"])).wrapped[0]
        except Malformed:
            previous = None
    key = centre.public.wrap[0]
    return messages.Wrapped(kid=key_id(key), algorithm=messages.RSA_OAEP_256, key=wrapping.wrap(key, data_key.key, b""))


def _algorithms(
    previous: dict[str, Any], gateway: GatewayIdentity, bodies: list[dict[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    """The other algorithms: a data key for SM4-GCM, wrapped by HPKE, and a batch under it."""
    data_key = DataKey(
        kid=bytes.fromhex("1112131415161718"), key=bytes(range(16)), salt=b"tlas", epoch=EPOCH, day=20413,
        algorithm=SM4_GCM,
    )  # fmt: skip
    wrap = _p256(HPKE_WRAP)
    opens = wrapping.opener(wrap, key_id(wrap.public_key()))
    bound = wrapping.info(gateway=GATEWAY, epoch=EPOCH, kid=data_key.kid, algorithm=SM4_GCM)
    old = bytes.fromhex(previous.get("key", ""))
    try:
        known = messages.verified(messages.KeyRecord, old, gateway=GATEWAY, verify=gateway.public.verify)
        right = opens.open(known.wrapped[0].key, bound) == data_key.key
    except (Malformed, ValueError):
        right = False
    if not right:
        wrapped = messages.Wrapped(
            kid=opens.kid, algorithm=HPKE_7_KE, key=wrapping.wrap(wrap.public_key(), data_key.key, bound)
        )
        record = messages.KeyRecord(
            gateway=GATEWAY, epoch=EPOCH, kid=data_key.kid, day=data_key.day, salt=data_key.salt, wrapped=(wrapped,),
            algorithm=SM4_GCM,
        )  # fmt: skip
        old = messages.signed(record, kid=gateway.kid, sign=gateway.sign)
    body = bytes.fromhex(bodies[1]["body"])
    message = envelope.seal(data_key, gateway=GATEWAY, seq=4, kind=BatchKind.CAPTURES, body=body)
    return {
        "centre_wrap_p256": HPKE_WRAP, "info": bound.hex(), "kid": data_key.kid.hex(), "data_key": data_key.key.hex(),
        "salt": data_key.salt.hex(), "key": old.hex(), "gateway": GATEWAY, "epoch": EPOCH, "seq": "4",
        "body": body.hex(), "message": message.hex(),
    }  # fmt: skip


def _plain() -> dict[str, str]:
    state = messages.State(gateway=GATEWAY, online=False, epoch=EPOCH, at=SLOT, software="0.1.0")
    health = messages.Health(
        gateway=GATEWAY, epoch=EPOCH, at=SLOT, counters={"outbox.pending": 12}, facts={"clock": "trusted"}
    )
    return {"state": state.encode().decode(), "health": health.encode().decode()}


def written(vectors: dict[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(build(json.loads(FILE.read_text()) if FILE.exists() else {})))
