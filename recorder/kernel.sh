#!/usr/bin/env bash
# Fetches a Debian arm64 kernel package, of any machine's Debian, and unpacks it: nothing is installed, and
# apt's own state and the dpkg architectures of the machine stay as they are.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: kernel.sh SERIES [--cloud] [DIR]
Fetches the newest Debian arm64 kernel of SERIES (6.1, 6.12, …) that this machine's apt sources have, unpacks it
below DIR (default: $XDG_CACHE_HOME/faultline/kernels) and prints two lines: the kernel image, and the directory
of its modules. --cloud takes the smaller cloud kernel (no vfio-pci). A kernel that is there is not fetched again.
example: mapfile -t kernel < <(recorder/kernel.sh 6.12); recorder/record.sh --qemu "${kernel[@]}" -- FILE...
EOF
}
fail() { echo "kernel.sh: $*" >&2; exit 2; }

series='' flavour=arm64 dir=${XDG_CACHE_HOME:-$HOME/.cache}/faultline/kernels
for word; do
  case $word in
    -h | --help) usage; exit 0 ;;
    --cloud) flavour=cloud-arm64 ;;
    -*) fail "no option $word (kernel.sh --help)" ;;
    *) if [[ -z $series ]]; then series=$word; else dir=$word; fi ;;
  esac
done
[[ $series =~ ^[0-9]+\.[0-9]+$ ]] || { usage >&2; exit 2; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "needs apt-get and dpkg-deb"

show() {
  local image
  image=$(echo "$1"/boot/vmlinuz-*)
  printf '%s\n%s\n' "$image" "$1/lib/modules/${image##*/vmlinuz-}"
}
place=$dir/$series-$flavour
if compgen -G "$place/boot/vmlinuz-*" >/dev/null; then show "$place"; exit 0; fi

# An apt of its own: arm64 only, its lists and packages below DIR, the machine's sources and keys.
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$dir/apt/lists" -o Dir::State::status=/dev/null
  -o Dir::Cache="$dir/apt" -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o pkgCacheGen::Essential=none)
apt-get "${options[@]}" -qq update >&2 || fail "apt-get update failed"
package=$(apt-cache "${options[@]}" pkgnames "linux-image-$series." | grep -E -- "^linux-image-$series\.[0-9][^-]*(-[0-9]+)?-$flavour\$" | sort -V | tail -1)
[[ -n $package ]] || fail "no arm64 kernel $series ($flavour) in this machine's apt sources"
(cd "$dir/apt/archives" && apt-get "${options[@]}" -qq download "$package") >&2 || fail "cannot fetch $package"
deb=$(ls -t "$dir/apt/archives/$package"_*.deb | head -1)
rm -rf "$place.tmp"
dpkg-deb -x "$deb" "$place.tmp"
rm -f "$deb"
mv "$place.tmp" "$place"
show "$place"
