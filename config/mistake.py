"""What is wrong with a configuration, said so that an engineer can put it right; and all of it at once."""

from collections.abc import Iterable
from dataclasses import dataclass


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
