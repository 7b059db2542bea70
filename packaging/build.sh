#!/bin/sh
# build.sh deb|rpm PYTHON: the package, into dist/. PYTHON has cffi 2 and shtab, which only the build needs.
set -eu
cd "$(dirname "$0")/.."
kind=$1 python=$2
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' auditns_connector/__init__.py)
work=build/$kind
tree=$work/auditns-connector-$version
rm -rf "$work"
mkdir -p "$tree" dist
# what is in the source, not what lies about: from git where there is one, else all of a source distribution
{ git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f ! -path './build/*' ! -path './.venv/*'; } \
    | while read -r path; do [ ! -f "$path" ] || printf '%s\n' "$path"; done | tar -cf - -T - | tar -xf - -C "$tree"
PYTHONPATH=. "$python" packaging/completions.py "$tree/build/completions"
case $kind in
    deb)
        cp -R packaging/debian "$tree/debian"
        (cd "$tree" && PYTHON=$python dpkg-buildpackage -us -uc -b -d)
        cp "$work"/*.deb dist/
        ;;
    rpm)
        tar -czf "$work/auditns-connector-$version.tar.gz" -C "$work" "auditns-connector-$version"
        rpmbuild -bb --nodeps --define "_topdir $PWD/$work" --define "_sourcedir $PWD/$work" \
            --define "_rpmdir $PWD/$work" --define "python $python" packaging/auditns-connector.spec
        find "$work" -name '*.rpm' -exec cp {} dist/ \;
        ;;
esac
ls -l dist/*."$kind"
