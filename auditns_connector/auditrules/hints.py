"""What keeps audit events away on a host, or sends them where no one expects them, and what to do about it."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus

#: record types whose suppression leaves events without subject or end: SYSCALL PATH EXECVE OBJ_PID EOE
_NEEDED: Final = frozenset({1300, 1302, 1309, 1318, 1320})
#: what gives the kernel audit=1 at every boot, by the program that does it
_AUDIT_AT_BOOT: Final = {
    "grubby": "grubby --update-kernel=ALL --args=audit=1 && reboot",
    "update-grub": "mkdir -p /etc/default/grub.d && echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX audit=1\"' "
    ">/etc/default/grub.d/audit.cfg && update-grub && reboot",
}


class Hint(NamedTuple):
    """Something about this host's audit set-up that would make a user wonder; ``remedy`` is a command or ''."""

    id: str
    text: str
    remedy: str


def boot_tool() -> str:
    """What changes the kernel's command line on this host; empty where it is neither of the two we know."""
    import shutil

    return next((name for name in _AUDIT_AT_BOOT if shutil.which(name)), "")


def hints(status: AuditStatus, rules: Iterable[bytes], cmdline: str, tool: str = "") -> list[Hint]:
    """What keeps events away, or sends them where no one expects them. Pure; ``cmdline`` is /proc/cmdline's text,
    ``status`` the one before auditing was switched on, ``tool`` that of :func:`boot_tool`."""
    found = []
    if "audit=1" not in cmdline.split():
        found.append(
            Hint(
                "older-processes",
                (
                    "auditing was off until now: system calls of processes that run already may stay unrecorded "
                    "(those of the processes they start are recorded)"
                    if status.enabled == auditrule.ENABLED_OFF
                    else "the kernel was booted without audit=1: processes older than the first enabling of audit "
                    "give no system call records (the processes they start do)"
                ),
                _AUDIT_AT_BOOT.get(tool, "add audit=1 to the kernel command line and reboot"),
            )
        )
    if status.pid == 0:
        found.append(
            Hint(
                "kernel-log",
                "no auditd is running: while auditing is on, the kernel also writes audit records to its log (dmesg)",
                "systemctl start auditd",
            )
        )
    if status.rate_limit:
        found.append(
            Hint(
                "rate-limit",
                f"the kernel drops audit records beyond {status.rate_limit} a second",
                "auditctl -r 0",
            )
        )
    for raw in rules:
        found += _rule_hints(auditrule.parse_rule(raw))
    return found


def _rule_hints(rule: auditrule.Rule) -> list[Hint]:
    if rule.action != auditrule.ACTION_NEVER and rule.filter != auditrule.FILTER_EXCLUDE:
        return []
    if rule.filter == auditrule.FILTER_TASK:
        return [
            Hint(
                "never-task",
                "the rule 'never,task' is loaded (a default of Fedora and RHEL): processes started under it "
                "give no system call records, also after its removal; it is to go from /etc/audit/rules.d too",
                "auditctl -d never,task",
            )
        ]
    if rule.filter == auditrule.FILTER_EXIT and (rule.all_syscalls or _ours(rule)):
        return [Hint("never-exit", "a 'never,exit' rule comes first and may keep execve and setns events away", "")]
    if rule.filter == auditrule.FILTER_EXCLUDE:
        kinds = [(operator, value) for field, operator, value in rule.fields if field == auditrule.FIELD_MSGTYPE]
        if any(operator != auditrule.OP_EQUAL or value in _NEEDED for operator, value in kinds):
            numbers = ", ".join(str(value) for _operator, value in kinds)
            return [Hint("excluded-type", f"an 'exclude' rule suppresses records (type {numbers}) of these events", "")]
    return []


def _ours(rule: auditrule.Rule) -> bool:
    numbers = {n for tables in auditrule.ARCHES.values() for table in tables.values() for n in table.values()}
    return not numbers.isdisjoint(rule.syscalls)
