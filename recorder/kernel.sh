#!/usr/bin/env bash
# Fetches a Debian arm64 kernel package, of any machine's Debian, and unpacks it: nothing is installed, and
# apt's own state and the dpkg architectures of the machine stay as they are.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: kernel.sh SERIES [--cloud] [--suite SUITE] [DIR]
Fetches the newest Debian arm64 kernel of SERIES (6.1, 6.12, …) that this machine's apt sources have, unpacks it
below DIR (default: $XDG_CACHE_HOME/faultline/kernels) and prints two lines: the kernel image, and the directory
of its modules. --cloud takes the smaller cloud kernel (no vfio-pci), --suite looks in another suite of the mirror
(bullseye, trixie-backports, experimental, …). A kernel that is there is not fetched again.
examples:
  mapfile -t kernel < <(recorder/kernel.sh 6.12); recorder/record.sh --qemu "${kernel[@]}" -- FILE...
  recorder/kernel.sh 7.2 --suite trixie-backports
EOF
}
fail() { echo "kernel.sh: $*" >&2; exit 2; }

series='' flavour=arm64 suite='' dir=${XDG_CACHE_HOME:-$HOME/.cache}/faultline/kernels
while (($#)); do
  word=$1; shift
  case $word in
    -h | --help) usage; exit 0 ;;
    --cloud) flavour=cloud-arm64 ;;
    --suite) suite=${1-}; shift || fail "--suite needs a value" ;;
    -*) fail "no option $word (kernel.sh --help)" ;;
    *) if [[ -z $series ]]; then series=$word; else dir=$word; fi ;;
  esac
done
[[ $series =~ ^[0-9]+\.[0-9]+$ ]] || { usage >&2; exit 2; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "needs apt-get and dpkg-deb"

show() {
  local modules image
  modules=$(compgen -G "$1/lib/modules/*" || compgen -G "$1/usr/lib/modules/*")
  image=$(compgen -G "$1/boot/vmlinuz-*" || echo "$modules/vmlinuz")
  printf '%s\n%s\n' "$image" "$modules"
}
place=$dir/$series-$flavour
if [[ -d $place ]]; then show "$place"; exit 0; fi

# An apt of its own: arm64 only, its lists and packages below DIR, the machine's sources and keys.
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$dir/apt/lists" -o Dir::State::status=/dev/null
  -o Dir::Cache="$dir/apt" -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o pkgCacheGen::Essential=none)
if [[ -n $suite ]]; then
  site=$(apt-get indextargets --format '$(ORIGIN) $(SITE)' | sed -n 's/^Debian //p' | grep -v security | sort -u | head -1)
  [[ -n $site ]] || fail "--suite: no mirror of Debian in this machine's apt sources"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$dir/apt/suite.list"
  options+=(-o Dir::Etc::SourceList="$dir/apt/suite.list" -o Dir::Etc::SourceParts=/dev/null)
fi
apt-get "${options[@]}" -qq update >&2 || fail "apt-get update failed"
# A release candidate's package (Debian's experimental) has the series alone in its name.
package=$(apt-cache "${options[@]}" pkgnames "linux-image-$series" | grep -E -- "^linux-image-$series(\.[0-9][^-]*)?(-[0-9]+)?-$flavour\$" | sort -V | tail -1)
[[ -n $package ]] || fail "no arm64 kernel $series ($flavour) in ${suite:-the apt sources of this machine}"
# Where the image's package is empty, the kernel and its modules are in packages of their own (Debian since 7.2).
packages=$(apt-cache "${options[@]}" pkgnames | grep -Fx -e "$package" -e "linux-binary-${package#linux-image-}" -e "linux-modules-${package#linux-image-}")
rm -rf "$place.tmp" "$dir/apt/archives/"*.deb
# shellcheck disable=SC2086 # one word for each package
(cd "$dir/apt/archives" && apt-get "${options[@]}" -qq download $packages) >&2 || fail "cannot fetch $package"
for deb in "$dir/apt/archives/"*.deb; do dpkg-deb -x "$deb" "$place.tmp"; done
rm -f "$dir/apt/archives/"*.deb
mv "$place.tmp" "$place"
show "$place"
