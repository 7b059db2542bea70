"""JSON and pretty output stand whatever the input is."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from auditns_connector.emit.records import parse
from tests.golden.test_objects import render

from .audit_text import NAMES, stream


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 48), st.integers(1, 400))
def test_any_stream_gives_one_line_an_object(seed: int, pieces: int) -> None:
    text = stream(seed)
    out = render(text, "json", pieces=pieces)
    assert out.isascii()
    for line in out.split(b"\n")[:-1]:
        assert json.loads(line)["v"] == 1
    pretty = render(text, "pretty", pieces=pieces).decode()
    assert all(c.isprintable() for c in pretty.replace("\n", ""))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(NAMES))
def test_any_body_is_parsed(body: bytes, kind: str) -> None:
    json.dumps(parse(body, kind)).encode("ascii")
