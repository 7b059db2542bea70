"""Where our programs meet at run time. Nothing is imported here, for programs that must start fast."""

RUN_DIR = "/run/auditns"
CONTROL = RUN_DIR + "/control"
STREAMS = RUN_DIR + "/streams"
