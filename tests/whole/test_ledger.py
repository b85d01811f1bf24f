"""A campaign goes on where it stopped, and a seed that fails is told how to be repeated."""

from pathlib import Path

import pytest

from tests import soak
from tests.ledger import Campaign, Entry, Ledger, main, run


def entries(path: Path) -> list[tuple[str, int, str]]:
    return [(entry.name, entry.seed, entry.verdict.partition(":")[0]) for entry in Ledger(path).entries()]


def odd(seed: int) -> str:
    """One of two."""
    assert seed % 2, "an even seed"
    return f"saw {seed}"


def calm(seed: int) -> str:
    return ""


CAMPAIGNS: dict[str, Campaign] = {"odd": odd, "calm": calm}


def test_the_campaign_that_waited_longest_is_next_and_seeds_go_on(tmp_path: Path) -> None:
    path = tmp_path / "var" / "ledger.jsonl"
    assert [run(CAMPAIGNS, Ledger(path), minutes=0) for _ in range(5)] == [0, 0, 1, 0, 0]
    assert entries(path) == [
        ("odd", 1, "pass"), ("calm", 1, "pass"), ("odd", 2, "fail"), ("calm", 2, "pass"), ("odd", 3, "pass"),
    ]  # fmt: skip


def test_a_run_goes_through_campaigns_until_its_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    run(CAMPAIGNS, Ledger(path), minutes=0.001)
    assert {"odd", "calm"} <= {name for name, _, _ in entries(path)}


def test_a_seed_that_was_interrupted_comes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(seed: int) -> str:
        raise KeyboardInterrupt

    path = tmp_path / "ledger.jsonl"
    assert main("tests.some", {"calm": interrupted}, ["--ledger", str(path)]) == 1
    assert "comes again" in capsys.readouterr().err
    assert (entries(path), Ledger(path).next_seed("calm", 1)) == ([], 1)


def test_a_failed_seed_is_told_how_to_be_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    arguments = ["--only", "odd", "--seed", "4", "--ledger", str(path)]
    assert main("tests.some", CAMPAIGNS, arguments) == 1
    printed = capsys.readouterr()
    assert "odd, seed 4: One of two." in printed.out
    assert "fail: AssertionError: an even seed" in printed.out
    assert "python -m tests.some --only odd --seed 4" in printed.err
    assert main("tests.some", CAMPAIGNS, ["--only", "odd", "--minutes", "0", "--ledger", str(path)]) == 0
    assert entries(path) == [("odd", 4, "fail"), ("odd", 5, "pass")]


def test_a_seed_whose_line_was_cut_short_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    run({"calm": calm}, Ledger(path), minutes=0)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    run({"calm": calm}, Ledger(path), minutes=0)
    assert entries(path) == [("calm", 1, "pass"), ("calm", 2, "pass")]


def test_every_long_campaign_has_its_goal_and_says_what_it_is() -> None:
    assert soak.GOALS.keys() == soak.CAMPAIGNS.keys()
    assert soak.left_out().keys() <= soak.CAMPAIGNS.keys()
    told = soak.reached([Entry(name="crash", seed=1, seconds=9.0, verdict="pass")])
    assert "1,000 of 100,000 disk images" in told
    assert len(told.splitlines()) == len(soak.CAMPAIGNS) + 1
