"""Frozen dataclasses made past their checks are what they would be otherwise, and as frozen."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from decimal import Decimal
from typing import Any, Generic, TypeVar

import pytest

from protocols.capture import Value, measured, stated
from protocols.dialogue import Ask, Reply, make_ask, make_reply
from protocols.made import maker
from protocols.quantity import by_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Even(Generic[T]):
    """Checks what it is made of."""

    half: int
    whole: int
    name: str = "even"
    about: T | None = None

    def __post_init__(self) -> None:
        if self.whole != 2 * self.half:
            raise ValueError(f"{self.whole} is not twice {self.half}")


make_even = maker(Even, "half", "whole")


def test_what_is_made_is_equal_to_what_the_class_makes() -> None:
    made = make_even(2, 4)
    own: Even[Any] = Even(half=2, whole=4)
    assert made == own
    assert hash(made) == hash(own)
    assert repr(made) == repr(own)
    assert type(made) is type(own) is Even


def test_it_is_as_frozen_and_is_copied_and_pickled_like_any_other() -> None:
    made = make_even(2, 4)
    with pytest.raises(FrozenInstanceError):
        made.half = 3  # type: ignore[misc]
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        made.other = 3  # type: ignore[attr-defined]
    assert replace(made, name="four").name == "four"
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made  # our own bytes


def test_nothing_is_checked_which_is_for_the_caller_to_know() -> None:
    assert make_even(2, 5).whole == 5
    with pytest.raises(ValueError, match="not twice"):
        Even(half=2, whole=5)


def test_fields_that_there_are_not_and_fields_without_a_value_are_told() -> None:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        some: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="third"):
        maker(Even, "half", "whole", "third")
    with pytest.raises(TypeError, match="half, whole"):
        maker(Even, "half")
    with pytest.raises(TypeError, match="some"):
        maker(Fresh)
    assert maker(Fresh, "some")([1]) == Fresh(some=[1])


def test_the_words_of_a_read_are_those_that_their_classes_make() -> None:
    energy, clock = by_name("energy.reactive.import.total"), by_name("clock.date")
    assert measured(energy, Decimal("12.34")) == Value(quantity=energy, number=Decimal("12.34"))
    assert stated(clock, "2026-01-01", None) == Value(quantity=clock, time="2026-01-01")
    assert stated(clock, None, "unknown") == Value(quantity=clock, text="unknown")
    assert make_reply(b"frame", 1, 2) == Reply(frame=b"frame", sent_at=1, ended_at=2)
    assert make_ask(b"?", 9, bool, 0.5, None, True, ()) == Ask(
        data=b"?", reply_max=9, accepts=bool, pause_s=0.5, divisible=True
    )  # fmt: skip
