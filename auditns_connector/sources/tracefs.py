"""Ids and field offsets of tracepoints, from the ``format`` files of tracefs.

The files are read where tracefs is mounted already, otherwise by a short-lived child which mounts it in a mount
namespace of its own: the host's mounts stay as they are. Layout of the files:
Documentation/trace/events.rst of the kernel, "Event formats".
"""

import os
import re
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from auditns_connector._native import ffi, lib
from auditns_connector.errors import DecodeError

MOUNT_POINTS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FIELD: Final = re.compile(
    r"^\tfield:(?P<declaration>[^;]+);\toffset:(?P<offset>\d+);\tsize:(?P<size>\d+);", re.MULTILINE
)
_NAME: Final = re.compile(r"(?P<name>\w+)(?:\[[^\]]*\])?$")
_ID: Final = re.compile(r"^ID: (\d+)$", re.MULTILINE)
_LENGTH: Final = struct.Struct("=i")


class Field(NamedTuple):
    """Where a field lies in a tracepoint's raw data, in bytes."""

    offset: int
    size: int


class EventFormat(NamedTuple):
    """A tracepoint: the number perf_event_open and ``common_type`` know it by, and its fields by name."""

    id: int
    fields: dict[str, Field]


def parse_format(text: str) -> EventFormat:
    """Read the text of one ``format`` file; raise :class:`DecodeError` where it holds no id or no field."""
    found = _ID.search(text)
    fields: dict[str, Field] = {}
    for line in _FIELD.finditer(text):
        name = _NAME.search(line["declaration"])
        offset, size = int(line["offset"]), int(line["size"])
        if name and offset <= 0xFFFF and size <= 0xFFFF:
            fields[name["name"]] = Field(offset, size)
    if not found or "common_type" not in fields:
        raise DecodeError("not a tracepoint format: no ID or no common_type field in it")
    return EventFormat(int(found[1]), fields)


def read_formats(events: Sequence[str]) -> tuple[dict[str, EventFormat], list[str]]:
    """Look up ``events`` ("sched/sched_process_exec"). What was found, and a message for each one that was not."""
    paths = [f"events/{event}/format" for event in events]
    texts = _read_mounted(paths)
    if texts is None:
        texts, trouble = _read_in_child(paths)
        if trouble:
            return {}, [trouble]
    formats: dict[str, EventFormat] = {}
    notices: list[str] = []
    for event, text in zip(events, texts, strict=True):
        if isinstance(text, int):
            notices.append(f"tracepoint {event}: {os.strerror(text)}")
            continue
        try:
            formats[event] = parse_format(text)
        except DecodeError as error:
            notices.append(f"tracepoint {event}: {error}")
    return formats, notices


def _read_mounted(paths: Sequence[str]) -> list[str | int] | None:
    for mount in MOUNT_POINTS:
        if not os.access(f"{mount}/events", os.R_OK | os.X_OK):
            continue
        texts: list[str | int] = []
        for path in paths:
            try:
                with open(f"{mount}/{path}", encoding="utf-8", errors="replace") as file:
                    texts.append(file.read())
            except OSError as error:
                texts.append(error.errno or 0)
        return texts
    return None


def _read_in_child(paths: Sequence[str]) -> tuple[list[str | int], str]:
    """Texts (or error numbers) in the order of ``paths``, or a message why there are none."""
    keep = [ffi.new("char[]", path.encode()) for path in paths]
    pid = ffi.new("int *")
    fd = lib.tracefs_spawn(ffi.new("const char *[]", keep), len(keep), pid)
    if fd < 0:
        return [], f"tracefs is not mounted, and no child could be started to mount it: {os.strerror(-fd)}"
    with open(fd, "rb") as pipe:
        data = pipe.read()
    status = _wait(pid[0])
    texts: list[str | int] = []
    offset = 0
    while len(data) - offset >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if length < 0:
            texts.append(-length)
        else:
            texts.append(data[offset : offset + length].decode("utf-8", "replace"))
            offset += length
    if len(texts) != len(paths):
        return [], f"tracefs is not mounted and cannot be: {os.strerror(status)}"
    return texts, ""


def _wait(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # SIGCHLD is ignored: the kernel reaped it
        return 0
