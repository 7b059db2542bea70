"""Tell the service manager how we are: the protocol of sd_notify(3), without its library.

Outside of a service (no ``NOTIFY_SOCKET``) nothing is sent and the answer is False. A manager that cannot be
reached is no reason to stop, so that is False as well.
"""

import os
import socket
from collections.abc import MutableMapping


def notify(state: str, environment: MutableMapping[str, str] | None = None) -> bool:
    """Send ``state`` (lines of ``NAME=VALUE``); whether the manager has taken it."""
    path = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    # "@" is the abstract name space; other address families (vsock) are for whole machines
    if len(path) < 2 or path[0] not in "/@":
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1.0)
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def watched(environment: MutableMapping[str, str] | None = None) -> bool:
    """Whether the manager restarts us when it does not hear ``WATCHDOG=1`` in time (WatchdogSec= of the unit): the
    variables of sd_watchdog_enabled(3), which are another process's where WATCHDOG_PID says so."""
    found = os.environ if environment is None else environment
    return found.get("WATCHDOG_USEC", "").isdigit() and found.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
