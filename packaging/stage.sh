#!/bin/sh
# stage.sh DESTDIR deb|rpm: what both packages hold, below DESTDIR. The extension, the hook and the completions are built.
set -eu
root=$1 kind=$2
cd "$(dirname "$0")/.."
umask 022
lib=$root/usr/lib/auditns

put() { install -D -p -m "$1" "$2" "$root$3"; }

mkdir -p "$lib"
(find auditns_connector -name __pycache__ -prune -o -type f ! -name '*.pyc' ! -name '*.new' -print) | while read -r path; do
    mode=644
    case "$path" in */libexec/*) mode=755 ;; esac
    install -D -p -m "$mode" "$path" "$lib/$path"
done
put 644 packaging/start.py /usr/lib/auditns/start.py
echo "$kind" > "$lib/package"
for program in usr/bin/auditns usr/sbin/audisp-auditns; do
    mkdir -p "$root/$(dirname "$program")"
    sed "s|@PROGRAM@|$(basename "$program")|" packaging/launcher.sh > "$root/$program"
    chmod 755 "$root/$program"
done
# inactive until somebody switches it on, as other plugins of auditd
sed 's/^active = .*/active = no/' audisp/auditns.conf > "$root/conf.tmp"
install -D -m 640 "$root/conf.tmp" "$root/etc/audit/plugins.d/auditns.conf"
rm "$root/conf.tmp"
put 640 audisp/auditns.toml /etc/audit/auditns.toml
# where units are is debhelper's to know
[ "$kind" = deb ] || put 644 audisp/auditns.service /usr/lib/systemd/system/auditns.service
put 644 audisp/auditns-logrotate.conf /etc/logrotate.d/auditns-connector
for file in audisp/metrics/*; do put 644 "$file" "/usr/share/auditns/metrics/${file##*/}"; done
put 644 packaging/tmpfiles.conf /usr/lib/tmpfiles.d/auditns-connector.conf
put 644 packaging/apparmor/usr.sbin.audisp-auditns /etc/apparmor.d/usr.sbin.audisp-auditns
for page in man/*.[1-9]; do put 644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"; done
put 644 build/completions/bash /usr/share/bash-completion/completions/auditns
put 644 build/completions/zsh /usr/share/zsh/vendor-completions/_auditns
put 644 build/completions/fish /usr/share/fish/vendor_completions.d/auditns.fish
