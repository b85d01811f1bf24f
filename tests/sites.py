"""Sites as their files tell them: simulated ones for `meterwire sim`, bus after bus, and one for a gateway."""

import json
from pathlib import Path

GATEWAY = """\
[gateway]
id = "gw-1"
[clock]
trust = "always"
[store]
path = "store"
[keys]
path = "keys"
[status]
socket = "s.sock"
[uplink]
url = "mqtt://127.0.0.1:1"
[[bus]]
name = "b1"
port = "/dev/ttyNONE"
[[task]]
name = "curve"
every = "15m"
items = ["voltage.a"]
"""
"""A gateway with one bus that cannot be opened and one task; no broker listens."""
HEAD = "meter,bus,address,profile,protocol\n"
METER = "m1,b1,000000000001,dlt645-2007-3p,dlt645-2007\n"


def gateway(directory: Path, *rows: str, site: str = GATEWAY) -> Path:
    """Write a gateway's two files, its meters as rows (by default METER); the path of `site.toml`."""
    (directory / "meters.csv").write_text("".join([HEAD, *(rows or (METER,))]), encoding="utf-8")
    file = directory / "site.toml"
    file.write_text(site, encoding="utf-8")
    return file


def bus(name: str, kind: str, *meters: str, **keys: str) -> str:
    """A simulated bus with its meters. keys: of docs/sim.md, each with its value."""
    return _table("bus", name=name, kind=kind, **keys) + "".join(meters)


def meters(profile: str, address: str, **keys: str | int | bool) -> str:
    """One meter of a simulated bus, or `count` of them from this address on."""
    return _table("bus.meters", profile=profile, address=address, **keys)


def _table(head: str, **keys: str | int | bool) -> str:
    return "\n".join([f"[[{head}]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), "\n"])
