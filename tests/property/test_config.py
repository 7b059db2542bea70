"""Whatever a configuration file holds, it is options or a ConfigError."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.config import options as config
from auditns_connector.errors import ConfigError

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["auto", "numeric", "64M", "0640", "/a/b", "unset", "0x10", "pid", "SYSCALL"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TOP = st.sampled_from([*config._TOP, *config._TABLES]) | st.text(max_size=4)
NAMES = [*config._SOURCES, *config._FILE, *config._CHILD, *config._FILTER, "file", "child", "marks"]
INNER = st.sampled_from(NAMES) | st.text(max_size=4)


def only_config_errors(data: dict[str, object]) -> None:
    try:
        result = config._config("/x", data)
    except ConfigError as error:
        message = str(error)
        assert message.startswith("/x: ")
        assert message.isprintable()
    else:
        hash(result)


@given(st.dictionaries(TOP, VALUES | st.dictionaries(INNER, VALUES | st.dictionaries(INNER, VALUES)), max_size=4))
def test_values_of_any_kind(data: dict[str, object]) -> None:
    only_config_errors(data)


@given(st.text(max_size=60) | st.tuples(TOP, VALUES).map(lambda pair: f"{pair[0]} = {json.dumps(pair[1])}"))
def test_any_text(text: str) -> None:
    with contextlib.suppress(ConfigError):
        config.parse(text, "/x")
