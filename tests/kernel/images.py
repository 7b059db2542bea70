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
            add_file(archive, name, data)


def _layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add_root(archive)
    return out.getvalue()


def add_root(archive: tarfile.TarFile, where: str = "") -> None:
    """Add the root file system of the images, below ``where`` ("x/")."""
    need_tool("busybox")
    for folder in ("", "bin", "sbin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var"):
        if where or folder:
            about = tarfile.TarInfo(where + folder)
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(about)
    add_file(archive, f"{where}bin/busybox", Path(shutil.which("busybox") or "").read_bytes(), 0o755)
    add_file(archive, f"{where}bin/loop", _LOOP.encode(), 0o755)
    add_file(archive, f"{where}etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    add_file(archive, f"{where}etc/group", b"root:x:0:\n")
    for applet in _APPLETS:
        about = tarfile.TarInfo(f"{where}bin/{applet}")
        about.type, about.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(about)


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Add a file."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(data), mode
    archive.addfile(about, io.BytesIO(data))
