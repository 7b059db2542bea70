"""Where our programs meet at run time. Nothing is imported here, for programs that must start fast."""

RUN_DIR = "/run/auditns"
CONTROL = RUN_DIR + "/control"
#: the process that serves, in the folder of the control socket
SERVER = "server"
STREAMS = RUN_DIR + "/streams"
#: audit text that waits while memory does not hold it goes into a file without a name there
SPOOL_DIR = "/var/lib/auditns"
