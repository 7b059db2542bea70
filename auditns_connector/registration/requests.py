"""REGISTER frames that are about no process: what the configuration and the program itself have to tell the model."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.values import JsonObject

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer


def feed_marks(observer: "Observer", marks: Sequence[tuple[int, int]]) -> None:
    """Tell the model which container a packet with a netfilter mark belongs to: (mark, contid) pairs."""
    feed_request(observer, time.monotonic_ns(), {"op": "marks", "marks": list(marks)})


def feed_expected(observer: "Observer", runtimes: Sequence[str]) -> None:
    """Tell the model of which runtimes each container is expected to be registered."""
    feed_request(observer, time.monotonic_ns(), {"op": "expect", "runtimes": list(runtimes)})


def feed_request(observer: "Observer", now: int, request: JsonObject) -> None:
    """Feed a REGISTER frame that is about no process."""
    observer.feed(f.pack(f.K_REGISTER, f.S_CONTROL, now, payload=json.dumps(request).encode()))
