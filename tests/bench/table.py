"""The process table alone, no kernel and no text: what a life costs where C applies it and where Python does, and how
much memory a process takes."""

import ctypes
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from auditns_connector.daemon.collector import collecting
from auditns_connector.host.namespace_queries import NsAsker
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.state.event_serials import EventSerials
from auditns_connector.vocabulary import frames as f

from . import report
from .enrich import journal

_STEP = 1000
_PIDS = 30_000
_FIRST = 5000
_LIFE = 10_000
#: so long after its end a process is forgotten (ns)
_KEPT = 200_000_000


def world(packs: bool) -> tuple[Model, int, bytes]:
    """A model with one process in the first of its containers; its pid, and what FORK frames say of its children."""
    model = Model()
    model.packs = packs
    model.apply(journal.hello(0, journal.UPTIME) + b"".join(journal.population(200, 1, journal.UPTIME)))
    maker = journal.FIRST_PID
    nsset = model.processes[maker].state.nsset
    assert nsset is not None
    assert nsset.raw is not None
    return model, maker, nsset.raw


def host(packs: bool) -> tuple[Model, int, bytes]:
    """:func:`world`, but the process is one of the host."""
    model, _, _ = world(packs)
    maker = journal.FIRST_PID - 1
    model.apply(journal.proc(maker, 1, journal.UPTIME, None, "/user.slice"))
    nsset = model.processes[maker].state.nsset
    assert nsset is not None
    assert nsset.raw is not None
    return model, maker, nsset.raw


def plain(maker: int, raw: bytes, pid: int, now: int) -> bytes:
    """A fork, an exec, an exit."""
    cgroup = 1000  # of the first container
    return b"".join(
        (
            f.pack(f.K_FORK, f.S_PERF, now, pid=pid, tid=pid, ppid=maker, ptid=maker, payload=raw),
            f.pack(f.K_COMM, f.S_PERF, now + 1, pid=pid, tid=pid, arg=1, payload=b"true\0"),
            f.pack(f.K_EXEC, f.S_PERF, now + 2, pid=pid, tid=pid, ppid=pid, cgroup=cgroup, payload=b"/bin/true\0"),
            f.pack(f.K_EXIT_SAMPLE, f.S_PERF, now + 3, pid=pid, tid=pid, cgroup=cgroup),
            f.pack(f.K_EXIT, f.S_PERF, now + 4, pid=pid, tid=pid, ppid=maker, ptid=maker),
        )
    )


def spaces(maker: int, raw: bytes, pid: int, now: int) -> bytes:
    """A clone into a user and a pid namespace of its own, and its end."""
    inodes = list(f.NAMESPACES_PAYLOAD.unpack(raw))
    inodes[4], inodes[5] = 4_026_540_000 + pid % 50, 4_026_541_000 + pid % 50
    made = f.NAMESPACES_PAYLOAD.pack(*inodes)
    return b"".join(
        (
            f.pack(f.K_FORK, f.S_PERF, now, pid=pid, tid=pid, ppid=maker, ptid=maker, payload=made),
            f.pack(f.K_NEWTASK, f.S_PERF, now + 1, tid=pid, arg=0x3000_0000),
            f.pack(f.K_EXIT_SAMPLE, f.S_PERF, now + 3, pid=pid, tid=pid),
            f.pack(f.K_EXIT, f.S_PERF, now + 4, pid=pid, tid=pid, ppid=maker, ptid=maker),
        )
    )


def cost(packs: bool, life: Callable[[int, bytes, int, int], bytes], lives: int, *, told: bool = False) -> float:
    """CPU seconds of one life; ``told``: with its lines, as far as these are not only counted."""
    model, maker, raw = host(packs) if life is spaces else world(packs)
    model.lifecycle = told
    asker = NsAsker(model.namespaces, all_serials=True)
    standalone = StandaloneRecords(model, EventSerials(None), ("raw",)) if told else None
    now, blocks = journal.UPTIME + 10**9, []
    for first in range(0, lives, _STEP):
        block = []
        for i in range(first, first + _STEP):
            now += _LIFE
            block.append(life(maker, raw, _FIRST + i % _PIDS, now))
        block.append(f.pack(f.K_MARK, f.S_PIPELINE, now, arg=now - _KEPT))
        blocks.append(b"".join(block))
    with collecting():
        start = time.process_time()
        for joined in blocks:
            model.apply(joined)
            if standalone is not None:
                born, model.namespaces.born = model.namespaces.born, []
                model.apply(b"".join([*map(asker.identify, born), *asker.of_table(model.table, 0)]))
                standalone.format_outputs(model.take_outputs())
                model.outputs_consumed()
            model.outputs = []
            model.forget_questions()
        return (time.process_time() - start) / lives


def resident() -> int:
    """Bytes of ours in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def memory(packs: bool, processes: int, *, ended: bool) -> float:
    """Bytes that one more process takes, alive or ended."""
    model, maker, raw = world(packs)
    cut = 5 if ended else 3
    frames = []
    now = journal.UPTIME + 10**9
    for i in range(processes):
        now += _LIFE
        block = plain(maker, raw, _FIRST + i, now)
        frames.append(b"".join(list(_split(block))[:cut]))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    for at in range(0, processes, _STEP):
        model.apply(b"".join(frames[at : at + _STEP]))
    return (resident() - before) / processes


def _split(block: bytes) -> list[bytes]:
    out, off = [], 0
    while off < len(block):
        size = int.from_bytes(block[off : off + 4], "little")
        out.append(block[off : off + size])
        off += size
    return out


def _in_a_process(call: str) -> float:
    """The figure of a call here, in a process of its own."""
    code = f"import tests.bench.table as t; print(t.{call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def bench(quick: bool) -> str:
    """The table."""
    lives, repeat = (2_000, 1) if quick else (60_000, 5)
    rows = []
    for name, life, frames, told in (
        ("fork, exec, exit", plain, 5, False),
        ("user+pid namespaces", spaces, 4, False),
        ("the same with lines", spaces, 6, True),
    ):
        found = {
            packs: [cost(packs, life, lives if packs or quick else lives // 6, told=told) for _ in range(repeat)]
            for packs in (True, False)
        }
        packed, held = (statistics.median(found[packs]) for packs in (True, False))
        rows.append(
            (f"{name}, µs", *(report.spread([1e6 * one for one in found[packs]], 3) for packs in (True, False)))
        )
        rows.append(
            (f"{name}, million frames a CPU second", f"{frames / packed / 1e6:.2f}", f"{frames / held / 1e6:.2f}")
        )
    many = 5_000 if quick else 100_000
    for name, ended in (("a living process, bytes", False), ("an ended process, bytes", True)):
        rows.append(
            (name, *(f"{_in_a_process(f'memory({packs}, {many}, ended={ended})'):.0f}" for packs in (True, False)))
        )
    return report.table(("process table", "rows in C", "all in Python"), rows)
