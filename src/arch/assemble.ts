/**
 * The assembler for guest code: the text of one instruction to its word, or to the words of a pseudo
 * instruction (`mov x0, #imm64`), or an error that names the column and what was expected there.
 */
import { FORMS_BY_MNEMONIC, MNEMONICS, type Form } from "./a64forms.js";
import { formOf } from "./decode.js";
import { nearestName, type FeatureSwitches } from "./features.js";
import { Mismatch, OperandReader, type AssemblyContext } from "./a64reader.js";

/** What the assembler may ask. */
export interface AssembleOptions {
  /** Address of the instruction; needed where a target is given by name. */
  readonly pc?: bigint | number;
  /** Value of a name: an address for branch targets, a number for immediates. */
  readonly symbol?: (name: string) => bigint | number | undefined;
  /** Refuse instructions that this CPU lacks. */
  readonly features?: FeatureSwitches;
}

/** The text is no instruction. */
export class AssemblyError extends Error {
  override readonly name = "AssemblyError";
  constructor(
    /** What is wrong, without place. */
    readonly problem: string,
    /** 1-based column in the text, and how many characters are meant. */
    readonly column: number,
    readonly length: number,
    /** What would have been right there. */
    readonly expected: string,
    /** The nearest right name, or "". */
    readonly suggestion: string,
  ) {
    super(
      `column ${column}: ${problem}${expected === "" ? "" : `, expected ${expected}`}${suggestion === "" ? "" : ` (did you mean "${suggestion}"?)`}`,
    );
  }
}

const MNEMONIC = /^[ \t]*([A-Za-z][A-Za-z0-9_.]*)/;
/** No instruction is longer; a script may hold megabytes in one line. */
const MAX_TEXT = 400;

/** Assembles one instruction. @returns its words, as signed 32-bit numbers. @throws AssemblyError */
export function assemble(text: string, options: AssembleOptions = {}): number[] {
  return run(text, { pc: BigInt(options.pc ?? 0), ...(options.symbol === undefined ? {} : { symbol: options.symbol }) }, options.features);
}

/** How many words an instruction takes; branch targets need not be known yet. @throws AssemblyError */
export function assembledLength(text: string, options: AssembleOptions = {}): number {
  const context = { pc: BigInt(options.pc ?? 0), sizing: true, ...(options.symbol === undefined ? {} : { symbol: options.symbol }) };
  return run(text, context, options.features).length;
}

/** True if a word names an instruction. */
export function isMnemonic(name: string): boolean {
  const n = name.toLowerCase();
  return FORMS_BY_MNEMONIC.has(n) || n === ".inst" || n === ".word";
}

function run(text: string, context: AssemblyContext, features: FeatureSwitches | undefined): number[] {
  if (text.length > MAX_TEXT) throw new AssemblyError("this is too long for an instruction", 1, 1, `at most ${MAX_TEXT} characters`, "");
  const data = /^[ \t]*\.(?:inst|word)\b/.exec(text);
  if (data !== null) return [rawWord(text, data[0].length, context)];
  const m = MNEMONIC.exec(text);
  if (m === null) {
    const column = text.length - text.trimStart().length + 1;
    throw new AssemblyError("no instruction", column, 1, "a mnemonic", "");
  }
  const mnemonic = m[1]!.toLowerCase();
  const start = m[0].length;
  const column = start - mnemonic.length + 1;
  const forms = FORMS_BY_MNEMONIC.get(mnemonic);
  if (forms === undefined) {
    const near = nearestName(mnemonic, MNEMONICS);
    throw new AssemblyError(`no instruction "${m[1]!}"`, column, mnemonic.length, "a mnemonic", near);
  }
  let best: Mismatch | undefined;
  let expected: string[] = [];
  let names: string[] = [];
  for (const form of forms) {
    const r = new OperandReader(text, start, context);
    try {
      const word = readOperands(r, form);
      checkFeature(form, word, features, column, mnemonic);
      const wrong = form.check?.(word) ?? "";
      if (wrong !== "") throw new AssemblyError("this is unpredictable", column, text.trimEnd().length - column + 1, wrong, "");
      return [word];
    } catch (e) {
      if (!(e instanceof Mismatch)) throw e;
      if (best === undefined || e.at > best.at) {
        best = e;
        expected = [e.expected];
        names = [...e.names];
      } else if (e.at === best.at) {
        if (!expected.includes(e.expected)) expected.push(e.expected);
        for (const n of e.names) if (!names.includes(n)) names.push(n);
      }
    }
  }
  if (mnemonic === "mov") {
    const words = wideMove(text, start, context);
    if (words !== undefined) return words;
  }
  const b = best!;
  const found = b.at >= text.trimEnd().length ? "the instruction ends here" : `"${text.slice(b.at, b.at + Math.min(b.length, 40))}"`;
  const near = b.found !== "" && names.length > 0 ? nearestName(b.found, names) : "";
  const what = expected.length > 4 ? `${expected.slice(0, 4).join(", or ")}, …` : expected.join(", or ");
  throw new AssemblyError(found, b.at + 1, b.length, what, near);
}

function readOperands(r: OperandReader, form: Form): number {
  r.word = form.match;
  for (const [n, operand] of form.operands.entries()) {
    if (n > 0) r.expect(",");
    operand.read(r);
  }
  if (!r.atEnd()) throw r.fail(form.operands.length === 0 ? "no operand" : "the end of the instruction");
  return r.word | 0;
}

function checkFeature(form: Form, word: number, features: FeatureSwitches | undefined, column: number, mnemonic: string): void {
  if (features === undefined || form.feature === undefined || features[form.feature]) return;
  if (formOf(word, features) === undefined) {
    throw new AssemblyError(`${mnemonic} needs the feature ${form.feature}`, column, mnemonic.length, `a CPU with ${form.feature}`, "");
  }
}

function rawWord(text: string, start: number, context: AssemblyContext): number {
  const r = new OperandReader(text, start, context);
  try {
    const v = r.immediateIn("a word 0 to 0xffffffff", 0n, 0xffffffffn);
    if (!r.atEnd()) throw r.fail("the end of the instruction");
    return Number(BigInt.asIntN(32, v));
  } catch (e) {
    if (e instanceof Mismatch) throw new AssemblyError("no word", e.at + 1, e.length, e.expected, "");
    throw e;
  }
}

/** `mov x0, #imm64` of more than one instruction: MOVZ or MOVN, then MOVKs. */
function wideMove(text: string, start: number, context: AssemblyContext): number[] | undefined {
  const r = new OperandReader(text, start, context);
  let size: number;
  let rd: number;
  let value: bigint;
  let immediate = false;
  try {
    const name = r.name();
    const m = /^([xw])(\d{1,2})$/.exec(name === "lr" ? "x30" : name);
    if (m === null || Number(m[2]) > 30) return undefined;
    size = m[1] === "x" ? 64 : 32;
    rd = Number(m[2]);
    r.expect(",");
    if (!r.immediateAhead()) return undefined;
    immediate = true;
    value = r.immediateIn(`an immediate of ${size} bits`, -(1n << BigInt(size - 1)), (1n << BigInt(size)) - 1n);
    if (!r.atEnd()) return undefined;
  } catch (e) {
    if (!(e instanceof Mismatch)) throw e;
    if (immediate) throw new AssemblyError("no such value", e.at + 1, e.length, e.expected, "");
    return undefined;
  }
  const v = BigInt.asUintN(size, value);
  const parts = Array.from({ length: size / 16 }, (_, i) => Number((v >> BigInt(16 * i)) & 0xffffn));
  const ones = parts.filter((p) => p === 0xffff).length;
  const zeros = parts.filter((p) => p === 0).length;
  const skip = ones > zeros ? 0xffff : 0;
  const sf = size === 64 ? 1 << 31 : 0;
  const words: number[] = [];
  for (const [hw, part] of parts.entries()) {
    if (part === skip) continue;
    const first = words.length === 0;
    const opcode = !first ? 0x72800000 : skip === 0 ? 0x52800000 : 0x12800000;
    const field = first && skip !== 0 ? ~part & 0xffff : part;
    words.push(sf | opcode | (hw << 21) | (field << 5) | rd);
  }
  return words;
}
