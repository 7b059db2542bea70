"""Our declarations of kernel structs against the headers installed here, compared by the compiler."""

import shutil
import subprocess

import pytest

from auditns_connector._native import ffi, lib

#: header -> {its struct: (ours, {our field: theirs, where the names differ}, fields of ours it may not have yet)}
STRUCTS = {
    "linux/connector.h": {"struct cn_msg": ({}, ())},
    "linux/cn_proc.h": {"struct proc_event": ({}, ("event_data",))},
    "linux/audit.h": {
        "struct audit_status": ({}, ("backlog_wait_time_actual",)),
        "struct audit_features": ({}, ()),
        "struct audit_rule_data": ({}, ()),
    },
    "linux/perf_event.h": {
        "struct perf_event_attr": ({"reserved_2": "__reserved_2"}, ("flags",)),
        "struct perf_event_mmap_page": ({}, ("self_monitoring",)),
    },
}
UNION = {
    "fork_proc_event": "fork",
    "exec_proc_event": "exec",
    "ptrace_proc_event": "ptrace",
    "comm_proc_event": "comm",
    "coredump_proc_event": "coredump",
    "exit_proc_event": "exit",
}
CONSTANTS = {
    "linux/cn_proc.h": ["PROC_EVENT_FORK", "PROC_EVENT_EXEC", "PROC_EVENT_UID", "PROC_EVENT_GID", "PROC_EVENT_SID",
                        "PROC_EVENT_PTRACE", "PROC_EVENT_COMM", "PROC_EVENT_COREDUMP", "PROC_EVENT_EXIT",
                        "PROC_CN_MCAST_LISTEN", "PROC_CN_MCAST_IGNORE"],
    "linux/perf_event.h": ["PERF_TYPE_SOFTWARE", "PERF_TYPE_TRACEPOINT", "PERF_COUNT_SW_DUMMY", "PERF_SAMPLE_TID",
                           "PERF_SAMPLE_TIME", "PERF_SAMPLE_CPU", "PERF_SAMPLE_RAW", "PERF_SAMPLE_IDENTIFIER",
                           "PERF_FLAG_FD_CLOEXEC", "PERF_RECORD_LOST", "PERF_RECORD_COMM", "PERF_RECORD_EXIT",
                           "PERF_RECORD_FORK", "PERF_RECORD_SAMPLE", "PERF_RECORD_LOST_SAMPLES",
                           "PERF_RECORD_NAMESPACES", "PERF_RECORD_CGROUP", "PERF_RECORD_MISC_COMM_EXEC",
                           "PERF_ATTR_SIZE_VER5"],
    "linux/audit.h": ["AUDIT_GET", "AUDIT_SET", "AUDIT_ADD_RULE", "AUDIT_DEL_RULE", "AUDIT_LIST_RULES",
                      "AUDIT_NLGRP_READLOG", "AUDIT_BITMASK_SIZE", "AUDIT_MAX_FIELDS"],
}  # fmt: skip
BITS = {
    "disabled": lib.PERF_BIT_DISABLED,
    "comm": lib.PERF_BIT_COMM,
    "task": lib.PERF_BIT_TASK,
    "watermark": lib.PERF_BIT_WATERMARK,
    "sample_id_all": lib.PERF_BIT_SAMPLE_ID_ALL,
    "comm_exec": lib.PERF_BIT_COMM_EXEC,
    "use_clockid": lib.PERF_BIT_USE_CLOCKID,
    "namespaces": lib.PERF_BIT_NAMESPACES,
    "cgroup": lib.PERF_BIT_CGROUP,
}


def fields(name, renamed, left_out):
    for field, info in ffi.typeof(name).fields:
        if field not in left_out:
            yield renamed.get(field, field), info.offset


def compile_and_run(source, tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    (tmp_path / "check.c").write_text(source)
    done = subprocess.run(
        ["gcc", "-O0", "-o", "check", "check.c"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if "No such file or directory" in done.stderr:
        pytest.skip("no kernel headers")
    assert done.stderr == ""
    return subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("header", STRUCTS)
def test_offsets_and_constants_are_the_headers(header, tmp_path):
    lines = ["#include <stddef.h>", "#include <linux/netlink.h>", f"#include <{header}>"]
    for name, (renamed, left_out) in STRUCTS[header].items():
        for field, offset in fields(name, renamed, left_out):
            lines.append(f'_Static_assert(offsetof({name}, {field}) == {offset}, "{name}.{field}");')
    for name in CONSTANTS.get(header, []):
        lines.append(f'_Static_assert((unsigned)({name}) == {getattr(lib, name)}u, "{name}");')
    lines.append("int main(void) { return 0; }")
    assert compile_and_run("\n".join(lines), tmp_path) == ""


def test_the_union_of_proc_event_is_the_headers(tmp_path):
    lines = ["#include <stddef.h>", "#include <linux/cn_proc.h>"]
    for name, member in UNION.items():
        for field, info in ffi.typeof(f"struct {name}").fields:
            place = ffi.offsetof("struct proc_event", "event_data") + info.offset
            lines.append(
                f"_Static_assert(offsetof(struct proc_event, event_data.{member}.{field}) == {place}, "
                f'"{name}.{field}");'
            )
    lines.append("int main(void) { return 0; }")
    assert compile_and_run("\n".join(lines), tmp_path) == ""


def test_the_bit_numbers_of_perf_event_attr_are_the_headers(tmp_path):
    lines = ["#include <stdio.h>", "#include <string.h>", "#include <linux/perf_event.h>", "int main(void) {"]
    for name in BITS:
        lines.append("{ struct perf_event_attr a; unsigned long long bits; memset(&a, 0, sizeof(a));")
        lines.append(f'a.{name} = 1; memcpy(&bits, (char *)&a + 40, 8); printf("{name} %llu\\n", bits); }}')
    lines.append("return 0; }")
    told = dict(line.split() for line in compile_and_run("\n".join(lines), tmp_path).splitlines())
    assert {name: int(bits) for name, bits in told.items()} == {name: 1 << bit for name, bit in BITS.items()}
