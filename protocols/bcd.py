"""Binary-coded decimals as meters send them: two digits a byte, the low byte first."""


def high_first(data: bytes) -> str:
    """The bytes as people write them: upper-case hex, high byte first."""
    return data[::-1].hex().upper()


def low_first(text: str) -> bytes:
    """The bytes on the wire of hex written high byte first. Raises ValueError when it is not whole bytes of hex."""
    return bytes.fromhex(text)[::-1]


def digits(data: bytes) -> str | None:
    """The decimal digits, high digit first, or None when a half-byte is not a digit (or there are no bytes)."""
    text = data[::-1].hex()
    return text if text.isdecimal() else None


def from_digits(text: str, length: int) -> bytes:
    """The bytes on the wire of decimal digits, filled with zeros on the left to `length` bytes.

    Raises ValueError when it is not digits, or they do not fit.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 * length):
        raise ValueError(f"expected at most {2 * length} decimal digits, got {text!r}")
    return bytes.fromhex(text.zfill(2 * length))[::-1]
