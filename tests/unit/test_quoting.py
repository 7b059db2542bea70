"""Values of our records that LAUREL would take for hexadecimal; and both versions of LAUREL, where they are."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from auditns_connector.sinks.quoting import quoted
from tests import peers

S = b"msg=audit(1795307949.616:3702494):"
USER = b"type=USER_CMD msg=audit(1795307949.617:3702495): pid=7 uid=0 auid=0 ses=1 msg='cmd=6C73 contid=12'\n"
CALL = (
    b"type=SYSCALL " + S + b" arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid=1 pid=7 "
    b'auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 comm="cat" exe="/bin/cat" key=(null)\n'
)
END = b"type=PROCTITLE " + S + b" proctitle=636174\ntype=EOE " + S + b" \n"


@pytest.mark.parametrize(
    ("line", "out"),
    [
        (b"type=UNKNOWN[1340] %b contid=12\n", b'type=UNKNOWN[1340] %b contid="12"\n'),
        (b"type=UNKNOWN[1340] %b record=10 contid=123\n", b'type=UNKNOWN[1340] %b record="10" contid=123\n'),
        (
            b"node=h type=UNKNOWN[1343] %b source=audit count=12 from=1 to=22\n",
            b'node=h type=UNKNOWN[1343] %b source=audit count="12" from=1 to="22"\n',
        ),
        (b"type=UNKNOWN[1344] %b netns=1f utsns=abc\n", b'type=UNKNOWN[1344] %b netns="1f" utsns=abc\n'),
        (b"type=UNKNOWN[1340] %b contid=4,^2\n", None),
        (b"type=UNKNOWN[1340] %b contid=?\n", None),
        (b'type=UNKNOWN[1342] %b ctr-name="ab" origin=observed\n', None),
        (b"type=CONTAINER_ID %b contid=12\n", None),
        (b"type=UNKNOWN[1350] %b contid=12\n", None),
        (b"type=USER_CMD %b pid=12 msg='type=UNKNOWN[1340] %b contid=12'\n", None),
        (b"", None),
    ],
)  # fmt: skip
def test_even_numbers_of_digits_are_in_quotes_in_our_records_alone(line: bytes, out: bytes | None) -> None:
    text = line.replace(b"%b", S)
    assert quoted(text) == (text if out is None else out.replace(b"%b", S))
    assert quoted(CALL + text + END) == CALL + quoted(text) + END


def laurel(version: str) -> str:
    """One of them; skips where it is not there."""
    try:
        return str((peers.newest if version == "newest" else peers.installed)("laurel").path)
    except peers.NotHereError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("version", ["installed", "newest"])
@pytest.mark.parametrize("contid", ["699790083033926586", "3674437095989868233", "12", "4,^2"])
def test_laurel_has_identifiers_whole_and_joins_those_of_users_records(
    version: str, contid: str, tmp_path: Path
) -> None:
    command = laurel(version)
    if os.geteuid():
        pytest.skip("laurel wants root")
    config = tmp_path / "config.toml"
    config.write_text(f'directory = "{tmp_path}"\nuser = "root"\n[auditlog]\nfile = "out"\n')
    ours = b"type=UNKNOWN[1340] %b contid=" + contid.encode() + b"\n"
    text = CALL + ours.replace(b"%b", S) + END + USER + ours.replace(b"%b", b"msg=audit(1795307949.617:3702495):")
    subprocess.run([command, "--config", str(config)], input=bytes(quoted(text)), check=True, capture_output=True)
    found: dict[str, dict[str, object]] = {}
    for line in (tmp_path / "out").read_text().splitlines():
        event = json.loads(line)
        found.setdefault(event["ID"], {}).update(event)
    assert [event["UNKNOWN[1340]"] for event in found.values()] == [[{"contid": contid}]] * 2
    assert found["1795307949.617:3702495"]["USER_CMD"]
