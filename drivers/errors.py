"""How noisy a bus is, from the answers that came whole and those that came damaged; and what follows from it."""

from math import ceil, exp, log

MEMORY_BYTES = 20_000
"""Bytes of answers over which the estimate looks back: some hundreds of answers. At first they count as whole."""

WHOLE_MIN = 0.7
"""A question whose answer would come whole less often is put for less at a time, where it can be: halving costs an
exchange, a damaged answer its late window."""

FAILED_MAX = 1e-4
"""How often the attempts at one question may all fail, while ATTEMPTS_MAX allow it."""

ATTEMPTS_MAX = 8

QUIET_PER_BYTE = 1e-4
"""Damaged answers per byte below which a line counts as quiet: at most one answer of 40 bytes in 250."""


class ErrorEstimate:
    """Damage per byte of one bus, fading with what is heard. An answer of n bytes comes whole in exp(-n * per_byte)."""

    def __init__(self) -> None:
        self._damaged = 0.0
        self._bytes = float(MEMORY_BYTES)

    @property
    def per_byte(self) -> float:
        """Damaged answers per byte."""
        return self._damaged / self._bytes

    @property
    def quiet(self) -> bool:
        """Whether there is next to no noise."""
        return self.per_byte < QUIET_PER_BYTE

    def whole(self, size: int) -> None:
        """An answer of so many bytes came as it should."""
        self._bytes += size
        self._fade()

    def damaged(self, size: int) -> None:
        """Something came in place of an answer of about so many bytes."""
        self._damaged += 1.0
        self.whole(size)

    def too_long(self, size: int) -> bool:
        """Whether so many bytes would come whole too seldom to be worth asking for."""
        return self._damaged > 0 and exp(-self.per_byte * size) < WHOLE_MIN

    def attempts(self, size: int, usual: int) -> int:
        """How often to ask for so many bytes, both ways: as often as usual, more often where the noise calls for it."""
        if self.quiet:
            return usual
        fails = 1.0 - exp(-self.per_byte * size)
        return max(usual, min(ATTEMPTS_MAX, ceil(log(FAILED_MAX) / log(fails))))

    def _fade(self) -> None:
        if self._bytes > MEMORY_BYTES:
            self._damaged *= MEMORY_BYTES / self._bytes
            self._bytes = float(MEMORY_BYTES)
