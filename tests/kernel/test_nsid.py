"""The kernel's ids of namespaces: unlike inodes never given twice, and no reference to what they name."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from auditns_connector.sources.nsid import NsId, NsIds, alive
from auditns_connector.vocabulary import namespaces as nstypes
from tests.kernel.support import can_tell_life, need

pytestmark = pytest.mark.usefixtures("root")

#: unshares, and has a child in it, for the types that only show there
UNSHARED = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(int(sys.argv[1])) == 0
child = os.fork()
if child == 0:
    os.write(1, os.readlink("/proc/self").encode() + b"\\n")
    sys.stdin.read()
    os._exit(0)
os.write(1, b"%d\\n" % child)
os.waitpid(child, 0)
"""


@contextmanager
def unshared(nstype: str) -> Iterator[int]:
    """A process in a new namespace of that type; gone with all that holds the namespace at the end."""
    command = [sys.executable, "-c", UNSHARED, str(nstypes.FLAGS[nstype])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [int(process.stdout.readline()), int(process.stdout.readline())]
        need(lines[0] == lines[1], "/proc of this pid namespace")
        yield lines[0]


def ask(pid: int, nstype: str, *, family: bool = False) -> NsId:
    found = NsIds().ns_id(pid, nstype, family=family)
    assert found is not None
    return found


def is_gone_soon(found: NsId) -> bool:
    """At once for most; the last reference to a pid or user namespace falls after an RCU grace period."""
    deadline = time.monotonic() + 60
    while alive(found.id, found.nstype, found.ino) and time.monotonic() < deadline:
        time.sleep(0.005)
    return alive(found.id, found.nstype, found.ino) is False


def need_ids() -> None:
    need(ask(os.getpid(), "uts").id, "NS_GET_ID (Linux 6.18)")


@pytest.mark.parametrize("nstype", nstypes.ALL_ORDER)
def test_of_this_process(nstype: str) -> None:
    found = ask(os.getpid(), nstype)
    stat = os.stat(f"/proc/self/ns/{nstype}")
    assert (found.nstype, found.dev, found.ino) == (nstype, stat.st_dev, stat.st_ino)


@pytest.mark.parametrize("nstype", nstypes.ALL_ORDER)
def test_another_namespace_has_another_id(nstype: str) -> None:
    need_ids()
    with unshared(nstype) as pid:
        found = ask(pid, nstype, family=True)
    assert found.id not in (0, ask(os.getpid(), nstype).id)
    assert found.owner == (os.stat("/proc/self/ns/user").st_ino if nstype != "user" else found.owner)
    expected = os.stat(f"/proc/self/ns/{nstype}").st_ino if nstype in ("pid", "user") else 0
    assert found.parent == expected
    assert found.owner_uid == (0 if nstype == "user" else -1)


def test_ids_are_not_repeated_while_inodes_are() -> None:
    need_ids()
    found = []
    for _ in range(15):
        with unshared("uts") as pid:
            found.append(ask(pid, "uts"))
    assert len({answer.id for answer in found}) == len(found)


def test_what_is_no_longer_so_is_none() -> None:
    asker = NsIds()
    own = os.stat("/proc/self/ns/net").st_ino
    assert asker.ns_id(os.getpid(), "net", own) is not None
    assert asker.ns_id(os.getpid(), "net", own + 1) is None
    with subprocess.Popen(["true"]) as child:
        child.wait()
        assert asker.ns_id(child.pid, "net") is None
    assert asker.counters() == {"asked": 3, "gone": 1, "denied": 0, "other": 1, "failed": 0}


def test_the_initial_ones() -> None:
    need(os.stat("/proc/self/ns/pid").st_ino == nstypes.INITIAL_INODES["pid"], "the initial pid namespace")
    found = NsIds().initial()
    for name, ino in nstypes.INITIAL_INODES.items():
        assert found[name].ino == ino
    assert set(found) == set(nstypes.ALL_ORDER)


@pytest.mark.parametrize("nstype", nstypes.ALL_ORDER)
def test_life_ends_with_the_last_process_though_we_ask(nstype: str) -> None:
    need(can_tell_life(), "file handles of namespaces (Linux 6.18)")
    with unshared(nstype) as pid:
        found = ask(pid, nstype)
        assert alive(found.id, nstype, found.ino) is True
        assert alive(found.id, nstype, found.ino + 1) is False
        assert alive(found.id + (1 << 40), nstype, found.ino) is False
    assert is_gone_soon(found)


def test_a_namespace_held_by_a_descriptor_lives_on() -> None:
    need(can_tell_life(), "file handles of namespaces (Linux 6.18)")
    with unshared("net") as pid:
        found = ask(pid, "net")
        held = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    assert alive(found.id, "net", found.ino) is True
    os.close(held)
    assert is_gone_soon(found)


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    asker = NsIds()
    for name in nstypes.ALL_ORDER:
        found = asker.ns_id(os.getpid(), name, family=True)
        assert found is not None
        alive(found.id, name, found.ino)
        asker.ns_id(1, name, family=True)
        asker.ns_id(os.getpid(), name, 1)
    assert os.listdir("/proc/self/fd") == before
