/** Reads the text of one A64 instruction, operand by operand, with the place and the expectation of every error. */

/**
 * Where reading stopped and what would have been right there. Internal to the assembler, which tries
 * one form after the other: no Error, because a stack trace for each attempt would cost most of its time.
 */
export class Mismatch {
  constructor(
    readonly at: number,
    readonly length: number,
    readonly expected: string,
    /** Names that would have been right, for "did you mean". */
    readonly names: readonly string[] = [],
    /** What was written there, when it was a name. */
    readonly found = "",
  ) {}
}

/** What names in operands stand for. */
export interface AssemblyContext {
  /** Address of the instruction, for PC-relative operands given by name. */
  readonly pc: bigint;
  /** Value of a name: an address for branch targets, a number for immediates. */
  readonly symbol?: (name: string) => bigint | number | undefined;
  /** Only the length matters: unknown branch targets count as the instruction itself. */
  readonly sizing?: boolean;
}

const IDENT = /[A-Za-z_.$][A-Za-z0-9_.$]*/y;
const NUMBER = /(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*)/y;

export class OperandReader {
  /** Bits of the instruction collected so far. */
  word = 0;
  private pos: number;
  constructor(
    readonly text: string,
    start: number,
    readonly context: AssemblyContext,
  ) {
    this.pos = start;
  }

  get position(): number {
    return this.pos;
  }
  /** Puts a field into the instruction. */
  put(value: number, shift: number): void {
    this.word |= value << shift;
  }

  space(): void {
    while (this.text[this.pos] === " " || this.text[this.pos] === "\t") this.pos++;
  }
  atEnd(): boolean {
    this.space();
    return this.pos >= this.text.length;
  }
  /** Takes a character if it is next. */
  accept(ch: string): boolean {
    this.space();
    if (this.text[this.pos] !== ch) return false;
    this.pos++;
    return true;
  }
  expect(ch: string): void {
    if (!this.accept(ch)) throw this.fail(`"${ch}"`);
  }
  /** A name at the cursor, lower case, without taking it; "" if there is none. */
  peekName(): string {
    this.space();
    IDENT.lastIndex = this.pos;
    return IDENT.exec(this.text)?.[0].toLowerCase() ?? "";
  }
  /** Takes a name. */
  name(): string {
    const n = this.peekName();
    this.pos += n.length;
    return n;
  }
  /** An error at the cursor, or at `at`. */
  fail(expected: string, at = this.pos, names: readonly string[] = []): Mismatch {
    this.space();
    const start = Math.max(at, 0);
    let i = start;
    while (i < this.text.length && (this.text[i] === " " || this.text[i] === "\t")) i++;
    IDENT.lastIndex = i;
    const found = IDENT.exec(this.text)?.[0] ?? "";
    return new Mismatch(i, Math.max(1, found.length), expected, names, found.toLowerCase());
  }
  /** One of a set of names; gives its value. */
  oneOf(values: Readonly<Record<string, number>>, what: string): number {
    const at = this.pos;
    const n = this.peekName();
    const v = Object.hasOwn(values, n) ? values[n] : undefined;
    if (v === undefined) throw this.fail(what, at, Object.keys(values));
    this.pos += n.length;
    return v;
  }

  /** True if an immediate can start here. */
  immediateAhead(): boolean {
    this.space();
    const ch = this.text[this.pos];
    return ch === "#" || ch === "-" || (ch !== undefined && ch >= "0" && ch <= "9");
  }

  /** An immediate: `#` optional, sums of numbers and names. @param what named in the error */
  immediate(what: string): bigint {
    this.space();
    const at = this.pos;
    this.accept("#");
    let value = this.term(what, at);
    for (;;) {
      if (this.accept("+")) value += this.term(what, this.pos);
      else if (this.accept("-")) value -= this.term(what, this.pos);
      else return value;
    }
  }
  private term(what: string, at: number): bigint {
    if (this.accept("-")) return -this.term(what, at);
    if (this.accept("+")) return this.term(what, at);
    this.space();
    NUMBER.lastIndex = this.pos;
    const digits = NUMBER.exec(this.text)?.[0];
    if (digits !== undefined) {
      const clean = digits.replaceAll("_", "");
      this.pos += digits.length;
      // 64-bit operands: anything longer is no number of this machine.
      if (clean.length > 66 || clean === "0x" || clean === "0b" || clean === "0o") throw this.fail(what, at);
      return BigInt(clean);
    }
    const n = this.symbolName();
    if (n !== "") {
      const v = this.context.symbol?.(n);
      if (v !== undefined) {
        this.pos += n.length;
        return BigInt(v);
      }
    }
    throw this.fail(what, at);
  }
  /** A name as written: symbols keep their case. */
  symbolName(): string {
    this.space();
    IDENT.lastIndex = this.pos;
    return IDENT.exec(this.text)?.[0] ?? "";
  }

  /** An immediate that must lie in [min, max] and be a multiple of `step`. */
  immediateIn(what: string, min: bigint, max: bigint, step = 1n): bigint {
    this.space();
    const at = this.pos;
    const v = this.immediate(what);
    if (v < min || v > max || v % step !== 0n) throw this.fail(what, at);
    return v;
  }

  /** A branch target: `#offset` from this instruction, or a name. Gives the byte offset. */
  target(what: string): bigint {
    this.space();
    const at = this.pos;
    if (this.immediateAhead()) return this.immediate(what);
    const n = this.symbolName();
    if (n === "") throw this.fail(what, at);
    if (n === ".") {
      this.pos++;
      if (this.accept("+")) return this.immediate(what);
      if (this.accept("-")) return -this.immediate(what);
      return 0n;
    }
    const v = this.context.symbol?.(n);
    if (v === undefined) {
      if (this.context.sizing !== true) throw this.fail(`${what} (no label ${n})`, at);
      this.pos += n.length;
      return 0n;
    }
    this.pos += n.length;
    return BigInt.asIntN(64, BigInt(v) - this.context.pc);
  }
}
