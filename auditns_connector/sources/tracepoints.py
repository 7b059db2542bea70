"""The tracepoints that perf opens beside its dummy events, and where their fields lie."""

from typing import Final

from auditns_connector.sources.tracefs import EventFormat
from auditns_connector.vocabulary.namespaces import FLAGS
from auditns_connector.vocabulary.values import CData

EXEC: Final = "sched/sched_process_exec"
EXIT: Final = "sched/sched_process_exit"
ATTACH: Final = "cgroup/cgroup_attach_task"
NEWTASK: Final = "task/task_newtask"
UNSHARE: Final = "syscalls/sys_enter_unshare"
SETNS: Final = "syscalls/sys_enter_setns"
CLONE_INTO_CGROUP: Final = 0x200000000
CLONE_PARENT: Final = 0x00008000
#: any new namespace
CLONE_NEW: Final = sum(FLAGS.values())
#: tracepoint -> (feature, filter, {member of perf_layout: (field, sizes we can read)})
TRACEPOINTS: Final[dict[str, tuple[str, str, dict[str, tuple[str, tuple[int, ...]]]]]] = {
    EXEC: ("exec_sample", "", {"exec_filename": ("filename", (4,)), "exec_old_pid": ("old_pid", (4,))}),
    EXIT: ("exit_sample", "", {"exit_pid": ("pid", (4,))}),
    ATTACH: (
        "attach",
        "",
        {
            "attach_root": ("dst_root", (4,)),
            "attach_id_field": ("dst_id", (4, 8)),
            "attach_path": ("dst_path", (4,)),
            "attach_pid": ("pid", (4,)),
        },
    ),
    NEWTASK: (
        "newtask",
        f"clone_flags & {CLONE_INTO_CGROUP | CLONE_PARENT | CLONE_NEW:#x}",
        {"newtask_pid": ("pid", (4,)), "newtask_flags": ("clone_flags", (8,))},
    ),
    UNSHARE: ("unshare_call", "", {"unshare_flags": ("unshare_flags", (4, 8))}),
    SETNS: ("setns_call", "", {"setns_flags": ("flags", (4, 8))}),
}
#: While one of these is open every system call of the host takes about 8 ns more, where audit makes system calls take
#: their long way anyway (127 ns for the shortest, measured); where it does not, the long way itself is added. That is
#: the price of time namespaces, of the reason of a change, and of the order of a process's own calls.
CALLS: Final = (UNSHARE, SETNS)
#: rare, and worth reading at once: they make a ring readable whatever its watermark, so that /proc can be asked about
#: a namespace before it is gone, and text that gathers is answered before a container becomes another
URGENT: Final = (ATTACH, NEWTASK, UNSHARE, SETNS)
IDS: Final = {
    EXEC: "exec_id",
    EXIT: "exit_id",
    ATTACH: "attach_id",
    NEWTASK: "newtask_id",
    UNSHARE: "unshare_id",
    SETNS: "setns_id",
}


def fill_layout(layout: CData, event: str, form: EventFormat) -> str:
    """Enter tracepoint ``event`` into a C ``struct perf_layout``; a message when its format is not one we can read."""
    fields = TRACEPOINTS[event][2]
    for name, sizes in fields.values():
        if name not in form.fields or form.fields[name].size not in sizes:
            return f"tracepoint {event}: its field {name} is missing or has an unexpected size"
    common = form.fields["common_type"]
    layout.common_type.offset, layout.common_type.size = common
    for member, (name, _) in fields.items():
        place = getattr(layout, member)
        place.offset, place.size = form.fields[name]
    setattr(layout, IDS[event], form.id)
    return ""
