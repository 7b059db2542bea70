"""What is exported, the verdict over it, and what is shipped beside it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli import status as command
from auditns_connector.config.metrics import Endpoint, endpoint
from auditns_connector.config.options import load
from auditns_connector.errors import ConfigError
from auditns_connector.metrics.names import FAMILIES, samples
from auditns_connector.metrics.verdict import verdict

parser = pytest.importorskip("prometheus_client.openmetrics.parser")
TOP = Path(__file__).parents[2]
STATUS: dict[str, Any] = {
    "v": 1,
    "uptime_s": 2.5,
    "events": {"seen": 10, "shown": 9, "answered": 10, "attributed": 4, "unknown": 1, "contradicted": 0},
    "lost": 0,
    "behind_s": 0.0,
    "table": {"processes": 7, "ended": 3, "threads": 2, "containers": 2, "namespaces": 9, "losses": 0},
    "sources": {
        "perf": {"received": 100, "lost": 0, "unknown": 0, "malformed": 0},
        "audit": {"received": 30, "lost": 0, "malformed": 1, "truncated": 2, "foreign": 0, "waiting": 0, "spooled": 0,
                  "dropped_events": 0},
        "procfs": {"resyncs": 1},
    },
    "ns_source": "perf",
    "sinks": {"file": {"written_records": 40, "written_bytes": 4000, "dropped_records": 0, "dropped_audit": 0,
                       "queued_bytes": 0}},
    "streams": {"withheld_events": 0, "web": {"events": 3, "lost_records": 0}},
    "lifecycle": {"told": 5, "counted": 0},
    "registrations": {"accepted": 1, "refused": 0, "living": 1, "missing": 0},
    "control": {"connections": 1, "requests": 1, "refused": 0, "malformed": 0},
}  # fmt: skip


def changed(**paths: Any) -> dict[str, Any]:
    """A status with other values; ``sources__perf__lost=3`` is sources.perf.lost."""
    status: dict[str, Any] = json.loads(json.dumps(STATUS))
    for path, value in paths.items():
        *folders, last = path.split("__")
        where = status
        for folder in folders:
            where = where[folder]
        where[last] = value
    return status


def exported(status: dict[str, Any] | None) -> dict[tuple[str, str], float]:
    from auditns_connector.metrics.exposition import exposition

    found = {}
    for family in parser.text_string_to_metric_families(exposition(status).decode()):
        for sample in family.samples:
            found[sample.name, "".join(sample.labels.values())] = sample.value
    return found


def test_exported_text_is_open_metrics() -> None:
    found = exported(STATUS)
    assert found["auditns_up", ""] == 1
    assert found["auditns_audit_events_total", ""] == 10
    assert found["auditns_audit_events_outcome_total", "unknown"] == 1
    assert found["auditns_source_received_total", "perf"] == 100
    assert found["auditns_source_refused_total", "audit"] == 3
    assert found["auditns_output_written_bytes_total", "file"] == 4000
    assert found["auditns_stream_events_total", "web"] == 3
    assert found["auditns_lifecycle_records_total", "written"] == 5


def test_without_a_program_there_is_one_value() -> None:
    assert exported(None) == {("auditns_up", ""): 0}


def test_names_of_outputs_and_streams_cannot_break_a_line() -> None:
    hostile = 'x"} 1\n# EOF\nauditns_up 0\n\\'
    found = exported(changed(streams={hostile: {"events": 3}}))
    assert found["auditns_stream_events_total", hostile] == 3
    assert found["auditns_up", ""] == 1


def test_every_family_has_a_value_somewhere() -> None:
    status = changed(sources__journal={"written": 5, "failed": False})
    status["sinks"]["file"] |= {"errors": 0}
    assert [family.name for family in FAMILIES if not samples(family, status)] == []
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("value", [None, "x", [1], {"a": "b"}, True, 1e308])
def test_any_status_is_exported(value: Any) -> None:
    for key in STATUS:
        exported(changed(**{key: value}))
        verdict(changed(**{key: value}))


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        ({}, "ok: nothing lost, nothing waits; 10 events, 1 unknown"),
        (
            {"behind_s": 3.25, "sources__audit__waiting": 3 << 20},
            "behind: by 3.2 s, 3.0 MiB of audit text wait – ",
        ),
        ({"sources__perf__lost": 7}, "lost: 7 kernel events (perf) since the start – raise sources.perf_buffer"),
        ({"sinks__file__dropped_records": 2}, "lost: 2 lines of output file since the start – see why file is slow"),
        ({"lost": 3}, "lost: 3 since the start"),
        ({"ns_source": "procfs", "lost": 3}, "blind: no kernel events of namespaces arrive"),
        ({"sources__journal": {"failed": True}}, "blind: the journal could not be written"),
    ],
)
def test_verdict(paths: dict[str, Any], line: str) -> None:
    assert verdict(changed(**paths)).line().startswith(line)


def test_status_is_headed_by_the_verdict() -> None:
    shown = command.lines(STATUS)
    assert shown[0] == verdict(STATUS).line()
    assert "sinks.file" in shown
    assert re.fullmatch(r"  attributed +4", next(line for line in shown if "attributed" in line))


def test_what_was_counted_in_a_second_is_shown() -> None:
    shown = command.lines(changed(events__seen=30), STATUS, 2.0)
    assert next(line for line in shown if line.strip().startswith("seen")).endswith("30  (+10/s)")


def names() -> set[str]:
    found = {"auditns_up"}
    for family in FAMILIES:
        found.add(family.name + ("_total" if family.kind == "counter" else ""))
    return found


@pytest.mark.parametrize("path", ["audisp/metrics/alerts.yml", "audisp/metrics/dashboard.json"])
def test_alerts_and_dashboard_ask_for_what_is_exported(path: str) -> None:
    text = (TOP / path).read_text(encoding="utf-8")
    asked = set(re.findall(r"\bauditns_[a-z_]+", text))
    assert len(asked) > 5
    assert asked - names() == set()


def test_alerts_are_what_prometheus_reads() -> None:
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((TOP / "audisp/metrics/alerts.yml").read_text(encoding="utf-8"))
    for rule in data["groups"][0]["rules"]:
        assert rule["alert"]
        assert rule["expr"]
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
    json.loads((TOP / "audisp/metrics/dashboard.json").read_text(encoding="utf-8"))


def test_manual_page_names_every_metric() -> None:
    page = (TOP / "man/auditns-metrics.8").read_text(encoding="utf-8").replace("\\-", "-").replace("\\_", "_")
    assert names() - set(re.findall(r"\bauditns_[a-z_]+", page)) == set()
    assert set(re.findall(r"\bauditns_[a-z_]+", page)) - names() == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/run/auditns/metrics.sock", Endpoint(path="/run/auditns/metrics.sock")),
        ("127.0.0.1:9753", Endpoint(host="127.0.0.1", port=9753)),
        ("localhost:1", Endpoint(host="127.0.0.1", port=1)),
        ("[::1]:65535", Endpoint(host="::1", port=65535)),
    ],
)
def test_where_it_may_listen(text: str, found: Endpoint) -> None:
    assert endpoint(text) == found


@pytest.mark.parametrize(
    "text", ["", "x", "/", "/a/../b", "/" + "x" * 107, "0.0.0.0:80", "10.0.0.1:80", "127.0.0.1:0", "127.0.0.1:65536",
             "127.0.0.1:x", ":80", "[::]:80", 80, None, "/a\n"],
)  # fmt: skip
def test_where_it_may_not_listen(text: Any) -> None:
    with pytest.raises(ValueError, match="absolute path of at most 107 bytes, 127"):
        endpoint(text)


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from auditns_connector.cli.main import main; sys.argv[1:] = sys.argv[1:]; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "metrics", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def program(path: Path) -> Iterator[str]:
    """Somebody who answers at ``path`` with :data:`STATUS`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock:
                        sock.recv(65536)
                        sock.send(json.dumps({"v": 1, "ok": True, "status": STATUS}).encode())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield str(path)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def wait_for(process: subprocess.Popen[str], ready: Any) -> None:
    while process.poll() is None:
        try:
            ready()
        except OSError:
            continue
        return
    raise AssertionError(process.communicate())


def over_unix(path: str, request: bytes = b"GET /metrics HTTP/1.0\r\n\r\n") -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "auditns.prom"
    target.write_text("old")
    with program(tmp_path / "control") as control, running("--textfile", str(target), "--control", control) as process:
        assert process.communicate() == ("", "")
    assert "\nauditns_up 1.0\n" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    with running("--textfile", str(target), "--control", control + "x") as process:
        assert "nobody serves" in process.communicate()[1]
    assert process.returncode == 1
    assert "\nauditns_up 0.0\n" in target.read_text()
    assert sorted(os.listdir(tmp_path)) == ["auditns.prom", "control"]


def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    where = str(tmp_path / "metrics")
    with program(tmp_path / "control") as control, running("--serve", where, "--control", control) as process:
        wait_for(process, lambda: over_unix(where))
        answer = over_unix(where)
        assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n" in answer
        assert b"\nauditns_audit_events_total 10.0\n" in answer
        assert over_unix(where, b"GET /secret HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404 ")
        assert over_unix(where, b"\xff\x00 junk\r\n\r\n").startswith(b"")
        assert over_unix(where).startswith(b"HTTP/1.0 200 OK\r\n")
        with running("--serve", where, "--control", control) as second:
            assert "another program serves it" in second.communicate()[1]
        process.terminate()
        assert process.wait(60) == 0
        assert not os.path.exists(where)


def test_a_loopback_port_is_served_and_its_program_may_be_gone(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}/metrics"
    with running("--serve", f"127.0.0.1:{port}", "--control", str(tmp_path / "none")) as process:
        wait_for(process, lambda: urllib.request.urlopen(url).close())
        with urllib.request.urlopen(url) as answer:
            assert b"\nauditns_up 0.0\n" in answer.read()


def test_where_to_serve_comes_from_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "auditns.toml"
    config.write_text("")
    with running("--serve", "--config", str(config)) as process:
        assert "metrics.listen is not set" in process.communicate()[1]
    assert process.returncode == 2
    config.write_text('[metrics]\nlisten = "0.0.0.0:80"\n')
    with pytest.raises(ConfigError, match=r"metrics\.listen"):
        load(str(config))
    config.write_text(f'[metrics]\nlisten = "{tmp_path}/m"\n')
    assert load(str(config)).metrics.listen == Endpoint(path=f"{tmp_path}/m")
