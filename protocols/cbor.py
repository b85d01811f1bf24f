"""Reading CBOR (RFC 8949) that strangers may have written: the small deterministic part of it, in bounded steps.

Taken: integers below 2^64, byte and text strings, arrays, maps, null, true and false, each in its shortest form and
of definite length (RFC 8949 section 4.2.1, without its rule on the order of map keys). Refused: everything else, tags
and floating point included, so that no peer can make us build dates, patterns, big numbers or cycles.
Writing needs no such care and is done by cbor2.
"""

from typing import Final, TypeVar

from protocols.errors import Malformed

DEPTH_MAX: Final = 8
"""Arrays and maps inside each other. Our deepest message has 4."""
SHORTEST: Final = {24: 24, 25: 0x100, 26: 0x1_0000, 27: 0x1_0000_0000}
"""The least number that needs the longer form named by the five low bits of a first byte."""
INT_MAX: Final = 2**63 - 1
"""Sequence numbers, epochs and times fit SQLite's and PostgreSQL's signed 64 bits."""

Item = TypeVar("Item")


def read(data: bytes) -> object:
    """The one item that the bytes hold. Raises Malformed."""
    value, end = read_item(data, 0)
    if end != len(data):
        raise Malformed(f"CBOR: {len(data) - end} bytes after the end of the item")
    return value


def read_item(data: bytes, at: int, depth: int = 0) -> tuple[object, int]:
    """The item that begins at `at`, and where it ends. Raises Malformed."""
    major, argument, at = read_head(data, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        end = at + argument
        if end > len(data):
            raise Malformed(f"CBOR: a string of {argument} bytes where {len(data) - at} are left")
        return (data[at:end] if major == 2 else _text(data[at:end])), end
    if major in (4, 5):
        if depth >= DEPTH_MAX:
            raise Malformed(f"CBOR: more than {DEPTH_MAX} arrays inside each other")
        if argument * (major - 3) > len(data) - at:  # every item takes a byte at least
            raise Malformed(f"CBOR: {argument} items where {len(data) - at} bytes are left")
        return _array(data, at, argument, depth) if major == 4 else _map(data, at, argument, depth)
    if major == 7 and argument in (20, 21, 22):
        return (False, True, None)[argument - 20], at
    raise Malformed(f"CBOR: expected no tag and no simple value but false, true, null; got {major}/{argument}")


def read_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type and argument of the item that begins at `at`, and where its content begins. Raises Malformed."""
    if at >= len(data):
        raise Malformed("CBOR: ended where an item was expected")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low < 24:
        return major, low, at
    if low > 27 or major == 7:
        raise Malformed(f"CBOR: expected a definite length and no floating point, got first byte {data[at - 1]:02X}")
    end = at + (1 << (low - 24))
    if end > len(data):
        raise Malformed("CBOR: ended inside a length")
    argument = int.from_bytes(data[at:end], "big")
    if argument < SHORTEST[low]:
        raise Malformed(f"CBOR: {argument} not in its shortest form")
    return major, argument, end


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"CBOR: text that is not UTF-8: {error}") from None


def _array(data: bytes, at: int, count: int, depth: int) -> tuple[list[object], int]:
    items = []
    for _ in range(count):
        item, at = read_item(data, at, depth + 1)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[object, object], int]:
    items: dict[object, object] = {}
    for _ in range(count):
        key, at = read_item(data, at, depth + 1)
        if not isinstance(key, int | str) or isinstance(key, bool) or key in items:
            raise Malformed(f"CBOR: expected each key once, a number or a text; got {key!r:.40}")
        items[key], at = read_item(data, at, depth + 1)
    return items, at


class Fields:
    """The fields of an array, taken in order, each checked for its type and bounds. Every method raises Malformed."""

    def __init__(self, what: str, value: object, count: int) -> None:
        if not isinstance(value, list) or len(value) != count:
            raise Malformed(f"{what}: expected an array of {count}, got {value!r:.60}")
        self._what, self._items = what, iter(value)

    def integer(self, name: str, low: int = 0, high: int = INT_MAX) -> int:
        """A whole number within bounds."""
        value = next(self._items)
        if type(value) is not int or not low <= value <= high:
            raise Malformed(f"{self._what}: {name}: expected {low}..{high}, got {value!r:.60}")
        return value

    def optional(self, name: str, low: int = 0, high: int = INT_MAX) -> int | None:
        """A whole number within bounds, or null."""
        value = next(self._items)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise Malformed(f"{self._what}: {name}: expected {low}..{high} or null, got {value!r:.60}")
        return value

    def text(self, name: str, length_max: int = 255) -> str:
        """A text of at most `length_max` characters."""
        value = next(self._items)
        if not isinstance(value, str) or len(value) > length_max:
            raise Malformed(f"{self._what}: {name}: expected a text of at most {length_max}, got {value!r:.60}")
        return value

    def optional_text(self, name: str, length_max: int = 255) -> str | None:
        """A text of at most `length_max` characters, or null."""
        value = next(self._items)
        if value is not None and (not isinstance(value, str) or len(value) > length_max):
            raise Malformed(f"{self._what}: {name}: expected a text of at most {length_max} or null, got {value!r:.60}")
        return value

    def octets(self, name: str, low: int, high: int) -> bytes:
        """A byte string of `low` to `high` bytes."""
        value = next(self._items)
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise Malformed(f"{self._what}: {name}: expected {low}..{high} bytes, got {value!r:.60}")
        return value

    def array(self, name: str, count_max: int) -> list[object]:
        """An array of at most `count_max` items."""
        value = next(self._items)
        if not isinstance(value, list) or len(value) > count_max:
            raise Malformed(f"{self._what}: {name}: expected an array of at most {count_max}, got {value!r:.60}")
        return value

    def map(self, name: str, count_max: int) -> dict[object, object]:
        """A map of at most `count_max` keys."""
        value = next(self._items)
        if not isinstance(value, dict) or len(value) > count_max:
            raise Malformed(f"{self._what}: {name}: expected a map of at most {count_max}, got {value!r:.60}")
        return value
