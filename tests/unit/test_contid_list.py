"""``auditns contid list`` where nobody serves, and where who serves does not answer the question."""

import json
import socket
import threading
from pathlib import Path

import pytest

from auditns_connector.cli import main as cli
from auditns_connector.errors import AuditnsError


def test_a_list_without_a_server_says_whence_it_comes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An empty table with exit code 0 read as if somebody had been asked."""
    assert cli.run(["contid", "list", "--control", str(tmp_path / "control")]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith("CONTID")
    assert f"nobody serves {tmp_path}/control" in shown.err
    assert "without identifiers that were set" in shown.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [({"ok": False, "error": "EIO", "message": "x"}, 1), ({"ok": False, "error": "EPERM"}, 3), (None, 1)],
)
def test_a_server_that_gives_no_list_is_no_reason_to_derive_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], answer: dict[str, object] | None, code: int
) -> None:
    """It knows of identifiers that were set, and a scan does not: the list named others."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.send(b"?" if answer is None else json.dumps(answer).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(AuditnsError) as raised:
            cli.run(["contid", "list", "--control", str(path)])
        thread.join()
    assert raised.value.exit_code == code
    assert capfd.readouterr() == ("", "")
