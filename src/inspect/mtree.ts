/** The memslots of a VM in the layout of QEMU's `info mtree -f`, each with what lies behind it. */
import { KVM_MEM_GUEST_MEMFD } from "../kvm/ports.js";
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MEMSLOT_INVALID } from "../kvm/memslots.js";
import { VM_IO, VM_PFNMAP } from "../mmu/vmflags.js";
import type { Machine } from "../machine.js";
import { backingOf, vmaRows, type VmaRow } from "./vmadump.js";

export interface SlotRow {
  readonly slot: number;
  readonly gpa: number;
  /** The last byte's address, as QEMU prints it. */
  readonly last: number;
  readonly hva: number;
  /** ram, rom or ramd (RAM of a device). */
  readonly type: "ram" | "rom" | "ramd";
  /** What the VMM mapped there. */
  readonly name: string;
  readonly flags: readonly string[];
}

export function slotRows(machine: Machine, vm: number): SlotRow[] {
  const { memslots, vms } = machine.kvm;
  const vmas = vmaRows(machine, vms.mm(vm));
  return Array.from({ length: memslots.count(vm) }, (_, i) => {
    const s = memslots.byGfnOrder(vm, i);
    const hva = memslots.userspaceAddr(s);
    const size = memslots.npages(s) * 4096;
    const flags = memslots.flags(s);
    const behind = vmas.filter((v) => v.start < hva + size && v.end > hva);
    return {
      slot: memslots.id(s),
      gpa: memslots.baseGfn(s) * 4096,
      last: memslots.baseGfn(s) * 4096 + size - 1,
      hva,
      type: (flags & KVM_MEM_READONLY) !== 0 ? "rom" : isDevice(machine, behind[0]) ? "ramd" : "ram",
      name: (flags & KVM_MEM_GUEST_MEMFD) !== 0 ? fileOf(machine, s) : nameOf(machine, behind, hva, size),
      flags: [
        ...((flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0 ? ["LOG_DIRTY_PAGES"] : []),
        ...((flags & KVM_MEM_READONLY) !== 0 ? ["READONLY"] : []),
        ...((flags & KVM_MEM_GUEST_MEMFD) !== 0 ? ["GUEST_MEMFD"] : []),
        ...((flags & KVM_MEMSLOT_INVALID) !== 0 ? ["INVALID"] : []),
      ],
    };
  });
}

function isDevice(machine: Machine, v: VmaRow | undefined): boolean {
  if (v === undefined) return false;
  const { vmas } = machine.mm;
  for (let n = vmas.first(v.mm); n >= 0; n = vmas.next(n))
    if (vmas.start(n) === v.start) return (vmas.flags(n) & (VM_PFNMAP | VM_IO)) !== 0;
  return false;
}

/** A guest_memfd is there without a mapping. */
function fileOf(machine: Machine, slot: number): string {
  const { memslots } = machine.kvm;
  const fd = memslots.gmemFile(slot);
  return fd < 0 ? "[kvm-gmem], closed" : `[kvm-gmem] fd${fd} + 0x${(memslots.gmemPgoff(slot) * 4096).toString(16)}`;
}

/** The first mapping behind the slot; a slot that is only partly backed, or by several mappings, says so. */
function nameOf(machine: Machine, behind: readonly VmaRow[], hva: number, size: number): string {
  const first = behind[0];
  if (first === undefined) return "no VMA behind it";
  const bar = backingOf(machine, first).replace(/ \+ .*/, "");
  const what = bar !== "" ? `${bar} mmaps[0]` : first.path === "" ? "anonymous" : first.path;
  const covered = behind.reduce((n, v) => n + Math.min(v.end, hva + size) - Math.max(v.start, hva), 0);
  return `${what}${behind.length > 1 ? `, ${behind.length} VMAs` : ""}${covered < size ? `, 0x${(size - covered).toString(16)} bytes without a VMA` : ""}`;
}

export function mtreeText(machine: Machine, vm: number, long: boolean): string[] {
  const { vms } = machine.kvm;
  const hex = (n: number) => n.toString(16).padStart(16, "0");
  const out = ["FlatView #0", ` AS "memory", root: VM ${vm}`, ` Root memory region: VM ${vm}`];
  const rows = slotRows(machine, vm);
  if (rows.length === 0) out.push("  No rendered FlatView");
  for (const r of rows) {
    const more = long ? `  slot ${r.slot}, hva 0x${r.hva.toString(16)}${r.flags.map((f) => `, ${f}`).join("")}` : "";
    out.push(`  ${hex(r.gpa)}-${hex(r.last)} (prio 0, ${r.type}): ${r.name} KVM${more}`);
  }
  if (long) out.push(`# generation ${vms.generation(vm)}, mmu_invalidate_seq ${vms.seq(vm)}, in progress ${vms.inProgress(vm)}`);
  return out;
}
