"""A machine with real serial drivers, for the long campaigns: QEMU runs Debian's kernel.

Its root is this machine's file system, read-only with room in memory over it, so the very Python and the very code of
this machine run in it. A gateway in it opens what a gateway in the field opens: 16550A UARTs and FTDI adapters that can
be pulled and plugged, behind the kernel's own drivers. What is behind them is a simulated wire, over loopback TCP.

As a script it is the `program` of a gateway: it starts the machine, hands signals on, and ends with the gateway's exit
code. It lives only as long as its parent's wish: a kill ends the machine too.
"""

import json
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

QEMU: Final = shutil.which("qemu-system-x86_64")
BUSYBOX: Final = Path(shutil.which("busybox") or "/usr/bin/busybox")
TESTS: Final = Path(__file__).resolve().parent
MEGABYTES: Final = 768
STATUS_PORT: Final = 7000
COMMAND_S_MAX: Final = 120.0
MODULES: Final = (
    "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "fscache", "netfs",
    "9pnet", "9pnet_virtio", "9p", "overlay", "failover", "net_failover", "virtio_net", "usb-common", "usbcore",
    "xhci-hcd", "xhci-pci", "usbserial", "ftdi_sio",
)  # fmt: skip

Driver = Literal["16550A", "FTDI"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A serial port of the machine; wire: host and port of the loopback TCP connection behind it."""

    name: str
    driver: Driver
    wire: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the machine is made of. All files but the kernel's are in `directory`, which it sees as we do; what else it
    writes is gone with it."""

    directory: Path
    kernel: Path
    """A directory with `vmlinuz` and `modules`."""
    socket: Path
    """Where the gateway in it tells its status: there, and here."""
    broker: int
    """A port of loopback, which it finds there and here."""
    forward: int
    """A free port of loopback: the way here for what the gateway tells."""
    adapters: tuple[Adapter, ...]

    @property
    def monitor(self) -> Path:
        """QEMU's own socket."""
        return self.directory / "monitor.sock"

    def write(self) -> list[str]:
        """Keep it; the `program` that runs a gateway on it."""
        path = self.directory / "machine.json"
        path.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")
        return [sys.executable, "-P", str(Path(__file__).resolve()), str(path)]


def missing() -> str | None:
    """What this machine lacks to run another."""
    if platform.machine() != "x86_64":
        return "not an x86-64 machine"
    alone = BUSYBOX.exists() and b"/lib64/ld-linux" not in BUSYBOX.read_bytes()  # needs no libraries
    tools = {"qemu-system-x86": QEMU, "socat": shutil.which("socat"), "busybox-static": alone}
    lacks = [package for package, found in tools.items() if not found]
    return f"no {', '.join(lacks)} (apt-get install {' '.join(lacks)})" if lacks else None


def kernel(directory: Path) -> Path:
    """Debian's kernel and modules below the directory, fetched once and unpacked, not installed."""
    ready = directory / "ready"
    if not (ready / "vmlinuz").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        depends = _out("apt-cache", "depends", "--important", "linux-image-amd64").split()
        package = next(word for word in depends if word.startswith("linux-image-") and word != "linux-image-amd64")
        subprocess.run(["apt-get", "download", "-qq", package], cwd=directory, check=True, timeout=COMMAND_S_MAX)
        (archive,) = directory.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "all"], cwd=directory, check=True, timeout=COMMAND_S_MAX)
        made = directory / "making"
        (made / "modules").mkdir(parents=True)
        (image,) = (directory / "all" / "boot").glob("vmlinuz-*")
        shutil.copy(image, made / "vmlinuz")
        for name in MODULES:
            found = next((directory / "all").rglob(f"{name}.ko"))
            shutil.copy(found, made / "modules" / found.name)
        shutil.rmtree(directory / "all")
        archive.unlink()
        made.rename(ready)
    return ready


def pull(plan: Plan, name: str) -> None:
    """Somebody pulls an adapter."""
    _monitor(plan, "device_del", {"id": name})


def plug(plan: Plan, name: str) -> None:
    """Somebody plugs it in again, where it was."""
    (adapter,) = (one for one in plan.adapters if one.name == name)
    _monitor(plan, "device_add", _usb(plan, adapter))


def _usb(plan: Plan, adapter: Adapter) -> dict[str, Any]:
    port = [one.name for one in plan.adapters].index(adapter.name) + 1
    return {"driver": "usb-serial", "id": adapter.name, "chardev": f"wire-{adapter.name}",
            "bus": "usb.0", "port": f"{port}"}  # fmt: skip


def _monitor(plan: Plan, command: str, arguments: dict[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(plan.monitor))
        with line.makefile("rw", encoding="utf-8") as talk:
            talk.readline()
            for execute, words in (("qmp_capabilities", {}), (command, arguments)):
                talk.write(json.dumps({"execute": execute, "arguments": words}) + "\n")
                talk.flush()
                answer = json.loads(talk.readline())
                while "event" in answer:
                    answer = json.loads(talk.readline())
                if "error" in answer:
                    raise RuntimeError(f"{execute} {words}: {answer['error']}")


def _out(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=COMMAND_S_MAX).stdout


# As a script.


def _initial(plan: Plan) -> Path:
    """The file system that the kernel begins with: it finds ours, and goes on in it."""
    root = plan.directory / "initial"
    for name in ("bin", "dev", "lower", "modules", "new", "proc", "sys", "upper"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    for module in (plan.kernel / "modules").iterdir():
        shutil.copy(module, root / "modules")
    shutil.copy(TESTS / "machine_init.sh", root / "init")
    (root / "init").chmod(0o755)
    packed = plan.directory / "initial.cpio"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with packed.open("wb") as into:
        subprocess.run([BUSYBOX, "cpio", "-o", "-H", "newc"], input=names.encode(), stdout=into, cwd=root, check=True,
                       stderr=subprocess.DEVNULL)  # fmt: skip
    return packed


def _command(plan: Plan) -> list[str]:
    words = [
        "setpriv", "--pdeathsig", "KILL", f"{QEMU}",
        "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", f"{MEGABYTES}",
        "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", f"{plan.kernel / 'vmlinuz'}", "-initrd", f"{_initial(plan)}",
        "-append", f"console=ttyS0 quiet panic=-1 site={plan.directory}",
        "-qmp", f"unix:{plan.monitor},server=on,wait=off",
        "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
        "-fsdev", f"local,id=site,path={plan.directory},security_model=none",
        "-device", "virtio-9p-pci,fsdev=site,mount_tag=site",
        "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{plan.forward}-:{STATUS_PORT}",
        "-device", "qemu-xhci,id=usb",
    ]  # fmt: skip
    uarts = iter(range(1, 4))  # the first is the console
    for adapter in plan.adapters:
        host, port = adapter.wire
        words += ["-chardev", f"socket,id=wire-{adapter.name},host={host},port={port},reconnect=1"]
        if adapter.driver == "16550A":
            words += ["-device", f"isa-serial,chardev=wire-{adapter.name},index={next(uarts)}"]
        else:
            usb = _usb(plan, adapter)
            words += ["-device", ",".join([usb.pop("driver"), *(f"{key}={value}" for key, value in usb.items())])]
    return words


def _read_plan(path: Path) -> Plan:
    told = json.loads(path.read_text(encoding="utf-8"))
    adapters = tuple(Adapter(one["name"], one["driver"], tuple(one["wire"])) for one in told["adapters"])
    directory, kernel, here = (Path(told[name]) for name in ("directory", "kernel", "socket"))
    return Plan(directory, kernel, here, told["broker"], told["forward"], adapters)


def main(path: str, arguments: Sequence[str]) -> int:
    """Run a gateway with these arguments in the machine; its exit code, or 70 when the machine ended before it."""
    plan = _read_plan(Path(path))
    code = plan.directory / "ended"
    code.unlink(missing_ok=True)
    words = {"PYTHON": sys.executable, "CWD": Path.cwd(), "SOCKET": plan.socket, "STATUS_PORT": STATUS_PORT,
             "BROKER_PORT": plan.broker, "ARGUMENTS": " ".join(arguments)}  # fmt: skip
    told = "".join(f"{name}='{value}'\n" for name, value in words.items())
    (plan.directory / "run.sh").write_text(told + (TESTS / "machine_run.sh").read_text(encoding="utf-8"))
    machine = subprocess.Popen(_command(plan), stdin=subprocess.PIPE, stdout=sys.stderr)
    status = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "socat", f"UNIX-LISTEN:{plan.socket},fork", f"TCP:127.0.0.1:{plan.forward}"],
        stderr=subprocess.DEVNULL,  # while the gateway does not listen yet
    )
    assert machine.stdin is not None
    stdin = machine.stdin

    def hand_on(number: int, frame: object) -> None:
        stdin.write(f"{signal.Signals(number).name.removeprefix('SIG')}\n".encode())
        stdin.flush()

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, hand_on)
    try:
        machine.wait()
    finally:
        status.kill()
        status.wait()
        plan.socket.unlink(missing_ok=True)
    return int(code.read_text()) if code.exists() else 70


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
