"""Lines for people: what a watched program chooses is shown safely, and costs no more than what is shown."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.daemon.terminal import clean


@given(st.text(), st.integers(1, 30))
def test_cut_text_is_the_beginning_of_the_whole(words: str, limit: int) -> None:
    whole = clean(words, 1 << 30)
    assert whole.isprintable()
    assert clean(words, limit) == (whole if len(whole) <= limit else whole[: limit - 1] + "…")


def test_what_is_not_shown_is_not_escaped() -> None:
    words = "\x1b" * 100_000
    tracemalloc.start()
    try:
        assert len(clean(words)) == 160
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000
