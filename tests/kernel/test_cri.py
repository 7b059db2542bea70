"""Real containerd with pods, asked as a kubelet asks: every exec is its container's, each container is called by the
names of its pod, and what the hook of the printed base specification should have registered and has not is told of."""

import concurrent.futures
import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from auditns_connector.model.runtimes import derive_contid
from tests.kernel import printed
from tests.kernel.cri import NAMESPACE, Kubelet, Pod
from tests.kernel.daemons import Containerd
from tests.kernel.images import BUSY, PAUSE
from tests.kernel.programs import Program, listening, until
from tests.kernel.spoken import Truth
from tests.kernel.support import AuditState
from tests.kernel.test_dockerd import listed

pytestmark = pytest.mark.kernel
HOOKED = "auditns"


def daemon(token: str, folder: Path) -> Containerd:
    """containerd with a second runtime handler that has the printed base specification."""
    base = folder / "base.json"
    command, table = printed.containerd(str(base))
    spec = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    base.write_text(json.dumps({**spec, "hooks": printed.hooks()}))
    # the same table under another name, so that there are containers with the hook and without it
    table = table.replace(".runtimes.runc]", f".runtimes.{HOOKED}]") + "\n"
    more = table.replace("]\n", ']\n  runtime_type = "io.containerd.runc.v2"\n', 1)
    return Containerd(["/bin/sh", "-c", f"/bin/true {token}-pause-0; exec /bin/sleep 100000"], more)


def names(about: dict[str, object]) -> tuple[str, ...]:
    return tuple(str(about.get(field, "")) for field in ("runtime", "name", "image", "pod", "namespace", "pod_uid"))


class Cluster:
    """Pods of every kind, and the truth of what runs in them."""

    def __init__(self, kubelet: Kubelet, truth: Truth) -> None:
        self.kubelet, self.truth = kubelet, truth
        #: id -> the names it is to be called by
        self.names: dict[str, tuple[str, ...]] = {}

    def run(self, pod: Pod, label: str, name: str, count: int = 4) -> str:
        """A container that runs ``count`` programs, and goes on."""
        ident = self.kubelet.start(pod, name, ["/bin/loop", self.truth.word(label), str(count), "600"])
        self.truth.of(label, ident, count)
        self.names[ident] = ("containerd", name, BUSY, pod.name, NAMESPACE, pod.uid)
        return ident

    def every_kind(self) -> dict[str, str]:
        """Ids by label."""
        pod, run = self.kubelet.pod, self.run
        web = pod("web")
        shared = pod("sharedpid", shared_pid=True)
        return {
            "web": run(web, "web", "app"),
            "sidecar": run(web, "sidecar", "sidecar"),
            "burstable": run(pod("db", "burstable"), "burstable", "main"),
            "guaranteed": run(pod("guaranteed", "guaranteed"), "guaranteed", "one"),
            "static": run(pod("kube-static", "burstable", static=True), "static", "etcd"),
            "host": run(pod("agent", host=True), "host", "agent"),
            "privileged": run(pod("driver", privileged=True), "privileged", "root"),
            "hostpriv": run(pod("node", host=True, privileged=True), "hostpriv", "root"),
            "shared.one": run(shared, "shared.one", "one"),
            "shared.two": run(shared, "shared.two", "two"),
        }

    def exec(self, label: str, ident: str, times: int = 3) -> None:
        """ExecSync, one after the other and at once."""
        word, kubelet = self.truth.word, self.kubelet
        for number in range(times):
            assert kubelet.exec(ident, ["/bin/true", word(f"{label}.exec", number)]) == 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: kubelet.exec(ident, ["/bin/true", word(f"{label}.parallel", n)]), range(2 * times)))
        self.truth.of(f"{label}.exec", ident, times)
        self.truth.of(f"{label}.parallel", ident, 2 * times)

    def together(self, count: int) -> None:
        """Pods that start at once."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            pods = list(pool.map(lambda n: self.kubelet.pod(f"par{n}"), range(count)))
            list(pool.map(lambda n: self.run(pods[n], f"par.{n}", "c"), range(count)))

    def crash(self, times: int) -> None:
        """A container that ends at once, made anew each time, as a kubelet does."""
        pod = self.kubelet.pod("crashing", "burstable")
        for number in range(times):
            word = self.truth.word(f"crash.{number}", 0)
            ident = self.kubelet.start(pod, "crash", ["/bin/sh", "-c", f"/bin/true {word}; exit 1"])
            self.truth.of(f"crash.{number}", ident, 1)
            self.kubelet.remove_container(ident)

    def pauses(self) -> None:
        """Each pause container has run one program."""
        wanted = {str(derive_contid("", pod.id)) for pod in self.kubelet.pods}
        self.truth.which("pause", lambda found: found in wanted, len(wanted))


def test_pods_of_every_kind(quiet: AuditState, default_control: Path, token: str, tmp_path: Path) -> None:
    truth = Truth(token)
    with (
        listening(
            tmp_path / "l", "--rules", "--format", "raw", "--expect", "containerd", control=default_control
        ) as listener,
        daemon(token, tmp_path) as containerd,
    ):
        containerd.load()
        with Kubelet(containerd.socket, f"{containerd.folder}/logs") as kubelet:
            cluster = Cluster(kubelet, truth)
            running = cluster.every_kind()
            for label in ("web", "host", "shared.one", "privileged"):
                cluster.exec(label, running[label])
            cluster.together(4)
            cluster.crash(3)
            hooked = cluster.run(kubelet.pod("hooked", handler=HOOKED), "hooked", "app")
            cluster.pauses()
            control = default_control
            registered_by_the_hook(control, hooked)
            every_name(control, kubelet, cluster)
            until(lambda: truth.complete(listener.out), f"every exec: {truth.errors(listener.out)}")
            bare = {str(derive_contid("", ident)) for ident in running.values()}
            until(lambda: bare <= missing(listener), "those without a hook")
            told = missing(listener)
            assert not told & {str(derive_contid("", pod.id)) for pod in kubelet.pods}, "pause containers"
            assert str(derive_contid("", hooked)) not in told
    assert truth.errors(listener.out) == {}
    assert len(truth.labels["pause"].found) == truth.labels["pause"].count


def missing(listener: Program) -> set[str]:
    """The identifiers that no hook has set."""
    return {
        found.decode()
        for found in re.findall(rb"op=set opid=\d+ contid=(\d+) old-contid=\d+ error=ENOENT", listener.out)
    }


def registered_by_the_hook(control: Path, ident: str) -> None:
    about = listed(control)[ident]
    assert (about["kind"], about["contid"]) == ("registered", str(derive_contid("", ident)))


def every_name(control: Path, kubelet: Kubelet, cluster: Cluster) -> None:
    """Of every container that lives, pause containers too. Which image these have containerd says from 1.7 on."""
    pauses = {pod.id for pod in kubelet.pods}
    wanted = dict(cluster.names)
    for pod in kubelet.pods:
        wanted[pod.id] = ("containerd", "pause", PAUSE, pod.name, NAMESPACE, pod.uid)

    def wrong() -> dict[str, tuple[str, ...]]:
        told = {ident: names(about) for ident, about in listed(control).items()}
        found = {ident: told.get(ident, ()) for ident in wanted}
        found = {i: (*one[:2], one[2] or PAUSE, *one[3:]) if i in pauses and one else one for i, one in found.items()}
        return {ident: found[ident] for ident in wanted if found[ident] != wanted[ident]}

    with contextlib.suppress(TimeoutError):
        until(lambda: not wrong(), "the names")
    assert wrong() == {}
    assert {ident for ident, about in listed(control).items() if about.get("role") == "pause"} == pauses
