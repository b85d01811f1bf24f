"""Asking a gateway something and waiting for its answer: read a meter now, send a span of time again.

A request is signed by the centre, has an id of its own and an end; it is kept in the table `request`, where a worker
may be the one that notes the answer. What was read on request also lands by itself, like every reading.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty

from central.config import CentralSite
from central.connection import BrokerAway, Talk, Version, tls_context
from central.keys import Keys
from central.sinks.base import Sink
from identity.centre import Centre, GatewayTrust
from protocols import batch, envelope
from protocols.capture import Capture
from protocols.errors import Malformed
from protocols.messages import Reply, Request, topic, verified

LASTS_MS = 60_000
"""How long the gateway may take it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the gateway said; captures: what it has read for the request."""

    reply: Reply
    captures: tuple[Capture, ...]
    seconds: float
    """From the request to the answer."""


def ask(
    site: CentralSite, sink: Sink, *, centre: Centre, gateways: GatewayTrust, gateway: str, action: str,
    arguments: Mapping[str, str | int], wait_s: float, now_ms: Callable[[], int], random: Callable[[int], bytes],
) -> Answer | None:  # fmt: skip
    """The gateway's answer; None when none came in time. Raises BrokerAway, SinkAway, and OSError for TLS files."""
    now = now_ms()
    request = Request(
        gateway=gateway, request=random(16), action=action, arguments=arguments, sent_at=now,
        expires_at=now + max(LASTS_MS, round(wait_s * 1000)),
    )  # fmt: skip
    tls = tls_context(site.broker)
    client_id = f"{site.broker.client_id}-request-{request.request.hex()[:16]}"
    with ExitStack() as stack:
        try:
            talk = stack.enter_context(Talk(site.broker, tls, Version.MQTTv5, client_id))
        except BrokerAway:
            talk = stack.enter_context(Talk(site.broker, tls, Version.MQTTv311, client_id))
        talk.subscribe(topic(gateway, "up", "reply"))
        sink.ask(request)
        began = time.monotonic()
        talk.publish(*centre.says(request))
        while (left := began + wait_s - time.monotonic()) > 0:
            try:
                _, payload = talk.messages.get(timeout=left)
                reply = verified(Reply, payload, gateway=gateway, verify=gateways.verifier(gateway))
            except (Empty, Malformed):
                continue
            if reply.request == request.request:
                sink.answered(gateway, reply.request, status=reply.status, detail=reply.detail, at=now_ms())
                keys = Keys(sink, centre=centre, gateways=gateways)
                return Answer(reply=reply, captures=_opened(reply, keys), seconds=time.monotonic() - began)
    return None


def _opened(reply: Reply, keys: Keys) -> tuple[Capture, ...]:
    """What is sealed in the reply; nothing where its key is not here yet: it lands all the same."""
    if not reply.sealed:
        return ()
    try:
        data_key = keys.get(reply.gateway, envelope.header(reply.sealed).kid)
        if data_key is None:
            return ()
        body = envelope.open(reply.sealed, data_key=data_key, gateway=reply.gateway).body
        return tuple(record for record in batch.decode(body) if isinstance(record, Capture))
    except Malformed:
        return ()
