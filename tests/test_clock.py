"""When the gateway's time is trusted."""

import pytest

from gateway.clock import FLOOR_STEP_MS, Clock, kernel_synchronised

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("trust", "synchronised", "floor", "trusted"),
    [
        ("always", False, 0, True),
        ("always", False, NOW + 1, True),
        ("kernel", True, 0, True),
        ("kernel", True, NOW, True),
        ("kernel", False, 0, False),
        ("kernel", True, NOW + 1, False),  # the battery died, and the clock began again in the past
    ],
)
def test_time_is_trusted_when_the_kernel_vouches_and_it_is_not_below_the_floor(
    trust: str, synchronised: bool, floor: int, trusted: bool
) -> None:
    clock = Clock(trust, now_ms=lambda: NOW, floor=floor, synchronised=lambda: synchronised)  # type: ignore[arg-type]
    assert clock.trusted() is trusted
    assert bool(clock.reason) is not trusted


def test_the_kernel_answers_the_question() -> None:
    assert kernel_synchronised() in (True, False)


def test_the_floor_moves_only_with_trusted_time_and_in_steps() -> None:
    now = NOW
    sure = False
    clock = Clock("kernel", now_ms=lambda: now, floor=NOW, synchronised=lambda: sure)
    assert clock.floor_moved() is None
    now += FLOOR_STEP_MS
    assert clock.floor_moved() is None
    sure = True
    assert clock.floor_moved() == now
    assert clock.floor_moved() is None


def test_a_way_of_trust_that_is_not_built_is_refused() -> None:
    with pytest.raises(ValueError, match="chrony"):
        Clock("chrony", now_ms=lambda: NOW)


def test_a_clock_that_was_right_is_trusted_while_its_servers_are_away_but_not_below_the_floor() -> None:
    sure = True
    now = NOW
    clock = Clock("kernel", now_ms=lambda: now, floor=NOW, synchronised=lambda: sure)
    assert clock.trusted()
    sure = False
    assert clock.trusted()
    now -= 1
    assert not clock.trusted()


def test_a_kernel_that_must_not_be_asked_vouches_for_nothing() -> None:
    def forbidden() -> bool:
        raise PermissionError(1, "adjtimex: Operation not permitted")

    clock = Clock("kernel", now_ms=lambda: NOW, synchronised=forbidden)
    assert not clock.trusted()
    assert "adjtimex" in clock.reason
