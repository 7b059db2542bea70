"""The outputs of a configuration, opened, and exchanged when it is read again."""

import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.config.options import ChildOutput, Config, FileOutput, SocketOutput
from auditns_connector.errors import ConfigError
from auditns_connector.sinks.base import Sink
from auditns_connector.sinks.build import open_sinks
from auditns_connector.sinks.loss import Loss
from tests.unit.sinkhelp import drain, end_spawners, line, lost_line, spawner, until


def numeric_lost_line(loss: Loss) -> bytes:
    return lost_line(loss)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    group = grp.getgrgid(os.getegid()).gr_name
    return Config(
        record_names="symbolic",
        file=FileOutput(path=str(tmp_path / "log" / "audit.log"), group=group),
        socket=SocketOutput(True, str(tmp_path / "audit.sock"), 0o600, group),
        child=ChildOutput(True, ("/usr/bin/sleep", "60")),
    )


@pytest.fixture(autouse=True)
def spawners() -> Iterator[None]:
    yield
    end_spawners()


@pytest.fixture
def opened() -> Iterator[list[Sink]]:
    sinks: list[Sink] = []
    yield sinks
    for sink in sinks:
        sink.close(0.1)


def open_all(config: Config, *args: Any) -> tuple[list[Sink], list[Sink]]:
    former = args[2:] or ([],)
    child = config.child
    return open_sinks(config, args[0], args[1], former[0], spawner(child.argv) if child.argv else None)


def test_each_output_gets_its_spelling(config: Config, opened: list[Sink]) -> None:
    symbolic, numeric = open_all(config, lost_line, numeric_lost_line)
    opened += symbolic + numeric
    assert [sink.name for sink in symbolic] == ["socket", "file"]
    assert [sink.name for sink in numeric] == ["child"]
    assert open_sinks(Config(record_names="numeric", file=FileOutput(enabled=False)), lost_line, numeric_lost_line) == (
        [],
        [],
    )


def test_all_numeric(config: Config, opened: list[Sink]) -> None:
    symbolic, numeric = open_all(config._replace(record_names="numeric"), lost_line, numeric_lost_line)
    opened += numeric
    assert (symbolic, [sink.name for sink in numeric]) == ([], ["socket", "file", "child"])


def test_what_does_not_change_stays_open(config: Config, opened: list[Sink]) -> None:
    symbolic, numeric = open_all(config, lost_line, numeric_lost_line)
    opened += symbolic + numeric
    again = open_all(config._replace(info=True), lost_line, numeric_lost_line, [*symbolic, *numeric])
    assert again == (symbolic, numeric)
    louder = config._replace(file=config.file._replace(keep=9), child=config.child._replace(enabled=False))
    changed, none = open_all(louder, lost_line, numeric_lost_line, [*symbolic, *numeric])
    opened.append(changed[1])
    assert (changed[0], none) == (symbolic[0], [])
    assert changed[1] is not symbolic[1]


def test_a_changed_socket_takes_the_place_of_the_former(config: Config, opened: list[Sink], tmp_path: Path) -> None:
    symbolic, numeric = open_all(config, lost_line, numeric_lost_line)
    opened += symbolic + numeric
    wider = config._replace(socket=config.socket._replace(mode=0o660))
    (new, _), _ = open_all(wider, lost_line, numeric_lost_line, [*symbolic, *numeric])
    opened.append(new)
    symbolic[0].close(0.1)
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(tmp_path / "audit.sock"))
        reader.setblocking(False)
        until(new, lambda: new.counters()["readers"] == 1)
        new.write(line(1))
        assert drain(reader.fileno()) == line(1)


def test_a_socket_that_cannot_be_had_changes_nothing(config: Config, opened: list[Sink], tmp_path: Path) -> None:
    symbolic, numeric = open_all(config, lost_line, numeric_lost_line)
    opened += symbolic + numeric
    elsewhere = config._replace(socket=config.socket._replace(path=str(tmp_path / "no" / "where" / "sock")))
    with pytest.raises(ConfigError, match="No such file"):
        open_sinks(elsewhere, lost_line, numeric_lost_line, [*symbolic, *numeric])
    assert (tmp_path / "audit.sock").is_socket()
