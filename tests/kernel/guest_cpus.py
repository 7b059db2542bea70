"""What runs inside the guest of test_cpus.py: CPUs go and come back while events are followed. The findings go to the
console."""

import os
import time

from auditns_connector.host.observer import Observer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import Loss
from auditns_connector.sources.perf import PerfSource
from tests.kernel.guest_words import TRUE, tell


def switch(cpu: int, on: bool) -> None:
    """Take a CPU away, or bring it back."""
    with open(f"/sys/devices/system/cpu/cpu{cpu}/online", "w") as file:
        file.write(str(int(on)))


def act(cpu: int) -> int:
    """A process on that CPU alone, from its fork to its end."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {cpu})
        inner = os.fork()
        if inner == 0:
            os.execv(TRUE, ["true"])
        os.waitpid(inner, 0)
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def told(observer: Observer, cpu: int) -> dict[str, object]:
    """What is known of a process on that CPU, and of what is missing there since the last call."""
    model = observer.model
    model.outputs.clear()
    descriptors = observer.perf.filenos() if observer.perf is not None else []
    changed = observer.tick()
    observer.sync()
    losses = [[output.cpu, output.number] for output in model.outputs if isinstance(output, Loss)]
    pid = act(cpu)
    observer.sync()
    process = model.processes.get(pid)
    others = observer.perf.filenos() if observer.perf is not None else []
    return {
        "changed": changed,
        "losses": losses,
        "execs": process is not None and process.end is not None,
        "child": any(one.creator and one.creator[0] == pid and one.end is not None for one in model.processes.values()),
        "rings": len(others),
        "open": all(os.path.exists(f"/proc/self/fd/{fd}") for fd in others),
        "were": len(descriptors),
    }


cpus = os.sysconf("SC_NPROCESSORS_CONF")
tell(run="kernel", release=os.uname().release, cpus=cpus)
observer = Observer(Model(), perf=PerfSource(pages=64, calls=True))
observer.start()
observer.model.own.begin(0, 0)
tell(run="all", **told(observer, 3))
switch(1, False)
tell(run="gone", **told(observer, 0))
switch(1, True)
time.sleep(0.2)
tell(run="back", **told(observer, 1))
switch(2, False)
switch(2, True)
time.sleep(0.2)
tell(run="at once", **told(observer, 2))
tell(run="quiet", **told(observer, 2))
for _ in range(5):
    for cpu in range(1, cpus):
        switch(cpu, False)
    for cpu in range(1, cpus):
        switch(cpu, True)
time.sleep(0.2)
tell(run="many", **told(observer, cpus - 1))
observer.close()
