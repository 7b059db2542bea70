"""What ``auditns install-hook --help`` prints for runtimes that read no hooks.d, taken as somebody would type it in."""

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.kernel.programs import auditns

#: a busy machine may keep a listener from the CPU for longer than the second that is the default
PATIENT = "--timeout=60000"


def text() -> str:
    """All of it."""
    done = auditns("install-hook", "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def patient(printed: str) -> str:
    """``printed``, with hooks that wait for a busy listener."""
    called = '"args": ["auditns-oci-hook"'
    assert called in printed
    return printed.replace(called, f'{called}, "{PATIENT}"')


def be_patient(hooks_file: Path) -> None:
    """The same of what install-hook has written."""
    written = hooks_file.read_text()
    assert '"auditns-oci-hook"' in written
    hooks_file.write_text(written.replace('"auditns-oci-hook"', f'"auditns-oci-hook", "{PATIENT}"'))


def hooks() -> dict[str, list[dict[str, object]]]:
    """The hooks for runc, crun and containerd's base specification."""
    found = re.search(r'^ *("hooks": \{.*?\]\})$', text(), re.M | re.S)
    assert found is not None
    told: dict[str, Any] = json.loads("{" + patient(found[1]) + "}")
    return dict(told["hooks"])


def wrapper() -> str:
    """The program that Docker calls in place of runc."""
    _, _, rest = text().partition("/usr/local/sbin/auditns-runc, executable:\n")
    lines = []
    for line in rest.splitlines():
        if not line.startswith("    "):
            break
        lines.append(line)
    program = dedent("\n".join(lines)) + "\n"
    assert program.startswith("#!/")
    return patient(program)


def containerd(base: str) -> tuple[list[str], str]:
    """The command that makes the base specification, and the lines of config.toml that name it; ``base`` is written in
    place of the path that is printed."""
    command = re.search(r"^containerd: (ctr .*) > (\S+), add the hooks above to it", text(), re.M)
    assert command is not None
    lines = re.search(r'^ *(\[plugins\."io.containerd.grpc.v1.cri".*?\]\n.*?)$', text(), re.M)
    assert lines is not None
    table = dedent(lines[1].replace("\n ", "\n"))
    assert f'base_runtime_spec = "{command[2]}"' in table
    return command[1].split(), table.replace(command[2], base)


def docker() -> dict[str, Any]:
    """What is printed for /etc/docker/daemon.json."""
    found = re.search(r"^ *(\{\"runtimes\".*\})$", text(), re.M)
    assert found is not None
    told: dict[str, Any] = json.loads(found[1])
    return told
