"""LOGIN records of audit as frames: from then on a process and its children have another login uid and session.

Which of the two a child has that was born within the record's tick, the next record of that child says.
"""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.attribution.lookup import holders
from auditns_connector.model.logins import recorded, scanned
from auditns_connector.vocabulary import audit_text as pt
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.record_types import LOGIN
from auditns_connector.vocabulary.timing import EPSILON

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.model.clock import Clock

_LINE: Final = re.compile(rb"^(?:node=[^ \n]* )?type=(?:LOGIN|UNKNOWN\[1006\]) [^\n]*", re.MULTILINE)
_RECORD: Final = re.compile(
    rb"(?:node=(?P<node>[^ ]*) )?type=\S+ (?:msg=)?"
    rb"audit\((?P<s>[0-9]{1,12})\.(?P<ms>[0-9]{3}):(?P<serial>[0-9]{1,10})\): "
    rb"(?:[^ ]+ )*?pid=(?P<pid>[0-9]{1,10}) (?:[^ ]+ )*?auid=(?P<auid>[0-9]{1,10}) (?:[^ ]+ )*?ses=(?P<ses>[0-9]{1,10})"
    rb" res=1\b"
)
#: of a SYSCALL record: what comes before comm is the kernel's alone
_WHOSE: Final = re.compile(rb" pid=[0-9]+ auid=([0-9]{1,10}) uid=[^\"\n]* ses=([0-9]{1,10}) comm=")
_MOST_ID: Final = 0xFFFFFFFF


def login_frames(
    points: "InsertionPoints", clock: "Clock", now: int, nodes: Collection[bytes], held: bytes = b""
) -> tuple[bytes, int]:
    """The frames of the LOGIN records in the text of ``points`` and in ``held``, and how many records these are.
    ``nodes`` are the ``node=`` names that mean this host, ``now`` is CLOCK_MONOTONIC ns."""
    if points.line_n:
        kinds = points.l_type[: points.line_n].tolist()
        lines = [points.line(i).rstrip(b"\n") for i, kind in enumerate(kinds) if kind == LOGIN]
    else:
        lines = _LINE.findall(bytes(points.block[: points.consumed]))
    lines += _LINE.findall(held)
    out = []
    for line in lines:
        record = _RECORD.match(line)
        if record is None or (record["node"] is not None and record["node"] not in nodes):
            continue
        pid, auid, ses, serial = (int(record[name]) for name in ("pid", "auid", "ses", "serial"))
        ms = int(record["s"]) * 1000 + int(record["ms"])
        if max(auid, ses, serial) > _MOST_ID or pid >= 1 << 31:
            continue
        for since in clock.candidates(ms * 1_000_000, now)[:1]:
            out.append(recorded(pid, auid, ses, since, (ms, serial)))
    return b"".join(out), len(lines)


def session_frames(points: "InsertionPoints", model: "Model", now: int, nodes: Collection[bytes]) -> bytes:
    """A frame of the auid and ses that SYSCALL records among ``points`` have, of processes whose session is open since
    a LOGIN record (:attr:`Logins.unsure`)."""
    found = []
    for i in range(points.n):
        pid, flags = points.pid[i], points.flags[i]
        start = model.logins.unsure.get(pid)
        if start is None or not flags & pt.P_SYSCALL or (flags & pt.P_NODE and points.node(i) not in nodes):
            continue
        said = _WHOSE.search(bytes(points.block[points.line_off[i] : points.at[i]]).partition(b"\n")[0])
        held = [
            process.start
            for low in model.clock.candidates(points.ms[i] * 1_000_000, now)
            for process in holders(model, pid, low - EPSILON, low + model.lag, now)
        ]
        if said is not None and set(held) == {start} and max(int(said[1]), int(said[2])) <= _MOST_ID:
            found.append((pid, int(said[1]), int(said[2])))
    return scanned(found, now, f.S_AUDIT)
