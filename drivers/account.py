"""Where the milliseconds of a bus go."""

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """Milliseconds since the port was first open; each of them is in exactly one column.

    wire: characters of questions that were answered, and of their answers. turnaround: from the end of a question to
    the beginning of its answer (the meter's, and on real ports what our own code and the driver add to it). gaps: the
    silence that has to stand before a question (t3.5 for Modbus, the profile's `min_gap_ms` for DL/T 645), once an
    exchange and only up to that length. dead: time-outs, waiting out a late window, a closed port, and whatever we
    lose between two exchanges while there is work. idle: no work.
    """

    wire: float = 0.0
    turnaround: float = 0.0
    gaps: float = 0.0
    dead: float = 0.0
    idle: float = 0.0
    at: float = 0.0
    """Loop time (seconds) up to which the columns are kept."""

    @property
    def elapsed(self) -> float:
        """All columns together."""
        return self.wire + self.turnaround + self.gaps + self.dead + self.idle

    @property
    def utilisation(self) -> float:
        """(wire + gaps) / (elapsed - turnaround) of the time with work waiting; 1.0 before there was any."""
        used = self.wire + self.gaps
        worked = used + self.dead
        return used / worked if worked else 1.0

    def asked(self, *, began: float, ended: float, gap_s: float, wire_s: float | None) -> float:
        """An exchange from `began` to `ended` (loop time): wire_s of characters, or None when it was not answered.

        Returns the turnaround in seconds, 0 when it was not answered.
        """
        if began > self.at:
            before = began - self.at
            gap = min(before, gap_s)
            self.gaps += gap * 1000
            self.dead += (before - gap) * 1000
            self.at = began
        took = 0.0
        if ended > self.at:
            took, self.at = ended - self.at, ended
        if wire_s is None:
            self.dead += took * 1000
            return 0.0
        wire = min(took, wire_s)
        self.wire += wire * 1000
        self.turnaround += (took - wire) * 1000
        return took - wire

    def waited(self, until: float, *, work: bool) -> None:
        """Nothing was asked up to `until` (loop time), although there was work, or because there was none."""
        took = max(0.0, until - self.at) * 1000
        self.at = max(self.at, until)
        if work:
            self.dead += took
        else:
            self.idle += took
