"""Started by the launchers of the deb and rpm packages: ``start.py PROGRAM ARGUMENT…``, by any Python 3.

The packages are bound to no version of Python, so what is found here may be too old, or may lack a module: one line
says so, with what to install. Until the version is known only syntax of Python 3.0 is used here.
"""

import os
import sys

MINIMUM = (3, 11)
HERE = os.path.dirname(os.path.abspath(__file__))
#: what the package depends on
NEEDED = ("_cffi_backend", "pyroute2", "structlog")


def later():
    """The newest other interpreter of the system that is new enough by its name; "" when there is none."""
    found = []
    for folder in ("/usr/bin", "/usr/local/bin"):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            head, _, minor = name.partition(".")
            if head == "python3" and minor.isdigit() and (3, int(minor)) >= MINIMUM:
                found.append((int(minor), os.path.join(folder, name)))
    return max(found)[1] if found else ""


def fail(reason):
    sys.stderr.write("auditns: " + reason + "\n")
    sys.exit(1)


def modules():
    """Where this system keeps the packages that ours imports. Python was started without its site module: that is a
    third of the plugin's start, and what administrators install for themselves stays out."""
    own = "python%d.%d/site-packages" % sys.version_info[:2]
    folders = ("/usr/lib/python3/dist-packages", "/usr/lib64/" + own, "/usr/lib/" + own)
    return [folder for folder in folders if os.path.isdir(folder)]


def main():
    if sys.version_info < MINIMUM:
        other = later()
        if not other:
            fail("Python 3.11 or later is needed; %s is %d.%d" % ((sys.executable,) + sys.version_info[:2]))
        os.execv(other, [other, "-ISB"] + sys.argv)
    sys.path.insert(0, HERE)
    sys.path += modules()
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        fail("%s has no module %s: install what this package depends on" % (sys.executable, " and no ".join(missing)))
    del sys.argv[0]
    if sys.argv[0] == "audisp-auditns":
        from auditns_connector.cli.plugin import main as run
    else:
        from auditns_connector.cli.main import main as run
    sys.exit(run())


main()
