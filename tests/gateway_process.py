"""`meterwire` with one change to its gateway, for the controls of destructive tests: `gateway_process.py CHANGE ...`.

A control has to lose data where the real gateway loses nothing.
"""

import sys
from functools import partial

import buffer.sqlite
import gateway.daemon
from field.main import main


def settle_on_puback() -> None:
    """Batches are settled when the broker has taken them, as other gateways do."""
    vars(gateway.daemon)["Daemon"] = partial(gateway.daemon.Daemon, settle_on="puback")


def sync_normal() -> None:
    """The store syncs at checkpoints only, as SQLite's handbooks advise for speed."""
    defaults = buffer.sqlite.open_store.__kwdefaults__
    assert defaults is not None and defaults["synchronous"] == "FULL"
    defaults["synchronous"] = "NORMAL"


CHANGES = {change.__name__: change for change in (settle_on_puback, sync_normal)}

if __name__ == "__main__":
    CHANGES[sys.argv.pop(1)]()
    main()
