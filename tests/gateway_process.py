"""`meterwire` with the one change that its gateway settles a batch at the broker's PUBACK, as other gateways do.

The control of the kill tests: it has to lose data where the real one loses nothing.
"""

from functools import partial

import gateway.daemon
from field.main import main

if __name__ == "__main__":
    vars(gateway.daemon)["Daemon"] = partial(gateway.daemon.Daemon, settle_on="puback")
    main()
