"""Which EXIT of a stream of events is shown as the end of a task: see model/exits.py. Pure."""

from typing import TYPE_CHECKING

from auditns_connector.model.exits import ACTS, ALWAYS, CONNECTOR, SAMPLES
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model


class ExitFilter:
    """Takes out of a stream of frames the EXITs that are no end of a task, and those that another source tells; see
    model/exits.py."""

    def __init__(self, model: "Model", *, connector_first: bool) -> None:
        self._model = model
        self._connector_first = connector_first
        self._sampled: set[int] = set()
        #: leaders for which no event says yet whether they ended
        self._open: dict[int, f.Frame] = {}

    def take(self, frame: f.Frame) -> list[f.Frame]:
        """The frames to be shown now that ``frame`` has come."""
        kind, tid = frame.kind, frame.tid
        if kind == f.K_EXIT:
            return [frame] if self._shown(frame) else []
        if kind == f.K_EXIT_SAMPLE:
            self._sampled.add(tid)
        elif kind == f.K_FORK:
            self._sampled.discard(tid)
            self._open.pop(frame.ppid, None)
            former = self._open.pop(tid, None)
            if former is not None:
                return [former, frame]
        elif kind in ACTS:
            self._open.pop(frame.pid, None)
        return [frame]

    def _shown(self, frame: f.Frame) -> bool:
        proof, tid = self._model.exits.proof, frame.tid
        if frame.source == f.S_CN or proof == ALWAYS:
            return proof in (CONNECTOR, ALWAYS) or self._connector_first
        if proof == CONNECTOR or self._connector_first:
            return False
        sampled = tid in self._sampled
        self._sampled.discard(tid)
        if sampled or tid != frame.pid:
            return True
        if proof != SAMPLES:
            self._open[tid] = frame
        return False

    def proven(self) -> list[f.Frame]:
        """EXITs that have meanwhile turned out to be ends."""
        if not self._open:
            return []
        suspended, alive = self._model.exits.suspended, self._model.alive
        settled = [pid for pid in self._open if pid not in suspended]
        frames = [(self._open.pop(pid), alive(pid)) for pid in settled]
        return [frame for frame, now in frames if now is None or now.start > frame.time or now.leader_gone]
