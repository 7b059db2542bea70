"""Where the program is that container runtimes call (cdefs/hook/). Nothing else is imported here."""

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

#: a part of the installed package, so that it is found wherever that is: virtual environment, system, plugin's copy
HOOK_PROGRAM: Final = os.path.join(
    os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "libexec", "auditns-oci-hook"
)
#: milliseconds after its start at which it gives up; a test compares it with the C
TIMEOUT: Final = 1000


def become(arguments: Sequence[str]) -> NoReturn:
    """Go on as that program. Where it is not there a container's start is not broken either: it is said, and the exit
    code is 0 unless ``arguments`` hold --strict."""
    try:
        os.execv(HOOK_PROGRAM, ["auditns-oci-hook", *arguments])
    except OSError as error:
        print(f"auditns: oci-hook: {HOOK_PROGRAM}: {error.strerror}; the container is not registered", file=sys.stderr)
    sys.exit("--strict" in arguments)
