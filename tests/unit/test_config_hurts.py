"""What will hurt is said by --check-config, before it does."""

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
