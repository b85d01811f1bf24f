"""When a hello is said, and what: where the gateway stands, and which numbers will never come. Times are loop time."""

from collections.abc import Callable, Sequence

from buffer.errors import StoreAway
from buffer.outbox import VOIDED_MAX, Outbox
from buffer.words import Settled
from gateway.offers import EARLY_S
from identity.files import IdentityError
from identity.gateway import GatewayIdentity
from protocols.messages import HELLO_BYTES_MAX, VOIDED_BYTES_MAX, Hello, Receipt, signed

AGAIN_S = 900.0
"""Between two hellos of a session but for the first, and but for one that goes on where the last was cut short. A
centre asks for what it has lost as seldom."""
TIME_S_MAX = 10.0
"""The first receipt after a hello tells the centre's time, unless it took longer than this."""


class Hellos:
    """Notes what makes a hello wanted, and makes it."""

    def __init__(self, outbox: Outbox, *, identity: GatewayIdentity, now_ms: Callable[[], int]) -> None:
        self._outbox = outbox
        self._identity = identity
        self._now_ms = now_ms
        self._given_up = False
        """Whether batches were given up since the last hello: it closes their numbers at the centre."""
        self._cut_short = False
        """Whether the last one did not tell all such numbers, there being too many."""
        self._centre_behind = False
        """Whether the latest receipt says less than what was settled, as of a database that was restored from a backup:
        the hello shows the centre what it has lost."""
        self._said_at: float | None = None
        """When the hello was said that has no answer yet."""
        self._again_at = 0.0

    def begin(self) -> None:
        """A session begins."""
        self._again_at = 0.0
        self._centre_behind = False

    def given_up(self, *, any_were: bool) -> None:
        """Whether batches were given up just now."""
        self._given_up |= any_were

    def receipted(self, receipt: Receipt) -> None:
        """What a receipt says of its epoch, once it has been acted on."""
        if receipt.epoch == self._outbox.epoch:
            self._centre_behind = max(receipt.contiguous_upto, 0) < self._outbox.first_unsettled - 1

    def settled(self, settled: Settled) -> None:
        """What a receipt did."""
        self.given_up(any_were=bool(settled.voided))
        if settled.passed and self._cut_short:  # the centre knows those that were told: the next ones
            self._again_at = 0.0

    def due_at(self) -> float | None:
        """From when on one may be said, where one is wanted."""
        return self._again_at if self._given_up or self._cut_short or self._centre_behind else None

    def due(self, now: float) -> bool:
        """Whether one is to be said now."""
        due_at = self.due_at()
        return due_at is not None and due_at <= now + EARLY_S

    def answered(self, now: float) -> bool:
        """A receipt came; whether it is so soon after a hello that its time is that of now."""
        said_at, self._said_at = self._said_at, None
        return said_at is not None and now - said_at <= TIME_S_MAX

    async def make(self, bytes_max: int, *, now: float, first: bool = False) -> bytes:
        """The hello of now, signed, and no longer than the broker carries. Raises OutboxError and IdentityError."""
        outbox = self._outbox
        most = min(VOIDED_MAX, max(1, (bytes_max - HELLO_BYTES_MAX) // VOIDED_BYTES_MAX))
        self._given_up = self._centre_behind = False  # what is so from now on may not be in this one
        try:
            voided, pending = await outbox.beside(lambda: (outbox.voided(most + 1), outbox.pending))
            message = self._signed(voided[:most], pending)
        except (StoreAway, IdentityError):
            self._given_up = True
            raise
        self._cut_short = len(voided) > most
        if first:
            self._said_at = now
        else:
            self._again_at = now + AGAIN_S
        return message

    def _signed(self, voided: Sequence[tuple[int, int]], pending: int) -> bytes:
        outbox = self._outbox
        hello = Hello(
            gateway=self._identity.gateway,
            epoch=outbox.epoch,
            first_unsettled=outbox.first_unsettled,
            next_seq=outbox.next_seq,
            voided=tuple(voided),
            pending=pending,
            oldest_at=outbox.unsealed().oldest_at,
            sent_at=self._now_ms(),
        )
        return signed(hello, kid=self._identity.kid, sign=self._identity.sign)
