"""One record as one row of the store: a version byte and a CBOR array. Local to a store, never on the wire.

    capture: [0, meter, point, task, stamp, slot - stamp | null, read_at - stamp, source * 2 + time state,
              clock error | null, ct, pt, [quantity, value, quantity, value, ...]]
    gap:     [1, meter, task, slot, fault, detail | null, opened_at]
    event:   [2, name, at, meter | null, {key: text | integer}]

A quantity is its number, or an array in full where the catalogue has none; a value is the text of a good number, or
an array [0 none | 1 number | 2 time | 3 text, text | null, quality, fault | null, detail | null].
"""

from decimal import Decimal
from typing import Final

import cbor2

from protocols.batch.codes import (
    COLUMNS_MAX,
    FAULT_CODES,
    FAULTS,
    INLINE_MAX,
    KEYS_MAX,
    QUALITIES,
    QUALITY_CODES,
    ROW_MAX,
    SOURCES,
    TEXT_MAX,
    TIME_MAX,
    TIME_STATES,
    catalogued,
    inline,
    instant,
    numbered,
    outlined,
    read_number,
    short,
    whole,
    word,
    write_number,
)
from protocols.capture import Capture, Event, Gap, Quality, Record, Value, measured
from protocols.cbor import Fields
from protocols.errors import Malformed
from protocols.quantity import Quantity, by_number

VERSION: Final = 1
CODES_MAX: Final = 8192
"""Quantities remembered by identity, so that each need not be compared with the catalogue in each capture."""
SHORT_NUMBER: Final = 24
"""Numbers of so few characters and no exponent need no look at their limits."""

_HEAD = bytes([VERSION])
_GOOD = Quality.GOOD
_ONE = Decimal(1)
_TIMES = (1 - TIME_MAX, TIME_MAX - 1)
_STAMPS = {
    (source, state): 2 * s + t for source, s in numbered(SOURCES).items() for state, t in numbered(TIME_STATES).items()
}
_STAMPED = {code: words for words, code in _STAMPS.items()}
_codes: dict[int, tuple[Quantity, object]] = {}


def pack(record: Record) -> bytes:
    """The record as a row. Raises ValueError for what no batch could carry either (limits in `codes.py`)."""
    if isinstance(record, Capture):
        parts = _capture_parts(record)
    elif isinstance(record, Gap):
        parts = [
            1, short(record.meter), short(record.task), instant(record.slot, "slot"), FAULT_CODES[record.fault],
            _optional(record.detail), instant(record.opened_at, "opened_at"),
        ]  # fmt: skip
    else:
        if len(record.detail) > KEYS_MAX:
            raise ValueError(f"event {record.name}: {len(record.detail)} details, expected at most {KEYS_MAX}")
        detail = {
            short(key): short(item) if isinstance(item, str) else whole(item, key)
            for key, item in record.detail.items()
        }
        parts = [2, short(record.name), instant(record.at, "at"), _optional(record.meter), detail]
    row = _HEAD + cbor2.dumps(parts)
    if len(row) > ROW_MAX:
        raise ValueError(f"a row of {len(row)} bytes, expected at most {ROW_MAX}")
    return row


def _optional(text: str | None) -> str | None:
    return None if text is None else short(text)


def _capture_parts(capture: Capture) -> list[object]:
    slot, stamp, read_at, error = capture.slot, capture.stamp, capture.read_at, capture.clock_error_ms
    for time in (slot, stamp, read_at, error):
        if time is not None and not -TIME_MAX < time < TIME_MAX:
            instant(time, f"a time of {capture.meter}")
    if len(capture.values) > COLUMNS_MAX:
        raise ValueError(f"capture of {capture.meter}: more than {COLUMNS_MAX} values")
    flat: list[object] = []
    for value in capture.values:
        known = _codes.get(id(value.quantity))
        flat.append(known[1] if known is not None else _code(value.quantity))
        number = value.number
        if number is not None and value.quality is _GOOD and value.detail is None:
            text = str(number)
            flat.append(text if len(text) <= SHORT_NUMBER and "E" not in text else write_number(number))
        else:
            flat.append(_value_parts(value))
    ct, pt = capture.ct, capture.pt
    return [
        0, short(capture.meter), short(capture.point), short(capture.task), stamp,
        None if slot is None else slot - stamp, read_at - stamp, _STAMPS[capture.source, capture.time_state], error,
        write_number(ct), write_number(pt), flat,
    ]  # fmt: skip


def _code(quantity: Quantity) -> object:
    """How the quantity is told: by number or in full."""
    code: object = quantity.number
    if not catalogued(quantity):
        numbers, texts, options = inline(quantity)
        code = [*numbers, *map(short, texts), *map(_optional, options)]
    if len(_codes) >= CODES_MAX:
        _codes.clear()
    _codes[id(quantity)] = (quantity, code)  # the quantity is kept, so that its identity stays its own
    return code


def _value_parts(value: Value) -> list[object]:
    if value.number is not None:
        what, text = 1, write_number(value.number)
    elif value.time is not None:
        what, text = 2, short(value.time)
    elif value.text is not None:
        what, text = 3, short(value.text)
    else:
        what, text = 0, None
    fault = None if value.fault is None else FAULT_CODES[value.fault]
    return [what, text, QUALITY_CODES[value.quality], fault, _optional(value.detail)]


def unpack(row: bytes) -> Record:
    """The record in a row, which any body can take. Raises Malformed."""
    if row[:1] != _HEAD or len(row) > ROW_MAX:
        raise Malformed(f"row: expected version {VERSION} and at most {ROW_MAX} bytes, got {row[:8].hex().upper()}...")
    try:
        parts = cbor2.loads(row[1:])
        kind = parts[0] if isinstance(parts, list) and parts else None
        return _capture(parts) if kind == 0 else _gap(parts) if kind == 1 else _event(parts)
    except Malformed:
        raise
    except Exception as error:  # whatever cbor2 makes of a damaged row, and what the words refuse to be built from
        raise Malformed(f"row: {type(error).__name__}: {error}") from None


def _capture(parts: list[object]) -> Capture:
    if len(parts) != 12:
        raise Malformed(f"row of a capture: expected 12 parts, got {len(parts)}")
    _, meter, point, task, stamp, ahead, behind, source, error, ct, pt, flat = parts
    if not (type(meter) is type(point) is type(task) is type(ct) is type(pt) is str and type(flat) is list):
        raise Malformed(f"row of a capture: expected texts and a list of values, got {parts!r:.120}")
    if not (type(stamp) is type(behind) is type(source) is int and source in _STAMPED and not len(flat) % 2):
        raise Malformed(f"row of a capture: expected times, source and pairs of values, got {parts!r:.120}")
    if not ((ahead is None or type(ahead) is int) and (error is None or type(error) is int)):
        raise Malformed(f"row of a capture: expected a slot and a clock error, got {ahead!r:.40}, {error!r:.40}")
    if len(flat) > 2 * COLUMNS_MAX:
        raise Malformed(f"row of a capture: {len(flat) // 2} values, expected at most {COLUMNS_MAX}")
    slot, read_at = None if ahead is None else stamp + ahead, stamp + behind
    for time in (stamp, slot, read_at, error):
        if time is not None and not -TIME_MAX < time < TIME_MAX:
            instant(time, "a time of a capture")
    kind, state = _STAMPED[source]
    return Capture(
        meter=short(meter), point=short(point), task=short(task), slot=slot, stamp=stamp, read_at=read_at,
        source=kind, time_state=state,
        clock_error_ms=error, ct=_ONE if ct == "1" else read_number(ct), pt=_ONE if pt == "1" else read_number(pt),
        values=tuple(map(_value, flat[::2], flat[1::2])),
    )  # fmt: skip


def _value(code: object, told: object) -> Value:
    quantity = by_number(code) if type(code) is int else _quantity(code)
    if type(told) is str:
        if len(told) > SHORT_NUMBER or "E" in told:
            return measured(quantity, read_number(told))
        number = Decimal(told)
        if str(number) != told or not number.is_finite():
            raise Malformed(f"row: not a number in its own form: {told!r}")
        return measured(quantity, number)
    fields = Fields("row of a value", told, 5)
    what = fields.integer("what", 0, 3)
    text = _optional(fields.optional_text("text", TEXT_MAX))
    if (text is None) != (what == 0):
        raise Malformed(f"row: a value of kind {what} with text {text!r:.40}")
    quality = word(QUALITIES, fields.integer("quality"))
    fault = fields.optional("fault")
    return Value(
        quantity=quantity,
        number=read_number(text) if what == 1 and text is not None else None,
        time=text if what == 2 else None,
        text=text if what == 3 else None,
        quality=quality,
        fault=None if fault is None else word(FAULTS, fault),
        detail=_optional(fields.optional_text("detail", TEXT_MAX)),
    )


def _quantity(code: object) -> Quantity:
    fields = Fields("row of a quantity", code, 14)
    names = ("number", "kind", "form", "side", "tariff", "last")
    numbers = tuple(fields.integer(name, 0, INLINE_MAX - 1) for name in names)
    texts = tuple(short(fields.text(name, TEXT_MAX)) for name in ("name", "unit", "zh"))
    options = tuple(_optional(fields.optional_text(name, TEXT_MAX)) for name in ("phase", "obis", "di", "oad", "cim"))
    return outlined(numbers, texts, options)


def _gap(parts: list[object]) -> Gap:
    fields = Fields("row of a gap", parts, 7)
    fields.integer("kind", 1, 1)
    return Gap(
        meter=short(fields.text("meter", TEXT_MAX)),
        task=short(fields.text("task", TEXT_MAX)),
        slot=fields.integer("slot", *_TIMES),
        fault=word(FAULTS, fields.integer("fault")),
        detail=_optional(fields.optional_text("detail", TEXT_MAX)),
        opened_at=fields.integer("opened_at", *_TIMES),
    )


def _event(parts: list[object]) -> Event:
    fields = Fields("row of an event", parts, 5)
    fields.integer("kind", 2, 2)
    name, at = short(fields.text("name", TEXT_MAX)), fields.integer("at", *_TIMES)
    meter = _optional(fields.optional_text("meter", TEXT_MAX))
    detail: dict[str, str | int] = {}
    for key, item in fields.map("detail", KEYS_MAX).items():
        if not isinstance(key, str) or not isinstance(item, str | int) or isinstance(item, bool):
            raise Malformed(f"row of an event: {key!r:.40}: expected a text or an integer, got {item!r:.40}")
        detail[short(key)] = short(item) if isinstance(item, str) else whole(item, key)
    return Event(name=name, at=at, meter=meter, detail=detail)
