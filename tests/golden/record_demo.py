"""Record the demo again: ``python -m tests.golden.record_demo`` as root, with podman and runc.

``auditns listen --rules --journal`` runs while a script does a few things on the host, in a Podman container, in a
plain runc container and in a sandbox. Of what it wrote, only the events and kernel events of these are kept: the rest
of the host is nobody's business. ``audit.log`` is the listener's text without the records it added, ``enriched.log``
with them; the journal must lead from one to the other.
"""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from auditns_connector.vocabulary import frames as f
from tests.kernel import support
from tests.kernel.runtimes import Runtimes

DEMO: Final = Path(__file__).parent / "demo"
HEADER: Final = re.compile(rb"msg=(audit\([0-9.:]+\)):")
OURS: Final = re.compile(rb"type=(?:CONTAINER|NS)_")
PID: Final = re.compile(rb" pid=([0-9]+) ")
#: what the host does, between the containers
SCRIPT: Final = """
/usr/bin/id -un
/usr/bin/cat /etc/hostname
"""
#: programs whose events and journal frames are kept although no container holds them
HOST: Final = (b'exe="/usr/bin/id"', b'exe="/usr/bin/cat"', b'exe="/usr/bin/unshare"')
#: where the recorder and whoever runs it live: nothing that names these is kept
PRIVATE: Final = (str(Path(__file__).resolve().parents[2].parent).encode() + b"/", str(Path.home()).encode() + b"/")
#: frames that speak of one process and change nothing for others
OWN: Final = (f.K_EXEC, f.K_EXIT, f.K_EXIT_SAMPLE, f.K_COMM)
_SERIALS: Final = struct.Struct("<QQ")


def private(data: bytes) -> bool:
    """Whether ``data`` names a path of the recorder's."""
    return any(path in data for path in PRIVATE)


def perform(folder: Path) -> None:
    """One thing of each kind."""
    with Runtimes(folder / "run") as runtimes:
        web = runtimes.start("podman", name="web")
        batch = runtimes.start("runc", name="batch", cgroup="/default/batch")
        for container in (web, batch):
            (runtimes.directory / container.name / "etc/shadow").write_text("root:*:19000::::::\n")
        time.sleep(2.5)  # the listener looks for the name of a new container once a second
        subprocess.run(["/bin/sh", "-c", SCRIPT], stdout=subprocess.DEVNULL, check=True, cwd="/", env={})
        web.exec(["cat", "/etc/shadow"])
        batch.exec(["sh", "-c", "id; cat /etc/shadow"])
        subprocess.run(
            ["/usr/bin/unshare", "--fork", "--pid", "/usr/bin/id"],
            stdout=subprocess.DEVNULL, check=True, cwd="/", env={},
        )  # fmt: skip


def listen(folder: Path) -> tuple[bytes, bytes]:
    """(audit text as written, journal) of one run of :func:`perform`."""
    text, said = folder / "text", folder / "said"
    # --ns: so that the journal has the serials of all namespaces
    command = [
        "listen",
        "--rules",
        "--no-lifecycle",
        "--ns",
        "all",
        "--format",
        "raw",
        "--journal",
        str(folder / "journal"),
    ]
    with text.open("wb") as out, said.open("wb") as err:
        listener = subprocess.Popen(
            [Path(sys.executable).parent / "auditns", *command, "--control", str(folder / "control")],
            stdout=out, stderr=err, cwd="/",
        )  # fmt: skip
        try:
            # its own switch in the audit text says that it is there
            support.until(lambda: b"type=" in text.read_bytes(), "its first event")
            time.sleep(0.5)
            perform(folder)
            time.sleep(0.5)
        finally:
            listener.send_signal(signal.SIGINT)
            listener.wait(20)
    last = said.read_text().splitlines()[-1]
    print(last)
    if " 0 lost " not in last:
        raise RuntimeError("something was lost; try again")
    return text.read_bytes(), (folder / "journal").read_bytes()


def select(text: bytes) -> tuple[bytes, set[int], set[int]]:
    """(the wanted events, their serials, their pids). Wanted are those of containers, and those of HOST."""
    events: dict[bytes, list[bytes]] = {}
    for line in text.splitlines(keepends=True):
        if not line.startswith((b"type=EOE", b"type=NS_INFO")) and (found := HEADER.search(line)):
            events.setdefault(found[1], []).append(line)
    out, serials, pids = [], set(), set()
    for header, lines in events.items():
        whole = b"".join(lines)
        inside = b"CONTAINER_ID" in whole and not any(word in whole for word in (b'comm="runc', b'comm="podman'))
        of_host = any(word in whole for word in HOST) and b"_BASE" not in whole
        if (inside or of_host) and not private(whole):
            out.append(whole)
            serials.add(int(header.rpartition(b":")[2].rstrip(b")")))
            pids |= {int(pid) for pid in PID.findall(lines[0])}
    return b"".join(out), serials, pids


def families(frames: list[f.Frame], pids: set[int]) -> set[int]:
    """``pids``, and those that made them."""
    makers = {frame.pid: frame.ppid for frame in frames if frame.kind == f.K_FORK and frame.pid != frame.ppid}
    found: set[int] = set()
    for pid in pids:
        while pid and pid not in found:
            found.add(pid)
            pid = makers.get(pid, 0)
    return found


def plain(frame: f.Frame, initial: set[int]) -> bool:
    """Whether a FORK or PROC frame tells of a process in the initial namespaces."""
    if frame.kind == f.K_PROC:
        known = json.loads(frame.payload.rstrip(b"\0"))["ns"]
        return known is not None and initial.issuperset(known.values())
    size = f.NAMESPACES_PAYLOAD.size
    return len(frame.payload) >= size and initial.issuperset(f.NAMESPACES_PAYLOAD.unpack(frame.payload[:size])[1:])


def _of_others(frame: f.Frame, initial: set[int]) -> bool:
    return frame.kind in OWN or (frame.kind in (f.K_FORK, f.K_PROC) and plain(frame, initial))


def trim(journal: bytes, serials: set[int], pids: set[int]) -> bytes:
    """The journal without the processes that have no part in it. Those with namespaces of their own stay, because
    namespaces are numbered in the order of their appearance."""
    frames = list(f.iter_frames(journal))
    hello = json.loads(next(frame for frame in frames if frame.kind == f.K_HELLO).payload.rstrip(b"\0"))
    initial = set(hello["initial"].values())
    wanted = families(frames, pids)
    out, at = [], 0
    for frame in frames:
        size = int.from_bytes(journal[at : at + 4], "little")
        raw = journal[at : at + size]
        at += size
        if frame.kind == f.K_MARK:
            answered = _SERIALS.iter_unpack(frame.payload[: len(frame.payload) // 16 * 16])
            here = sorted(s for a, b in answered for s in serials if a <= s <= b)
            out.append(_mark(frame, here))
        elif not private(frame.payload) and (frame.pid in wanted or not _of_others(frame, initial)):
            out.append(raw)
    return b"".join(out)


def _mark(frame: f.Frame, serials: Iterable[int]) -> bytes:
    payload = b"".join(_SERIALS.pack(serial, serial) for serial in serials)
    return f.pack(f.K_MARK, frame.source, frame.time, arg=frame.arg, payload=payload)


def main() -> None:
    """Write the three files."""
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="auditns-demo-") as folder, support.audit_state():
        text, journal = listen(Path(folder))
    enriched, serials, pids = select(text)
    DEMO.mkdir(exist_ok=True)
    (DEMO / "enriched.log").write_bytes(enriched)
    plain = b"".join(line for line in enriched.splitlines(keepends=True) if not OURS.match(line))
    (DEMO / "audit.log").write_bytes(plain)
    (DEMO / "run.journal").write_bytes(trim(journal, serials, pids))


if __name__ == "__main__":
    main()
