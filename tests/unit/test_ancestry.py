"""Where a process comes from: its parents, its key and its unit, as the table knows them."""

import json
from typing import Any

import pytest

from auditns_connector.attribution.entry_fields import ancestors_text
from auditns_connector.model.ancestry import MOST
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.entry import Ancestor
from auditns_connector.vocabulary import frames as f
from tests.unit.test_entries import BOOT, PATH, container, enriched, joins, world
from tests.unit.world import MS, World, shown_programs

KEY = BOOT.replace("-", "")


def process(w: World, pid: int, at: int, **more: Any) -> dict[str, Any]:
    found = json.loads(enriched(w, "json", pid, at, **more)).get("process")
    return dict(found or {})


def parents(w: World, pid: int, at: int) -> list[Any]:
    return [one and (one["pid"], one.get("file")) for one in process(w, pid, at).get("parents", [])]


def forget(w: World, at: float) -> None:
    """Whoever ended before ``at`` is forgotten."""
    w.put(f.K_MARK, w.now / MS + 1, f.S_PIPELINE, arg=int(at * MS))


def alive(w: World, at: float) -> None:
    """Time goes on."""
    w.fork(1, 4000, at)


@pytest.mark.parametrize("packs", [True, False])
def test_the_parents_go_up_to_the_first_process_of_the_container(packs: bool) -> None:
    w = world()
    w.model.packs = packs
    container(w, 200, 200)
    w.fork(201, 210, 210)
    w.exec(210, 211, "/bin/sh")
    w.fork(210, 211, 212)
    w.exec(211, 213, "./x")
    alive(w, 900)
    assert process(w, 211, 500) == {
        "key": f"{KEY}:211:212000000",
        "parents": [
            {"pid": 210, "start": "210000000", "comm": "sh", "file": "/bin/sh"},
            {"pid": 201, "start": "202000000", "comm": "init", "file": "/bin/init"},
        ],
    }
    assert process(w, 201, 500) == {"key": f"{KEY}:201:202000000"}


def test_who_came_in_has_no_parents_outside() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(60, 300, 300)
    w.exec(300, 301, "/usr/bin/nsenter")
    joins(w, 300, 302, mnt=902)
    w.fork(300, 301, 303, pid=901, mnt=902)
    alive(w, 900)
    assert parents(w, 301, 500) == [(300, "/usr/bin/nsenter")]
    assert parents(w, 300, 500) == []


def test_a_process_of_the_host_has_its_unit_and_no_parents() -> None:
    w = world()
    alive(w, 900)
    assert process(w, 60, 500) == {"key": f"{KEY}:60:100000000", "unit": "session-3.scope"}


@pytest.mark.parametrize("packs", [True, False])
def test_whoever_has_ended_is_among_them_as_long_as_somebody_descends(packs: bool) -> None:
    """A daemon: each process leaves a child and ends."""
    w = world()
    w.model.packs = packs
    container(w, 200, 200)
    for i in range(10):
        w.fork(201 if not i else 299 + i, 300 + i, 300 + 10 * i)
        w.exec(300 + i, 301 + 10 * i, f"/bin/step{i}")
        if i:
            w.exit(299 + i, 305 + 10 * i)
    forget(w, 5000)
    assert w.model.processes.get(304) is None, "the table has forgotten it"
    alive(w, 6000)
    assert parents(w, 309, 5900) == [*((300 + i, f"/bin/step{i}") for i in range(8, -1, -1)), (201, "/bin/init")]


def test_a_chain_of_processes_that_end_is_not_remembered_without_end() -> None:
    w = world()
    container(w, 200, 200)
    for i in range(3000):
        w.fork(201 if not i else 999 + i, 1000 + i, 300 + i)
        if i:
            w.exit(999 + i, 300.5 + i)
        forget(w, 300 + i)
    assert len(w.model.ancestry._gone) < 2200
    alive(w, 9000)
    found = parents(w, 3999, 8000)
    assert len(found) == MOST + 1
    assert found[-1] is None, "more is not known"


def test_without_descendants_nothing_is_remembered() -> None:
    w = world()
    container(w, 200, 200)
    for i in range(3000):
        w.fork(201, 1000 + i, 300 + i)
        w.exit(1000 + i, 300.5 + i)
        forget(w, 300 + i)
    assert len(w.model.ancestry._gone) == 0


def test_who_outlives_his_parent_for_a_while_is_forgotten_with_him() -> None:
    w = world()
    container(w, 200, 200)
    for i in range(5000):
        w.fork(201, 1000 + 2 * i, 300 + i)
        w.fork(1000 + 2 * i, 1001 + 2 * i, 300.2 + i)
        w.exit(1000 + 2 * i, 300.3 + i)
        w.exit(1001 + 2 * i, 300.5 + i)
        forget(w, 300.4 + i)
    assert len(w.model.ancestry._gone) < 1100


def test_a_grandparent_that_ends_last_is_remembered_as_well() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 300, 300)
    w.exec(300, 301, "/bin/a")
    w.fork(300, 301, 310)
    w.exec(301, 311, "/bin/b")
    w.fork(301, 302, 320)
    w.exit(301, 330)
    forget(w, 400)
    w.exit(300, 500)
    forget(w, 600)
    alive(w, 900)
    assert parents(w, 302, 700) == [(301, "/bin/b"), (300, "/bin/a"), (201, "/bin/init")]


def test_a_parent_whose_beginning_nobody_knows_ends_the_line() -> None:
    w = World(boot_id=BOOT)
    w.fork(500, 510, 100)  # of somebody who was never seen
    w.attach(510, PATH, 101)
    w.proc(510, 500, at=102, start=100, cg=PATH)
    alive(w, 900)
    assert parents(w, 510, 500) in ([], [None])


def test_programs_as_proc_shows_them_are_marked_and_only_until_another_is_run() -> None:
    w = world()
    container(w, 200, 200)
    w.proc(220, 201, at=300, start=210, comm="old", cg=PATH, ns={**w.model.namespaces.initial_inodes, "pid": 901})
    w.model.apply(shown_programs([(220, b"/usr/bin/old"), (4711, b"/x"), (0, b"/y")], w.now))
    w.fork(220, 221, 310)
    w.fork(221, 222, 311)
    alive(w, 900)
    told = {"exe": "/usr/bin/old", "exe_from": "procfs", "comm": "old"}
    assert process(w, 222, 500)["parents"][:2] == [
        {"pid": 221, "start": "310000000", **told},
        {"pid": 220, "start": "210000000", **told},
    ]
    w.exec(221, 910, "/bin/new")
    w.fork(221, 223, 911)
    alive(w, 1900)
    found = process(w, 223, 1500)["parents"]
    assert found[0] == {"pid": 221, "start": "310000000", "comm": "new", "file": "/bin/new"}
    assert found[1]["exe"] == "/usr/bin/old"


def test_damaged_programs_are_no_trouble() -> None:
    w = world()
    for payload in (b"x", b"\xff" * 20, (7).to_bytes(4, "little") + b"\xff\xff\xff\xff" + b"abc"):
        w.put(f.K_PROGRAMS, 300, f.S_PROCFS, payload=payload)


def test_container_info_has_as_many_as_are_wanted() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 210, 210)
    w.exec(210, 211, "/bin/s h")
    w.fork(210, 211, 212)
    alive(w, 900)
    assert "key=" not in enriched(w, "raw", 211, 500, info=True)
    one = enriched(w, "raw", 211, 500, parents=1).splitlines()[-1]
    assert one.endswith(f' key={KEY}:211:212000000 parents="210:210000000:s%20h:/bin/s%20h"')
    assert " origin=" in one
    both = enriched(w, "raw", 211, 500, parents=32).splitlines()[-1]
    assert both.endswith(',201:202000000:init:/bin/init"')
    assert "CONTAINER_INFO" not in enriched(w, "raw", 60, 500, parents=32)


def test_a_long_list_fits_a_record() -> None:
    line = [Ancestor(i, i, b"\xff" * 15, b"\xff" * 1000) for i in range(32)]
    assert ancestors_text(line) == "?"
    line = [Ancestor(i, i, b"\xff" * 15, b"\xff" * 100) for i in range(32)]
    assert len(ancestors_text(line)) < 2100
    assert ancestors_text(line).endswith(",?")
    assert ancestors_text([Ancestor(1, 2, b"a", b"/b", b"/c", True)]) == "1:2:a:/b:/c:procfs"


def test_names_of_programs_are_bounded() -> None:
    """Whoever runs millions of programs has others forgotten, never taken for his."""
    table = Model().table
    first = []
    for i in range(100):
        first.append(table.numbered(b"/bin/%d" % i))
        assert table.name(first[-1]) == b"/bin/%d" % i
    # where a name is put depends on a number that is another one in each run: rarely three want one place
    assert sum(bool(table.name(number)) for number in first) > 90
    for i in range(100_000):
        table.numbered(b"/evil/%d" % i)
    assert {table.name(number) for number in first} <= {b"", *(b"/bin/%d" % i for i in range(100))}
    assert sum(bool(table.name(table.hash(b"/evil/%d" % i))) for i in range(100_000)) <= 16384
    assert table.name(table.numbered(b"x" * 2000)) == b""
    assert table.name(0) == b""


def test_the_key_of_a_pid_that_is_used_again_is_another() -> None:
    w = world()
    container(w, 200, 200)
    w.fork(201, 210, 210)
    w.exit(210, 300)
    w.fork(201, 210, 400)
    alive(w, 900)
    assert [process(w, 210, at)["key"] for at in (250, 500)] == [f"{KEY}:210:210000000", f"{KEY}:210:400000000"]
