"""Several hosts on one machine: namespaces of Linux, joined by a bridge.

A :class:`Host` has what makes a machine another one for optomatic: its own network, host name,
boot id and process numbers, so that nobody outside can look for its processes.  The bridge
lies in a namespace of its own too: nothing here is seen by, or touches, the interfaces of the
machine itself, and addresses of :data:`NETWORK` mean something only between these hosts.

::

    host db     eth0 ---- port1  |
    host left   eth0 ---- port2  | bridge, in a namespace of its own
    host right  eth0 ---- port3  |

Each namespace is held by one process, and all end with it, with every process in them and every
link.  So nothing is left behind, even if the tests are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

#: The first three bytes of every address.
NETWORK = "10.77.7"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_HOST = ("--net", "--uts", "--pid", "--mount", "--ipc")
_STAY = "\necho ready\nexec sleep infinity"
_PROBE = "ip link add bridge0 type bridge && ip link add probe type veth peer name eth9"


class NotAllowed(Exception):
    """This machine has no namespaces for us; the text says why."""


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def check_allowed() -> None:
    """Raise NotAllowed where namespaces, bridges or their tools are missing."""
    for tool, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            raise NotAllowed(f"there is no {tool!r} here (Debian: apt-get install {package})")
    probe = ["unshare", *_HOST, "--fork", "--mount-proc", "sh", "-c", _PROBE]
    tried = subprocess.run(probe, capture_output=True, text=True)
    if tried.returncode:
        raise NotAllowed(f"this machine does not allow network namespaces: {tried.stderr.strip()}")


class Namespaces:
    """Namespaces that live as long as the process that holds them."""

    def __init__(self, kinds: Sequence[str], setup: str, *options: str) -> None:
        self._kinds = kinds
        self._holder = subprocess.Popen(
            ["unshare", *kinds, "--fork", "--kill-child", *options, "sh", "-ec", setup + _STAY],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=_die_with_parent,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError("the namespaces could not be set up; stderr says why")
        (first,) = psutil.Process(self._holder.pid).children()
        #: The first process inside, by its number outside.
        self.pid: int = first.pid

    def command(self, *command: str) -> list[str]:
        """Return what runs `command` inside, when it is run outside."""
        return ["nsenter", f"--target={self.pid}", *self._kinds, "--", *command]

    def run(self, *command: str) -> None:
        """Run `command` inside, to its end."""
        subprocess.run(self.command(*command), check=True)

    def close(self) -> None:
        """End everything inside at once, as a power cut does."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


class Host(Namespaces):
    """A machine of its own; see :meth:`Network.host`."""

    def __init__(self, name: str, number: int, boot: Path, switch: Namespaces) -> None:
        setup = f"""
            hostname {name}
            mount --bind {boot} /proc/sys/kernel/random/boot_id
            ip link set lo up"""
        super().__init__(_HOST, setup, "--mount-proc")
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self._port = f"port{number}"
        self._switch = switch
        # Both ends are made inside: the far end in the switch, this one in the host.
        switch.run(
            *("ip", "link", "add", self._port, "type", "veth"),
            *("peer", "name", "eth0", "netns", str(self.pid)),
        )
        switch.run("ip", "link", "set", self._port, "master", "bridge0", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def start(self, *command: str, **options) -> subprocess.Popen[str]:
        """Start `command` on this host; it ends with the host at the latest."""
        return subprocess.Popen(
            self.command(*command), text=True, preexec_fn=_die_with_parent, **options
        )

    def cut(self) -> None:
        """Take the link down on its far side: what this host sends is lost without a word."""
        self._switch.run("ip", "link", "set", self._port, "down")

    def heal(self) -> None:
        """Bring the link up again."""
        self._switch.run("ip", "link", "set", self._port, "up")


class Network:
    """Hosts that reach each other and nobody else; made by :func:`network`."""

    def __init__(self, folder: Path, switch: Namespaces) -> None:
        self._folder = folder
        self._switch = switch
        self._numbers = itertools.count(1)

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[Host]:
        """Add a host, with an address that no other had; it is gone after the block."""
        number = next(self._numbers)
        boot = self._folder / f"boot_id.{number}"
        boot.write_text(f"{uuid.uuid4()}\n")
        host = Host(name, number, boot, self._switch)
        try:
            yield host
        finally:
            host.close()


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Make a bridge for hosts, which is gone after the block.

    Raises
    ------
    NotAllowed
        Not on this machine.
    """
    check_allowed()
    switch = Namespaces(("--net",), "ip link add bridge0 type bridge\nip link set bridge0 up")
    try:
        yield Network(folder, switch)
    finally:
        switch.close()
