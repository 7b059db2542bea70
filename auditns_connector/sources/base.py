"""What every source of audit text is to the pipeline."""

from typing import Protocol

from auditns_connector.audittext.scanner import TextStream
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.vocabulary.values import CData


class AuditSource(Protocol):
    """Where audit text comes from."""

    def fileno(self) -> int:
        """Readable when text has come that nobody has read."""

    def filenos(self) -> list[int]:
        """Further descriptors that are readable when there is something for :meth:`fill`."""

    def begin(self) -> None:
        """Somebody is about to read what comes; the source may begin to help."""

    def guard(self, on: bool) -> None:
        """Whoever reads has other work now, or (``on`` False) waits for :meth:`fileno`."""

    def fill(self, stream: TextStream) -> int | None:
        """Put what is there now into ``stream``; returns how many bytes, ``None`` when there will never be more."""

    @property
    def taken(self) -> int:
        """When the text of the last :meth:`fill` was taken in (CLOCK_MONOTONIC ns); 0: in that very call."""

    @property
    def oldest(self) -> int:
        """The same of the oldest text that waits for :meth:`fill`; 0: none does."""

    @property
    def room(self) -> int:
        """How many events may wait before they are read, so that whoever writes them need not wait."""

    @property
    def reader(self) -> CData:
        """A ``struct intake *`` that C may read from."""

    @property
    def within_line(self) -> bool:
        """The text of the last :meth:`fill` ended within a line."""

    def finish(self) -> None:
        """Nothing that comes from now on is wanted."""

    def take_dropped(self, *, rest: bool = False) -> list[SerialGap]:
        """Events that were dropped before the text of the last :meth:`fill`, for want of room; with ``rest`` all text
        that waits is dropped as well."""

    def take_notices(self) -> list[str]:
        """What people should see."""

    def counters(self) -> dict[str, int]:
        """received, lost and so on."""

    def close(self) -> None:
        """Let go of everything."""
