"""The hooks.d file for Podman and CRI-O (oci-hooks(5), version 1.0.0)."""

import json
import os
import stat
from typing import Final

from auditns_connector.errors import AuditnsError
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from auditns_connector.state.directory import SafeDir

NAME: Final = "auditns.json"


def install(directory: str, *, program: str | None = None, strict: bool = False, control: str | None = None) -> str:
    """Write the file into ``directory`` (made when absent) and return its path. Raises :class:`AuditnsError`."""
    executable = _program(program)
    args = ["auditns-oci-hook"]
    if strict:
        args.append("--strict")
    if control is not None:
        args.append(f"--control={control}")
    hook = {
        "version": "1.0.0",
        "hook": {"path": executable, "args": args, "timeout": 5},
        "when": {"always": True},
        "stages": ["createRuntime", "poststop"],
    }
    parent = os.path.dirname(directory.rstrip("/"))
    try:
        os.makedirs(parent or ".", mode=0o755, exist_ok=True)
    except OSError as error:
        raise AuditnsError(f"cannot make {parent}: {error.strerror}") from error
    with SafeDir(directory) as folder:
        folder.write(NAME, (json.dumps(hook, indent=2) + "\n").encode(), mode=0o644)
    return f"{directory.rstrip('/')}/{NAME}"


def uninstall(directory: str) -> None:
    """Remove the file. Raises :class:`AuditnsError`."""
    if os.path.isdir(directory):
        with SafeDir(directory, create=False) as folder:
            folder.remove(NAME)


def _program(program: str | None) -> str:
    found = os.path.realpath(program or HOOK_PROGRAM)
    try:
        about = os.stat(found)
    except OSError as error:
        raise AuditnsError(f"the hook program {found!r} cannot be found (--program tells where it is)") from error
    if not stat.S_ISREG(about.st_mode) or not os.access(found, os.X_OK):
        raise AuditnsError(f"{found} is no program")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AuditnsError(f"{found} can be written by others: a runtime would run it as root")
    return found
