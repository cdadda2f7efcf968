/**
 * The table of A64 encodings: one entry for each form of each instruction. The assembler, the decoder
 * and the disassembler all work from it, so that they cannot disagree (Arm ARM C4 and C6).
 *
 * A form is fixed bits (mask, match), its operands in the order of the text, and what the interpreter
 * shall do. Forms of one mnemonic are tried in order; for decoding an alias stands before what it
 * abbreviates.
 */
import type { FeatureSwitches } from "./features.js";
import {
  ACCESS_ACQUIRE,
  ACCESS_RELEASE,
  ACCESS_SIGNED,
  ACCESS_X,
  F_HI,
  F_ISS,
  F_LO,
  F_RA,
  F_RN,
  F_RD,
  F_RM,
  Op,
  SP_FIELD,
} from "./a64ops.js";
import {
  addImmediate,
  address,
  addressRegister,
  addressSigned,
  addressUnsigned,
  adrTarget,
  bits,
  branchTarget,
  condition,
  decodeLogical,
  extendedReg,
  logicalImmediate,
  lsbWidth,
  movImmediate,
  named,
  namedOrNumber,
  reg,
  regAfter,
  regTwice,
  shiftedReg,
  signedBits,
  stackPointer,
  testBit,
  uimm,
  wideImmediate,
  type Operand,
} from "./a64operands.js";
import {
  AT_OPS,
  BARRIER_NXS,
  BARRIER_OPTIONS,
  CONDITION_ALIASES,
  CONDITIONS,
  DC_OPS,
  HINTS,
  IC_OPS,
  PREFETCH_OPS,
  PSTATE_FIELDS,
  TLBI_OPS,
  type SysOp,
} from "./a64system.js";
import { genericName, isIdSpace, parseGenericName, SYSREG_NAMES, sysregByKey, sysregByName, SYSREGS } from "./sysregs.js";

/** Fills the decoded fields that are no plain register number; false for a reserved combination. */
export type FieldsFn = (word: number, f: Int32Array) => boolean;

export interface Form {
  readonly mnemonic: string;
  readonly mask: number;
  readonly match: number;
  readonly operands: readonly Operand[];
  readonly op: Op;
  readonly fields?: FieldsFn | undefined;
  /** Undefined without this feature. */
  readonly feature?: keyof FeatureSwitches | undefined;
  /** Only the assembler uses it: another spelling. */
  readonly spelling?: boolean | undefined;
  /** Refuses combinations of operands that are unpredictable. Gives what is wrong, "" if nothing. */
  readonly check?: ((word: number) => string) | undefined;
}

const forms: Form[] = [];
type Extra = Partial<Pick<Form, "fields" | "feature" | "spelling" | "check">>;

function form(mnemonic: string, mask: number, match: number, op: Op, operands: readonly Operand[], extra: Extra = {}): void {
  forms.push({ mnemonic, mask: mask | 0, match: match | 0, op, operands, ...extra });
}

const WIDTHS = [
  ["x", 1],
  ["w", 0],
] as const;

// ---- Fields ------------------------------------------------------------------------------------

/** Register 31 in 9:5 is the stack pointer. */
function spBase(w: number, f: Int32Array): void {
  if (bits(w, 5, 5) === 31) f[F_RN] = SP_FIELD;
}
function constant(f: Int32Array, value: bigint): void {
  f[F_LO] = Number(BigInt.asIntN(32, value));
  f[F_HI] = Number(BigInt.asIntN(32, value >> 32n));
}

// ---- Loads and stores --------------------------------------------------------------------------

interface Access {
  readonly mnemonic: string;
  /** size 31:30, V 26, opc 23:22. */
  readonly bits: number;
  readonly log2: number;
  readonly cls: string;
  readonly load: boolean;
  /** Value of the `ra` field: bytes and flags. */
  readonly access: number;
  /** ISS template without SRT; 0: no valid syndrome. */
  readonly iss: number;
}

/** ISV, SAS, SSE, SF of a single-register access. */
function issOf(log2: number, signed: boolean, x: boolean): number {
  return (1 << 24) | (log2 << 22) | (signed ? 1 << 21 : 0) | (x ? 1 << 15 : 0);
}
const ISS_AR = 1 << 14;

function integerAccess(mnemonic: string, log2: number, cls: "x" | "w", load: boolean, signed: boolean): Access {
  const opc = !load ? 0 : !signed ? 1 : cls === "x" ? 2 : 3;
  const x = cls === "x";
  return {
    mnemonic,
    bits: (log2 << 30) | (opc << 22),
    log2,
    cls,
    load,
    access: (1 << log2) | (signed ? ACCESS_SIGNED : 0) | (x ? ACCESS_X : 0),
    iss: issOf(log2, signed, x),
  };
}
function vectorAccess(cls: "b" | "h" | "s" | "d" | "q", log2: number, load: boolean): Access {
  const quad = cls === "q";
  return {
    mnemonic: load ? "ldr" : "str",
    bits: ((quad ? 0 : log2) << 30) | (1 << 26) | (((quad ? 2 : 0) | (load ? 1 : 0)) << 22),
    log2,
    cls,
    load,
    access: 1 << log2,
    iss: 0,
  };
}

const INTEGER_ACCESSES: readonly Access[] = [
  integerAccess("ldr", 3, "x", true, false),
  integerAccess("ldr", 2, "w", true, false),
  integerAccess("ldrh", 1, "w", true, false),
  integerAccess("ldrb", 0, "w", true, false),
  integerAccess("ldrsw", 2, "x", true, true),
  integerAccess("ldrsh", 1, "x", true, true),
  integerAccess("ldrsh", 1, "w", true, true),
  integerAccess("ldrsb", 0, "x", true, true),
  integerAccess("ldrsb", 0, "w", true, true),
  integerAccess("str", 3, "x", false, false),
  integerAccess("str", 2, "w", false, false),
  integerAccess("strh", 1, "w", false, false),
  integerAccess("strb", 0, "w", false, false),
];
const VECTOR_ACCESSES: readonly Access[] = [true, false].flatMap((load) => [
  vectorAccess("q", 4, load),
  vectorAccess("d", 3, load),
  vectorAccess("s", 2, load),
  vectorAccess("h", 1, load),
  vectorAccess("b", 0, load),
]);

function accessFields(a: Access, lo: (w: number) => number, writeback: boolean): FieldsFn {
  return (w, f) => {
    spBase(w, f);
    f[F_RA] = a.access;
    f[F_LO] = lo(w);
    f[F_ISS] = writeback || a.iss === 0 ? 0 : a.iss | (bits(w, 0, 5) << 16);
    return true;
  };
}

/** Writeback to the transferred register is CONSTRAINED UNPREDICTABLE. */
function writebackCheck(pair: boolean, load: boolean): (w: number) => string {
  return (w) => {
    const n = bits(w, 5, 5);
    const t = bits(w, 0, 5);
    const t2 = bits(w, 10, 5);
    if (n !== 31 && (n === t || (pair && n === t2))) return "a base register other than the transferred one, as it is written back";
    return pair && load && t === t2 ? "two different registers to load" : "";
  };
}

const SINGLE_MASK = 0xffc00000;
const INDEXED_MASK = 0xffe00c00;

function singles(list: readonly Access[], vector: boolean): void {
  const ops = vector
    ? {
        load: [Op.LoadVecImm, Op.LoadVecPost, Op.LoadVecPre, Op.LoadVecReg],
        store: [Op.StoreVecImm, Op.StoreVecPost, Op.StoreVecPre, Op.StoreVecReg],
      }
    : { load: [Op.LoadImm, Op.LoadPost, Op.LoadPre, Op.LoadReg], store: [Op.StoreImm, Op.StorePost, Op.StorePre, Op.StoreReg] };
  const imm9 = (w: number): number => signedBits(w, 12, 9);
  for (const a of list) {
    const op = a.load ? ops.load : ops.store;
    const rt = reg(a.cls, 0);
    const scale = 1 << a.log2;
    const check = vector ? undefined : writebackCheck(false, a.load);
    const unscaled = a.mnemonic.replace(/^(ld|st)r/, "$1ur");
    const unsignedForm: FieldsFn = accessFields(a, (w) => bits(w, 10, 12) * scale, false);
    form(a.mnemonic, SINGLE_MASK, 0x39000000 | a.bits, op[0]!, [rt, addressUnsigned(scale)], { fields: unsignedForm });
    form(a.mnemonic, INDEXED_MASK, 0x38000400 | a.bits, op[1]!, [rt, addressSigned("post", 12, 9, 1)], {
      fields: accessFields(a, imm9, true),
      check,
    });
    form(a.mnemonic, INDEXED_MASK, 0x38000c00 | a.bits, op[2]!, [rt, addressSigned("pre", 12, 9, 1)], {
      fields: accessFields(a, imm9, true),
      check,
    });
    form(a.mnemonic, INDEXED_MASK, 0x38200800 | a.bits, op[3]!, [rt, addressRegister(a.log2)], {
      fields: (w, f) => {
        spBase(w, f);
        f[F_RA] = a.access;
        // hi: the extension, lo: the shift.
        f[F_HI] = bits(w, 13, 3);
        f[F_LO] = bits(w, 12, 1) * a.log2;
        f[F_ISS] = a.iss === 0 ? 0 : a.iss | (bits(w, 0, 5) << 16);
        return (bits(w, 13, 3) & 2) !== 0;
      },
    });
    const unscaledFields = { fields: accessFields(a, imm9, false) };
    form(unscaled, INDEXED_MASK, 0x38000000 | a.bits, op[0]!, [rt, addressSigned("offset", 12, 9, 1)], unscaledFields);
    // The assembler also takes a negative or unaligned offset under the plain name.
    form(a.mnemonic, INDEXED_MASK, 0x38000000 | a.bits, op[0]!, [rt, addressSigned("offset", 12, 9, 1)], {
      ...unscaledFields,
      spelling: true,
    });
  }
}
singles(INTEGER_ACCESSES, false);
singles(VECTOR_ACCESSES, true);

function literal(mnemonic: string, match: number, cls: string, vector: boolean, access: number, iss: number): void {
  form(mnemonic, 0xff000000, match, vector ? Op.LoadVecLiteral : Op.LoadLiteral, [reg(cls, 0), branchTarget(5, 19)], {
    fields: (w, f) => {
      f[F_RA] = access;
      f[F_LO] = signedBits(w, 5, 19) * 4;
      f[F_ISS] = iss === 0 ? 0 : iss | (bits(w, 0, 5) << 16);
      return true;
    },
  });
}
literal("ldr", 0x58000000, "x", false, 8 | ACCESS_X, issOf(3, false, true));
literal("ldr", 0x18000000, "w", false, 4, issOf(2, false, false));
literal("ldrsw", 0x98000000, "x", false, 4 | ACCESS_SIGNED | ACCESS_X, issOf(2, true, true));
literal("ldr", 0x1c000000, "s", true, 4, 0);
literal("ldr", 0x5c000000, "d", true, 8, 0);
literal("ldr", 0x9c000000, "q", true, 16, 0);

const prefetch = namedOrNumber(
  Object.fromEntries(PREFETCH_OPS.flatMap((n, i) => (n.startsWith("#") ? [] : [[n, i]]))),
  0,
  5,
  "a prefetch operation such as pldl1keep",
);
form("prfm", SINGLE_MASK, 0xf9800000, Op.Nop, [prefetch, addressUnsigned(8)]);
form("prfm", INDEXED_MASK, 0xf8a00800, Op.Nop, [prefetch, addressRegister(3)], { fields: (w) => (bits(w, 13, 3) & 2) !== 0 });
form("prfm", 0xff000000, 0xd8000000, Op.Nop, [prefetch, branchTarget(5, 19)]);
form("prfum", INDEXED_MASK, 0xf8800000, Op.Nop, [prefetch, addressSigned("offset", 12, 9, 1)]);
form("prfm", INDEXED_MASK, 0xf8800000, Op.Nop, [prefetch, addressSigned("offset", 12, 9, 1)], { spelling: true });

function pair(mnemonic: string, cls: string, match: number, log2: number, load: boolean, vector: boolean, access: number): void {
  const modes = [
    ["offset", 2, 0],
    ["post", 1, 1],
    ["pre", 3, 2],
  ] as const;
  const ops = vector
    ? load
      ? [Op.LoadPairVec, Op.LoadPairVecPost, Op.LoadPairVecPre]
      : [Op.StorePairVec, Op.StorePairVecPost, Op.StorePairVecPre]
    : load
      ? [Op.LoadPair, Op.LoadPairPost, Op.LoadPairPre]
      : [Op.StorePair, Op.StorePairPost, Op.StorePairPre];
  const fields: FieldsFn = (w, f) => {
    spBase(w, f);
    f[F_RA] = access;
    f[F_LO] = signedBits(w, 15, 7) * (1 << log2);
    f[F_HI] = 2 * bits(w, 10, 5);
    return true;
  };
  const distinct = (w: number): string => (load && bits(w, 0, 5) === bits(w, 10, 5) ? "two different registers to load" : "");
  for (const [mode, at, op] of modes) {
    const check = mode === "offset" || vector ? distinct : writebackCheck(true, load);
    form(
      mnemonic,
      0xffc00000,
      match | (at << 23) | ((load ? 1 : 0) << 22),
      ops[op]!,
      [reg(cls, 0), reg(cls, 10), addressSigned(mode, 15, 7, 1 << log2)],
      {
        fields,
        check,
      },
    );
  }
  if (mnemonic === "ldpsw") return;
  form(
    mnemonic.replace("p", "np"),
    0xffc00000,
    match | ((load ? 1 : 0) << 22),
    ops[0]!,
    [reg(cls, 0), reg(cls, 10), addressSigned("offset", 15, 7, 1 << log2)],
    {
      fields,
      check: distinct,
    },
  );
}
for (const load of [true, false]) {
  const m = load ? "ldp" : "stp";
  pair(m, "x", 0xa8000000, 3, load, false, 8 | ACCESS_X);
  pair(m, "w", 0x28000000, 2, load, false, 4);
  pair(m, "q", 0xac000000, 4, load, true, 16);
  pair(m, "d", 0x6c000000, 3, load, true, 8);
  pair(m, "s", 0x2c000000, 2, load, true, 4);
}
pair("ldpsw", "x", 0x68000000, 2, true, false, 4 | ACCESS_SIGNED | ACCESS_X);

// Exclusives and ordered accesses: size 31:30, o2 23, L 22, o1 21, o0 15.
const SIZES = [
  ["", 3, "x"],
  ["", 2, "w"],
  ["h", 1, "w"],
  ["b", 0, "w"],
] as const;

function ordered(access: number, iss: (w: number) => number): FieldsFn {
  return (w, f) => {
    spBase(w, f);
    f[F_RA] = access;
    f[F_ISS] = iss(w);
    return true;
  };
}
const noIss = (): number => 0;

for (const [suffix, log2, cls] of SIZES) {
  const size = log2 << 30;
  const bytes = (1 << log2) | (cls === "x" ? ACCESS_X : 0);
  const rt = reg(cls, 0);
  const status = reg("w", 16);
  const storeCheck = (w: number): string => {
    const s = bits(w, 16, 5);
    return s === bits(w, 0, 5) || (s !== 31 && s === bits(w, 5, 5)) ? "a status register other than the stored and the base register" : "";
  };
  form(`ldxr${suffix}`, 0xfffffc00, 0x085f7c00 | size, Op.LoadExclusive, [rt, address], { fields: ordered(bytes, noIss) });
  form(`ldaxr${suffix}`, 0xfffffc00, 0x085ffc00 | size, Op.LoadExclusive, [rt, address], {
    fields: ordered(bytes | ACCESS_ACQUIRE, noIss),
  });
  form(`stxr${suffix}`, 0xffe0fc00, 0x08007c00 | size, Op.StoreExclusive, [status, rt, address], {
    fields: ordered(bytes, noIss),
    check: storeCheck,
  });
  form(`stlxr${suffix}`, 0xffe0fc00, 0x0800fc00 | size, Op.StoreExclusive, [status, rt, address], {
    fields: ordered(bytes | ACCESS_RELEASE, noIss),
    check: storeCheck,
  });
  const iss = (w: number): number => issOf(log2, false, cls === "x") | ISS_AR | (bits(w, 0, 5) << 16);
  form(`ldar${suffix}`, 0xfffffc00, 0x08dffc00 | size, Op.LoadAcquire, [rt, address], { fields: ordered(bytes | ACCESS_ACQUIRE, iss) });
  form(`stlr${suffix}`, 0xfffffc00, 0x089ffc00 | size, Op.StoreRelease, [rt, address], { fields: ordered(bytes | ACCESS_RELEASE, iss) });
  form(`ldapr${suffix}`, 0xfffffc00, 0x38bfc000 | size, Op.LoadAcquire, [rt, address], {
    fields: ordered(bytes | ACCESS_ACQUIRE, iss),
    feature: "rcpc",
  });
}
for (const [cls, sz] of WIDTHS) {
  const size = (2 + sz) << 30;
  const bytes = (sz === 1 ? 8 : 4) | (sz === 1 ? ACCESS_X : 0);
  const pairFields =
    (access: number): FieldsFn =>
    (w, f) => {
      spBase(w, f);
      f[F_RA] = access;
      f[F_HI] = 2 * bits(w, 10, 5);
      return true;
    };
  const loadCheck = (w: number): string => (bits(w, 0, 5) === bits(w, 10, 5) ? "two different registers to load" : "");
  const storeCheck = (w: number): string => {
    const s = bits(w, 16, 5);
    return s === bits(w, 0, 5) || s === bits(w, 10, 5) || (s !== 31 && s === bits(w, 5, 5))
      ? "a status register other than the stored and the base registers"
      : "";
  };
  for (const [o0, acquire, release] of [
    [0, 0, 0],
    [1 << 15, ACCESS_ACQUIRE, ACCESS_RELEASE],
  ] as const) {
    form(o0 ? "ldaxp" : "ldxp", 0xffff8000, 0x087f0000 | size | o0, Op.LoadExclusivePair, [reg(cls, 0), reg(cls, 10), address], {
      fields: pairFields(bytes | acquire),
      check: loadCheck,
    });
    form(
      o0 ? "stlxp" : "stxp",
      0xffe08000,
      0x08200000 | size | o0,
      Op.StoreExclusivePair,
      [reg("w", 16), reg(cls, 0), reg(cls, 10), address],
      {
        fields: pairFields(bytes | release),
        check: storeCheck,
      },
    );
  }
}

// LSE atomics.
const ORDERS = [
  ["", 0, 0],
  ["a", 1, 0],
  ["l", 0, 1],
  ["al", 1, 1],
] as const;
const ATOMICS = [
  ["add", 0, Op.LdAdd],
  ["clr", 1, Op.LdClr],
  ["eor", 2, Op.LdEor],
  ["set", 3, Op.LdSet],
  ["smax", 4, Op.LdSmax],
  ["smin", 5, Op.LdSmin],
  ["umax", 6, Op.LdUmax],
  ["umin", 7, Op.LdUmin],
] as const;
for (const [suffix, log2, cls] of SIZES) {
  const size = log2 << 30;
  const bytes = (1 << log2) | (cls === "x" ? ACCESS_X : 0);
  for (const [order, a, l] of ORDERS) {
    const access = bytes | (a ? ACCESS_ACQUIRE : 0) | (l ? ACCESS_RELEASE : 0);
    const extra = { fields: ordered(access, noIss), feature: "lse" } as const;
    const operands = [reg(cls, 16), reg(cls, 0), address];
    for (const [name, opc, op] of ATOMICS) {
      const match = 0x38200000 | size | (a << 23) | (l << 22) | (opc << 12);
      if (a === 0) form(`st${name}${order}${suffix}`, 0xffe0fc1f, match | 31, op, [reg(cls, 16), address], extra);
      form(`ld${name}${order}${suffix}`, 0xffe0fc00, match, op, operands, extra);
    }
    form(`swp${order}${suffix}`, 0xffe0fc00, 0x38208000 | size | (a << 23) | (l << 22), Op.Swp, operands, extra);
    form(`cas${order}${suffix}`, 0xffe0fc00, 0x08a07c00 | size | (a << 22) | (l << 15), Op.Cas, operands, extra);
  }
}
for (const [cls, sz] of WIDTHS) {
  for (const [order, a, l] of ORDERS) {
    const access = (sz === 1 ? 8 | ACCESS_X : 4) | (a ? ACCESS_ACQUIRE : 0) | (l ? ACCESS_RELEASE : 0);
    form(
      `casp${order}`,
      0xffe0fc00,
      0x08207c00 | (sz << 30) | (a << 22) | (l << 15),
      Op.Casp,
      [reg(cls, 16, { even: true }), regAfter(cls, 16), reg(cls, 0, { even: true }), regAfter(cls, 0), address],
      {
        feature: "lse",
        fields: (w, f) => {
          spBase(w, f);
          f[F_RA] = access;
          return ((bits(w, 0, 5) | bits(w, 16, 5)) & 1) === 0;
        },
      },
    );
  }
}
form("clrex", 0xfffff0ff, 0xd503305f, Op.Clrex, [uimm(8, 4)]);
form("clrex", 0xffffffff, 0xd5033f5f, Op.Clrex, [], { spelling: true });

// ---- Data processing, immediate ----------------------------------------------------------------

const addImmFields =
  (spRd: boolean): FieldsFn =>
  (w, f) => {
    spBase(w, f);
    if (spRd && bits(w, 0, 5) === 31) f[F_RD] = SP_FIELD;
    f[F_LO] = bits(w, 10, 12) << (12 * bits(w, 22, 1));
    f[F_HI] = 0;
    return true;
  };
const ARITHMETIC = [
  ["add", 0, [Op.AddXImm, Op.AddWImm], [Op.AddXReg, Op.AddWReg], [Op.AddXExt, Op.AddWExt]],
  ["adds", 1, [Op.AddsXImm, Op.AddsWImm], [Op.AddsXReg, Op.AddsWReg], [Op.AddsXExt, Op.AddsWExt]],
  ["sub", 2, [Op.SubXImm, Op.SubWImm], [Op.SubXReg, Op.SubWReg], [Op.SubXExt, Op.SubWExt]],
  ["subs", 3, [Op.SubsXImm, Op.SubsWImm], [Op.SubsXReg, Op.SubsWReg], [Op.SubsXExt, Op.SubsWExt]],
] as const;
const shiftedFields =
  (cls: "x" | "w", arithmetic: boolean): FieldsFn =>
  (w, f) => {
    f[F_LO] = bits(w, 10, 6);
    // hi: the shift type, and 4 for an inverted operand.
    f[F_HI] = bits(w, 22, 2) | (arithmetic ? 0 : bits(w, 21, 1) << 2);
    return !(cls === "w" && bits(w, 15, 1) !== 0) && !(arithmetic && bits(w, 22, 2) === 3);
  };
const extendedFields =
  (spRd: boolean): FieldsFn =>
  (w, f) => {
    spBase(w, f);
    if (spRd && bits(w, 0, 5) === 31) f[F_RD] = SP_FIELD;
    f[F_HI] = bits(w, 13, 3);
    f[F_LO] = bits(w, 10, 3);
    return bits(w, 10, 3) <= 4;
  };

for (const [cls, sf] of WIDTHS) {
  const top = sf << 31;
  const i = 1 - sf;
  const sp = { sp: true };
  // mov to or from sp is add #0.
  const movSp = { fields: addImmFields(true) };
  form("mov", 0xffffffe0, 0x110003e0 | top, ARITHMETIC[0][2][i]!, [reg(cls, 0, sp), stackPointer(cls)], movSp);
  form("mov", 0xfffffc1f, 0x1100001f | top, ARITHMETIC[0][2][i]!, [stackPointer(cls), reg(cls, 5, sp)], movSp);
  for (const [name, bitsOf, imm, register, ext] of ARITHMETIC) {
    const flags = (bitsOf & 1) !== 0;
    const opc = bitsOf & 1 ? (bitsOf >> 1 ? 3 : 1) : bitsOf >> 1 ? 2 : 0;
    const match = (opc << 29) | top;
    const compare = name === "adds" ? "cmn" : name === "subs" ? "cmp" : "";
    const immExtra = { fields: addImmFields(!flags) };
    const regExtra = { fields: shiftedFields(cls, true) };
    const extExtra = { fields: extendedFields(!flags) };
    if (compare !== "") {
      form(compare, 0xff80001f, 0x1100001f | match, imm[i]!, [reg(cls, 5, sp), addImmediate], immExtra);
      form(compare, 0xff20001f, 0x0b00001f | match, register[i]!, [reg(cls, 5), shiftedReg(cls, false)], regExtra);
      form(compare, 0xffe0001f, 0x0b20001f | match, ext[i]!, [reg(cls, 5, sp), extendedReg(cls)], extExtra);
    }
    if (name === "sub" || name === "subs") {
      const negate = name === "sub" ? "neg" : "negs";
      form(negate, 0xff2003e0, 0x0b0003e0 | match, register[i]!, [reg(cls, 0), shiftedReg(cls, false)], regExtra);
    }
    form(name, 0xff800000, 0x11000000 | match, imm[i]!, [reg(cls, 0, flags ? {} : sp), reg(cls, 5, sp), addImmediate], immExtra);
    form(name, 0xff200000, 0x0b000000 | match, register[i]!, [reg(cls, 0), reg(cls, 5), shiftedReg(cls, false)], regExtra);
    form(name, 0xffe00000, 0x0b200000 | match, ext[i]!, [reg(cls, 0, flags ? {} : sp), reg(cls, 5, sp), extendedReg(cls)], extExtra);
  }

  const logicImm: FieldsFn = (w, f) => {
    const value = decodeLogical(bits(w, 10, 13), sf === 1 ? 64 : 32);
    if (value < 0n) return false;
    f[F_RM] = 0; // immr is no register
    constant(f, value);
    return true;
  };
  const logicImmSp: FieldsFn = (w, f) => {
    if (bits(w, 0, 5) === 31) f[F_RD] = SP_FIELD;
    return logicImm(w, f);
  };
  const LOGIC = [
    ["and", 0, [Op.AndXImm, Op.AndWImm], [Op.AndXReg, Op.AndWReg], "bic"],
    ["orr", 1, [Op.OrrXImm, Op.OrrWImm], [Op.OrrXReg, Op.OrrWReg], "orn"],
    ["eor", 2, [Op.EorXImm, Op.EorWImm], [Op.EorXReg, Op.EorWReg], "eon"],
    ["ands", 3, [Op.AndsXImm, Op.AndsWImm], [Op.AndsXReg, Op.AndsWReg], "bics"],
  ] as const;
  const regFields = { fields: shiftedFields(cls, false) };
  // Moves first: as aliases they print, and `mov x0, #imm` tries movz, movn, orr in this order.
  form("mov", 0xffe0ffe0, 0x2a0003e0 | top, LOGIC[1][3][i]!, [reg(cls, 0), reg(cls, 16)], regFields);
  form("mvn", 0xff2003e0, 0x2a2003e0 | top, LOGIC[1][3][i]!, [reg(cls, 0), shiftedReg(cls, true)], regFields);
  const movz: FieldsFn = (w, f) => {
    constant(f, BigInt(bits(w, 5, 16)) << BigInt(16 * bits(w, 21, 2)));
    return sf === 1 || bits(w, 21, 2) < 2;
  };
  const movn: FieldsFn = (w, f) => {
    constant(f, BigInt.asUintN(sf === 1 ? 64 : 32, ~(BigInt(bits(w, 5, 16)) << BigInt(16 * bits(w, 21, 2)))));
    return sf === 1 || bits(w, 21, 2) < 2;
  };
  const movk: FieldsFn = (w, f) => {
    f[F_LO] = bits(w, 5, 16);
    f[F_HI] = 16 * bits(w, 21, 2);
    return sf === 1 || bits(w, 21, 2) < 2;
  };
  form("mov", 0xff800000, 0x52800000 | top, Op.MovConst, [reg(cls, 0), movImmediate(cls, false)], { fields: movz, spelling: true });
  form("mov", 0xff800000, 0x12800000 | top, Op.MovConst, [reg(cls, 0), movImmediate(cls, true)], { fields: movn, spelling: true });
  form("mov", 0xff8003e0, 0x320003e0 | top, LOGIC[1][2][i]!, [reg(cls, 0, sp), logicalImmediate(cls)], {
    fields: logicImmSp,
    spelling: true,
  });
  form("movz", 0xff800000, 0x52800000 | top, Op.MovConst, [reg(cls, 0), wideImmediate(cls)], { fields: movz });
  form("movn", 0xff800000, 0x12800000 | top, Op.MovConst, [reg(cls, 0), wideImmediate(cls)], { fields: movn });
  form("movk", 0xff800000, 0x72800000 | top, sf === 1 ? Op.MovkX : Op.MovkW, [reg(cls, 0), wideImmediate(cls)], { fields: movk });
  form("tst", 0xff80001f, 0x7200001f | top, LOGIC[3][2][i]!, [reg(cls, 5), logicalImmediate(cls)], { fields: logicImm });
  form("tst", 0xff20001f, 0x6a00001f | top, LOGIC[3][3][i]!, [reg(cls, 5), shiftedReg(cls, true)], regFields);
  for (const [name, opc, imm, register, inverted] of LOGIC) {
    const match = (opc << 29) | top;
    const immSp = name === "ands" ? {} : sp;
    form(name, 0xff800000, 0x12000000 | match, imm[i]!, [reg(cls, 0, immSp), reg(cls, 5), logicalImmediate(cls)], {
      fields: name === "ands" ? logicImm : logicImmSp,
    });
    form(name, 0xff200000, 0x0a000000 | match, register[i]!, [reg(cls, 0), reg(cls, 5), shiftedReg(cls, true)], regFields);
    form(inverted, 0xff200000, 0x0a200000 | match, register[i]!, [reg(cls, 0), reg(cls, 5), shiftedReg(cls, true)], regFields);
  }

  // Bit fields: lo = immr, hi = imms.
  const bitfield: FieldsFn = (w, f) => {
    f[F_LO] = bits(w, 16, 6);
    f[F_HI] = bits(w, 10, 6);
    return sf === 1 || (bits(w, 16, 6) < 32 && bits(w, 10, 6) < 32);
  };
  const bf = { fields: bitfield };
  const bfMask = 0xffc00000;
  const n = sf << 22;
  const last = sf === 1 ? 63 : 31;
  const sbfm = 0x13000000 | top | n;
  const bfm = 0x33000000 | top | n;
  const ubfm = 0x53000000 | top | n;
  const sbfmOp = sf === 1 ? Op.SbfmX : Op.SbfmW;
  const bfmOp = sf === 1 ? Op.BfmX : Op.BfmW;
  const ubfmOp = sf === 1 ? Op.UbfmX : Op.UbfmW;
  const rdRn = [reg(cls, 0), reg(cls, 5)];
  const rdWn = [reg(cls, 0), reg("w", 5)];
  // immr:imms of the extensions: 0 and the last bit.
  const ext = (match: number, top5: number): number => match | (top5 << 10);
  form("sxtb", 0xfffffc00, ext(sbfm, 7), sbfmOp, rdWn, bf);
  form("sxth", 0xfffffc00, ext(sbfm, 15), sbfmOp, rdWn, bf);
  if (sf === 1) form("sxtw", 0xfffffc00, ext(sbfm, 31), sbfmOp, rdWn, bf);
  if (sf === 0) form("uxtb", 0xfffffc00, ext(ubfm, 7), ubfmOp, rdRn, bf);
  if (sf === 0) form("uxth", 0xfffffc00, ext(ubfm, 15), ubfmOp, rdRn, bf);
  form("asr", 0xffc0fc00, sbfm | (last << 10), sbfmOp, [...rdRn, lsbWidth(cls, "lsr")], bf);
  form("lsr", 0xffc0fc00, ubfm | (last << 10), ubfmOp, [...rdRn, lsbWidth(cls, "lsr")], bf);
  form("lsl", bfMask, ubfm, ubfmOp, [...rdRn, lsbWidth(cls, "lsl")], {
    fields: (w, f) => bitfield(w, f) && bits(w, 10, 6) + 1 === bits(w, 16, 6),
  });
  const insertOnly: FieldsFn = (w, f) => bitfield(w, f) && bits(w, 10, 6) < bits(w, 16, 6);
  const extractOnly: FieldsFn = (w, f) => bitfield(w, f) && bits(w, 10, 6) >= bits(w, 16, 6);
  form("sbfiz", bfMask, sbfm, sbfmOp, [...rdRn, lsbWidth(cls, "insert")], { fields: insertOnly });
  form("sbfx", bfMask, sbfm, sbfmOp, [...rdRn, lsbWidth(cls, "extract")], { fields: extractOnly });
  form("bfi", bfMask, bfm, bfmOp, [...rdRn, lsbWidth(cls, "insert")], { fields: insertOnly });
  form("bfxil", bfMask, bfm, bfmOp, [...rdRn, lsbWidth(cls, "extract")], { fields: extractOnly });
  form("ubfiz", bfMask, ubfm, ubfmOp, [...rdRn, lsbWidth(cls, "insert")], { fields: insertOnly });
  form("ubfx", bfMask, ubfm, ubfmOp, [...rdRn, lsbWidth(cls, "extract")], { fields: extractOnly });
  const six = [...rdRn, uimm(16, 6, { max: last }), uimm(10, 6, { max: last })];
  form("sbfm", bfMask, sbfm, sbfmOp, six, { ...bf, spelling: true });
  form("bfm", bfMask, bfm, bfmOp, six, { ...bf, spelling: true });
  form("ubfm", bfMask, ubfm, ubfmOp, six, { ...bf, spelling: true });
  const extr: FieldsFn = (w, f) => {
    f[F_LO] = bits(w, 10, 6);
    return sf === 1 || bits(w, 10, 6) < 32;
  };
  const extrMatch = 0x13800000 | top | n;
  const extrOp = sf === 1 ? Op.ExtrX : Op.ExtrW;
  form("ror", 0xffe00000, extrMatch, extrOp, [reg(cls, 0), regTwice(cls, 5, 16), uimm(10, 6, { max: last })], {
    fields: (w, f) => extr(w, f) && bits(w, 5, 5) === bits(w, 16, 5),
  });
  form("extr", 0xffe00000, extrMatch, extrOp, [reg(cls, 0), reg(cls, 5), reg(cls, 16), uimm(10, 6, { max: last })], { fields: extr });

  // Two, one and three sources.
  const pick = (x: Op, w: Op): Op => (sf === 1 ? x : w);
  const two = [reg(cls, 0), reg(cls, 5), reg(cls, 16)];
  for (const [names, opcode, op] of [
    [["udiv"], 2, pick(Op.UdivX, Op.UdivW)],
    [["sdiv"], 3, pick(Op.SdivX, Op.SdivW)],
    [["lsl", "lslv"], 8, pick(Op.LslvX, Op.LslvW)],
    [["lsr", "lsrv"], 9, pick(Op.LsrvX, Op.LsrvW)],
    [["asr", "asrv"], 10, pick(Op.AsrvX, Op.AsrvW)],
    [["ror", "rorv"], 11, pick(Op.RorvX, Op.RorvW)],
  ] as const) {
    for (const [k, name] of names.entries())
      form(name, 0xffe0fc00, 0x1ac00000 | top | (opcode << 10), op, two, k > 0 ? { spelling: true } : {});
  }
  const one = [reg(cls, 0), reg(cls, 5)];
  form("rbit", 0xfffffc00, 0x5ac00000 | top, pick(Op.RbitX, Op.RbitW), one);
  form("rev16", 0xfffffc00, 0x5ac00400 | top, pick(Op.Rev16X, Op.Rev16W), one);
  if (sf === 1) form("rev32", 0xfffffc00, 0x5ac00800 | top, Op.Rev32X, one);
  form("rev", 0xfffffc00, (sf === 1 ? 0x5ac00c00 : 0x5ac00800) | top, pick(Op.RevX, Op.RevW), one);
  form("clz", 0xfffffc00, 0x5ac01000 | top, pick(Op.ClzX, Op.ClzW), one);
  const three = { fields: (w: number, f: Int32Array): boolean => ((f[F_RA] = 2 * bits(w, 10, 5)), true) };
  form("mul", 0xffe0fc00, 0x1b007c00 | top, pick(Op.MaddX, Op.MaddW), two, three);
  form("madd", 0xffe08000, 0x1b000000 | top, pick(Op.MaddX, Op.MaddW), [...two, reg(cls, 10)], three);
  form("mneg", 0xffe0fc00, 0x1b00fc00 | top, pick(Op.MsubX, Op.MsubW), two, three);
  form("msub", 0xffe08000, 0x1b008000 | top, pick(Op.MsubX, Op.MsubW), [...two, reg(cls, 10)], three);

  // Conditional select: lo = condition.
  const select = { fields: (w: number, f: Int32Array): boolean => ((f[F_LO] = bits(w, 12, 4)), true) };
  const notAlways: FieldsFn = (w, f) => ((f[F_LO] = bits(w, 12, 4)), bits(w, 13, 3) !== 7);
  const sel = 0x1a800000 | top;
  const csinc = pick(Op.CsincX, Op.CsincW);
  const csinv = pick(Op.CsinvX, Op.CsinvW);
  form("cset", 0xffff0fe0, sel | 0x001f07e0, csinc, [reg(cls, 0), condition(true)], { fields: notAlways });
  form("csetm", 0xffff0fe0, sel | 0x401f03e0, csinv, [reg(cls, 0), condition(true)], { fields: notAlways });
  form("csel", 0xffe00c00, sel, pick(Op.CselX, Op.CselW), [...two, condition(false)], select);
  form("csinc", 0xffe00c00, sel | 0x400, csinc, [...two, condition(false)], select);
  form("csinv", 0xffe00c00, sel | 0x40000000, csinv, [...two, condition(false)], select);
  form("csneg", 0xffe00c00, sel | 0x40000400, pick(Op.CsnegX, Op.CsnegW), [...two, condition(false)], select);
}

const adr: FieldsFn = (w, f) => {
  f[F_LO] = (signedBits(w, 5, 19) * 4) | bits(w, 29, 2);
  return true;
};
form("adr", 0x9f000000, 0x10000000, Op.Adr, [reg("x", 0), adrTarget(false)], { fields: adr });
form("adrp", 0x9f000000, 0x90000000, Op.Adrp, [reg("x", 0), adrTarget(true)], { fields: adr });

// ---- Branches, exceptions ----------------------------------------------------------------------

const offset26: FieldsFn = (w, f) => ((f[F_LO] = signedBits(w, 0, 26) * 4), true);
form("b", 0xfc000000, 0x14000000, Op.B, [branchTarget(0, 26)], { fields: offset26 });
form("bl", 0xfc000000, 0x94000000, Op.Bl, [branchTarget(0, 26)], { fields: offset26 });
const bcond: FieldsFn = (w, f) => {
  f[F_LO] = signedBits(w, 5, 19) * 4;
  f[F_HI] = bits(w, 0, 4);
  return true;
};
for (const [n, name] of CONDITIONS.entries())
  form(`b.${name}`, 0xff00001f, 0x54000000 | n, Op.BCond, [branchTarget(5, 19)], { fields: bcond });
for (const [name, n] of Object.entries(CONDITION_ALIASES)) {
  form(`b.${name}`, 0xff00001f, 0x54000000 | n, Op.BCond, [branchTarget(5, 19)], { fields: bcond, spelling: true });
}
const offset19: FieldsFn = (w, f) => ((f[F_LO] = signedBits(w, 5, 19) * 4), true);
for (const [cls, sf] of WIDTHS) {
  const rt = reg(cls, 0);
  form("cbz", 0xff000000, 0x34000000 | (sf << 31), sf === 1 ? Op.CbzX : Op.CbzW, [rt, branchTarget(5, 19)], { fields: offset19 });
  form("cbnz", 0xff000000, 0x35000000 | (sf << 31), sf === 1 ? Op.CbnzX : Op.CbnzW, [rt, branchTarget(5, 19)], { fields: offset19 });
  const test: FieldsFn = (w, f) => {
    f[F_LO] = signedBits(w, 5, 14) * 4;
    // rm: word of the register that holds the bit, hi: its number there.
    f[F_HI] = bits(w, 19, 5);
    f[F_RA] = sf;
    return true;
  };
  form("tbz", 0xff000000, 0x36000000 | (sf << 31), Op.Tbz, [rt, testBit(cls), branchTarget(5, 14)], { fields: test });
  form("tbnz", 0xff000000, 0x37000000 | (sf << 31), Op.Tbnz, [rt, testBit(cls), branchTarget(5, 14)], { fields: test });
}
form("br", 0xfffffc1f, 0xd61f0000, Op.Br, [reg("x", 5)]);
form("blr", 0xfffffc1f, 0xd63f0000, Op.Blr, [reg("x", 5)]);
form("ret", 0xffffffff, 0xd65f03c0, Op.Ret, []);
form("ret", 0xfffffc1f, 0xd65f0000, Op.Ret, [reg("x", 5)]);
form("eret", 0xffffffff, 0xd69f03e0, Op.Eret, []);
const imm16: FieldsFn = (w, f) => ((f[F_LO] = bits(w, 5, 16)), true);
for (const [name, match, op] of [
  ["svc", 0xd4000001, Op.Svc],
  ["hvc", 0xd4000002, Op.Hvc],
  ["smc", 0xd4000003, Op.Smc],
  ["brk", 0xd4200000, Op.Brk],
] as const) {
  form(name, 0xffe0001f, match, op, [uimm(5, 16)], { fields: imm16 });
}

// ---- System ------------------------------------------------------------------------------------

for (const [name, n] of Object.entries(HINTS)) {
  form(name, 0xffffffff, 0xd503201f | (n << 5), name === "wfi" ? Op.Wfi : name === "wfe" ? Op.Wfe : Op.Nop, []);
}
const BTI_TARGETS: Readonly<Record<string, number>> = { c: 1, j: 2, jc: 3 };
form("bti", 0xffffffff, 0xd503241f, Op.Nop, []);
form("bti", 0xffffff3f, 0xd503241f, Op.Nop, [named(BTI_TARGETS, 6, 2, "c, j or jc")]);
form("hint", 0xfffff01f, 0xd503201f, Op.Nop, [uimm(5, 7)]);

const crm: FieldsFn = (w, f) => ((f[F_LO] = bits(w, 8, 4)), true);
const barrier = namedOrNumber(BARRIER_OPTIONS, 8, 4, "a barrier option: sy, st, ld, ish, …");
form("dsb", 0xfffff0ff, 0xd503309f, Op.Dsb, [barrier], { fields: crm });
form("dsb", 0xfffff3ff, 0xd503323f, Op.DsbNxs, [named(BARRIER_NXS, 10, 2, "a barrier option: synxs, ishnxs, …")], {
  feature: "xs",
  fields: (w, f) => ((f[F_LO] = (bits(w, 10, 2) << 2) | 3), true),
});
form("dmb", 0xfffff0ff, 0xd50330bf, Op.Dmb, [barrier], { fields: crm });
form("isb", 0xffffffff, 0xd5033fdf, Op.Isb, []);
form("isb", 0xfffff0ff, 0xd50330df, Op.Isb, [namedOrNumber({ sy: 15 }, 8, 4, "sy")]);

const pstateImm: FieldsFn = (w, f) => {
  f[F_LO] = bits(w, 8, 4);
  f[F_HI] = (bits(w, 16, 3) << 3) | bits(w, 5, 3);
  return true;
};
for (const p of PSTATE_FIELDS) {
  const max = p.name.startsWith("daif") ? 15 : 1;
  form(
    "msr",
    max === 1 ? 0xfffffeff : 0xfffff0ff,
    0xd500401f | (p.op1 << 16) | (p.op2 << 5),
    Op.MsrImm,
    [named({ [p.name]: 0 }, 0, 0, "a PSTATE field"), uimm(8, max === 1 ? 1 : 4)],
    {
      fields: pstateImm,
      feature: p.feature,
    },
  );
}

const sysreg: Operand = {
  read(r) {
    const at = r.position;
    const name = r.peekName();
    const n = sysregByName(name);
    const key = n >= 0 ? SYSREGS[n]!.key : parseGenericName(name);
    if (key < 0) throw r.fail("a system register", at, SYSREG_NAMES);
    r.name();
    r.put(key & 0x7fff, 5);
    r.put(key >> 14, 19);
  },
  write(w) {
    const key = bits(w, 5, 16);
    const n = sysregByKey(key);
    return n >= 0 ? SYSREGS[n]!.name : genericName(key);
  },
};
/** lo: number in SYSREGS; -1 an unallocated identification register. */
const sysregFields: FieldsFn = (w, f) => {
  const key = bits(w, 5, 16);
  const n = sysregByKey(key);
  f[F_LO] = n;
  // What is in no table decodes too, so that a disassembler can show it; the CPU makes it Undefined.
  f[F_HI] = n >= 0 ? 0 : isIdSpace(key) ? 1 : 2;
  return true;
};
form("mrs", 0xfff00000, 0xd5300000, Op.Mrs, [reg("x", 0), sysreg], { fields: sysregFields });
form("msr", 0xfff00000, 0xd5100000, Op.Msr, [sysreg, reg("x", 0)], { fields: sysregFields });

function system(mnemonic: string, op: Op, ops: readonly SysOp[], what: string): void {
  // One form for each operation, so that a feature can belong to it; the reader offers all names.
  const names = Object.fromEntries(ops.map((o) => [o.name, o.key]));
  for (const o of ops) {
    const operand: Operand = {
      read(r) {
        const at = r.position;
        if (r.peekName() !== o.name) throw r.fail(what, at, Object.keys(names));
        r.name();
      },
      write: () => o.name,
    };
    const match = 0xd5080000 | (o.key << 5);
    const fields: FieldsFn = (_, f) => {
      f[F_LO] = o.id;
      f[F_HI] = o.el0 ? 1 : 0;
      return true;
    };
    const extra = { fields, feature: o.feature };
    if (o.register) form(mnemonic, 0xffffffe0, match, op, [operand, reg("x", 0)], extra);
    else form(mnemonic, 0xffffffff, match | 31, op, [operand], extra);
  }
}
system("dc", Op.Dc, DC_OPS, "a data cache operation");
system("ic", Op.Ic, IC_OPS, "an instruction cache operation");
system("at", Op.At, AT_OPS, "an address translation operation");
system("tlbi", Op.Tlbi, TLBI_OPS, "a TLB operation");

// ---- SIMD&FP moves -----------------------------------------------------------------------------

form("fmov", 0xfffffc00, 0x9e670000, Op.FmovToD, [reg("d", 0), reg("x", 5)]);
form("fmov", 0xfffffc00, 0x9e660000, Op.FmovFromD, [reg("x", 0), reg("d", 5)]);
form("fmov", 0xfffffc00, 0x1e270000, Op.FmovToS, [reg("s", 0), reg("w", 5)]);
form("fmov", 0xfffffc00, 0x1e260000, Op.FmovFromS, [reg("w", 0), reg("s", 5)]);
const topHalf = (at: number): Operand => {
  return {
    read(r) {
      const start = r.position;
      const m = /^v(\d{1,2})\.d$/.exec(r.peekName());
      if (m === null || Number(m[1]) > 31) throw r.fail("v0.d[1] to v31.d[1]", start);
      r.name();
      r.expect("[");
      r.immediateIn("1", 1n, 1n);
      r.expect("]");
      r.put(Number(m[1]), at);
    },
    write: (w) => `v${bits(w, at, 5)}.d[1]`,
  };
};
form("fmov", 0xfffffc00, 0x9eaf0000, Op.FmovToTop, [topHalf(0), reg("x", 5)]);
form("fmov", 0xfffffc00, 0x9eae0000, Op.FmovFromTop, [reg("x", 0), topHalf(5)]);

/** Every form, in the order in which decoding tries them. */
export const FORMS: readonly Form[] = forms;
/** Forms of a mnemonic. */
export const FORMS_BY_MNEMONIC: ReadonlyMap<string, readonly Form[]> = (() => {
  const map = new Map<string, Form[]>();
  for (const f of forms) {
    const list = map.get(f.mnemonic);
    if (list === undefined) map.set(f.mnemonic, [f]);
    else list.push(f);
  }
  return map;
})();
/** Every mnemonic, for messages and completion. */
export const MNEMONICS: readonly string[] = [...FORMS_BY_MNEMONIC.keys()];
