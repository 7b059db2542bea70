"""Where changes of namespaces are seen: the degrees of fallback, and what each cannot see. Pure.

nm      PROC_EVENT_NM of the proc connector, on kernels patched with it; completed by perf where that is had
perf    PERF_RECORD_NAMESPACES, on every kernel since 4.11
audit   audit records of unshare and setns say that something changed, /proc what
procfs  /proc alone: read when the connector tells of a fork or an exec, else polled
"""

from typing import Final

from auditns_connector.errors import NotSupportedError

SOURCES: Final = ("nm", "perf", "audit", "procfs")
AUTO: Final = "auto"

#: what each source cannot see
BLIND: Final[dict[str, str]] = {
    "nm": "user and time namespaces (read from /proc), cgroup moves",
    "nm+perf": "the time namespace before it is read from /proc",
    "perf": "pid_for_children, and the time namespace before it is read from /proc",
    "audit": "what clone makes and cgroup moves until /proc is read; processes too short for that stay unknown",
    "procfs": "every change between two reads of /proc; processes too short for a read stay unknown",
}


def choose(wanted: str, *, perf: bool, connector: bool, nm: bool, audit: bool) -> str:
    """The source to use: ``wanted``, or the best one that works where that is "auto".

    ``perf`` says that namespace records are had, ``connector`` that process events are, ``nm`` that
    PROC_EVENT_NM is among them, ``audit`` that audit records of unshare and setns will be read.
    Raises :class:`NotSupportedError` where ``wanted`` does not work here.
    """
    if wanted == AUTO:
        if connector and nm:
            return "nm"
        if perf:
            return "perf"
        return "audit" if connector and audit else "procfs"
    missing = {
        "nm": "" if connector and nm else "the kernel has no PROC_EVENT_NM, or its connector cannot be heard",
        "perf": "" if perf else "no namespace records from perf",
        "audit": "" if connector and audit else "it takes the proc connector and audit records",
        "procfs": "",
    }[wanted]
    if missing:
        raise NotSupportedError(f"namespace source {wanted}: {missing}")
    return wanted


def describe(source: str, perf: bool) -> str:
    """One sentence about the source in use, for people."""
    name = "nm+perf" if source == "nm" and perf else source
    words = {
        "nm": "PROC_EVENT_NM",
        "nm+perf": "PROC_EVENT_NM, completed by perf",
        "perf": "perf",
        "audit": "audit records of unshare and setns, then /proc",
        "procfs": "/proc alone",
    }[name]
    return f"changes of namespaces are seen by {words}; not seen: {BLIND[name]}"
