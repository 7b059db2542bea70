"""Which files are logs of ours."""

import errno
import os
import re
from typing import Final

#: what a log begins with: a record, or an object
_OURS: Final = rb'(?:node=[^ \n]{1,255} )?type=[A-Z][^ \n]{0,63} msg=audit\(\d|{"v":\d'
_HEAD: Final = 512


def refuse_foreign(fd: int, path: str) -> None:
    """Close ``fd`` and raise PermissionError where it holds something that is no log of ours: its first line is neither
    an audit record nor a JSON object of ours. Raises OSError where it cannot be read."""
    try:
        head = os.pread(fd, _HEAD, 0)
    except OSError:
        os.close(fd)
        raise
    if head and re.match(_OURS, head) is None:
        os.close(fd)
        raise PermissionError(errno.EPERM, "holds something else than audit records: move it away first", path)
