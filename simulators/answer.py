"""What a meter gives back for a question that it heard."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply on the wire, and what it says: values by name of the quantity, as the registers showed them."""

    data: bytes
    values: dict[str, str]
