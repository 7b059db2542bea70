"""Where our programs meet at run time. Nothing is imported here, for programs that must start fast."""

RUN_DIR = "/run/auditns"
CONTROL = RUN_DIR + "/control"
#: the process that serves, in the folder of the control socket
SERVER = "server"
STREAMS = RUN_DIR + "/streams"
#: in the folder of the control socket: the socket that every user may open, and the streams of users, by uid
USER_SOCKET = "user"
USERS = "users"
#: audit text that waits while memory does not hold it goes into a file without a name there
SPOOL_DIR = "/var/lib/auditns"


def beside(control: str, name: str) -> str:
    """The path of ``name`` in the folder of the control socket ``control``."""
    folder, slash, _ = control.rpartition("/")
    return f"{folder}{slash}{name}"
