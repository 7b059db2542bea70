"""The workloads: each makes audited actions whose container is known beforehand.

A workload is a function of the run and of the number of cheap actions that it should make; its ``share`` is its part
of the run's events. Where the records of actions cannot tell something, the body says so (:meth:`Run.cannot_tell`).
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from . import changes
from .containers import call
from .run import NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWTIME, NEWUSER, NEWUTS, Run
from .truth import HOST

Body = Callable[[Run, int], None]

#: cgroup paths of containers that hold a 64-hex id, by the manuals and sources of the runtimes
CONTAINER_CGROUPS: Final = (
    "/docker/{id}",
    "/system.slice/docker-{id}.scope",
    "/kubepods/besteffort/pod2f3bd43c-58a2-4e1c-9d57-5d1b2f0a7c11/{id}",
    "/kubepods.slice/kubepods-pod2f3bd43c_58a2_4e1c_9d57_5d1b2f0a7c11.slice/cri-containerd-{id}.scope",
    "/kubepods.slice/kubepods-pod2f3bd43c_58a2_4e1c_9d57_5d1b2f0a7c11.slice/crio-{id}.scope/container",
    "/machine.slice/libpod-{id}.scope/container",
    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope",
)
#: cgroup paths that look like a container's and are the host's
HOST_CGROUPS: Final = (
    "/machine.slice/libpod-conmon-{id}.scope",
    "/system.slice/crio-conmon-{id}.scope",
    "/lxc.monitor.{id}",
    "/system.slice/docker-agent.service",
    "/system.slice/docker.service",
    "/docker",
)
HOST_NAMES: Final = ("conmon", "containerd-shim", "dockerd", "runc:[2:INIT]", "systemd-nspawn")


@dataclass(frozen=True)
class Workload:
    """One workload; ``number`` is what its actions carry."""

    number: int
    name: str
    share: float
    body: Body
    about: str


WORKLOADS: Final[dict[str, Workload]] = {}


def workload(name: str, share: float) -> Callable[[Body], Body]:
    """Register a workload; its docstring's first line is printed by ``--list``."""

    def register(body: Body) -> Body:
        about = (body.__doc__ or "").partition("\n")[0]
        WORKLOADS[name] = Workload(len(WORKLOADS) + 1, name, share, body, about)
        return body

    return register


def new_id() -> str:
    """A container id as Docker makes them: 64 hex digits."""
    return secrets.token_hex(32)


def _one_container(runtime: str, run: Run, n: int) -> None:
    if runtime not in run.runtimes:
        return
    label = run.label_of(runtime)
    run.contained(runtime, label, run.inside(label, "children", n // 2))
    label = run.label_of(runtime)
    run.contained(runtime, label, run.inside(label, "children", n // 4, how="vfork", par=2))
    label = run.label_of(runtime)
    run.contained(runtime, label, run.inside(label, "children", n // 4, then="sys"))


for _name, _share in (
    ("podman", 0.16),
    ("runc", 0.08),
    ("crun", 0.05),
    ("lxc", 0.05),
    ("nspawn", 0.04),
    ("bwrap", 0.04),
):
    _body = partial(_one_container, _name)
    _body.__doc__ = f"many short children of one {_name} container: fork + exec, vfork + exec, fork without exec"
    workload(_name, _share)(_body)


@workload("host", 0.08)
def host(run: Run, n: int) -> None:
    """many short processes of the host"""
    run.host(HOST, "children", n // 2)
    run.host(HOST, "children", n // 2, then="sys")


@workload("one-exec", 0.0)
def one_exec(run: Run, n: int) -> None:
    """containers that live for one exec, under every runtime"""
    times = {"podman": 12, "runc": 40, "crun": 40, "lxc": 20, "nspawn": 10, "bwrap": 150, "unshare": 150}
    for runtime in run.runtimes:
        for _ in range(run.slow(times[runtime])):
            label = run.label_of(runtime)
            run.contained(runtime, label, run.inside(label))


@workload("exec-into", 0.0)
def exec_into(run: Run, n: int) -> None:
    """a process put into a running container by its runtime's own exec"""
    times = {"podman": 10, "runc": 30, "crun": 30, "lxc": 30}
    for runtime in set(run.runtimes) & set(times):
        label = run.label_of(runtime)
        ready = f"/ready-{label.number}"
        hold = run.inside(label, "hold", ready=ready)
        with run.containers.held(runtime, hold, ready) as held:
            label.ident = held.ident
            for i in range(run.slow(times[runtime])):
                mode = ("none", 0) if i % 2 else ("children", 3)
                call([*held.enter, *run.inside(label, *mode)])


@workload("enter", 0.0)
def enter(run: Run, n: int) -> None:
    """nsenter from the host: pid namespace, mount namespace, all of them"""
    for runtime in run.runtimes:
        label = run.label_of(runtime)
        ready = f"/ready-{label.number}"
        with run.containers.held(runtime, run.inside(label, "hold", ready=ready), ready) as held:
            label.ident = held.ident
            target = ["nsenter", "-t", str(held.pid)]
            for _ in range(run.slow(8)):
                call([*target, "-p", *run.outside(label, "children", 2)])
                # the unshare command, a process of the host, lives in the mount namespace that it made
                if runtime != "unshare":
                    call([*target, "-m", "-r", *run.inside(label, "children", 2)])
                call([*target, "-m", "-u", "-i", "-n", "-p", "-r", *run.inside(label, "children", 2)])


@workload("parallel", 0.12)
def parallel(run: Run, n: int) -> None:
    """containers of all runtimes at the same time, and the host"""
    # nspawn locks its root file system, so there is one of it
    crowd = [name for name in run.runtimes for _ in range(1 if name in ("nspawn", "podman") else 2)]
    jobs: list[Callable[[], None]] = [partial(run.host, HOST, "children", n // (len(crowd) + 1))]
    for runtime in crowd:
        label = run.label_of(runtime)
        argv = run.inside(label, "children", n // (len(crowd) + 1))
        jobs.append(partial(run.contained, runtime, label, argv))
    run.parallel(jobs, workers=len(jobs))


@workload("unshare", 0.08)
def unshare(run: Run, n: int) -> None:
    """processes that unshare each type of namespace: pid makes a sandbox, the others stay host"""
    kinds = (NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWNET, NEWPID, NEWUSER, NEWUSER | NEWPID | NEWNET)
    for flags in kinds:
        # an action without exec right after the change is what transition-fast is about
        for then in ("exec",) if flags == NEWUSER else ("exec", "sys"):
            times = max(2, n // (2 * len(kinds)))
            if flags & NEWPID:
                first = run.label(sandbox=True, count=times)
                run.host(HOST, "unshare", times, flags=flags, then=then, label2=first, lstep=1)
            else:
                run.host(HOST, "unshare", times, flags=flags, then=then)


@workload("clone3", 0.08)
def clone3(run: Run, n: int) -> None:
    """clone3 + _exit without exec, with and without new namespaces, on the host and in a container"""
    for flags in (0, NEWNET, NEWNS | NEWUTS, NEWUSER):
        run.host(HOST, "children", n // 8, how="clone3", then="sys", flags=flags)
    for flags in (NEWPID, NEWUSER | NEWPID | NEWNET):
        first = run.label(sandbox=True, count=n // 8)
        run.host(HOST, "children", n // 8, how="clone3", then="sys", flags=flags, label2=first, lstep=1)
    for runtime in set(run.runtimes) & {"podman", "runc"}:
        label = run.label_of(runtime)
        argv = run.inside(label, "children", n // 8, how="clone3", then="sys", flags=NEWPID)
        run.contained(runtime, label, argv)


@workload("into-cgroup", 0.05)
def into_cgroup(run: Run, n: int) -> None:
    """clone3(CLONE_INTO_CGROUP) into a container's cgroup, with and without exec"""
    for then in ("exec", "sys"):
        ident = new_id()
        with run.containers.cgroup(f"/docker/{ident}") as cg:
            run.host(HOST, "children", n // 2, how="clone3", then=then, cg=cg, label2=run.label(ident))


@workload("moved", 0.04)
def moved(run: Run, n: int) -> None:
    """a container's cgroup is set after the first exec, in every shape of path"""
    times = max(1, n // (2 * len(CONTAINER_CGROUPS)))
    for shape in CONTAINER_CGROUPS:
        ident = new_id()
        with run.containers.cgroup(shape.format(id=ident)) as cg:
            run.host(HOST, "moved", times, cg=cg, label2=run.label(ident))


@workload("thread-exec", 0.01)
def thread_exec(run: Run, n: int) -> None:
    """a thread that is not the leader execs, on the host and in a container"""
    run.host(HOST, "threadexec", n // 2)
    for runtime in set(run.runtimes) & {"podman", "bwrap"}:
        label = run.label_of(runtime)
        run.contained(runtime, label, run.inside(label, "threadexec", n // 4))


@workload("threads", 0.01)
def threads(run: Run, n: int) -> None:
    """threads that unshare on their own: no record says which thread it was, so what they differ in is unknown"""
    run.cannot_tell(run.labels[HOST], "net")
    run.host(HOST, "threads", n // 4, flags=NEWNET)
    if "podman" in run.runtimes:
        label = run.label_of("podman")
        run.cannot_tell(label, "net", "uts")
        run.contained("podman", label, run.inside(label, "threads", n // 4, flags=NEWNET | NEWUTS))


@workload("daemons", 0.03)
def daemons(run: Run, n: int) -> None:
    """double-forked daemons, re-parented to their init before they act"""
    for then in ("exec", "sys"):
        run.host(HOST, "daemons", n // 6, then=then)
        for runtime in set(run.runtimes) & {"podman", "runc"}:
            label = run.label_of(runtime)
            run.contained(runtime, label, run.inside(label, "daemons", n // 6, then=then))


@workload("pid-reuse", 0.12)
def pid_reuse(run: Run, n: int) -> None:
    """two containers and the host take turns at the same few pids"""
    base = int(os.readlink("/proc/self")) + 2000
    # stay clear of the wrap: a pid is taken from there upwards
    near = base if base < 30000 else 2000
    pusher = run.background("lastpid", pid=near, gap=1000)
    try:
        jobs: list[Callable[[], None]] = [
            partial(run.host, HOST, "children", n // 6),
            partial(run.host, HOST, "children", n // 6, then="sys"),
        ]
        for runtime in set(run.runtimes) & {"podman", "bwrap"}:
            for then in ("exec", "sys"):
                label = run.label_of(runtime)
                argv = run.inside(label, "children", n // 6, then=then)
                jobs.append(partial(run.contained, runtime, label, argv))
        run.parallel(jobs)
    finally:
        pusher.terminate()
        pusher.wait()


@workload("nested", 0.03)
def nested(run: Run, n: int) -> None:
    """containers in containers: namespaces made inside start none, a runtime's cgroup inside does (chain)"""
    for runtime in set(run.runtimes) & {"podman", "runc", "unshare"}:
        # a process in a chroot, which the unshare command makes, may not have a new user namespace
        for flags in (NEWPID,) if runtime == "unshare" else (NEWPID, NEWUSER):
            label = run.label_of(runtime)
            run.contained(runtime, label, run.inside(label, "unshare", n // 8, flags=flags))
    outer_id, inner_id = new_id(), new_id()
    outer = run.label(outer_id)
    inner = run.label(inner_id, parent=outer)
    with (
        run.containers.cgroup(f"/docker/{outer_id}") as around,
        run.containers.cgroup(f"/docker/{outer_id}/docker/{inner_id}") as cg,
    ):
        argv = run.outside(outer, "moved", n // 8, cg=cg, label2=inner)
        call(["sh", "-c", 'echo $$ > "$0"/cgroup.procs; exec "$@"', str(around), *argv])


@workload("posing", 0.02)
def posing(run: Run, n: int) -> None:
    """containers that name cgroups of their own like another container, before it is there and beside it"""
    outer_id, victim_id = new_id(), new_id()
    outer, victim = run.label(outer_id), run.label(victim_id)
    with (
        run.containers.cgroup(f"/docker/{outer_id}/docker/{victim_id}") as inside,
        run.containers.cgroup(f"/docker/{victim_id}") as real,
        run.containers.cgroup(f"/truth-box/docker-{victim_id}.scope") as elsewhere,
        run.keeping(inside),
    ):
        run.host(HOST, "moved", n // 10, cg=inside, label2=run.label(victim_id, parent=outer))
        with run.keeping(real):
            run.host(HOST, "moved", n // 10, cg=real, label2=victim)
            run.host(HOST, "moved", n // 10, cg=inside, label2=run.label(sandbox=True, parent=outer))
            run.host(HOST, "moved", n // 10, cg=elsewhere, label2=run.label(sandbox=True))
            run.host(HOST, "moved", n // 10, cg=real, label2=victim)


@workload("lookalike", 0.03)
def lookalike(run: Run, n: int) -> None:
    """host processes with the names and cgroups of container runtimes"""
    programs = run.directory / "names"
    programs.mkdir(exist_ok=True)
    times = n // (len(HOST_NAMES) + 1 + 2 * len(HOST_CGROUPS))
    for name in (*HOST_NAMES, new_id()):
        program = programs / name
        with contextlib.suppress(FileExistsError):
            os.link(run.truth, program)
        run.host(HOST, "children", times, program=program)
    for shape in HOST_CGROUPS:
        with run.containers.cgroup(shape.format(id=new_id())) as cg:
            run.host(HOST, "moved", max(1, times // 2), cg=cg)


@workload("transition", 0.0)
def transition(run: Run, n: int) -> None:
    """one process before and after it enters a user namespace, a tenth of a second apart: the host's"""
    run.host(HOST, "transition", run.slow(12), flags=NEWUSER, gap=100_000)


@workload("transition-fast", 0.01)
def transition_fast(run: Run, n: int) -> None:
    """the same within microseconds: the audit stamp is coarser than that"""
    run.host(HOST, "transition", n // 2, flags=NEWUSER)


@workload("set-user-ID", 0.04)
def set_user_id(run: Run, n: int) -> None:
    """an ordinary user execs set-user-ID and set-group-ID programs, on the host, in containers, with children"""
    changes.execs_as_user(("setuid", "setgid"), run, n)


@workload("file-capabilities", 0.04)
def file_capabilities(run: Run, n: int) -> None:
    """the same with file capabilities, and with a program that the user may not read"""
    changes.execs_as_user(("filecaps", "unreadable"), run, n)


@workload("churn", 0.03)
def churn(run: Run, n: int) -> None:
    """one process that enters new namespaces again and again, on the host and in containers"""
    changes.churn(run, n)


@workload("self-move", 0.02)
def self_move(run: Run, n: int) -> None:
    """processes that move themselves into a container's cgroup, then exec or make a pid namespace"""
    changes.self_move(run, n, new_id)


@workload("restart", 0.02)
def restart(run: Run, n: int) -> None:
    """the subjects are started anew in the middle; processes of before act afterwards"""
    changes.restart(run, n, changes.QUIET)


@workload("busy-start", 0.02)
def busy_start(run: Run, n: int) -> None:
    """the same while the host and containers fork 500 times a second each"""
    changes.restart(run, n, changes.BUSY)


def run_workload(run: Run, load: Workload) -> None:
    """Run one workload in ``run``; its planned actions are counted there."""
    run.workload = load.number
    load.body(run, int(run.events * load.share))
