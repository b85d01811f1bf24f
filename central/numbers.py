"""Which batch numbers of an epoch are settled: one high-water mark, and ranges above it."""

from bisect import bisect_right
from collections.abc import Iterable


class Numbers:
    """A set of batch numbers (1, 2, 3, ...) kept as ranges, so that a million of them in order cost nothing.

    `upto` is the number up to which none is missing, 0 when 1 is; `above` are the ranges beyond it.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for number in numbers:
            self.add(number)

    @classmethod
    def upto_and(cls, upto: int, above: Iterable[int]) -> "Numbers":
        """All numbers up to `upto`, and those in `above`."""
        numbers = cls()
        if upto >= 1:
            numbers._firsts, numbers._lasts = [1], [upto]
        for number in above:
            numbers.add(number)
        return numbers

    def add(self, number: int) -> bool:
        """Add a number; False when it was there already. Numbers start at 1: a lower one raises ValueError."""
        if number < 1:
            raise ValueError(f"batch numbers start at 1, got {number}")
        firsts, lasts = self._firsts, self._lasts
        at = bisect_right(firsts, number)
        if at and number <= lasts[at - 1]:
            return False
        joins_left = bool(at) and lasts[at - 1] == number - 1
        joins_right = at < len(firsts) and firsts[at] == number + 1
        if joins_left and joins_right:
            lasts[at - 1] = lasts[at]
            del firsts[at], lasts[at]
        elif joins_left:
            lasts[at - 1] = number
        elif joins_right:
            firsts[at] = number
        else:
            firsts.insert(at, number)
            lasts.insert(at, number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return bool(at) and number <= self._lasts[at - 1]

    @property
    def upto(self) -> int:
        """The greatest number such that it and all below it are in; 0 when 1 is not."""
        return self._lasts[0] if self._firsts and self._firsts[0] == 1 else 0

    @property
    def above(self) -> list[tuple[int, int]]:
        """The ranges (first, last) beyond `upto`, in order."""
        skip = 1 if self.upto else 0
        return list(zip(self._firsts[skip:], self._lasts[skip:], strict=True))
