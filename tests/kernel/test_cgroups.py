"""Ids and hierarchies of this host's real cgroups."""

import os
from pathlib import Path

import pytest

from auditns_connector.sources.cgroups import cgroup_path, cgroup_paths, hierarchies, perf_hierarchy
from auditns_connector.sources.perf import PerfSource
from auditns_connector.vocabulary import frames
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import kernel_lock, need

pytestmark = pytest.mark.usefixtures("root")


def test_numbers_are_those_of_proc_pid_cgroup() -> None:
    need(hierarchies(), "a mounted cgroup hierarchy")
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    known = {(int(number), controllers) for number, controllers, _ in lines}
    assert {(found.id, found.controllers) for found in hierarchies()} <= known


def test_a_container_is_found_by_id_until_it_is_gone(runtimes: Runtimes) -> None:
    need(hierarchies(), "a mounted cgroup hierarchy")
    container = runtimes.start("runc")
    ids = {}
    for hierarchy in hierarchies():
        path = container.cgroups()[str(hierarchy.id)]
        ids[hierarchy] = os.stat(f"{hierarchy.mount}{path}").st_ino
        assert cgroup_paths(hierarchy)[ids[hierarchy]] == path
        assert cgroup_path(hierarchy, ids[hierarchy]) == path
    container.stop()
    assert [cgroup_path(hierarchy, inode) for hierarchy, inode in ids.items()] == [None] * len(ids)


def test_perf_speaks_of_the_same_ids_and_hierarchies(runtimes: Runtimes) -> None:
    with kernel_lock(), PerfSource(pages=1024) as perf:
        need({"attach", "exec_sample"} <= perf.features, "tracepoints through perf")
        container = runtimes.start("runc")
        seen = list(frames.iter_frames(perf.drain()))
    paths = container.cgroups()
    mounts = {found.id: found for found in hierarchies()}
    attached = {
        frame.arg: frame.cgroup for frame in seen if frame.kind == frames.K_ATTACH and named(frame, container.name)
    }
    assert attached.keys() == {number for number in mounts if paths[str(number)].endswith(container.name)}
    for number, cgroup in attached.items():
        assert cgroup_path(mounts[number], cgroup) == paths[str(number)]
    sampled = {frame.cgroup for frame in seen if frame.kind == frames.K_EXEC and frame.pid == container.pid}
    assert attached[perf_hierarchy()] in sampled


def named(frame: frames.Frame, name: str) -> bool:
    return frames.text(frame.payload).endswith(name.encode())
