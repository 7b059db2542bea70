"""Frames on their way into the model: into the journal first, then applied, in slices between which others are served.

Everything that the model learns goes through :meth:`Feed.feed`, so the journal has it in the order in which it was
applied. The one exception are plain frames that the C loop has the process table apply (cdefs/loop): it keeps them for
the journal, which gets them before anything else is fed.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from auditns_connector._native import ffi, lib
from auditns_connector.journal.files import JournalWriter
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.vocabulary import frames as f

#: so many bytes of frames are applied at once
_PART: Final = 1 << 15
#: of no frame
_NO_KIND: Final = 255


def _nothing() -> None:
    """Nobody else is to be served."""


def _parts(block: bytes) -> Iterator[bytes]:
    """Whole frames of ``block``, in parts of which each takes some milliseconds to be applied."""
    if len(block) <= _PART:
        yield block
        return
    view, found, off = ffi.from_buffer(block), ffi.new("int *"), 0
    while off < len(block):
        end = int(lib.frames_seek(view, min(off + _PART, len(block)), off, _NO_KIND, f.MAX_FRAME, found))
        if found[0] < 0 or end == off:
            end = len(block)  # the model says what is wrong with it
        yield block[off:end]
        off = end


class Feed:
    """Gives frames to ``journal``, if there is one, and to ``model``."""

    def __init__(self, model: Model, journal: JournalWriter | None) -> None:
        self._model = model
        self.journal = journal
        #: bytes of frames that were applied
        self.bytes = 0
        #: called now and then while much is applied, for others to be served
        self.between: Callable[[], None] = _nothing
        #: what is still to be applied of a block of frames that is more than a little
        self._slices: deque[bytes] = deque()
        self.applying = False

    def feed(self, block: bytes) -> None:
        """Let the model take in whole frames: when this returns all are applied."""
        if not block:
            return
        self.bytes += len(block)
        self._slices += _parts(block)
        nested, self.applying = self.applying, True
        try:
            while self._slices:
                self._apply(self._slices.popleft())
                if not nested and self._slices:
                    self.between()  # whoever feeds frames there has these applied first
        finally:
            self.applying = nested

    def feed_behind(self, block: bytes) -> None:
        """:meth:`feed`, but frames that come while others are being applied wait for these."""
        if self._slices:
            self.bytes += len(block)
            self._slices.append(block)
        else:
            self.feed(block)

    def feed_first(self, block: bytes) -> None:
        """Have ``block`` applied before whatever waits."""
        self.bytes += len(block)
        self._apply(block)

    def _apply(self, block: bytes) -> None:
        if self.journal is not None:
            self.journal.write(block)
        self._model.apply(block)
