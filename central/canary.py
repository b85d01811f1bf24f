"""Whether the broker truly shares a subscription: tried, not asked. Some grant `$share` and then deliver nothing.

Two members join a group of their own, under a name that nobody else uses, and canaries are published to it: the broker
shares if each of them comes once, to one member or the other. NATS 2.9, RabbitMQ 3.10 and aedes grant the subscription
and deliver none; a broker that takes `$share` for no more than a prefix delivers each of them to both.
"""

import logging
import ssl
import time
from collections.abc import Callable
from queue import Empty

from central.config import BrokerEntry
from central.connection import BrokerAway, Talk, Version
from protocols.topics import PREFIX

log = logging.getLogger("central")

TOPIC = f"{PREFIX}/canary"
"""Above the canaries' topics: the centre must be allowed to publish and to read there."""
CANARIES = 8
WAIT_S_MAX = 3.0
"""For all canaries, and for a second copy of one of them."""
ECHO_S = 0.3
"""For a second copy, once all have come."""


def shares(broker: BrokerEntry, tls: ssl.SSLContext | None, version: Version, random: Callable[[int], bytes]) -> bool:
    """Whether a group gets each message once. Raises BrokerAway when the broker cannot be reached at all."""
    name = random(8).hex()
    topic = f"{TOPIC}/{name}"
    group = f"$share/canary-{name}/{topic}"
    with (
        Talk(broker, tls, version, f"{broker.client_id}-canary-{name}-1") as one,
        Talk(broker, tls, version, f"{broker.client_id}-canary-{name}-2") as other,
    ):
        try:
            for member in (one, other):
                member.subscribe(group)
            for number in range(CANARIES):
                one.publish(topic, bytes((number,)))
        except BrokerAway as error:
            log.warning("canary: %s", error)
            return False
        came: list[bytes] = []
        echo = False
        deadline = time.monotonic() + WAIT_S_MAX
        while (left := deadline - time.monotonic()) > 0:
            for member in (one, other):
                try:
                    came.append(member.messages.get(timeout=min(left, 0.02))[1])
                except Empty:
                    continue
            if len(came) >= CANARIES and not echo:
                deadline, echo = min(deadline, time.monotonic() + ECHO_S), True
    if sorted(came) != [bytes((number,)) for number in range(CANARIES)]:
        log.warning("canary: %d of %d came, %d of them once: the broker does not share subscriptions", len(came),
                    CANARIES, len(set(came)))  # fmt: skip
        return False
    return True
