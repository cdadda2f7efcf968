/** What is different between two moments of a run: lines that were there and are not, lines that are new. */
import type { Machine } from "../machine.js";
import { hostText } from "./hostdump.js";
import { liveMms } from "./livemm.js";
import { mtreeText } from "./mtree.js";
import { stage2Text } from "./stage2dump.js";
import { tlbRows } from "./tlbdump.js";
import { vmaText } from "./vmadump.js";

/** A machine's state as lines, by part. Two moments with equal views look the same to every dump. */
export type View = ReadonlyMap<string, readonly string[]>;

const REGISTERS = [
  ...Array.from({ length: 31 }, (_, n) => `x${n}`),
  ..."sp_el1 pc pstate sctlr_el1 ttbr0_el1 ttbr1_el1 tcr_el1 mair_el1 esr_el1 far_el1 elr_el1 spsr_el1 esr_el2 far_el2 hpfar_el2".split(
    " ",
  ),
];

export function viewOf(machine: Machine): View {
  const out = new Map<string, string[]>();
  const plain = (lines: readonly string[]) => lines.filter((l) => !/^(#|---\[)/.test(l));
  const { vms } = machine.kvm;
  for (let v = 0; v < machine.registers.count; v++)
    out.set(
      `vcpu${v}`,
      REGISTERS.map((r) => `${r} 0x${machine.getRegister(v, r).toString(16)}`),
    );
  for (let vm = 0; vm < vms.count; vm++) {
    out.set(`VM ${vm}`, [`mmu_invalidate_seq ${vms.seq(vm)}`, `mmu_invalidate_in_progress ${vms.inProgress(vm)}`, `VMID ${vms.vmid(vm)}`]);
    out.set(`memslots ${vm}`, mtreeText(machine, vm, true).slice(3, -1));
    out.set(`stage 2 of VM ${vm}`, plain(stage2Text(machine, vm, true)));
  }
  for (const mm of liveMms(machine)) {
    out.set(`VMAs of ${mm === 0 ? "the VMM" : `child ${mm}`}`, joined(vmaText(machine, mm, false)));
    out.set(`host entries of ${mm === 0 ? "the VMM" : `child ${mm}`}`, plain(hostText(machine, mm, true)));
  }
  out.set(
    "TLB",
    tlbRows(machine).map(
      (r) =>
        `CPU ${r.cpu} ${r.kind} ${r.regime} ${r.va !== "" ? `va ${r.va}` : `ipa 0x${r.ipa.toString(16)}`}: ${r.what}${r.stale ? ` STALE: ${r.now}` : ""}`,
    ),
  );
  return out;
}

/** A VMA is two lines: one here. */
function joined(lines: readonly string[]): string[] {
  const out: string[] = [];
  for (let i = 1; i + 1 < lines.length; i += 2) out.push(`${lines[i]!.replace(/ {2,}/g, " ")}; ${lines[i + 1]!}`);
  return out;
}

/** Registers and counts: `x1 0x0 -> 0x55`. */
function named(old: readonly string[], now: readonly string[]): string[] {
  const split = (l: string) => [l.slice(0, l.lastIndexOf(" ")), l.slice(l.lastIndexOf(" ") + 1)] as const;
  const before = new Map(old.map(split));
  return now
    .map(split)
    .filter(([name, value]) => before.get(name) !== value)
    .map(([name, value]) => `  ${name} ${before.get(name) ?? "(none)"} -> ${value}`);
}

/** Lines of one part that are shown. */
const MOST = 12;

/** `stage 2 of VM 0` and below it `- …`, `+ …`; empty if the moments look the same. */
export function changes(before: View, after: View): string[] {
  const out: string[] = [];
  for (const part of new Set([...before.keys(), ...after.keys()])) {
    const old = before.get(part) ?? [];
    const now = after.get(part) ?? [];
    const [was, is] = [new Set(old), new Set(now)];
    const lines = /^(vcpu|VM )[0-9]+$/.test(part)
      ? named(old, now)
      : [...old.filter((l) => !is.has(l)).map((l) => `  - ${l}`), ...now.filter((l) => !was.has(l)).map((l) => `  + ${l}`)];
    if (lines.length === 0) continue;
    out.push(part, ...lines.slice(0, MOST));
    if (lines.length > MOST) out.push(`  … and ${lines.length - MOST} more lines`);
  }
  return out;
}
