"""Format files of tracepoints."""

import pytest

from auditns_connector._native import ffi
from auditns_connector.errors import DecodeError
from auditns_connector.sources.tracefs import EventFormat, Field, parse_format
from auditns_connector.sources.tracepoints import ATTACH, EXEC, NEWTASK, fill_layout

COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
)
EXEC_TEXT = (
    "name: sched_process_exec\nID: 365\nformat:\n" + COMMON + "\tfield:__data_loc char[] filename;"
    "\toffset:8;\tsize:4;\tsigned:0;\n\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n"
    "\tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;\n\n"
    'print fmt: "filename=%s pid=%d old_pid=%d", __get_str(filename), REC->pid, REC->old_pid\n'
)


def test_a_format_file_is_read():
    form = parse_format(EXEC_TEXT)
    assert form.id == 365
    assert form.fields["filename"] == Field(8, 4)
    assert form.fields["old_pid"] == Field(16, 4)
    assert form.fields["common_type"] == Field(0, 2)


def test_arrays_have_their_name_without_the_brackets():
    text = "ID: 1\nformat:\n" + COMMON + "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
    assert parse_format(text).fields["comm"] == Field(8, 16)


@pytest.mark.parametrize("text", ["", "ID: 5\n", EXEC_TEXT.replace("ID: 365\n", ""), "ID: 5\n" + "x" * 5000])
def test_what_is_no_format_file_is_refused(text):
    with pytest.raises(DecodeError):
        parse_format(text)


def test_the_layout_takes_its_places_from_the_format():
    layout = ffi.new("struct perf_layout *")
    assert fill_layout(layout, EXEC, parse_format(EXEC_TEXT)) == ""
    assert (layout.exec_id, layout.exec_filename.offset, layout.exec_old_pid.offset) == (365, 8, 16)
    assert (layout.common_type.offset, layout.common_type.size) == (0, 2)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (ATTACH, {"dst_root": Field(8, 4), "dst_id": Field(16, 8), "pid": Field(24, 4)}),
        (NEWTASK, {"pid": Field(8, 4), "clone_flags": Field(32, 4)}),
    ],
    ids=["a field is missing", "a field has another size"],
)
def test_a_tracepoint_that_cannot_be_read_is_told(event, fields):
    layout = ffi.new("struct perf_layout *")
    trouble = fill_layout(layout, event, EventFormat(5, {"common_type": Field(0, 2), **fields}))
    assert event in trouble
    assert (layout.attach_id, layout.newtask_id) == (0, 0)
