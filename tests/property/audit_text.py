"""Audit text for the property tests: streams of events put together from a grammar, then damaged."""

import random
from typing import Final

from auditns_connector.vocabulary import record_types as rectypes

NAMES: Final = [
    "SYSCALL",
    "PATH",
    "CWD",
    "EXECVE",
    "PROCTITLE",
    "EOE",
    "OBJ_PID",
    "SOCKADDR",
    "AVC",
    "USER_AUTH",
    "USER_CMD",
    "LOGIN",
    "CONFIG_CHANGE",
    "SECCOMP",
    "NETFILTER_PKT",
    "NETFILTER_CFG",
    "ANOM_ABEND",
    "ANOM_LOGIN_FAILURES",
    "DAEMON_START",
    "KERNEL",
    "BPF",
    "CONTAINER_ID",
    "CONTAINER_OP",
    "NS_INFO",
    "NS_INIT",
    "CONTAINER_X",
    "NS_",
    "NS_Y",
    "UNKNOWN[1340]",
    "UNKNOWN[1345]",
    "UNKNOWN[1399]",
    "UNKNOWN[1300]",
    "UNKNOWN[1318]",
    "UNKNOWN[65536]",
    "UNKNOWN[]",
    "UNKNOWN[1x]",
    "X",
    "MAC_STATUS",
    "USER",
]
ARCHES: Final = ("c000003e", "40000003", "c00000b7", "c000003E", "0", "1c000003e")
NUMBERS: Final = ("0", "1", "59", "11", "221", "4711", "2147483647", "2147483648", "4294967295", "-1", "007", "1a", "",
                  "18446744073709555976", "99999999999")  # fmt: skip
SERIALS: Final = ("1", "2", "257", "258", "18446744073709551615", "18446744073709551616", "99999999999999999999", "")


LEADS: Final = [
    "Nov 29 12:00:00 h1 audisp-syslog[12]: ",
    "Nov  9 12:00:00 h2 kernel: [   12.345678] audit: ",
    "<13>Nov 29 2026 12:00:00.123 h1 audispd: ",
    "2026-11-29T12:00:00.123456+00:00 h1 tag: ",
    '<13>1 2026-11-29T12:00:00Z h1 app 12 ID [x a="]b\\""][y] ',
    "<13>1 2026-11-29T12:00:00Z - app - - - \ufeff",
    "[  123.456789] audit: ",
    "kern  :notice: [    5.1] audit: ",
    "5,1234,5678,-;audit: ",
    "audit: ",
    "audispd: ",
    "\ufeff",
    "Nov 29 12:00:00 h1 sshd[7]: said: ",
    "Nov 29 12:00:00 h1 sshd[7]: said ",
    "{1",
    "{2",
]


def body(rng: random.Random, name: str) -> str:
    """The part of a record behind its header."""

    def number() -> str:
        return rng.choice(NUMBERS)

    comm = rng.choice(['"ls"', "6C73", '"a=b"', "", '"pid=7"'])
    match name:
        case "SYSCALL" | "UNKNOWN[1300]":
            arch, nr = rng.choice([("c000003e", "59"), ("c000003e", "62"), (rng.choice(ARCHES), number())])
            text = (
                f"arch={arch} syscall={nr} success={rng.choice(['yes', 'no', 'yes1'])} exit={rng.choice(['0', '-13'])} "
                f'a0=1 items=2 ppid={number()} pid={number()} auid=0 comm={comm} exe="/bin/ls" key={comm}'
            )
        case "PATH":
            file = rng.choice(["(null)", '"/bin/ls"', "2F61", ""])
            text = f"item={rng.choice('0012')} name={file} inode=1"
        case "OBJ_PID" | "UNKNOWN[1318]":
            text = f"opid={number()} oauid=0 ocomm={comm} opid=9"
        case "AVC":
            text = f"avc:  denied  {{ read }} for  pid={number()} comm={comm}"
        case _:
            text = f"pid={number()} uid=0 auid=1 comm={comm} msg='pid=1 op=x acct=\"root\"'"
    if not rng.randrange(6):
        text += '\x1dARCH=x86_64 pid=5 opid=6 AUID="root"'
    return text


def event(rng: random.Random, ms: int, serial: str) -> list[bytes]:
    """The records of one event, in an order the kernel would use, or in any."""
    if rng.randrange(4):
        names = rng.choice(
            [
                "SYSCALL EXECVE CWD PATH PATH PROCTITLE EOE",
                "SYSCALL CONTAINER_ID CWD PATH PROCTITLE",
                "AVC SYSCALL PROCTITLE EOE",
                "SYSCALL OBJ_PID OBJ_PID PROCTITLE",
                "AVC OBJ_PID SYSCALL PATH",
                "UNKNOWN[1340] USER_AUTH",
                "USER_AUTH CONTAINER_ID",
                "LOGIN SYSCALL PROCTITLE EOE",
                "NETFILTER_PKT",
                "SECCOMP",
                "AVC",
            ]
        ).split()
    else:
        names = rng.choices(NAMES, k=rng.randrange(1, 6))
    node = rng.choice(["", "", "node=h1 ", "node=h2 ", "node=" + "x" * rng.randrange(253, 258) + " "])
    lead = rng.choice(LEADS) if not rng.randrange(4) else ""
    stamp = f"audit({ms // 1000}.{ms % 1000:03d}:{serial}): "
    end = rng.choice(["\n", "\n", "\n", "\r\n"])
    lines = []
    for name in names:
        if lead.startswith("{"):
            lines.append(_journal(lead, node, name, ms, serial, stamp, body(rng, name)) + end)
        elif lead.endswith("audit: "):
            lines.append(f"{lead}type={rectypes.number(name) or name} {stamp}{body(rng, name)}{end}")
        else:
            lines.append(f"{lead}{node}type={name} msg={stamp}{body(rng, name)}{end}")
    return [line.encode() for line in lines]


def _journal(lead: str, node: str, name: str, ms: int, serial: str, stamp: str, text: str) -> str:
    """A record as journalctl -o json has it: with its header in the message, or in members of their own."""
    text = text.replace("\x1d", " ").replace("\\", "\\\\").replace('"', '\\"')
    if lead == "{1":
        return f'{{"_HOSTNAME":"h1","MESSAGE":"{node}type={name} msg={stamp}{text}","PRIORITY":"5"}}'
    return (
        f'{{"_AUDIT_TYPE":"{rectypes.number(name)}","_SOURCE_REALTIME_TIMESTAMP":"{ms}000","_AUDIT_ID":"{serial}",'
        f'"MESSAGE":"{name} {text}"}}'
    )


def stream(seed: int) -> bytes:
    """A stream of events that interleave, then damaged here and there."""
    rng = random.Random(seed)
    ms = 1_700_000_000_000
    running: list[list[bytes]] = []
    lines: list[bytes] = []
    for _ in range(rng.randrange(1, 12)):
        ms += rng.choice([0, 0, 1, 1, 1999, 2000, 2001, -5000])
        running.append(event(rng, ms, rng.choice(SERIALS) if rng.randrange(3) else str(rng.randrange(300))))
        for _ in range(rng.randrange(6)):
            queue = rng.choice(running) if rng.randrange(3) else running[-1]
            if queue:
                lines.append(queue.pop(0))
    for queue in running:
        lines += queue
    for _ in range(rng.choice([0, 0, 1, 3])):
        damage(rng, lines)
    text = b"".join(lines)
    return text[:-1] if not rng.randrange(4) else text


def damage(rng: random.Random, lines: list[bytes]) -> None:
    """One mutation of the lines."""
    at = rng.randrange(len(lines))
    line = lines[at]
    spot = rng.randrange(len(line) + 1)
    match rng.randrange(9):
        case 0:
            lines[at] = line[:spot] + bytes([rng.choice([0, 1, 10, 13, 29, 32, 39, 61, 127, 255])]) + line[spot:]
        case 1:
            lines[at] = line[:spot] + line[spot + rng.randrange(1, 5) :]
        case 2:
            lines.insert(at, rng.choice(lines))
        case 3:
            del lines[at]
            lines.append(b"\n")
        case 4:
            lines[at] = (
                line[:-1] + b" " + b"z" * rng.choice([9000, 65536 - len(line) - 1, 65536 - len(line), 70000]) + b"\n"
            )
        case 5:
            lines[at] = line.replace(b"=", b"= ", 1)
        case 6:
            lines.insert(at, b"\0" * rng.randrange(5) + b"\n")
        case 7:
            rng.shuffle(lines)
        case _:
            lines[at] = line.replace(b" ", b"  ", rng.randrange(3))
