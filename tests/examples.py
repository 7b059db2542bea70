"""How many examples a property is tried with: the same ones each time, or, by night, ten times as many new ones."""

import os
from typing import Final

from hypothesis import settings

#: new examples are looked for
EXPLORE: Final = os.environ.get("AUDITNS_EXPLORE") == "1"
_TIMES: Final = 10


def examples(count: int) -> settings:
    """Settings of a property that is tried with ``count`` examples in a verdict on a change."""
    return settings(max_examples=count * _TIMES if EXPLORE else count)
