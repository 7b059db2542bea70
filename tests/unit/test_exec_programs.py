"""Programs by the records of execs: of the one exec that a record means, and of whoever descends from it."""

import json
from typing import Any

import pytest

from auditns_connector.attribution.exec_programs import ExecPrograms
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.vocabulary import frames as f
from tests.unit.test_entries import PATH, container, enriched, text_points, world
from tests.unit.world import MS, REAL, World, shown_programs

SHELL = "/usr/bin/dash"


def record(
    pid: int, at: float, file: str = "/bin/sh", exe: str = SHELL, *, serial: int = 7, comm: str = "", node: str = ""
) -> bytes:
    """The event of an exec."""
    ms = (REAL + int(at * MS)) // MS
    stamp = f"msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}):"
    prefix = f"node={node} " if node else ""
    exe = f'"{exe}"' if exe.startswith("/") and " " not in exe else exe
    comm = comm or file.rpartition("/")[2]
    return (
        f"{prefix}type=SYSCALL {stamp} arch=c000003e syscall=59 success=yes exit=0 a0=1 items=2 ppid=1 pid={pid} "
        f'auid=0 uid=0 gid=0 tty=(none) ses=3 comm="{comm}" exe={exe} key=(null)\n'
        f'{prefix}type=EXECVE {stamp} argc=1 a0="{file}"\n'
        f'{prefix}type=PATH {stamp} item=0 name="{file}" inode=1 nametype=NORMAL\n'
    ).encode()


def tell(w: World, *records: bytes, nodes: tuple[bytes, ...] = ()) -> list[f.Frame]:
    """These records come, and are about to be answered. Rows and what Python holds say the same."""
    points = text_points(b"".join(records), whole=True)[1]
    block = ExecPrograms(w.model).frames(points, w.now, nodes)
    held = Model()
    held.packs = False
    for frame in w.log:
        held.apply(frame)
    assert ExecPrograms(held).frames(points, w.now, nodes) == block
    w.log.append(block)
    w.model.apply(block)
    return list(f.iter_frames(block))


def parents(w: World, pid: int, at: int) -> list[Any]:
    found = json.loads(enriched(w, "json", pid, at)).get("process", {}).get("parents", [])
    return [(one["pid"], one.get("file"), one.get("exe"), one.get("exe_from")) for one in found]


@pytest.fixture(params=[True, False], ids=["rows", "held"])
def w(request: pytest.FixtureRequest) -> World:
    """A container (200), in which 210 has run a shell at 211. One without namespaces of its own has processes that are
    rows of the table in C."""
    made = world()
    if request.param:
        made.fork(70, 200, 200)
        made.attach(200, PATH, 201)
        made.fork(200, 201, 202)
        made.exec(201, 203, "/bin/init")
    else:
        container(made, 200, 200)
    made.fork(201, 210, 210)
    made.exec(210, 211, "/bin/sh")
    made.fork(210, 211, 212)
    assert (210 in made.model.table.held) is not request.param
    return made


def later(w: World, at: float) -> None:
    w.fork(1, 4000, at)


def test_the_record_of_the_exec_tells(w: World) -> None:
    w.fork(210, 220, 230)
    told = tell(w, record(210, 211))
    assert [(frame.pid, frame.arg, f.text(frame.payload)) for frame in told] == [(210, 211 * MS, SHELL.encode())]
    w.fork(210, 221, 240)
    w.fork(221, 222, 250)
    w.fork(220, 223, 251)
    later(w, 900)
    init = (201, "/bin/init", None, None)
    shell = ("/bin/sh", SHELL, None)
    assert parents(w, 220, 500)[:2] == [(210, *shell), init], "born before the record came"
    assert parents(w, 222, 500)[:3] == [(221, *shell), (210, *shell), init]
    assert parents(w, 223, 500)[:3] == [(220, *shell), (210, *shell), init]


def test_an_exec_without_a_record_is_not_known(w: World) -> None:
    tell(w, record(210, 211))
    w.exec(210, 300, "/bin/sh")
    w.fork(210, 220, 310)
    later(w, 900)
    assert parents(w, 220, 500)[0] == (210, "/bin/sh", None, None)


def test_a_record_of_the_exec_before_is_not_of_this_one(w: World) -> None:
    w.fork(210, 219, 215)
    w.exec(210, 1400, "/bin/sh")
    w.fork(210, 220, 1410)
    (frame,) = tell(w, record(210, 211))
    assert frame.arg == 211 * MS
    later(w, 1900)
    assert parents(w, 220, 1500)[0] == (210, "/bin/sh", None, None)
    assert parents(w, 219, 1500)[0][:2] == (210, "/bin/sh")


def test_a_later_holder_of_the_pid_has_not_run_it(w: World) -> None:
    w.exit(210, 300)
    w.fork(201, 210, 310)
    w.fork(210, 220, 320)
    assert tell(w, record(210, 211))
    later(w, 900)
    assert parents(w, 220, 500)[0] == (210, "/bin/init", None, None)
    w.exec(210, 950, "/bin/sh")
    w.fork(210, 221, 960)
    later(w, 1900)
    assert parents(w, 221, 1500)[0] == (210, "/bin/sh", None, None)


def test_two_execs_that_a_record_may_mean_are_none(w: World) -> None:
    w.exec(210, 212, "/bin/sh")
    assert tell(w, record(210, 211)) == []
    w.exec(210, 213, "/bin/cat")
    (frame,) = tell(w, record(210, 211, "/bin/cat", "/usr/bin/cat"))
    assert frame.arg == 213 * MS


@pytest.mark.parametrize(
    "wrong",
    [
        record(210, 211, "/bin/other"),
        record(210, 211, "/bin/other", comm="sh"),
        record(210, 211, comm="other"),
        record(211, 211),
        record(210, 100),
        record(210, 211, exe="(null)"),
        record(210, 211, exe="relative"),
        record(210, 211, exe="ABC"),
        record(210, 211, node="elsewhere"),
        record(210, 211).replace(b"success=yes", b"success=no"),
        record(210, 211).replace(b"syscall=59", b"syscall=2"),
        record(210, 211).partition(b"type=PATH")[0],
    ],
)
def test_records_that_say_nothing_of_it(w: World, wrong: bytes) -> None:
    assert tell(w, wrong) == []


def test_ways_in_which_it_is_written(w: World) -> None:
    odd = '/opt/a "b\n\xff (deleted)'.encode("latin-1")
    (frame,) = tell(w, record(210, 211, exe=odd.hex().upper(), node="here"), nodes=(b"here",))
    assert f.text(frame.payload) == odd
    w.fork(210, 220, 230)
    later(w, 900)
    line = enriched(w, "json", 220, 500)
    assert line.count("\n") == 1
    assert line.isascii()
    assert json.loads(line)["process"]["parents"][0]["exe"] == odd.decode("utf-8", "backslashreplace")
    told = enriched(w, "raw", 220, 500, parents=1).splitlines()[-1]
    assert told.endswith(':/bin/sh:/opt/a%20%22b%0A%FF%20%28deleted%29"') or ":/opt/a%20%22b%0A%FF%20" in told
    assert " exe=" not in told
    enriched_form = record(210, 211).replace(b" key=(null)", b' key=" exe=" \x1dARCH=x86_64 exe="/y"')
    (frame,) = tell(w, enriched_form)
    assert f.text(frame.payload) == SHELL.encode()


def test_where_events_are_missing_another_exec_may_be_among_them(w: World) -> None:
    tell(w, record(210, 211))
    w.fork(210, 220, 230)
    w.fork(210, 221, 231)
    w.exit(221, 240)
    w.put(f.K_LOST, 300, arg=3, cgroup=250 * MS)
    w.put(f.K_RESYNC, 301, f.S_PROCFS, arg=1)
    for pid, parent, start in ((1, 0, 0), (201, 1, 202), (210, 201, 210), (220, 210, 230)):
        w.proc(pid, parent, at=301, start=start)
    w.put(f.K_RESYNC, 302, f.S_PROCFS, arg=2)
    told = w.model.ancestry.describe
    of = {pid: told(w.model.ancestry.of(w.model.processes[pid])) for pid in (210, 220, 221)}
    assert [(one.file, one.exe) for one in of.values()] == [(b"", b""), (b"", b""), (b"/bin/sh", SHELL.encode())]
    w.model.apply(shown_programs([(210, b"/usr/bin/now")], w.now))
    w.fork(210, 230, 310)
    of = {pid: told(w.model.ancestry.of(w.model.processes[pid])) for pid in (210, 220, 230)}
    assert [(one.file, one.exe, one.procfs) for one in of.values()] == [
        (b"", b"/usr/bin/now", True), (b"", b"", False), (b"", b"/usr/bin/now", True),
    ]  # fmt: skip
    w.exec(210, 320, "/bin/sh")
    tell(w, record(210, 320))
    one = told(w.model.ancestry.of(w.model.processes[210]))
    assert (one.file, one.exe, one.procfs) == (b"/bin/sh", SHELL.encode(), False)


def test_who_has_ended_keeps_it(w: World) -> None:
    tell(w, record(210, 211))
    w.fork(210, 220, 230)
    w.exit(210, 240)
    w.put(f.K_MARK, 5000, f.S_PIPELINE, arg=4000 * MS)
    assert w.model.processes.get(210) is None, "the table has forgotten it"
    later(w, 5900)
    assert parents(w, 220, 5500)[0] == (210, "/bin/sh", SHELL, None)
    w.put(f.K_LOST, 6000, arg=3, cgroup=5950 * MS)
    assert w.model.ancestry.describe(next(iter(w.model.ancestry.line(w.model.processes[220])))).exe == SHELL.encode()


def test_what_a_replay_is_given_is_the_same(w: World) -> None:
    tell(w, record(210, 211))
    w.fork(210, 220, 230)
    later(w, 900)
    again = World()
    again.model, again.now = Model(), w.now
    for frame in w.log:
        again.model.apply(frame)
    assert enriched(again, "json", 220, 500) == enriched(w, "json", 220, 500)
    assert f'"exe":"{SHELL}"' in enriched(again, "json", 220, 500)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 8, b"/" + b"x" * 5000])
@pytest.mark.parametrize("pid", [-1, 0, 210, 1 << 22, (1 << 31) - 1])
def test_damaged_frames_are_no_trouble(w: World, payload: bytes, pid: int) -> None:
    for arg in (0, 211 * MS, (1 << 64) - 1):
        w.put(f.K_EXE, 300, f.S_AUDIT, pid=pid, arg=arg, payload=payload)
    w.fork(210, 220, 310)
    later(w, 900)
    assert parents(w, 220, 500)[0][:2] == (210, "/bin/sh")
