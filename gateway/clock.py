"""Is the gateway's time to be trusted? While it is not, nothing is scheduled (see docs/decisions/001)."""

import ctypes
import os
from collections.abc import Callable

from config.model import ClockTrust

STA_UNSYNC = 0x0040
"""Status bit of adjtimex(2): the clock is not synchronised."""
TIME_ERROR = 5
"""Return value of adjtimex(2): the same, as seen by ntp_adjtime."""
FLOOR_STEP_MS = 600_000
"""How far time moves before the floor is stored again: what a dead clock battery may hide after a power cut."""


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as `status`; the rest is room for the kernel to write into."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_synchronised() -> bool:
    """Whether the kernel says that its clock is disciplined (NTP, PTP, GNSS). Raises OSError where it cannot say."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    state: int = libc.adjtimex(ctypes.byref(timex))
    if state == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"adjtimex: {os.strerror(code)}")
    return state != TIME_ERROR and not timex.status & STA_UNSYNC


class Clock:
    """Tells whether wall-clock time is trusted, and remembers a floor below which it cannot be right.

    floor: UTC milliseconds that an earlier run has seen while it trusted its clock; 0 when there was none.
    """

    def __init__(
        self,
        trust: ClockTrust,
        *,
        now_ms: Callable[[], int],
        floor: int = 0,
        synchronised: Callable[[], bool] = kernel_synchronised,
    ) -> None:
        if trust not in ("kernel", "always"):
            raise ValueError(f"expected clock.trust kernel or always, got {trust}")
        self._trust = trust
        self._now_ms = now_ms
        self._synchronised = synchronised
        self._vouched = False
        self.floor = floor
        self.reason = ""
        """Why time is not trusted, for people; empty while it is."""

    def trusted(self) -> bool:
        """Whether time is to be trusted now. `reason` says why not.

        The kernel's word is asked for once in a run: a clock that was right and then hears from no server for some
        hours drifts by seconds, while a gateway that stopped reading for it would lose days.
        """
        now = self._now_ms()
        if self._trust == "always":
            self.reason = ""
        elif now < self.floor:
            self.reason = f"the clock says {now} ms, but it was {self.floor} ms already"
        elif not self._vouched:
            self.reason = self._ask_kernel()
            self._vouched = not self.reason
        else:
            self.reason = ""
        return not self.reason

    def _ask_kernel(self) -> str:
        try:
            return "" if self._synchronised() else "the kernel's clock is not synchronised"
        except OSError as error:  # a sandbox that forbids the question
            return str(error)

    def floor_moved(self) -> int | None:
        """A new floor to store, when time is trusted and has moved on far enough since the last one; else None."""
        now = self._now_ms()
        if now - self.floor < FLOOR_STEP_MS or not self.trusted():
            return None
        self.floor = now
        return now
