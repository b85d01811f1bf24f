"""What a test does when a Debian package that it needs is not there: say so, and never quietly."""

import os
from collections.abc import Callable

import pytest

SUBSTITUTED: pytest.StashKey[list[tuple[str, str, str]]] = pytest.StashKey()
"""(test, part, what stood in for it): counted at the end of the run, not skipped."""

Substituted = Callable[[str, str], None]


def required_as_root(package: str) -> None:
    """Root can install a Debian package: there neither a stand-in nor a skip will do."""
    if os.geteuid() == 0:
        pytest.fail(f"{package} is not installed: apt-get install {package} (deploy/test-packages does)", pytrace=False)


@pytest.fixture(scope="session")
def substituted(request: pytest.FixtureRequest) -> Substituted:
    """Call it as substituted(part, stand_in) when something stands in for the real part."""

    def note(part: str, stand_in: str) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
        request.config.stash[SUBSTITUTED].append((test, part, stand_in))

    return note
