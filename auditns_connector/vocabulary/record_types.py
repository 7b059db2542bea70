"""The one table of audit record types: what each is called, whose process it is about, where a record of ours may
stand in its event, and how it is decoded. Whatever asks about record types (scanner, placement, answers, filters,
JSON, man pages) takes it from here.

The kernel's types are those of include/uapi/linux/audit.h (to Linux 7.2), AppArmor's those of
security/apparmor/include/audit.h, the others those of libaudit's message table (lib/msg_typetab.h, to audit 4.2).
``number("UNKNOWN[1340]")`` reads the spelling that auditd uses for a type it has no name for.

Columns of the table
number  name
since   the first Linux that writes it, the first audit whose tools know its name (``audit1``: 1.7 or older)
pid     the field that names the process (of the initial pid namespace) that the record is about; ``-``: none
settled what says whose the record is, where it has no such field, or none that can be read:
        ``pid`` nothing else, ``syscall`` the SYSCALL of its event, ``target`` the process that a signal or trace went
        to, ``packet`` the addresses in it, ``bpf`` and ``landlock`` the program or domain in it, of which an earlier
        record said whose it is, ``host`` its nature: only the kernel itself writes it, ``own`` it is ours, ``-`` nobody
        asks. Where that is not in hand, the container is not known.
place   where a CONTAINER_ID stands: ``syscall`` in the event of its SYSCALL, in front of the PROCTITLE, or behind the
        record where the event has neither; ``record`` behind the record; ``-`` it has none
edge    its place in an event: ``begin`` heads one of the kernel, ``part`` only ever follows such a head, ``member``
        follows one or is the whole event, ``lone`` is as a rule the whole event, ``alone`` tools end the event at it,
        ``end`` nothing but an EOE follows
decode  how JSON decodes its body: ``fields``; ``argv``: a0, a1 … are one list; ``title``: NUL separates words; ``msg``:
        what stands in ``msg='…'`` is one string of the sender's own
"""

from collections.abc import Iterable
from typing import Final, NamedTuple


class RecordType(NamedTuple):
    """One row of the table; what the columns mean is written above."""

    number: int
    name: str
    since: str
    pid: str
    settled: str
    place: str
    edge: str
    decode: str


_TABLE: Final = """
1005 USER                      audit1     pid  pid      record  alone  msg
1006 LOGIN                     2.6.6      pid  syscall  syscall member fields
1100 USER_AUTH                 audit1     pid  pid      record  alone  msg
1101 USER_ACCT                 audit1     pid  pid      record  alone  msg
1102 USER_MGMT                 audit1     pid  pid      record  alone  msg
1103 CRED_ACQ                  audit1     pid  pid      record  alone  msg
1104 CRED_DISP                 audit1     pid  pid      record  alone  msg
1105 USER_START                audit1     pid  pid      record  alone  msg
1106 USER_END                  audit1     pid  pid      record  alone  msg
1107 USER_AVC                  audit1     pid  pid      record  alone  msg
1108 USER_CHAUTHTOK            audit1     pid  pid      record  alone  msg
1109 USER_ERR                  audit1     pid  pid      record  alone  msg
1110 CRED_REFR                 audit1     pid  pid      record  alone  msg
1111 USYS_CONFIG               audit1     pid  pid      record  alone  msg
1112 USER_LOGIN                audit1     pid  pid      record  alone  msg
1113 USER_LOGOUT               audit1     pid  pid      record  alone  msg
1114 ADD_USER                  audit1     pid  pid      record  alone  msg
1115 DEL_USER                  audit1     pid  pid      record  alone  msg
1116 ADD_GROUP                 audit1     pid  pid      record  alone  msg
1117 DEL_GROUP                 audit1     pid  pid      record  alone  msg
1118 DAC_CHECK                 audit1     pid  pid      record  alone  msg
1119 CHGRP_ID                  audit1     pid  pid      record  alone  msg
1120 TEST                      audit1     pid  pid      record  alone  msg
1121 TRUSTED_APP               audit1     pid  pid      record  alone  msg
1122 USER_SELINUX_ERR          audit1     pid  pid      record  alone  msg
1123 USER_CMD                  audit1     pid  pid      record  alone  msg
1124 USER_TTY                  audit1     pid  pid      record  alone  msg
1125 CHUSER_ID                 audit1     pid  pid      record  alone  msg
1126 GRP_AUTH                  audit1     pid  pid      record  alone  msg
1127 SYSTEM_BOOT               audit1.7.9 pid  pid      record  alone  msg
1128 SYSTEM_SHUTDOWN           audit1.7.9 pid  pid      record  alone  msg
1129 SYSTEM_RUNLEVEL           audit1.7.9 pid  pid      record  alone  msg
1130 SERVICE_START             audit2.0.5 pid  pid      record  alone  msg
1131 SERVICE_STOP              audit2.0.5 pid  pid      record  alone  msg
1132 GRP_MGMT                  audit2.4.1 pid  pid      record  alone  msg
1133 GRP_CHAUTHTOK             audit2.4.1 pid  pid      record  alone  msg
1134 MAC_CHECK                 audit2.4.3 pid  pid      record  alone  msg
1135 ACCT_LOCK                 audit2.4.5 pid  pid      record  alone  msg
1136 ACCT_UNLOCK               audit2.4.5 pid  pid      record  alone  msg
1137 USER_DEVICE               audit2.7.8 pid  pid      record  alone  msg
1138 SOFTWARE_UPDATE           audit2.8.2 pid  pid      record  alone  msg
1200 DAEMON_START              audit1     pid  pid      record  alone  fields
1201 DAEMON_END                audit1     pid  pid      record  alone  fields
1202 DAEMON_ABORT              audit1     pid  pid      record  alone  fields
1203 DAEMON_CONFIG             audit1     pid  pid      record  alone  fields
1205 DAEMON_ROTATE             audit1     pid  pid      record  alone  fields
1206 DAEMON_RESUME             audit1     pid  pid      record  alone  fields
1207 DAEMON_ACCEPT             audit1.7.6 pid  pid      record  alone  fields
1208 DAEMON_CLOSE              audit1.7.6 pid  pid      record  alone  fields
1209 DAEMON_ERR                audit2.5   pid  pid      record  alone  fields
1300 SYSCALL                   2.6.12     pid  pid      syscall begin  fields
1302 PATH                      2.6.12     -    syscall  syscall part   fields
1303 IPC                       2.6.12     -    syscall  syscall part   fields
1304 SOCKETCALL                2.6.13     -    syscall  syscall part   fields
1305 CONFIG_CHANGE             2.6.13     -    syscall  syscall member fields
1306 SOCKADDR                  2.6.13     -    syscall  syscall part   fields
1307 CWD                       2.6.13     -    syscall  syscall part   fields
1309 EXECVE                    2.6.18     -    syscall  syscall part   argv
1311 IPC_SET_PERM              2.6.17     -    syscall  syscall part   fields
1312 MQ_OPEN                   2.6.18     -    syscall  syscall part   fields
1313 MQ_SENDRECV               2.6.18     -    syscall  syscall part   fields
1314 MQ_NOTIFY                 2.6.18     -    syscall  syscall part   fields
1315 MQ_GETSETATTR             2.6.18     -    syscall  syscall part   fields
1316 KERNEL_OTHER              2.6.18     -    syscall  syscall part   fields
1317 FD_PAIR                   2.6.22     -    syscall  syscall part   fields
1318 OBJ_PID                   2.6.22     opid target   record  part   fields
1319 TTY                       2.6.23     pid  pid      syscall member fields
1320 EOE                       2.6.25     -    -        -       end    fields
1321 BPRM_FCAPS                2.6.29     -    syscall  syscall part   fields
1322 CAPSET                    2.6.29     pid  syscall  syscall part   fields
1323 MMAP                      2.6.37     -    syscall  syscall part   fields
1324 NETFILTER_PKT             2.6.39     -    packet   record  lone   fields
1325 NETFILTER_CFG             2.6.39     pid  syscall  syscall member fields
1326 SECCOMP                   3.5        pid  pid      record  lone   fields
1327 PROCTITLE                 3.15       -    syscall  syscall end    title
1328 FEATURE_CHANGE            3.13       pid  syscall  syscall member fields
1329 REPLACE                   4.6        -    syscall  syscall member fields
1330 KERN_MODULE               4.12       -    syscall  syscall part   fields
1331 FANOTIFY                  4.15       -    syscall  syscall member fields
1332 TIME_INJOFFSET            5.2        -    syscall  syscall part   fields
1333 TIME_ADJNTPVAL            5.2        -    syscall  syscall part   fields
1334 BPF                       5.6        -    bpf      syscall member fields
1335 EVENT_LISTENER            5.8        pid  pid      syscall member fields
1336 URINGOP                   5.16       pid  pid      syscall begin  fields
1337 OPENAT2                   5.16       -    syscall  syscall part   fields
1338 DM_CTRL                   5.16       pid  syscall  syscall member fields
1339 DM_EVENT                  5.16       -    syscall  syscall member fields
1340 CONTAINER_ID              auditns0.1 -    own      -       part   fields
1341 CONTAINER_OP              auditns0.1 pid  own      -       alone  fields
1342 CONTAINER_INFO            auditns0.1 -    own      -       part   fields
1343 CONTAINER_LOST            auditns0.1 -    own      -       alone  fields
1344 NS_INFO                   auditns0.1 -    own      -       part   fields
1345 NS_INIT                   auditns0.1 pid  own      -       alone  fields
1346 NS_DEL                    auditns0.1 pid  own      -       alone  fields
1347 NS_CHANGE                 auditns0.1 pid  own      -       alone  fields
1400 AVC                       2.6.12     pid  syscall  syscall member fields
1401 SELINUX_ERR               2.6.13     -    syscall  syscall member fields
1402 AVC_PATH                  2.6.13     -    syscall  syscall member fields
1403 MAC_POLICY_LOAD           2.6.17     -    syscall  syscall member fields
1404 MAC_STATUS                2.6.17     -    syscall  syscall member fields
1405 MAC_CONFIG_CHANGE         2.6.17     -    syscall  syscall member fields
1406 MAC_UNLBL_ALLOW           2.6.19     -    syscall  syscall member fields
1407 MAC_CIPSOV4_ADD           2.6.19     -    syscall  syscall member fields
1408 MAC_CIPSOV4_DEL           2.6.19     -    syscall  syscall member fields
1409 MAC_MAP_ADD               2.6.19     -    syscall  syscall member fields
1410 MAC_MAP_DEL               2.6.19     -    syscall  syscall member fields
1411 MAC_IPSEC_ADDSA           2.6.20     -    syscall  syscall member fields
1412 MAC_IPSEC_DELSA           2.6.20     -    syscall  syscall member fields
1413 MAC_IPSEC_ADDSPD          2.6.20     -    syscall  syscall member fields
1414 MAC_IPSEC_DELSPD          2.6.20     -    syscall  syscall member fields
1415 MAC_IPSEC_EVENT           2.6.24     -    syscall  syscall member fields
1416 MAC_UNLBL_STCADD          2.6.25     -    syscall  syscall member fields
1417 MAC_UNLBL_STCDEL          2.6.25     -    syscall  syscall member fields
1418 MAC_CALIPSO_ADD           4.8        -    syscall  syscall member fields
1419 MAC_CALIPSO_DEL           4.8        -    syscall  syscall member fields
1420 IPE_ACCESS                6.12       pid  syscall  syscall member fields
1421 IPE_CONFIG_CHANGE         6.12       -    syscall  syscall member fields
1422 IPE_POLICY_LOAD           6.12       -    syscall  syscall member fields
1423 LANDLOCK_ACCESS           6.15       -    syscall  syscall member fields
1424 LANDLOCK_DOMAIN           6.15       -    landlock syscall member fields
1425 MAC_TASK_CONTEXTS         6.18       -    syscall  syscall member fields
1426 MAC_OBJ_CONTEXTS          6.18       -    syscall  syscall member fields
1500 APPARMOR                  2.6.36     pid  syscall  syscall member fields
1501 APPARMOR_AUDIT            2.6.36     pid  syscall  syscall member fields
1502 APPARMOR_ALLOWED          2.6.36     pid  syscall  syscall member fields
1503 APPARMOR_DENIED           2.6.36     pid  syscall  syscall member fields
1504 APPARMOR_HINT             2.6.36     pid  syscall  syscall member fields
1505 APPARMOR_STATUS           2.6.36     pid  syscall  syscall member fields
1506 APPARMOR_ERROR            2.6.36     pid  syscall  syscall member fields
1507 APPARMOR_KILL             2.6.36     pid  syscall  syscall member fields
1700 ANOM_PROMISCUOUS          2.6.17     -    syscall  syscall member fields
1701 ANOM_ABEND                2.6.25     pid  pid      record  lone   fields
1702 ANOM_LINK                 3.6        pid  syscall  syscall member fields
1703 ANOM_CREAT                5.5        pid  syscall  syscall member fields
1800 INTEGRITY_DATA            2.6.30     pid  syscall  syscall member fields
1801 INTEGRITY_METADATA        2.6.30     pid  syscall  syscall member fields
1802 INTEGRITY_STATUS          2.6.30     pid  syscall  syscall member fields
1803 INTEGRITY_HASH            2.6.30     pid  syscall  syscall member fields
1804 INTEGRITY_PCR             2.6.30     pid  syscall  syscall member fields
1805 INTEGRITY_RULE            3.10       pid  syscall  syscall member fields
1806 INTEGRITY_EVM_XATTR       4.18       pid  syscall  syscall member fields
1807 INTEGRITY_POLICY_RULE     4.18       -    syscall  syscall member fields
1808 INTEGRITY_USERSPACE       6.14       pid  syscall  syscall member fields
2000 KERNEL                    2.6.6      -    host     record  lone   fields
2100 ANOM_LOGIN_FAILURES       audit1     pid  pid      record  alone  msg
2101 ANOM_LOGIN_TIME           audit1     pid  pid      record  alone  msg
2102 ANOM_LOGIN_SESSIONS       audit1     pid  pid      record  alone  msg
2103 ANOM_LOGIN_ACCT           audit1     pid  pid      record  alone  msg
2104 ANOM_LOGIN_LOCATION       audit1     pid  pid      record  alone  msg
2105 ANOM_MAX_DAC              audit1     pid  pid      record  alone  msg
2106 ANOM_MAX_MAC              audit1     pid  pid      record  alone  msg
2107 ANOM_AMTU_FAIL            audit1     pid  pid      record  alone  msg
2108 ANOM_RBAC_FAIL            audit1     pid  pid      record  alone  msg
2109 ANOM_RBAC_INTEGRITY_FAIL  audit1     pid  pid      record  alone  msg
2110 ANOM_CRYPTO_FAIL          audit1     pid  pid      record  alone  msg
2111 ANOM_ACCESS_FS            audit1     pid  pid      record  alone  msg
2112 ANOM_EXEC                 audit1     pid  pid      record  alone  msg
2113 ANOM_MK_EXEC              audit1     pid  pid      record  alone  msg
2114 ANOM_ADD_ACCT             audit1     pid  pid      record  alone  msg
2115 ANOM_DEL_ACCT             audit1     pid  pid      record  alone  msg
2116 ANOM_MOD_ACCT             audit1     pid  pid      record  alone  msg
2117 ANOM_ROOT_TRANS           audit1.7.6 pid  pid      record  alone  msg
2118 ANOM_LOGIN_SERVICE        audit2.8.3 pid  pid      record  alone  msg
2119 ANOM_LOGIN_ROOT           audit3.0.3 pid  pid      record  alone  msg
2120 ANOM_ORIGIN_FAILURES      audit3.0.3 pid  pid      record  alone  msg
2121 ANOM_SESSION              audit3.0.3 pid  pid      record  alone  msg
2200 RESP_ANOMALY              audit1     pid  pid      record  alone  msg
2201 RESP_ALERT                audit1     pid  pid      record  alone  msg
2202 RESP_KILL_PROC            audit1     pid  pid      record  alone  msg
2203 RESP_TERM_ACCESS          audit1     pid  pid      record  alone  msg
2204 RESP_ACCT_REMOTE          audit1     pid  pid      record  alone  msg
2205 RESP_ACCT_LOCK_TIMED      audit1     pid  pid      record  alone  msg
2206 RESP_ACCT_UNLOCK_TIMED    audit1     pid  pid      record  alone  msg
2207 RESP_ACCT_LOCK            audit1     pid  pid      record  alone  msg
2208 RESP_TERM_LOCK            audit1     pid  pid      record  alone  msg
2209 RESP_SEBOOL               audit1     pid  pid      record  alone  msg
2210 RESP_EXEC                 audit1     pid  pid      record  alone  msg
2211 RESP_SINGLE               audit1     pid  pid      record  alone  msg
2212 RESP_HALT                 audit1     pid  pid      record  alone  msg
2213 RESP_ORIGIN_BLOCK         audit2.8.3 pid  pid      record  alone  msg
2214 RESP_ORIGIN_BLOCK_TIMED   audit2.8.3 pid  pid      record  alone  msg
2215 RESP_ORIGIN_UNBLOCK_TIMED audit3.0.3 pid  pid      record  alone  msg
2300 USER_ROLE_CHANGE          audit1     pid  pid      record  alone  msg
2301 ROLE_ASSIGN               audit1     pid  pid      record  alone  msg
2302 ROLE_REMOVE               audit1     pid  pid      record  alone  msg
2303 LABEL_OVERRIDE            audit1     pid  pid      record  alone  msg
2304 LABEL_LEVEL_CHANGE        audit1     pid  pid      record  alone  msg
2305 USER_LABELED_EXPORT       audit1     pid  pid      record  alone  msg
2306 USER_UNLABELED_EXPORT     audit1     pid  pid      record  alone  msg
2307 DEV_ALLOC                 audit1     pid  pid      record  alone  msg
2308 DEV_DEALLOC               audit1     pid  pid      record  alone  msg
2309 FS_RELABEL                audit1     pid  pid      record  alone  msg
2310 USER_MAC_POLICY_LOAD      audit1     pid  pid      record  alone  msg
2311 ROLE_MODIFY               audit2.1.4 pid  pid      record  alone  msg
2312 USER_MAC_CONFIG_CHANGE    audit2.3.3 pid  pid      record  alone  msg
2313 USER_MAC_STATUS           audit3.0   pid  pid      record  alone  msg
2400 CRYPTO_TEST_USER          audit1.8   pid  pid      record  alone  msg
2401 CRYPTO_PARAM_CHANGE_USER  audit1.8   pid  pid      record  alone  msg
2402 CRYPTO_LOGIN              audit1.8   pid  pid      record  alone  msg
2403 CRYPTO_LOGOUT             audit1.8   pid  pid      record  alone  msg
2404 CRYPTO_KEY_USER           audit1.8   pid  pid      record  alone  msg
2405 CRYPTO_FAILURE_USER       audit1.8   pid  pid      record  alone  msg
2406 CRYPTO_REPLAY_USER        audit1.8   pid  pid      record  alone  msg
2407 CRYPTO_SESSION            audit2.0.5 pid  pid      record  alone  msg
2408 CRYPTO_IKE_SA             audit2.4.2 pid  pid      record  alone  msg
2409 CRYPTO_IPSEC_SA           audit2.4.2 pid  pid      record  alone  msg
2500 VIRT_CONTROL              audit2.0.5 pid  pid      record  alone  msg
2501 VIRT_RESOURCE             audit2.0.5 pid  pid      record  alone  msg
2502 VIRT_MACHINE_ID           audit2.0.5 pid  pid      record  alone  msg
2503 VIRT_INTEGRITY_CHECK      audit2.7.2 pid  pid      record  alone  msg
2504 VIRT_CREATE               audit2.7.2 pid  pid      record  alone  msg
2505 VIRT_DESTROY              audit2.7.2 pid  pid      record  alone  msg
2506 VIRT_MIGRATE_IN           audit2.7.2 pid  pid      record  alone  msg
2507 VIRT_MIGRATE_OUT          audit2.7.2 pid  pid      record  alone  msg
"""


def _read(table: str) -> dict[int, RecordType]:
    rows = [line.split() for line in table.strip().split("\n")]
    return {int(row[0]): RecordType(int(row[0]), *row[1:]) for row in rows}


#: number -> row
TYPES: Final[dict[int, RecordType]] = _read(_TABLE)
#: number -> name, ours included
NAMES: Final[dict[int, str]] = {number: row.name for number, row in TYPES.items()}
#: name -> number
NUMBERS: Final[dict[str, int]] = {name: number for number, name in NAMES.items()}

SYSCALL: Final = 1300
PATH: Final = 1302
EXECVE: Final = 1309
OBJ_PID: Final = 1318
EOE: Final = 1320
#: what auditd says about itself, under serials of its own (AUDIT_FIRST_DAEMON to AUDIT_LAST_DAEMON)
DAEMON: Final = range(1200, 1300)
LOGIN: Final = 1006
NETFILTER_PKT: Final = 1324
PROCTITLE: Final = 1327
BPF: Final = 1334
LANDLOCK_DOMAIN: Final = 1424
KERNEL: Final = 2000

CONTAINER_ID: Final = 1340
CONTAINER_OP: Final = 1341
CONTAINER_INFO: Final = 1342
CONTAINER_LOST: Final = 1343
NS_INFO: Final = 1344
NS_INIT: Final = 1345
NS_DEL: Final = 1346
NS_CHANGE: Final = 1347

#: bits above a type's number, for the scanner in C: ours; ours and an event of its own; a kernel record to which, as a
#: rule, no SYSCALL belongs; a record that is, as a rule, an event of its own; a record that a user process sent
OWN_BIT: Final = 0x10000
OWN_ALONE_BIT: Final = 0x20000
LONE_BIT: Final = 0x40000
SINGLE_BIT: Final = 0x80000
USER_BIT: Final = 0x100000
#: (first, last, bits): what the number of a type says of its record, whether the type is in the table or not; types
#: between them are the kernel's. 0 is a name that nobody knows.
RANGES: Final = (
    (1, 1004, SINGLE_BIT),
    (1005, 1005, SINGLE_BIT | USER_BIT),
    (1006, 1099, SINGLE_BIT),
    (1100, 1199, SINGLE_BIT | USER_BIT),
    (1200, 1299, SINGLE_BIT),
    (2100, 2999, SINGLE_BIT | USER_BIT),
    (3000, 65535, SINGLE_BIT),
)
#: kernel records to which, as a rule, no SYSCALL belongs
LONE_KERNEL: Final = frozenset(number for number, row in TYPES.items() if row.edge == "lone")
#: kernel records that only ever follow another: an event that begins with one has lost its head
FOLLOWERS: Final = frozenset(number for number, row in TYPES.items() if row.edge in ("part", "end"))
#: our own, in the free range of kernel events
OWN: Final[dict[int, str]] = {number: row.name for number, row in TYPES.items() if row.settled == "own"}
#: those of ours that stand in the event of another record; the rest are events of their own
OWN_AUXILIARY: Final = frozenset(number for number in OWN if TYPES[number].edge == "part")


def range_bits(number: int) -> int:
    """What :data:`RANGES` says of a type."""
    return next((bits for first, last, bits in RANGES if first <= number <= last), 0)


def of(number: int) -> RecordType:
    """The row of a type; one that is not in the table (of tomorrow, or 0: a name nobody knows) is taken for what its
    range says: a user's message, or a record of the kernel."""
    row = TYPES.get(number)
    if row is None:
        kernel = not range_bits(number) & SINGLE_BIT
        place, edge = ("syscall", "member") if kernel else ("record", "alone")
        row = RecordType(number, name(number), "", "pid", "syscall" if kernel else "pid", place, edge, "fields")
    return row


def flagged(number: int) -> int:
    """A number of the table with the bits that the scanner goes by."""
    if number in OWN:
        return number | OWN_BIT | (0 if number in OWN_AUXILIARY else OWN_ALONE_BIT | SINGLE_BIT)
    return number | range_bits(number) | (LONE_BIT if number in LONE_KERNEL else 0)


def name(number: int) -> str:
    """The name auditd writes for a type: ``UNKNOWN[n]`` where there is none."""
    return NAMES.get(number) or f"UNKNOWN[{number}]"


def number(name: str) -> int:
    """The number of a name (``UNKNOWN[n]`` included, n to 65535); 0 when there is none."""
    listed = NUMBERS.get(name)
    if listed is not None:
        return listed
    if name.startswith("UNKNOWN[") and name.endswith("]"):
        digits = name[8:-1]
        if 1 <= len(digits) <= 5 and digits.isascii() and digits.isdigit() and int(digits) <= 0xFFFF:
            return int(digits)
    return 0


def plain(spelled: str) -> str:
    """The name of the type that ``spelled`` is: SYSCALL of ``UNKNOWN[1300]``; what the table does not have stays."""
    return NAMES.get(number(spelled), spelled) if spelled.startswith("UNKNOWN[") else spelled


def marks(types: Iterable[int]) -> bytes:
    """A 1 at each of these types, of all that there may be."""
    found = bytearray(1 << 16)
    for one in types:
        found[one] = 1
    return bytes(found)


def spelling(number: int, numeric: bool) -> str:
    """How a record of ours is named in output: ``CONTAINER_ID``, or ``UNKNOWN[1340]`` for strict readers."""
    return f"UNKNOWN[{number}]" if numeric else OWN[number]
