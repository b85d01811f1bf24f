"""`meterwire offline`: batches to the centre and receipts back on a stick, where there is no way for messages."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from config.mistake import ConfigError
from field import output
from field.config import load_checked, refuse, site_option
from field.output import Exit, Output, words
from field.usage import SpokenGroup


def write_whole(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that appears under its name only when it is whole and on its disk; returns its bytes."""
    part = path.with_name(f"{path.name}.part")
    size = 0
    with part.open("wb") as file:
        for piece in pieces:
            size += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return size


def stamped(gateway: str, suffix: str) -> str:
    """A file name that no other has: the gateway and this moment, in UTC."""
    return f"{gateway}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z{suffix}"


@output.command("export")
@site_option
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
def export(out: Output, file: Path, directory: Path) -> Exit:
    """Write every sealed batch that has no receipt yet to a file in DIRECTORY, with the keys that open it.

    Only the centre can open them. Nothing changes here: a batch goes again with every export until its receipt is
    back. The gateway may run meanwhile, or be stopped. What was read in the last hour may not be sealed yet.

    Example: meterwire offline export -c site.toml /media/stick

    With --json one object: file, keys, batches, bytes, unsealed, unread. Exit codes: 0 written; 1 there is nothing to
    write, or one of the store's two files could not be read; 2 a mistake in the configuration; 3 no store, or the file
    cannot be written.
    """
    from buffer.carry import Carried, carried
    from buffer.errors import OutboxError
    from protocols.transfer import SUFFIXES, Transfer, written

    try:
        site = load_checked(file)
    except ConfigError as error:
        return refuse(out, file, error)
    count, path = Carried(), directory / stamped(site.gateway, SUFFIXES["up"])
    messages = carried(site.store, count, spare=site.buffer.spare)
    try:
        size = write_whole(path, written(Transfer(gateway=site.gateway, direction="up"), messages))
        if not count.batches:
            path.unlink()
    except (OutboxError, OSError) as error:
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)
        out.wrong(f"{path}: {words(error)}" if isinstance(error, OSError) and not error.filename else words(error))
        return Exit.NOTHING
    name = str(path) if count.batches else None
    out.object({"file": name, "keys": count.keys, "batches": count.batches, "bytes": size, "unsealed": count.unsealed,
                "unread": count.unread})  # fmt: skip
    for unread in count.unread:
        out.error(f"left out: {unread}", f"未包含：{out.told(unread)}")
    if not count.batches:
        out.line(f"nothing to carry; not sealed yet: {count.unsealed} records",
                 f"没有可导出的批次；尚未封装的记录：{count.unsealed} 条")  # fmt: skip
        return Exit.PART
    out.line(f"{path}: {count.batches} batches, {size} bytes; not sealed yet: {count.unsealed} records",
             f"{path}：{count.batches} 批，{size} 字节；尚未封装的记录：{count.unsealed} 条")  # fmt: skip
    return Exit.PART if count.unread else Exit.GOOD


@output.command("settle")
@site_option
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
def settle(out: Output, file: Path, directory: Path) -> Exit:
    """Take the receipts for this gateway from DIRECTORY: what the centre has, need not be kept for it any more.

    Each receipt is verified first. A gateway that runs settles them within some seconds, one that is stopped when it
    starts. Receipts that come twice do no harm.

    Example: meterwire offline settle -c site.toml /media/stick

    With --json one object: files, receipts, refused. Exit codes: 0 taken; 1 some files were refused; 2 a mistake in
    the configuration or the keys; 3 there were none.
    """
    from gateway.offline import DIRECTORY
    from identity.files import IdentityError
    from identity.gateway import CentreTrust
    from protocols import transfer
    from protocols.errors import Malformed
    from protocols.messages import Receipt, verified

    try:
        site = load_checked(file)
        trust = CentreTrust.load(site.keys)
    except ConfigError as error:
        return refuse(out, file, error)
    except (IdentityError, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    target = site.store / DIRECTORY
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = found = refused = 0
    for path in sorted(directory.glob(f"{site.gateway}-*{transfer.SUFFIXES['down']}")):
        try:
            with path.open("rb") as opened:
                of = transfer.head(opened.read)
                receipts = [payload for name, payload in transfer.messages(of, opened.read) if name == "receipt"]
            for payload in receipts:
                verified(Receipt, payload, gateway=site.gateway, verify=trust.verify)
        except Malformed as error:
            refused += 1
            out.error(f"{path}: refused: {error}", f"{path}：拒绝：{error}")
            continue
        write_whole(target / path.name, [path.read_bytes()])
        taken, found = taken + 1, found + len(receipts)
    out.object({"files": taken, "receipts": found, "refused": refused})
    if not taken and not refused:
        out.error(f"{directory}: no receipts for {site.gateway}", f"{directory}：没有 {site.gateway} 的回执")
        return Exit.NOTHING
    out.line(f"{taken} files, {found} receipts taken", f"已取入 {taken} 个文件，{found} 份回执")
    return Exit.PART if refused else Exit.GOOD


@click.group("offline", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """Where no message gets through: batches to the centre and receipts back, carried by hand.

    Example: meterwire offline export -c site.toml /media/stick
    """


command.add_command(export)
command.add_command(settle)
