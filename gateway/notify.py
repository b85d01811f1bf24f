"""What the supervisor is told (sd_notify(3)): a datagram to the socket in NOTIFY_SOCKET, where there is one."""

import os
import socket


def notify(*lines: str) -> bool:
    """Tell the supervisor, for example `READY=1`, `STOPPING=1`, `WATCHDOG=1`; says whether there is one that heard."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True


def watchdog_s() -> float | None:
    """The seconds within which the supervisor wants to hear WATCHDOG=1; None when it does not watch."""
    text = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000
