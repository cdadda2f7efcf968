/**
 * System registers by name and by encoding: what MRS and MSR reach, who may, what HCR_EL2 traps, and
 * which of them the guest language can name. Registers that are not in this table are Undefined, but
 * for the identification space (op0 3, op1 0, CRn 0, CRm 1–7), which reads as zero.
 */
import type { FeatureSwitches } from "./features.js";
import { slot, ZR, X, PC, PSTATE, V, type SlotName } from "./registers.js";

/** How a register is read and written. */
export enum SysregKind {
  /** A slot of the register file. */
  Slot,
  /** Fields of PSTATE. */
  Nzcv,
  Daif,
  CurrentEl,
  SpSel,
  Pan,
  Uao,
  Dit,
  Ssbs,
  Tco,
  /** SP_EL0 as a system register: Undefined while it is the current stack pointer. */
  SpEl0,
  /** The agent's clock as a counter. */
  Counter,
  /** Reads as zero, writes ignored. */
  Zero,
}

export interface Sysreg {
  readonly name: string;
  /** op0:op1:CRn:CRm:op2, bits 20:5 of MRS and MSR. */
  readonly key: number;
  readonly kind: SysregKind;
  /** Word offset in the register file, -1 if it has none. */
  readonly slot: number;
  readonly read: boolean;
  readonly write: boolean;
  /** EL0 may read it. */
  readonly el0Read: boolean;
  readonly el0Write: boolean;
  /** One of the virtual memory controls that HCR_EL2.TVM and TRVM trap. */
  readonly vm: boolean;
  readonly feature?: keyof FeatureSwitches;
}

export function sysregKey(op0: number, op1: number, crn: number, crm: number, op2: number): number {
  return (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
}

type Encoding = readonly [number, number, number, number, number];
const all: Sysreg[] = [];

function add(name: string, e: Encoding, options: Partial<Omit<Sysreg, "name" | "key">> = {}): void {
  all.push({
    name,
    key: sysregKey(...e),
    kind: SysregKind.Slot,
    slot: -1,
    read: true,
    write: true,
    el0Read: false,
    el0Write: false,
    vm: false,
    ...options,
  });
}
function stored(name: SlotName, e: Encoding, options: Partial<Sysreg> = {}): void {
  add(name.toLowerCase(), e, { slot: slot(name), ...options });
}
const READ_ONLY = { write: false };
const VM = { vm: true };
const EL0 = { el0Read: true, el0Write: true };

// Virtual memory control (Arm ARM D13.2; the set of HCR_EL2.TVM).
stored("SCTLR_EL1", [3, 0, 1, 0, 0], VM);
stored("TTBR0_EL1", [3, 0, 2, 0, 0], VM);
stored("TTBR1_EL1", [3, 0, 2, 0, 1], VM);
stored("TCR_EL1", [3, 0, 2, 0, 2], VM);
stored("AFSR0_EL1", [3, 0, 5, 1, 0], VM);
stored("AFSR1_EL1", [3, 0, 5, 1, 1], VM);
stored("ESR_EL1", [3, 0, 5, 2, 0], VM);
stored("FAR_EL1", [3, 0, 6, 0, 0], VM);
stored("MAIR_EL1", [3, 0, 10, 2, 0], VM);
stored("AMAIR_EL1", [3, 0, 10, 3, 0], VM);
stored("CONTEXTIDR_EL1", [3, 0, 13, 0, 1], VM);
// Exceptions and the rest of EL1.
stored("CPACR_EL1", [3, 0, 1, 0, 2]);
stored("SPSR_EL1", [3, 0, 4, 0, 0]);
stored("ELR_EL1", [3, 0, 4, 0, 1]);
stored("PAR_EL1", [3, 0, 7, 4, 0]);
stored("VBAR_EL1", [3, 0, 12, 0, 0]);
stored("DISR_EL1", [3, 0, 12, 1, 1], { feature: "ras" });
stored("TPIDR_EL1", [3, 0, 13, 0, 4]);
stored("TPIDR_EL0", [3, 3, 13, 0, 2], EL0);
stored("TPIDRRO_EL0", [3, 3, 13, 0, 3], { el0Read: true });
stored("CSSELR_EL1", [3, 2, 0, 0, 0]);
stored("CNTKCTL_EL1", [3, 0, 14, 1, 0]);
stored("MDSCR_EL1", [2, 0, 0, 2, 2]);
stored("FPCR", [3, 3, 4, 4, 0], EL0);
stored("FPSR", [3, 3, 4, 4, 1], EL0);
stored("CNTFRQ_EL0", [3, 3, 14, 0, 0], { write: false, el0Read: true });
stored("CNTV_CTL_EL0", [3, 3, 14, 3, 1]);
stored("CNTV_CVAL_EL0", [3, 3, 14, 3, 2]);
add("cntpct_el0", [3, 3, 14, 0, 1], { kind: SysregKind.Counter, write: false, el0Read: true });
add("cntvct_el0", [3, 3, 14, 0, 2], { kind: SysregKind.Counter, write: false, el0Read: true });
add("actlr_el1", [3, 0, 1, 0, 1], { kind: SysregKind.Zero });
// Process state.
add("spsel", [3, 0, 4, 2, 0], { kind: SysregKind.SpSel });
add("currentel", [3, 0, 4, 2, 2], { kind: SysregKind.CurrentEl, write: false });
add("pan", [3, 0, 4, 2, 3], { kind: SysregKind.Pan, feature: "pan" });
add("uao", [3, 0, 4, 2, 4], { kind: SysregKind.Uao, feature: "uao" });
add("sp_el0", [3, 0, 4, 1, 0], { kind: SysregKind.SpEl0, slot: slot("SP_EL0") });
add("nzcv", [3, 3, 4, 2, 0], { kind: SysregKind.Nzcv, ...EL0 });
add("daif", [3, 3, 4, 2, 1], { kind: SysregKind.Daif });
add("dit", [3, 3, 4, 2, 5], { kind: SysregKind.Dit, feature: "dit", ...EL0 });
add("ssbs", [3, 3, 4, 2, 6], { kind: SysregKind.Ssbs, feature: "ssbs", ...EL0 });
add("tco", [3, 3, 4, 2, 7], { kind: SysregKind.Tco, feature: "mte", ...EL0 });
// Identification.
stored("MIDR_EL1", [3, 0, 0, 0, 0], READ_ONLY);
stored("MPIDR_EL1", [3, 0, 0, 0, 5], READ_ONLY);
stored("REVIDR_EL1", [3, 0, 0, 0, 6], READ_ONLY);
stored("ID_AA64PFR0_EL1", [3, 0, 0, 4, 0], READ_ONLY);
stored("ID_AA64PFR1_EL1", [3, 0, 0, 4, 1], READ_ONLY);
stored("ID_AA64ZFR0_EL1", [3, 0, 0, 4, 4], READ_ONLY);
stored("ID_AA64SMFR0_EL1", [3, 0, 0, 4, 5], READ_ONLY);
stored("ID_AA64DFR0_EL1", [3, 0, 0, 5, 0], READ_ONLY);
stored("ID_AA64DFR1_EL1", [3, 0, 0, 5, 1], READ_ONLY);
stored("ID_AA64ISAR0_EL1", [3, 0, 0, 6, 0], READ_ONLY);
stored("ID_AA64ISAR1_EL1", [3, 0, 0, 6, 1], READ_ONLY);
stored("ID_AA64ISAR2_EL1", [3, 0, 0, 6, 2], READ_ONLY);
stored("ID_AA64MMFR0_EL1", [3, 0, 0, 7, 0], READ_ONLY);
stored("ID_AA64MMFR1_EL1", [3, 0, 0, 7, 1], READ_ONLY);
stored("ID_AA64MMFR2_EL1", [3, 0, 0, 7, 2], READ_ONLY);
stored("ID_AA64MMFR3_EL1", [3, 0, 0, 7, 3], READ_ONLY);
stored("CCSIDR_EL1", [3, 1, 0, 0, 0], READ_ONLY);
stored("CLIDR_EL1", [3, 1, 0, 0, 1], READ_ONLY);
stored("CTR_EL0", [3, 3, 0, 0, 1], { write: false, el0Read: true });
stored("DCZID_EL0", [3, 3, 0, 0, 7], { write: false, el0Read: true });

/** Every system register, in no particular order; its place here is the number in a decoded MRS or MSR. */
export const SYSREGS: readonly Sysreg[] = all;
export const SYSREG_NAMES: readonly string[] = all.map((r) => r.name);

const byName = new Map(all.map((r, i) => [r.name, i]));
const byKey = new Map(all.map((r, i) => [r.key, i]));

/** Number of a register, -1 if unknown. */
export function sysregByName(name: string): number {
  return byName.get(name.toLowerCase()) ?? -1;
}
export function sysregByKey(key: number): number {
  return byKey.get(key) ?? -1;
}
/** True for encodings of the identification space, which read as zero where nothing is allocated. */
export function isIdSpace(key: number): boolean {
  return key >> 7 === sysregKey(3, 0, 0, 0, 0) >> 7 && ((key >> 3) & 0xf) >= 1 && ((key >> 3) & 0xf) <= 7;
}

/** `s3_0_c1_c0_0`, the generic name of an encoding. */
export function genericName(key: number): string {
  return `s${key >> 14}_${(key >> 11) & 7}_c${(key >> 7) & 15}_c${(key >> 3) & 15}_${key & 7}`;
}
/** The encoding that a generic name stands for, or -1. */
export function parseGenericName(name: string): number {
  const m = /^s([23])_([0-7])_c(\d{1,2})_c(\d{1,2})_([0-7])$/.exec(name);
  if (m === null) return -1;
  const crn = Number(m[3]);
  const crm = Number(m[4]);
  return crn > 15 || crm > 15 ? -1 : sysregKey(Number(m[1]), Number(m[2]), crn, crm, Number(m[5]));
}

/** Every name under which the guest language and the public API reach a word of the register file. */
const FILE_NAMES: ReadonlyMap<string, number> = new Map<string, number>([
  ...Array.from({ length: 31 }, (_, n): [string, number] => [`x${n}`, X + 2 * n]),
  ["lr", X + 60],
  ["xzr", ZR],
  ["pc", PC],
  ["pstate", PSTATE],
  ["sp_el0", slot("SP_EL0")],
  ["sp_el1", slot("SP_EL1")],
  ["sp", slot("SP_EL1")],
  ...Array.from({ length: 32 }, (_, n): [string, number] => [`d${n}`, V + 4 * n]),
  ...all.filter((r) => r.slot >= 0).map((r): [string, number] => [r.name, r.slot]),
  ...(["ESR_EL2", "FAR_EL2", "HPFAR_EL2", "HCR_EL2", "VTTBR_EL2", "VTCR_EL2", "VSESR_EL2"] as const).map((n): [string, number] => [
    n.toLowerCase(),
    slot(n),
  ]),
]);

/** Word offset in the register file of a named 64-bit register (x0, sp, pc, esr_el1, esr_el2 …), or -1. */
export function registerOffset(name: string): number {
  return FILE_NAMES.get(name.toLowerCase()) ?? -1;
}
/** The names that `registerOffset` knows. */
export function registerNames(): readonly string[] {
  return [...FILE_NAMES.keys()];
}
