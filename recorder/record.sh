#!/usr/bin/env bash
# Records scenarios on a real arm64 kernel: on this host, or on a kernel booted at EL2 in QEMU.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'EOF'
usage: record.sh --host [options] FILE...
       record.sh --qemu KERNEL [MODULES] [options] -- FILE...

FILE is a scenario (lines "> command") or a recording, whose commands are carried out anew.
  --host            on this arm64 machine (root, /dev/kvm)
  --qemu KERNEL     boots the arm64 kernel image KERNEL at EL2 under qemu-system-aarch64 (TCG);
                    MODULES is the directory with its modules (…/lib/modules/RELEASE), for vfio-pci
  --out DIR         where NAME.rec goes (default: recorded)
  --cpu NAME        the CPU to emulate, and its name in the recordings (default with --qemu: max)
  --kernel ERA      the era's name in the recordings (default: from the running kernel)
  --time SECONDS    the longest that one boot may take (default 600)
  --console FILE    keep the machine's console

Exit status: 0 all recorded (a crash of the host counts as recorded), 2 otherwise.
examples:
  record.sh --host --out mine ../recordings/v6.12.117/max/a_demand_fault.rec
  record.sh --qemu boot/vmlinuz-6.12.117 lib/modules/6.12.117 --out mine -- scenarios/*.rec
EOF
}
fail() { echo "record.sh: $*" >&2; exit 2; }
need() { command -v "$1" >/dev/null || fail "needs $1 (Debian: $2)"; }

mode='' kernel_image='' modules='' out=recorded cpu='' era='' limit=600 console='' files=()
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --host) mode=host; shift ;;
    --qemu) mode=qemu; kernel_image=${2-}; shift 2 || fail "--qemu needs a kernel image"
      if (($#)) && [[ $1 != -* && -d $1 ]]; then modules=$1; shift; fi ;;
    --out | --cpu | --kernel | --time | --console)
      [[ $# -ge 2 ]] || fail "$1 needs a value"
      case $1 in --out) out=$2 ;; --cpu) cpu=$2 ;; --kernel) era=$2 ;; --time) limit=$2 ;; --console) console=$2 ;; esac
      shift 2 ;;
    --) shift; files+=("$@"); break ;;
    -*) fail "no option $1 (record.sh --help)" ;;
    *) files+=("$1"); shift ;;
  esac
done
[[ -n $mode ]] || { usage >&2; exit 2; }
((${#files[@]})) || fail "no scenario to record (record.sh --help)"
for file in "${files[@]}"; do [[ -r $file ]] || fail "cannot read $file"; done

[[ $mode == host ]] || need qemu-system-aarch64 qemu-system-arm
[[ $mode == host ]] || need cpio cpio
[[ $mode == host || -r $kernel_image ]] || fail "cannot read the kernel image $kernel_image"
need make make
[[ $(uname -m) == aarch64 || -n ${CROSS_COMPILE-} ]] || need aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
build=${FAULTLINE_RECORDER_BUILD:-$here/build}
mkdir -p "$build"
# Several may begin at once.
flock "$build" make -s -C "$here" OUT="$build" >&2
recorder=$build/faultline-recorder
mkdir -p "$out"

if [[ $mode == host ]]; then
  [[ $(uname -m) == aarch64 ]] || fail "--host needs an arm64 machine; this one is $(uname -m) (--qemu boots an arm64 kernel)"
  [[ -w /dev/kvm ]] || fail "cannot use /dev/kvm (does the kernel run at EL2? are you root?)"
  exec "$recorder" ${cpu:+--cpu "$cpu"} ${era:+--kernel "$era"} --out "$out" "${files[@]}"
fi

cpu=${cpu:-max}
work=$(mktemp -d)
qemu=''
trap '[[ -z $qemu ]] || kill "$qemu" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# The initramfs: the recorder as /init and the vfio modules; the scenarios are an archive of their own behind it.
mkdir -p "$work/root/modules" "$work/root/tmp"
cp "$recorder" "$work/root/init"
: >"$work/root/modules/order"
if [[ -n $modules ]]; then
  # In the order of their dependencies; a kernel has some of them built in, or has none of that name.
  for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci; do
    path=$(find -L "$modules" \( -name "$module.ko" -o -name "$module.ko.xz" -o -name "$module.ko.gz" -o -name "$module.ko.zst" \) -print -quit)
    case $path in
      '') continue ;;
      *.xz) xz -dc "$path" ;;
      *.gz) gzip -dc "$path" ;;
      *.zst) zstd -qdc "$path" ;;
      *) cat "$path" ;;
    esac >"$work/root/modules/$module.ko"
    echo "$module.ko" >>"$work/root/modules/order"
  done
fi
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/base.cpio"

declare -A path_of=()
names=()
for file in "${files[@]}"; do
  name=$(basename "$file"); name=${name%.*}
  [[ $name =~ ^[A-Za-z0-9_.-]+$ ]] || fail "$file: a scenario's name has letters, digits and _ . - only"
  [[ -z ${path_of[$name]-} ]] || fail "$file: a second scenario named $name"
  path_of[$name]=$file names+=("$name")
done
mapfile -t left < <(printf '%s\n' "${names[@]}" | LC_ALL=C sort)

# The machine of the bundled recordings: 2 GiB, edu, pci-testdev and ivshmem at 00:04.0, 00:05.0 and 00:06.0 behind the SMMU.
machine=(
  -machine virt,virtualization=on,gic-version=3,iommu=smmuv3 -cpu "$cpu" -m 2048 -smp 1 -accel tcg
  -nodefaults -no-user-config -display none -no-reboot -serial stdio
  -device edu,addr=4 -device pci-testdev,membar=16M,addr=5
  -object memory-backend-ram,id=shm,size=16M,share=on -device ivshmem-plain,memdev=shm,addr=6
)
# Grace periods of RCU would be most of a scenario's time: nobody else is there who could be disturbed.
# norandmaps: whether a mapping shares its PMD table with the rest of the process decides which splits are announced.
words="console=ttyAMA0 quiet loglevel=3 panic=-1 oops=panic nokaslr norandmaps cgroup_disable=memory rcupdate.rcu_expedited=1 recorder.cpu=$cpu${era:+ recorder.kernel=$era}"

while ((${#left[@]})); do
  rm -rf "$work/more"; mkdir -p "$work/more/scenarios"
  for name in "${left[@]}"; do cp "${path_of[$name]}" "$work/more/scenarios/$name.rec"; done
  (cd "$work/more" && find scenarios | cpio -o -H newc --quiet) | cat "$work/base.cpio" - >"$work/initrd"
  : >"$work/begun"
  mkfifo "$work/console"
  timeout "$limit" qemu-system-aarch64 "${machine[@]}" -kernel "$kernel_image" -initrd "$work/initrd" -append "$words" \
    </dev/null >"$work/console" 2>"$work/qemu.err" &
  qemu=$!
  tee ${console:+-a "$console"} <"$work/console" | awk -v out="$out" -v finished="$work/begun" -f "$here/collect.awk"
  wait "$qemu" && status=0 || status=$?
  qemu=''
  rm -f "$work/console"
  if ((status == 124)); then
    echo "record.sh: the machine was stopped after $limit s (--time)" >&2
    # It had no fair chance behind others: once more, unless it had the machine for itself.
    if (($(wc -l <"$work/begun") > 1)); then
      rm -f "$out/$(tail -n 1 "$work/begun").oops"
      sed -i '$d' "$work/begun"
    fi
  fi
  [[ -s $work/begun ]] || { cat "$work/qemu.err" >&2; fail "the machine recorded nothing"; }
  # What was begun is done, one way or the other; the rest goes on after a new boot.
  mapfile -t left < <(printf '%s\n' "${left[@]}" | grep -vxFf "$work/begun" || true)
done
missing=0
for name in "${names[@]}"; do [[ -s $out/$name.rec ]] || missing=$((missing + 1)); done
((missing == 0)) || fail "$missing of ${#names[@]} scenarios were not recorded"
