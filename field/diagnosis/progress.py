"""How far a command is, on standard error, where a terminal is there to see it."""

import sys
from types import TracebackType

from field.output import Output


class Progress:
    """One line that is written over again and wiped at the end. A context manager."""

    def __init__(self, out: Output) -> None:
        self._shown = not out.as_json and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.tell("")

    def tell(self, text: str) -> None:
        """Write over what stood there."""
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
