"""What is wrong with a configuration, said so that an engineer can put it right; and all of it at once."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

NEAR_MAX = 3
"""Names that are told where a wrong one is like them."""
_NEAR_MIN = 0.7
"""How like: 1 is the same. `voltage.z` is 0.89 like `voltage.a`."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a configuration file.

    file: the file as the engineer knows it. where: the key (`bus[2].serial`) or the row (`row 17, address`).
    expected and got: what should stand there, and what does.
    """

    file: str
    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: expected {self.expected}, got {self.got}"


class ConfigError(Exception):
    """The configuration cannot be used. `mistakes` holds every mistake that was found."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        assert self.mistakes, "a ConfigError names at least one mistake"
        super().__init__("\n".join(map(str, self.mistakes)))


def near(wrong: str, names: Collection[str]) -> str:
    """`, such as A, B` with the names that a wrong one is like, the likest first, or that it begins; or nothing."""
    from difflib import SequenceMatcher, get_close_matches  # only once something is wrong

    lower = wrong.lower()
    like = get_close_matches(lower, names, NEAR_MAX, _NEAR_MIN)
    like.sort(key=lambda name: (-SequenceMatcher(a=name, b=lower).ratio(), name))
    like = like or [name for name in names if name.startswith(f"{lower}.")][:NEAR_MAX]
    return f", such as {', '.join(like)}" if like else ""
