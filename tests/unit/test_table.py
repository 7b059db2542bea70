"""The table, one kernel history at a time."""

import pytest

from auditns_connector.attribution.lookup import find
from auditns_connector.errors import DecodeError
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.apply.perf import CLONE_INTO_CGROUP, CLONE_PARENT
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618, MNT, NET
from tests.unit.world import HEX, MS, REAL, World, contid

DOCKER = f"/docker/{HEX}"
OTHER = "f" * 8 + HEX[8:]
DOCKER2 = f"/docker/{OTHER}"


def test_a_host_process_has_no_container() -> None:
    w = World()
    w.fork(1, 100, 1000)
    assert w.who(100, 1000) is None


def test_a_pid_nobody_has_told_of_is_unknown() -> None:
    assert World().who(4711, 5) == "?"


def test_children_inherit_and_dead_ones_still_answer() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.fork(100, 101, 1100)
    w.exit(101, 1200)
    assert w.who(101, 1150) == contid(HEX)
    assert w.state(101, 1150).origin == "inherited"


def test_before_its_attach_a_process_was_of_the_host_and_near_it_it_is_unknown() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 2000)
    w.put(f.K_COMM, 3000, pid=100, tid=100)
    assert [w.who(100, at) for at in (1500, 1995, 2100)] == [None, "?", contid(HEX)]


def test_a_pid_reused_belongs_to_its_holder_of_the_moment() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.exit(100, 2000)
    w.fork(1, 100, 3000)
    assert [w.who(100, at) for at in (1500, 2500, 3000)] == [contid(HEX), "?", None]


def test_runc_init_made_with_clone_parent_belongs_to_its_true_creator() -> None:
    w = World()
    w.fork(1, 200, 1000)  # stage 0, moved by runc
    w.attach(200, DOCKER, 1001)
    w.fork(200, 201, 1010)  # stage 1 unshares
    w.unshare(201, 1010)
    w.unshare(201, 1011, net=11, mnt=12, uts=13, ipc=14)
    w.fork(201, 202, 1012, net=11, mnt=12, uts=13, ipc=14, pid=15)  # its child, though /proc says: child of 1
    w.exec(202, 1020)
    assert w.who_exec(202, 1019) == contid(HEX)


def test_a_runtime_that_attaches_after_the_clone_owns_the_pid_namespace() -> None:
    w = World()
    w.fork(1, 300, 1000, pid=20, mnt=21)
    w.attach(300, DOCKER, 1005)
    w.exec(300, 1010)
    w.fork(300, 301, 1020, pid=20, mnt=21)
    w.attach(301, "/", 1030)  # moved out of the cgroup, it stays in the pid namespace
    w.put(f.K_COMM, 1100, pid=301, tid=301)
    assert w.who_exec(300, 1009) == contid(HEX)
    assert w.who(301, 1050) == contid(HEX)


def test_an_unshared_pid_namespace_is_a_sandbox_and_the_next_one_another() -> None:
    w = World()
    for n, inode in enumerate((31, 31)):  # the inode is recycled at once
        w.fork(1, 400 + n, 1000 + 100 * n, pid=inode)
        w.exec(400 + n, 1001 + 100 * n)
        w.exit(400 + n, 1050 + 100 * n)
    first, second = w.who_exec(400, 1001), w.who_exec(401, 1101)
    assert first not in (None, "?")
    assert second not in (None, "?")
    assert first != second


def test_namespaces_told_behind_the_fork_are_those_of_the_birth() -> None:
    w = World()
    w.fork(1, 400, 1000)
    w.unshare(400, 1000.01, pid=31)
    w.put(f.K_COMM, 1100, pid=400, tid=400)
    sandbox = w.who(400, 1000)
    assert sandbox not in (None, "?")
    w.exec(400, 1200)
    assert w.who_exec(400, 1200) == sandbox


def test_a_namespace_made_inside_a_container_starts_no_further_one() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.fork(100, 101, 1100, pid=40)
    w.unshare(101, 1101, pid=40, user=41)
    w.exec(101, 1102)
    assert w.who_exec(101, 1101) == contid(HEX)


def test_a_runtime_inside_a_container_nests() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, f"{DOCKER}{DOCKER2}", 1001)
    w.put(f.K_COMM, 1100, pid=100, tid=100)
    assert w.who(100, 1050) == f"{contid(OTHER)},^{contid(HEX)}"


def test_a_container_cannot_pose_as_another_by_the_name_of_its_cgroup() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.fork(1, 200, 1000)
    w.attach(200, f"{DOCKER2}{DOCKER}", 1001)
    w.put(f.K_COMM, 1100, pid=100, tid=100)
    assert w.who(100, 1050) == contid(HEX)
    posing = w.who(200, 1050)
    assert posing is not None
    assert posing.endswith(f",^{contid(OTHER)}")
    assert not posing.startswith(contid(HEX))


def test_nsenter_into_the_mount_namespace_of_a_sandbox_belongs_to_it() -> None:
    w = World()
    w.fork(1, 500, 1000, pid=50, mnt=51)
    w.exec(500, 1001)
    sandbox = w.who_exec(500, 1001)
    w.fork(1, 501, 2000)
    w.unshare(501, 2000)
    w.unshare(501, 2001, mnt=51)
    w.exec(501, 2002)
    assert w.who_exec(501, 2002) == sandbox


def test_a_private_mount_namespace_of_the_host_is_no_container() -> None:
    w = World()
    w.fork(1, 500, 1000)
    w.unshare(500, 1000)
    w.unshare(500, 1001, mnt=61)
    w.fork(1, 501, 2000)
    w.unshare(501, 2000)
    w.unshare(501, 2001, mnt=61)
    w.exec(501, 2002)
    assert w.who_exec(501, 2002) is None


def test_clone_into_cgroup_is_unknown_until_a_sample_tells_and_then_known_from_birth() -> None:
    w = World()
    w.put(f.K_CGROUP, 1, cgroup=77, payload=DOCKER.encode() + b"\0")
    w.fork(1, 600, 1000)
    w.put(f.K_NEWTASK, 1000, tid=600, arg=CLONE_INTO_CGROUP)
    w.put(f.K_COMM, 1500, pid=600, tid=600)
    assert w.who(600, 1200) == "?"
    w.put(f.K_EXIT_SAMPLE, 1600, pid=600, tid=600, cgroup=77)
    w.exit(600, 1600)
    assert w.who(600, 1200) == contid(HEX)


def test_an_exec_is_matched_to_its_own_event_by_name_when_the_container_changes_between_two() -> None:
    w = World()
    w.fork(1, 700, 1000)
    w.exec(700, 1001, "/usr/bin/runc")
    w.attach(700, DOCKER, 1002)
    w.exec(700, 1003, "/bin/sh")
    assert w.who_exec(700, 1000, "/usr/bin/runc") is None
    assert w.who_exec(700, 1000, "/bin/sh") == contid(HEX)


def test_an_exec_that_two_events_fit_equally_is_unknown() -> None:
    w = World()
    w.fork(1, 700, 1000)
    w.exec(700, 1001, "/bin/sh")
    w.attach(700, DOCKER, 1002)
    w.exec(700, 1003, "/bin/sh")
    assert w.who_exec(700, 1000, "/bin/sh") == "?"


def test_a_leader_may_exit_before_its_threads_and_a_thread_that_execs_becomes_the_leader() -> None:
    w = World()
    w.fork(1, 800, 1000)
    w.attach(800, DOCKER, 1001)
    w.thread(800, 801, 1002)
    w.exit(800, 1003)
    w.put(f.K_COMM, 1100, pid=801, tid=801)
    assert w.who(800, 1050) == contid(HEX)
    w.exec(800, 1200, "/bin/y", old=801)
    w.exit(800, 1300)
    w.put(f.K_COMM, 1400, pid=1, tid=1)
    assert w.who_exec(800, 1199, "/bin/y") == contid(HEX)
    assert w.who(800, 1350) == "?"


def test_threads_in_different_namespaces_leave_that_field_unknown() -> None:
    w = World()
    w.fork(1, 800, 1000)
    w.thread(800, 801, 1001)
    w.unshare(800, 1002, tid=801, net=90)
    w.put(f.K_COMM, 1100, pid=800, tid=800)
    nsset = w.state(800, 1050).nsset
    assert nsset is not None
    assert [inst is None for inst in nsset.inst[:7]] == [True] + [False] * 6


def test_loss_makes_unknown_until_proc_confirms() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    w.put(f.K_COMM, 2100, pid=1, tid=1)
    assert [w.who(100, at) for at in (1500, 2050)] == [contid(HEX), "?"]
    w.put(f.K_RESYNC, 2200, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.proc(100, 1, start=1000, cg=DOCKER)
    w.put(f.K_RESYNC, 2210, f.S_PROCFS, arg=2)
    w.put(f.K_COMM, 2300, pid=1, tid=1)
    assert w.who(100, 2250) == contid(HEX)


def test_after_loss_what_proc_shows_changed_was_unknown_in_between() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=7)
    w.put(f.K_RESYNC, 2200, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.proc(100, 1, start=1000, cg=DOCKER)
    w.put(f.K_RESYNC, 2210, f.S_PROCFS, arg=2)
    w.put(f.K_COMM, 2400, pid=1, tid=1)
    assert [w.who(100, at) for at in (1500, 2000, 2300)] == [None, "?", contid(HEX)]
    assert w.state(100, 2300).origin == "procfs"


def test_after_loss_a_process_that_the_scan_does_not_show_is_gone() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=0)
    w.put(f.K_RESYNC, 2200, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.put(f.K_RESYNC, 2210, f.S_PROCFS, arg=2)
    assert w.model.alive(100) is None


def test_a_scan_and_the_fork_event_of_the_same_process_are_one() -> None:
    w = World()
    w.proc(100, 1, 1010, start=1000, cg=DOCKER)
    w.fork(1, 100, 1003)
    process = w.model.processes[100]
    assert process.prev is None
    assert process.end is None


def test_a_zombie_that_the_scan_shows_holds_no_namespace() -> None:
    w = World()
    w.proc(100, 1, 1010, start=1000, state="Z", ns={"pid": 31, "user": INITIAL_INODES_618["user"]})
    w.fork(1, 400, 1020, pid=31)
    w.exec(400, 1021)
    w.fork(1, 401, 1030, pid=31)
    assert w.model.processes[100].end is not None
    assert w.model.processes[400].state.container is w.model.processes[401].state.container
    assert w.model.processes[400].state.container is not w.model.processes[100].state.container


def test_a_late_answer_about_a_process_that_has_ended_makes_no_second_one() -> None:
    w = World()
    w.fork(1, 100, 1003)
    w.exit(100, 1004)
    w.proc(100, 1, 1005, start=1000, state="Z", cg=DOCKER)
    assert w.model.processes[100].prev is None
    assert w.who(100, 1003) is None


def test_expired_processes_are_forgotten_and_nothing_of_them_is_kept() -> None:
    w = World()
    for n in range(50):
        w.fork(1, 1000 + n % 5, 100 + n * 10, pid=7000 + n)
        w.exec(1000 + n % 5, 101 + n * 10)
        w.exit(1000 + n % 5, 105 + n * 10)
    w.model.expire(10_000 * MS)
    assert set(w.model.processes) == {1}
    assert not w.model.dead
    assert all(len(current) <= 1 for current in w.model.namespaces.current)
    assert not w.model.containers.by_key


def test_garbage_is_a_decode_error() -> None:
    for junk in (b"x", bytes(48), b"\xff" * 96):
        with pytest.raises(DecodeError):
            Model().apply(junk)


def test_a_replay_of_the_same_frames_gives_the_same_answers() -> None:
    w = World()
    w.fork(1, 400, 1000, pid=31)
    w.exec(400, 1001)
    again = Model()
    again.apply(b"".join(w.log))
    found = again.processes[400].state.container
    assert found is not None
    assert again.containers.text(found) == w.who(400, 1001)


def test_two_holders_of_a_pid_within_a_tick_are_told_apart_by_the_parent_in_the_record() -> None:
    w = World()
    w.fork(1, 50, 900)
    w.attach(50, DOCKER, 901)
    w.fork(1, 60, 900)
    w.fork(50, 100, 1000)
    w.exit(100, 1001)
    w.fork(60, 100, 1002)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert [w.who(100, 1000, ppid) for ppid in (50, 60, -1)] == [contid(HEX), None, "?"]


def test_a_child_left_behind_can_only_have_come_to_an_ancestor() -> None:
    w = World()
    w.fork(1, 40, 800)
    w.fork(40, 50, 900)
    w.attach(50, DOCKER, 901)
    w.fork(40, 60, 900)
    w.fork(50, 100, 1000)
    w.exit(50, 1000.5)
    w.exit(100, 1001)
    w.fork(60, 100, 1002)
    w.exit(100, 1002.5)
    w.fork(40, 100, 1003)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert [w.who(100, 1000, ppid) for ppid in (60, 40, 50)] == [None, "?", contid(HEX)]


def test_clone_parent_rules_the_creators_parent_in_and_the_creator_out() -> None:
    w = World()
    w.fork(1, 50, 900)
    w.fork(50, 51, 901)
    w.attach(51, DOCKER, 902)
    w.fork(50, 52, 900)
    w.fork(51, 100, 1000)
    w.put(f.K_NEWTASK, 1000, tid=100, arg=CLONE_PARENT)
    w.exit(100, 1001)
    w.fork(52, 100, 1002)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert [w.who(100, 1000, ppid) for ppid in (50, 51, 52)] == [contid(HEX), "?", None]


def test_nobody_inside_a_pid_namespace_is_the_parent_of_a_process_made_outside() -> None:
    w = World()
    w.fork(1, 300, 1, pid=900)
    w.fork(1, 401, 2)  # whose own creator is not known any more
    w.model.processes[401].creator = None
    w.fork(300, 50, 1000)
    w.exit(50, 1001)
    w.put(f.K_FORK, 1003, pid=50, tid=50, ppid=401, ptid=401)
    w.put(f.K_NEWTASK, 1003, tid=50, arg=CLONE_PARENT)
    w.exit(401, 1003.5)
    inside = w.who(300, 500)
    assert inside not in (None, "?")
    assert w.who(50, 996, ppid=300) == inside


def test_a_host_that_does_not_tell_clone_parent_rules_ancestors_in() -> None:
    w = World(features=[])
    w.fork(1, 60, 800)
    w.fork(60, 50, 900)
    w.attach(50, DOCKER, 901)
    w.fork(50, 100, 1000)
    w.exit(100, 1001)
    w.fork(60, 100, 1002)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert w.who(100, 1000, 60) == "?"


def test_where_every_exec_makes_a_record_the_order_tells_equal_ones_apart() -> None:
    w = World()
    w.put(f.K_RULES, 500, f.S_AUDIT, arg=1)
    w.fork(1, 700, 1000)
    w.exec(700, 1001, "/bin/sh")
    w.attach(700, DOCKER, 1002)
    w.exec(700, 1003, "/bin/sh")
    assert [w.who_exec(700, 1000, "/bin/sh"), w.who_exec(700, 1000, "/bin/sh")] == [None, contid(HEX)]


def test_nobody_answers_for_a_holder_whose_events_may_be_lost() -> None:
    w = World()
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=0)
    w.put(f.K_RESYNC, 2010, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.put(f.K_RESYNC, 2011, f.S_PROCFS, arg=2)
    w.fork(1, 100, 2020)  # the pid's former holder lived and died in the gap
    w.exec(100, 2021)
    w.put(f.K_COMM, 2100, pid=1, tid=1)
    assert [w.who(100, 1950), w.who_exec(100, 1950), w.who(100, 2030)] == ["?", "?", None]


def test_a_clock_set_back_leaves_only_the_reading_at_which_the_pid_was_held() -> None:
    w = World()
    w.fork(1, 100, 5000)
    w.put(f.K_CLOCK, 6000, f.S_PIPELINE, arg=REAL - 3000 * MS)
    w.put(f.K_COMM, 6100, pid=1, tid=1)
    times = w.model.clock.candidates(REAL + 3000 * MS, w.now)  # said 3 s after the start by a clock 3 s behind
    assert times == [6000 * MS, 3000 * MS]
    assert find(w.model, 100, -1, times, w.now).container is None


def test_a_record_behind_that_of_an_unshare_is_of_the_time_after_it() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.called_unshare(100, 1001, 1001.1, net=90)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert w.inode(100, 1000, NET) is None
    w.told_call(100, 1000)
    assert w.inode(100, 1000, NET) == 90


def test_a_clock_that_stood_still_does_not_put_a_record_before_the_unshare_that_came_before_it() -> None:
    w = World()
    w.fork(1, 100, 1007)
    w.called_unshare(100, 1015, 1015.8, mnt=90)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    w.told_call(100, 1000)
    assert w.inode(100, 1000, MNT) == 90


def test_where_every_unshare_makes_a_record_one_that_comes_before_it_is_of_the_time_before() -> None:
    w = World()
    w.put(f.K_RULES, 500, f.S_AUDIT, arg=f.RULES_CALLS)
    w.fork(1, 100, 1000)
    for number, at in enumerate((1001, 1002)):
        w.called_unshare(100, at, at + 0.1, net=90 + number)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    found = [w.inode(100, 1000, NET)]
    for _ in range(2):
        w.told_call(100, 1000)
        found.append(w.inode(100, 1000, NET))
    assert found == [INITIAL_INODES_618["net"], 90, 91]


def test_a_record_behind_that_of_an_exec_is_of_the_time_after_it() -> None:
    w = World()
    w.fork(1, 100, 1000)
    w.attach(100, DOCKER, 1001)
    w.exec(100, 1002)
    w.put(f.K_COMM, 1100, pid=1, tid=1)
    assert w.who(100, 1000) == "?"
    assert [w.who_exec(100, 1000), w.who(100, 1000)] == [contid(HEX), contid(HEX)]


def test_a_start_that_proc_tells_is_right_to_a_tick_and_before_that_somebody_else_may_have_been() -> None:
    w = World()
    w.proc(100, 1, 2000, start=1000, cg=DOCKER)
    w.put(f.K_COMM, 2100, pid=1, tid=1)
    assert [w.who(100, at) for at in (1009, 1012)] == ["?", contid(HEX)]


def test_behind_a_gap_a_new_holder_does_not_answer_for_one_that_may_have_been_missed() -> None:
    w = World()
    w.put(f.K_LOST, 2000, cgroup=1900 * MS, arg=0)
    w.put(f.K_RESYNC, 2001, f.S_PROCFS, arg=1)
    w.proc(1, 0, ns={})
    w.put(f.K_RESYNC, 2001, f.S_PROCFS, arg=2)
    w.fork(1, 100, 2002)
    w.put(f.K_COMM, 2100, pid=1, tid=1)
    assert [w.who(100, at) for at in (1995, 2003)] == ["?", None]


def test_a_clock_set_lately_is_not_steady_and_one_set_and_set_back_unseen_says_nothing() -> None:
    w = World()
    w.fork(1, 100, 1000)
    real = REAL + 20_000 * MS
    assert w.model.clock.steady(real, 20_000 * MS)
    w.put(f.K_CLOCK, 20_000, f.S_PIPELINE, arg=REAL + 3000 * MS, cgroup=19_900 * MS)
    assert not w.model.clock.steady(real + 3001 * MS, 20_001 * MS)
    # stamped by the clock before, when it was looked at last, but not later
    assert w.model.clock.candidates(REAL + 19_950 * MS, 20_010 * MS) == [19_950 * MS]
    w.put(f.K_CLOCK, 40_000, f.S_PIPELINE, arg=REAL + 3000 * MS, cgroup=39_900 * MS, ppid=1)
    assert w.model.clock.candidates(REAL + 43_000 * MS, 40_100 * MS) == []
    assert w.model.clock.candidates(REAL + 44_500 * MS, 41_500 * MS) == [41_500 * MS]


def unshared_where_every_call_is_told() -> World:
    """Process 100 was born at 5000 ms, and its unshare of 5001 has made an audit record that is still to come."""
    w = World()
    w.put(f.K_RULES, 500, f.S_AUDIT, arg=f.RULES_CALLS)
    w.fork(1, 100, 5000)
    w.called_unshare(100, 5001, 5001.1, net=90)
    w.put(f.K_COMM, 5100, pid=1, tid=1)
    return w


def test_the_record_of_a_call_is_known_by_either_reading_of_a_clock_that_was_set() -> None:
    w = unshared_where_every_call_is_told()
    w.told_call(100, 2000, 5000 * MS)
    assert w.inode(100, 5000, NET) == 90


def test_the_record_of_a_call_that_is_none_we_know_leaves_the_order_open() -> None:
    w = unshared_where_every_call_is_told()
    w.told_call(100, 2000)
    assert w.inode(100, 5000, NET) is None


def test_where_no_move_is_told_a_process_of_the_host_that_ran_a_program_is_in_doubt_until_proc_answers() -> None:
    w = World(features=[], connector=True)
    w.proc(100, 1, 10, start=5)
    w.proc(200, 1, 10, start=5, cg=f"/docker/{HEX}")
    for pid in (100, 200):
        w.put(f.K_COMM, 100, pid=pid, tid=pid, arg=1, payload=b"x\0")
    assert [w.who(pid, 130) for pid in (100, 200)] == ["?", contid(HEX)]
    assert {query.pid for query in w.model.queries} == {100, 200}
    w.fork(100, 101, 140)
    assert w.who(101, 160) == "?"
    w.proc(100, 1, 170, start=5, cg=f"/docker/{HEX}")
    w.proc(101, 100, 170, start=140, cg="/")
    assert [w.who(pid, 180) for pid in (100, 101)] == [contid(HEX), None]
    assert [w.who(pid, 120 if pid == 100 else 160) for pid in (100, 101)] == [contid(HEX), None]
    assert w.who(100, 50) is None


def test_where_moves_are_told_an_exec_leaves_no_doubt() -> None:
    w = World(features=["attach", "exit_sample"])
    w.proc(100, 1, 10, start=5)
    w.put(f.K_COMM, 100, pid=100, tid=100, arg=1, payload=b"x\0")
    assert w.who(100, 130) is None
