"""What holds for every test: real parts as fixtures, and no skip or substitution that nobody sees."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import broker, certificates, mosquitto, tls_broker
from tests.postgres import postgres, postgres_cluster
from tests.real_disk import real_disks
from tests.substitution import SUBSTITUTED, substituted

__all__ = [
    "broker", "certificates", "mosquitto", "postgres", "postgres_cluster", "real_disks", "substituted", "tls_broker",
]  # fmt: skip

NO_SKIP = os.environ.get("MW_NO_SKIP") == "1"

# A busy machine is no finding: what must be quick is held against processor time, by tests of its own.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a quarter of a second of work")
    config.stash[SUBSTITUTED] = []
    os.environ.pop("COLUMNS", None)  # what is printed does not depend on the terminal of whoever runs the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the whole take longest. They come first, so that processes which share the tests end together."""
    items.sort(key=lambda item: "whole" not in item.path.parts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes that share the tests tells the first of what stood in."""
    told: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["substituted"] = session.config.stash[SUBSTITUTED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a process told when it ended; nothing, if it was killed."""
    told = getattr(node, "workeroutput", {})
    node.config.stash[SUBSTITUTED] += [tuple(one) for one in told.get("substituted", ())]


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With MW_NO_SKIP=1 a skip is a failure; an expected failure (xfail) is not a skip."""
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"MW_NO_SKIP=1: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse(report)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    stood_in = config.stash[SUBSTITUTED]
    if stood_in:
        terminalreporter.section("substituted")
        for test, part, stand_in in stood_in:
            terminalreporter.line(f"{test}: {stand_in} instead of {part}")
        terminalreporter.line(f"substituted: {len(stood_in)}")
