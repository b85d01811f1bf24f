"""`meterwire central import`: what was carried here from gateways, and the receipts to carry back."""

from pathlib import Path

import click

from central.sinks.base import SinkAway, SinkUnfit
from field import output
from field.central.options import config_option, load_site
from field.clock import wall_ms
from field.output import Exit, Output, words


@output.command("import")
@config_option
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
def bring_in(out: Output, file: Path, directory: Path) -> Exit:
    """Land what `meterwire offline export` wrote into DIRECTORY, and write the receipts beside it.

    Each batch is verified and lands once, however often it is brought. Carry the receipts back and give them to
    `meterwire offline settle`: until then the gateway keeps everything. Workers may run meanwhile.

    Example: meterwire central import -c central.toml /media/stick

    With --json one line a file: file, gateway, messages, landed, repeated, aside, damage, receipts. Exit codes: 0 all
    landed; 1 a file was damaged or foreign, or messages were set aside; 2 a mistake in the configuration or the keys;
    3 no database, or no such files.
    """
    from central.landing import Landing
    from central.offline import brought, receipts
    from central.sinks import open_sink
    from field.offline import stamped, write_whole
    from identity.centre import Centre, GatewayTrust
    from identity.files import IdentityError
    from protocols import suites
    from protocols.errors import Malformed
    from protocols.transfer import SUFFIXES

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    paths = sorted(directory.glob(f"*{SUFFIXES['up']}"))
    if not paths:
        out.error(f"{directory}: no files of a gateway", f"{directory}：没有网关导出的文件")
        return Exit.NOTHING
    good = True
    try:
        suites.check(site.suites)
        centre = Centre.load(site.keys, suites=site.suites, sign_token=site.sign_token, wrap_token=site.wrap_token)
        gateways = GatewayTrust.load(site.keys)
        sink = open_sink(site.database)
        try:
            landing = Landing(sink, centre=centre, gateways=gateways, now_ms=wall_ms)
            for path in paths:
                try:
                    one = brought(landing, path)
                except Malformed as error:
                    good = False
                    out.error(f"{path}: refused: {error}", f"{path}：拒绝：{error}")
                    continue
                answer = None
                if one.gateway in landing.due():
                    answer = directory / stamped(one.gateway, SUFFIXES["down"])
                    write_whole(answer, receipts(landing, one.gateway))
                good = good and not (one.damage or one.aside)
                out.object({"file": str(path), "gateway": one.gateway, "messages": one.messages, "landed": one.landed,
                            "repeated": one.repeated, "aside": one.aside, "damage": one.damage or None,
                            "receipts": None if answer is None else str(answer)})  # fmt: skip
                out.line(
                    f"{path}: {one.gateway}, {one.landed} batches landed, {one.repeated} were here, {one.aside} aside",
                    f"{path}：{one.gateway}，入库 {one.landed} 批，已有 {one.repeated} 批，搁置 {one.aside} 条",
                )
                if one.damage:
                    out.error(f"{path}: ends early: {one.damage}", f"{path}：文件不完整：{one.damage}")
        finally:
            sink.close()
    except (IdentityError, suites.Unavailable, SinkUnfit) as error:
        out.wrong(words(error))
        return Exit.USAGE
    except SinkAway as error:
        out.wrong(str(error))
        return Exit.NOTHING
    return Exit.GOOD if good else Exit.PART


COMMANDS = (bring_in,)
