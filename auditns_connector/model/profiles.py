"""What packed processes have in common; see rows.py."""

from auditns_connector.model.cgroups import CgroupSet
from auditns_connector.model.places import Container
from auditns_connector.model.process import Exec, Process, State


class Profile:
    """What the packed processes of one kind have in common; ``number`` is that of struct table_profile."""

    __slots__ = (
        "cgroups",
        "entered_container",
        "epoch",
        "key",
        "number",
        "own_since",
        "registered",
        "sampled",
        "state",
    )

    def __init__(
        self, number: int, key: tuple[object, ...], state: State, cgroups: CgroupSet | None, sampled: int,
        registered: Container | None, entered_container: Container | None, own_since: int | None, epoch: int,
    ) -> None:  # fmt: skip
        self.number = number
        self.key = key
        self.state = state
        self.cgroups = cgroups
        self.sampled = sampled
        self.registered = registered
        self.entered_container = entered_container
        self.own_since = own_since
        self.epoch = epoch


def split_execs(process: Process) -> tuple[list[Exec], list[Exec]]:
    """The execs of ``process`` since which its state is the same, and those before."""
    execs, state = process.execs or [], process.state[1:]
    at = len(execs)
    while at and execs[at - 1].state[1:] == state:
        at -= 1
    return execs[at:], execs[:at]
