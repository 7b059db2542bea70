"""Record the golden inputs again: ``python -m tests.golden.record`` as root. A person looks at the difference.

A real auditd writes its log (RAW, and ENRICHED with a node name) and feeds a plugin while a short script does
one thing of each kind. Events that come from the recorder itself are left out.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from tests.bench.enrich.recorder import auditd, discard

DATA: Final = Path(__file__).parent / "data"
RULES: Final = tuple(
    f"-a always,exit -F arch={arch} -S {calls} -F exe={exe} -F key=golden"
    for arch, calls, exe in (
        ("b64", "execve", "/usr/bin/dash"),
        ("b64", "execve,openat", "/usr/bin/cat"),
        ("b64", "execve", "/usr/bin/ls"),
        ("b64", "execve", "/usr/bin/echo"),
        ("b64", "execve,clone,kill", "/usr/bin/bash"),
        ("b64", "execve,renameat2,rename", "/usr/bin/mv"),
        ("b64", "execve,unshare,setns", "/usr/bin/unshare"),
        ("b64", "connect,ptrace", "/usr/bin/perl"),
    )
)
SCRIPT: Final = r"""
set -u
/usr/bin/ls / > /dev/null
/usr/bin/cat /etc/hostname > /dev/null
/usr/bin/cat '/nowhere/with space "and quote"' 2> /dev/null
/usr/bin/bash -c '/usr/bin/sleep 5 & kill -TERM $!; wait; kill -TERM $$'
touch /tmp/auditns-golden.a; /usr/bin/mv /tmp/auditns-golden.a /tmp/auditns-golden.b; rm /tmp/auditns-golden.b
/usr/bin/unshare -n -u /usr/bin/echo in a namespace > /dev/null
/usr/bin/echo $(seq 30) > /dev/null
/usr/bin/perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(9, inet_aton("127.0.0.1")))'
/usr/bin/perl -e 'kill SEGV => $$'
/usr/sbin/auditctl -m 'hello from a user pid=1 contid=7'
/usr/bin/unshare -n /bin/sh -c 'ip link set lo up
nft add table ip t; nft add chain ip t o "{ type filter hook output priority 0; }"
nft add rule ip t o ip daddr 127.0.0.9 log level audit
perl -e "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0);
send(S, q(x), 0, sockaddr_in(9, inet_aton(q(127.0.0.9))))"' > /dev/null
true
"""
KEY: Final = re.compile(rb"msg=(audit\([0-9.:]+\)):")
STRANGERS: Final = (
    os.fsencode(Path(__file__).parents[2]),
    os.fsencode(Path.home()),
    b"_rule",
    b"DAEMON_",
    b'comm="auditd"',
    b'a0="/bin/sh" a1="-c"',
)


def select(text: bytes) -> bytes:
    """The events that have nothing of the recorder in them."""
    lines = text.splitlines(keepends=True)
    strange = {KEY.findall(line)[0] for line in lines if any(word in line for word in STRANGERS)}
    return b"".join(line for line in lines if KEY.findall(line)[0] not in strange)


def record(log_format: str, node: str | None) -> tuple[bytes, bytes]:
    """(log, plugin stream) of one run."""
    with auditd(log_format, node, RULES) as recording:
        subprocess.run(
            ["/bin/sh", "-c", SCRIPT], cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, check=True, timeout=40
        )
    try:
        return select(recording.log.read_bytes()), select(recording.stream.read_bytes())
    finally:
        discard(recording)


def main() -> None:
    """Write the three inputs."""
    DATA.mkdir(exist_ok=True)
    log, stream = record("RAW", None)
    (DATA / "raw.log").write_bytes(log)
    (DATA / "stream.log").write_bytes(stream)
    log, _ = record("ENRICHED", "host1")
    (DATA / "enriched.log").write_bytes(log)


if __name__ == "__main__":
    main()
