"""The rule of the product: to which container a process belongs, by the evidence that is in hand.

:data:`RULES` are asked one after the other; the first that has an answer decides:

1. :func:`no_cgroup`: where its cgroups are not known, nothing is;
2. :func:`registration`: a registration, inherited from the true creator (a runtime's container found *inside* a
   registered one nests in it);
3. :func:`runtime`: a runtime recognised from its cgroup path, the innermost match; below the cgroup of the container
   that owns its pid namespace it is inside that one, whatever it is called;
4. :func:`pid_namespace`: the owner of its pid namespace: the container of the namespace's first process, or of whoever
   made it;
5. :func:`other_namespaces`: the owner of a namespace of another type that makes sandboxes, likewise;
6. :func:`lost_registration`: the answer is unknown where a registration may have been lost;
7. :func:`mounts`: a container whose mount namespace it entered while everyone living there belonged to that container;

otherwise it is a process of the host.

A namespace of a type that makes sandboxes (:attr:`Containers.sandbox_types`), made outside every container, owns
itself: that is a *sandbox*. One made inside a container starts no further one. Where the evidence is missing and the
answers could differ the answer is :data:`UNKNOWN`, never a guess.

A rule only decides. What its answer makes true of containers and namespaces are the *steps* of a :class:`Verdict`, done
by :func:`settle` when all is decided.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.containers import Containers, Named
from auditns_connector.model.places import UNKNOWN, Container, Instance, NsSet
from auditns_connector.vocabulary.namespaces import ALL_ORDER, MNT, PID, USER

#: types of namespaces (indices in ALL_ORDER) but pid, in the order in which their owners are asked for
_OTHERS: Final = (USER, *(index for index in range(len(ALL_ORDER)) if index not in (PID, USER)))


class Doubt(NamedTuple):
    """What nobody saw of a process on its way to where it is."""

    #: where its creator was when it was made, nothing proves
    unproven: bool = False
    #: it was there before, and its own former container stands for its creator's
    there: bool = False
    #: /proc alone tells where it is, and not since when
    read: bool = False
    #: it may have been elsewhere before
    missed: bool = False


#: all of it was seen
SEEN: Final = Doubt()


class Evidence(NamedTuple):
    """The evidence of a process ``who`` (pid, start) at ``now`` (CLOCK_MONOTONIC ns), and what it leaves open:
    ``doubt``.

    ``creator`` is the container of the process that made it (or its own former one), which decides to whom a namespace
    belongs that it is the first to live in. ``set_up``: it runs a program of its container's own, so that its cgroup is
    no longer its runtime's doing alone. ``mounts``: the container whose mount namespace it entered.
    """

    containers: Containers
    who: tuple[int, int]
    now: int
    cgroups: CgroupSet | None
    #: the container that its cgroups name
    named: Named | None
    namespaces: NsSet | None
    registered: Container | None
    creator: Container | None
    mounts: Container | None
    set_up: bool
    doubt: Doubt = SEEN
    #: whether events of the first process of a namespace are missing, so that it may have changed its owner
    doubtful: Callable[[Instance], bool] = lambda _: False

    def inst(self, index: int) -> Instance | None:
        """The namespace of a type (index in ALL_ORDER)."""
        return None if self.namespaces is None else self.namespaces.inst[index]

    def made_outside(self, inst: Instance) -> bool:
        """Whether ``inst``, where it is the first, was made in no container, as far as is known. A pid namespace is
        made with the first process in it, and its creator is known to have been outside then; a process gets into any
        other at any time of its life."""
        doubt = self.doubt
        return self.creator is None and not (doubt.unproven or doubt.there or (doubt.missed and inst.index != PID))

    @property
    def made_in_user_namespace(self) -> bool:
        """It is in a user namespace that makes a sandbox, or is another container's than its creator's, as /proc shows
        that: so whoever made it may have been there, or may have been somebody else."""
        user = self.inst(USER)
        if user is None or user.initial or user.type not in self.containers.sandbox_types:
            return False
        return user.owner is None or user.owner is not self.creator

    def first_in(self, inst: Instance) -> bool:
        """Whether it is the first process known in a namespace."""
        return inst.first == self.who


Step = Callable[[Evidence, "Container"], None]


class Verdict(NamedTuple):
    """Where a process belongs: a container, one that its cgroups name, ``None`` for the host, or the sandbox that a
    namespace is; and what follows from that."""

    belongs: Container | Named | Instance | None
    steps: tuple[Step, ...] = ()


Rule = Callable[[Evidence], Verdict | None]


def belongs(evidence: Evidence) -> Container | None:
    """Where a process belongs, ``None`` for the host; what follows from that is done."""
    return settle(evidence, decide(evidence))


def decide(evidence: Evidence) -> Verdict:
    """The answer of the first rule that has one. Changes nothing."""
    for rule in RULES:
        verdict = rule(evidence)
        if verdict is not None:
            return verdict
    return Verdict(None)


def settle(evidence: Evidence, verdict: Verdict) -> Container | None:
    """Make true what ``verdict`` says."""
    found, containers = verdict.belongs, evidence.containers
    if evidence.named is not None:
        containers.seen(evidence.named)
    if isinstance(found, Named):
        found = containers.of_name(found, evidence.now)
    elif isinstance(found, Instance):
        found = containers.sandbox_of(found, evidence.now)
    if found is not None:
        for step in verdict.steps:
            step(evidence, found)
        pid_ns = evidence.inst(PID)
        if pid_ns is not None and pid_ns.owner is found and evidence.first_in(pid_ns):
            found.init = evidence.who
    return found


def looked_at(containers: Containers, one: NsSet, other: NsSet) -> bool:
    """Whether a rule looks at a namespace in which both sets differ. Of a process that went from one to the other the
    rules say what they had said, where they do not."""
    if one.inst[PID] is not other.inst[PID] or one.inst[MNT] is not other.inst[MNT]:
        return True
    types = containers.sandbox_types
    return any(one.inst[i] is not other.inst[i] for i in _OTHERS if ALL_ORDER[i] in types)


def lost_sight(evidence: Evidence) -> None:
    """Nobody has seen where a process was for a while: it may have been in the cgroup of any container."""
    _may_have_moved(evidence)


# -- the rules


def no_cgroup(of: Evidence) -> Verdict | None:
    """Every container may show in the cgroup, and a registered one may hold another."""
    if of.cgroups is not None:
        return None
    return Verdict(UNKNOWN, (_may_have_moved if of.doubt.read else _made_somewhere,))


def registration(of: Evidence) -> Verdict | None:
    """The container it was registered in, itself or whom it descends from."""
    registered = of.registered
    if registered is None or registered is UNKNOWN:
        return None
    steps: tuple[Step, ...] = ()
    if registered.first == of.who and (registered.home is None or not of.set_up):
        steps = (_at_home,)
    named = of.named
    if named is None or named.container in registered.chain() or named.key in registered.replaces:
        return Verdict(registered, steps)
    if registered.first == of.who:
        # its runtime moves it into its cgroup only now: one and the same container
        return Verdict(registered, (*steps, _take_over))
    if named.container is not None and registered in named.container.chain():
        return Verdict(named.container, (_at_home_of(registered),) if steps else ())
    around = of.containers.around(named)
    if around is not None and registered in around.chain():
        return Verdict(around)
    if of.containers.may_nest(named, registered) and not of.containers.too_deep(named, registered):
        return Verdict(named, (_inside(registered),))
    # a move into the cgroup of a container that was there before takes no registration away
    return Verdict(registered, steps)


def runtime(of: Evidence) -> Verdict | None:
    """The container of a runtime that its cgroups name."""
    named = of.named
    if named is None:
        return None
    around = of.containers.around(named)
    if around is not None:
        return Verdict(around)
    pid_ns = of.inst(PID)
    if pid_ns is None:
        # a new one might be inside the owner of the namespace
        return Verdict(named.container or UNKNOWN)
    owner = of.creator if pid_ns.owner is None and not pid_ns.initial else pid_ns.owner
    steps: tuple[Step, ...] = (_owns_namespaces,)
    if (
        owner is not None
        and of.cgroups is not None
        and of.containers.below(owner, of.cgroups)
        and (of.set_up or not (of.first_in(pid_ns) and owner.sandbox is pid_ns))
        and of.containers.may_nest(named, owner)
    ):
        if of.containers.too_deep(named, owner):
            return Verdict(owner)
        steps = (_inside(owner), _owns_namespaces)
    return Verdict(named, steps)


def pid_namespace(of: Evidence) -> Verdict | None:
    """The owner of its pid namespace."""
    return _owner(of, PID)


def other_namespaces(of: Evidence) -> Verdict | None:
    """The owner of a namespace of another type that makes sandboxes: of its user namespace before all."""
    types = of.containers.sandbox_types
    for index in _OTHERS:
        if ALL_ORDER[index] in types:
            verdict = _owner(of, index)
            if verdict is not None:
                return verdict
    return None


def lost_registration(of: Evidence) -> Verdict | None:
    """Whether it was registered was lost in an outage."""
    return Verdict(UNKNOWN) if of.registered is UNKNOWN else None


def mounts(of: Evidence) -> Verdict | None:
    """The container whose mount namespace it entered."""
    return None if of.mounts is None else Verdict(of.mounts)


RULES: Final[tuple[Rule, ...]] = (
    no_cgroup, registration, runtime, pid_namespace, other_namespaces, lost_registration, mounts,
)  # fmt: skip


def _owner(of: Evidence, index: int) -> Verdict | None:
    """The owner of its namespace of a type; ``None`` where that makes no container."""
    inst = of.inst(index)
    if inst is None:
        return Verdict(UNKNOWN)
    if inst.initial:
        return None
    owner = inst.owner
    if owner is None or (owner is UNKNOWN and of.first_in(inst)):
        if of.doubt.there and owner is UNKNOWN:
            return Verdict(UNKNOWN)  # where it has been since says nothing of where it was made
        if of.doubt.unproven:
            return Verdict(UNKNOWN, (_owns(inst),))
        if of.doubt.missed and (index != PID or of.made_in_user_namespace):
            return Verdict(UNKNOWN, (_owns(inst),))  # it may have been made at any time, or by somebody else
        if of.creator is not None:
            return Verdict(of.creator, (_owns(inst),))
        if inst.type not in of.containers.sandbox_types:
            return None
        return Verdict(inst, (_owns(inst), _at_home))
    if owner.sandbox is inst and of.first_in(inst) and not of.set_up:
        return Verdict(owner, (_at_home,))
    return Verdict(UNKNOWN if _may_be_anothers(of, inst, owner) else owner)


def _may_be_anothers(of: Evidence, inst: Instance, owner: Container) -> bool:
    """Whether it may be in ``inst`` without belonging to ``owner``, which owns that as far as is known."""
    if inst.guessed or of.first_in(inst):
        return inst.guessed
    if owner.sandbox is inst and of.doubtful(inst):
        return True  # its first process may have come into a container's cgroup
    return of.doubt.read and inst.disputed  # it may have been there before this owner was


# -- steps


def _at_home(of: Evidence, found: Container) -> None:
    """The cgroups of its first process are the container's, until that runs a program of the container's own."""
    of.containers.at_home(found, of.cgroups)


def _at_home_of(registered: Container) -> Step:
    return lambda of, _: of.containers.at_home(registered, of.cgroups)


def _take_over(of: Evidence, registered: Container) -> None:
    """The container that its cgroups name is the registered one."""
    named = of.named
    if named is not None:
        of.containers.take_over(registered, named, of.now)


def _inside(outer: Container) -> Step:
    return lambda of, found: of.containers.nest(found, outer)


def _owns(inst: Instance) -> Step:
    def step(of: Evidence, found: Container) -> None:
        inst.owner, inst.guessed = found, found is UNKNOWN

    return step


def _may_have_moved(of: Evidence, _: Container | None = None) -> None:
    """A sandbox's first process may have been in a container's cgroup, which then owns what had been a sandbox."""
    for inst in of.namespaces.inst if of.namespaces is not None else ():
        if inst is None or inst.initial or inst.first not in (None, of.who):
            continue
        if inst.owner is None and (inst.index == PID or inst.type in of.containers.sandbox_types):
            inst.owner, inst.guessed = UNKNOWN, not of.made_outside(inst)
        elif inst.owner is not None and inst.owner.sandbox is inst:
            inst.owner = UNKNOWN


def _made_somewhere(of: Evidence, _: Container) -> None:
    """Where a process was that made a namespace its later cgroups do not say. (Of a pid namespace they do: its first
    process is put there by whoever made it.)"""
    for inst in of.namespaces.inst if of.namespaces is not None else ():
        if inst is None or inst.initial or inst.index == PID or inst.owner is not None or not of.first_in(inst):
            continue
        if inst.type in of.containers.sandbox_types:
            inst.owner, inst.guessed = UNKNOWN, True


def _owns_namespaces(of: Evidence, found: Container) -> None:
    """A recognised container owns the namespaces that its first process was the first to live in."""
    for index in (PID, USER):
        inst = of.inst(index)
        if inst is None or inst.initial:
            continue
        owner = inst.owner
        first = of.first_in(inst) and (owner is UNKNOWN or (owner is not None and owner.sandbox is inst))
        if owner is None or (first and owner not in found.chain()):
            inst.guessed |= owner is None and of.doubt.missed and not of.made_outside(inst)
            inst.change_owner(found, seen=not of.doubt.missed)
