"""Compare what a subject said with the truth: pure functions, no I/O.

An event of a container is *right* when the subject names that container, *wrong* when it names another one,
*unknown* when it says that it does not know (``contid=?``), *missing* when it says nothing (silence means host), and
*absent* when the event is not in the subject's output at all. An event of the host is right with no name.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from .truth import NS_SCORED, Action, EventId, Label, Labels, NsKey, NsRef

RIGHT: Final = "right"
WRONG: Final = "wrong"
UNKNOWN: Final = "unknown"
MISSING: Final = "missing"
ABSENT: Final = "absent"
OUTCOMES: Final = (RIGHT, WRONG, UNKNOWN, MISSING, ABSENT)

UNKNOWN_ANSWER: Final = "?"
#: workload, label and kind of actions
Doing = tuple[int, int, str]


@dataclass(slots=True)
class Answer:
    """What a subject said of one event. ``container``: None nothing, "?" unknown, else its name for it, as a chain
    ``inner,^outer`` where it tells one. ``ns``: by type; a value of None is an explicit unknown."""

    container: str | None = None
    ns: Mapping[str, NsRef | None] | None = None


@dataclass(slots=True)
class Tally:
    """Counts of one workload: of the containers, and of the namespaces (events with a truth for them)."""

    events: int = 0
    containers: Counter[str] = field(default_factory=Counter)
    namespaces: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Count ``other`` in."""
        self.events += other.events
        self.containers += other.containers
        self.namespaces += other.namespaces


@dataclass(slots=True)
class Score:
    """The result for one subject: tallies by workload number and by kind of label (host, known, sandbox), and
    examples of what was not right."""

    by_workload: dict[int, Tally]
    examples: list[str]
    by_kind: dict[str, Tally] = field(default_factory=dict)

    @property
    def total(self) -> Tally:
        """The sum of all workloads."""
        total = Tally()
        for tally in self.by_workload.values():
            total.add(tally)
        return total


def assign_names(counts: Mapping[tuple[int, str], int], taken: Mapping[int, str]) -> dict[int, str]:
    """Which answer stands for which label, one to one.

    ``counts``: how often each (label, answer) was seen; ``taken``: labels whose name is known independently, which no
    other label may use. The most frequent pairs are fixed first; a label all of whose answers belong to others gets
    none, so that two containers merged into one can never both be right.
    """
    names = dict(taken)
    used = set(taken.values())
    for (label, answer), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if label not in names and answer not in used:
            names[label] = answer
            used.add(answer)
    return names


def container_outcome(answer: Answer | None, label: Label, names: Mapping[int, str]) -> str:
    """The outcome of one event of container ``label``; ``names`` as by :func:`assign_names`."""
    if answer is None:
        return ABSENT
    said = answer.container
    if said == UNKNOWN_ANSWER:
        return UNKNOWN
    if label.kind == "host":
        return RIGHT if said is None else WRONG
    if said is None:
        return MISSING
    inner, *outer = said.split(",^")
    if names.get(label.number) != inner:
        return WRONG
    if label.parent is not None and outer[:1] != [names.get(label.parent.number)]:
        return WRONG
    return RIGHT


def namespaces_outcome(answer: Answer | None, seen: Mapping[str, NsRef], undecided: Collection[str] = ()) -> str:
    """Whether the namespaces the subject told are those the process saw; one wrong type makes the event wrong. Of types
    that are ``undecided`` by the event's records an explicit unknown is right."""
    if answer is None:
        return ABSENT
    if answer.ns is None:
        return MISSING
    said = {kind: answer.ns[kind] for kind in seen if kind in answer.ns}
    if any(ref is not None and ref != seen[kind] for kind, ref in said.items()):
        return WRONG
    needed = [kind for kind in NS_SCORED if kind in seen]
    known = [kind for kind, ref in said.items() if ref is not None or kind in undecided]
    return RIGHT if set(needed) <= set(known) else UNKNOWN


def score(
    actions: Mapping[EventId, Action],
    answers: Mapping[EventId, Answer],
    labels: Labels,
    name_of: Callable[[Label], str | None],
    seen: Mapping[NsKey, Mapping[str, NsRef]],
    *,
    undecided: Mapping[Doing, Collection[str]] | None = None,
    examples: int = 4,
) -> Score:
    """Score one subject. ``name_of``: what this subject has to call a label of kind known, None when it has no rule
    (then its names only have to be consistent); ``undecided``: types of namespaces that the records of such actions
    cannot tell; ``examples``: at most so many of each workload."""
    tells_namespaces = any(answer.ns is not None for answer in answers.values())
    names = assign_names(_count_answers(actions, answers), _known_names(labels, actions, name_of))
    result = Score({}, [])
    owners = {name: number for number, name in names.items()}
    shown: Counter[int] = Counter()
    for event, action in actions.items():
        tally = result.by_workload.setdefault(action.workload, Tally())
        answer, label = answers.get(event), labels[action.label]
        outcome = container_outcome(answer, label, names)
        tally.events += 1
        tally.containers[outcome] += 1
        of_kind = result.by_kind.setdefault(label.kind, Tally())
        of_kind.events += 1
        of_kind.containers[outcome] += 1
        problem = "" if outcome == RIGHT else f"{outcome}: {_difference(answer, label, names, owners)}"
        if tells_namespaces and action.ns_key in seen:
            cannot = (undecided or {}).get((action.workload, action.label, action.kind), ())
            ns_outcome = namespaces_outcome(answer, seen[action.ns_key], cannot)
            tally.namespaces[ns_outcome] += 1
            of_kind.namespaces[ns_outcome] += 1
            if not problem and ns_outcome != RIGHT:
                said = dict(answer.ns) if answer is not None and answer.ns else None
                problem = f"namespaces {ns_outcome}: {said} instead of {dict(seen[action.ns_key])}"
        if problem and shown[action.workload] < examples:
            shown[action.workload] += 1
            result.examples.append(f"{event} {action} {problem}")
    return result


def _difference(answer: Answer | None, label: Label, names: Mapping[int, str], owners: Mapping[str, int]) -> str:
    said = answer.container if answer else None
    owner = owners.get(said.partition(",^")[0]) if said else None
    whose = f" (label {owner})" if owner is not None else ""
    return f"said {said}{whose} instead of {names.get(label.number) or label.kind}"


def _count_answers(actions: Mapping[EventId, Action], answers: Mapping[EventId, Answer]) -> Counter[tuple[int, str]]:
    counts: Counter[tuple[int, str]] = Counter()
    for event, action in actions.items():
        answer = answers.get(event)
        if answer is not None and answer.container not in (None, UNKNOWN_ANSWER):
            counts[action.label, str(answer.container).partition(",^")[0]] += 1
    return counts


def _known_names(
    labels: Labels, actions: Mapping[EventId, Action], name_of: Callable[[Label], str | None]
) -> dict[int, str]:
    used = {action.label for action in actions.values()}
    used |= {parent.number for number in used if (parent := labels[number].parent) is not None}
    known = {number: name_of(labels[number]) for number in used if labels[number].kind == "known"}
    # the host never has a name: keep its number from being given one by wrong answers
    return {0: "", **{number: name for number, name in known.items() if name is not None}}


def verdict(result: Score, names: Mapping[int, str], *, lossless: bool) -> list[str]:
    """Why the bar is missed, by the ``names`` of the workloads; empty when it is met.

    The bar: every event right. Where loss was forced they may be unknown or absent, but never wrong or missing.
    """
    reasons = []
    for number, tally in sorted(result.by_workload.items()):
        allowed = {RIGHT} if lossless else {RIGHT, UNKNOWN, ABSENT}
        for what, counts in (("", tally.containers), ("namespaces ", tally.namespaces)):
            for outcome in OUTCOMES:
                if outcome not in allowed and counts[outcome]:
                    reasons.append(f"{names[number]}: {counts[outcome]} {what}{outcome}")
    return reasons
