"""A centre that was restored from a backup: it notices what it no longer has, and asks the gateways for it again.

A gateway says in its hello up to which number of its epoch all is settled, and only the centre's receipts settle. What
is missing below that number was committed once, and is gone: the gateway does not offer it any more, but keeps it as
history. It is asked to send again what it has accepted since the last that is known here, and when it answers that this
is done (sealed anew, under new numbers, to be settled like any other), the numbers that are lost are closed.
"""

import json
import logging
from collections.abc import Callable

from central.epochs import epoch_state
from central.sinks.asked import Asked
from central.sinks.base import Sink
from identity.centre import Centre
from protocols.messages import Hello, Reply, Request

log = logging.getLogger("central")

ACTION = "send_again"
LASTS_MS = 900_000
"""How long the gateway may take to obey; after that it is asked anew."""
PATIENCE_MS = 3_600_000
"""Until a gateway that cannot do it is asked again."""
RECENT_MS = 14 * 86_400_000
"""Epochs whose last batch came at most so long before the newest one of the gateway may have been unfinished when the
backup was made."""
MARGIN_MS = 86_400_000
"""So much more is asked for: what had been voided before, and sealed again later, is older than its neighbours."""


class Restored:
    """Asks for what is lost. Any call may raise SinkAway."""

    def __init__(
        self, sink: Sink, *, centre: Centre, now_ms: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        self._sink = sink
        self._centre = centre
        self._now_ms = now_ms
        self._random = random
        self._waiting: dict[str, tuple[Hello, int]] = {}
        """The hello of each gateway that has not answered, and when to ask it anew; each hello begins this again."""

    def notice(self, hello: Hello) -> tuple[str, bytes] | None:
        """What the gateway is to be sent, if it has settled what is not here and has not been asked yet."""
        gateway, epoch, upto = hello.gateway, hello.epoch, hello.first_unsettled - 1
        closed = epoch_state(self._sink, gateway, epoch).closed
        if closed.upto >= upto:
            self._waiting.pop(gateway, None)
            return None
        now = self._now_ms()
        last = self._sink.last_asked(gateway, ACTION)
        again_at = 0
        if last is not None and last.lost != "[]" and last.status != "done":
            again_at = last.expires_at if last.status is None else (last.replied_at or 0) + PATIENCE_MS
        self._waiting[gateway] = hello, max(again_at, now + LASTS_MS)
        if now < again_at:
            return None
        since = self._since(gateway)
        log.error(
            "gateway=%s epoch=%d: numbers up to %d are settled and not all here (%d are): restored from a backup?"
            " asking for everything since %d again", gateway, epoch, upto, closed.upto, since,
        )  # fmt: skip
        request = Request(
            gateway=gateway, request=self._random(16), action=ACTION, sent_at=now, expires_at=now + LASTS_MS,
            arguments={"since": since, "until": max(now, hello.sent_at) + MARGIN_MS},
        )  # fmt: skip
        self._sink.ask(request, lost=json.dumps([[epoch, upto]]))
        return self._centre.says(request)

    def remind(self, gateway: str) -> tuple[str, bytes] | None:
        """The same for a gateway that has said something else meanwhile, and was asked too long ago."""
        hello, again_at = self._waiting.get(gateway, (None, 0))
        return None if hello is None or self._now_ms() < again_at else self.notice(hello)

    def replied(self, reply: Reply, asked: Asked) -> tuple[int, ...]:
        """The gateway has answered. If it sends all again, what is lost is closed: the epochs that this concerns."""
        if asked.action != ACTION or reply.status != "done":
            return ()
        epochs = []
        for epoch, upto in json.loads(asked.lost):
            self._sink.mark(reply.gateway, epoch, upto)
            epochs.append(epoch)
        self._waiting.pop(reply.gateway, None)
        return tuple(epochs)

    def _since(self, gateway: str) -> int:
        """From when on the gateway may have accepted what is not here (UTC ms); 0 where nothing at all is."""
        found = []
        epochs = self._sink.landed_epochs(gateway)
        newest = max((received_at for _, received_at in epochs), default=0)
        for epoch, received_at in epochs:
            if received_at >= newest - RECENT_MS:
                upto = epoch_state(self._sink, gateway, epoch).closed.upto
                found.append(self._sink.oldest_record(gateway, epoch, upto))
        return max(0, min(found, default=0) - MARGIN_MS)
