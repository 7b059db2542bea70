"""Sets of namespaces are one object as long as somebody lives there, and are not kept for ever where nobody does."""

from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import NsSet
from auditns_connector.vocabulary.namespaces import NET, PID


def common(namespaces: Namespaces, number: int) -> NsSet:
    """What look-ups make of several sets: one with unknowns."""
    inst = namespaces.find(PID, 4, number, number)
    return namespaces.intern((*(None for _ in range(PID)), inst, *(None for _ in range(7 - PID))))


def test_sets_in_which_nobody_lives_are_forgotten_when_there_are_many() -> None:
    namespaces = Namespaces()
    net = namespaces.find(NET, 4, 1, 1)
    lived_in = namespaces.intern((net, *(None for _ in range(7))))
    namespaces.enter(lived_in, 100)
    most = 0
    for number in range(30_000):
        common(namespaces, number)
        most = max(most, len(namespaces._sets))
    assert most < 10_000
    assert namespaces.intern(lived_in.inst) is lived_in


def test_a_set_that_was_forgotten_is_the_one_that_is_entered() -> None:
    namespaces = Namespaces()
    first = common(namespaces, 1)
    for number in range(2, 10_000):
        common(namespaces, number)
    namespaces.enter(first, 100)
    assert common(namespaces, 1) is first
