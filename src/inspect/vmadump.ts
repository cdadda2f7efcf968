/**
 * VMAs as /proc/PID/maps lists them, each with the VmFlags line of /proc/PID/smaps
 * (fs/proc/task_mmu.c show_map_vma, show_smap_vma_flags).
 */
import * as vm from "../mmu/vmflags.js";
import type { Machine } from "../machine.js";

export interface VmaRow {
  readonly mm: number;
  readonly start: number;
  readonly end: number;
  /** rwxp, rw-s, … */
  readonly perms: string;
  /** Bytes into the file. */
  readonly offset: number;
  readonly path: string;
  readonly fd: number;
  /** VmFlags of smaps. */
  readonly vmFlags: readonly string[];
  /** VM_* names. */
  readonly flags: readonly string[];
  /** pgprot of its entries: normal, noncached, writecombine, tagged. */
  readonly pageProt: string;
}

/**
 * The mnemonics in the order of the kernel's bits. A bit without one prints "??": VM_ALLOW_ANY_UNCACHED has none.
 * VM_MTE_ALLOWED has an empty one and is left out, as there.
 */
const MNEMONICS: readonly (readonly [number, string])[] = [
  [vm.VM_READ, "rd"],
  [vm.VM_WRITE, "wr"],
  [vm.VM_EXEC, "ex"],
  [vm.VM_SHARED, "sh"],
  [vm.VM_MAYREAD, "mr"],
  [vm.VM_MAYWRITE, "mw"],
  [vm.VM_MAYEXEC, "me"],
  [vm.VM_MAYSHARE, "ms"],
  [vm.VM_GROWSDOWN, "gd"],
  [vm.VM_UFFD_MISSING, "um"],
  [vm.VM_PFNMAP, "pf"],
  [vm.VM_UFFD_WP, "uw"],
  [vm.VM_LOCKED, "lo"],
  [vm.VM_IO, "io"],
  [vm.VM_SEQ_READ, "sr"],
  [vm.VM_RAND_READ, "rr"],
  [vm.VM_DONTCOPY, "dc"],
  [vm.VM_DONTEXPAND, "de"],
  [vm.VM_NORESERVE, "nr"],
  [vm.VM_HUGETLB, "ht"],
  [vm.VM_WIPEONFORK, "wf"],
  [vm.VM_DONTDUMP, "dd"],
  [vm.VM_MIXEDMAP, "mm"],
  [vm.VM_HUGEPAGE, "hg"],
  [vm.VM_NOHUGEPAGE, "nh"],
  [vm.VM_MERGEABLE, "mg"],
  [vm.VM_MTE, "mt"],
  [vm.VM_ALLOW_ANY_UNCACHED, "??"],
  [vm.VM_UFFD_MINOR, "ui"],
];

export function vmaRows(machine: Machine, mm: number): VmaRow[] {
  const { vmas, files } = machine.mm;
  const prots = new Map(machine.mm.maps(mm).map((v) => [v.start, v.pageProt]));
  const out: VmaRow[] = [];
  for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) {
    const flags = vmas.flags(v);
    const file = vmas.file(v);
    out.push({
      mm,
      start: vmas.start(v),
      end: vmas.end(v),
      perms: `${flags & vm.VM_READ ? "r" : "-"}${flags & vm.VM_WRITE ? "w" : "-"}${flags & vm.VM_EXEC ? "x" : "-"}${flags & vm.VM_MAYSHARE ? "s" : "p"}`,
      offset: file < 0 ? 0 : vmas.pgoff(v) * 4096,
      path: file < 0 ? "" : pathOf(machine, file, files.kindName(file)),
      fd: file,
      vmFlags: MNEMONICS.filter(([bit]) => (flags & bit) !== 0).map(([, m]) => m),
      flags: vm.vmFlagNames(flags),
      pageProt: prots.get(vmas.start(v)) ?? "normal",
    });
  }
  return out;
}

/** What the path column says. Files have no names of their own here: their kind and descriptor stand for them. */
export function pathOf(machine: Machine, file: number, kind: string): string {
  if (machine.vfioPci.ofFile(file) >= 0) return "anon_inode:[vfio-device]";
  switch (kind) {
    case "memfd":
      return `/memfd:fd${file} (deleted)`;
    case "hugetlb":
      return `/anon_hugepage (deleted)`;
    case "guest_memfd":
      return "anon_inode:[kvm-gmem]";
    case "device":
      return machine.platform.nameOf(file) ?? "/dev/?";
    default:
      return `/file${file}`;
  }
}

/** What a VMA of a device file shows: "0000:00:06.0 BAR 2 + 0x1000". */
export function backingOf(machine: Machine, v: VmaRow): string {
  const dev = v.fd < 0 ? -1 : machine.vfioPci.ofFile(v.fd);
  if (dev < 0) return "";
  const f = machine.vfioPci.pci.functions[dev]!;
  let region: number;
  let offset: number;
  if (machine.era.vfio.vfioPgoff === "pfn") {
    // vfio_pci_mmap wrote the page frame number over the file offset: the BAR is the one at that address.
    region = f.bars.findIndex((b) => b !== undefined && v.offset >= b.start && v.offset < b.start + b.size);
    offset = v.offset - (f.bars[region]?.start ?? 0);
  } else {
    region = Math.floor(v.offset / machine.vfioPci.regionOffset(1));
    offset = v.offset - machine.vfioPci.regionOffset(region);
  }
  return `${f.bdf} BAR ${region}${offset === 0 ? "" : ` + 0x${offset.toString(16)}`}`;
}

export function vmaText(machine: Machine, mm: number, long: boolean): string[] {
  const out = [`---[ /proc/${mm === 0 ? "VMM" : `child${mm}`}/smaps ]---`];
  for (const v of vmaRows(machine, mm)) {
    const hex = (n: number, width: number) => n.toString(16).padStart(width, "0");
    // The device number and the inode of a file are not modelled: they print as those of anonymous memory.
    const head = `${hex(v.start, 8)}-${hex(v.end, 8)} ${v.perms} ${hex(v.offset, 8)} 00:00 0`;
    out.push(v.path === "" ? `${head} ` : `${head.padEnd(72)} ${v.path}`);
    if (long) {
      out.push(`Size:           ${String((v.end - v.start) / 1024).padStart(8)} kB`);
      const backing = backingOf(machine, v);
      out.push(
        `# VM_${v.flags.join(" VM_")}; vm_page_prot ${v.pageProt}${v.fd < 0 ? "" : `; fd ${v.fd}`}${backing === "" ? "" : `; ${backing}`}`,
      );
    }
    out.push(`VmFlags: ${v.vmFlags.join(" ")} `);
  }
  return out.map((l) => l.trimEnd());
}
