"""Sets of namespaces are one object as long as somebody lives there, and are not kept for ever where nobody does."""

import random

from auditns_connector.attribution.lookup import agreed
from auditns_connector.model.namespaces import Namespaces
from auditns_connector.model.places import NsSet
from auditns_connector.model.process import OBSERVED, State
from auditns_connector.vocabulary.namespaces import ALL_ORDER, NET, PID
from tests.unit.world import World


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


def test_what_many_states_have_in_common_is_what_each_two_of_them_have() -> None:
    """Of whoever changes its namespaces in a loop a stamp may mean dozens of states; no sets are made in between."""
    choose = random.Random(7)
    for _ in range(200):
        w = World()
        namespaces = w.model.namespaces
        sets = [
            namespaces.intern(
                tuple(
                    None if choose.random() < 0.1 else namespaces.find(index, 4, 9000 + choose.randrange(2), 5)
                    for index in range(len(ALL_ORDER))
                )
            )
            for _ in range(choose.randrange(1, 30))
        ]
        states = [State(number, None, nsset, OBSERVED) for number, nsset in enumerate(sets)]
        before = len(namespaces._sets)
        found = agreed(w.model, states).nsset
        assert len(namespaces._sets) <= before + 1
        expected = list(sets[0].inst)
        for nsset in sets:
            expected = [one if one is other else None for one, other in zip(expected, nsset.inst, strict=True)]
        assert found is not None
        assert list(found.inst) == expected
        assert agreed(w.model, [*states, State(99, None, None, OBSERVED)]).nsset is None
