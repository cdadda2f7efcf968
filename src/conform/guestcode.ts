/**
 * The guest program of the recordings: exception vectors, the code that reports a finished operation
 * or an exception through stores to addresses without a slot, and one stub for each operation.
 */
import { assemble } from "../arch/assemble.js";

/** IPA of the code slot; vectors at its start. */
export const CODE_BASE = 0x40000000;
export const CODE_SIZE = 0x200000;
/** A finished operation stores x0 here. */
export const DONE_IPA = 0x10000000;
/** An exception is reported by stores here, 8 bytes apart: ESR, FAR, SPSR, ELR, vector offset. */
export const EXCEPTION_IPA = 0x10000100;
export const EXCEPTION_WORDS = 5;

const HANDLER = 0x800;
const DONE = 0x880;
const STUBS = 0x900;

/** What the operations do, as A64 text; every one ends by falling into the done stub. */
const OPERATIONS: Readonly<Record<string, readonly string[]>> = {
  ldr64: ["ldr x4, [x0]", "mov x0, x4"],
  ldr32: ["ldr w4, [x0]", "mov x0, x4"],
  ldr16: ["ldrh w4, [x0]", "mov x0, x4"],
  ldr8: ["ldrb w4, [x0]", "mov x0, x4"],
  ldrsb: ["ldrsb x4, [x0]", "mov x0, x4"],
  ldrsb32: ["ldrsb w4, [x0]", "mov x0, x4"],
  ldrsh: ["ldrsh x4, [x0]", "mov x0, x4"],
  ldrsw: ["ldrsw x4, [x0]", "mov x0, x4"],
  ldar: ["ldar x4, [x0]", "mov x0, x4"],
  ldxr: ["ldxr x4, [x0]", "mov x0, x4"],
  ldp: ["ldp x4, x5, [x0]", "mov x0, x4"],
  ldr_post: ["ldr x4, [x0], #8"],
  ldr_pre: ["ldr x4, [x0, #8]!"],
  ldrq: ["ldr q0, [x0]"],
  ldrd: ["ldr d0, [x0]"],
  ldxz: ["ldr xzr, [x0]", "mov x0, x4"],
  str64: ["str x1, [x0]"],
  str32: ["str w1, [x0]"],
  str16: ["strh w1, [x0]"],
  str8: ["strb w1, [x0]"],
  strz: ["str xzr, [x0]"],
  stlr: ["stlr x1, [x0]"],
  stxr: ["stxr w4, x1, [x0]"],
  stp: ["stp x1, x2, [x0]"],
  str_post: ["str x1, [x0], #8"],
  str_pre: ["str x1, [x0, #8]!"],
  strq: ["str q0, [x0]"],
  strd: ["str d0, [x0]"],
  ldadd: ["ldadd x1, x4, [x0]", "mov x0, x4"],
  swp: ["swp x1, x4, [x0]", "mov x0, x4"],
  cas: ["mov x4, x2", "cas x4, x1, [x0]", "mov x0, x4"],
  ldxrstxr: ["ldxr x5, [x0]", "stxr w4, x1, [x0]", "mov x0, x4"],
  zva: ["dc zva, x0"],
  cvac: ["dc cvac, x0"],
  civac: ["dc civac, x0"],
  ivac: ["dc ivac, x0"],
  cvau: ["dc cvau, x0"],
  icivau: ["ic ivau, x0"],
  iciallu: ["ic iallu", "isb"],
  prfm: ["prfm pldl1keep, [x0]"],
  ats1r: ["at s1e1r, x0", "isb", "mrs x0, par_el1"],
  br: ["adr x30, #8", "br x0"],
  nop: ["nop"],
  hvc: ["hvc #0"],
  svc: ["svc #0"],
  mmuon: ["msr ttbr0_el1, x0", "msr mair_el1, x1", "msr tcr_el1, x2", "isb", "tlbi vmalle1", "dsb nsh", "isb", "msr sctlr_el1, x3", "isb"],
  sctlr: ["msr sctlr_el1, x0", "isb"],
  tlbi: ["tlbi vmalle1", "dsb nsh", "isb"],
  touchw: ["mov x5, x0", "str x0, [x5]", "add x5, x5, x2", "subs x1, x1, #1", "b.ne #-12"],
  touchr: ["mov x5, x0", "ldr x4, [x5]", "add x5, x5, x2", "subs x1, x1, #1", "b.ne #-12"],
  idregs: [
    "mrs x0, midr_el1",
    "mrs x1, id_aa64mmfr0_el1",
    "mrs x2, id_aa64mmfr1_el1",
    "mrs x3, id_aa64mmfr2_el1",
    "mrs x4, ctr_el0",
    "mrs x5, id_aa64pfr0_el1",
  ],
};

export interface GuestCode {
  /** Words of the code page, from CODE_BASE. */
  readonly words: Int32Array;
  /** Operation name -> address of its stub. */
  readonly entry: ReadonlyMap<string, number>;
}

let assembled: GuestCode | undefined;

/** Vectors, handlers and all operation stubs; the same for every recording, so assembled once. */
export const guestCode = (): GuestCode => (assembled ??= assembleAll());

function assembleAll(): GuestCode {
  const words = new Int32Array(1024);
  const put = (offset: number, text: string): number => {
    for (const w of assemble(text)) {
      words[offset >> 2] = w;
      offset += 4;
    }
    return offset;
  };
  for (let vector = 0; vector < 0x800; vector += 0x80) {
    put(vector, `mov x19, #${vector}`);
    put(vector + 4, `b #${HANDLER - (vector + 4)}`);
  }
  let at = put(HANDLER, `mov x20, #${EXCEPTION_IPA}`);
  for (const [n, reg] of ["esr_el1", "far_el1", "spsr_el1", "elr_el1"].entries()) {
    at = put(at, `mrs x21, ${reg}`);
    at = put(at, `str x21, [x20, #${8 * n}]`);
  }
  at = put(at, "str x19, [x20, #32]");
  put(at, "b #0");
  at = put(DONE, `mov x20, #${DONE_IPA}`);
  at = put(at, "str x0, [x20]");
  put(at, "b #0");
  const entry = new Map<string, number>();
  at = STUBS;
  for (const [name, lines] of Object.entries(OPERATIONS)) {
    entry.set(name, CODE_BASE + at);
    for (const line of lines) at = put(at, line);
    at = put(at, `b #${DONE - at}`);
  }
  return { words, entry };
}
