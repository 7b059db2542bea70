"""In which container a process was made that was not seen to be made: what its parent shows of that, and what not."""

from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process
from auditns_connector.vocabulary.namespaces import PID
from auditns_connector.vocabulary.timing import START_TICK


def creator_of(process: Process, parent: Process | None, ppid: int) -> tuple[Container | None, bool]:
    """The container of whoever made ``process``, which /proc has shown as a child of ``ppid`` (0: it has no
    parent), and whether it is proven that it was so then. ``parent`` is that parent where it is known.

    Where ``parent`` was at that time events may have reported. An answer of /proc does not: whoever is in a container
    by its cgroup may have made namespaces before it came there. But nobody leaves a pid namespace, and its children
    live in that or below it (kernel/pid_namespace.c); and a namespace that both share was there before ``process``."""
    if parent is None:
        return None, not ppid
    states = parent.states(process.start, process.start + START_TICK) or [parent.state]
    containers = {state.container for state in states}
    present = parent.state.container
    if len(containers) == 1 and UNKNOWN not in containers:
        (container,) = containers
        if container is None or not parent.scanned or all(state.since > parent.start for state in states):
            return container, True
    return present, _shares(process, parent, present)


def _shares(process: Process, parent: Process, container: Container | None) -> bool:
    """Whether namespaces show that whoever made ``process`` was in ``container``, where ``parent`` is."""
    own, above = process.state.nsset, parent.state.nsset
    if own is None or above is None or container is None:
        return False
    for index, inst in enumerate(above.inst):
        if inst is None or inst.initial or inst.disputed or inst.guessed or inst.owner is not container:
            continue
        if index == PID or own.inst[index] is inst:
            return True
    return False
