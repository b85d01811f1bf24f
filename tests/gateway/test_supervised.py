"""What `run` ends with and what the unit makes of it: started again after what may mend itself, down after the rest."""

import asyncio
import configparser
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buffer.opening import LOCK_NAME, STORE_NAME, hold
from buffer.sqlite import open_store
from config.model import TaskEntry
from field.main import main
from field.output import Exit
from gateway.daemon import Daemon
from identity import token
from identity.gateway import GatewayIdentity
from identity.trust import trust
from simulators import virtual
from simulators.describe import uniform
from tests import chain, sites
from tests.chain import keys

ROOT = Path(__file__).parents[2]
MINUTE = TaskEntry(name="minute", every_s=60, items=("voltage.a",))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    GatewayIdentity.create(tmp_path / "keys", "gw-1")
    trust(tmp_path / "keys", keys()[1].public)
    return sites.gateway(tmp_path)


def run(site: Path) -> Result:
    return CliRunner().invoke(main, ["run", "-c", str(site)])


def stays_down(code: int) -> bool:
    """Whether the unit leaves a gateway down that ended with this exit code."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(ROOT / "deploy/meterwire.service")
    service = unit["Service"]
    assert service["Restart"] == "always"
    return str(code) in service["RestartPreventExitStatus"].split()


def test_a_store_of_a_newer_version_leaves_the_gateway_down_with_a_message(site: Path) -> None:
    store = site.parent / "store"
    store.mkdir(mode=0o700)
    connection = open_store(store / STORE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (store / STORE_NAME).read_bytes()
    result = run(site)
    assert stays_down(result.exit_code)
    assert "schema 99, written by a newer Meterwire" in result.stderr
    assert "Install the newer one again" in result.stderr
    assert (store / STORE_NAME).read_bytes() == before


def test_a_mistake_in_the_configuration_leaves_it_down(site: Path) -> None:
    site.write_text(sites.GATEWAY.replace('port = "/dev/ttyNONE"', "port = 7"))
    assert stays_down(run(site).exit_code)


def test_a_store_that_cannot_be_opened_just_now_is_tried_again(site: Path) -> None:
    (site.parent / "store").write_text("where a directory belongs")
    result = run(site)
    assert not stays_down(result.exit_code)
    assert "check the disk" in result.stderr


def test_a_store_that_another_process_has_is_waited_for(site: Path) -> None:
    store = site.parent / "store"
    store.mkdir(mode=0o700)
    hold(store, spare=None)
    assert (store / LOCK_NAME).exists()
    result = run(site)
    assert result.exit_code == Exit.BUSY
    assert not stays_down(result.exit_code)


@pytest.mark.skipif(find_spec("pkcs11") is None, reason="without the package python-pkcs11")
@pytest.mark.parametrize(
    ("error", "down"),
    [("NoSuchToken", False), ("TokenNotPresent", False), ("DeviceRemoved", False), ("DeviceError", False),
     ("PinIncorrect", True), ("PinLocked", True), ("NoSuchKey", True), ("GeneralError", True)],
)  # fmt: skip
def test_a_token_that_is_away_is_waited_for_and_a_wrong_pin_is_tried_once(
    site: Path, monkeypatch: pytest.MonkeyPatch, error: str, down: bool
) -> None:
    """With five seconds between two starts a wrong PIN would lock the token within a minute."""
    import pkcs11

    def refuse(*_: object, **__: object) -> object:
        raise getattr(pkcs11.exceptions, error)

    monkeypatch.setattr(token, "_open", refuse)
    (site.parent / "keys" / "gateway.key").write_text("pkcs11:token=a;object=b\n")
    result = run(site)
    assert stays_down(result.exit_code) is down
    assert "pkcs11:token=a;object=b" in result.stderr
    assert not (site.parent / "store").exists()


def test_a_status_socket_that_cannot_be_made_keeps_no_gateway_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its directory is a file; started again and again for it, the gateway would read nothing at all."""
    monkeypatch.setattr(chain, "Daemon", lambda site, **parts: Daemon(site, **parts | {"serve_status": True}))

    async def scenario() -> None:
        made = chain.Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        (tmp_path / "run").write_text("where a directory belongs")
        made.site = replace(made.site, socket=tmp_path / "run" / "status.sock")
        async with made.running() as daemon:
            await asyncio.sleep(300)
            await made.drain(daemon)
        truth = made.truth()
        assert truth.passed, truth.examples
        made.close()

    virtual.run(scenario(), start_ms=chain.START)
    assert "status not served" in caplog.text


def test_whatever_else_ends_a_gateway_it_is_started_again() -> None:
    """A traceback (1), nothing worked, busy, and what a supervisor or the kernel does by signal."""
    assert [code for code in (*Exit, 137, 143) if stays_down(int(code))] == [Exit.USAGE]
