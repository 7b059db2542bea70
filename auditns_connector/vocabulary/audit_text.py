"""Points: the places in audit text where a record of ours may stand. Vocabulary of the scanner.

Text is lines ``[node=HOST ]type=NAME msg=audit(SEC.mmm:SERIAL): fields…[0x1D more]``. The scanner groups lines
into events (same node, time and serial; events may interleave) and gives *points*, in the order of their places:

=========== ======================================================================================
ms          time of the record, milliseconds since 1970
serial      the event's serial, < 2^64
pid         whom the point is about: ``pid=``, for a target ``opid=``; -1 when there is none to be read
ppid sysno  fields of a SYSCALL, -1 when absent; ``arch`` likewise, 0 when absent; ``exit`` 0 when absent
flags       P_* below; never 0
at          where a record may be inserted: in front of the event's PROCTITLE, or else its EOE, or else behind its last
            record (tools look for SOCKADDR and PATH by their place in the event), but in front of its first OBJ_PID;
            behind its OBJ_PID for a target. ``at_end``: behind the PROCTITLE, or else the EOE. Never in front of a line
            that was handed out.
hdr node    the ``msg=audit(…):`` and the ``node=HOST `` of the record, to be repeated in ours
aux1        the value of ``comm=`` (for a target ``ocomm=``), as it stands in the text, quotes included
aux2        of a P_EXEC: the value of ``name=`` of PATH item=0, as it stands in the text
key         the value of ``key=``
line_off    where the record's line begins
rtype recno record type number (0: a name we do not know) and its place in its event, from 1, ours not counted
event       number of the event, counted up; lines carry the same number
=========== ======================================================================================

Rules
* A line without a header that can be read, or longer than MAX_LINE (handed out in pieces of that size), is *foreign*:
  passed on, never looked into. An unterminated last line is a record like others.
* Fields are words between single spaces; of a repeated name the first counts. They end at 0x1D (what auditd
  adds in ENRICHED format) and at ``msg='`` (text of a user process).
* A number counts as absent when it is not plain decimal or above 2^31-1.
* An event is complete at EOE; behind a PROCTITLE, a record that stands alone (types < 1300 and >= 2100) or a first
  record of rectypes.LONE_KERNEL as soon as a line comes that is not of it, and for the first two of these, LOGIN apart,
  at the end of the text there is, unless records of ours may follow (``patient``); when the text has got OLDER_MS ahead
  of the newest time seen when the event began, or MAX_SPAN bytes past its first line; when MAX_OPEN younger ones are
  open; when whoever reads says that it is idle; and at the end.
* What comes of an event after that is *late*: it opens no event and gets no point, save an OBJ_PID, or a SYSCALL of a
  process that had none or of an event that has had one: that is a copy, which a reader may see without the first. Of an
  event that had its SYSCALL, and is not remembered otherwise any more, what stands behind that is late as well.
* Lines are handed out as they come, points when their event is complete, or when their place is behind us (an OBJ_PID
  has come). With ``hold`` no line of an event that is open is, nor what follows it. A line that was handed out is kept
  until its event is complete.
* Where records of ours may follow, an event is complete at the end of the text at its PROCTITLE once the text has shown
  that they do not stand behind that. With ``hold``, and where whole events are wanted, an event has those that stand
  right behind its EOE.
* Where records of ours are awaited (AWAITS_HERE, AWAITS_MORE: enriched text that is read back), no event is complete at
  the end of the text there is, one that has ended, and has others' lines behind it, is open for them, and for the EOE
  behind its PROCTITLE, for PATIENT_LINES or PATIENT_MS; anything else that comes of it is late. Where lines are handed
  out in the order of the text, those behind the place of an event that has ended so, or has targets, wait with it, and,
  where some of ours have come, one that stands alone takes its SYSCALL as well.
* Where whole events are wanted, an event is never complete at the end of the text there is, one that may have been
  complete with its last record, but has neither PROCTITLE nor EOE, is waited for as long as PATIENT_LINES more lines or
  PATIENT_MS (its SYSCALL may follow, and others' records stand between), it is cut at MAX_WHOLE bytes (or twice as many
  with others' text) or when MAX_WHOLE_OPEN younger ones are open, and what is late makes an event of its own number
  (P_LATE). Numbers are then given in the order in which events end.
* Records of ours in the input mark the points of their event P_OWN and get none themselves.
"""

from typing import Final

P_SUBJECT: Final = 1
"""The process that the event is about; on every point but targets and packets."""
P_TARGET: Final = 2
"""The process a signal or a trace went to: one OBJ_PID record."""
P_EXEC: Final = 4
"""A successful execve or execveat."""
P_USER: Final = 8
"""A record a user process sent (1005, 1100–1199, 2100–2999)."""
P_NETFILTER: Final = 16
"""A packet; it has no process."""
P_SINGLE: Final = 32
"""The record stands alone."""
P_HAS_TARGET: Final = 64
"""The subject of an event that has targets."""
P_NODE: Final = 128
"""The record has a ``node=`` prefix."""
P_OWN: Final = 256
"""The event holds a record of ours already. Anyone who can write audit text can bring this about."""
P_LATE: Final = 512
"""A target whose event was decided before it came; or, where whole events are handed out, the subject of records that
came then (without P_SUBJECT: of an EOE alone, which says nothing of anybody). Its process is that of the event, whose
number is its ``origin``."""
P_SYSCALL: Final = 1024
"""The subject comes from a SYSCALL record."""
P_SUCCESS: Final = 2048
"""``success=yes``."""
P_CUT: Final = 4096
"""The event was handed out before its end had come: it is too large, or too many are open."""
P_OBJECT: Final = 8192
"""The subject of an event with an object that outlives processes: a landlock domain or a BPF program begins or ends."""
P_FOLLOWED: Final = 16384
"""A record that stands alone, as a rule, and more of the kernel's records came in its event."""

P_ANEW: Final = 32768
"""Of P_LATE: whether its event is wanted was decided before its SYSCALL or its end had come: with its SYSCALL, or where
it was cut, these records may be wanted all the same."""
P_REST: Final = 65536
"""The first records of an event that come after others of it were handed out, though it had not ended: whether it is
wanted was decided without them. What was handed out before has the number that is their ``origin``."""

MODE_MORE: Final = 0
MODE_FLUSH: Final = 1
MODE_EOF: Final = 2
MODE_AHEAD: Final = 3
MODE_IDLE: Final = 4
MODE_ENDED: Final = 5
"""Whole events that have ended but for records of ours are decided."""

AWAITS_NOTHING: Final = 0
AWAITS_HERE: Final = 1
"""Records of ours are waited for behind the end of their event, right behind it, and in the text that is there; in more
of it once the text has some, and where whole events are wanted. Plain text that is passed on as it comes would be held
back for nothing: there the very first one, behind others' lines and in a later read, finds its event answered."""
AWAITS_MORE: Final = 2
"""The same, whatever text has come."""

LINE_FOREIGN: Final = 0xFFFFFFFF
LINE_LATE: Final = 0xFFFFFFFE

MAX_LINE: Final = 65536
MAX_SPAN: Final = 1 << 20
MAX_OPEN: Final = 2048
CLOSED: Final = 1024
"""How many decided events are remembered to tell what is late; what comes of one behind so many others is decided anew,
and has its answer once more. Of CLOSED_WHOLE of them it is known that their SYSCALL was there: records that stand
behind it and name no process (PART) have none then."""
PART: Final = frozenset((1302, 1304, 1306, 1307, 1309, 1317, 1320, 1321, 1323, 1327, 1337))
MAX_WHOLE: Final = 1 << 24
"""An event larger than this (bytes) is not handed out whole, nor one with twice as much text in it and its like."""
MAX_WHOLE_OPEN: Final = 4096
CLOSED_WHOLE: Final = 16384
"""As CLOSED, where whole events are handed out. Text that holds records of ours is looked at with a memory that is
larger by all the events that can be open, twice: so it has each event of which a writer left out the second answer."""
PATIENT_LINES: Final = 1024
"""For so many lines of others an event is waited for whose last record may have come, where whole ones are wanted,"""
PATIENT_MS: Final = 2000
"""or until the text is so much newer."""
OLDER_MS: Final = 2000
MAX_HOLES: Final = 64
"""Holes in the serials that are kept: of more, the oldest counts as lost."""
MAX_PIDS: Final = 64
"""Open events whose processes are asked for at once."""
MAX_RANGE: Final = 65536
"""Serials that are looked at together for missing ones."""
