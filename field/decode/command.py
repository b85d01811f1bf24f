"""`meterwire decode`: what frames say, given as hex, one a line."""

import re
import sys
from collections.abc import Iterable, Sequence
from io import BytesIO

import click

from field import output
from field.decode import modbus
from field.decode.dlt645 import Row, annotate
from field.output import Exit, Output
from protocols.capture import Value
from protocols.dlt645.codes import Edition
from protocols.dlt645.message import Found, Message, explain, find
from protocols.dlt645.titles import title
from protocols.errors import Malformed

_DRESSING = re.compile(r"0[xX]|[\s,;:\-\ufeff]")
"""What tools put around and between the bytes of a hex dump."""
_GROUP = 8
"""Bytes a row in the output for people."""


def from_hex(text: str) -> bytes:
    """The bytes of a line of hex, in whatever dress. Raises Malformed, saying where it is none."""
    bare = _DRESSING.sub("", text)
    if not bare:
        raise Malformed("hex: expected a frame, got nothing")
    wrong = re.search(r"[^0-9a-fA-F]", _DRESSING.sub(lambda dress: "0" * len(dress[0]), text))
    if wrong:
        raise Malformed(f"hex: expected digits 0-9 A-F, got {wrong[0]!r} at character {wrong.start() + 1}")
    if len(bare) % 2:
        raise Malformed(f"hex: expected whole bytes, got {len(bare)} digits")
    return bytes.fromhex(bare)


def as_object(found: Found, message: Message | None, edition: Edition | None) -> dict[str, object]:
    """The JSON object of a line. What could not be read is null."""
    frame = message.frame if message else None
    certain = message is not None and found.error is None
    edition = message.edition if message else edition
    named = title(message.di, message.edition) if message and message.di else None
    return {
        "protocol": edition.value if edition else None,
        "valid": certain,
        "error": f"{type(found.error).__name__}: {found.error}" if found.error else None,
        "direction": ("response" if frame.from_meter else "request") if frame else None,
        "address": found.address,
        "control": f"{frame.control:02X}" if frame else None,
        "length": found.raw[9] if frame else None,
        "data": frame.data.hex().upper() if frame else None,
        "di": message.di if message else None,
        "values": [_value(value) for value in message.values] if message and certain else [],
        "refusal": [en for en, _ in message.refusal.reasons] if message and message.refusal else None,
        "seq": message.seq if message else None,
        "skipped": found.before.rstrip(b"\xfe").hex().upper() or None,
        "rest": found.after.hex().upper() or None,
        "title": dict(zip(("en", "zh"), named, strict=True)) if named else None,
    }


def _value(value: Value) -> dict[str, str | None]:
    return {
        "quantity": value.quantity.name,
        "value": value.plain,
        "unit": value.quantity.unit,
        "quality": value.quality.value,
        "detail": value.detail,
    }


def lines_of(arguments: Sequence[str], stdin: Iterable[bytes]) -> Iterable[str]:
    """The lines to decode. Arguments that are one byte each are one frame; without arguments: standard input."""
    if not arguments:
        return (line.decode("utf-8", "replace") for line in stdin if line.strip())
    if all(len(_DRESSING.sub("", argument)) <= 2 for argument in arguments):
        return [" ".join(arguments)]
    return arguments


def _print(out: Output, title: str, rows: Iterable[Row], error: Malformed | None) -> None:
    if title:
        click.echo(title)
    for row in rows:
        text = out.say(row.en, row.zh)
        for at in range(0, len(row.raw), _GROUP):
            click.echo(f"  {row.raw[at : at + _GROUP].hex(' ').upper():<{3 * _GROUP}} {'' if at else text}".rstrip())
    if error:
        click.echo(f"  {out.say('not valid: ', '无效：')}{out.told(str(error))}")


def _dlt645(out: Output, line: str, edition: Edition | None) -> Malformed | None:
    """Show one line of DL/T 645; what is wrong with it."""
    try:
        found = find(from_hex(line))
    except Malformed as error:
        found = Found(before=b"", raw=b"", after=b"", frame=None, address=None, error=error)
    message = explain(found.frame, edition) if found.frame else None
    if out.as_json:
        out.object(as_object(found, message, edition))
        return found.error
    title = ""
    if message:
        kind = out.say("response", "应答") if message.frame.from_meter else out.say("request", "请求")
        title = f"{message.edition.value} {kind}"
    _print(out, title, annotate(found, message), found.error)
    return found.error


def _modbus(out: Output, line: str, protocol: str) -> Malformed | None:
    """Show one line of Modbus; what is wrong with it."""
    try:
        data = modbus.from_line(line, protocol)
        parts = modbus.take_apart(from_hex(line) if data is None else data, protocol)
    except Malformed as error:
        parts = modbus.Parts(raw=b"", protocol=protocol, error=error)
    if out.as_json:
        out.object(modbus.as_object(parts))
        return parts.error
    kind = {"request": out.say("request", "请求"), "response": out.say("response", "应答"), None: ""}[parts.direction]
    _print(out, f"{protocol} {kind}".rstrip(), modbus.annotate(parts), parts.error)
    return parts.error


@output.command("decode")
@click.option(
    "--protocol",
    type=click.Choice([*(edition.value for edition in Edition), *modbus.MODBUS]),
    help="Default: DL/T 645, its edition told from the control code.",
)
@click.argument("frames", nargs=-1, metavar="[HEX ...]")
def command(out: Output, protocol: str | None, frames: Sequence[str]) -> Exit:
    """Decode frames: what each byte means.

    HEX is a frame a piece, with or without spaces; without any, frames are read from standard input, one a line
    (empty lines are passed over). Of several frames in a line the first is decoded, and the rest is shown as it is.

    Example: meterwire decode 68010044235200689106333634359555DD16

    Exit codes: 0 all are whole frames, 1 some are not, 3 none is.
    """
    given = sys.stdin  # None where it was closed
    if not frames and given is not None and given.isatty():
        out.error("frames in hex, one a line; ends with Ctrl-D", "请输入十六进制报文，每行一帧，以 Ctrl-D 结束")
    good = bad = 0
    for line in lines_of(frames, BytesIO() if given is None else given.buffer):
        if protocol in modbus.MODBUS:
            error = _modbus(out, line, protocol)
        else:
            error = _dlt645(out, line, Edition(protocol) if protocol else None)
        good, bad = good + (error is None), bad + (error is not None)
    if bad:
        return Exit.PART if good else Exit.NOTHING
    return Exit.GOOD
