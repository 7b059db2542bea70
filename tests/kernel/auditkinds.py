"""Events of every kind as the kernel and user space write them, for a process 100 with a key of ``ours``."""

from typing import Final

IDS: Final = "uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295"
SYSCALL: Final = (
    "SYSCALL arch=c000003e syscall={nr} success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items={items} ppid=1 pid=100 "
    f'auid=4294967295 {IDS} comm="x" exe="/bin/x" key="ours"'
)
CWD: Final = 'CWD cwd="/"'
PATH: Final = (
    'PATH item={item} name="/bin/{name}" inode=1 dev=fe:00 mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL '
    "cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
)
PROCTITLE: Final = "PROCTITLE proctitle=2F62696E2F780061"
EOE: Final = "EOE "
OPEN: Final = SYSCALL.format(nr=257, items=1)
USER: Final = '{name} pid=100 uid=0 auid=4294967295 ses=4294967295 msg=\'op=x acct="root" exe="/bin/x" res=success\''
WHO: Final = "auid=4294967295 uid=0 gid=0 ses=4294967295 pid=100"

AVC: Final = (
    'AVC avc:  denied  { read } for  pid=100 comm="x" name="f" dev="vda" ino=1 '
    "scontext=a:b:c:s0 tcontext=a:b:d:s0 tclass=file permissive=0"
)
LOGIN: Final = "LOGIN pid=100 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=1 res=1"
CAPS: Final = "BPRM_FCAPS fver=0 fp=0 fi=0 fe=0 old_pp=0 old_pi=0 old_pe=0 old_pa=0 pp=0 pi=0 pe=0 pa=0 frootid=0"
EXECVE: Final = 'EXECVE argc=2 a0="/bin/x" a1="a"'
FILES: Final = (CWD, PATH.format(item=0, name="x"), PATH.format(item=1, name="ld"))
NETFILTER: Final = 'NETFILTER_CFG table=t:2 family=2 entries=1 op=nft_register_table pid=100 comm="x"'
SECCOMP: Final = f'SECCOMP {WHO} comm="x" exe="/bin/x" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x0'
TTY: Final = 'TTY tty pid=100 uid=0 auid=0 ses=1 major=136 minor=0 comm="x" data=6C730D'
USER_CMD: Final = "USER_CMD pid=100 uid=0 auid=0 ses=1 msg='cwd=\"/\" cmd=6C73 terminal=pts/0 res=success'"


def call(number: int) -> str:
    """A SYSCALL record of that system call."""
    return SYSCALL.format(nr=number, items=0)


#: kind: (records as "TYPE body", whether ausearch -k ours finds it)
KINDS: Final[dict[str, tuple[tuple[str, ...], bool]]] = {
    "syscall": ((OPEN, *FILES[:2], PROCTITLE), True),
    "syscall with EOE": ((call(82), PROCTITLE, EOE), True),
    "syscall without PROCTITLE": ((call(82), EOE), True),
    "execve": ((SYSCALL.format(nr=59, items=2), CAPS, EXECVE, *FILES, PROCTITLE), True),
    "kill": ((call(62), 'OBJ_PID opid=100 oauid=-1 ouid=0 oses=-1 ocomm="x"', PROCTITLE), True),
    "connect": ((call(42), "SOCKADDR saddr=020000097F0000010000000000000000", PROCTITLE), True),
    "AVC": ((AVC, OPEN, *FILES[:2], PROCTITLE), True),
    "AVC alone": ((AVC,), False),
    "LOGIN": ((LOGIN, call(1), PROCTITLE), True),
    "CONFIG_CHANGE": (('CONFIG_CHANGE op=add_rule key="ours" list=4 res=1', call(44), PROCTITLE), True),
    "NETFILTER_CFG": ((NETFILTER, call(46), PROCTITLE), True),
    "BPF": (("BPF prog-id=7 op=LOAD", call(321), PROCTITLE), True),
    "SECCOMP": ((SECCOMP,), False),
    "ANOM_ABEND": ((f'ANOM_ABEND {WHO} comm="x" exe="/bin/x" sig=11 res=1',), False),
    "TTY": ((TTY,), False),
    "USER_LOGIN": ((USER.format(name="USER_LOGIN"),), False),
    "USER_AVC": ((USER.format(name="USER_AVC"),), False),
    "USER_CMD": ((USER_CMD,), False),
    "ANOM_LOGIN_FAILURES": ((USER.format(name="ANOM_LOGIN_FAILURES"),), False),
    "CRYPTO_KEY_USER": ((USER.format(name="CRYPTO_KEY_USER"),), False),
}


def event(kind: str, serial: int, *, node: str = "", enriched: bool = False) -> bytes:
    """The lines of one event of ``kind``."""
    lines = []
    for record in KINDS[kind][0]:
        name, _, body = record.partition(" ")
        more = '\x1dAUID="unset" UID="root"' if enriched and "uid=" in body else ""
        lines.append(f"{f'node={node} ' if node else ''}type={name} msg=audit(1700000000.500:{serial}): {body}{more}\n")
    return "".join(lines).encode()
