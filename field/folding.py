"""Chinese text on a terminal: how wide it is, and where a line of it may end."""

import re
from collections.abc import Iterable, Iterator
from unicodedata import east_asian_width

_WORD = re.compile(r"\s+|（?(?:[!-~]+|[^\s!-~])[，。；：、？！）」]*")
"""What stays together: a word of ASCII, or one character, with the punctuation that may not begin or end a line."""
_JOINS = "，。；：、？！（）「」"
"""Punctuation beside which no space stands, whatever is there."""


def cells(text: str) -> int:
    """Columns of the terminal that a text takes: two for a Chinese character."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they stand in a file put together again: a sentence or a heading ends one, and so does an empty line."""
    whole = ""
    for line in map(str.strip, lines):
        if not line or not whole or whole.endswith(("。", "：")):
            if whole:
                yield whole
            if not line:
                yield ""
            whole = line
        else:
            ends = whole[-1] + line[0]
            whole += line if cells(ends) == 4 or set(ends) & set(_JOINS) else f" {line}"
    if whole:
        yield whole


def folded(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most so many columns; only a word that is longer is not broken."""
    line = ""
    for piece in _WORD.findall(text):
        if line and cells(line) + cells(piece.rstrip()) > width:
            yield line.rstrip()
            line = ""
        line += piece if line else piece.lstrip()
    yield line.rstrip()
