"""What is recorded: programs of several kinds at work under real audit rules, each in a folder of its own."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.bench.enrich.corpus import folder
from tests.bench.enrich.recorder import auditd, discard

RULES: Final = (
    "-a always,exit -F arch=b64 -S execve,execveat -F key=exec",
    "-a always,exit -F arch=b64 -S open,openat,creat -F success=1 -F key=open",
    "-a always,exit -F arch=b64 -S open,openat,creat,unlinkat,mkdir,renameat2 -F success=0 -F key=denied",
    "-a always,exit -F arch=b64 -S unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir -F key=delete",
    "-a always,exit -F arch=b64 -S chmod,fchmod,fchmodat,chown,fchown,fchownat -F key=perm",
    "-a always,exit -F arch=b64 -S clone,clone3,fork,vfork -F key=fork",
    "-a always,exit -F arch=b64 -S connect,accept4,bind -F key=net",
    "-a always,exit -F arch=b64 -S kill,tgkill,ptrace -F key=signal",
    "-a always,exit -F arch=b64 -S setuid,setgid,setresuid,setresgid -F key=id",
)
#: where a workload is at work: its instances get folders of their own in place of it
HOME: Final = "/var/tmp/auditns-workload"
_PYTHON: Final = "/usr/bin/python3"
#: name -> a round of it, in sh
WORKLOADS: Final[dict[str, str]] = {
    "build": """
        for i in 1 2 3 4; do
        printf '#include <stdio.h>\\n#include <stdlib.h>\\nint f%d(void){return %d;}\\n' $i $i > f$i.c
        gcc -O1 -c $HOME/f$i.c -o $HOME/f$i.o; done; ar rcs lib.a *.o; rm -f *.o""",
    "shell": """
        d=$HOME/d; mkdir -p $d/e; for i in 1 2 3 4 5 6 7 8; do echo line $i > $d/file-$i.txt; done
        cat $d/*.txt | sort -r | sed s/line/row/ | awk '{print $2}' > $d/e/out; grep -c 1 $d/e/out > /dev/null
        for f in $d/*.txt; do mv $f $d/e/; done; chmod 600 $d/e/*; tail -1 /etc/passwd > /dev/null; date > $d/e/when
        rm -r $d""",
    "interpreter": """
        python3 -c 'import json, http.client, sqlite3, email.message; print(1)' > out.json
        python3 -c 'import ssl, csv' """,
    "database": """
        python3 -c 'import sqlite3
for n in range(6):
    d = sqlite3.connect("%s/data-%d.db" % (__import__("os").environ["HOME"], n % 3))
    d.execute("create table if not exists t (a)")
    for i in range(4):
        d.execute("insert into t values (?)", (i,)); d.commit()'; rm -f $HOME/data-*.db""",
    "network": """
        python3 -c 'import socket
for n in range(40):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("10.20.30.40", 53)); s.close()
    t = socket.socket(); t.settimeout(.1)
    try: t.connect(("127.0.0.1", 1))
    except OSError: pass
    open("/etc/hosts").close(); open("/etc/resolv.conf").close()' """,
    "tree": "find /usr/share/doc -maxdepth 1 -newer /etc/passwd > list; tar cf t.tar /etc/apt /etc/init.d 2>/dev/null; "
            "mkdir x; tar xf t.tar -C x; ls -R x > /dev/null; grep -r auditd x > /dev/null; rm -r x t.tar",
    "packages": "dpkg -l > list; dpkg -S /bin/ls > /dev/null; dpkg -L coreutils > /dev/null",
    "repository": """
        git init -q r; cd r; git config user.email a@b; git config user.name n; for i in 1 2 3; do echo $i > file-$i
        git add file-$i; git commit -qm $i; done; git log -3 > /dev/null; git gc -q; cd ..; rm -rf r""",
    "login": """
        su nobody -s /bin/sh -c 'id; ls /root; cat /etc/shadow; touch /etc/no' 2>/dev/null
        auditctl -m 'op=test acct="web" res=success'
        sleep 30 & kill -15 $!; su daemon -s /bin/true; crontab -l 2>/dev/null""",
}  # fmt: skip
#: records that are wanted of each, and how long it may take (seconds)
RECORDS: Final = 30_000
_PATIENCE: Final = 15.0
_LENGTH: Final = 180


def recordings() -> dict[str, Path]:
    """A log of each workload; they are recorded (as root) where they are not there."""
    found = {}
    for name in WORKLOADS:
        path = folder() / f"workload-{name}.log"
        if not path.exists():
            staged = path.with_suffix(".new")
            _record(name, staged)
            staged.replace(path)
        found[name] = path
    return found


def _record(name: str, path: Path) -> None:
    home = Path(HOME)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    home.chmod(0o777)
    script = f"cd {HOME}; while :; do ( {WORKLOADS[name]}\n ); done"
    with auditd("RAW", None, RULES) as recording:
        worker = subprocess.Popen(
            ["nice", "sh", "-c", script], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": HOME},
        )  # fmt: skip
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and recording.stream.stat().st_size < RECORDS * _LENGTH:
            time.sleep(0.1)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    path.write_bytes(recording.stream.read_bytes())
    discard(recording)
    shutil.rmtree(home, ignore_errors=True)
