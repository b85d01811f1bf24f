"""Every codec against bytes that nobody promised anything about: `python -m tests.fuzz --minutes N`, or `make fuzz`.

Goes on where the last run stopped. A seed stands for so many inputs: valid ones damaged, most with lengths, checksums,
seals and signatures mended, so that the damage gets far. What may come of one is a result that holds together, or a
ProtocolError: any other exception, more than 50 ms of processor time or 32 MiB of memory is a finding.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

from tests import fuzz_centre, fuzz_wire
from tests.fuzzing import Make, Stage, campaign
from tests.ledger import Campaign, main


def _plainly(make: Make) -> Stage:
    return lambda: nullcontext(make)


STAGES: Mapping[str, tuple[Stage, int]] = {
    "dlt645": (_plainly(fuzz_wire.dlt645_stream), 20_000),
    "modbus-rtu": (_plainly(fuzz_wire.modbus_rtu), 20_000),
    "modbus-tcp": (_plainly(fuzz_wire.modbus_tcp), 20_000),
    "dialogue": (_plainly(fuzz_wire.dialogue), 5_000),
    "row": (_plainly(fuzz_centre.row), 20_000),
    "body": (_plainly(fuzz_centre.body), 5_000),
    "sealed": (_plainly(fuzz_centre.sealed), 50_000),
    "signed": (_plainly(fuzz_centre.signed_message), 50_000),
    "message": (_plainly(fuzz_centre.message), 100_000),
    "landing": (fuzz_centre.landing, 4_000),
}
"""What makes the inputs, and how many of them a seed stands for: some seconds each."""

CAMPAIGNS: Mapping[str, Campaign] = {
    name: partial(campaign, stage=stage, inputs=inputs) for name, (stage, inputs) in STAGES.items()
}

if __name__ == "__main__":
    logging.disable()  # the landing would report each of thousands
    sys.exit(main("tests.fuzz", CAMPAIGNS))
