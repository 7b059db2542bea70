"""What no event will tell again about processes inside containers: who logged in, and who is not the container's yet.

After a restart, in another program of this host and at the head of a rotated journal it is put back by requests
(op "inside"). A child whose birth was seen since they were written has its parent's login; one that only /proc shows of
has none, for its parent may be somebody it was given to. What its runtime set up is still set up in a child of the
meantime, unless /proc shows that one as a child of the first process of its pid namespace, which is given everybody's
orphans.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.model.process import Login, Process, State
from auditns_connector.model.profiles import Profile
from auditns_connector.vocabulary.values import Json, JsonObject

if TYPE_CHECKING:
    from auditns_connector.model.inner_ids import Inside
    from auditns_connector.model.tables import Tables

#: processes named in one request: it must fit the send buffer of a control socket (some 200 KiB)
MAX_NAMED: Final = 800


def requests(model: "Tables", saved: int, *, only: Collection[Process] | None = None) -> list[JsonObject]:
    """The requests that put it back, JSON-able, as of ``saved`` (CLOCK_MONOTONIC ns); ``only``: these logins alone."""
    logins: list[list[Json]] = []
    setup: list[list[Json]] = []
    for process in model.table.living(_is_kept) if only is None else only:
        if process.end is not None:
            continue
        login, container = process.state.login, process.state.container
        if login is not None:
            since = min(state.since for state in (*(process.past or ()), process.state) if state.login is not None)
            logins.append([process.pid, process.start, login.uid, login.session, since])
        if only is None and process.own_since is None and container is not None and set_up_by_runtime(container):
            setup.append([process.pid, process.start, process.comm.decode("utf-8", "surrogateescape")])
    return [
        {"op": "inside", "saved": saved, "logins": logins[at : at + MAX_NAMED], "setup": setup[at : at + MAX_NAMED]}
        for at in range(0, max(len(logins), len(setup)), MAX_NAMED)
    ]


def _is_kept(one: Process | Profile) -> bool:
    container = one.state.container
    set_up = one.own_since is None and container is not None and set_up_by_runtime(container)
    return set_up or one.state.login is not None


def checked(request: JsonObject) -> JsonObject:
    """``request`` where it has the shape that :func:`restore` relies on; raises ValueError, KeyError, TypeError."""
    for pid, start, uid, session, since in request["logins"]:
        if not (int(pid) > 0 and int(start) >= 0 and 0 <= int(uid) < 1 << 32 and 0 <= int(session) < 1 << 32):
            raise ValueError("no login")
        int(since)
    for pid, start, comm in request["setup"]:
        if not (int(pid) > 0 and int(start) >= 0 and isinstance(comm, str)):
            raise ValueError("no process")
    return request


def restore(model: "Tables", inside: "Inside", request: JsonObject) -> None:
    """Put one request back; what the model has already stays."""
    # those that have ended since we look belong to it as well: they may have events that nobody was asked about yet
    saved, processes = int(request["saved"]), sorted(model.processes.values(), key=lambda p: (p.start, p.pid))
    for pid, start, uid, session, since in request["logins"]:
        process = model.alive_since(int(pid), int(start))
        if process is not None and process.state.login is None:
            _log_in(model, process, Login(int(uid), int(session)), int(since))
            inside.kept = inside.logged = True
    strangers: dict[str, list[Process]] = {}
    for pid, start, comm in request["setup"]:
        process = model.alive_since(int(pid), int(start))
        if process is not None:
            strangers.setdefault(str(comm), []).append(process)
    for process in processes:
        # one that was forked while nothing of ours ran may have been given to its parent by somebody who had another
        parent = _parent(model, process) if process.start > saved and not process.scanned else None
        if parent is not None and parent.state.login is not None and process.state.login is None:
            _log_in(model, process, parent.state.login, process.start)
    for process in processes:
        if process.own_since == process.start and _still_set_up(model, process, strangers, saved):
            model.table.own(process, None)


def _log_in(model: "Tables", process: Process, login: Login, since: int) -> None:
    def logged_in(state: State, at: int) -> State:
        return state._replace(login=login) if at >= since else state

    model.table.amend_execs(process, logged_in)
    if since > process.state.since:
        model.table.change(process, process.state._replace(since=since, login=login))
    else:
        model.table.amend(process, logged_in, execs=False)


def _parent(model: "Tables", process: Process) -> Process | None:
    """Who made ``process``, where that cannot be somebody who was only given it."""
    if process.creator is None:
        return None
    parent = model.incarnation(*process.creator)
    if parent is None or (process.scanned and (not parent.nspid or parent.nspid[-1] == 1)):
        return None
    return parent


def _still_set_up(model: "Tables", process: Process, strangers: dict[str, list[Process]], saved: int) -> bool:
    """Whether ``process`` had not run a program of the container's and has run none since: it is called the same. Its
    children of the meantime likewise."""
    namesakes = strangers.get(process.comm.decode("utf-8", "surrogateescape"), ())
    return process in namesakes or (process.start > saved and _parent(model, process) in namesakes)


def set_up_by_runtime(home: Container) -> bool:
    """Whether processes of a runtime are in ``home`` before its own are."""
    return home is not UNKNOWN and (home.kind == "runtime" or bool(home.replaces))
