"""What a process was while events of it were lost, where events that came behind the loss tell where it is now."""

import pytest

from auditns_connector.model.past import KEPT_STATES
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.world import HEX, MS, World, contid

DOCKER = f"/docker/{HEX}"


def confirmed(w: World, at: int, cgroup: str, **ns: int) -> None:
    """A scan that is not brought back to its beginning shows process 100 in ``cgroup``."""
    w.put(f.K_RESYNC, at, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.proc(100, 1, start=1000, cg=cgroup, ns={**INITIAL_INODES_618, **ns})
    w.put(f.K_RESYNC, at + 10, f.S_PROCFS, arg=2)
    w.put(f.K_COMM, at + 20, pid=1, tid=1)


def test_where_a_process_in_doubt_was_before_a_move_that_was_seen_is_unknown() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    w.attach(100, "/", 2100)
    confirmed(w, 2200, "/")
    assert [w.who(100, at) for at in (1500, 2050, 2215)] == [contid(HEX), "?", None]


def test_where_a_process_in_doubt_was_before_an_unshare_that_was_seen_is_unknown() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    w.called_unshare(100, 2090, 2100, net=4026540001)
    confirmed(w, 2200, DOCKER, net=4026540001)
    assert [w.who(100, at) for at in (1500, 2050, 2215)] == [contid(HEX), "?", contid(HEX)]


def test_whose_an_exec_in_doubt_was_is_unknown_where_the_scan_shows_another_place() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.exec(100, 1500, "/bin/x")
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    w.exec(100, 2050, "/bin/y")
    confirmed(w, 2200, DOCKER)
    assert [w.who_exec(100, 1500, "/bin/x"), w.who_exec(100, 2050, "/bin/y")] == [None, "?"]


def test_who_moves_behind_every_loss_is_not_remembered_without_end() -> None:
    w = World()
    w.fork(1, 100, 1000)
    for turn in range(2 * KEPT_STATES):
        at = 2000 + 1000 * turn
        w.put(f.K_LOST, at, cgroup=(at - 100) * MS, arg=7)
        w.attach(100, "/" if turn % 2 else DOCKER, at + 100)
        confirmed(w, at + 200, "/" if turn % 2 else DOCKER)
    assert len(w.model.processes[100].past or ()) <= KEPT_STATES
    assert w.who(100, at + 215) is None


@pytest.mark.parametrize("then", ["unshares", "ends", "stays", "is read"])
def test_whose_a_sandbox_is_whose_first_process_is_in_doubt_is_unknown(then: str) -> None:
    """Within the loss it moved into a container's cgroup, which owns what it had been the first in from then on, and
    made another process there, that has left the cgroup since. It is never read, or in that cgroup."""
    space = 4026540001
    w = World(sandbox_types=["pid", "user"])
    w.fork(1, 100, 1000)
    w.called_unshare(100, 1001, 1002, user=space)
    w.fork(100, 150, 1003)  # it was there before, and stays where it is
    sandbox = w.who(100, 1500)
    assert sandbox not in (None, "?")
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    if then == "unshares":
        w.called_unshare(100, 2050, 2051, user=4026540002)
    elif then == "ends":
        w.exit(100, 2050)
    w.put(f.K_RESYNC, 2100, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    if then == "is read":
        w.proc(100, 1, start=1000, cg=DOCKER, ns={**INITIAL_INODES_618, "user": space})
    for pid, start in ((150, 1003), (200, 1950)):
        w.proc(pid, 100, start=start, cg="/", ns={**INITIAL_INODES_618, "user": space})
    w.put(f.K_RESYNC, 2110, f.S_PROCFS, arg=2)
    w.put(f.K_COMM, 2120, pid=1, tid=1)
    assert w.who(200, 2115) == "?"
    assert w.who(100, 1500) == w.who(150, 2115) == sandbox
