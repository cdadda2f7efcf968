/**
 * Guest blocks to A64 words. The assembler of src/arch encodes every instruction; this file only lays
 * out code, resolves names and labels, and spells out the few conveniences:
 *
 * - `mov x0, 0x80000000` (any 64-bit constant) and `ldr x0, =BAR` become movz/movn and movk;
 * - `[BAR + 8]`, an address without a register, goes through x16;
 * - `for addr in A..B step S { … }` becomes a counted loop: addr is x28 and the count x27, of a loop
 *   inside it x26 and x25, and so on.
 *
 * code slot | contents
 * +0x000    | sixteen vectors, 0x80 apart: a branch to the handler, or `b .`
 * +0x800    | the handler of `on exception`, if there is one, ended by `b .`
 * after it  | the guest blocks in the order of the script
 */
import type { GuestBlock, GuestStatement, OperandPart } from "./ast.js";
import { AssemblyError } from "../arch/assemble.js";
import { didYouMean, type Diagnostics, type Span } from "./diagnostics.js";
import { evaluate, EvaluationError, type Scope } from "./evaluate.js";
import { LIMITS } from "./limits.js";

/** Encodes one instruction. @throws Error whose message says what is wrong. */
export interface Assembler {
  assemble(text: string): ArrayLike<number>;
  readonly mnemonics: readonly string[];
}

export const CODE_BASE = 0x40000000;
const VECTORS = 0x800;
const VECTOR_STEP = 0x80;
/** First register pair of loops; each nested loop takes the next lower pair. */
const LOOP_TOP = 28;
const LOOP_DEPTH = 4;
/** Holds an address that an instruction names by its number (IP0 of the procedure call standard). */
const SCRATCH = "x16";

export interface CodeRange {
  /** Address of the first instruction. */
  readonly entry: number;
  /** Address behind the last: where the vCPU's breakpoint stands. */
  readonly stop: number;
}

export interface GuestImage {
  readonly base: number;
  /** Words from `base` on. */
  readonly words: Int32Array;
  /** Script line of each word, 0 for none. */
  readonly lines: Int32Array;
  readonly blocks: ReadonlyMap<GuestBlock, CodeRange>;
  /** Where an unhandled exception or the end of the handler spins. */
  readonly handlerEnd: number;
  readonly hasHandler: boolean;
}

/** One word to be: text with holes for label distances. */
interface Pending {
  readonly text: string;
  readonly label: string | undefined;
  readonly span: Span;
  /** Where the script writes each operand. */
  readonly operands: readonly Span[];
}

export class GuestCompiler {
  private readonly words: number[] = [];
  private readonly lines: number[] = [];
  private readonly blocks = new Map<GuestBlock, CodeRange>();
  private handlerEnd = 0;
  private hasHandler = false;
  private pending: Pending[] = [];
  private labels = new Map<string, number>();
  private loops: { name: string; register: number }[] = [];

  constructor(
    private readonly assembler: Assembler,
    private readonly errors: Diagnostics,
    private readonly base: number,
  ) {}

  /** The vectors and the handler; call it first. */
  vectors(body: readonly GuestStatement[] | undefined, scope: Scope): void {
    const zero: Span = { at: 0, line: 0, column: 1, length: 1 };
    this.hasHandler = body !== undefined;
    for (let v = 0; v < VECTORS; v += VECTOR_STEP) {
      this.fill(v);
      this.encode(body === undefined ? "b #0" : `b #${VECTORS - v}`, zero);
    }
    this.fill(VECTORS);
    if (body === undefined) return;
    this.lower(body, scope);
    this.pending.push({ text: "b #0", label: undefined, span: zero, operands: [] });
    this.flush();
    this.handlerEnd = this.base + 4 * (this.words.length - 1);
  }

  block(block: GuestBlock, scope: Scope): void {
    const entry = this.base + 4 * this.words.length;
    this.lower(block.body, scope);
    this.flush();
    this.blocks.set(block, { entry, stop: this.base + 4 * this.words.length });
    if (4 * this.words.length > LIMITS.codeBytes - 4) {
      this.errors.add(block.span, `the guest's code is larger than its slot of ${LIMITS.codeBytes} bytes`, "use loops");
      this.words.length = LIMITS.codeBytes / 8;
      this.lines.length = this.words.length;
    }
  }

  image(): GuestImage {
    return {
      base: this.base,
      words: Int32Array.from(this.words),
      lines: Int32Array.from(this.lines),
      blocks: this.blocks,
      handlerEnd: this.handlerEnd,
      hasHandler: this.hasHandler,
    };
  }

  private fill(offset: number): void {
    while (4 * this.words.length < offset) {
      this.words.push(0);
      this.lines.push(0);
    }
  }

  private encode(text: string, span: Span, operands: readonly Span[] = []): void {
    let word = 0;
    try {
      word = this.assembler.assemble(text)[0]!;
    } catch (e) {
      if (!(e instanceof AssemblyError)) throw e;
      const mnemonic = text.split(" ")[0]!;
      if (e.column <= mnemonic.length) {
        const hint = e.suggestion === "" ? didYouMean(mnemonic, this.assembler.mnemonics) : `did you mean "${e.suggestion}"?`;
        this.errors.add({ ...span, length: mnemonic.length }, e.problem, hint);
      } else {
        const hint = [e.expected === "" ? "" : `expected ${e.expected}`, e.suggestion === "" ? "" : `did you mean "${e.suggestion}"?`];
        this.errors.add(
          operands[operandAt(text, e.column)] ?? span,
          e.problem.startsWith('"') ? `unexpected ${immediateAt(text, e.column) ?? e.problem}` : e.problem,
          hint.filter((h) => h !== "").join("; "),
        );
      }
    }
    this.words.push(word | 0);
    this.lines.push(span.line);
  }

  /** Second pass: distances of labels are known now. */
  private flush(): void {
    const first = this.words.length;
    for (const [n, p] of this.pending.entries()) {
      let text = p.text;
      if (p.label !== undefined) {
        const at = this.labels.get(p.label);
        if (at === undefined)
          this.errors.add(
            p.span,
            `no label "${p.label}" in this block`,
            didYouMean(
              p.label,
              [...this.labels.keys()].filter((l) => !l.startsWith(" ")),
            ),
          );
        else text = text.replace("\u0001", String(4 * (at - n)));
      }
      if (p.label === undefined || this.labels.has(p.label)) this.encode(text, p.span, p.operands);
      else this.fill(4 * (first + n + 1));
    }
    this.pending = [];
    this.labels = new Map();
  }

  private lower(body: readonly GuestStatement[], scope: Scope): void {
    for (const s of body) {
      try {
        if (s.kind === "label") this.label(s.name, s.span);
        else if (s.kind === "loop") this.loop(s, scope);
        else this.instruction(s, scope);
      } catch (e) {
        if (!(e instanceof EvaluationError)) throw e;
        this.errors.add(e.span, e.message, e.hint);
      }
    }
  }

  private label(name: string, span: Span): void {
    if (this.labels.has(name)) this.errors.add(span, `a second label "${name}" in this block`, "choose another");
    this.labels.set(name, this.pending.length);
  }

  private push(text: string, span: Span, label?: string, operands: readonly Span[] = []): void {
    this.pending.push({ text, label, span, operands });
  }

  private loop(s: Extract<GuestStatement, { kind: "loop" }>, scope: Scope): void {
    const from = evaluate(s.from, scope);
    const to = evaluate(s.to, scope);
    const step = s.step === undefined ? 1n : evaluate(s.step, scope);
    if (step <= 0n) throw new EvaluationError(s.step?.span ?? s.span, "a loop's step is at least 1");
    if (this.loops.length === LOOP_DEPTH) throw new EvaluationError(s.span, `loops of guest code nest at most ${LOOP_DEPTH} deep`);
    if (this.loops.some((l) => l.name === s.name))
      throw new EvaluationError(s.span, `the loop around it is also named "${s.name}"`, "choose another name");
    const count = to > from ? (to - from + step - 1n) / step : 0n;
    if (count === 0n) return;
    const value = LOOP_TOP - 2 * this.loops.length;
    const counter = value - 1;
    this.constant(`x${value}`, from, s.span);
    this.constant(`x${counter}`, count, s.span);
    const again = ` loop${this.pending.length}`;
    this.label(again, s.span);
    this.loops.push({ name: s.name, register: value });
    this.lower(s.body, scope);
    this.loops.pop();
    for (const text of addConstant(`x${value}`, step)) this.push(text, s.span);
    this.push(`sub x${counter}, x${counter}, #1`, s.span);
    this.push(`cbnz x${counter}, #\u0001`, s.span, again);
  }

  /** movz or movn, then movk for each further halfword. */
  private constant(register: string, v: bigint, span: Span): void {
    for (const text of moveConstant(register, v)) this.push(text, span);
  }

  private instruction(s: Extract<GuestStatement, { kind: "instruction" }>, scope: Scope): void {
    const [first, second] = s.operands;
    const register = first?.length === 1 && "text" in first[0]! ? first[0].text.toLowerCase() : "";
    if (/^[xw]([0-9]|[12][0-9]|30)$/.test(register) && s.operands.length === 2) {
      const literal = s.mnemonic === "ldr" && second![0] !== undefined && "text" in second![0] && second![0].text === "=";
      const parts = literal ? second!.slice(1) : second!;
      const value = s.mnemonic === "mov" || literal ? this.number(parts, scope) : undefined;
      if (literal && value === undefined) throw new EvaluationError(s.span, 'no value after "="', "expected a number or a name");
      if (value !== undefined) {
        this.notALoop(register, first![0]!.span);
        if (register.startsWith("w") && (value > 0xffffffffn || value < -0x80000000n))
          throw new EvaluationError(parts[0]!.span, `this value does not fit in ${register}`);
        this.constant(register, value, s.span);
        return;
      }
    }
    let label: string | undefined;
    const operands = s.operands.map((parts) => {
      const target = this.labelOf(parts, s.mnemonic, scope);
      if (target !== undefined) {
        label = target;
        return "#\u0001";
      }
      return this.operand(parts, scope, s.span);
    });
    const places = s.operands.map((parts) => parts[0]!.span);
    this.push(operands.length === 0 ? s.mnemonic : `${s.mnemonic} ${operands.join(", ")}`, s.span, label, places);
  }

  /** The one value that an operand stands for, or undefined if it is something else. */
  private number(parts: readonly OperandPart[], scope: Scope): bigint | undefined {
    const p = parts[0];
    if (parts.length !== 1 || p === undefined) return undefined;
    if ("expr" in p) return evaluate(p.expr, scope);
    if (this.loops.some((l) => l.name === p.text)) return undefined;
    return this.constantNamed(p.text, p.span, scope);
  }

  private constantNamed(name: string, span: Span, scope: Scope): bigint | undefined {
    if (!/^[A-Za-z_]/.test(name) || scope.has?.(name) === false) return undefined;
    try {
      return scope.name(name, span);
    } catch (e) {
      if (e instanceof EvaluationError && e.hint === NOT_CONSTANT) throw e;
      return undefined;
    }
  }

  private labelOf(parts: readonly OperandPart[], mnemonic: string, scope: Scope): string | undefined {
    const p = parts[0];
    if (parts.length !== 1 || p === undefined || !("text" in p)) return undefined;
    if (!/^(b|bl|b\..*|cbn?z|tbn?z|adr)$/.test(mnemonic) || /^[xw]([0-9]+|zr)$/i.test(p.text)) return undefined;
    if (!/^[A-Za-z_]/.test(p.text) || this.constantNamed(p.text, p.span, scope) !== undefined) return undefined;
    return p.text;
  }

  private notALoop(register: string, span: Span): void {
    const n = /^[xw]([0-9]+)$/.exec(register)?.[1];
    const loop = n === undefined ? undefined : this.loops.find((l) => l.register === Number(n) || l.register - 1 === Number(n));
    if (loop !== undefined)
      throw new EvaluationError(span, `${register} belongs to the loop over "${loop.name}"`, `write ${loop.name}, or use another register`);
  }

  private operand(parts: readonly OperandPart[], scope: Scope, span: Span): string {
    let out = "";
    for (const [n, p] of parts.entries()) {
      const before = parts[n - 1];
      const opens = before !== undefined && "text" in before && before.text === "[";
      let value: bigint | undefined;
      if ("expr" in p) value = evaluate(p.expr, this.withLoops(scope));
      else {
        const loop = this.loops.find((l) => l.name === p.text);
        if (loop !== undefined) {
          out += `${space(out)}x${loop.register}`;
          continue;
        }
        this.notALoop(p.text.toLowerCase(), p.span);
        value = this.constantNamed(p.text, p.span, scope);
      }
      if (value !== undefined && opens) {
        this.constant(SCRATCH, value, span);
        out += SCRATCH;
      } else if (value !== undefined) out += `${space(out)}#${value}`;
      else {
        const text = (p as { text: string }).text.toLowerCase();
        out += /^[\]!,:]$/.test(text) ? text : `${space(out)}${text}`;
      }
    }
    return out;
  }

  private withLoops(scope: Scope): Scope {
    return {
      has: (name) => this.loops.some((l) => l.name === name) || scope.has?.(name) !== false,
      name: (name, span) => {
        const loop = this.loops.find((l) => l.name === name);
        if (loop !== undefined)
          throw new EvaluationError(
            span,
            `"${name}" is a register here, no number`,
            `write [${name}, #8], or add to it in another register`,
          );
        return scope.name(name, span);
      },
      call: (c) => scope.call(c),
    };
  }
}

/** The hint of a name that has a value only while the script runs. */
export const NOT_CONSTANT = "guest code takes constants only; pass a value with KVM_SET_ONE_REG";

function space(before: string): string {
  return before === "" || before.endsWith("[") ? "" : " ";
}

export function moveConstant(register: string, v: bigint): string[] {
  const halves = register.startsWith("w") ? 2 : 4;
  const bits = BigInt.asUintN(16 * halves, v);
  const half = (n: number): bigint => (bits >> BigInt(16 * n)) & 0xffffn;
  const all = Array.from({ length: halves }, (_, n) => n);
  const zeros = all.filter((n) => half(n) === 0n).length;
  const ones = all.filter((n) => half(n) === 0xffffn).length;
  const inverted = ones > zeros;
  const rest = inverted ? 0xffffn : 0n;
  const out: string[] = [];
  for (const n of all) {
    if (half(n) === rest) continue;
    const shift = n === 0 ? "" : `, lsl #${16 * n}`;
    if (out.length > 0) out.push(`movk ${register}, #${half(n)}${shift}`);
    else out.push(inverted ? `movn ${register}, #${half(n) ^ 0xffffn}${shift}` : `movz ${register}, #${half(n)}${shift}`);
  }
  if (out.length === 0) out.push(`${inverted ? "movn" : "movz"} ${register}, #0`);
  return out;
}

/** Adds a constant: 12-bit immediates where they do, else through x17. */
function addConstant(register: string, v: bigint): string[] {
  if (v < 4096n) return [`add ${register}, ${register}, #${v}`];
  if (v < 4096n * 4096n && v % 4096n === 0n) return [`add ${register}, ${register}, #${v / 4096n}, lsl #12`];
  return [...moveConstant("x17", v), `add ${register}, ${register}, x17`];
}

/** The immediate that the assembler could not take, where it stands in its own text of the instruction: `#8192`. */
function immediateAt(text: string, column: number): string | undefined {
  const immediate = /^#[^\s,\]!]+/.exec(text.slice(column - 1))?.[0];
  return immediate === undefined ? undefined : `"${immediate}"`;
}

/** Which operand of an instruction's text a column lies in. */
function operandAt(text: string, column: number): number {
  let open = 0;
  let n = 0;
  for (let i = text.indexOf(" "); i >= 0 && i < column - 1; i++) {
    if (text[i] === "[") open++;
    else if (text[i] === "]") open--;
    else if (text[i] === "," && open === 0) n++;
  }
  return n;
}
