"""The spelling of container terms on the command line."""

import pytest

from auditns_connector.errors import ConfigError
from auditns_connector.pipeline.filters import ContidTerms, parse_contids


@pytest.mark.parametrize(
    ("text", "wanted", "negated"),
    [
        ("7", {7}, False),
        ("=0x1F,8", {31, 8}, False),
        ("!=unset,unknown", {"unset", "unknown"}, True),
        ("0xffffffffffffffff", {"unset"}, False),
        ("4,^2,^1,9", {(4, 2, 1), 9}, False),
    ],
)
def test_terms(text: str, wanted: set[object], negated: bool) -> None:
    assert parse_contids(text) == ContidTerms(frozenset(wanted), negated)


@pytest.mark.parametrize("term", ["", "x", "-1", "+1", " 1", "1_0", "0x", "18446744073709551616", "٣", "4,^unset"])
def test_a_term_that_is_no_number_is_refused_by_name(term: str) -> None:
    with pytest.raises(ConfigError, match=r"^contid '.*': a number from 0 to 2\^64-1, .*, unset or unknown is allowed"):
        parse_contids(term)
