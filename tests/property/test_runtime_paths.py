"""The recogniser answers any string, and never by anything but whole components."""

import string

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.model.runtimes import UNSET, chain, derive_contid
from tests.innermost import recognise

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
PIECES = st.one_of(
    st.sampled_from(
        [
            "docker",
            "lxc",
            "lxc.payload",
            "lxc.payload.a.b",
            "garden",
            "good",
            "bad",
            "ecs",
            "buildkit",
            "payload",
            "bpm-",
            "machine-a.scope",
            r"machine-\xff.scope",
            "systemd-nspawn@.service",
            "libpod_parent",
            "conmon",
            "",
            ".",
            "..",
            "kubepods",
            "pod" + "0" * 32,
            "podman-1.scope",
            "system.slice:docker:",
            "bpm-a.scope",
            "bpm-.",
            "\udcff",
            "\ud800",
        ]
    ),
    HEX,
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["docker-", "crio-", "libpod-", "libpod-conmon-", ":crio:"]),
        HEX,
        st.sampled_from(["", ".scope", ".mount"]),
    ),
    st.text(max_size=8),
)
PATHS = st.lists(PIECES, max_size=8).map(lambda pieces: "/" + "/".join(pieces))
ANY = st.one_of(st.text(st.characters(), max_size=300), PATHS)


@given(ANY)
@example("/bpm-" + "." * 4000)
@example("/ecs" * 1000)
@example(":docker:" * 500)
def test_any_string_has_an_answer(path: str) -> None:
    found = chain(path)
    assert recognise(path) == (found[-1] if found else None)
    for container in found:
        assert container.id
        assert 0 < derive_contid(container.runtime, container.id) < UNSET


@given(PATHS, st.text(string.ascii_letters, min_size=1, max_size=8))
def test_what_is_below_a_container_is_in_it(path: str, child: str) -> None:
    above = chain(path)
    below = chain(f"{path}/plain-{child}.service")
    assert [found[:2] for found in below][: len(above)] == [found[:2] for found in above]


@given(st.text(), st.text())
def test_any_id_gives_a_usable_contid(runtime: str, ident: str) -> None:
    assert 0 < derive_contid(runtime, ident) < UNSET
