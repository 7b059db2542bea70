"""Images for container daemons: busybox and a few programs in one layer, in the format of ``docker save``.

Made here, so that no test needs a registry. ``/bin/loop WORD COUNT [SECONDS]`` runs ``/bin/true WORD-0`` and so on,
then sleeps.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.kernel.support import need_tool

BUSY: Final = "auditns.test/busy:1"
PAUSE: Final = "auditns.test/pause:1"
_APPLETS: Final = ("sh", "true", "false", "sleep", "cat", "echo", "kill", "ps", "touch", "env", "id")
_LOOP: Final = """\
#!/bin/sh
i=0
while [ $i -lt $2 ]; do /bin/true $1-$i; i=$((i+1)); done
[ -z "$3" ] || exec /bin/sleep $3
"""


def save(path: Path, images: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``images`` (name -> its configuration: Entrypoint, Cmd, Env, Healthcheck …) to the archive ``path``."""
    layer = _layer()
    manifest, files = [], {"layer.tar": layer}
    for number, (name, config) in enumerate(images.items()):
        about = {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "auditns"}],
        }
        files[f"{number}.json"] = json.dumps(about).encode()
        manifest.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            _add(archive, name, data)


def _layer() -> bytes:
    need_tool("busybox")
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var"):
            about = tarfile.TarInfo(folder)
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(about)
        _add(archive, "bin/busybox", busybox, 0o755)
        _add(archive, "bin/loop", _LOOP.encode(), 0o755)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(archive, "etc/group", b"root:x:0:\n")
        for applet in _APPLETS:
            about = tarfile.TarInfo(f"bin/{applet}")
            about.type, about.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(about)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(data), mode
    archive.addfile(about, io.BytesIO(data))
