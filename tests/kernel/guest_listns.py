"""What runs inside the guest of test_listns.py: namespaces that no process is in, before the listener, beside it, and
while it is not told of what happens. The findings go to the console."""

import ctypes
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import NsDel, NsInit
from auditns_connector.sources.listns import NamespaceList
from auditns_connector.sources.perf import PerfSource
from auditns_connector.vocabulary.namespaces import ALL_ORDER, MNT, NET
from tests.kernel.guest_words import AUDITNS, CONTROL, OUT, auditns, content, tell

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_OPEN_TREE, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 428, 430, 431, 432
NS_GET_ID = 0x8008B70D
OPEN_TREE_CLONE, OPEN_TREE_NAMESPACE, FSMOUNT_NAMESPACE, FSCONFIG_CMD_CREATE, AT_FDCWD = 1, 2, 2, 6, -100


def until(true: Callable[[], bool]) -> None:
    """Wait for it, for a minute at most."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)


def call(*words: object) -> int:
    """A system call's descriptor."""
    found: int = LIBC.syscall(*words)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(words[0]))
    return found


def open_tree(flags: int) -> int:
    """A copy of /tmp's mounts: a mount namespace, or a tree that is in none."""
    return call(SYS_OPEN_TREE, AT_FDCWD, b"/tmp", flags)


def fsmount(flags: int) -> int:
    """A file system made just now: in a mount namespace of its own, or in none."""
    context = call(SYS_FSOPEN, b"tmpfs", 0)
    call(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
    made = call(SYS_FSMOUNT, context, flags, 0)
    os.close(context)
    return made


def number(fd: int) -> int:
    """The kernel's id of a mount namespace that is open: inodes are used again at once."""
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("mnt:[")
    return int.from_bytes(fcntl.ioctl(fd, NS_GET_ID, bytes(8)), sys.byteorder)


def has(kind: str, serial: int) -> bool:
    """Whether the listener has told so of that namespace."""
    return any(f"type={kind} " in line and f" snum={serial:x} " in line for line in content(OUT).splitlines())


def until_has(kind: str, serial: int) -> None:
    """Wait for the listener to tell so."""
    until(lambda: has(kind, serial))


def live() -> None:
    """Beside the listener."""
    open(OUT + ".netns", "wb").close()
    subprocess.run(["/usr/bin/unshare", f"--net={OUT}.netns", "/usr/bin/true"], check=True)
    before = {"net": os.stat(OUT + ".netns").st_ino, "tree": 0}
    kept = open_tree(OPEN_TREE_NAMESPACE)
    before["tree"] = os.fstat(kept).st_ino
    tell(run="alone", before=before, ns=auditns("ns", "--json").stdout)
    command = [*AUDITNS, "listen", "--format", "raw", "--record-names", "symbolic", "--control", CONTROL, "--ns", "all"]
    with open(OUT, "wb") as out, open(OUT + ".err", "wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    until(lambda: os.path.exists(CONTROL) and auditns("status").returncode == 0)
    seen = auditns("ns", "--json").stdout
    made = {}
    for name, make in (("tree", lambda: open_tree(OPEN_TREE_NAMESPACE)), ("mount", lambda: fsmount(FSMOUNT_NAMESPACE))):
        fd = make()
        made[name] = number(fd)
        until_has("NS_INIT", made[name])
        os.close(fd)
        until_has("NS_DEL", made[name])
    enter = "import ctypes, sys; assert ctypes.CDLL(None).setns(int(sys.argv[1]), 0x20000) == 0; sys.stdin.read()"
    for name in ("entered", "kept"):
        fd = open_tree(OPEN_TREE_NAMESPACE) if name == "entered" else kept
        made[name] = number(fd)
        with subprocess.Popen([sys.executable, "-c", enter, str(fd)], pass_fds=[fd], stdin=subprocess.PIPE) as inside:
            until_has("NS_CHANGE", made[name])
            inside.communicate()
    fd = open_tree(OPEN_TREE_NAMESPACE)
    made["passed"] = number(fd)
    subprocess.run([sys.executable, "-c", enter, str(fd)], pass_fds=[fd], stdin=subprocess.DEVNULL, check=True)
    until_has("NS_INIT", made["passed"])
    others = [open_tree(OPEN_TREE_CLONE), fsmount(0)]
    time.sleep(5)
    inits = sum("type=NS_INIT " in line and " type=20000 " in line for line in content(OUT).splitlines())
    for fd in others:
        os.close(fd)
    process.terminate()
    tell(run="live", status=process.wait(180), said=content(OUT + ".err"), ns=seen, made=made, inits=inits)
    for line in content(OUT).splitlines():
        if "type=NS_" in line and " type=20000 " in line:
            tell(run="line", text=line)
    os.close(kept)


def behind_a_loss() -> None:
    """While more happens than the rings hold."""
    observer = Observer(Model(), perf=PerfSource(pages=8, calls=True), all_serials=True)
    observer.tell_lifecycle(True)
    observer.start()
    model = observer.model
    model.own.begin(0, 0)
    model.outputs.clear()
    path = "/tmp/lost"
    open(path, "wb").close()
    for _ in range(800):
        os.waitpid(os.posix_spawn("/usr/bin/true", ["true"], {}), 0)
    subprocess.run(["/usr/bin/unshare", f"--net={path}", "/usr/bin/true"], check=True)
    ino = os.stat(path).st_ino
    observer.sync()
    outputs = [output for output in model.outputs if isinstance(output, NsInit) and output.inst.index == NET]
    held = [inst for inst in model.namespaces.unproven_ends.values() if inst.index == NET and inst.held]
    tell(
        run="loss",
        epoch=model.epoch,
        ino=ino,
        told=[[output.inst.ino, output.process is None, output.inst.has_kernel_id] for output in outputs],
        held=[inst.ino for inst in held],
    )
    model.outputs.clear()
    subprocess.run(["umount", path], check=True)

    def gone() -> bool:
        observer.sync()
        observer.prove()
        return any(isinstance(output, NsDel) and output.inst.ino == ino for output in model.outputs)

    until(gone)
    tell(run="gone", gone=gone(), unseen=[i.ino for i in model.namespaces.unproven_ends.values() if i.index == MNT])
    observer.close()


def lists() -> None:
    """What the kernel's list says of this process' own namespaces."""
    listing, found = NamespaceList(), {}
    for index, name in enumerate(ALL_ORDER):
        ids = listing.ids(index)
        listed = [one.ino for number in ids if (one := listing.find(number, index)) is not None]
        found[name] = [len(ids), ids == sorted(set(ids)), os.stat(f"/proc/self/ns/{name}").st_ino in listed]
    tell(run="lists", available=listing.available, types=found, spent=listing.find(1 << 62, MNT))


tell(run="kernel", release=os.uname().release)
os.chmod("/run", 0o755)
os.makedirs("/run/auditns", exist_ok=True)
lists()
live()
behind_a_loss()
