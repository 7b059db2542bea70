"""Records what audit says while the kernel tests run: ``python -m tests.kernel.recorder FOLDER``.

Names of tests come by stdin, one a line; what audit says from then on goes to FOLDER/MODULE.log, up to MOST bytes for
each test. It reads the multicast group (AUDIT_NLGRP_READLOG) by itself, with nothing of the product but the names of
record types, so that the recording is what any other reader has. The end of stdin ends it.
"""

import errno
import os
import re
import select
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from auditns_connector.vocabulary import record_types

NETLINK_AUDIT: Final = 9
READLOG: Final = 1
SO_RCVBUFFORCE: Final = 33
#: bytes of each test: a storm's first thousands of records are as good as all of them
MOST: Final = 128 << 10
HEADER: Final = struct.Struct("=IHHII")
EVENT: Final = re.compile(rb" msg=(audit\([0-9.]+:[0-9]+\)): ")
#: types of messages of the netlink protocol itself
FIRST_RECORD: Final = 1100


def read(sock: socket.socket) -> bytes:
    """The records that are there, as auditd writes them."""
    out = []
    while True:
        try:
            data = sock.recv(1 << 16)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                continue  # what is lost is lost for this reader alone
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return b"".join(out)
            raise
        length, kind, *_ = HEADER.unpack_from(data)
        if kind >= FIRST_RECORD:
            text = data[HEADER.size : max(length, HEADER.size)].rstrip(b"\0\n")
            out.append(f"type={record_types.name(kind)} msg=".encode() + text + b"\n")


def whole(text: bytes) -> bytes:
    """``text`` without the events of system calls of which a part is missing, as where a recording begins, is full or
    has lost some: the tools count records, and one of ours would be one more."""
    lines = [(found[1] if (found := EVENT.search(line)) else b"", line) for line in text.splitlines(keepends=True)]
    begun = {event for event, line in lines if line.startswith(b"type=SYSCALL ")}
    ended = {event for event, line in lines if line.startswith(b"type=EOE ")}
    return b"".join(line for event, line in lines if event not in begun ^ ended)


def main(folder: Path) -> None:
    """Record until stdin ends."""
    try:
        record(folder)
    finally:
        for log in folder.glob("*.log"):
            log.write_bytes(whole(log.read_bytes()))


def record(folder: Path) -> None:
    """The same, parts of events as well."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_AUDIT) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sock.bind((0, 1 << (READLOG - 1)))
        print("ready", flush=True)
        target, left, names = None, 0, b""
        while True:
            ready, _, _ = select.select([0, sock], [], [])
            text = read(sock)
            if target is not None and text and left > 0:
                kept = text[: text.rfind(b"\n", 0, left) + 1]
                left = left - len(kept) if len(kept) == len(text) else 0
                with target.open("ab") as log:
                    log.write(kept)
            if 0 not in ready:
                continue
            if not (more := os.read(0, 1 << 16)):
                return
            *done, names = (names + more).split(b"\n")
            if done:
                module = done[-1].decode().partition("::")[0]
                target, left = folder / f"{Path(module).stem}.log", MOST


if __name__ == "__main__":
    main(Path(sys.argv[1]))
