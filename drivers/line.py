"""The bytes of one bus, whatever carries them: a tty, a TCP connection, or memory in tests and simulations."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from config.model import BusEntry, SerialSettings

ParityCheck = Literal["enforced", "unverified", "none"]
"""enforced: a byte with wrong parity never reaches us; unverified: parity was asked for but the driver does not show
that it checks; none: there is no parity here (8N1, TCP)."""


Receive = Callable[[bytes], float | None]
"""Takes bytes as they come, and may say for how many seconds no more of them are wanted: a line may then deliver
together what comes meanwhile, and need not."""


class PortLost(Exception):
    """The port cannot be opened, or went away: reopen it later. The message is for people."""


class PortBusy(PortLost):
    """Somebody else holds the port."""


class Line(Protocol):
    """Bytes out, bytes in, as they come. All calls are made from the loop's thread."""

    @property
    def parity(self) -> ParityCheck:
        """Whether bytes with wrong parity are kept from us, for the settings applied last."""
        ...

    def attach(self, receive: Receive, lost: Callable[[Exception], None]) -> None:
        """Deliver what arrives to `receive`, in order, in chunks of any size; call `lost` once when the line ends."""
        ...

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        """Begin to send, at once; never blocks. Raises PortLost when the line is gone.

        unwanted_s: for how long from now nothing that comes is wanted, as in Receive.
        """
        ...

    def apply(self, settings: SerialSettings) -> None:
        """Change how characters stand on the wire; called while nothing is being sent. TCP ignores it."""
        ...

    async def drained(self) -> None:
        """Returns when the last byte written has left, as far as can be told."""
        ...

    def close(self) -> None:
        """Let go of the line; may be called twice. `lost` is not called for it."""
        ...


OpenLine = Callable[[BusEntry], Awaitable[Line]]
"""Opens the line of a bus with the bus's own settings. Raises PortLost."""
