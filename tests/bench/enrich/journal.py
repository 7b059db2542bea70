"""A journal that fits a corpus: every process of it belongs to one of many containers, and one MARK answers all.

Births are taken from the clone records, execs from the execve records, so their distance to the audit stamps is the
real one; the containers are made up, for on the recording host there was none.
"""

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import ALL_ORDER, INITIAL_INODES, INITIAL_INODES_618, PERF_ORDER

NS_DEV: Final = 4
#: CLOCK_REALTIME minus CLOCK_MONOTONIC of the made-up host: its boot was this long before the first record (ns)
UPTIME: Final = 1_000_000_000_000
INITIAL: Final = {**INITIAL_INODES, "net": INITIAL_INODES_618["net"], "mnt": INITIAL_INODES_618["mnt"]}
#: the first made-up pid; beyond what pid_max allows on most hosts, so that none of a corpus is one of them
FIRST_PID: Final = 1_000_000
_MS: Final = 1_000_000
_CLONES: Final = (56, 58, 435)  # x86_64: clone, vfork, clone3
_SYSCALL: Final = re.compile(
    rb"type=SYSCALL msg=audit\((\d+)\.(\d+):(\d+)\).*? syscall=(\d+) success=(\w+) exit=(-?\d+) .*? pid=(\d+) "
    rb'.*? comm=("[^"]*"|\S+)'
)
_ITEM: Final = re.compile(rb'type=PATH msg=audit\(\d+\.\d+:(\d+)\).*? item=0 name=("[^"]*"|\S+)')


class Call(NamedTuple):
    """What a SYSCALL record says."""

    ms: int
    serial: int
    number: int
    good: bool
    result: int
    pid: int
    comm: bytes


def hello(offset: int, now: int) -> bytes:
    """The frames every journal begins with."""
    said = {
        "v": 1, "boot_id": "8a3c1f0e-5b1d-4f5e-9d0a-000000000000", "kernel": "bench", "node": "bench", "perf": True,
        "features": ["exec_sample", "exit_sample"], "initial": INITIAL, "ns_dev": NS_DEV, "sample_root": 0,
        "v2_only": True, "lag_ns": 12_000_000,
    }  # fmt: skip
    return f.pack(f.K_HELLO, f.S_PIPELINE, now, payload=json.dumps(said).encode()) + f.pack(
        f.K_CLOCK, f.S_PIPELINE, now, arg=offset
    )


def proc(pid: int, ppid: int, now: int, container: int | None, place: str = "") -> bytes:
    """A process as /proc shows it, the first one of container number ``container`` or one of the host (in the cgroup
    ``place``)."""
    own, place = dict(INITIAL), place if container is None else cgroup(container)
    if container is not None:
        own.update(zip(PERF_ORDER, inodes(container), strict=True))
    # with one number alone it would not be the first of its pid namespace, but one that has gone in
    numbers = [pid] if container is None else [pid, 1]
    answer = {
        "pid": pid, "tids": [pid], "ppid": ppid, "start": now, "start_ticks": now // 10_000_000, "comm": "init",
        "state": "S", "ns": {name: own.get(name) for name in ALL_ORDER}, "ns_dev": NS_DEV,
        "cg": {"0": place} if place else {}, "uids": [0, 0, 0, 0], "nspid": numbers, "loginuid": None,
        "sessionid": None,
    }  # fmt: skip
    return f.pack(f.K_PROC, f.S_PROCFS, now, pid=pid, tid=pid, payload=json.dumps(answer).encode())


def cgroup(container: int) -> str:
    """The cgroup path of container number ``container``."""
    return f"/system.slice/docker-{sha256(str(container).encode()).hexdigest()}.scope"


def inodes(container: int) -> tuple[int, ...]:
    """The namespaces of a process of that container, in the order of a perf record."""
    base = 4026540000 + 8 * container
    own = {"mnt": base, "uts": base + 1, "ipc": base + 2, "pid": base + 3, "net": base + 4, "cgroup": base + 5}
    return tuple(own.get(name, INITIAL[name]) for name in PERF_ORDER)


def fork(pid: int, init: int, now: int, container: int) -> bytes:
    """A process made by the first one of its container."""
    payload = f.NAMESPACES_PAYLOAD.pack(NS_DEV, *inodes(container))
    return f.pack(f.K_FORK, f.S_PERF, now, pid=pid, tid=pid, ppid=init, ptid=init, payload=payload)


def population(processes: int, containers: int, now: int) -> Iterator[bytes]:
    """``processes`` living processes in ``containers`` containers; the first of container ``n`` is FIRST_PID + n."""
    yield f.pack(f.K_RESYNC, f.S_PROCFS, now, arg=1)
    for number in range(containers):
        path = cgroup(number).encode() + b"\0"
        yield f.pack(f.K_CGROUP, f.S_PROCFS, now, cgroup=1000 + number, payload=path)
    yield proc(1, 0, 0, None)
    for number in range(min(containers, processes)):
        yield proc(FIRST_PID + number, 1, now, number)
    yield f.pack(f.K_RESYNC, f.S_PROCFS, now, arg=2)
    for number in range(containers, processes):
        which = number % containers
        yield fork(FIRST_PID + number, FIRST_PID + which, now + number, which)


def calls(log: Path) -> tuple[list[Call], dict[int, bytes]]:
    """The SYSCALL records of a corpus, and the name of PATH item 0 by serial."""
    found, names = [], {}
    with open(log, "rb") as text:
        for line in text:
            if match := _SYSCALL.match(line):
                sec, ms, serial, number, good, result, pid, comm = match.groups()
                found.append(
                    Call(int(sec) * 1000 + int(ms), int(serial), int(number), good == b"yes", int(result), int(pid),
                         comm.strip(b'"'))
                )  # fmt: skip
            elif match := _ITEM.match(line):
                names[int(match[1])] = match[2].strip(b'"')
    return found, names


def events(log: Path, offset: int, containers: int) -> list[tuple[int, bytes]]:
    """(time, frame) of the corpus's processes, in order."""
    found, names = calls(log)
    births: dict[int, list[int]] = defaultdict(list)
    for call in found:
        if call.number in _CLONES and call.result > 0:
            births[call.result].append(call.ms)
    for stamps in births.values():
        stamps.sort()
    lives: dict[tuple[int, int], list[Call]] = defaultdict(list)
    for call in found:
        lives[call.pid, bisect_right(births[call.pid], call.ms)].append(call)
    out: list[tuple[int, bytes]] = []
    for number, ((pid, born), life) in enumerate(lives.items()):
        which = number % containers
        start = births[pid][born - 1] * _MS + 300_000 if born else life[0].ms * _MS - 5 * _MS
        out.append((start - offset, fork(pid, FIRST_PID + which, start - offset, which)))
        for call in life:
            if call.number in (59, 322) and call.good:
                when = call.ms * _MS + 500_000 - offset
                comm, name = call.comm + b"\0", names.get(call.serial, b"?") + b"\0"
                out.append((when, f.pack(f.K_COMM, f.S_PERF, when, pid=pid, tid=pid, arg=1, payload=comm)))
                out.append((when + 1, f.pack(f.K_EXEC, f.S_PERF, when + 1, pid=pid, tid=pid, cgroup=1000 + which,
                                             payload=name)))  # fmt: skip
        end = max(call.ms for call in life) * _MS + 2 * _MS - offset
        out.append((end, f.pack(f.K_EXIT_SAMPLE, f.S_PERF, end, pid=pid, tid=pid, cgroup=1000 + which)))
        out.append((end, f.pack(f.K_EXIT, f.S_PERF, end, pid=pid, tid=pid, ppid=1, ptid=1)))
    out.sort(key=lambda item: item[0])
    return out


def write(log: Path, path: Path, processes: int = 10_000, containers: int = 200) -> None:
    """Make the journal for ``log``."""
    with open(log, "rb") as text:
        line = next(line for line in text if line.startswith(b"type=SYSCALL"))
    first = int(line.split(b"audit(", 1)[1].split(b".", 1)[0]) * 1_000_000_000
    offset = first - UPTIME
    began = UPTIME - 60_000_000_000
    frames = events(log, offset, containers)
    last = frames[-1][0] + 1_000_000_000
    everything = f.pack(f.K_MARK, f.S_PIPELINE, last, payload=(0).to_bytes(8, "little") + (2**63).to_bytes(8, "little"))
    with open(path, "wb") as out:
        out.write(hello(offset, began))
        out.writelines(population(processes, containers, began))
        out.writelines(frame for _, frame in frames)
        out.write(everything)
