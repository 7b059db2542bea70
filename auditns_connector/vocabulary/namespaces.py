"""The Linux namespace types: names, clone flags and the inodes of the initial ones.

The order of ``PERF_ORDER`` is the one of PERF_RECORD_NAMESPACES (include/uapi/linux/perf_event.h,
``NET_NS_INDEX`` …); the kernel reports no time namespace there.
"""

from typing import Final

CLONE_NEWTIME: Final = 0x00000080
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

#: name -> CLONE_NEW* flag, in the order of PERF_RECORD_NAMESPACES, time last
FLAGS: Final[dict[str, int]] = {
    "net": CLONE_NEWNET,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "pid": CLONE_NEWPID,
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
NAMES: Final[dict[int, str]] = {flag: name for name, flag in FLAGS.items()}
PERF_ORDER: Final = ("net", "uts", "ipc", "pid", "user", "mnt", "cgroup")
#: behind those come the types that perf does not tell
ALL_ORDER: Final = (*PERF_ORDER, "time")
INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(ALL_ORDER)}
NET, UTS, IPC, PID, USER, MNT, CGROUP, TIME = (
    INDEX[name] for name in ("net", "uts", "ipc", "pid", "user", "mnt", "cgroup", "time")
)
#: a process in a namespace of one of these types, made outside every container, is in a container of its own, where
#: nothing else is asked for
SANDBOX: Final = ("pid",)

#: inodes of the initial namespaces: PROC_*_INIT_INO of include/linux/proc_ns.h. ``net`` and ``mnt``
#: have fixed numbers only since 6.18 (4026531833 and 4026531832); on older kernels they are dynamic.
INITIAL_INODES: Final[dict[str, int]] = {
    "ipc": 0xEFFFFFFF,
    "uts": 0xEFFFFFFE,
    "user": 0xEFFFFFFD,
    "pid": 0xEFFFFFFC,
    "cgroup": 0xEFFFFFFB,
    "time": 0xEFFFFFFA,
}
INITIAL_INODES_618: Final[dict[str, int]] = {**INITIAL_INODES, "net": 0xEFFFFFF9, "mnt": 0xEFFFFFF8}
