"""The errors of the protocols, split by what the caller should do about them."""


class ProtocolError(Exception):
    """Root of what bytes from outside can cause. Never raised itself: raise the kind that says what to do."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("raise Malformed, Refused or Unexpected, not ProtocolError")
        super().__init__(message)


class Malformed(ProtocolError):
    """The bytes are not what they claim to be (noise, damage, forgery): drop them and keep listening."""


class Refused(ProtocolError):
    """The meter answered, and said no. `code` is its code, `absent` is true when it has no such item: record it."""

    def __init__(self, message: str, *, code: str, absent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.absent = absent


class Unexpected(ProtocolError):
    """A whole frame, but not an answer to this question (address, function, identifier, sequence): count it."""
