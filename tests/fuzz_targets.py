"""Every decoder that takes bytes from outside, by the names they are fuzzed under."""

from collections.abc import Mapping
from typing import Final

from tests import fuzz_centre, fuzz_config, fuzz_items, fuzz_wire
from tests.fuzzing import Target

TARGETS: Final[Mapping[str, Target]] = {
    **fuzz_wire.TARGETS, **fuzz_items.TARGETS, **fuzz_centre.TARGETS, **fuzz_config.TARGETS,
}  # fmt: skip
