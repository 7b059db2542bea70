"""What will hurt is said by --check-config, before it does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector.config.hurts import hurts
from auditns_connector.config.options import parse


def said(text: str) -> list[str]:
    return hurts(parse(text))


CHILD = '[output.child]\nenabled = true\nargv = ["{}"]\n'
RULE = "[[rule]]\nmatch = {match}\naction = '{action}'\n"
FINE = '[output.file]\npath = "/tmp/audit.log"\ngroup = "root"\n'


def test_nothing_hurts() -> None:
    assert said(FINE) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[output.file]\nenabled = false\n", "output: all outputs are off"),
        (FINE + CHILD.format("/sbin/laural"), "output.child.argv: /sbin/laural: there is no such program"),
        (FINE + CHILD.format("/etc/passwd"), "output.child.argv: /etc/passwd: it cannot be executed"),
        (FINE.replace('"root"', '"roott"'), "output.file.group: there is no group 'roott' on this host; did you mean"),
        (FINE + '[output.socket]\nenabled = true\ngroup = "zz9"\n', "output.socket.group: there is no group 'zz9'"),
        (FINE + '[journal]\npath = "/etc/passwd/x"\n', "journal.path: /etc/passwd/x: /etc/passwd is no directory"),
        (FINE + "[users.quota]\nnobody-of-this-name = 5\n", "there is no user 'nobody-of-this-name' on this host"),
        (FINE + "[users.quota]\n0 = 5\n", "users.quota.0: root needs none"),
        (FINE + "[users.quota]\n4294967295 = 5\n", "users.quota.4294967295: there is no user"),
        (FINE + "[users.quota]\n7 = 5\n07 = 6\n", "users.quota.7: uid 7 has a quota already"),
        (FINE + "[users]\nstreams = 0\nquota = { 7 = 5 }\n", "users.quota: users.streams is 0"),
        (FINE + '[filter.include]\nruntime = ["dokcer"]\n', "no runtime is called 'dokcer'; did you mean docker?"),
        (FINE + '[filter.exclude]\nrecord = ["SYSCAL"]\n', "no record type is called 'SYSCAL'; did you mean SYSCALL?"),
        (FINE + RULE.format(match="{runtime = '!=podmen'}", action="drop"), "rule 1: match.runtime: no runtime is"),
        (FINE + '[stream.web]\nruntime = ["dokcer"]\n', "stream.web.runtime: no runtime is called 'dokcer'; did you"),
        (FINE + RULE.format(match="{pid = 1}", action="log") + "path = '/etc/passwd'\n", "rule 1: path: /etc/passwd"),
    ],
)  # fmt: skip
def test_what_hurts(text: str, line: str) -> None:
    found = said(text)
    assert len(found) == 1, found
    assert line in found[0]


def test_it_is_said_by_the_plugin(tmp_path: Path) -> None:
    config = tmp_path / "auditns.toml"
    config.write_text("[output.file]\nenabled = false\n")
    config.chmod(0o640)
    code = "import sys; from auditns_connector.cli.plugin import main; main()"
    command = [sys.executable, "-c", code, "--check-config", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"audisp-auditns: {config}: output: all outputs are off: nothing is written anywhere\n"


def test_what_is_there_already_hurts(tmp_path: Path) -> None:
    """A journal, a socket or an archive that could not be opened ends the plugin, or has nobody served."""
    other, folder = tmp_path / "other", tmp_path / "folder"
    other.write_text("precious\n")
    folder.mkdir()
    assert said(f'journal = "{other}"\n{FINE}') == [f"journal.path: {other}: it holds something else"]
    assert said(f'journal = "{folder}"\n{FINE}') == [f"journal.path: {folder}: it is not a regular file"]
    assert said(f'control = "{other}"\n{FINE}') == [f"control: {other}: something that is not a socket is there"]
    (line,) = said(f'{FINE}[output.socket]\nenabled = true\ngroup = "root"\npath = "{other}"\n')
    assert line == f"output.socket.path: {other}: something that is not a socket is there"
    (line,) = said(f'{FINE}[archive]\npath = "{tmp_path}/no/archive"\n')
    assert line == f"archive.path: {tmp_path}/no/archive: {tmp_path}/no is not there, and is not made"


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root starts no child as root")
def test_a_child_that_others_may_write_hurts(tmp_path: Path) -> None:
    program = tmp_path / "child"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert said(FINE + CHILD.format(program)) == []
    for mode, uid, gid in ((0o757, 0, 0), (0o775, 0, 1), (0o755, 1, 0)):
        os.chown(program, uid, gid)
        program.chmod(mode)
        (line,) = said(FINE + CHILD.format(program))
        assert line.endswith("others than root may write it, and it is started as root")


def test_a_value_of_a_rule_is_told_with_its_rule_and_field(tmp_path: Path) -> None:
    config = tmp_path / "auditns.toml"
    config.write_text(FINE + RULE.format(match="{sockaddr = '10.0.0.0/99'}", action="drop"))
    config.chmod(0o640)
    code = "import sys; from auditns_connector.cli.plugin import main; main()"
    command = [sys.executable, "-c", code, "--check-config", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    where = f"audisp-auditns: {config}: rule 1: match: sockaddr: "
    assert done.stderr == f"{where}'10.0.0.0/99' is no network: a length from 0 to 32 is allowed\n"
