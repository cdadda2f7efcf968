/**
 * Stage 2 for people: the text of debugfs `stage2_page_tables` (arch/arm64/kvm/ptdump.c), and, where asked
 * for, what that file leaves out: output address, memory type, shareability, software bits, locked entries.
 */
import { HI_CONTIG, HI_SW_SHIFT, memAttrOf, shOf, xnOf } from "../arch/descriptors.js";
import { VTCR_DS_HI } from "../arch/geometry.js";
import { attributeText, type PtdumpStyle } from "../kvm/ptdump.js";
import { INVALID_LOCKED } from "../kvm/stage2walk.js";
import type { Machine } from "../machine.js";
import { rangeText, words64 } from "./columns.js";
import { ENTRY_SIZE, outputOf, tableEntries } from "./tablewalk.js";

/** Entries that follow each other with the same attributes, at output addresses that follow each other. */
export interface Stage2Range {
  readonly ipa: number;
  readonly end: number;
  readonly level: number;
  readonly pa: number;
  readonly valid: boolean;
  readonly memattr: number;
  /** MEM/NORMAL, MEM/NORMAL-NC, DEVICE/nGnRE, … */
  readonly type: string;
  readonly s2ap: number;
  readonly xn: number;
  readonly sh: number;
  readonly af: boolean;
  readonly cont: boolean;
  /** Descriptor bits 58:55. */
  readonly software: number;
  /** The first entry's descriptor. */
  readonly descriptor: string;
}

const DEVICE = ["DEVICE/nGnRnE", "DEVICE/nGnRE", "DEVICE/nGRE", "DEVICE/GRE"] as const;
const SH = ["non-shareable", "reserved", "outer", "inner"] as const;

/** MemAttr[3:0] of a descriptor. @param fwb HCR_EL2.FWB changes its meaning (Arm ARM D8.5.5) */
export function memoryType(memattr: number, fwb: boolean): string {
  if (fwb) {
    if ((memattr & 4) === 0) return DEVICE[(memattr & 3) as 0 | 1 | 2 | 3];
    return ["reserved", "MEM/NORMAL-NC", "MEM/NORMAL", "MEM/STAGE1"][memattr & 3]!;
  }
  if (memattr < 4) return DEVICE[memattr as 0 | 1 | 2 | 3];
  if (memattr === 15) return "MEM/NORMAL";
  if (memattr === 5) return "MEM/NORMAL-NC";
  return memattr === 10 ? "MEM/NORMAL-WT" : `MEM/${memattr.toString(2).padStart(4, "0")}`;
}

/** Everything but the address of a descriptor. */
const attributes = (hi: number, lo: number): string => `${hi & ~0xffff},${lo & 0xfff}`;

export function stage2Ranges(machine: Machine, vm: number): Stage2Range[] {
  const { vms, stage2 } = machine.kvm;
  const root = vms.root(vm);
  if (root === 0) return [];
  const level = vms.startLevel(vm);
  const out: Stage2Range[] = [];
  let key = "";
  for (const e of tableEntries(machine.tables, root, level, Math.min(vms.rootPages(vm) * 512, vms.ipaSize(vm) / ENTRY_SIZE[level as 0]))) {
    const valid = (e.lo & 1) !== 0;
    const pa = valid ? outputOf(e.hi, e.lo) : 0;
    const size = ENTRY_SIZE[e.level as 0 | 1 | 2 | 3];
    const now = `${e.level} ${attributes(e.hi, e.lo)}`;
    const last = out[out.length - 1];
    if (last !== undefined && key === now && last.end === e.address && (!valid || last.pa + (last.end - last.ipa) === pa)) {
      out[out.length - 1] = { ...last, end: e.address + size };
      continue;
    }
    key = now;
    out.push({
      ipa: e.address,
      end: e.address + size,
      level: e.level,
      pa,
      valid,
      memattr: memAttrOf(e.lo),
      type: memoryType(memAttrOf(e.lo), stage2.entries.fwb),
      s2ap: (e.lo >>> 6) & 3,
      xn: xnOf(e.hi),
      // With LPA2 the shareability is VTCR_EL2.SH0, and these bits of the descriptor are address bits.
      sh: (vms.vtcrHi(vm) & VTCR_DS_HI) !== 0 ? (vms.vtcrLo(vm) >>> 12) & 3 : shOf(e.lo),
      af: (e.lo & 0x400) !== 0,
      cont: (e.hi & HI_CONTIG) !== 0,
      software: (e.hi >>> HI_SW_SHIFT) & 0xf,
      descriptor: words64(e.hi, e.lo),
    });
  }
  return out;
}

/** The era's layout; of an era without such a file the newest one. */
function style(machine: Machine): PtdumpStyle {
  const own = machine.era.kvm.ptdump;
  return own === "absent" ? "px-ux" : own;
}

/** @param long the ranges with all that the descriptors say; else the kernel's own text */
export function stage2Text(machine: Machine, vm: number, long: boolean): string[] {
  const { vms, dump } = machine.kvm;
  const out: string[] = [];
  if (machine.era.kvm.ptdump === "absent")
    out.push(`# ${machine.era.era} has no stage2_page_tables in debugfs; this is the layout of v7.0`);
  if (vms.root(vm) === 0) return [...out, "---[ Guest IPA ]---", "# stage 2 is torn down"];
  if (!long) return [...out, ...dump.text(vm, style(machine))];
  const root = `root ${words64((vms.root(vm) / 4294967296) | 0, vms.root(vm) | 0)}`;
  const vtcr = `VTCR_EL2 ${words64(vms.vtcrHi(vm), vms.vtcrLo(vm))}`;
  const fwb = machine.kvm.stage2.entries.fwb ? ", HCR_EL2.FWB" : "";
  out.push(
    `# VM ${vm}: ipa_range ${vms.ipaBits(vm)}, stage2_levels ${4 - vms.startLevel(vm)}, VMID ${vms.vmid(vm)}, ${root}, ${vtcr}${fwb}`,
    "---[ Guest IPA ]---",
  );
  for (const r of stage2Ranges(machine, vm)) out.push(longLine(r, machine));
  return out;
}

function longLine(r: Stage2Range, machine: Machine): string {
  const head = `${rangeText(r.ipa, r.end)} ${r.level}`;
  if (!r.valid) {
    const lo = Number(BigInt(r.descriptor) & 0xffffffffn);
    return `${head}  ${(lo & INVALID_LOCKED) !== 0 ? "invalid, locked: break-before-make is under way" : "invalid"}  ${r.descriptor}`;
  }
  const d = BigInt(r.descriptor);
  const columns = attributeText(r.level, Number(d >> 32n), Number(BigInt.asIntN(32, d)), style(machine));
  const rest = `pa ${words64((r.pa / 4294967296) | 0, r.pa | 0)}  ${r.type}  SH ${SH[r.sh as 0]}${r.cont ? "  CON" : ""}  sw ${r.software.toString(2).padStart(4, "0")}`;
  return `${head}${columns}  ${rest}`;
}
