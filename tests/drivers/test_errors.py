"""How noisy a bus is taken to be, and what follows from it: each rule by itself."""

from math import exp

import pytest

from drivers.errors import ATTEMPTS_MAX, FAILED_MAX, MEMORY_BYTES, WHOLE_MIN, ErrorEstimate

USUAL = 3


def noisy(damaged: int, *, size: int = 40) -> ErrorEstimate:
    """A line on which so many answers of that size came damaged."""
    errors = ErrorEstimate()
    for _ in range(damaged):
        errors.damaged(size)
    return errors


def test_a_line_on_which_nothing_was_damaged_has_no_noise() -> None:
    errors = noisy(0)
    errors.whole(1000)
    assert errors.per_byte == 0.0 and errors.quiet
    assert not errors.too_long(10**9) and errors.attempts(256, USUAL) == USUAL


def test_one_damaged_answer_is_no_noise_yet_and_a_few_are() -> None:
    assert noisy(1).quiet and noisy(1).attempts(256, USUAL) == USUAL
    assert not noisy(5).quiet and noisy(5).attempts(256, USUAL) > USUAL


def test_noise_never_makes_for_fewer_attempts_than_usual_and_never_for_more_than_eight() -> None:
    assert noisy(5).attempts(10, USUAL) == USUAL
    assert noisy(1000).attempts(256, USUAL) == ATTEMPTS_MAX == 8
    assert noisy(1000).attempts(256, 10) == 10


@pytest.mark.parametrize("size", [20, 60, 120])
def test_the_attempts_at_a_question_hardly_ever_all_fail_and_one_less_would_not_do(size: int) -> None:
    errors = noisy(40)
    fails = 1.0 - exp(-errors.per_byte * size)
    attempts = errors.attempts(size, 1)
    assert 1 < attempts < ATTEMPTS_MAX
    assert fails**attempts <= FAILED_MAX < fails ** (attempts - 1)


def test_what_would_come_whole_too_seldom_is_too_long() -> None:
    errors = noisy(60)
    longest = max(size for size in range(1000) if not errors.too_long(size))
    assert exp(-errors.per_byte * longest) >= WHOLE_MIN
    assert exp(-errors.per_byte * (longest + 1)) < WHOLE_MIN
    assert 50 < longest < 256


def test_noise_that_is_over_is_forgotten_with_what_is_heard_since() -> None:
    errors = noisy(40)
    noise = errors.per_byte
    for _ in range(MEMORY_BYTES // 40):
        errors.whole(40)
    assert 0.3 * noise < errors.per_byte < 0.4 * noise
    for _ in range(5 * MEMORY_BYTES // 40):
        errors.whole(40)
    assert errors.quiet
