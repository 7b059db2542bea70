"""What a long-running program keeps of root's privileges.

It gives up all others at its start, before it opens anything and before it has threads: capabilities are a thread's own
(capabilities(7)). What it opens needs nothing that it does not need later, when files rotate and CPUs come.
"""

import os
from collections.abc import Collection
from typing import Final

from auditns_connector._native import lib
from auditns_connector.errors import NotPermittedError
from auditns_connector.vocabulary.capabilities import mask, names_in
from auditns_connector.vocabulary.values import JsonObject

#: what each is for
NEEDED: Final = {
    "CAP_SYS_ADMIN": "perf events before Linux 5.8, namespace ids, network namespaces, tracefs in a mount namespace",
    "CAP_PERFMON": "perf events",
    "CAP_NET_ADMIN": "the proc connector, large receive buffers",
    "CAP_NET_BROADCAST": "changes of addresses in every network namespace",
    "CAP_AUDIT_READ": "the multicast group of audit records",
    "CAP_AUDIT_CONTROL": "audit rules, whether audit is on",
    "CAP_SYS_PTRACE": "namespaces and roots of other users' processes in /proc",
    "CAP_DAC_READ_SEARCH": "other users' directories, files of container runtimes",
    "CAP_IPC_LOCK": "perf rings above the limit for locked memory",
    "CAP_SYS_RESOURCE": "limits of descriptors",
}
#: where an output belongs to a group
GROUPS: Final = frozenset({"CAP_CHOWN"})
#: where streams and delegated sockets belong to other users, in directories of theirs
OTHER_USERS: Final = frozenset({"CAP_CHOWN", "CAP_DAC_OVERRIDE"})
#: behind the message that one of these cannot be made
OTHER_USERS_HINT: Final = " (other_users = true in the configuration, or listen --other-users, keeps the right to)"


def keep_only(more: Collection[str] = ()) -> None:
    """Keep :data:`NEEDED` and ``more``; an ordinary user has nothing to give up. Raises :class:`NotPermittedError`."""
    if os.geteuid() != 0:
        return
    failed = lib.privileges_drop(mask(frozenset({*NEEDED, *more})))
    if failed:
        raise NotPermittedError(f"privileges cannot be given up: {os.strerror(-failed)}")


def held() -> JsonObject:
    """What this process has: names of its effective capabilities and of its bounding set, no_new_privs."""
    fields = {}
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return {
        "effective": names_in(int(fields.get("CapEff", "0"), 16)),
        "bounding": names_in(int(fields.get("CapBnd", "0"), 16)),
        "no_new_privs": fields.get("NoNewPrivs") == "1",
    }
