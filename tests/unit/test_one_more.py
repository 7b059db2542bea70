"""What docs/CONTRIBUTING.md says of one more runtime, sink, record and namespace type: a dummy of each is put into a
copy of the package, in three files at most, and works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import auditns_connector

PACKAGE = Path(auditns_connector.__file__).parent


class Copied:
    """A copy of the package, without what is built anew at each start."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "libexec"))
        self.touched: set[str] = set()

    def edit(self, name: str, old: str, new: str) -> None:
        """In file ``name`` put ``new`` in place of ``old``, which stands there once."""
        path = self.root / PACKAGE.name / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(name)

    def add(self, name: str, text: str) -> None:
        """One more module."""
        (self.root / PACKAGE.name / name).write_text(text, encoding="utf-8")
        self.touched.add(name)

    def run(self, program: str) -> str:
        """What ``program`` prints."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.root}{os.pathsep}{PACKAGE.parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    return Copied(tmp_path)


def test_a_runtime_is_a_row(copied: Copied) -> None:
    copied.edit(
        "model/runtimes.py",
        "RUNTIMES: Final = (\n",
        'RUNTIMES: Final = (\n    RuntimeRow("dummy", (Path(r"dummy-([0-9]+)", "dummy-"),),'
        ' named=True, bundle="/dummy/"),\n',
    )
    said = copied.run(
        "from auditns_connector.model.runtimes import chain, runtime_of_bundle\n"
        "from auditns_connector.sources.runtimefiles import RuntimeFiles\n"
        "print(chain('/a/dummy-17/b')[0][:3], runtime_of_bundle({}, '/x/dummy/17'))\n"
        "from auditns_connector.sources.runtime_daemons import Monitor\n"
        "print(RuntimeFiles().names('dummy', '17', Monitor()).names)"
    )
    assert said.splitlines() == ["('dummy', '17', '17') dummy", "{}"]
    assert len(copied.touched) == 1


def test_a_sink_is_a_module_its_options_and_where_it_is_opened(copied: Copied) -> None:
    copied.add(
        "sinks/dummy.py",
        "from auditns_connector.config.options import DummyOutput\n"
        "from auditns_connector.sinks.file import FileSink\n\n\n"
        "class DummySink(FileSink):\n"
        '    """A file under another name."""\n\n'
        "    def __init__(self, options: DummyOutput, lost) -> None:\n"
        "        from auditns_connector.config.options import FileOutput\n\n"
        "        super().__init__(FileOutput(path=options.path, group=''), lost)\n"
        '        self.name = "dummy"\n',
    )
    options = "config/options.py"
    copied.edit(
        options,
        "class SocketOutput(NamedTuple):",
        'class DummyOutput(NamedTuple):\n    path: str = ""\n\n\nclass SocketOutput(NamedTuple):',
    )
    copied.edit(
        options,
        "    socket: SocketOutput = SocketOutput()\n",
        "    socket: SocketOutput = SocketOutput()\n    dummy: DummyOutput = DummyOutput()\n",
    )
    copied.edit(options, '("file", "socket", "child"))', '("file", "socket", "child", "dummy"))')
    copied.edit(
        options,
        '        socket=SocketOutput(**_options(path, "output.socket.", output["socket"], _SOCKET)),\n',
        '        socket=SocketOutput(**_options(path, "output.socket.", output["socket"], _SOCKET)),\n'
        '        dummy=DummyOutput(**_options(path, "output.dummy.", output["dummy"], {"path": str})),\n',
    )
    copied.edit(
        "sinks/build.py",
        "    if config.file.enabled:\n",
        "    if config.dummy.path:\n        from auditns_connector.sinks.dummy import DummySink\n\n"
        "        sinks.append(DummySink(config.dummy, tell))\n    if config.file.enabled:\n",
    )
    (copied.root / "c.toml").write_text(
        'record_names = "numeric"\n[output.file]\nenabled = false\n'
        f'[output.socket]\nenabled = false\n[output.dummy]\npath = "{copied.root}/dummy.log"\n'
    )
    said = copied.run(
        "from auditns_connector.config import options\n"
        "from auditns_connector.sinks.build import open_sinks\n"
        "config = options.load('c.toml')\n"
        "line = lambda loss: b''\n"
        "[sink] = [sink for sinks in open_sinks(config, line, line) for sink in sinks]\n"
        "sink.write(b'type=X\\n'); sink.flush(60); print(sink.name); sink.close(60)"
    )
    assert said == "dummy\n"
    assert (copied.root / "dummy.log").read_bytes() == b"type=X\n"
    assert len(copied.touched) == 3


def test_a_record_is_a_row_its_fields_and_where_it_is_added(copied: Copied) -> None:
    copied.edit(
        "vocabulary/record_types.py",
        "\n1344 NS_INFO ",
        "\n1348 NS_DUMMY                  -          -    own      -       part   fields\n1344 NS_INFO ",
    )
    copied.edit(
        "audittext/own_records.py",
        "def container_id(",
        "def ns_dummy(numeric: bool) -> bytes:\n    return _line(1348, numeric, 'dummy=1')\n\n\ndef container_id(",
    )
    added = "            out += text.container_id(contid, place, numeric)\n"
    copied.edit("attribution/record_numbers.py", added, f"{added}            out += text.ns_dummy(numeric)\n")
    said = copied.run(
        "from auditns_connector.attribution.attributor import Correlator\n"
        "from auditns_connector.audittext.insertion import insert_records\n"
        "from auditns_connector.audittext.scanner import TextStream\n"
        "from tests.unit.world import HEX, REAL, World\n"
        "w = World(); w.fork(1, 100, 1000); w.attach(100, f'/docker/{HEX}', 1001); w.now += 10**9\n"
        "text = b'type=SYSCALL msg=audit(%d.500:7): arch=c000003e syscall=2 success=yes exit=3 ppid=1 pid=100\\n'\n"
        "text = (text + b'type=EOE msg=audit(%d.500:7): \\n').replace(b'%d', b'%d' % (REAL // 10**9 + 1))\n"
        "points = TextStream().push(text)\n"
        "correlator = Correlator(w.model)\n"
        "print(bytes(insert_records(points, correlator.answer(points, w.now), correlator.tails[0])).decode())\n"
    )
    kinds = [line.split()[0] for line in said.splitlines() if line]
    assert kinds == ["type=SYSCALL", "type=CONTAINER_ID", "type=NS_DUMMY", "type=EOE"]
    assert len(copied.touched) == 3


def test_a_namespace_type_is_a_name_its_flag_and_the_inode_of_the_initial_one(copied: Copied) -> None:
    name = "vocabulary/namespaces.py"
    copied.edit(name, '    "time": CLONE_NEWTIME,\n', '    "time": CLONE_NEWTIME,\n    "dummy": 0x1,\n')
    copied.edit(name, '(*PERF_ORDER, "time")', '(*PERF_ORDER, "time", "dummy")')
    copied.edit(name, '    "time": 0xEFFFFFFA,\n', '    "time": 0xEFFFFFFA,\n    "dummy": 0xEFFFFFF0,\n')
    said = copied.run(
        "import json, os\n"
        "from auditns_connector.attribution.attributor import Correlator\n"
        "from auditns_connector.audittext.insertion import insert_records\n"
        "from auditns_connector.audittext.scanner import TextStream\n"
        "from auditns_connector.sources.procfs import Procfs\n"
        "from auditns_connector.vocabulary import frames as f\n"
        "from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618\n"
        "from tests.unit.world import REAL, World\n"
        "w = World(sandbox_types=['dummy'], lifecycle=True, timens=True)\n"
        "w.proc(100, 1, 1000, ns={**INITIAL_INODES_618, 'dummy': 4026550000})\n"
        "w.fork(100, 101, 1001, net=4026550001); w.unshare(101, 1002, net=4026550002); w.now += 10**9\n"
        "nsset = w.model.processes[101].state.nsset\n"
        "print(nsset.inst[-1].type, nsset.inst[-1].ino, w.model.processes[101].state.container.runtime)\n"
        "text = b'type=SYSCALL msg=audit(%d.500:7): arch=c000003e syscall=2 success=yes exit=3 ppid=1 pid=101\\n'\n"
        "text = (text + b'type=EOE msg=audit(%d.500:7): \\n').replace(b'%d', b'%d' % (REAL // 10**9 + 1))\n"
        "points = TextStream().push(text)\n"
        "correlator = Correlator(w.model, ns='all')\n"
        "print(bytes(insert_records(points, correlator.answer(points, w.now), correlator.tails[0])).decode())\n"
        "(frame,) = f.iter_frames(Procfs().read_process(os.getpid()))\n"
        "print('dummy' in json.loads(frame.payload.rstrip(b'\\0'))['ns'])\n"
    )
    lines = [line for line in said.splitlines() if line]
    assert lines[0] == "dummy 4026550000 dummyns"
    assert [line.split()[0] for line in lines[1:-1]] == [
        "type=SYSCALL",
        "type=CONTAINER_ID",
        "type=NS_INFO",
        "type=EOE",
    ]
    assert " timens=" in lines[3]
    assert " dummyns=" in lines[3]
    assert lines[-1] == "True"
    assert len(copied.touched) == 1
