"""A line on a serial device. pyserial opens, locks and sets it; termios makes the kernel check parity.

pyserial 3.5 sets the parity that is sent but clears INPCK, so that bytes with wrong parity are delivered as good ones
(serial/serialposix.py). INPCK|IGNPAR are set here after every change and read back: the kernel then drops such a byte,
and the frame fails by its length. A pty keeps these two and silently drops PARENB; its C library may also refuse parity
with EINVAL. Both are told as `unverified`.
"""

import asyncio
import errno
import os
import select
import termios
from collections.abc import Callable

import serial
from serial.rs485 import RS485Settings

from config.model import BusEntry, SerialSettings
from drivers.line import ParityCheck, PortBusy, PortLost, Receive

_IFLAG, _CFLAG = 0, 2
_CHECKED_INPUT = termios.INPCK | termios.IGNPAR
_READ_MAX = 4096
_TIMER_S = 0.001
"""How late a timer of the loop may strike."""
_REST_S_MIN = 0.004
"""A shorter rest saves no more than it costs."""
_REASONS = {
    errno.ENOENT: "no such device",
    errno.ENXIO: "no such device",
    errno.ENODEV: "no such device",
    errno.EACCES: "permission denied (is this user in the group that owns the device, often dialout?)",
    errno.EPERM: "permission denied",
    errno.ENOTTY: "not a serial device",
    errno.EISDIR: "not a serial device",
}
_DIRECTION = {
    "rts": RS485Settings(rts_level_for_tx=True, rts_level_for_rx=False),
    "rts-inverted": RS485Settings(rts_level_for_tx=False, rts_level_for_rx=True),
}
"""What is asked of the kernel's driver (TIOCSRS485); it turns the pair around each frame, to the bit."""
_BUSY = (errno.EBUSY, errno.EAGAIN)


def open_serial(bus: BusEntry) -> "SerialLine":
    """Open and lock the bus's device with the bus's settings. Raises PortBusy or PortLost, readable by people."""
    device = serial.Serial()
    device.port = bus.port
    device.baudrate = bus.serial.baud
    device.exclusive = True
    device.timeout = device.write_timeout = 0
    try:
        device.open()  # without parity: see apply
        line = SerialLine(device, bus.port)
        line.apply(bus.serial)
        device.reset_input_buffer()
        _direct(device, bus)
    except PortLost:
        device.close()
        raise
    except (OSError, termios.error, ValueError) as error:  # pyserial's own error is an OSError
        device.close()
        raise _lost(bus.port, error) from error
    return line


def _direct(device: "serial.Serial", bus: BusEntry) -> None:
    """Have the driver turn the pair, where the site file says so. Raises PortLost: it would be heard by nobody."""
    if bus.rs485 == "auto":
        return
    try:
        device.rs485_mode = _DIRECTION[bus.rs485]
    except (OSError, ValueError) as error:  # pyserial tells a refused ioctl as a ValueError
        detail = f"{bus.port}: the driver of this device does not turn RS-485 pairs: leave out rs485 = {bus.rs485}"
        raise PortLost(detail) from error


def _lost(port: str, error: Exception) -> PortLost:
    code = _code(error)
    if code in _BUSY:
        return PortBusy(f"{port}: in use by another program")
    return PortLost(f"{port}: {_REASONS.get(code) or error}")


def _code(error: BaseException | None) -> int:
    """The error number, also where pyserial put the real error behind one of its own; 0 when there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if isinstance(error, termios.error):
            return int(error.args[0])
        error = error.__context__
    return 0


class SerialLine:
    """An open serial device, watched by the loop."""

    def __init__(self, device: "serial.Serial", name: str) -> None:
        self.parity: ParityCheck = "none"
        self._device = device
        self._fd: int = device.fileno()
        self._inlet = select.epoll()
        """What the loop watches in the device's place: to rest and to go on are then one call each."""
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._receive: Receive | None = None
        self._resting: asyncio.TimerHandle | None = None
        """Ends the time in which nothing is wanted."""
        self._lost: Callable[[Exception], None] | None = None
        self._unsent = b""
        self._watched = False
        """Whether the loop tells when more can be written."""
        self._sent_at = 0.0
        self._character_s = 0.0

    def attach(self, receive: Receive, lost: Callable[[Exception], None]) -> None:
        """See Line."""
        self._receive, self._lost = receive, lost
        self._inlet.register(self._fd, select.EPOLLIN)
        self._loop.add_reader(self._inlet, self._readable)

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        """See Line."""
        if not self._device.is_open:
            raise PortLost(f"{self._name}: closed")
        if self._unsent:  # what the last question left behind would go with this one, long after its time
            stuck = PortLost(f"{self._name}: takes nothing any more")
            self._end(stuck)
            raise stuck
        self._sent_at = max(self._loop.time(), self._sent_at) + len(data) * self._character_s
        self._unsent += data
        self._writable()
        self._rest(unwanted_s)

    def apply(self, settings: SerialSettings) -> None:
        """See Line. Raises PortLost when the device refuses the speed."""
        try:
            self._set(settings, settings.parity)
        except termios.error as error:
            if error.args[0] != errno.EINVAL or settings.parity == "N":
                raise _lost(self._name, error) from error
            self._set(settings, "N")  # a pty, which cannot have parity
        except (OSError, ValueError) as error:
            raise _lost(self._name, error) from error
        self._character_s = settings.character_s
        self.parity = "none" if settings.parity == "N" else "enforced" if self._checks(settings) else "unverified"

    async def drained(self) -> None:
        """See Line. Told by the clock: the driver's own answer is late by up to a tick and blocks."""
        left = self._sent_at - self._loop.time()
        if left > 0:
            await asyncio.sleep(left)

    def close(self) -> None:
        """See Line."""
        if self._resting is not None:
            self._resting.cancel()
        if self._device.is_open:
            self._loop.remove_reader(self._inlet)
            self._loop.remove_writer(self._fd)
            self._inlet.close()
            self._device.close()

    def _set(self, settings: SerialSettings, parity: str) -> None:
        """Set the device, with this parity where it can have any; the kernel is told to check it in either case."""
        device = self._device
        device.apply_settings({"baudrate": settings.baud, "parity": parity, "stopbits": settings.stop_bits,
                               "bytesize": settings.data_bits})  # fmt: skip
        attributes = termios.tcgetattr(self._fd)
        attributes[_IFLAG] &= ~termios.PARMRK
        if settings.parity == "N":
            attributes[_IFLAG] &= ~_CHECKED_INPUT
        else:
            attributes[_IFLAG] |= _CHECKED_INPUT
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def _checks(self, settings: SerialSettings) -> bool:
        """Whether the kernel says that it checks parity of this kind, and drops bytes that fail."""
        attributes = termios.tcgetattr(self._fd)
        control, odd = attributes[_CFLAG], settings.parity == "O"
        return (
            bool(control & termios.PARENB)
            and bool(control & termios.PARODD) == odd
            and attributes[_IFLAG] & _CHECKED_INPUT == _CHECKED_INPUT
        )

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # EIO: the adapter was pulled, or the far end of a pty closed
            self._end(PortLost(f"{self._name}: {error.strerror}"))
            return
        if not data:
            self._end(PortLost(f"{self._name}: hung up"))
        elif self._receive is not None:
            self._rest(self._receive(data) or 0.0)

    def _rest(self, seconds: float) -> None:
        """Let the kernel gather what comes: a UART wakes us for a few bytes at a time, a pty for each."""
        if seconds >= _REST_S_MIN and self._resting is None and self._device.is_open:
            self._inlet.modify(self._fd, 0)
            self._resting = self._loop.call_later(seconds - _TIMER_S, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._inlet.modify(self._fd, select.EPOLLIN)
        if self._inlet.poll(0):  # a read of a device that holds nothing looks like one that hung up
            self._readable()

    def _writable(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._end(PortLost(f"{self._name}: {error.strerror}"))
            return
        self._unsent = self._unsent[sent:]
        if bool(self._unsent) is self._watched:
            return
        self._watched = not self._watched
        if self._watched:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    def _end(self, error: PortLost) -> None:
        self.close()
        if self._lost is not None:
            self._lost(error)
