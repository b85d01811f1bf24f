"""A site for `meterwire sim`, as its file tells it: buses one after the other, each with the meters on it."""

import json


def bus(name: str, kind: str, *meters: str, **keys: str) -> str:
    """A bus with its meters. keys: of docs/sim.md, each with its value."""
    return _table("bus", name=name, kind=kind, **keys) + "".join(meters)


def meters(profile: str, address: str, **keys: str | int | bool) -> str:
    """One meter of a bus, or `count` of them from this address on."""
    return _table("bus.meters", profile=profile, address=address, **keys)


def _table(head: str, **keys: str | int | bool) -> str:
    return "\n".join([f"[[{head}]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), "\n"])
