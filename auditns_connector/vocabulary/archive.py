"""Numbers of the archive's files, shared with the C of cdefs/archive: kinds of terms, of holders and of tallies.

They stand in segments: a number keeps its meaning, and new ones are added at the end.
"""

from typing import Final

# What a term of a block's filter is; archive/index_terms.py says of each which fields it is taken from.
TERM_CONTID: Final = 1
TERM_PID: Final = 2
TERM_AUID: Final = 3
TERM_UID: Final = 4
TERM_TYPE: Final = 5
TERM_SYSCALL: Final = 6
TERM_KEY: Final = 7
TERM_COMM: Final = 8
TERM_EXE: Final = 9
TERM_EXENAME: Final = 10
TERM_PATH: Final = 11
TERM_BASE: Final = 12
TERM_ARG: Final = 13
TERM_ADDR: Final = 14
TERM_ENTRY: Final = 15

# Whose the events of a group are.
HOLDER_CONTAINER: Final = 0
HOLDER_HOST: Final = 1
"""The event has no container: it is of the host, or of a log that was never enriched."""
HOLDER_UNKNOWN: Final = 2
"""``contid=?``, or records of ours that contradict each other."""
HOLDER_SEVERAL: Final = 3
"""A packet that may belong to any of several containers."""
HOLDER_TEXT: Final = 4
"""Lines that are no records."""

# What is counted for each group when a segment is made.
TALLY_TYPE: Final = 1
TALLY_SYSCALL: Final = 2
TALLY_EXEC: Final = 3
TALLY_KEY: Final = 4
TALLY_FAILED: Final = 5
TALLY_LOGIN: Final = 6
TALLY_TARGET: Final = 7
TALLY_LOSS: Final = 8
TALLY_ENTRY: Final = 9

EVENT_EXEC: Final = 1
"""A successful execve or execveat."""
EVENT_FAILED: Final = 2
"""``success=no``, ``res=0`` or ``res=failed``."""
EVENT_OPAQUE: Final = 4
"""Its terms cannot be told: it stands in strings of JSON. Every filter lets it through."""
