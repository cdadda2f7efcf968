/**
 * The tables of the VMM's (and its children's) address space, in the columns of the kernel's
 * arch/arm64/mm/ptdump.c pte_bits; `long` adds output address and software bits.
 */
import { isLive } from "./livemm.js";
import {
  HI_CONT,
  HI_DIRTY,
  HI_GP,
  HI_PROT_NONE,
  HI_PXN,
  HI_SPECIAL,
  HI_UFFD_WP,
  HI_UXN,
  HI_WRITE,
  PTE_AF,
  PTE_NG,
  PTE_RDONLY,
  PTE_SHARED,
  PTE_USER,
  PTE_VALID,
} from "../mmu/pte.js";
import type { Machine } from "../machine.js";
import { rangeText, words64 } from "./columns.js";
import { ENTRY_SIZE, outputOf, tableEntries } from "./tablewalk.js";

export interface HostRange {
  readonly mm: number;
  readonly start: number;
  readonly end: number;
  readonly level: number;
  /** -1: no present entry (a swap-like one). */
  readonly pa: number;
  readonly type: string;
  readonly user: boolean;
  readonly readOnly: boolean;
  readonly executable: boolean;
  readonly young: boolean;
  /** WRITE, DIRTY, SPECIAL, PROT_NONE, UFFD_WP. */
  readonly software: readonly string[];
  readonly descriptor: string;
}

const LEVELS = ["PGD", "PUD", "PMD", "PTE"] as const;
/** By AttrIndx (MT_* of asm/memory.h). */
const TYPES = ["MEM/NORMAL", "MEM/NORMAL-TAGGED", "MEM/NORMAL-NC", "DEVICE/nGnRnE", "DEVICE/nGnRE"] as const;
const SOFTWARE: readonly (readonly [number, string])[] = [
  [HI_WRITE, "WRITE"],
  [HI_DIRTY, "DIRTY"],
  [HI_SPECIAL, "SPECIAL"],
  [HI_PROT_NONE, "PROT_NONE"],
  [HI_UFFD_WP, "UFFD_WP"],
];

export function hostRanges(machine: Machine, mm: number): HostRange[] {
  const out: HostRange[] = [];
  if (!isLive(machine, mm)) return out;
  let key = "";
  for (const { address, level, hi, lo } of tableEntries(machine.tables, machine.mm.pt.root(mm), 0)) {
    const present = (lo & PTE_VALID) !== 0 || (hi & HI_PROT_NONE) !== 0;
    const pa = present ? outputOf(hi, lo) : -1;
    const size = ENTRY_SIZE[level as 0 | 1 | 2 | 3];
    const now = `${level} ${hi & ~0xffff} ${lo & 0xfff} ${present}`;
    const last = out[out.length - 1];
    if (present && last !== undefined && key === now && last.end === address && last.pa + (last.end - last.start) === pa) {
      out[out.length - 1] = { ...last, end: address + size };
      continue;
    }
    key = now;
    out.push({
      mm,
      start: address,
      end: address + size,
      level,
      pa,
      type: TYPES[((lo >>> 2) & 7) as 0] ?? `AttrIndx ${(lo >>> 2) & 7}`,
      user: (lo & PTE_USER) !== 0,
      readOnly: (lo & PTE_RDONLY) !== 0,
      executable: (hi & HI_UXN) === 0,
      young: (lo & PTE_AF) !== 0,
      software: SOFTWARE.filter(([bit]) => (hi & bit) !== 0).map(([, name]) => name),
      descriptor: words64(hi, lo),
    });
  }
  return out;
}

export function hostText(machine: Machine, mm: number, long: boolean): string[] {
  const root = machine.mm.pt.root(mm);
  const out = [`---[ ${mm === 0 ? "VMM" : `child ${mm}`}, pgd ${words64((root / 4294967296) | 0, root | 0)} ]---`];
  for (const r of hostRanges(machine, mm)) out.push(line(r, long));
  return out;
}

function line(r: HostRange, long: boolean): string {
  const head = `${rangeText(r.start, r.end)} ${LEVELS[r.level as 0]}`;
  if (r.pa < 0) return `${head}  not present  ${r.descriptor}`;
  const d = BigInt(r.descriptor);
  const hi = Number(d >> 32n);
  const lo = Number(BigInt.asIntN(32, d));
  const columns = [
    (lo & PTE_VALID) !== 0 ? " " : "F",
    r.user ? "USR" : "   ",
    r.readOnly ? "ro" : "RW",
    (hi & HI_PXN) !== 0 ? "NX" : "x ",
    (lo & PTE_SHARED) === PTE_SHARED ? "SHD" : "   ",
    r.young ? "AF" : "  ",
    (lo & PTE_NG) !== 0 ? "NG" : "  ",
    (hi & HI_CONT) !== 0 ? "CON" : "   ",
    r.level === 3 ? "   " : "BLK",
    (hi & HI_UXN) !== 0 ? "UXN" : "   ",
    (hi & HI_GP) !== 0 ? "GP" : "  ",
    r.type,
  ].join(" ");
  return long
    ? `${head} ${columns}  pa ${words64((r.pa / 4294967296) | 0, r.pa | 0)}  ${r.software.join(" ")}`.trimEnd()
    : `${head} ${columns}`.trimEnd();
}
