/**
 * Names and encodings of the A64 system instructions: cache maintenance, address translation, TLB
 * maintenance, barriers, PSTATE fields, hints (Arm ARM C5.3–C5.5).
 */

/** op1:CRn:CRm:op2 as in bits 18:5 of the instruction. */
export function sysKey(op1: number, crn: number, crm: number, op2: number): number {
  return (op1 << 11) | (crn << 7) | (crm << 3) | op2;
}

export interface SysOp {
  readonly name: string;
  readonly key: number;
  /** Takes a register operand. */
  readonly register: boolean;
  /** Number under which the PE knows it. */
  readonly id: number;
  /** May be executed at EL0 (SCTLR_EL1 permitting). */
  readonly el0: boolean;
  /** Feature without which it is Undefined. */
  readonly feature?: "tlbiRange" | "tlbiOs" | "xs" | "pan";
}

/** Data-cache operations, as the PE numbers them. */
export enum DcOp {
  Ivac,
  Isw,
  Csw,
  Cisw,
  Zva,
  Cvac,
  Cvau,
  Cvap,
  Cvadp,
  Civac,
}
export enum IcOp {
  Ialluis,
  Iallu,
  Ivau,
}
export enum AtOp {
  S1e1r,
  S1e1w,
  S1e0r,
  S1e0w,
  S1e1rp,
  S1e1wp,
}

/** What a TLBI of EL1 matches. */
export enum TlbiKind {
  Vmalle1,
  Vae1,
  Aside1,
  Vaae1,
  Vale1,
  Vaale1,
  Rvae1,
  Rvaae1,
  Rvale1,
  Rvaale1,
}
/** Domain of a TLBI, from bit 4 of its number; bit 6 is nXS. */
export const TLBI_LOCAL = 0 << 4;
export const TLBI_IS = 1 << 4;
export const TLBI_OS = 2 << 4;
export const TLBI_NXS = 1 << 6;

export const DC_OPS: readonly SysOp[] = [
  { name: "ivac", key: sysKey(0, 7, 6, 1), register: true, id: DcOp.Ivac, el0: false },
  { name: "isw", key: sysKey(0, 7, 6, 2), register: true, id: DcOp.Isw, el0: false },
  { name: "csw", key: sysKey(0, 7, 10, 2), register: true, id: DcOp.Csw, el0: false },
  { name: "cisw", key: sysKey(0, 7, 14, 2), register: true, id: DcOp.Cisw, el0: false },
  { name: "zva", key: sysKey(3, 7, 4, 1), register: true, id: DcOp.Zva, el0: true },
  { name: "cvac", key: sysKey(3, 7, 10, 1), register: true, id: DcOp.Cvac, el0: true },
  { name: "cvau", key: sysKey(3, 7, 11, 1), register: true, id: DcOp.Cvau, el0: true },
  { name: "cvap", key: sysKey(3, 7, 12, 1), register: true, id: DcOp.Cvap, el0: true },
  { name: "cvadp", key: sysKey(3, 7, 13, 1), register: true, id: DcOp.Cvadp, el0: true },
  { name: "civac", key: sysKey(3, 7, 14, 1), register: true, id: DcOp.Civac, el0: true },
];

export const IC_OPS: readonly SysOp[] = [
  { name: "ialluis", key: sysKey(0, 7, 1, 0), register: false, id: IcOp.Ialluis, el0: false },
  { name: "iallu", key: sysKey(0, 7, 5, 0), register: false, id: IcOp.Iallu, el0: false },
  { name: "ivau", key: sysKey(3, 7, 5, 1), register: true, id: IcOp.Ivau, el0: true },
];

export const AT_OPS: readonly SysOp[] = [
  { name: "s1e1r", key: sysKey(0, 7, 8, 0), register: true, id: AtOp.S1e1r, el0: false },
  { name: "s1e1w", key: sysKey(0, 7, 8, 1), register: true, id: AtOp.S1e1w, el0: false },
  { name: "s1e0r", key: sysKey(0, 7, 8, 2), register: true, id: AtOp.S1e0r, el0: false },
  { name: "s1e0w", key: sysKey(0, 7, 8, 3), register: true, id: AtOp.S1e0w, el0: false },
  { name: "s1e1rp", key: sysKey(0, 7, 9, 0), register: true, id: AtOp.S1e1rp, el0: false, feature: "pan" },
  { name: "s1e1wp", key: sysKey(0, 7, 9, 1), register: true, id: AtOp.S1e1wp, el0: false, feature: "pan" },
];

/** [name, kind, op2]; the range forms have their own CRm. */
const TLBI_PLAIN: readonly (readonly [string, TlbiKind, number])[] = [
  ["vmalle1", TlbiKind.Vmalle1, 0],
  ["vae1", TlbiKind.Vae1, 1],
  ["aside1", TlbiKind.Aside1, 2],
  ["vaae1", TlbiKind.Vaae1, 3],
  ["vale1", TlbiKind.Vale1, 5],
  ["vaale1", TlbiKind.Vaale1, 7],
];
const TLBI_RANGE: readonly (readonly [string, TlbiKind, number])[] = [
  ["rvae1", TlbiKind.Rvae1, 1],
  ["rvaae1", TlbiKind.Rvaae1, 3],
  ["rvale1", TlbiKind.Rvale1, 5],
  ["rvaale1", TlbiKind.Rvaale1, 7],
];

function tlbiOps(): SysOp[] {
  const out: SysOp[] = [];
  for (const nxs of [false, true]) {
    const crn = nxs ? 9 : 8;
    const flag = nxs ? TLBI_NXS : 0;
    const suffix = nxs ? "nxs" : "";
    for (const [domain, bits, plainCrm, rangeCrm] of [
      ["", TLBI_LOCAL, 7, 6],
      ["is", TLBI_IS, 3, 2],
      ["os", TLBI_OS, 1, 5],
    ] as const) {
      for (const [name, kind, op2] of TLBI_PLAIN) {
        const op = {
          name: name + domain + suffix,
          key: sysKey(0, crn, plainCrm, op2),
          register: op2 !== 0,
          id: kind | bits | flag,
          el0: false,
        };
        out.push(nxs ? { ...op, feature: "xs" } : domain === "os" ? { ...op, feature: "tlbiOs" } : op);
      }
      for (const [name, kind, op2] of TLBI_RANGE) {
        out.push({
          name: name + domain + suffix,
          key: sysKey(0, crn, rangeCrm, op2),
          register: true,
          id: kind | bits | flag,
          el0: false,
          feature: nxs ? "xs" : "tlbiRange",
        });
      }
    }
  }
  return out;
}
export const TLBI_OPS: readonly SysOp[] = tlbiOps();

/** Barrier options: CRm. Bits 3:2 domain (0 OSH, 1 NSH, 2 ISH, 3 SY), bits 1:0 type (1 loads, 2 stores, 3 both). */
export const BARRIER_OPTIONS: Readonly<Record<string, number>> = {
  oshld: 1,
  oshst: 2,
  osh: 3,
  nshld: 5,
  nshst: 6,
  nsh: 7,
  ishld: 9,
  ishst: 10,
  ish: 11,
  ld: 13,
  st: 14,
  sy: 15,
};
/** Options of DSB nXS: imm2. */
export const BARRIER_NXS: Readonly<Record<string, number>> = { oshnxs: 0, nshnxs: 1, ishnxs: 2, synxs: 3 };

export interface PstateField {
  readonly name: string;
  readonly op1: number;
  readonly op2: number;
  readonly feature?: "uao" | "pan" | "dit" | "ssbs" | "mte";
}
/** PSTATE fields that MSR (immediate) writes. */
export const PSTATE_FIELDS: readonly PstateField[] = [
  { name: "uao", op1: 0, op2: 3, feature: "uao" },
  { name: "pan", op1: 0, op2: 4, feature: "pan" },
  { name: "spsel", op1: 0, op2: 5 },
  { name: "ssbs", op1: 3, op2: 1, feature: "ssbs" },
  { name: "dit", op1: 3, op2: 2, feature: "dit" },
  { name: "tco", op1: 3, op2: 4, feature: "mte" },
  { name: "daifset", op1: 3, op2: 6 },
  { name: "daifclr", op1: 3, op2: 7 },
];

/** Hints with a name of their own: CRm:op2. All but WFE and WFI do nothing here. */
export const HINTS: Readonly<Record<string, number>> = {
  nop: 0,
  yield: 1,
  wfe: 2,
  wfi: 3,
  sev: 4,
  sevl: 5,
  esb: 16,
  csdb: 20,
};

/** Prefetch operations: name -> prfop. */
export const PREFETCH_OPS: readonly string[] = Array.from({ length: 32 }, (_, n) => {
  const type = ["pld", "pli", "pst"][n >> 3];
  const target = (n >> 1) & 3;
  return type === undefined || target === 3 ? `#${n}` : `${type}l${target + 1}${(n & 1) !== 0 ? "strm" : "keep"}`;
});

export const CONDITIONS = ["eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"] as const;
/** Other spellings of conditions. */
export const CONDITION_ALIASES: Readonly<Record<string, number>> = { cs: 2, cc: 3 };
