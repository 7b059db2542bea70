"""The project's exceptions: one root, one class for each thing a caller can do about it."""

import errno
import os
from collections.abc import Iterable


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """``; did you mean docker?`` where one of ``allowed`` is much like ``word``, else ""."""
    import difflib

    by_lower = {one.lower(): one for one in allowed}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def reason(error: OSError) -> str:
    """What the kernel says, and what is missing where it refuses something to an ordinary user."""
    refused = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0
    return f"{error.strerror}: this needs root" if refused else str(error.strerror)


class AuditnsError(Exception):
    """Root of every error this package raises on purpose. ``exit_code`` is what a command ends with."""

    exit_code = 1


class DecodeError(AuditnsError):
    """Input bytes are not what their format promises."""


class ConfigError(AuditnsError):
    """A configuration file or option cannot be used."""

    exit_code = 2


class BehindError(AuditnsError):
    """So much happens on the host that what a question is about has not been worked through yet."""

    def __init__(self) -> None:
        super().__init__("so much happens on this host that its newest processes are not known yet; ask again")


class NobodyServesError(AuditnsError):
    """No program of ours is behind a control socket."""


class NotPermittedError(AuditnsError):
    """The kernel refuses this process what it asked for."""

    exit_code = 3


class NotSupportedError(AuditnsError):
    """This host or kernel lacks what was asked for."""

    exit_code = 3


class LockedError(AuditnsError):
    """Another program holds a lock that is not waited for any longer."""
