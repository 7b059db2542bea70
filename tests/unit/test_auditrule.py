"""Rules and status as bytes."""

import random

import pytest

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.errors import DecodeError, NotSupportedError


def test_rules_of_x86_64() -> None:
    wide, narrow = (auditrule.parse_rule(raw) for raw in auditrule.our_rules("x86_64", "auditns"))
    assert (wide.filter, wide.action, wide.all_syscalls) == (auditrule.FILTER_EXIT, auditrule.ACTION_ALWAYS, False)
    assert wide.syscalls == (59, 272, 308, 322)
    assert narrow.syscalls == (11, 310, 346, 358)
    assert wide.values(auditrule.FIELD_ARCH) == [0xC000003E]
    assert narrow.values(auditrule.FIELD_ARCH) == [0x40000003]
    assert wide.key == narrow.key == b"auditns"


@pytest.mark.parametrize("machine", auditrule.ARCHES)
def test_every_machine_has_all_four_calls(machine: str) -> None:
    for raw in auditrule.our_rules(machine, "k"):
        assert len(auditrule.parse_rule(raw).syscalls) == len(auditrule.SYSCALLS)


def test_unknown_machine() -> None:
    with pytest.raises(NotSupportedError):
        auditrule.our_rules("pdp11", "k")


@pytest.mark.parametrize("key", ["", "k" * 257, "a\0b", "a\nb"])
def test_unusable_keys(key: str) -> None:
    with pytest.raises(DecodeError):
        auditrule.build_syscall_rule(0, [1], key)


@pytest.mark.parametrize("number", [-1, 2048])
def test_syscall_outside_the_mask(number: int) -> None:
    with pytest.raises(DecodeError):
        auditrule.build_syscall_rule(0, [number], "k")


def test_hostile_bytes_are_parsed_or_refused() -> None:
    good = auditrule.our_rules("x86_64", "key")[0]
    dice = random.Random(1)
    refused = 0
    for size in (0, 1, 1039, 1040, len(good) - 1):
        with pytest.raises(DecodeError):
            auditrule.parse_rule(good[:size])
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            # fixed words that steer the parser: count, fields, values, buflen
            at = dice.choice([8, 268, 272, 524, 528, 1036]) + dice.randrange(4)
            data[at] = dice.randrange(256)
        try:
            rule = auditrule.parse_rule(bytes(data))
        except DecodeError:
            refused += 1
        else:
            assert len(rule.fields) <= 64
    assert refused > 100


def test_padding_behind_a_rule_is_cut() -> None:
    good = auditrule.our_rules("x86_64", "key")[0]
    assert auditrule.trim(good + b"\0\0\0") == good
