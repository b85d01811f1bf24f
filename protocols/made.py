"""Frozen dataclasses made in half of the time, on paths where what they check is known to hold."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def maker(cls: type[T]) -> Callable[..., T]:
    """A function that makes one of the values of all its fields, in their order: nothing is checked (no __post_init__)
    and nothing has a default. For frozen dataclasses with slots, whose own way in goes by name and checks each field.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    scope: dict[str, Any] = {f"set_{name}": getattr(cls, name).__set__ for name in names}
    scope |= {"new": object.__new__, "cls": cls}
    sets = "".join(f"    set_{name}(made, {name})\n" for name in names)
    exec(f"def make({', '.join(names)}):\n    made = new(cls)\n{sets}    return made\n", scope)  # as dataclasses do
    make: Callable[..., T] = scope["make"]
    return make
