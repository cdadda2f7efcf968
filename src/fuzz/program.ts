/**
 * What the fuzzer makes up: a program is a list of steps of one VMM with one vCPU, as plain data. script.ts writes it as a
 * guest script, vmm.ts carries it out, shadow.ts says naively what must come of it.
 */

/** What lies behind a backing. `edu` and `testdev` are registers, `ivshmem` is memory in a BAR. */
export const KINDS = ["nohuge", "thp", "anon", "memfd", "hugetlb", "filero", "ivshmem", "edu", "testdev"] as const;
export type Kind = (typeof KINDS)[number];

export const DEVICES = {
  ivshmem: { bdf: "0000:00:06.0", bar: 2, size: 16 << 20 },
  edu: { bdf: "0000:00:04.0", bar: 0, size: 1 << 20 },
  testdev: { bdf: "0000:00:05.0", bar: 0, size: 4096 },
} as const;
export type DeviceName = keyof typeof DEVICES;
export const isDevice = (kind: Kind): kind is DeviceName => kind in DEVICES;

export const ADVICE = {
  MADV_DONTNEED: 4,
  MADV_FREE: 8,
  MADV_REMOVE: 9,
  MADV_HUGEPAGE: 14,
  MADV_NOHUGEPAGE: 15,
  MADV_MERGEABLE: 12,
  MADV_UNMERGEABLE: 13,
  MADV_COLD: 20,
  MADV_PAGEOUT: 21,
  MADV_POPULATE_READ: 22,
  MADV_POPULATE_WRITE: 23,
  MADV_COLLAPSE: 25,
  MADV_HWPOISON: 100,
} as const;
export type Advice = keyof typeof ADVICE;

export const LOG = 1;
export const RO = 2;

export type Op =
  /** Maps backing `b` (0 to 3) at a free address: a multiple of 2 MiB plus `skew`. */
  | { readonly op: "back"; readonly b: number; readonly kind: Kind; readonly size: number; readonly skew: number }
  | {
      readonly op: "slot";
      readonly id: number;
      readonly gpa: number;
      readonly size: number;
      readonly b: number;
      readonly off: number;
      readonly flags: number;
    }
  | { readonly op: "slotflags"; readonly id: number; readonly flags: number }
  | { readonly op: "slotmove"; readonly id: number; readonly gpa: number }
  | { readonly op: "slotdel"; readonly id: number }
  /** The guest executes one operation at a virtual address. */
  | { readonly op: "guest"; readonly what: string; readonly at: number; readonly x1: number; readonly x2: number }
  /** The guest turns its stage 1 on (identity and aliases) or off. */
  | { readonly op: "mmu"; readonly on: boolean }
  | { readonly op: "munmap" | "remap" | "mapanon"; readonly b: number; readonly off: number; readonly len: number }
  | { readonly op: "mprotect"; readonly b: number; readonly off: number; readonly len: number; readonly prot: number }
  | { readonly op: "madvise"; readonly b: number; readonly off: number; readonly len: number; readonly advice: Advice }
  | { readonly op: "ftruncate"; readonly b: number; readonly len: number }
  | { readonly op: "punch"; readonly b: number; readonly off: number; readonly len: number }
  | { readonly op: "age"; readonly b: number; readonly off: number; readonly len: number; readonly test: boolean }
  | { readonly op: "hw"; readonly b: number; readonly off: number; readonly size: number; readonly value: number }
  | { readonly op: "hr"; readonly b: number; readonly off: number; readonly size: number }
  | { readonly op: "fork" | "kill" }
  | { readonly op: "dirty"; readonly id: number }
  | { readonly op: "cleardirty"; readonly id: number; readonly first: number; readonly n: number }
  | { readonly op: "cap"; readonly cap: number; readonly value: number }
  | { readonly op: "memory"; readonly device: DeviceName; readonly on: boolean }
  | { readonly op: "reset"; readonly device: DeviceName }
  | { readonly op: "affinity"; readonly cpu: number };

export interface Program {
  readonly cpu: string;
  readonly ops: readonly Op[];
}

/** How a guest operation reads and writes memory; `bytes` from the address in x0. */
export interface GuestOp {
  /** A64 text; x0 address, x1 and x2 values; what was read is in x4. */
  readonly code: readonly string[];
  readonly bytes: number;
  readonly reads?: boolean;
  readonly writes?: boolean;
  /** What a load makes of the bytes: bits of sign to extend from; absent: zero. */
  readonly signed?: 32 | 64;
  /** Needs more of memory or CPU than every store does: atomics, exclusives, pairs. It may fail where a plain access does not. */
  readonly exotic?: boolean;
  /** Bytes that are read in all, where x4 shows the first `bytes` alone. */
  readonly reach?: number;
}

const plain = (code: string, bytes: number, rest: Partial<GuestOp>): GuestOp => ({ code: [code], bytes, ...rest });
const exotic = (bytes: number, rest: Partial<GuestOp>, ...code: readonly string[]): GuestOp => ({ code, bytes, exotic: true, ...rest });
const R = { reads: true } as const;
const W = { writes: true } as const;

export const GUEST_OPS: Readonly<Record<string, GuestOp>> = {
  ldr64: plain("ldr x4, [x0]", 8, R),
  ldr32: plain("ldr w4, [x0]", 4, R),
  ldr16: plain("ldrh w4, [x0]", 2, R),
  ldr8: plain("ldrb w4, [x0]", 1, R),
  ldrsb: plain("ldrsb x4, [x0]", 1, { ...R, signed: 64 }),
  ldrsb32: plain("ldrsb w4, [x0]", 1, { ...R, signed: 32 }),
  ldrsh: plain("ldrsh x4, [x0]", 2, { ...R, signed: 64 }),
  ldrsw: plain("ldrsw x4, [x0]", 4, { ...R, signed: 64 }),
  ldar: plain("ldar x4, [x0]", 8, R),
  ldrd: exotic(8, R, "ldr d0, [x0]", "fmov x4, d0"),
  ldrpost: exotic(8, R, "ldr x4, [x0], #8"),
  ldp: exotic(8, { ...R, reach: 16 }, "ldp x4, x5, [x0]"),
  str64: plain("str x1, [x0]", 8, W),
  str32: plain("str w1, [x0]", 4, W),
  str16: plain("strh w1, [x0]", 2, W),
  str8: plain("strb w1, [x0]", 1, W),
  stlr: plain("stlr x1, [x0]", 8, W),
  strpost: exotic(8, W, "str x1, [x0], #8"),
  swp: exotic(8, { reads: true, writes: true }, "swp x1, x4, [x0]"),
  zva: exotic(64, W, "dc zva, x0"),
  cvac: exotic(0, {}, "dc cvac, x0"),
  civac: exotic(0, {}, "dc civac, x0"),
  icivau: exotic(0, {}, "ic ivau, x0"),
  prfm: exotic(0, {}, "prfm pldl1keep, [x0]"),
  ats1r: exotic(0, {}, "at s1e1r, x0"),
  fetch: exotic(0, {}, "adr x30, 8", "br x0"),
  tlbi: exotic(0, {}, "tlbi vmalle1", "dsb ish", "isb"),
};

/** IPA of the guest's code, as in scripts; of its stage-1 table, in a slot of its own. */
export const CODE = 0x40000000;
export const CODE_BYTES = 0x200000;
export const S1_TABLE = 0x48000000;
export const S1_SLOT = 30;

/**
 * Stage 1, when it is on: 1 GiB blocks, identity, and the same again under other attributes at multiples of 64 GiB.
 * [index into MAIR, AP[2]: read-only]; the last is not mapped.
 */
export const ALIAS_BYTES = 2 ** 36;
export const ALIASES: readonly { readonly attr: number; readonly ro: boolean; readonly valid: boolean }[] = [
  { attr: 1, ro: false, valid: true },
  { attr: 2, ro: false, valid: true },
  { attr: 3, ro: false, valid: true },
  { attr: 0, ro: false, valid: true },
  { attr: 1, ro: true, valid: true },
  { attr: 1, ro: false, valid: false },
];
/** Device-nGnRnE, Normal-WB, Normal-NC, Device-nGnRE. */
export const MAIR = 0x0444ff00;
/** T0SZ 25, WB WA inner shareable walks, 4 KiB, TTBR1 off, 40-bit output. */
export const TCR = 0x200803519;
export const SCTLR_ON = 0x30d01805;
export const SCTLR_OFF = 0x30d00800;
/** GiB of IPA that stage 1 maps. */
export const S1_GIB = [0, 1, 2, 3, 4, 5] as const;

/** The entries of the level-1 table: [index, descriptor]. */
export function stage1Entries(): readonly (readonly [number, bigint])[] {
  return ALIASES.flatMap(({ attr, ro, valid }, n) =>
    !valid
      ? []
      : S1_GIB.map((g) => {
          const low = 0x701 | (attr << 2) | (ro ? 0x80 : 0);
          return [64 * n + g, (BigInt(g) << 30n) | BigInt(low)] as const;
        }),
  );
}
