"""A guest under QEMU: a small root file system with this Python, this package and a script, and its console.

Software emulation is enough (a boot takes about five seconds), so neither KVM nor the host's kernel matter.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import auditns_connector
from tests.kernel import guest_words
from tests.kernel.support import need, need_tool

KERNEL_VARIABLE: Final = "AUDITNS_NM_KERNEL"
#: parts of the standard library that no guest needs
_LEFT_OUT: Final = frozenset(
    ("asyncio", "concurrent", "ctypes", "curses", "dbm", "dist-packages", "distutils", "email", "ensurepip", "html",
     "http", "idlelib", "lib2to3", "multiprocessing", "pydoc_data", "site-packages", "sqlite3", "test", "tests",
     "tkinter", "turtledemo", "unittest", "venv", "wsgiref", "xml", "xmlrpc")
)  # fmt: skip
_INIT: Final = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
python3 -B /guest.py; echo "@@RC $?"
reboot -f
"""


def nm_kernel() -> Path:
    """The image of a kernel with PROC_EVENT_NM: named by AUDITNS_NM_KERNEL, or in a folder kernels beside the project;
    skips the test where there is none."""
    named = os.environ.get(KERNEL_VARIABLE)
    root = Path(auditns_connector.__file__).resolve().parents[2]
    found = [Path(named)] if named else sorted(root.glob("*/kernels/bzImage*proc-event-nm*"))
    need(found and found[0].is_file(), f"a kernel with PROC_EVENT_NM ({KERNEL_VARIABLE} names its image)")
    return found[0]


class Root:
    """A root file system, written as an uncompressed cpio archive (format newc) that a kernel takes as initramfs."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[int, bytes | Path, int]] = {}

    def folder(self, path: str) -> None:
        """A folder, with those above it."""
        parts = path.strip("/").split("/")
        for i in range(1, len(parts) + 1):
            self._members.setdefault("/".join(parts[:i]), (0o040755, b"", 0))

    def file(self, path: str, content: bytes | Path, mode: int = 0o755) -> None:
        """A file with ``content``, or that of a file on the host."""
        self.folder(os.path.dirname(path))
        mtime = int(content.stat().st_mtime) if isinstance(content, Path) else 0
        self._members[path.strip("/")] = (0o100000 | mode, content, mtime)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.folder(os.path.dirname(path))
        self._members[path.strip("/")] = (0o120777, target.encode(), 0)

    def program(self, path: Path, name: str | None = None) -> None:
        """An executable or shared object of the host with all that it is linked to."""
        self.file(name or str(path), path)
        done = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for library in re.findall(r"(/\S+) \(0x", done.stdout):
            self.file(library, Path(library))

    def tree(self, path: Path, name: str, left_out: frozenset[str] = frozenset()) -> None:
        """A folder of Python modules, with what is compiled of them."""
        for folder, folders, files in os.walk(path):
            folders[:] = [one for one in folders if one not in left_out and not one.startswith("config-")]
            inside = name + folder[len(str(path)) :]
            for one in files:
                if one.endswith((".py", ".so")) or (one.endswith(".pyc") and ".opt-" not in one):
                    self.file(f"{inside}/{one}", Path(folder, one), 0o644)

    def write(self, path: Path) -> None:
        """Write the archive."""
        with path.open("wb") as out:
            for number, (name, (mode, content, mtime)) in enumerate(sorted(self._members.items()), 1):
                data = content.read_bytes() if isinstance(content, Path) else content
                out.write(_member(number, name, mode, mtime, data))
            out.write(_member(0, "TRAILER!!!", 0, 0, b""))


def _member(number: int, name: str, mode: int, mtime: int, data: bytes) -> bytes:
    numbers = (number, mode, 0, 0, 1, mtime, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def python_root(script: Path, programs: Iterable[str]) -> Root:
    """A root with busybox, ``programs``, this Python, this package, and ``script`` to be run."""
    need_tool("busybox", "ldd", *programs)
    root = Root()
    for folder in ("proc", "sys", "dev", "tmp", "run", "etc", "root", "usr/bin"):
        root.folder(folder)
    root.file("init", _INIT)
    root.file("guest.py", script, 0o644)
    root.file("tests/kernel/guest_words.py", Path(guest_words.__file__), 0o644)
    root.program(Path(shutil.which("busybox") or "").resolve(), "/bin/busybox")
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    root.program(python)
    root.link("/usr/bin/python3", str(python))
    for name in programs:
        root.program(Path(shutil.which(name) or "").resolve(), f"/usr/bin/{name}")
    stdlib = Path(sysconfig.get_path("stdlib"))
    root.tree(stdlib, str(stdlib), _LEFT_OUT)
    import _cffi_backend

    backend = Path(_cffi_backend.__file__)
    package = Path(auditns_connector.__file__).parent
    root.tree(package, f"{stdlib}/auditns_connector")
    root.program(backend, f"{stdlib}/{backend.name}")
    for extension in (*stdlib.glob("lib-dynload/*.so"), *package.glob("*.so")):
        root.program(extension, f"{stdlib}/lib-dynload/{extension.name}" if extension.parent != package else
                     f"{stdlib}/auditns_connector/{extension.name}")  # fmt: skip
    return root


def with_dependencies(root: Root) -> None:
    """What the package needs to listen to audit, not only to the kernel's events: its own dependencies, and the parts
    of the standard library that these import."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    for name in ("asyncio", "concurrent", "ctypes", "email", "html", "http", "multiprocessing", "unittest", "xml"):
        root.tree(stdlib / name, f"{stdlib}/{name}", frozenset(("test", "tests")))
    for name in ("pyroute2", "structlog"):
        folder = Path(importlib.import_module(name).__file__ or "").parent
        root.tree(folder, f"{stdlib}/{name}")


def boot(kernel: Path, initramfs: Path, timeout: float = 900, cpus: int = 2) -> str:
    """Run the guest to its end; what it wrote on its console. Raises :class:`AssertionError` where it did not end
    well."""
    need_tool("qemu-system-x86_64")
    command = [
        "qemu-system-x86_64", "-M", "pc,accel=tcg", "-cpu", "max", "-smp", str(cpus), "-m", "1024", "-nodefaults",
        "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(kernel), "-initrd", str(initramfs),
        "-append", "console=ttyS0 panic=-1 quiet loglevel=3 audit=1 mitigations=off no_timer_check", "-serial", "stdio",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"the guest did not end: {(error.stdout or b'')[-4000:]!r}") from None
    console = done.stdout.replace("\r", "")
    assert "@@RC 0\n" in console, console[-6000:] + done.stderr[-2000:]
    return console
