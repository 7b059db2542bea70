"""Minted serials across restarts of our programs."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.model.places import MINTED, Instance
from auditns_connector.state import namespace_serials
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.namespace_serials import BLOCK, FILE_NAME, SerialStore, unused
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618, NET
from tests.unit.world import World

BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def world(store: SerialStore, ino: int = 11, start: float = 900) -> World:
    """A host where process 100, begun at ``start``, is alone in a network namespace."""
    w = World(mint_next=store.first)
    w.proc(100, 1, at=1000, start=start, ns={**INITIAL_INODES_618, "net": ino})
    return w


def inst(w: World) -> Instance:
    nsset = w.model.processes[100].state.nsset
    assert nsset is not None
    found = nsset.inst[NET]
    assert found is not None
    return found


def test_every_run_has_numbers_of_its_own(folder: str) -> None:
    firsts = [SerialStore(BOOT, folder).first for _ in range(5)]
    assert all(later - earlier >= BLOCK for earlier, later in itertools.pairwise(firsts))
    assert min(firsts) > MINTED
    assert max(firsts) < 1 << 64


def test_without_a_file_later_starts_have_larger_numbers() -> None:
    assert MINTED < unused() < unused()
    assert SerialStore(BOOT, None).first < SerialStore(BOOT, None).first


def test_an_instance_keeps_its_serial(folder: str) -> None:
    store = SerialStore(BOOT, folder)
    w = world(store)
    minted = w.model.namespaces.serial(inst(w))
    store.save(w.model)
    again = SerialStore(BOOT, folder)
    v = world(again)
    block = again.restored(v.model)
    v.model.apply(block)
    assert inst(v).serial == minted >= MINTED
    assert v.model.namespaces.serial(inst(v)) == minted
    assert v.model.namespaces.mint_next > minted
    assert {frame.kind for frame in f.iter_frames(block)} == {f.K_NSID}


@pytest.mark.parametrize("other", [{"ino": 12}, {"start": 300.0}])
def test_not_without_proof(folder: str, other: dict[str, Any]) -> None:
    """Another inode, or another process that has the pid now."""
    store = SerialStore(BOOT, folder)
    w = world(store)
    w.model.namespaces.serial(inst(w))
    store.save(w.model)
    again = SerialStore(BOOT, folder)
    assert again.restored(world(again, **other).model) == b""


def test_the_kernels_ids_need_not_be_kept(folder: str) -> None:
    store = SerialStore(BOOT, folder)
    w = world(store)
    w.model.namespaces.give(inst(w), 77)
    store.save(w.model)
    assert json.loads(Path(folder, FILE_NAME).read_bytes())["living"] == []


def test_another_boots_serials_are_refused_and_that_is_told(folder: str) -> None:
    store = SerialStore(BOOT, folder)
    w = world(store)
    w.model.namespaces.serial(inst(w))
    store.save(w.model)
    again = SerialStore(BOOT.replace("1", "9"), folder)
    assert again.restored(world(again).model) == b""
    assert len(again.notices) == 1
    assert "another boot" in again.notices[0]


RUBBISH = [
    b"", b"{", b"[]", b"null", b'{"v":2}', b'{"v":1,"boot_id":"%s","next":"x","living":[]}' % BOOT.encode(),
    b'{"v":1,"boot_id":"%s","next":1,"living":[[9,1,1,1,[]]]}' % BOOT.encode(),
    b'{"v":1,"boot_id":"%s","next":1,"living":[[0,4,11,7,[[100,900000000]]]]}' % BOOT.encode(),
    b'{"v":1,"boot_id":"%s","next":1,"living":[[0,4,11,null,[["x",1]]]]}' % BOOT.encode(),
    b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("data", RUBBISH)
def test_rubbish_is_refused_and_that_is_told(folder: str, data: bytes) -> None:
    os.mkdir(folder, 0o755)  # whatever the umask: one that others may write to is refused
    Path(folder, FILE_NAME).write_bytes(data)
    store = SerialStore(BOOT, folder)
    assert len(store.notices) == 1
    assert store.restored(world(store).model) == b""
    assert SerialStore(BOOT, folder).notices == []


def test_a_place_it_may_not_use_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SerialStore(BOOT, str(tmp_path / "file"))
    assert len(store.notices) == 1
    store.save(world(store).model)


def test_saving_leaves_the_numbers_that_others_reserved(folder: str) -> None:
    one = SerialStore(BOOT, folder)
    other = SerialStore(BOOT, folder)
    w = world(one)
    w.model.namespaces.serial(inst(w))
    one.save(w.model)
    assert SerialStore(BOOT, folder).first >= other.first + BLOCK


def test_where_another_program_keeps_them_locked_they_are_saved_the_next_time(folder: str) -> None:
    store = SerialStore(BOOT, folder)
    w = world(store)
    w.model.namespaces.serial(inst(w))
    with SafeDir(folder) as stopped, stopped.locked(namespace_serials._LOCK):
        store.save(w.model, last=True)
    before = Path(folder, FILE_NAME).read_bytes()
    store.save(w.model, last=True)
    assert before != Path(folder, FILE_NAME).read_bytes()
    assert store.notices == []
