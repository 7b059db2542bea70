"""What this host allows, what is missing, and the command that mends it: judgement over facts. Pure.

:class:`Host` holds what was found out (``hostfacts.gather``); :func:`examine` turns it into findings.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus
from auditns_connector.auditrules.hints import hints
from auditns_connector.auditrules.lease import BACKLOG_LIMIT
from auditns_connector.host.namespace_source import AUTO, choose, describe
from auditns_connector.sources.initns import advice

State = Literal["ok", "warn", "fail"]

PLUGIN_CONF: Final = "/etc/audit/plugins.d/auditns.conf"
#: capability number -> (name, what it is needed for); include/uapi/linux/capability.h
CAPABILITIES: Final[dict[int, tuple[str, str]]] = {
    12: ("CAP_NET_ADMIN", "process events, long receive queues"),
    19: ("CAP_SYS_PTRACE", "namespaces of other users' processes in /proc"),
    21: ("CAP_SYS_ADMIN", "perf events, namespace ids"),
    30: ("CAP_AUDIT_CONTROL", "audit status and rules"),
    37: ("CAP_AUDIT_READ", "audit records without auditd"),
}


#: what puts the plugin's files right, by what installed them
_REINSTALL: Final = {
    "": "auditns install-plugin",
    "deb": "apt-get install --reinstall auditns-connector",
    "rpm": "dnf reinstall auditns-connector",
}


class Finding(NamedTuple):
    """``state`` ok: nothing to do; warn: works, with a limit that the text names; fail: a part will not work.
    ``remedy`` is the one command (or setting) that mends it, or empty."""

    id: str
    state: State
    text: str
    remedy: str = ""


@dataclass(slots=True)
class Plugin:
    """The auditd plugin's installation. ``trouble``: why auditd would refuse its files, empty when it would not;
    ``remedy``: what mends it where installing again would not."""

    conf: str = PLUGIN_CONF
    installed: bool = False
    active: bool = False
    executable: str = ""
    trouble: str = ""
    remedy: str = ""
    #: deb or rpm where it came with such a package
    package: str = ""


@dataclass(slots=True)
class Host:
    """What was found out. Empty ``*_error`` strings mean that it works."""

    euid: int = 0
    capabilities: int = 0
    kernel: str = ""
    cmdline: str = ""
    #: what changes the kernel's command line here, see auditrules/hints.py
    boot_tool: str = ""
    #: namespace type -> in the initial one; None: cannot be determined
    initial: dict[str, bool | None] = field(default_factory=dict)
    proc_readable: bool = True
    connector_error: str = ""
    nm: bool | None = None
    perf_error: str = ""
    perf_features: frozenset[str] = frozenset()
    perf_notices: list[str] = field(default_factory=list)
    ns_id: bool = False
    audit: AuditStatus | None = None
    audit_error: str = ""
    rules: list[bytes] = field(default_factory=list)
    readlog_error: str = ""
    selinux: str = ""
    #: SO_PEERPIDFD is there (Linux 6.5)
    peer_pidfd: bool = True
    plugin: Plugin = field(default_factory=Plugin)


def examine(host: Host) -> list[Finding]:
    """Every finding about ``host``, the good ones included, in the order in which to mend them."""
    return [
        *_privilege(host),
        *_namespaces(host),
        *_events(host),
        _source(host),
        _ids(host),
        *_audit(host),
        _readlog(host),
        *_rules(host),
        _plugin(host),
        _sandbox(),
        _selinux(host),
        _streams(host),
    ]


def _elsewhere(host: Host) -> str:
    """How to be where more is allowed; empty for root in the host's namespaces with all that is needed."""
    if where := advice(host.initial, host.euid, "auditns doctor"):
        return where
    missing = [name for bit, (name, _) in CAPABILITIES.items() if not host.capabilities >> bit & 1]
    if not missing:
        return ""
    docker = " ".join(f"--cap-add {name.removeprefix('CAP_')}" for name in missing)
    return f"give it {', '.join(missing)} (docker: --privileged, or {docker}; systemd: CapabilityBoundingSet=)"


def _streams(host: Host) -> Finding:
    if not host.peer_pidfd:
        text = "streams: who sends a message is known by its process number alone (SO_PEERPIDFD came with Linux 6.5)"
        return Finding("streams", "warn", text)
    return Finding("streams", "ok", "streams: who reads and sends is known for certain")


def _privilege(host: Host) -> list[Finding]:
    missing = [f"{name} ({use})" for bit, (name, use) in CAPABILITIES.items() if not host.capabilities >> bit & 1]
    who = "root" if host.euid == 0 else f"user {host.euid}"
    if missing:
        text = f"running as {who} without " + ", ".join(missing)
        return [Finding("privilege", "fail", text, _elsewhere(host))]
    if host.initial.get("user") is False:
        text = f"running as {who}, but only of a user namespace of its own"
        return [Finding("privilege", "warn", text, _elsewhere(host))]
    found = [Finding("privilege", "ok", f"running as {who} with every capability needed")]
    if not host.proc_readable:
        text = (
            "/proc/1/ns cannot be read, although this is root: processes with more capabilities than this one hide "
            "their namespaces in /proc; kernel events show them all the same"
        )
        found.append(Finding("proc-ns", "warn", text))
    return found


def _namespaces(host: Host) -> list[Finding]:
    reasons = {
        "user": "process and audit events are refused",
        "pid": "process events are refused and process numbers mean other processes",
        "net": "process events are refused and audit records never arrive",
    }
    foreign = [f"{name} ({reasons[name]})" for name in reasons if host.initial.get(name) is False]
    if foreign:
        text = "not in the host's namespaces: " + ", ".join(foreign)
        return [Finding("namespaces", "fail", text, _elsewhere(host))]
    unknown = [name for name in reasons if host.initial.get(name) is None]
    if unknown:
        text = "cannot tell whether these are the host's namespaces: " + ", ".join(unknown)
        return [Finding("namespaces", "warn", text)]
    return [Finding("namespaces", "ok", "in the host's user, pid and network namespaces")]


def _events(host: Host) -> list[Finding]:
    found = []
    if host.connector_error:
        state: State = "fail" if host.perf_error else "warn"
        text = f"no process events from the connector: {host.connector_error}"
        found.append(Finding("connector", state, text, _elsewhere(host)))
    else:
        found.append(Finding("connector", "ok", f"process events arrive (kernel {host.kernel})"))
        meaning = {
            True: "the kernel reports namespace changes (PROC_EVENT_NM)",
            False: "the kernel does not report namespace changes by the connector (no stock kernel does)",
            None: "whether the kernel has PROC_EVENT_NM could not be tried",
        }
        found.append(Finding("connector-nm", "warn" if host.nm is None else "ok", meaning[host.nm]))
    if host.perf_error:
        state = "warn" if host.nm else "fail"
        text = f"no perf events, so no namespace events on a stock kernel: {host.perf_error}"
        found.append(Finding("perf", state, text, _elsewhere(host)))
        return found
    found.append(Finding("perf", "ok", "perf reports " + ", ".join(sorted(host.perf_features))))
    if "attach" not in host.perf_features:
        text = "no event of a process moved between cgroups: " + ("; ".join(host.perf_notices) or "no tracefs")
        found.append(Finding("tracefs", "warn", text, "mount -t tracefs tracefs /sys/kernel/tracing"))
    return found


def _source(host: Host) -> Finding:
    """Which source tells namespaces, and what that one cannot see."""
    perf = not host.perf_error and "namespaces" in host.perf_features
    connector = not host.connector_error
    audit = host.audit is not None and not host.readlog_error
    source = choose(AUTO, perf=perf, connector=connector, nm=bool(host.nm), audit=audit)
    if source in ("nm", "perf"):
        return Finding("namespace-source", "ok", describe(source, perf))
    return Finding("namespace-source", "warn", describe(source, perf), _elsewhere(host))


def _ids(host: Host) -> Finding:
    if host.ns_id:
        return Finding("ns-id", "ok", "the kernel numbers namespaces (NS_GET_ID)")
    return Finding("ns-id", "ok", "the kernel does not number namespaces (NS_GET_ID, Linux 6.18): numbers of our own")


def _audit(host: Host) -> list[Finding]:
    status = host.audit
    if status is None:
        return [Finding("audit", "fail", host.audit_error or "the audit status cannot be read", _elsewhere(host))]
    words = {0: "off", 1: "on", 2: "on and immutable until the next boot"}
    text = f"auditing is {words.get(status.enabled, status.enabled)}"
    if status.enabled == auditrule.ENABLED_OFF:
        text += " (auditns listen --rules switches it on while it runs)"
        found = [Finding("audit", "warn", text, "auditctl -e 1")]
    else:
        found = [Finding("audit", "ok", text)]
    if 0 < status.backlog_limit < BACKLOG_LIMIT:
        text = f"the kernel's audit queue holds {status.backlog_limit} records; when it is full, audited processes wait"
        found.append(Finding("backlog", "warn", text, f"auditctl -b {BACKLOG_LIMIT}"))
    else:
        found.append(
            Finding(
                "backlog", "ok", f"the kernel's audit queue holds {status.backlog_limit or 'any number of'} records"
            )
        )
    if status.lost:
        text = f"the kernel has lost {status.lost} audit records since boot (or the last reset)"
        found.append(Finding("lost", "warn", text, "auditctl --reset-lost"))
    return found


def _readlog(host: Host) -> Finding:
    if host.readlog_error:
        return Finding("readlog", "fail", f"no audit records without auditd: {host.readlog_error}", _elsewhere(host))
    return Finding("readlog", "ok", "audit records can be read without auditd")


def _rules(host: Host) -> list[Finding]:
    status = host.audit
    if status is None:
        return []
    parsed = [auditrule.parse_rule(raw) for raw in host.rules]
    wanted = {n for tables in auditrule.ARCHES.values() for table in tables.values() for n in table.values()}
    logging = [
        rule for rule in parsed if rule.filter == auditrule.FILTER_EXIT and rule.action == auditrule.ACTION_ALWAYS
    ]
    if any(rule.all_syscalls or not wanted.isdisjoint(rule.syscalls) for rule in logging):
        found = [Finding("rules", "ok", f"{len(host.rules)} audit rules are loaded")]
    elif logging:
        text = f"{len(host.rules)} audit rules are loaded, none of them for execve, setns or unshare"
        found = [Finding("rules", "warn", text, "auditns listen --rules")]
    else:
        found = [
            Finding("rules", "warn", "no audit rule that records system calls is loaded", "auditns listen --rules")
        ]
    found += [
        Finding(hint.id, "warn", hint.text, hint.remedy)
        for hint in hints(status, host.rules, host.cmdline, host.boot_tool)
    ]
    return found


def _plugin(host: Host) -> Finding:
    plugin = host.plugin
    running = host.audit is not None and host.audit.pid != 0
    if not plugin.installed:
        state: State = "warn" if running else "ok"
        text = "the auditd plugin is not installed" + ("" if running else " (auditd does not run: it is not needed)")
        return Finding("plugin", state, text, _REINSTALL[plugin.package])
    if plugin.trouble:
        text = f"auditd will not start the plugin: {plugin.trouble}"
        return Finding("plugin", "fail", text, plugin.remedy or _REINSTALL[plugin.package])
    if not plugin.active:
        text = f"the plugin is installed and switched off (active = no in {plugin.conf})"
        return Finding(
            "plugin", "warn", text, f"sed -i 's/^active *=.*/active = yes/' {plugin.conf}; pkill -HUP auditd"
        )
    return Finding("plugin", "ok", f"the plugin is installed: {plugin.executable}")


def _sandbox() -> Finding:
    """What makes a container outside every runtime: since 0.2.0 a user namespace alone does not."""
    text = (
        "a pid namespace outside every runtime is a container, a sandbox; a user namespace alone is none any more, and "
        'whoever is in one is the host\'s; sandbox = ["pid", "user"] in auditns.toml, or auditns listen --sandbox '
        "pid,user, makes it one as in 0.1.0"
    )
    return Finding("sandbox", "ok", text)


def _selinux(host: Host) -> Finding:
    if host.selinux != "enforcing":
        return Finding("selinux", "ok", f"SELinux is {host.selinux or 'not in use'}")
    text = "SELinux is enforcing: under auditd the plugin may be refused perf events, netlink sockets and its files"
    remedy = "ausearch -m AVC -c audisp-auditns | audit2allow -M auditns && semodule -i auditns.pp"
    return Finding("selinux", "warn", text, remedy)
