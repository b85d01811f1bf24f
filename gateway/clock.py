"""Is the gateway's time to be trusted? While it is not, nothing is scheduled (see docs/decisions/001).

With `clock.trust = centre` it is the centre's time, heard in the reply to each hello: this machine's clock, which may
be wrong by years, and what it is off by. That is a lower trust than the kernel's word (see docs/decisions/063).
"""

import ctypes
import errno
import logging
import os
import subprocess
from collections.abc import Callable

from config.model import ClockTrust

log = logging.getLogger(__name__)

STA_UNSYNC = 0x0040
"""Status bit of adjtimex(2): the clock is not synchronised."""
TIME_ERROR = 5
"""Return value of adjtimex(2): the same, as seen by ntp_adjtime."""
CENTRE_OFF_MS_MAX = 2_000
"""The centre's time is taken anew when ours differs by more: less than that is spent on the way."""
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


CHRONYC_S = 0.5
"""How long chronyd may take to answer; the process waits for it, once a second until time is trusted."""
_FOLLOWING = ("Normal", "Insert second", "Delete second")
"""What stands last in a line of `chronyc -c tracking` (leap status) while chronyd is synchronised; the fourth is
"Not synchronised" (chronyc(1), chrony 4.3)."""
_SAID_OF = {"kernel": "the kernel's clock", "chrony": "chronyd"}


def kernel_synchronised() -> bool:
    """Whether the kernel says that its clock is disciplined (NTP, PTP, GNSS). Raises OSError where it cannot say."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    state: int = libc.adjtimex(ctypes.byref(timex))
    if state == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"adjtimex: {os.strerror(code)}")
    return state != TIME_ERROR and not timex.status & STA_UNSYNC


def chrony_synchronised() -> bool:
    """Whether chronyd says that it follows its servers: it leaves the kernel's mark alone unless told `rtcsync`.

    Asked by its own client. Raises OSError where that is not installed, or chronyd does not answer it.
    """
    try:
        told = subprocess.run(
            ["chronyc", "-c", "tracking"], capture_output=True, text=True, timeout=CHRONYC_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"chronyc: no answer within {CHRONYC_S} s") from error
    if told.returncode:
        raise OSError(errno.ECONNREFUSED, f"chronyc: {told.stdout.strip() or told.stderr.strip()}")
    return told.stdout.strip().rpartition(",")[2] in _FOLLOWING


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
        synchronised: Callable[[], bool] | None = None,
    ) -> None:
        self.source: ClockTrust = trust
        """Whose word is taken for the time."""
        self.off_ms = 0
        """What is added to this machine's clock; 0 unless the centre is believed."""
        self._own_ms = now_ms
        self._synchronised = synchronised or (chrony_synchronised if trust == "chrony" else kernel_synchronised)
        self._vouched = False
        self.floor = floor
        self.reason = ""
        """Why time is not trusted, for people; empty while it is."""

    def now_ms(self) -> int:
        """The time, in UTC milliseconds."""
        return self._own_ms() + self.off_ms

    def heard(self, centre_ms: int) -> None:
        """The centre says, just now and in answer to us, that this is the time. Taken only where it is to be believed.

        A time below the floor is an old answer that is played again, or a centre whose own clock is wrong.
        """
        if self.source != "centre" or centre_ms < self.floor:
            return
        off_ms = centre_ms - self._own_ms()
        if not self._vouched or abs(off_ms - self.off_ms) > CENTRE_OFF_MS_MAX:
            log.info("time taken from the centre off_ms=%d before=%d", off_ms, self.off_ms)
            self.off_ms = off_ms
        self._vouched = True

    def trusted(self) -> bool:
        """Whether time is to be trusted now. `reason` says why not.

        The word of kernel or chronyd is asked for once in a run: a clock that was right and then hears from no server
        for some hours drifts by seconds, while a gateway that stopped reading for it would lose days.
        """
        now = self.now_ms()
        if self.source == "always":
            self.reason = ""
        elif self.source == "centre" and not self._vouched:
            self.reason = "the centre has not told the time yet"
        elif now < self.floor:
            self.reason = f"the clock says {now} ms, but it was {self.floor} ms already"
        elif not self._vouched:
            self.reason = self._ask()
            self._vouched = not self.reason
        else:
            self.reason = ""
        return not self.reason

    def _ask(self) -> str:
        try:
            return "" if self._synchronised() else f"{_SAID_OF[self.source]} is not synchronised"
        except OSError as error:  # a sandbox that forbids the question, or nobody to ask
            return str(error)

    def floor_moved(self) -> int | None:
        """A new floor to store, when time is trusted and has moved on far enough since the last one; else None."""
        now = self.now_ms()
        if now - self.floor < FLOOR_STEP_MS or not self.trusted():
            return None
        self.floor = now
        return now
