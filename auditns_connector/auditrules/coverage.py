"""Whether every exec, and every unshare and setns, makes an audit record. Pure.

Where it does, the records of a pid's execs and the kernel's exec events are the same sequence, and the first event not
yet consumed is the one a record means, even when two of them have the same file name within one tick of the clock.
"""

from collections.abc import Iterable
from typing import Final

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus, Rule

_PLAIN: Final = frozenset((auditrule.FIELD_ARCH, auditrule.FIELD_KEY))


def all_audited(status: AuditStatus, rules: Iterable[bytes], machine: str, names: Iterable[str]) -> bool:
    """True where ``rules`` (struct audit_rule_data) record each call of ``names`` of every ABI, unconditionally, and
    nothing may keep a record back: no ``never`` and no ``exclude`` rule, no rate limit."""
    if status.enabled == auditrule.ENABLED_OFF or status.rate_limit:
        return False
    parsed = [auditrule.parse_rule(raw) for raw in rules]
    if any(rule.action == auditrule.ACTION_NEVER or rule.filter == auditrule.FILTER_EXCLUDE for rule in parsed):
        return False
    wanted = {(arch, table[name]) for arch, table in auditrule.ARCHES.get(machine, {}).items() for name in names}
    return bool(wanted) and all(any(_covers(rule, *pair) for rule in parsed) for pair in wanted)


def _covers(rule: Rule, arch: int, number: int) -> bool:
    if rule.filter != auditrule.FILTER_EXIT or rule.action != auditrule.ACTION_ALWAYS:
        return False
    for field, operator, value in rule.fields:
        if field not in _PLAIN:
            return False
        if field == auditrule.FIELD_ARCH and (operator != auditrule.OP_EQUAL or value != arch):
            return False
    return rule.all_syscalls or number in rule.syscalls
