"""Which version of the audit tools this host has, read from their files: nothing is started.

ausearch, aureport, auditctl and auditd hold their version as a string of its own beside the format that prints it
(``printf("ausearch version %s\\n", VERSION)``); the sonames of libaudit and libauparse are the same in 3.x and 4.x, and
packages keep their versions in a dozen ways. So the string is looked for, in the readers first.
"""

import re
from typing import Final

_FOLDERS: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin")
_TOOLS: Final = ("ausearch", "aureport", "auditctl", "auditd")
#: none of them is near this size; what is read of a larger file may lack the string
_MOST: Final = 4 << 20
#: so far from the format at most the string stands (bytes)
_NEAR: Final = 256
_VERSION: Final = re.compile(rb"(?<=\0)([1-9][0-9]?(?:\.[0-9]{1,3}){1,3})(?=\0)")
_FORMATS: Final = (b" version %s\n\0", b"audit version = %s")


def version_in(program: bytes) -> str:
    """The version that the bytes of a tool name, ``3.0.9``; empty where they name none, or more than one."""
    for text in _FORMATS:
        at = program.find(text)
        if at >= 0:
            found = {match[1].decode("ascii") for match in _VERSION.finditer(program, max(at - _NEAR, 0), at + _NEAR)}
            return found.pop() if len(found) == 1 else ""
    return ""


def version(folders: tuple[str, ...] = _FOLDERS) -> str:
    """The version of the audit tools in ``folders``; empty where it cannot be known."""
    for tool in _TOOLS:
        for folder in folders:
            try:
                with open(f"{folder}/{tool}", "rb") as file:
                    found = version_in(file.read(_MOST))
            except OSError:  # not here, or not ours to read: another one may be
                continue
            if found:
                return found
    return ""
