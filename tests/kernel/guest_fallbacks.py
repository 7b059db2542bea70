"""What runs inside the guest of test_fallbacks.py: the listener without perf, and programs that say in an argument
where they are. The findings go to the console."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

from tests.kernel.guest_words import AUDITNS, CONTROL, HEX, OUT, TIMES, TRUE, auditns, content, tell

#: where each run looks for changes of namespaces
RUNS = {
    "nm": ["--ns-source", "nm", "--perf", "off"],
    "audit": ["--ns-source", "audit", "--perf", "off"],
    "auto": [],
}


@contextlib.contextmanager
def listening(run: str, options: list[str]) -> Iterator[None]:
    """``auditns listen`` during the block; its output is told."""
    command = [*AUDITNS, "listen", "--rules", "--format", "raw", "--record-names", "symbolic", "--control", CONTROL]
    command += ["--sandbox", "pid,user", "--ns", "all", *options]
    with open(OUT, "wb") as out, open(OUT + ".err", "wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        for _ in range(600):
            if os.path.exists(CONTROL) and auditns("status").returncode == 0:
                break
            time.sleep(0.1)
        yield
        for _ in range(600):
            if 'a1="last"' in content(OUT):
                break
            time.sleep(0.1)
    finally:
        process.terminate()
        tell(run=run, status=process.wait(180), said=content(OUT + ".err"))
    with open(OUT) as lines:
        for line in lines:
            tell(line=run, text=line)


def moved(word: str) -> None:
    """A process that moves itself into the cgroup of a container, and makes a pid namespace then."""
    folder = f"/sys/fs/cgroup/docker/{HEX}"
    os.makedirs(folder, exist_ok=True)
    inner = f'echo $$ > {folder}/cgroup.procs; {TRUE} moved-{word}; unshare -fp sh -c "sleep 4; {TRUE} inside-{word}"'
    subprocess.run(["sh", "-c", inner], check=True)


def workload(run: str) -> None:
    """One of each kind."""
    for number in range(TIMES):
        subprocess.run(["/usr/bin/unshare", "-U", "sh", "-c", f"sleep 0.2; {TRUE} user-{number}"], check=True)
    for number in range(TIMES):
        subprocess.run(["/usr/bin/unshare", "-U", TRUE, f"short-{number}"], check=True)
    moved("self")
    subprocess.run(["/usr/bin/unshare", "-n", "sh", "-c", f"sleep 1; {TRUE} net"], check=True)
    held = subprocess.Popen(["sleep", "100"])
    time.sleep(0.5)
    set_, got = auditns("contid", "set", str(held.pid), "4711"), auditns("contid", "get", str(held.pid))
    host = auditns("contid", "get", "1")
    again = auditns("contid", "set", str(os.getpid()), "4712")
    tell(
        run=f"{run}-asked",
        again=again.stderr,
        set=[set_.returncode, set_.stderr],
        get=[got.stdout, got.stderr],
        host=host.stdout + host.stderr,
    )
    held.kill()
    held.wait()
    subprocess.run([TRUE, "last"], check=True)


tell(run="kernel", release=os.uname().release)
os.chmod("/run", 0o755)
os.makedirs("/run/auditns", exist_ok=True)
for name, options in RUNS.items():
    with listening(name, options):
        workload(name)
