"""Asks the runtimes' files about containers that no hook has described; the answers enter as REGISTER frames."""

import json
import time
from typing import TYPE_CHECKING, Final

from auditns_connector.model.containers import Container
from auditns_connector.sources.runtimefiles import RuntimeFiles, command_line
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

#: seconds after which a container without a name is asked for again: its files may come after its first process
_AGAIN: Final = (1.0, 5.0, 30.0)
_AT_ONCE: Final = 50
_KINDS: Final = ("runtime", "registered")


class Naming:
    """Names the containers of ``observer``'s model; :meth:`tick` does a bounded part of it."""

    def __init__(self, observer: "Observer", files: RuntimeFiles | None = None) -> None:
        self._observer = observer
        self._files = files or RuntimeFiles()
        #: container -> how often it was asked for, and when it is due again
        self._asked: dict[Container, tuple[int, float]] = {}

    def tick(self) -> None:
        """Ask for containers that are new, or were not found before."""
        model, now = self._observer.model, time.monotonic()
        # what is inside a container has its files there, and what it calls itself is nothing to look up here
        living = [c for c in model.containers.by_key.values() if c.kind in _KINDS and c.parent is None and c.live]
        if len(self._asked) > len(living):
            self._asked = {c: self._asked[c] for c in living if c in self._asked}
        due = [c for c in living if not (c.name and c.image) and now >= self._asked.get(c, (0, 0.0))[1]][:_AT_ONCE]
        if not due:
            return
        first = dict.fromkeys(due, 0)
        for process in model.table.living_in(first):
            container = process.state.container
            if container is not None:
                known = model.alive(first[container])
                if known is None or process.start < known.start:
                    first[container] = process.pid
        for container in due:
            times = self._asked.get(container, (0, 0.0))[0]
            wait = _AGAIN[times] if times < len(_AGAIN) else float("inf")
            self._asked[container] = times + 1, now + wait
            own = not container.yields_id
            names = self._files.names(container.runtime, container.id, command_line(first[container]), own)
            if any(value != _known(container, name) for name, value in names.items()):
                payload = json.dumps({"op": "names", "key": container.key, "names": names}).encode()
                when = time.monotonic_ns()
                self._observer.feed(f.pack(f.K_REGISTER, f.S_CONTROL, when, payload=payload))


def _known(container: Container, name: str) -> str:
    return container.labels.get(name, "") if name == "namespace" else str(getattr(container, name))
