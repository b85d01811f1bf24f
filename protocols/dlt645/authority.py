"""Who tells a meter to change something: the password with its level, and the operator code that the meter records."""

import re
from dataclasses import dataclass

from protocols.bcd import low_first

_HEX = re.compile(r"[0-9A-F]*")


def hexed(text: str, length: int, what: str) -> bytes:
    """The bytes on the wire of upper-case hex, written high byte first. Raises ValueError when it is not that long."""
    if len(text) != 2 * length or _HEX.fullmatch(text) is None:
        raise ValueError(f"expected {2 * length} upper-case hex digits as {what}, got {len(text)} characters")
    return low_first(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """level: of the password, 0 (highest) to 9, or what a grid's meters take instead (98 ciphertext, 99 plaintext with
    a MAC). password: 6 hex digits P2 P1 P0. operator: 8 hex digits C3 to C0.

    DL/T 645-2007 asks for level 2 to clear and level 4 to write; grids differ, so nothing is assumed here.
    """

    level: int
    password: str
    operator: str

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 99:
            raise ValueError(f"expected a password level of 0 to 99, got {self.level}")
        hexed(self.password, 3, "a password")
        hexed(self.operator, 4, "an operator code")

    def __repr__(self) -> str:
        return f"Authority(level={self.level}, operator={self.operator!r})"

    def encode(self) -> bytes:
        """PA P0 P1 P2 C0 C1 C2 C3: the level as two digits."""
        return bytes.fromhex(f"{self.level:02d}") + low_first(self.password) + low_first(self.operator)
