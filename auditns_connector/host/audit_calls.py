"""Audit records of unshare and setns as frames: with the namespace source "audit" they say *that* something changed.

What changed /proc must tell. A record is stamped at the call's entry and read after its end, so the doubt begins at the
stamp and the question, asked now, is answered with what the call left behind.
"""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.audit_text import P_NODE, P_SYSCALL
from auditns_connector.vocabulary.syscalls import NUMBERS

if TYPE_CHECKING:
    from auditns_connector.audittext.scanner import InsertionPoints
    from auditns_connector.model.clock import Clock

_ARGUMENTS: Final = {f.K_UNSHARE: re.compile(rb" a0=([0-9a-f]{1,8}) "), f.K_SETNS: re.compile(rb" a1=([0-9a-f]{1,8}) ")}
_KINDS: Final = {"unshare": f.K_UNSHARE, "setns": f.K_SETNS}
#: (AUDIT_ARCH_*, number of the system call) -> kind of frame
CALLS: Final[dict[tuple[int, int], int]] = {
    (arch, table[name]): kind for arch, table in NUMBERS.items() for name, kind in _KINDS.items()
}


def call_frames(points: "InsertionPoints", clock: "Clock", now: int, own: int, nodes: Collection[bytes]) -> bytes:
    """One frame for each record in ``points`` of a successful unshare or setns by another process than ``own``.

    ``nodes`` are the ``node=`` names that mean this host, ``now`` is CLOCK_MONOTONIC ns."""
    out = []
    rows = zip(points.flags[: points.n], points.arch[: points.n], points.sysno[: points.n], strict=True)
    for i, (flags, arch, number) in enumerate(rows):
        kind = CALLS.get((arch, number)) if flags & P_SYSCALL else None
        if kind is None or points.exit[i] or points.pid[i] in (own, -1):
            continue
        if flags & P_NODE and points.node(i) not in nodes:
            continue
        for since in clock.candidates(points.ms[i] * 1_000_000, now)[:1]:
            flags = _flags(bytes(points.block[points.line_off[i] : points.at[i]]), kind)
            out.append(f.pack(kind, f.S_AUDIT, since, pid=points.pid[i], tid=points.pid[i], arg=flags))
    return b"".join(out)


def _flags(record: bytes, kind: int) -> int:
    """The CLONE_NEW* flags of a call: unshare's first argument, setns's second (0 there: any); 0: not given.

    The kernel writes the arguments in front of all that a process may call itself (kernel/auditsc.c,
    audit_log_exit)."""
    found = _ARGUMENTS[kind].search(record)
    return int(found[1], 16) if found else 0
