/**
 * The operands of A64 instructions: how each is read from text into the instruction's fields, and how
 * it is written back from them. What the fields mean for execution is with the forms (a64forms.ts).
 */
import { CONDITION_ALIASES, CONDITIONS } from "./a64system.js";
import type { OperandReader } from "./a64reader.js";

export interface Operand {
  read(r: OperandReader): void;
  write(word: number): string;
}

/** Bits [at + width - 1 : at] of a word. */
export function bits(word: number, at: number, width: number): number {
  return (word >>> at) & ((1 << width) - 1);
}
export function signedBits(word: number, at: number, width: number): number {
  return (word << (32 - at - width)) >> (32 - width);
}

const REGISTER = /^(?:([xwqdshb])(\d{1,2})|(sp|wsp|xzr|wzr|lr))$/;

/** Number of a register name in a class, or -1. 31 is the zero register or the stack pointer, as the class says. */
function registerNumber(name: string, cls: string, sp: boolean): number {
  const m = REGISTER.exec(name);
  if (m === null) return -1;
  if (m[1] !== undefined) {
    const n = Number(m[2]);
    const integer = cls === "x" || cls === "w";
    return m[1] === cls && n < (integer ? 31 : 32) ? n : -1;
  }
  if (name === "lr") return cls === "x" ? 30 : -1;
  const special = cls === "x" ? (sp ? "sp" : "xzr") : cls === "w" ? (sp ? "wsp" : "wzr") : "";
  return name === special ? 31 : -1;
}

function registerName(n: number, cls: string, sp: boolean): string {
  if (n < 31 || (cls !== "x" && cls !== "w")) return `${cls}${n}`;
  return cls === "x" ? (sp ? "sp" : "xzr") : sp ? "wsp" : "wzr";
}

function whatRegister(cls: string, sp: boolean): string {
  switch (cls) {
    case "x":
      return sp ? "a register x0 to x30 or sp" : "a register x0 to x30 or xzr";
    case "w":
      return sp ? "a register w0 to w30 or wsp" : "a register w0 to w30 or wzr";
    default:
      return `a register ${cls}0 to ${cls}31`;
  }
}

/** Takes a register of a class. */
export function readRegister(r: OperandReader, cls: string, sp = false): number {
  const at = r.position;
  const name = r.peekName();
  const n = registerNumber(name, cls, sp);
  if (n < 0) throw r.fail(whatRegister(cls, sp), at);
  r.name();
  return n;
}

/** A register in one field; `even` for the first of a CASP pair. */
export function reg(cls: string, at: number, options: { sp?: boolean; even?: boolean } = {}): Operand {
  const sp = options.sp === true;
  return {
    read(r) {
      const start = r.position;
      const n = readRegister(r, cls, sp);
      if (options.even === true && (n & 1) !== 0) throw r.fail("an even-numbered register", start);
      r.put(n, at);
    },
    write: (w) => registerName(bits(w, at, 5), cls, sp),
  };
}
/** The stack pointer itself, where the register is fixed (`mov x0, sp`). */
export function stackPointer(cls: "x" | "w"): Operand {
  const name = cls === "x" ? "sp" : "wsp";
  return {
    read(r) {
      const at = r.position;
      if (r.peekName() !== name) throw r.fail(name, at);
      r.name();
    },
    write: () => name,
  };
}
/** One register in two fields (`ror x0, x1, #3` is `extr x0, x1, x1, #3`). */
export function regTwice(cls: string, at: number, also: number): Operand {
  return {
    read(r) {
      const n = readRegister(r, cls);
      r.put(n, at);
      r.put(n, also);
    },
    write: (w) => registerName(bits(w, at, 5), cls, false),
  };
}
/** The second register of a CASP pair: the one after the first. */
export function regAfter(cls: string, at: number): Operand {
  return {
    read(r) {
      const start = r.position;
      const n = readRegister(r, cls);
      const first = bits(r.word, at, 5);
      if (n !== (first === 30 ? 31 : first + 1)) throw r.fail(`the register after ${registerName(first, cls, false)}`, start);
    },
    write: (w) => registerName(Math.min(bits(w, at, 5) + 1, 31), cls, false),
  };
}

/** An unsigned immediate in one field, scaled. */
export function uimm(at: number, width: number, options: { scale?: number; max?: number; what?: string } = {}): Operand {
  const scale = options.scale ?? 1;
  const max = options.max ?? ((1 << width) - 1) * scale;
  const what = options.what ?? `an immediate #0 to #${max}${scale > 1 ? ` in steps of ${scale}` : ""}`;
  return {
    read(r) {
      r.put(Number(r.immediateIn(what, 0n, BigInt(max), BigInt(scale))) / scale, at);
    },
    write: (w) => `#${bits(w, at, width) * scale}`,
  };
}

/** A 12-bit immediate, possibly shifted left by 12 (ADD, SUB). */
export const addImmediate: Operand = {
  read(r) {
    const start = r.position;
    const v = r.immediate("an immediate #0 to #4095, or that shifted left by 12");
    let shift = 0;
    if (r.accept(",")) {
      if (r.name() !== "lsl") throw r.fail("lsl #0 or lsl #12");
      shift = Number(r.immediate("#0 or #12"));
      if (shift !== 0 && shift !== 12) throw r.fail("#0 or #12", start);
    }
    if (v >= 0n && v <= 4095n) {
      r.put(Number(v), 10);
      r.put(shift === 12 ? 1 : 0, 22);
    } else if (shift === 0 && v > 0n && v <= 0xfff000n && (v & 0xfffn) === 0n) {
      r.put(Number(v >> 12n), 10);
      r.put(1, 22);
    } else throw r.fail("an immediate #0 to #4095, or that shifted left by 12", start);
  },
  write: (w) => `#${bits(w, 10, 12)}${bits(w, 22, 1) !== 0 ? ", lsl #12" : ""}`,
};

const SHIFTS: Readonly<Record<string, number>> = { lsl: 0, lsr: 1, asr: 2, ror: 3 };
export const SHIFT_NAMES = ["lsl", "lsr", "asr", "ror"];

/** Rm with an optional shift (ADD and logic, shifted register). */
export function shiftedReg(cls: "x" | "w", ror: boolean): Operand {
  const max = cls === "x" ? 63 : 31;
  const names = ror ? SHIFTS : { lsl: 0, lsr: 1, asr: 2 };
  return {
    read(r) {
      r.put(readRegister(r, cls), 16);
      if (!r.accept(",")) return;
      r.put(r.oneOf(names, `a shift: ${Object.keys(names).join(", ")}`), 22);
      r.put(Number(r.immediateIn(`a shift amount #0 to #${max}`, 0n, BigInt(max))), 10);
    },
    write(w) {
      const rm = registerName(bits(w, 16, 5), cls, false);
      const amount = bits(w, 10, 6);
      const type = bits(w, 22, 2);
      return amount === 0 && type === 0 ? rm : `${rm}, ${SHIFT_NAMES[type]} #${amount}`;
    },
  };
}

const EXTENDS: Readonly<Record<string, number>> = { uxtb: 0, uxth: 1, uxtw: 2, uxtx: 3, sxtb: 4, sxth: 5, sxtw: 6, sxtx: 7 };
export const EXTEND_NAMES = Object.keys(EXTENDS);

/** Rm with an extension (ADD, SUB extended register). `lsl` stands for the extension of the full width. */
export function extendedReg(cls: "x" | "w"): Operand {
  const full = cls === "x" ? 3 : 2;
  return {
    read(r) {
      const start = r.position;
      const name = r.peekName();
      const wide = cls === "x" && registerNumber(name, "x", false) >= 0;
      r.put(readRegister(r, wide ? "x" : "w"), 16);
      if (!r.accept(",")) {
        if (cls === "x" && !wide) throw r.fail("an extension", r.position);
        r.put(full, 13);
        return;
      }
      const ext = r.oneOf({ ...EXTENDS, lsl: full }, "an extension: uxtb to sxtx, or lsl");
      if (wide !== (cls === "x" && (ext & 3) === 3)) throw r.fail("a register as wide as the extension takes", start);
      r.put(ext, 13);
      if (r.immediateAhead()) r.put(Number(r.immediateIn("a shift amount #0 to #4", 0n, 4n)), 10);
    },
    write(w) {
      const ext = bits(w, 13, 3);
      const amount = bits(w, 10, 3);
      const rm = registerName(bits(w, 16, 5), cls === "x" && (ext & 3) === 3 ? "x" : "w", false);
      // Where a stack pointer is involved there is no shifted form, and the full extension reads as lsl.
      const sp = bits(w, 5, 5) === 31 || (bits(w, 0, 5) === 31 && bits(w, 29, 1) === 0);
      if (ext === full && sp) return amount === 0 ? rm : `${rm}, lsl #${amount}`;
      return `${rm}, ${EXTEND_NAMES[ext]}${amount === 0 ? "" : ` #${amount}`}`;
    },
  };
}

/** Encodes a logical immediate of `size` bits as N:immr:imms, or -1 (Arm ARM: DecodeBitMasks, inverted). */
export function encodeLogical(value: bigint, size: 32 | 64): number {
  let v = BigInt.asUintN(64, value);
  if (size === 32) {
    if (v >> 32n !== 0n && v >> 32n !== 0xffffffffn) return -1;
    v = BigInt.asUintN(32, v);
    v |= v << 32n;
  }
  if (v === 0n || v === 0xffffffffffffffffn) return -1;
  let element = 64;
  while (element > 2) {
    const half = BigInt(element / 2);
    const mask = (1n << half) - 1n;
    if ((v & mask) !== ((v >> half) & mask)) break;
    element /= 2;
  }
  const e = BigInt(element);
  const mask = (1n << e) - 1n;
  const pattern = v & mask;
  for (let rotation = 0; rotation < element; rotation++) {
    const r = BigInt(rotation);
    // Rotating left by the amount that the hardware rotates right gives a run of ones from bit 0.
    const run = ((pattern << r) | (pattern >> (e - r))) & mask;
    if ((run & (run + 1n)) !== 0n) continue;
    let ones = 0;
    for (let t = run; t !== 0n; t >>= 1n) ones++;
    const imms = ((~(element * 2 - 1) & 0x3f) | (ones - 1)) & 0x3f;
    return ((element === 64 ? 1 : 0) << 12) | (rotation << 6) | imms;
  }
  return -1;
}

/** The logical immediate of N:immr:imms as a 64-bit value, or -1n for a reserved combination. */
export function decodeLogical(fields: number, size: 32 | 64): bigint {
  const n = fields >> 12;
  const immr = (fields >> 6) & 63;
  const imms = fields & 63;
  if (size === 32 && n !== 0) return -1n;
  const combined = (n << 6) | (~imms & 63);
  if (combined === 0) return -1n;
  const len = 31 - Math.clz32(combined);
  if (len < 1) return -1n;
  const element = 1 << len;
  const levels = element - 1;
  const s = imms & levels;
  const rot = immr & levels;
  if (s === levels) return -1n;
  const e = BigInt(element);
  const mask = (1n << e) - 1n;
  const ones = (1n << BigInt(s + 1)) - 1n;
  let pattern = ((ones >> BigInt(rot)) | (ones << (e - BigInt(rot)))) & mask;
  for (let width = e; width < BigInt(size); width *= 2n) pattern |= pattern << width;
  return pattern;
}

/** A logical immediate (AND, ORR, EOR, ANDS). */
export function logicalImmediate(cls: "x" | "w"): Operand {
  const size = cls === "x" ? 64 : 32;
  return {
    read(r) {
      const start = r.position;
      const fields = encodeLogical(r.immediate("a bit mask"), size);
      if (fields < 0) throw r.fail("a bit mask: a rotated run of ones, repeated", start);
      r.put(fields, 10);
    },
    write: (w) => `#0x${decodeLogical(bits(w, 10, 13), size).toString(16)}`,
  };
}

/** imm16 with an optional `lsl` of a multiple of 16 (MOVZ, MOVN, MOVK). */
export function wideImmediate(cls: "x" | "w"): Operand {
  const max = cls === "x" ? 48 : 16;
  return {
    read(r) {
      r.put(Number(r.immediateIn("an immediate #0 to #0xffff", 0n, 0xffffn)), 5);
      if (!r.accept(",")) return;
      r.oneOf({ lsl: 0 }, "lsl");
      r.put(Number(r.immediateIn(`a shift #0 to #${max} in steps of 16`, 0n, BigInt(max), 16n)) / 16, 21);
    },
    write(w) {
      const hw = bits(w, 21, 2);
      return `#0x${bits(w, 5, 16).toString(16)}${hw === 0 ? "" : `, lsl #${hw * 16}`}`;
    },
  };
}
/** The value of MOVZ or MOVN as one immediate (the alias `mov`). */
export function movImmediate(cls: "x" | "w", inverted: boolean): Operand {
  const size = cls === "x" ? 64 : 32;
  return {
    read(r) {
      const start = r.position;
      const value = r.immediate("an immediate");
      if (value < -(1n << BigInt(size - 1)) || value >= 1n << BigInt(size)) throw r.fail(`an immediate of ${size} bits`, start);
      let v = BigInt.asUintN(size, value);
      if (inverted) v = BigInt.asUintN(size, ~v);
      for (let hw = 0; hw < size / 16; hw++) {
        const part = (v >> BigInt(16 * hw)) & 0xffffn;
        if (part << BigInt(16 * hw) === v) {
          r.put(Number(part), 5);
          r.put(hw, 21);
          return;
        }
      }
      throw r.fail("an immediate of 16 bits", start);
    },
    write(w) {
      let v = BigInt(bits(w, 5, 16)) << BigInt(16 * bits(w, 21, 2));
      if (inverted) v = BigInt.asUintN(size, ~v);
      return `#0x${v.toString(16)}`;
    },
  };
}

/** A PC-relative byte offset in a field, in units of 4. */
export function branchTarget(at: number, width: number): Operand {
  const range = 1n << BigInt(width + 1);
  const what = "a label or #offset";
  return {
    read(r) {
      const start = r.position;
      const offset = r.target(what);
      if ((offset & 3n) !== 0n) throw r.fail("a target aligned to 4 bytes", start);
      if (offset < -range || offset >= range) throw r.fail(`a target within ${range} bytes`, start);
      r.put(Number(offset / 4n) & (2 ** width - 1), at);
    },
    write: (w) => `#${signedBits(w, at, width) * 4}`,
  };
}
/** The offset of ADR (bytes) or ADRP (pages). */
export function adrTarget(page: boolean): Operand {
  return {
    read(r) {
      const start = r.position;
      let offset: bigint;
      if (!page) offset = r.target("a label or #offset");
      else if (r.immediateAhead()) {
        offset = r.immediate("a page offset");
        if ((offset & 0xfffn) !== 0n) throw r.fail("an offset in steps of 4096", start);
        offset >>= 12n;
      } else {
        const { pc } = r.context;
        const to = r.target("a label or #offset") + pc;
        offset = (to >> 12n) - (pc >> 12n);
      }
      if (offset < -(1n << 20n) || offset >= 1n << 20n) throw r.fail(page ? "a target within 4 GiB" : "a target within 1 MiB", start);
      const v = Number(offset) & 0x1fffff;
      r.put(v & 3, 29);
      r.put(v >> 2, 5);
    },
    write(w) {
      const v = (signedBits(w, 5, 19) * 4) | bits(w, 29, 2);
      return `#${page ? v * 4096 : v}`;
    },
  };
}

/** Bit number of TBZ: b5 in bit 31 (fixed by the register class), b40 in 23:19. */
export function testBit(cls: "x" | "w"): Operand {
  const [min, max] = cls === "x" ? [32n, 63n] : [0n, 31n];
  return {
    read(r) {
      r.put(Number(r.immediateIn(`a bit number #${min} to #${max}`, min, max)) & 31, 19);
    },
    write: (w) => `#${bits(w, 19, 5) + Number(min)}`,
  };
}

/** A condition in bits 15:12; `inverted` for CSET and its kind. */
export function condition(inverted: boolean): Operand {
  const names: Record<string, number> = { ...CONDITION_ALIASES };
  for (const [i, n] of CONDITIONS.entries()) if (!inverted || i < 14) names[n] = i;
  return {
    read(r) {
      r.put(r.oneOf(names, "a condition: eq, ne, hs, lo, …") ^ (inverted ? 1 : 0), 12);
    },
    write: (w) => CONDITIONS[bits(w, 12, 4) ^ (inverted ? 1 : 0)]!,
  };
}

/** A name from a table in some field. */
export function named(values: Readonly<Record<string, number>>, at: number, width: number, what: string): Operand {
  const back = new Map(Object.entries(values).map(([n, v]) => [v, n]));
  return {
    read(r) {
      r.put(r.oneOf(values, what), at);
    },
    write: (w) => back.get(bits(w, at, width)) ?? `#${bits(w, at, width)}`,
  };
}
/** As `named`, or a number. */
export function namedOrNumber(values: Readonly<Record<string, number>>, at: number, width: number, what: string): Operand {
  const byName = named(values, at, width, what);
  const byNumber = uimm(at, width);
  return { read: (r) => (r.immediateAhead() ? byNumber : byName).read(r), write: byName.write };
}

/** A fixed word in the text, such as `[sp]`'s brackets never needs: `#0` of `cbz`-like forms. */
export function lsbWidth(cls: "x" | "w", kind: "lsl" | "lsr" | "insert" | "extract"): Operand {
  const size = cls === "x" ? 64 : 32;
  const last = size - 1;
  const width = (r: OperandReader, lsb: number): number =>
    Number((r.expect(","), r.immediateIn(`a width #1 to #${size - lsb}`, 1n, BigInt(size - lsb))));
  return {
    read(r) {
      const lsb = Number(r.immediateIn(`a bit number #0 to #${last}`, 0n, BigInt(last)));
      switch (kind) {
        case "lsl":
          r.put((size - lsb) & last, 16);
          r.put(last - lsb, 10);
          return;
        case "lsr":
          r.put(lsb, 16);
          r.put(last, 10);
          return;
        case "insert":
          r.put((size - lsb) & last, 16);
          r.put(width(r, lsb) - 1, 10);
          return;
        case "extract":
          r.put(lsb, 16);
          r.put(lsb + width(r, lsb) - 1, 10);
      }
    },
    write(w) {
      const immr = bits(w, 16, 6);
      const imms = bits(w, 10, 6);
      switch (kind) {
        case "lsl":
          return `#${last - imms}`;
        case "lsr":
          return `#${immr}`;
        case "insert":
          return `#${(size - immr) & last}, #${imms + 1}`;
        case "extract":
          return `#${immr}, #${imms - immr + 1}`;
      }
    },
  };
}

// Addresses. The base register is always in 9:5.
function base(r: OperandReader): void {
  r.expect("[");
  r.put(readRegister(r, "x", true), 5);
}
function baseName(w: number): string {
  return registerName(bits(w, 5, 5), "x", true);
}

/** `[Xn]`, with an optional `, #0`. */
export const address: Operand = {
  read(r) {
    base(r);
    if (r.accept(",")) r.immediateIn("#0", 0n, 0n);
    r.expect("]");
  },
  write: (w) => `[${baseName(w)}]`,
};

/** `[Xn{, #imm}]` with imm unsigned, in units of the access. */
export function addressUnsigned(scale: number): Operand {
  const max = 4095 * scale;
  return {
    read(r) {
      base(r);
      if (r.accept(",")) {
        const what = `an offset #0 to #${max}${scale > 1 ? ` in steps of ${scale}` : ""}`;
        r.put(Number(r.immediateIn(what, 0n, BigInt(max), BigInt(scale))) / scale, 10);
      }
      r.expect("]");
    },
    write(w) {
      const imm = bits(w, 10, 12) * scale;
      return imm === 0 ? `[${baseName(w)}]` : `[${baseName(w)}, #${imm}]`;
    },
  };
}

/** `[Xn{, #imm}]`, `[Xn, #imm]!` or `[Xn], #imm` with a signed immediate in a field, in units of `scale`. */
export function addressSigned(mode: "offset" | "pre" | "post", at: number, width: number, scale: number): Operand {
  const min = BigInt(-(1 << (width - 1)) * scale);
  const max = BigInt(((1 << (width - 1)) - 1) * scale);
  const what = `an offset #${min} to #${max}${scale > 1 ? ` in steps of ${scale}` : ""}`;
  const imm = (r: OperandReader): void => r.put((Number(r.immediateIn(what, min, max, BigInt(scale))) / scale) & ((1 << width) - 1), at);
  return {
    read(r) {
      base(r);
      if (mode === "post") {
        r.expect("]");
        r.expect(",");
        imm(r);
        return;
      }
      if (mode === "pre") {
        r.expect(",");
        imm(r);
        r.expect("]");
        r.expect("!");
        return;
      }
      if (r.accept(",")) imm(r);
      r.expect("]");
    },
    write(w) {
      const v = signedBits(w, at, width) * scale;
      if (mode === "post") return `[${baseName(w)}], #${v}`;
      if (mode === "pre") return `[${baseName(w)}, #${v}]!`;
      return v === 0 ? `[${baseName(w)}]` : `[${baseName(w)}, #${v}]`;
    },
  };
}

const INDEX_EXTENDS: Readonly<Record<string, number>> = { uxtw: 2, lsl: 3, sxtw: 6, sxtx: 7 };

/** `[Xn, Rm{, extend {#amount}}]`; the amount is 0 or log2 of the access. */
export function addressRegister(log2: number): Operand {
  return {
    read(r) {
      base(r);
      r.expect(",");
      const start = r.position;
      const wide = registerNumber(r.peekName(), "x", false) >= 0;
      if (!wide && registerNumber(r.peekName(), "w", false) < 0) throw r.fail("an offset or an index register");
      r.put(readRegister(r, wide ? "x" : "w"), 16);
      if (!r.accept(",")) {
        if (!wide) throw r.fail('", uxtw" or ", sxtw"');
        r.put(3, 13);
        r.expect("]");
        return;
      }
      const ext = r.oneOf(INDEX_EXTENDS, "lsl, uxtw, sxtw or sxtx");
      if (wide !== ((ext & 1) !== 0)) throw r.fail(wide ? "a w register, or lsl" : "an x register, or uxtw, sxtw", start);
      r.put(ext, 13);
      if (r.immediateAhead()) {
        const at = r.position;
        const amount = Number(r.immediate("a shift amount"));
        if (amount !== 0 && amount !== log2) throw r.fail(log2 === 0 ? "#0" : `#0 or #${log2}`, at);
        // A byte access has one spelling for S = 1: `lsl #0` written out.
        r.put(amount !== 0 || log2 === 0 ? 1 : 0, 12);
      } else if (ext === 3) throw r.fail("a shift amount");
      r.expect("]");
    },
    write(w) {
      const ext = bits(w, 13, 3);
      const s = bits(w, 12, 1);
      const rm = registerName(bits(w, 16, 5), (ext & 1) !== 0 ? "x" : "w", false);
      const name = ext === 3 ? "lsl" : EXTEND_NAMES[ext]!;
      if (s === 0) return ext === 3 ? `[${baseName(w)}, ${rm}]` : `[${baseName(w)}, ${rm}, ${name}]`;
      return `[${baseName(w)}, ${rm}, ${name} #${log2}]`;
    },
  };
}
