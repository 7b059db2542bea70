"""Programs whose exec by an ordinary user changes what the process may do: the kernel then makes it one that no
debugger may attach to, and tells perf that the task is gone, though it lives on (fs/exec.c, begin_new_exec)."""

import os
import shutil
import struct
from pathlib import Path
from typing import Final

#: struct vfs_cap_data, version 2, effective: CAP_DAC_OVERRIDE is permitted
_CAPABILITY: Final = struct.pack("<5I", 0x02000001, 1 << 1, 0, 0, 0)
#: name -> mode
VARIANTS: Final = {"setuid": 0o4755, "setgid": 0o2755, "filecaps": 0o755, "unreadable": 0o711}


def variant(folder: Path | str, name: str) -> str:
    """Where that variant lies in ``folder``."""
    return f"{str(folder).rstrip('/')}/truth-{name}"


def make_variants(folder: Path, program: Path) -> None:
    """Copies of ``program``, root's, below ``folder``."""
    for name, mode in VARIANTS.items():
        path = variant(folder, name)
        shutil.copyfile(program, path)
        os.chown(path, 0, 0)
        os.chmod(path, mode)
        if name == "filecaps":
            os.setxattr(path, "security.capability", _CAPABILITY)
