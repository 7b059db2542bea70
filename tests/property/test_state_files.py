"""State files with any content are refused with a message: never an error at the start, and nothing half taken over."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.auditrules.lease import RuleLease
from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply.restore_requests import requests_of
from auditns_connector.registration.state_file import NAME, StateFile
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.event_serials import FILE_NAME as SERIAL
from auditns_connector.state.event_serials import MODULUS, EventSerials
from auditns_connector.state.namespace_serials import FILE_NAME, SerialStore
from auditns_connector.vocabulary import frames as f
from tests.examples import examples
from tests.unit.world import HEX, World

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
BYTES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())
DEEP = b"[" * 100_000


def world() -> World:
    """A container, a registered process in it that has a child, and a sandbox."""
    w = World(sandbox_types=["pid"])
    w.fork(1, 100, 10)
    w.attach(100, f"/docker/{HEX}", 20)
    w.exec(100, 25)
    w.fork(1, 200, 30)
    w.fork(1, 210, 31)
    caller = {"pid": 210, "start": 31_000_000, "privileged": True}
    asked = {"op": "set", "start": 30_000_000, "id": "5", "caller": caller}
    w.put(f.K_REGISTER, 40, f.S_CONTROL, pid=200, payload=json.dumps(asked).encode())
    w.fork(200, 201, 50)
    w.fork(1, 300, 60, pid=77)
    return w


GOOD: dict[str, Any] = {
    "v": 1, "boot_id": "b", "requests": json.loads(json.dumps(requests_of(world().model, 1000))),
    "sockets": [[200, 30_000_000, "/run/x"]],
}  # fmt: skip
MINTED: dict[str, Any] = {
    "v": 1, "boot_id": "b", "next": (1 << 63) + 5000, "living": [[3, 4, 77, (1 << 63) + 7, [[300, 60_000_000]]]],
}  # fmt: skip


def changed(state: Any, value: Any, seed: int) -> Any:
    """``state`` with one of its parts another value, or missing."""
    rng, copy = random.Random(seed), json.loads(json.dumps(state))
    at = copy
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return copy
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.randrange(4):
            at = at[key]
            continue
        if rng.randrange(3):
            at[key] = value
        else:
            del at[key]
        return copy


def take_up(folder: str) -> str:
    """Read and apply the registrations of a former run, as a start does."""
    requests, _, complaint = StateFile(f"{folder}/control").read("b")
    w = world()
    for request in requests:
        w.put(f.K_REGISTER, 1000, f.S_CONTROL, payload=json.dumps(request).encode())
    return complaint


def mint(folder: str) -> list[str]:
    """The same for serials of namespaces."""
    store, w = SerialStore("b", folder), world()
    assert 1 << 63 < store.first < 1 << 64
    w.model.apply(store.restored(w.model))
    store.save(w.model, last=True)
    return store.notices


def lease(folder: str) -> None:
    """The same for the lease of rules: what it says, without the kernel."""
    held = RuleLease(object(), state_path=f"{folder}/rules.json")  # type: ignore[arg-type]
    with SafeDir(folder) as directory:
        held._living(held._read(directory))


def test_what_was_written_is_taken_up() -> None:
    assert [request["op"] for request in GOOD["requests"]] == ["restore", "restored"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, NAME).write_bytes(json.dumps(GOOD).encode())
        Path(folder, FILE_NAME).write_bytes(json.dumps(MINTED).encode())
        assert take_up(folder) == ""
        assert mint(folder) == []


@examples(200)
@given(BYTES)
@example(DEEP)
@example(b"\xff")
def test_any_content_is_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in (NAME, FILE_NAME, "rules.json", SERIAL):
            Path(folder, name).write_bytes(data)
        assert data == b"" or take_up(folder)
        assert mint(folder)
        with pytest.raises(AuditnsError, match=r"rules\.json"):
            lease(folder)
        serials = EventSerials(folder, boot_id="00" * 16)
        assert 0 <= serials.take() < MODULUS
        serials.close()


@examples(600)
@given(VALUES, st.integers(0, 1 << 40))
@example(0.0, 237)  # the index of a namespace's type as a float
@example(True, 237)
def test_a_part_that_is_another_is_refused_or_harmless(value: Any, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, NAME).write_bytes(json.dumps(changed(GOOD, value, seed)).encode())
        Path(folder, FILE_NAME).write_bytes(json.dumps(changed(MINTED, value, seed)).encode())
        take_up(folder)
        mint(folder)


@pytest.mark.parametrize(
    "value", [float("inf"), float("-inf"), float("nan"), 1 << 70, -1, 10**400, "9" * 300, [], {}, None]
)
def test_numbers_that_are_none(value: Any) -> None:
    requests = GOOD["requests"]
    spoilt = [
        {**GOOD, "requests": [*requests[:at], {**requests[at], key: value}, *requests[at + 1 :]]}
        for at in range(len(requests))
        for key in requests[at]
    ]
    for state in (*spoilt, {**GOOD, "sockets": [[value, value, value]]}):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, NAME).write_bytes(json.dumps(state).encode())
            take_up(folder)
    row = MINTED["living"][0]
    living = [[*row[:at], value, *row[at + 1 :]] for at in range(len(row))]
    for state in ({**MINTED, "next": value}, *({**MINTED, "living": [one]} for one in living)):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, FILE_NAME).write_bytes(json.dumps(state).encode())
            mint(folder)
