"""From the start of `meterwire run` to the first reading that its store has accepted: at most 2 s."""

from collections.abc import Iterator

from bench.figure import Figure, took
from bench.rig import BUSES, METERS, rig

SECONDS_MAX = 2.0


def run(buses: int = BUSES, meters: int = METERS, tries: int = 3) -> Iterator[Figure]:
    """The best of three starts with an empty store; 0.3 s of each is the listening of a port that was just opened."""
    with rig(buses, meters) as made:
        found = []
        for _ in range(tries):
            found.append(made.start())
            made.gateway.end()
    yield took("start", f"{buses} buses by {meters} meters, first reading accepted", min(found), at_most=SECONDS_MAX,
               tries=[round(one, 3) for one in found], uplink=made.uplink)  # fmt: skip
