"""Which hierarchies a host has, from texts of /proc as hosts of each kind show them."""

import os
from pathlib import Path

import pytest

from auditns_connector.sources.cgroups import Hierarchy, cgroup_path, cgroup_paths, hierarchies, perf_hierarchy

UNIFIED = ("0::/user.slice\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
HYBRID = (
    "12:name=systemd:/\n4:cpu,cpuacct:/\n3:memory:/\n0::/\n",
    "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"  # noqa: ISC004 - the second of two texts
    "32 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
    "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
    "34 30 0:29 / /mnt/second\\040mount rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 30 0:30 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "36 30 0:31 / /sys rw - sysfs sysfs rw\n",
)


def host(tmp_path: Path, cgroup: str, mountinfo: str, cgroups: str = "") -> str:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(cgroup)
    (tmp_path / "self/mountinfo").write_text(mountinfo)
    (tmp_path / "cgroups").write_text(cgroups)
    return str(tmp_path)


def test_unified(tmp_path: Path) -> None:
    assert hierarchies(host(tmp_path, *UNIFIED)) == [Hierarchy(0, "", "/sys/fs/cgroup")]


def test_hybrid_leaves_out_what_is_not_mounted_by_its_root(tmp_path: Path) -> None:
    assert hierarchies(host(tmp_path, *HYBRID)) == [
        Hierarchy(0, "", "/sys/fs/cgroup/unified"),
        Hierarchy(4, "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        Hierarchy(12, "name=systemd", "/sys/fs/cgroup/systemd"),
    ]


def test_a_mount_point_with_escapes(tmp_path: Path) -> None:
    found = hierarchies(host(tmp_path, "0::/\n", r"31 30 0:27 / /a\040b\134c rw - cgroup2 cgroup2 rw"))
    assert found == [Hierarchy(0, "", r"/a b\c")]


def test_no_cgroups(tmp_path: Path) -> None:
    assert hierarchies(str(tmp_path)) == []
    assert perf_hierarchy(str(tmp_path)) == 0


@pytest.mark.parametrize(("line", "number"), [("perf_event\t0\t9\t1", 0), ("perf_event\t7\t9\t1", 7)])
def test_perf_hierarchy(tmp_path: Path, line: str, number: int) -> None:
    text = f"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\n{line}\n"
    assert perf_hierarchy(host(tmp_path, "", "", text)) == number


def test_paths_of_a_folder_tree(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/cgroup.procs").touch()
    if any(entry.inode() != entry.stat().st_ino for entry in os.scandir(tmp_path)):
        pytest.skip("the file system here gives folders other inodes than their entries have, as no cgroup's does")
    found = cgroup_paths(Hierarchy(0, "", str(tmp_path)))
    assert {path: inode for inode, path in found.items()} == {
        path: Path(f"{tmp_path}{path}").stat().st_ino for path in ("/", "/a", "/a/b")
    }


def test_a_hierarchy_that_is_not_there(tmp_path: Path) -> None:
    absent = Hierarchy(0, "", str(tmp_path / "absent"))
    assert cgroup_paths(absent) == {}
    assert cgroup_path(absent, 1) is None
