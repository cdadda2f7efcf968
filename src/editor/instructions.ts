/**
 * What each A64 mnemonic of guest code does, for people: one sentence, composed where the architecture composes its names
 * (LDADDALH is load, add, acquire and release, halfword). Forms, features and syndromes come from the table of encodings.
 */
import { FORMS_BY_MNEMONIC, type Form } from "../arch/a64forms.js";
import { F_ISS, FIELD_WORDS } from "../arch/a64ops.js";
import { formOf } from "../arch/decode.js";
import { disassemble } from "../arch/disassemble.js";

const SIZES: Readonly<Record<string, string>> = { b: "a byte", h: "a halfword", w: "a word", "": "a word or doubleword" };
const ORDERS: Readonly<Record<string, string>> = {
  "": "",
  a: ", with acquire semantics",
  l: ", with release semantics",
  al: ", with acquire and release semantics",
};
const ATOMIC: Readonly<Record<string, string>> = {
  add: "adds to it",
  clr: "clears the bits of a register in it",
  eor: "exclusive-ORs a register into it",
  set: "sets the bits of a register in it",
  smax: "keeps the larger of it and a register, as signed numbers",
  smin: "keeps the smaller of it and a register, as signed numbers",
  umax: "keeps the larger of it and a register, as unsigned numbers",
  umin: "keeps the smaller of it and a register, as unsigned numbers",
};
/** Conditions as B.cond and CSEL say them. */
export const CONDITION: Readonly<Record<string, string>> = {
  eq: "equal", ne: "not equal", hs: "unsigned higher or same", cs: "carry set", lo: "unsigned lower", cc: "carry clear", mi: "negative",
  pl: "positive or zero", vs: "overflow", vc: "no overflow", hi: "unsigned higher", ls: "unsigned lower or same",
  ge: "signed greater or equal", lt: "signed less", gt: "signed greater", le: "signed less or equal", al: "always", nv: "always",
}; // prettier-ignore

/** Names that say by their parts what they do. */
const COMPOSED: readonly (readonly [RegExp, (m: RegExpExecArray) => string])[] = [
  [/^b\.(al|nv)$/, () => "branches always"],
  [/^b\.(..)$/, (m) => `branches if the flags say ${CONDITION[m[1]!]!}`],
  [/^(ld|st)(add|clr|eor|set|[su]max|[su]min)(al?|l)?([bh])?$/, (m) =>
    `reads ${SIZES[m[4] ?? ""]!} of memory, ${ATOMIC[m[2]!]!} and writes it back, atomically${m[1] === "ld" ? "; gives what was there" : ""}${ORDERS[m[3] ?? ""]!}`],
  [/^swp(al?|l)?([bh])?$/, (m) => `exchanges ${SIZES[m[2] ?? ""]!} of memory with a register, atomically${ORDERS[m[1] ?? ""]!}`],
  [/^cas(al?|l)?([bh])?$/, (m) => `compares ${SIZES[m[2] ?? ""]!} of memory with a register and, if they are equal, stores another, atomically${ORDERS[m[1] ?? ""]!}`],
  [/^casp(al?|l)?$/, (m) => `compares and swaps a pair of registers with memory, atomically${ORDERS[m[1] ?? ""]!}`],
  [/^ld(a?)x([rp])([bh])?$/, (m) => `loads ${m[2] === "p" ? "a pair" : SIZES[m[3] ?? ""]!} and marks it for exclusive access${ORDERS[m[1]!]!}`],
  [/^st(l?)x([rp])([bh])?$/, (m) => `stores ${m[2] === "p" ? "a pair" : SIZES[m[3] ?? ""]!} if this CPU still has exclusive access to it; the first register is 0 if it was stored${ORDERS[m[1]!]!}`],
  [/^lda(p?)r([bh])?$/, (m) => `loads ${SIZES[m[2] ?? ""]!}${m[1] === "" ? ORDERS["a"]! : ", with acquire semantics of RCpc"}`],
  [/^stlr([bh])?$/, (m) => `stores ${SIZES[m[1] ?? ""]!}${ORDERS["l"]!}`],
  [/^ld(u?)r(s?)([bhw])?$/, (m) =>
    `loads ${m[3] === undefined ? "a register" : `${SIZES[m[3]]!} and ${m[2] === "s" ? "sign-extends" : "zero-extends"} it`}${m[1] === "u" ? ", at an unscaled offset of -256 to 255" : ""}`],
  [/^st(u?)r([bh])?$/, (m) => `stores ${m[2] === undefined ? "a register" : SIZES[m[2]]!}${m[1] === "u" ? ", at an unscaled offset of -256 to 255" : ""}`],
]; // prettier-ignore

const PLAIN: Readonly<Record<string, string>> = {
  prfm: "hints that memory will be used soon",
  prfum: "hints that memory will be used soon, at an unscaled offset",
  ldp: "loads two registers from neighbouring memory",
  ldnp: "loads two registers, with a hint that the memory is not used again soon",
  ldpsw: "loads two words and sign-extends each",
  stp: "stores two registers to neighbouring memory",
  stnp: "stores two registers, with a hint that the memory is not used again soon",
  clrex: "gives up the exclusive access of this CPU",
  mov: "copies a register or a constant; a constant of 64 bits becomes MOVZ or MOVN and MOVKs",
  movz: "writes 16 bits at a shift, the others zero",
  movn: "writes the complement of 16 bits at a shift",
  movk: "writes 16 bits at a shift and keeps the others",
  add: "adds",
  adds: "adds and sets the flags",
  sub: "subtracts",
  subs: "subtracts and sets the flags",
  cmp: "compares: SUBS without a result",
  cmn: "compares with a negated operand: ADDS without a result",
  neg: "negates: SUB from the zero register",
  negs: "negates and sets the flags",
  mvn: "complements: ORN with the zero register",
  and: "ANDs",
  ands: "ANDs and sets the flags",
  tst: "tests bits: ANDS without a result",
  bic: "clears bits: AND with the complement",
  bics: "clears bits and sets the flags",
  orr: "ORs",
  orn: "ORs with the complement",
  eor: "exclusive-ORs",
  eon: "exclusive-ORs with the complement",
  sxtb: "sign-extends a byte",
  sxth: "sign-extends a halfword",
  sxtw: "sign-extends a word",
  uxtb: "zero-extends a byte",
  uxth: "zero-extends a halfword",
  lsl: "shifts left",
  lsr: "shifts right, zeros come in",
  asr: "shifts right, copies of the sign come in",
  ror: "rotates right",
  lslv: "shifts left by a register",
  lsrv: "shifts right by a register, zeros come in",
  asrv: "shifts right by a register, copies of the sign come in",
  rorv: "rotates right by a register",
  extr: "takes a register's width out of a pair of registers",
  sbfm: "moves a bit field, sign-extended",
  sbfx: "extracts a bit field, sign-extended",
  sbfiz: "inserts a bit field into zeros, sign-extended",
  bfm: "moves a bit field into a register",
  bfi: "inserts a bit field",
  bfxil: "extracts a bit field and inserts it at the low end",
  ubfm: "moves a bit field, zero-extended",
  ubfx: "extracts a bit field, zero-extended",
  ubfiz: "inserts a bit field into zeros",
  udiv: "divides unsigned numbers; by zero gives zero",
  sdiv: "divides signed numbers; by zero gives zero",
  mul: "multiplies",
  mneg: "multiplies and negates",
  madd: "multiplies and adds",
  msub: "multiplies and subtracts from a register",
  rbit: "reverses the bits",
  rev: "reverses the bytes",
  rev16: "reverses the bytes of each halfword",
  rev32: "reverses the bytes of each word",
  clz: "counts leading zeros",
  cset: "1 if a condition holds, else 0",
  csetm: "all ones if a condition holds, else 0",
  csel: "takes one of two registers by a condition",
  csinc: "takes a register, or another plus one, by a condition",
  csinv: "takes a register, or the complement of another, by a condition",
  csneg: "takes a register, or another negated, by a condition",
  adr: "the address of a label within 1 MiB",
  adrp: "the page of an address within 4 GiB",
  b: "branches",
  bl: "branches and leaves the return address in x30",
  br: "branches to the address in a register",
  blr: "branches to the address in a register and leaves the return address in x30",
  ret: "returns to the address in x30 or another register",
  cbz: "branches if a register is zero",
  cbnz: "branches if a register is not zero",
  tbz: "branches if a bit is clear",
  tbnz: "branches if a bit is set",
  eret: "returns from an exception: PC from ELR_ELx, PSTATE from SPSR_ELx",
  svc: "calls the supervisor: an exception to EL1",
  hvc: "calls the hypervisor: an exception to EL2, EC 0x16",
  smc: "calls the secure monitor; KVM traps it (HCR_EL2.TSC), EC 0x17",
  brk: "a breakpoint exception, EC 0x3c",
  nop: "does nothing",
  yield: "hints that this thread only waits",
  wfe: "waits for an event; KVM may trap it (HCR_EL2.TWE), EC 0x01",
  wfi: "waits for an interrupt; KVM may trap it (HCR_EL2.TWI), EC 0x01",
  sev: "sends an event to all CPUs",
  sevl: "sends an event to this CPU",
  esb: "an error synchronisation barrier: pending SErrors are taken or deferred before it ends",
  csdb: "no later instruction uses a value that was speculated for an earlier one",
  bti: "where an indirect branch may land",
  hint: "a hint by its number; one that the CPU does not know does nothing",
  dsb: "waits until memory accesses, and TLB and cache maintenance before it, are complete in the domain",
  dmb: "orders memory accesses before it against those after it in the domain",
  isb: "later instructions are fetched anew and see changed system registers",
  mrs: "reads a system register",
  msr: "writes a system register or a field of PSTATE",
  dc: "maintains the data cache by address or by set and way",
  ic: "maintains the instruction cache",
  at: "translates an address as stage 1 would; the result is in PAR_EL1",
  tlbi: "invalidates entries of the TLB; complete after a DSB",
  fmov: "copies between general and floating-point registers, or a constant",
  ".inst": "puts a word into the code as it is",
  ".word": "puts a word into the code as it is",
};

/** One sentence, or undefined for what is no mnemonic of this table. */
export function whatItDoes(mnemonic: string): string | undefined {
  const plain = PLAIN[mnemonic];
  if (plain !== undefined) return plain;
  for (const [pattern, say] of COMPOSED) {
    const m = pattern.exec(mnemonic);
    if (m !== null) return say(m);
  }
  return undefined;
}

/** A form as an example: with as many different registers as it takes, otherwise as short as it can be. */
function sample(form: Form, fields: Int32Array): string | undefined {
  const free = ~form.mask;
  const [rn, rm, ra] = [free & (1 << 5), free & (2 << 16), free & (3 << 10)];
  const texts = [rn, rn | rm, rn | ra, rn | rm | ra].flatMap((bits) => {
    const word = form.match | bits;
    // A word may be another instruction, of which the form is an alias.
    return formOf(word, undefined, fields) === form ? [disassemble(word)] : [];
  });
  const registers = (text: string): number => new Set(text.match(/\b[xwvqdshb][0-9]+\b/g)).size;
  const best = texts.sort((p, q) => registers(q) - registers(p) || p.length - q.length)[0];
  if (best === undefined) return undefined;
  formOf(form.match | rn, undefined, fields);
  return best;
}

const MEMORY = /^(ld|st|swp|cas|prf)/;
const FORMS_SHOWN = 8;

export interface InstructionHelp {
  readonly does: string;
  /** Disassembled examples, one for each form, few enough to read. */
  readonly forms: readonly string[];
  readonly features: readonly string[];
  /** Whether a stage-2 data abort of it has a valid instruction syndrome; "" for what accesses no memory. */
  readonly syndrome: string;
  readonly source: string;
}

export function instructionHelp(mnemonic: string): InstructionHelp | undefined {
  const does = whatItDoes(mnemonic);
  if (does === undefined) return undefined;
  const all = FORMS_BY_MNEMONIC.get(mnemonic) ?? [];
  const fields = new Int32Array(FIELD_WORDS);
  const valid: string[] = [];
  const invalid: string[] = [];
  for (const form of all) {
    const text = sample(form, fields);
    if (text !== undefined) (fields[F_ISS] === 0 ? invalid : valid).push(text);
  }
  return {
    does,
    forms: [...new Set([...valid, ...invalid])].slice(0, FORMS_SHOWN),
    features: [...new Set(all.flatMap((f) => (f.feature === undefined ? [] : [f.feature])))],
    syndrome: !MEMORY.test(mnemonic) || mnemonic.startsWith("prf") ? "" : syndromeText(valid, invalid),
    source: mnemonic.startsWith(".")
      ? ""
      : `Arm Architecture Reference Manual (DDI 0487), ${mnemonic.startsWith("f") ? "C7.2" : "C6.2"}, ${mnemonic.startsWith("b.") ? "B.cond" : mnemonic.toUpperCase()}`,
  };
}

function syndromeText(valid: readonly string[], invalid: readonly string[]): string {
  const none = "a stage-2 data abort has ISV = 0: an access without a memslot is no MMIO exit (ENOSYS, or KVM_EXIT_ARM_NISV)";
  if (valid.length === 0) return none;
  const good = "a stage-2 data abort has ISV = 1: it can become an MMIO exit";
  if (invalid.length === 0) return good;
  const writeBack = invalid.find((t) => /\]!|\], /.test(t));
  const vector = invalid.find((t) => / [qdshb][0-9]/.test(t));
  const not = [
    ...(writeBack === undefined ? [] : [`with write-back (\`${writeBack}\`)`]),
    ...(vector === undefined ? [] : [`with vector registers (\`${vector}\`)`]),
  ];
  return `${good} (\`${valid[0]!}\`); not so ${not.join(" or ")}: ISV = 0`;
}
