"""What a meter gives back for a question that it heard."""

from dataclasses import dataclass
from typing import Literal

Holes = Literal["zero", "refuse", "mute"]
"""What a meter says to a read in one piece of more than it has in one piece, Modbus registers between its items or a
DL/T 645 block. zero: it gives zeros, and blocks. refuse: it says so. mute: nothing, as to all else that it lacks."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply on the wire, and what it says: values by name of the quantity, as the registers showed them."""

    data: bytes
    values: dict[str, str]
