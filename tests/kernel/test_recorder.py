"""What records the input of the benchmarks: a real auditd, also where nothing has been recorded before."""

import subprocess

import pytest

from tests.bench.enrich.recorder import auditd, discard
from tests.kernel.support import need_root, need_tool

pytestmark = pytest.mark.kernel


def test_the_stream_of_a_plugin_is_recorded(token: str) -> None:
    need_root()
    need_tool("auditd", "auditctl")
    with auditd("ENRICHED", "here", (f"-a always,exit -F arch=b64 -S execve -F key={token}",)) as recording:
        subprocess.run(["/bin/true", token], check=True)
    try:
        # not splitlines(): it takes the byte 0x1D for the end of a line
        lines = recording.stream.read_text(errors="replace").split("\n")
        assert [line for line in lines if line.startswith("node=here type=EXECVE") and f'a1="{token}"' in line]
        assert [line for line in lines if "\x1dARCH=x86_64" in line]
    finally:
        discard(recording)
