"""Which process an answer is about, and its fields beside its container: its key, its unit, its parents."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from auditns_connector.attribution.entry_fields import ancestor_object, ancestors_text
from auditns_connector.attribution.lookup import NOBODY
from auditns_connector.attribution.text_answers import LOG
from auditns_connector.audittext import own_records as text
from auditns_connector.model.ancestry import Descendant, key_of
from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.entry import Ancestor
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Process, State
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model


def holder_of(model: "Model", pid: int, state: State) -> Process | None:
    """The process ``pid`` that was in ``state``; ``None`` where that is none of those remembered, or was not sure. What
    a text says of itself is the state of no process that is known here."""
    asked = pid > 0 and state is not NOBODY and state.origin != LOG
    process: Process | None = model.processes.get(pid) if asked else None
    while process is not None:
        for held in (process.state, *(process.past or ()), *(exec_.state for exec_ in process.execs or ())):
            if held.since == state.since and held.container is state.container:
                return process
        process = process.prev
    return None


def key(model: "Model", process: Descendant) -> str:
    """What joins the events of ``process`` over everything."""
    return key_of(model.containers.boot_id, (process.pid, process.start))


def unit(cgroups: CgroupSet | None, state: State) -> str:
    """The systemd unit of a process of the host, in ``cgroups``."""
    return cgroups.unit if cgroups is not None and state.container is None else ""


def parents(model: "Model", process: Descendant, container: Container | None) -> Iterator[Ancestor | None]:
    """The parents of ``process``, which is in ``container``, the nearest first, up to the container's first process, or
    to the one that has come in from outside. ``None`` ends a line of which more is not known."""
    if container is None or container is UNKNOWN:
        return
    if container.init == (process.pid, process.start):
        return
    chain = container.chain()
    for parent in model.ancestry.line(process):
        if parent is None:
            yield None
            return
        if parent.container is None or parent.container not in chain:
            return
        yield model.ancestry.describe(parent)
        if container.init == (parent.pid, parent.start):
            return


def fields(model: "Model", pid: int, state: State, most: int) -> str:
    """The fields of CONTAINER_INFO that tell process ``pid``, which was in ``state``, and so many of its parents."""
    process = holder_of(model, pid, state) if most and state.container is not None else None
    if process is None:
        return ""
    line = list(islice(parents(model, process, state.container), most))
    shown = f" key={key(model, process)}"
    return shown + (f" parents={text.untrusted(ancestors_text(line))}" if line else "")


def described(model: "Model", process: Process, state: State) -> JsonObject:
    """The same as an object."""
    shown: JsonObject = {"key": key(model, process)}
    if name := unit(process.cgroups, state):
        shown["unit"] = name
    line = [None if one is None else ancestor_object(one) for one in parents(model, process, state.container)]
    if line:
        shown["parents"] = line
    return shown
