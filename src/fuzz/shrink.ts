/** Makes a failing program small: takes steps away in ever smaller pieces (ddmin), then makes the numbers of the rest plain. */
import type { Op, Program } from "./program.js";

const PAGE = 4096;

/** @param fails whether a program still fails in the same way. @param budget programs that may be tried */
export function shrink(program: Program, fails: (p: Program) => boolean, budget = 400): Program {
  let left = budget;
  let best = program;
  const attempt = (ops: readonly Op[]): boolean => {
    if (left-- <= 0) return false;
    const p = { ...best, ops };
    if (!fails(p)) return false;
    best = p;
    return true;
  };
  for (let size = Math.max(1, best.ops.length >> 1); ; size >>= 1) {
    for (let at = best.ops.length - size; at >= 0; at -= size) attempt([...best.ops.slice(0, at), ...best.ops.slice(at + size)]);
    if (size <= 1) break;
  }
  for (let again = true; again && left > 0;) {
    again = false;
    for (let n = best.ops.length - 1; n >= 0; n--) {
      if (attempt(best.ops.filter((_, i) => i !== n))) again = true;
      else for (const simple of simpler(best.ops[n]!)) if (attempt(best.ops.map((o, i) => (i === n ? simple : o)))) again = true;
    }
  }
  return best;
}

/** The same step with plainer numbers, the plainest first. */
function* simpler(op: Op): Generator<Op> {
  const change = <K extends string>(key: K, value: number | string): Op => ({ ...op, [key]: value }) as unknown as Op;
  const it = op as unknown as Readonly<Record<string, unknown>>;
  if (op.op === "guest") {
    if (op.what !== "ldr64" && op.what !== "str64") {
      yield change("what", "ldr64");
      yield change("what", "str64");
    }
    if (op.x1 > 1) yield change("x1", 1);
    if (op.x2 !== 0) yield change("x2", 0);
    if (op.at % PAGE !== 0) yield change("at", op.at - (op.at % PAGE));
    return;
  }
  if (op.op === "back" && op.skew !== 0) yield change("skew", 0);
  if (op.op === "back" && op.kind !== "nohuge") yield change("kind", "nohuge");
  for (const key of ["size", "len"]) {
    const v = it[key];
    if (typeof v === "number" && v > PAGE) {
      yield change(key, PAGE);
      yield change(key, 2 << 20);
    }
  }
  for (const key of ["off", "flags", "first", "cpu"]) if (typeof it[key] === "number" && it[key] > 0) yield change(key, 0);
  if (typeof it["value"] === "number" && it["value"] > 1) yield change("value", 1);
  if (typeof it["gpa"] === "number" && it["gpa"] !== 0x80000000) yield change("gpa", 0x80000000);
}
