#!/bin/sh
# build.sh deb|rpm PYTHON: the package, into dist/. PYTHON has cffi 2 and shtab, which only the build needs. Its version is
# the program's; one between two releases (0.3.0.dev0) is 0.3.0~dev0, which comes before 0.3.0, and has no notes yet.
set -eu
cd "$(dirname "$0")/.."
kind=$1 python=$2
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' auditns_connector/__init__.py)
version=$(printf '%s' "$version" | sed 's/\.dev/~dev/')
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
        case $version in *~*)
            by=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
            {
                printf 'auditns-connector (%s) unstable; urgency=medium\n\n  * Not released yet.\n\n -- %s  %s\n\n' \
                    "$version" "$by" "$(date -R)"
                cat packaging/debian/changelog
            } > "$tree/debian/changelog"
            ;;
        esac
        (cd "$tree" && PYTHON=$python dpkg-buildpackage -us -uc -b -d)
        cp "$work"/*.deb dist/
        ;;
    rpm)
        sed "s/^\(Version: *\).*/\1$version/" packaging/auditns-connector.spec > "$work/auditns-connector.spec"
        tar -czf "$work/auditns-connector-$version.tar.gz" -C "$work" "auditns-connector-$version"
        rpmbuild -bb --nodeps --define "_topdir $PWD/$work" --define "_sourcedir $PWD/$work" \
            --define "_rpmdir $PWD/$work" --define "python $python" "$work/auditns-connector.spec"
        find "$work" -name '*.rpm' -exec cp {} dist/ \;
        ;;
esac
ls -l dist/*."$kind"
