/**
 * Values of expressions: whole numbers of at most 64 bits, with or without sign.
 *
 * Sums are exact; a result that no 64-bit register could hold, signed or unsigned, is an error. `==` and
 * `!=` compare modulo 2^64, so that a register that reads 0xffffffffffffffff equals -1.
 */
import type { Call, Expr } from "./ast.js";
import type { Span } from "./diagnostics.js";

/** An expression has no value: division by zero, a string, a number that is too big. */
export class EvaluationError extends Error {
  constructor(
    readonly span: Span,
    message: string,
    readonly hint = "",
  ) {
    super(message);
  }
}

export interface Scope {
  /** Is there anything of this name? An error costs far more than the question. */
  has?(name: string): boolean;
  /** Value of a name. @throws EvaluationError if it has none. */
  name(name: string, span: Span): bigint;
  /** Value of a call. @throws EvaluationError where calls do not stand. */
  call(call: Call): bigint;
}

const LOW = -(1n << 63n);
const HIGH = (1n << 64n) - 1n;

export function evaluate(e: Expr, scope: Scope): bigint {
  switch (e.kind) {
    case "number":
      return e.value;
    case "string":
      throw new EvaluationError(e.span, "a text is no number", "expected a number or a name");
    case "name":
      return scope.name(e.name, e.span);
    case "call":
      return scope.call(e);
    case "unary": {
      const v = evaluate(e.of, scope);
      return fit(e.op === "-" ? -v : e.op === "~" ? ~v : v === 0n ? 1n : 0n, e.span);
    }
    case "binary": {
      const a = evaluate(e.left, scope);
      if (e.op === "&&") return a !== 0n && evaluate(e.right, scope) !== 0n ? 1n : 0n;
      if (e.op === "||") return a !== 0n || evaluate(e.right, scope) !== 0n ? 1n : 0n;
      return fit(binary(e.op, a, evaluate(e.right, scope), e.span), e.span);
    }
  }
}

function binary(op: string, a: bigint, b: bigint, span: Span): bigint {
  switch (op) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
    case "%":
      if (b === 0n) throw new EvaluationError(span, "division by zero");
      return op === "/" ? a / b : a % b;
    case "<<":
    case ">>":
      if (b < 0n || b > 63n) throw new EvaluationError(span, `a shift by ${b}`, "expected 0 to 63");
      // The bits that leave the register are lost, as in a register.
      return op === "<<" ? BigInt.asUintN(64, a << b) : BigInt.asUintN(64, a) >> b;
    case "&":
      return a & b;
    case "|":
      return a | b;
    case "^":
      return a ^ b;
    default:
      return compare(op, a, b) ? 1n : 0n;
  }
}

/** A comparison as scripts write it; = is ==. */
export function compare(op: string, a: bigint, b: bigint): boolean {
  switch (op) {
    case "=":
    case "==":
      return BigInt.asUintN(64, a) === BigInt.asUintN(64, b);
    case "!=":
      return BigInt.asUintN(64, a) !== BigInt.asUintN(64, b);
    case "<":
      return a < b;
    case "<=":
      return a <= b;
    case ">":
      return a > b;
    default:
      return a >= b;
  }
}

function fit(v: bigint, span: Span): bigint {
  if (v < LOW || v > HIGH) throw new EvaluationError(span, "this value does not fit in 64 bits");
  return v;
}
