"""The readable form of cdefs/archive/index_terms.c: the terms of an event, a set of (kind, value)."""

import os
import re
import socket
import struct
from typing import Final

from auditns_connector.audittext.heads import read_head
from auditns_connector.audittext.values import untrusted
from auditns_connector.matching.paths import joined
from auditns_connector.vocabulary import record_types as rectypes

Found = set[tuple[str, bytes]]
#: values as they stand
_PLAIN: Final = {b"pid": "pid", b"ppid": "pid", b"opid": "pid", b"auid": "auid", b"old-auid": "auid", b"uid": "uid",
                 b"euid": "uid", b"syscall": "syscall", b"daddr": "addr", b"entry": "entry"}  # fmt: skip
#: values that are quoted or in hexadecimal
_TEXT: Final = {b"comm": "comm", b"ocomm": "comm", b"exe": "exe"}
_LAST: Final = {b"exe": "exename"}


def terms_of(lines: list[bytes]) -> Found:
    """Those of an event's lines."""
    found: Found = set()
    cwd = b""
    for line in lines:
        head = read_head(line)
        if head is not None:
            found |= {("type", b"%d" % head.number)} | _of_body(head.number, head.body, cwd)
            words = head.body.partition(b"\x1d")[0].partition(b"msg='")[0].split(b" ")
            here = [word[4:] for word in words if word.startswith(b"cwd=")]
            cwd = here[0] if head.number == 1307 and here else cwd
    return found


def _of_body(number: int, body: bytes, cwd: bytes) -> Found:
    found: Found = set()
    if number in (rectypes.PROCTITLE, rectypes.EOE):
        return found
    user = False
    for word in body.partition(b"\x1d")[0].split(b" "):
        if not user and word.startswith(b"msg='") and len(word) > 5:
            user, word = True, word[5:]
        name, equals, value = word.partition(b"=")
        if not equals or not name:
            continue
        if not user:
            found |= _kernel(number, name, value, cwd)
        elif name == b"exe":
            found |= _text("exe", value.removesuffix(b"'"), "exename")
        elif name == b"addr":
            found |= _plain("addr", value.removesuffix(b"'"))
    return found


def _kernel(number: int, name: bytes, value: bytes, cwd: bytes) -> Found:
    if name in (b"contid", b"old-contid"):
        return {("contid", one) for one in re.split(rb"[,^]", value.strip(b'"')) if one}
    if name == b"key":
        keys = decoded(value)
        if keys is None:
            return set() if value == b"(null)" else _plain("key", value.strip(b'"'))
        return {("key", key) for key in keys.split(b"\1") if key}
    if name == b"saddr":
        return _plain("addr", value) if number == rectypes.NETFILTER_PKT else _sockaddr(value)
    if name == b"name":
        access = 1400 <= number < 1600 or 1800 <= number < 1900
        return _path(value, cwd) if number == rectypes.PATH or access else set()
    if name == b"path":
        return _path(value, cwd)
    if name in (b"entry", b"entry-how"):
        return {("entry", b"how")} if name == b"entry-how" else {("entry", b"*")} | _plain("entry", value)
    if number == rectypes.EXECVE and re.fullmatch(rb"a[0-9]+", name):
        return _text("arg", value)
    if number == rectypes.EXECVE and re.match(rb"a[0-9]+\[", name):
        return {("arg", b"")}
    if name in _TEXT:
        return _text(_TEXT[name], value, _LAST.get(name, ""))
    return _plain(_PLAIN[name], value) if name in _PLAIN else set()


def decoded(value: bytes) -> bytes | None:
    """As :func:`untrusted`, but as strict about hexadecimal as the C: no spaces, 8 KiB at most."""
    if value[:1] != b'"' and not re.fullmatch(rb"(?:[0-9A-Fa-f]{2}){1,8192}", value):
        return None
    return untrusted(value) or None


def _plain(kind: str, value: bytes) -> Found:
    return {(kind, value)} if value and value != b"?" else set()


def _text(kind: str, value: bytes, last: str = "") -> Found:
    text = decoded(value)
    if text is None:
        return set()
    return {(kind, text)} | ({(last, last_component(text))} if last else set())


def _path(value: bytes, cwd: bytes) -> Found:
    name, base = decoded(value), decoded(cwd)
    if name is None:
        return set()
    path = os.fsencode(joined(None if base is None else os.fsdecode(base), os.fsdecode(name)))
    found = {("path", path), ("base", path.rpartition(b"/")[2])} - {("base", b"")}
    return found if name[:1] == b"/" or base else found | {("path", b"")}


def last_component(path: bytes) -> bytes:
    """What a path names, without slashes behind it."""
    bare = path.rstrip(b"/")
    return bare.rpartition(b"/")[2] if bare else path[:1]


def _sockaddr(value: bytes) -> Found:
    if not re.fullmatch(rb"(?:[0-9A-Fa-f]{2}){3,8192}", value):
        return set()
    raw = bytes.fromhex(value.decode())
    (family,) = struct.unpack_from("=H", raw)
    if family == socket.AF_INET and len(raw) >= 8:
        return {("addr", socket.inet_ntop(socket.AF_INET, raw[4:8]).encode())}
    if family == socket.AF_INET6 and len(raw) >= 24:
        return {("addr", socket.inet_ntop(socket.AF_INET6, raw[8:24]).encode())}
    path = raw[2 + (not raw[2]) :].partition(b"\0")[0]
    return {("addr", path)} if family == socket.AF_UNIX and path else set()
