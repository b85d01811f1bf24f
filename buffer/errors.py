"""The errors of the outbox, split by what the caller should do about them."""


class OutboxError(Exception):
    """Root of what a store can refuse. Nothing that raised one was accepted; the message says what to do."""


class StoreBusy(OutboxError):
    """Another process holds the store: stop that one first."""


class StoreForeign(OutboxError):
    """The file is not an outbox, or one of a newer version: install the version that wrote it, or name another."""


class StoreAway(OutboxError):
    """Just now nothing can be written, or read: go on with the same outbox, and try again."""


class StoreFull(StoreAway):
    """The disk (or the store's bound) is full: nothing was written."""


class StoreFailed(StoreAway):
    """The disk failed a read, a write or a sync. The next call opens the store anew and checks its tail first."""


class StoreDamaged(OutboxError):
    """The store's pages contradict each other: end the process; the next start sets the file aside and salvages it."""
