"""Which requests were taken up already, over restarts: none is obeyed twice, however often it comes."""

from typing import Final, Protocol

FACT: Final = "requests"
KEPT_MAX: Final = 256
"""Requests that have not expired and are remembered; with so many, a further one is refused."""
AHEAD_MS_MAX: Final = 7 * 86_400_000
"""How far ahead a request may expire: what cannot be forgotten for longer would fill the memory."""


class Facts(Protocol):
    """Where small things outlive a restart: the outbox."""

    def fact(self, name: str) -> str | None: ...

    async def set_fact(self, name: str, value: str) -> None: ...


class Obeyed:
    """The requests that were taken up and have not expired. Durable before the first of them is obeyed."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._until: dict[bytes, int] = {}
        for each in (facts.fact(FACT) or "").split():
            request, _, until = each.partition(":")
            self._until[bytes.fromhex(request)] = int(until)

    def __contains__(self, request: bytes) -> bool:
        return request in self._until

    async def take(self, request: bytes, *, expires_at: int, now_ms: int) -> str | None:
        """Remember it until it has expired; or the reason why it is not to be obeyed.

        Raises OutboxError; then it is not remembered, and may come again.
        """
        if expires_at < now_ms:
            return "expired"
        if expires_at > now_ms + AHEAD_MS_MAX:
            return f"expires more than {AHEAD_MS_MAX // 86_400_000} days ahead"
        kept = {known: until for known, until in self._until.items() if until >= now_ms}
        if len(kept) >= KEPT_MAX:
            return f"{KEPT_MAX} requests have not expired yet"
        kept[request] = expires_at
        await self._facts.set_fact(FACT, " ".join(f"{known.hex()}:{until}" for known, until in kept.items()))
        self._until = kept
        return None
