/**
 * The text of a compiled loop: JavaScript for the instructions of one loop of guest code (compiled.ts says what it is
 * for and when it runs). Made from the loop's words, their decoded fields and two costs alone, which are whole numbers: nothing
 * that a script says gets into it.
 *
 * In the text, register n of the vCPU is the pair ln, hn while the loop runs; `ps` is PSTATE; `left`, `charged` and `ram` are the
 * interpreter's; `again` is 1 from the second trip on. Words of `io` and the functions that are called are those of
 * compiled.ts. The page of the last access through a base register is kept in pn, qn, wn (stores: P, Q, W): its address
 * and where its words begin.
 */
import { ACCESS_BYTES, ACCESS_SIGNED, ACCESS_X, F_HI, F_ISS, F_LO, F_OP, F_RA, F_RD, F_RM, F_RN, FIELD_WORDS, Op } from "./a64ops.js";
import { PC, PSTATE, ZR } from "./registers.js";

/** Data pages that are known: so many of [page, VA high, stamp, first word] for loads, then the same for stores. */
export const PAGE_ENTRIES = 16;
/** Words of all for loads: those for stores follow. */
export const STORE_PAGES = PAGE_ENTRIES * 4;

/**
 * Words of `io`: when a loop's function has ended the instructions left and (unless an access failed) those left when the clock was
 * last charged, and cycles of RAM since then; data of a load; the stamps of the data pages and of the window (cpu.ts).
 */
export const IO_LEFT = 0;
export const IO_CHARGED = 1;
export const IO_RAM = 2;
export const IO_LO = 3;
export const IO_HI = 4;
export const IO_STAMP = 5;
export const IO_FETCHED = 6;
/** V8 keeps an array of up to 64 bytes in its own heap, and looks at each access for its place. */
export const IO_WORDS = 32;

/** What `load` and `store` give beside STEP_ codes, all of which but STEP_NEXT are above 0: done, and the loop must be left. */
export const LOOP_LEAVE = -1;

/**
 * Names that are bound once, and arguments of the function itself. The pools are bound: the array of one that never grew is a
 * constant for V8, as an argument it would be looked at for each word. The arguments are whole, and told to be once.
 */
export const BOUND = [
  "fields",
  "regs",
  "words",
  "pages",
  "io",
  "load",
  "store",
  "data",
  "addX",
  "subX",
  "addW",
  "subW",
  "nz",
  "holds",
] as const;
const ARGUMENTS = ["b", "pcLo", "pcHi", "code", "left", "charged", "ram"];

/** Cycles of an instruction, and of a load or store of RAM beside it. */
export interface LoopCosts {
  readonly instruction: number;
  readonly ramAccess: number;
}

/** As of tlb.ts. */
const vaHash = (hi: string, lo: string): string => `(${lo} >>> 12 ^ ${lo} >>> 22 ^ ${hi})`;

/** Equals no page with the low bits of a misaligned address. */
const NO_PAGE = 8;

/** One instruction: its fields by name, n its number in the loop. */
interface Instruction {
  readonly n: number;
  readonly op: Op;
  readonly rd: number;
  readonly rn: number;
  readonly rm: number;
  readonly ra: number;
  readonly lo: number;
  readonly hi: number;
  readonly iss: number;
}

const isLoad = (op: Op): boolean => op >= Op.LoadImm && op <= Op.LoadLiteral;
const isStore = (op: Op): boolean => op >= Op.StoreImm && op <= Op.StoreReg;
const isIndexed = (op: Op): boolean => op === Op.LoadReg || op === Op.StoreReg;
const isPost = (op: Op): boolean => op === Op.LoadPost || op === Op.StorePost;
const writesBase = (op: Op): boolean => isPost(op) || op === Op.LoadPre || op === Op.StorePre;
const isBranch = (op: Op): boolean => op >= Op.B && op <= Op.Tbnz;
const isData = (op: Op): boolean => op >= Op.SbfmX && op <= Op.CsnegW;
const isArithmetic = (op: Op): boolean => op >= Op.AddXImm && op <= Op.Adrp;

/** The low or high half of a register as an operand. */
const low = (reg: number): string => (reg === ZR ? "0" : `l${reg >> 1}`);
const high = (reg: number): string => (reg === ZR ? "0" : `h${reg >> 1}`);
const carry = (sum: string, part: string): string => `(${sum} >>> 0 < ${part} >>> 0 ? 1 : 0)`;
/** The high word of h:l and a signed offset, given the low one: without a branch. */
function highOf(sum: string, h: string, l: string, offset: number): string {
  if (offset === 0) return h;
  return offset > 0 ? `${h} + ((${l} & ~${sum}) >>> 31) | 0` : `${h} - ((~${l} & ${sum}) >>> 31) | 0`;
}
const result = (lo: string, hi: string): string => `lo = ${lo}; hi = ${hi};`;
const flags = (value: string): string => `ps = ps & 0x0fffffff | ${value};`;

/** A shifted operand. @param type 0 LSL, 1 LSR, 2 ASR, 3 ROR */
function shiftX(lo: string, hi: string, type: number, amount: number): readonly [string, string] {
  if (amount === 0) return [lo, hi];
  const k = amount & 31;
  const wide = amount >= 32;
  // The pair whose bits meet in the low word, and what comes in above.
  const join = (a: string, c: string): string => (k === 0 ? a : `(${a} >>> ${k} | ${c} << ${32 - k})`);
  if (type === 0) return wide ? ["0", `(${lo} << ${k})`] : [`(${lo} << ${k})`, `(${hi} << ${k} | ${lo} >>> ${32 - k})`];
  if (type === 1) return wide ? [`(${hi} >>> ${k} | 0)`, "0"] : [join(lo, hi), `(${hi} >>> ${k} | 0)`];
  if (type === 2) return wide ? [`(${hi} >> ${k})`, `(${hi} >> 31)`] : [join(lo, hi), `(${hi} >> ${k})`];
  return wide ? [join(hi, lo), join(lo, hi)] : [join(lo, hi), join(hi, lo)];
}
function shiftW(v: string, type: number, amount: number): string {
  if (amount === 0) return v;
  if (type === 3) return `(${v} >>> ${amount} | ${v} << ${32 - amount})`;
  return type === 0 ? `(${v} << ${amount})` : type === 1 ? `(${v} >>> ${amount} | 0)` : `(${v} >> ${amount})`;
}
/** An extended operand. @param option uxtb … sxtx */
function extend(lo: string, hi: string, option: number, shift: number): readonly [string, string] {
  const signed = option >= 4;
  const bits = 8 << (option & 3);
  const l = bits >= 32 ? lo : signed ? `(${lo} << ${32 - bits} >> ${32 - bits})` : `(${lo} & ${bits === 8 ? 0xff : 0xffff})`;
  return shiftX(l, bits === 64 ? hi : signed ? `(${l} >> 31)` : "0", 0, shift);
}

/** Additions, subtractions, logic, moves and addresses: into lo and hi, and flags. */
function arithmetic(i: Instruction): string {
  const { op } = i;
  const al = low(i.rn);
  const ah = high(i.rn);
  if (op <= Op.SubsWExt) return addition(i, al, ah);
  if (op <= Op.AndsWReg) return logic(i, al, ah);
  switch (op) {
    case Op.MovConst:
      return result(`${i.lo}`, `${i.hi}`);
    case Op.MovkX:
    case Op.MovkW: {
      const keep = ~(0xffff << (i.hi & 16));
      const bits = i.lo << (i.hi & 16);
      const put = (half: string): string => `${half} & ${keep} | ${bits}`;
      const h = op === Op.MovkX ? high(i.rd) : "0";
      return i.hi >= 32 ? result(low(i.rd), put(h)) : result(put(low(i.rd)), h);
    }
    case Op.Adr:
      return `vl = pcLo + ${4 * i.n} | 0; vh = pcHi; ${sum("vl", "vh", i.lo)}`;
    default:
      // The loop lies in one page.
      return `vl = pcLo & -4096; lo = vl + ${i.lo << 12} | 0; hi = pcHi + ${i.lo >> 20} + ${carry("lo", "vl")} | 0;`;
  }
}
/** hi:lo of a pair and a signed offset. */
function sum(l: string, h: string, offset: number): string {
  return `lo = ${l} + ${offset} | 0; hi = ${highOf("lo", h, l, offset)};`;
}

function addition(i: Instruction, al: string, ah: string): string {
  const { op } = i;
  // Add, Adds, Sub, Subs; X then W; Imm, Reg, Ext.
  const group = op - Op.AddXImm;
  const sub = (group & 2) !== 0;
  const sets = (group & 1) !== 0;
  const wide = (group & 4) === 0;
  const kind = group >> 3;
  const immediate: readonly [string, string] = [`${i.lo}`, "0"];
  if (!wide) {
    const c = kind === 0 ? `${i.lo}` : kind === 1 ? shiftW(low(i.rm), i.hi, i.lo) : extend(low(i.rm), "0", i.hi, i.lo)[0];
    const set = sets ? flags(`${sub ? "subW" : "addW"}(${al}, ${c})`) : "";
    return `${set} ${result(`${al} ${sub ? "-" : "+"} ${c} | 0`, "0")}`;
  }
  const [c, d] = kind === 0 ? immediate : (kind === 1 ? shiftX : extend)(low(i.rm), high(i.rm), i.hi, i.lo);
  const set = sets ? flags(`${sub ? "sub" : "add"}X(${ah}, ${d}, lo, hi)`) : "";
  if (kind === 0) return `${sum(al, ah, sub ? -i.lo : i.lo)} ${set}`;
  if (sub) return `${result(`${al} - ${c} | 0`, `${ah} - ${d} - ${carry(al, c)} | 0`)} ${set}`;
  return `${result(`${al} + ${c} | 0`, `${ah} + ${d} + ${carry("lo", al)} | 0`)} ${set}`;
}

function logic(i: Instruction, al: string, ah: string): string {
  // And, Orr, Eor, Ands; X then W; Imm, Reg.
  const group = i.op - Op.AndXImm;
  const wide = (group & 4) === 0;
  let c = `${i.lo}`;
  let d = `${i.hi}`;
  if (group >= 8) {
    const type = i.hi & 3;
    [c, d] = wide ? shiftX(low(i.rm), high(i.rm), type, i.lo) : [shiftW(low(i.rm), type, i.lo), "0"];
    if ((i.hi & 4) !== 0) [c, d] = [`~${c}`, `~${d}`];
  }
  const sign = ["&", "|", "^", "&"][group & 3]!;
  const set = (group & 3) === 3 ? flags(wide ? "nz(lo, hi)" : "nz(lo, lo)") : "";
  return `${result(`${al} ${sign} ${c}`, wide ? `${ah} ${sign} ${d}` : "0")} ${set}`;
}

/** Is a direct branch taken? */
function condition(i: Instruction): string {
  const t = low(i.rd);
  switch (i.op) {
    case Op.BCond:
      // EQ and NE without a call.
      return i.hi <= 1 ? `(ps & 0x40000000) ${i.hi === 0 ? "!==" : "==="} 0` : `holds(${i.hi}, ps)`;
    case Op.CbzX:
      return `(${t} | ${high(i.rd)}) === 0`;
    case Op.CbnzX:
      return `(${t} | ${high(i.rd)}) !== 0`;
    case Op.CbzW:
      return `${t} === 0`;
    case Op.CbnzW:
      return `${t} !== 0`;
    case Op.Tbz:
    case Op.Tbnz:
      return `(${i.ra === 0 ? t : high(i.rd)} >>> ${i.hi} & 1) ${i.op === Op.Tbz ? "===" : "!=="} 0`;
    default:
      return "true";
  }
}

/** Writes the text of one loop. */
class Writer {
  /** Registers that the text names, and those that it changes. */
  private readonly used = new Set<number>();
  private readonly changed = new Set<number>();
  /** Base registers of loads (p) and stores (P) whose pages are kept. */
  private readonly kept = new Set<string>();
  private setsFlags = false;
  /** Number of the first instruction that changes a register or flags: before it, in the first trip, the file has what the variables have. */
  private firstChange = Infinity;
  /** Instructions of each block of straight code, by its first: a branch and a target begin one. */
  private readonly blockEnd: number[] = [];

  constructor(
    private readonly body: readonly Instruction[],
    private readonly words: Int32Array,
    private readonly costs: LoopCosts,
  ) {}

  /** The registers by name, and blocks. @returns false if it holds something else */
  survey(): boolean {
    const starts = new Set([0]);
    for (const i of this.body) {
      const { op } = i;
      if (!isArithmetic(op) && !isLoad(op) && !isStore(op) && !isBranch(op) && !isData(op)) return false;
      if (op === Op.Bl) return false;
      if (isBranch(op)) {
        const to = this.target(i);
        // A loop in the loop: that one is compiled.
        if (to <= i.n && to > 0) return false;
        starts.add(i.n + 1);
        if (to > 0 && to < this.body.length) starts.add(to);
        if (op !== Op.B && op !== Op.BCond) this.use(i.rd);
        continue;
      }
      if (i.rd < 0 || (!isData(op) && i.rn < 0)) return false;
      this.setsFlags ||= op === Op.AndsXImm || op === Op.AndsXReg || op === Op.AndsWImm || op === Op.AndsWReg;
      this.setsFlags ||= op >= Op.AddXImm && op <= Op.SubsWExt && (op - Op.AddXImm) % 2 === 1;
      this.operands(i);
    }
    let end = this.body.length;
    for (let n = this.body.length - 1; n >= 0; n--) {
      this.blockEnd[n] = end;
      if (starts.has(n)) end = n;
    }
    return true;
  }
  private use(reg: number): void {
    if (reg !== ZR) this.used.add(reg >> 1);
  }
  private change(reg: number): void {
    this.use(reg);
    if (reg !== ZR) this.changed.add(reg >> 1);
  }
  private operands(i: Instruction): void {
    const { op } = i;
    if (!isStore(op) || writesBase(op)) this.firstChange = Math.min(this.firstChange, i.n);
    if (isStore(op)) this.use(i.rd);
    else this.change(i.rd);
    // The others of the less frequent instructions are read from the file.
    if (isData(op) || (op >= Op.MovConst && op <= Op.Adrp)) return;
    if (op !== Op.LoadLiteral) this.use(i.rn);
    if (isIndexed(op) || (op >= Op.AddXReg && op <= Op.SubsWExt) || (op >= Op.AndXReg && op <= Op.AndsWReg)) this.use(i.rm);
    if (writesBase(op)) this.change(i.rn);
  }
  /** Number of the instruction that a branch goes to. */
  private target(i: Instruction): number {
    return i.n + (i.lo >> 2);
  }
  /** Instructions from this one to the end of its block. */
  private rest(n: number): number {
    return this.blockEnd[n]! - n;
  }

  /** The registers, to the file. */
  private spill(): string {
    const words = [...this.changed].map((n) => `r[b + ${2 * n}] = l${n}; r[b + ${2 * n + 1}] = h${n};`);
    return words.join(" ") + (this.setsFlags ? ` r[b + ${PSTATE}] = ps;` : "");
  }
  /** The registers and PC of an access, to the file, if it has not got them: at the loop's first instruction PC is there too. */
  private spillFor(n: number): string {
    const pc = `r[b + ${PC}] = pcLo + ${4 * n} | 0;`;
    if (n > this.firstChange) return `${this.spill()} ${pc}`;
    return n === 0 ? `if (again !== 0) { ${this.spill()} ${pc} }` : `if (again !== 0) { ${this.spill()} } ${pc}`;
  }
  /** Leaves the loop before instruction n; `rest` instructions of its block were counted and not executed. */
  private leave(n: number, rest: number): string {
    return `{ at = ${4 * n}; left = left + ${rest} | 0; break out; }`;
  }
  private store(reg: number): string {
    return reg === ZR ? "" : `${low(reg)} = lo; ${high(reg)} = hi;`;
  }

  private branch(i: Instruction): string {
    const to = this.target(i);
    const taken = to === 0 ? "{ again = 1; continue; }" : to > 0 && to < this.body.length ? `break B${to};` : this.leave(i.n, 1);
    if (i.op !== Op.B) return `if (${condition(i)}) ${taken}`;
    return taken;
  }

  /** An access by its base register: the page of the last one, else a page that is known, else as the interpreter does it. */
  private access(i: Instruction): string {
    const { op } = i;
    const size = i.ra & ACCESS_BYTES;
    const load = isLoad(op);
    const literal = op === Op.LoadLiteral;
    const [al, ah] = literal ? [`pcLo + ${4 * i.n} | 0`, "pcHi"] : [low(i.rn), high(i.rn)];
    const lines: string[] = [];
    if (isIndexed(op)) {
      const [ol, oh] = extend(low(i.rm), high(i.rm), i.hi, i.lo);
      lines.push(`vl = ${al} + ${ol} | 0; vh = ${ah} + ${oh} + ${carry("vl", al)} | 0;`);
    } else {
      const offset = isPost(op) ? 0 : i.lo;
      lines.push(`ol = ${al}; vl = ol + ${offset} | 0; vh = ${highOf("vl", ah, "ol", offset)};`);
    }
    const rest = this.rest(i.n) - 1;
    // The fields of the syndrome are bits 24:14.
    const call = load ? `load(vl, vh, ${i.iss | size}, k)` : `store(vl, vh, ${low(i.rd)}, ${high(i.rd)}, ${i.iss | size}, k)`;
    const { instruction } = this.costs;
    const executed = `charged - left - ${rest}`;
    const cycles = instruction === 1 ? `${executed} + ram | 0` : `(${executed} | 0) * ${instruction} + ram`;
    const slow =
      `${this.spillFor(i.n)} k = ${cycles}; ` +
      `charged = left + ${rest} | 0; ram = 0; failed = ${call}; if (failed > 0) { io[${IO_LEFT}] = charged; return failed; } ` +
      `${[...this.kept].map((p) => `${p} = ${NO_PAGE};`).join(" ")} stamp = io[${IO_STAMP}];`;
    const after = this.after(i);
    const tail = `if (failed < 0) ${this.leave(i.n + 1, rest)}`;
    const from = load ? `lo = io[${IO_LO}]; ${size === 8 ? `hi = io[${IO_HI}];` : ""}` : "";
    if (!load && size < 4) return `${lines.join(" ")} failed = 0; ${slow} ${after} ${tail}`;
    const [p, q, w] = this.names(i, load);
    const pageOf = `vl & ${~0xfff | (size - 1)}`;
    const table = load ? 0 : STORE_PAGES;
    const word = `w = ${w} + ((vl & 4095) >> 2);`;
    const fast = load
      ? size === 8
        ? "lo = full[w]; hi = full[w + 1];"
        : size === 4
          ? "lo = full[w];"
          : `lo = full[w] >>> ((vl & 3) << 3) & ${size === 1 ? 0xff : 0xffff};`
      : `full[w] = ${low(i.rd)}; ${size === 8 ? `full[w + 1] = ${high(i.rd)};` : ""}`;
    return (
      `${lines.join(" ")} failed = 0; A: { if ((${pageOf}) !== ${p} || vh !== ${q}) { ` +
      `k = (${vaHash("vh", "vl")} & ${PAGE_ENTRIES - 1}) << 2; ` +
      `if (pages[k + ${table + 2}] === stamp && pages[k + ${table}] === (${pageOf}) && pages[k + ${table + 1}] === vh && pages[k + ${table + 3}] >= 0) ` +
      `{ ${p} = vl & -4096; ${q} = vh; ${w} = pages[k + ${table + 3}]; } ` +
      `else { ${slow} ${from} break A; } } ` +
      `ram = ram + ${this.costs.ramAccess} | 0; ${word} ${fast} } ${after} ${tail}`
    );
  }
  /** What follows the data: its extension, the base register, the result. */
  private after(i: Instruction): string {
    const size = i.ra & ACCESS_BYTES;
    let text = "";
    if (isLoad(i.op)) {
      if (size !== 8) text += "hi = 0;";
      if ((i.ra & ACCESS_SIGNED) !== 0) {
        if (size < 4) text += `lo = lo << ${32 - 8 * size} >> ${32 - 8 * size};`;
        if ((i.ra & ACCESS_X) !== 0) text += "hi = lo >> 31;";
      }
    }
    if (writesBase(i.op)) {
      const off = i.lo;
      const [l, h] = [low(i.rn), high(i.rn)];
      text += `ol = ${l}; ${l} = ol + ${off} | 0; ${h} = ${highOf(l, h, "ol", off)};`;
    }
    return isLoad(i.op) ? text + this.store(i.rd) : text;
  }
  private names(i: Instruction, load: boolean): readonly [string, string, string] {
    const n = i.op === Op.LoadLiteral ? "pc" : `${i.rn >> 1}`;
    return load ? [`p${n}`, `q${n}`, `w${n}`] : [`P${n}`, `Q${n}`, `W${n}`];
  }

  private instruction(i: Instruction): string {
    if (isBranch(i.op)) return this.branch(i);
    if (isLoad(i.op) || isStore(i.op)) return this.access(i);
    if (isArithmetic(i.op)) return `${arithmetic(i)} ${this.store(i.rd)}`;
    // By the interpreter's own function, on the file.
    const back = i.rd === ZR ? "" : `${low(i.rd)} = r[b + ${i.rd}]; ${high(i.rd)} = r[b + ${i.rd + 1}];`;
    return `${this.spill()} data(fields, ${FIELD_WORDS * i.n}, b); ${back}`;
  }

  text(): string {
    const { body } = this;
    for (const i of body) {
      const load = isLoad(i.op);
      if (load || (isStore(i.op) && (i.ra & ACCESS_BYTES) >= 4)) this.kept.add(this.names(i, load)[0]);
    }
    const targets = [...new Set(body.filter((i) => isBranch(i.op)).map((i) => this.target(i)))]
      .filter((to) => to > 0 && to < body.length)
      .sort((x, y) => y - x);
    const variables = [...this.used].map((n) => `l${n} = r[b + ${2 * n}], h${n} = r[b + ${2 * n + 1}]`);
    for (const p of this.kept) {
      const n = p.slice(1);
      variables.push(p[0] === "p" ? `p${n} = ${NO_PAGE}, q${n} = 0, w${n} = 0` : `P${n} = ${NO_PAGE}, Q${n} = 0, W${n} = 0`);
    }
    const changed = Array.from(this.words, (word, n) => `full[code + ${n}] !== ${word}`).join(" || ");
    const lines = [
      `"use strict"; return function (${ARGUMENTS.join(", ")}) {`,
      ...ARGUMENTS.map((name) => `${name} = ${name} | 0;`),
      `const r = regs.a, full = words.a;`,
      `let ${["lo = 0, hi = 0, vl = 0, vh = 0, ol = 0, k = 0, w = 0, failed = 0, at = 0, again = 0", `ps = r[b + ${PSTATE}]`, ...variables].join(", ")};`,
      `let stamp = io[${IO_STAMP}];`,
      `out: {`,
      `if (code >= 0 && (${changed})) break out;`,
      `for (;;) {`,
      `if (left < ${body.length}) break out;`,
      ...targets.map((to) => `B${to}: {`),
    ];
    let start = 0;
    for (const i of body) {
      if (targets.includes(i.n)) lines.push("}");
      if (i.n === start) {
        lines.push(`left = left - ${this.rest(i.n)} | 0;`);
        start = this.blockEnd[i.n]!;
      }
      lines.push(this.instruction(i));
    }
    // The last branch was not taken: it is left to the interpreter.
    lines.push(this.leave(body.length - 1, 1), "}", "}");
    lines.push(this.spill(), `io[${IO_LEFT}] = left; io[${IO_CHARGED}] = charged; io[${IO_RAM}] = ram; return at;`, "}");
    return lines.join("\n");
  }
}

/**
 * The text that makes the function of a loop, or undefined if it holds an instruction that has none.
 * @param words the instructions @param fields the same decoded, the last of them a branch to the first
 */
export function loopText(words: Int32Array, fields: Int32Array, costs: LoopCosts): string | undefined {
  const body = Array.from({ length: fields.length / FIELD_WORDS }, (_, n): Instruction => {
    const f = (k: number): number => fields[n * FIELD_WORDS + k]!;
    return { n, op: f(F_OP), rd: f(F_RD), rn: f(F_RN), rm: f(F_RM), ra: f(F_RA), lo: f(F_LO), hi: f(F_HI), iss: f(F_ISS) };
  });
  const writer = new Writer(body, words, costs);
  return writer.survey() ? writer.text() : undefined;
}
