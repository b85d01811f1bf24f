"""Fuzzed buses: whatever goes wrong, no wrong value is taken for a good one; and the judge would see one."""

import pytest

from tests.faults.campaign import FAMILIES, Family, campaign, over_tcp

EXCHANGES = 100_000
STRUCK = {"foreign", "late", "other", "pause", "silent", "truncate", "twice"}
STRUCK_SERIAL = STRUCK | {"babble", "collision", "glitch", "tail", "questions disturbed"}
STRUCK_TCP = STRUCK | {"damaged", "busy"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_no_wrong_value_is_taken_for_a_good_one_in_a_hundred_thousand_fuzzed_exchanges(family: Family) -> None:
    verdict = campaign(family, 1, EXCHANGES)
    print(verdict)
    assert verdict.exchanges >= EXCHANGES
    assert verdict.wrong_detectable == 0, verdict.examples
    assert verdict.wrong_billing == 0, verdict.examples
    assert verdict.passed, (str(verdict), verdict.examples)
    assert verdict.good > EXCHANGES / 2
    assert verdict.billing > EXCHANGES / 50
    struck = STRUCK_TCP if over_tcp(family) else STRUCK_SERIAL
    assert all(verdict.struck[fault] > EXCHANGES / 1000 for fault in struck), verdict.struck


@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_checks_switched_off_the_campaign_sees_wrong_values(family: Family) -> None:
    verdict = campaign(family, 2, 6_000, checks=False)
    assert not verdict.passed
    assert verdict.wrong_detectable > 10


def test_the_same_seed_tells_the_same_story() -> None:
    one, other = campaign("dlt645", 7, 1_500), campaign("dlt645", 7, 1_500)
    assert (str(one), one.struck) == (str(other), other.struck)
