"""`meterwire sniff`: what others say on a bus."""

import asyncio
from contextlib import aclosing, suppress

import click

from config.mistake import ConfigError
from config.model import BusEntry
from drivers.line import PortLost
from field import output
from field import port as ports
from field.clock import wall_ms
from field.diagnosis.overheard import Piece
from field.diagnosis.sniffing import Summary, overheard, said
from field.output import Exit, Output

TEXT_MAX = 110
"""Characters of a frame's words for people; --hex and --json have all of it."""
HEX_MAX = 32
"""Bytes a line in the output for people."""


class Teller:
    """Tells each piece as it comes, and at the end who said how much."""

    def __init__(self, out: Output, *, with_hex: bool) -> None:
        self.summary = Summary()
        self._out, self._with_hex = out, with_hex
        self._first: float | None = None
        self._last = 0.0

    def tell(self, piece: Piece) -> None:
        """One piece. Times are counted from the first byte that was heard."""
        self.summary.take(piece)
        if self._first is None:
            self._first = self._last = piece.at
        at_s, gap_s, self._last = piece.at - self._first, piece.at - self._last, piece.ended_at
        en, zh = said(piece)
        self._out.object({
            "kind": "bytes" if piece.frame is None else "frame", "at_ms": wall_ms(),
            "at_s": round(at_s, 4), "gap_ms": round(gap_s * 1000, 1), "protocol": piece.protocol,
            "direction": piece.direction, "address": piece.address, "text": en or None, "hex": piece.raw.hex().upper(),
        })  # fmt: skip
        if self._out.as_json:
            return
        stamp = f"{at_s:9.3f} {gap_s:+8.3f}"
        if piece.frame is not None:
            arrow = "->" if piece.direction == "request" else "<-"
            text = self._out.say(en, zh)
            text = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."
            click.echo(f"{stamp}  {piece.protocol:<12} {arrow} {piece.address}  {text}")
        if piece.frame is None or self._with_hex:
            for start in range(0, len(piece.raw), HEX_MAX):
                click.echo(f"{stamp}  {piece.raw[start : start + HEX_MAX].hex(' ').upper()}")

    def end(self) -> Exit:
        """Who said how much; nothing when nobody said anything."""
        out, summary = self._out, self.summary
        for talk in summary.talks.values():
            delay = None if talk.delay_ms is None else round(talk.delay_ms, 1)
            out.object({"kind": "address", "protocol": talk.protocol, "address": talk.address,
                        "questions": talk.questions, "answers": talk.answers, "unanswered": talk.unanswered,
                        "delay_ms": delay})  # fmt: skip
        out.object({"kind": "summary", "addresses": len(summary.talks), "stray_bytes": summary.stray_bytes})
        if summary.talks and not out.as_json:
            counts = (("questions", "问"), ("answers", "答"), ("unanswered", "未答"), ("delay ms", "延时 ms"))
            table = out.table(("protocol", "规约"), ("address", "地址"), *counts,
                              right=("address", *(en for en, _ in counts)))  # fmt: skip
            for talk in summary.talks.values():
                delay_ms = "-" if talk.delay_ms is None else f"{talk.delay_ms:.0f}"
                numbers = map(str, (talk.questions, talk.answers, talk.unanswered))
                table.add_row(talk.protocol, talk.address, *numbers, delay_ms)
            out.line("", "")
            out.show(table)
        if summary.stray_bytes:
            out.error(
                f"{summary.stray_bytes} bytes belong to no frame: other settings of the line (--serial), or noise",
                f"{summary.stray_bytes} 个字节不成帧：线路设置不符（--serial），或有干扰",
            )
        if not summary.talks and not summary.stray_bytes:
            out.error("nothing was heard: who polls this bus? check the wires A and B",
                      "什么也没听到：此总线有主站在抄读吗？请检查 A/B 线")  # fmt: skip
        if not summary.talks:
            return Exit.NOTHING
        return Exit.PART if summary.stray_bytes else Exit.GOOD


@output.command("sniff")
@ports.port_option()
@click.option("--serial", help="Such as 2400-8E1, which is the default.")
@click.option("--seconds", type=click.FloatRange(0.1), help="How long to listen. Default: until interrupted.")
@click.option("--hex", "with_hex", is_flag=True, help="Show the bytes of frames too.")
def command(out: Output, port: str, serial: str | None, seconds: float | None, with_hex: bool) -> Exit:
    """Listen to a bus: every frame of DL/T 645 and Modbus, of both directions, with its time and the gap before it.

    Nothing is ever written. What belongs to no frame is shown in hex. At the end: who was asked, who answered, and how
    soon. Connect a second adapter beside the one that polls: a port has one user.

    Example: meterwire sniff --port /dev/ttyUSB0 --serial 9600-8N1 --seconds 60

    Exit codes: 0 frames were heard, and nothing else; 1 frames and other bytes; 2 an option is wrong; 3 no frame was
    heard, or the port is missing; 4 the port is in use by another program.
    """
    ports.quieten()
    try:
        bus = ports.bus_of(port, serial, None)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    if ports.owned(port):
        return ports.refuse(out, port)
    place = ports.place(out, bus)
    out.error(f"listening on {place}", f"正在监听 {place}")
    teller = Teller(out, with_hex=with_hex)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_listen(bus, seconds, teller))
    except PortLost as error:
        if not teller.summary.talks and not teller.summary.stray_bytes:
            return ports.lost(out, error)
        out.error(f"the port went away: {error}", f"端口丢失：{out.told(str(error))}")
    return teller.end()


async def _listen(bus: BusEntry, seconds: float | None, teller: Teller) -> None:
    async with aclosing(overheard(bus, for_s=seconds)) as pieces:
        async for piece in pieces:
            teller.tell(piece)
