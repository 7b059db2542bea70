"""The hook that container runtimes call: how long a container's start waits for it, and whether containers that start
together on a busy machine are all registered within its own deadline.

Each call registers a process of its own, as a runtime's would; no runtime is needed for that, and none is measured.
"""

import concurrent.futures
import contextlib
import json
import secrets
import subprocess
import tempfile
import time
from pathlib import Path

from auditns_connector.registration.hook_program import HOOK_PROGRAM
from tests.kernel.programs import Program
from tests.kernel.support import AuditState, auditctl

from . import report

TOGETHER = 8
SPINNERS = 16


def call(control: Path) -> tuple[float, bool]:
    """One container: (seconds the hook took, whether it is registered)."""
    with subprocess.Popen(["sleep", "600"]) as init:
        state = {"ociVersion": "1.0.2", "id": secrets.token_hex(32), "status": "created", "pid": init.pid}
        began = time.monotonic()
        done = subprocess.run(
            [HOOK_PROGRAM, f"--control={control}"], input=json.dumps(state).encode(), capture_output=True
        )
        took = time.monotonic() - began
        init.kill()
    return took, not done.stderr


def calls(control: Path, count: int, together: int, spinners: int) -> tuple[list[float], int]:
    """(seconds of each call, how many were registered)."""
    with contextlib.ExitStack() as stack:
        for _ in range(spinners):
            spinner = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
            stack.callback(spinner.kill)
        with concurrent.futures.ThreadPoolExecutor(together) as pool:
            found = list(pool.map(lambda _: call(control), range(count)))
    return [took for took, _ in found], sum(registered for _, registered in found)


def bench(quick: bool) -> str:
    """Run it; returns a Markdown table."""
    count = 10 if quick else 40
    before = AuditState.read()
    rows = []
    with tempfile.TemporaryDirectory(prefix="auditns-bench-") as folder:
        control = Path(folder, "control")
        listener = Program(Path(folder, "l"), ["listen", "--format", "raw", "--control", control])
        try:
            listener.ready()
            auditctl("-e", "1")  # nothing is registered while audit is off
            for what, together, spinners in (
                ("one after the other, idle", 1, 0),
                (f"{TOGETHER} at once, idle", TOGETHER, 0),
                (f"{TOGETHER} at once, {SPINNERS} spinners", TOGETHER, SPINNERS),
            ):
                took, registered = calls(control, count, together, spinners)
                rows.append((what, report.spread([1000 * each for each in took], 1), f"{registered} of {count}"))
        finally:
            auditctl("-e", before.settings["enabled"])
            listener.process.terminate()
            listener.wait()
    return report.table(("hook", "ms: median (least–most)", "registered"), rows)
