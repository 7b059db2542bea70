"""``struct audit_status`` and ``struct audit_rule_data``: bytes in, values out, and the other way round.

Layouts: include/uapi/linux/audit.h. Everything is in host byte order. A rule travels as 1040 bytes of fixed
part and its strings behind each other (``buflen`` bytes, no NUL between them); the kernel may pad what it
lists to a multiple of four, so a rule's own length, not the datagram's, is where it ends.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from auditns_connector.errors import DecodeError, NotSupportedError
from auditns_connector.vocabulary.syscalls import EXEC_CALLS, MACHINES, NAMESPACE_CALLS, NUMBERS

FILTER_USER: Final = 0
FILTER_TASK: Final = 1
FILTER_EXIT: Final = 4
FILTER_EXCLUDE: Final = 5
FILTER_FS: Final = 6
FILTER_URING_EXIT: Final = 7
FILTER_PREPEND: Final = 0x10

ACTION_NEVER: Final = 0
ACTION_POSSIBLE: Final = 1
ACTION_ALWAYS: Final = 2

FIELD_ARCH: Final = 11
FIELD_MSGTYPE: Final = 12
FIELD_KEY: Final = 210
OP_EQUAL: Final = 0x40000000
#: fields whose value is the length of a string in the buffer (kernel/auditfilter.c, audit_data_to_entry)
STRING_FIELDS: Final = frozenset({13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 105, 107, 112, FIELD_KEY})

MAX_FIELDS: Final = 64
MAX_KEY: Final = 256
BITMASK_WORDS: Final = 64
_HEAD: Final = struct.Struct("=3I64I64I64I64II")
RULE_SIZE: Final = _HEAD.size  # 1040

#: the calls that our rules ask for
SYSCALLS: Final = (*EXEC_CALLS, *NAMESPACE_CALLS)
#: machine (``uname -m``) -> AUDIT_ARCH value -> their numbers; the 64-bit one first. x32 processes are not reached:
#: their numbers lie beyond the 2048 bits of a rule's mask.
ARCHES: Final[dict[str, dict[int, dict[str, int]]]] = {
    machine: {arch: {name: NUMBERS[arch][name] for name in SYSCALLS} for arch in arches}
    for machine, arches in MACHINES.items()
}

_STATUS: Final = struct.Struct("=11I")
_STATUS_MIN: Final = 32  # up to ``backlog``: all that kernels before 3.15 sent

STATUS_ENABLED: Final = 0x0001
STATUS_BACKLOG_LIMIT: Final = 0x0010

ENABLED_OFF: Final = 0
ENABLED_ON: Final = 1
ENABLED_LOCKED: Final = 2


class AuditStatus(NamedTuple):
    """``struct audit_status`` as AUDIT_GET returns it. ``enabled`` is 0, 1, or 2 (locked until the next boot);
    ``pid`` is auditd's or 0; ``backlog_wait_time`` is in jiffies (what ``auditctl -s`` prints as it is)."""

    mask: int
    enabled: int
    failure: int
    pid: int
    rate_limit: int
    backlog_limit: int
    lost: int
    backlog: int
    feature_bitmap: int
    backlog_wait_time: int
    backlog_wait_time_actual: int


class Rule(NamedTuple):
    """One parsed rule. ``fields`` holds (field, operator, value) with value a ``bytes`` for string fields."""

    filter: int
    action: int
    syscalls: tuple[int, ...]
    all_syscalls: bool
    fields: tuple[tuple[int, int, int | bytes], ...]

    @property
    def key(self) -> bytes | None:
        """The rule's key (``-k``), or None."""
        for field, _op, value in self.fields:
            if field == FIELD_KEY and isinstance(value, bytes):
                return value
        return None

    def values(self, field: int) -> list[int | bytes]:
        """Every value this rule compares ``field`` with."""
        return [value for number, _op, value in self.fields if number == field]


def parse_status(data: bytes) -> AuditStatus:
    """Decode AUDIT_GET's answer; older kernels send fewer members, which read as 0."""
    if len(data) < _STATUS_MIN:
        raise DecodeError(f"audit status of {len(data)} bytes; at least {_STATUS_MIN} expected")
    return AuditStatus._make(_STATUS.unpack(data[: _STATUS.size].ljust(_STATUS.size, b"\0")))


def build_status(mask: int, *, enabled: int = 0, backlog_limit: int = 0) -> bytes:
    """The AUDIT_SET payload that changes what ``mask`` (STATUS_*) names and nothing else."""
    return _STATUS.pack(mask, enabled, 0, 0, 0, backlog_limit, 0, 0, 0, 0, 0)


def build_syscall_rule(
    arch: int, syscalls: Iterable[int], key: str, *, action: int = ACTION_ALWAYS, filter_list: int = FILTER_EXIT
) -> bytes:
    """``auditctl -a always,exit -F arch=ARCH -S … -k KEY`` as ``struct audit_rule_data``."""
    name = key.encode()
    if not 0 < len(name) <= MAX_KEY or b"\0" in name or b"\n" in name:
        raise DecodeError(f"audit rule key {key!r} must be of 1 to {MAX_KEY} bytes, without NUL or newline")
    mask = [0] * BITMASK_WORDS
    for number in syscalls:
        if not 0 <= number < 32 * BITMASK_WORDS:
            raise DecodeError(f"syscall number {number} does not fit a rule")
        mask[number // 32] |= 1 << (number % 32)
    fields = [(FIELD_ARCH, OP_EQUAL, arch), (FIELD_KEY, OP_EQUAL, len(name))]
    columns = [[field[i] for field in fields] + [0] * (MAX_FIELDS - len(fields)) for i in (0, 2, 1)]
    return _HEAD.pack(filter_list, action, len(fields), *mask, *columns[0], *columns[1], *columns[2], len(name)) + name


def our_rules(machine: str, key: str) -> list[bytes]:
    """The rules the project needs on ``machine`` (``os.uname().machine``): one an ABI, 64-bit first."""
    arches = ARCHES.get(machine)
    if arches is None:
        raise NotSupportedError(f"no syscall numbers known for machine {machine!r}: load rules with auditctl instead")
    return [build_syscall_rule(arch, [table[name] for name in SYSCALLS], key) for arch, table in arches.items()]


def trim(data: bytes) -> bytes:
    """``data`` without the padding behind the rule; raises :class:`DecodeError` when it is cut short."""
    if len(data) < RULE_SIZE:
        raise DecodeError(f"audit rule of {len(data)} bytes; at least {RULE_SIZE} expected")
    (length,) = struct.unpack_from("=I", data, RULE_SIZE - 4)
    end = RULE_SIZE + length
    if end > len(data):
        raise DecodeError(f"audit rule announces {end} bytes and has {len(data)}")
    return data[:end]


def parse_rule(data: bytes) -> Rule:
    """Decode one ``struct audit_rule_data``."""
    data = trim(data)
    numbers = _HEAD.unpack_from(data)
    flags, action, count = numbers[:3]
    if count > MAX_FIELDS:
        raise DecodeError(f"audit rule with {count} fields")
    mask = numbers[3:67]
    fields: list[tuple[int, int, int | bytes]] = []
    off = RULE_SIZE
    for i in range(count):
        field, value, operator = numbers[67 + i], numbers[131 + i], numbers[195 + i]
        if field not in STRING_FIELDS:
            fields.append((field, operator, value))
            continue
        if value > len(data) - off:
            raise DecodeError(f"audit rule field {field} announces a string of {value} bytes beyond the rule")
        fields.append((field, operator, data[off : off + value]))
        off += value
    syscalls = tuple(w * 32 + b for w, word in enumerate(mask) if word for b in range(32) if word >> b & 1)
    # user space spells "every syscall" as all ones; older tools leave the last words (class bits) clear
    every = all(word == 0xFFFFFFFF for word in mask[:-1]) or flags & 0xF in (FILTER_TASK, FILTER_USER, FILTER_EXCLUDE)
    return Rule(flags & ~FILTER_PREPEND, action, syscalls, every, tuple(fields))
