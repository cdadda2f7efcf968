/** Outcomes of litmus tests: `vcpu1.x0 == 1 && vcpu1.faults == 0`, parsed by precedence and judged over a state. */
import type { Condition, Term } from "./ast.js";

const TOKEN = /\s*(\|\||&&|==|!=|<=|>=|<|>|!|\(|\)|\[|\]|[A-Za-z_][A-Za-z0-9_.]*|0x[0-9a-fA-F]+|[0-9]+)/y;

/** Parses a condition. @throws Error saying what was expected */
export function parseCondition(text: string): Condition {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  let at = 0;
  while (at < text.trimEnd().length) {
    TOKEN.lastIndex = at;
    const m = TOKEN.exec(text);
    if (m === null) throw new Error(`unexpected "${text.slice(at).trim().slice(0, 20)}" in the outcome`);
    tokens.push(m[1]!);
    at = TOKEN.lastIndex;
  }
  const p = new ConditionParser(tokens);
  const c = p.or();
  p.end();
  return c;
}

class ConditionParser {
  private i = 0;
  constructor(private readonly tokens: readonly string[]) {}

  end(): void {
    if (this.i < this.tokens.length) throw new Error(`unexpected "${this.tokens[this.i]!}" behind the outcome`);
  }
  private accept(t: string): boolean {
    if (this.tokens[this.i] !== t) return false;
    this.i++;
    return true;
  }
  or(): Condition {
    let left = this.and();
    while (this.accept("||")) left = { kind: "or", left, right: this.and() };
    return left;
  }
  private and(): Condition {
    let left = this.unary();
    while (this.accept("&&")) left = { kind: "and", left, right: this.unary() };
    return left;
  }
  private unary(): Condition {
    if (this.accept("!")) return { kind: "not", of: this.unary() };
    if (this.accept("(")) {
      const c = this.or();
      if (!this.accept(")")) throw new Error('expected ")" in the outcome');
      return c;
    }
    const left = this.term();
    const op = this.tokens[this.i++] ?? "";
    if (!["==", "!=", "<", "<=", ">", ">="].includes(op)) throw new Error(`expected a comparison in the outcome, not "${op}"`);
    return { kind: "compare", op, left, right: this.term() };
  }
  private term(): Term {
    const t = this.tokens[this.i++] ?? "the end";
    if (/^[0-9]/.test(t)) return { kind: "number", value: Number(t) };
    if (t === "[") {
      const symbol = this.tokens[this.i++] ?? "";
      if (!this.accept("]")) throw new Error('expected "]" in the outcome');
      return { kind: "memory", symbol };
    }
    const register = /^vcpu([0-7])\.(?:x|w)([0-9]|1[0-9]|2[0-7])$/.exec(t);
    if (register !== null) return { kind: "register", vcpu: Number(register[1]), register: Number(register[2]) };
    const counted = /^vcpu([0-7])\.(faults|aborts)$/.exec(t);
    if (counted !== null) return { kind: counted[2] as "faults" | "aborts", vcpu: Number(counted[1]) };
    const arrival = /^arrival\.([a-z]+)$/.exec(t);
    if (arrival !== null) return { kind: "arrival", symbol: arrival[1]! };
    const event = /^events\.(late|tlps|reads)$/.exec(t);
    if (event !== null) return { kind: "event", name: event[1] as "late" | "tlps" | "reads" };
    const host = /^[a-z][a-z0-9]*\.[a-z][a-z0-9]*$/.exec(t);
    if (host !== null) return { kind: "host", name: t };
    throw new Error(
      `"${t}" is no part of an outcome: expected vcpu1.x0, vcpu1.faults, vcpu1.aborts, [x], host.NAME, arrival.d or events.late`,
    );
  }
}

/** Does the condition hold? @param value what a term comes to in the final state */
export function holds(c: Condition, value: (t: Term) => number): boolean {
  switch (c.kind) {
    case "and":
      return holds(c.left, value) && holds(c.right, value);
    case "or":
      return holds(c.left, value) || holds(c.right, value);
    case "not":
      return !holds(c.of, value);
    case "compare": {
      const a = value(c.left);
      const b = value(c.right);
      switch (c.op) {
        case "==":
          return a === b;
        case "!=":
          return a !== b;
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
  }
}

/** Every term that a condition asks. */
export function terms(c: Condition, out: Term[] = []): Term[] {
  if (c.kind === "compare") {
    for (const t of [c.left, c.right]) if (t.kind !== "number" && !out.some((o) => termText(o) === termText(t))) out.push(t);
  } else if (c.kind === "not") terms(c.of, out);
  else {
    terms(c.left, out);
    terms(c.right, out);
  }
  return out;
}

export function termText(t: Term): string {
  switch (t.kind) {
    case "number":
      return String(t.value);
    case "register":
      return `vcpu${t.vcpu}.x${t.register}`;
    case "faults":
    case "aborts":
      return `vcpu${t.vcpu}.${t.kind}`;
    case "host":
      return t.name;
    case "memory":
      return `[${t.symbol}]`;
    case "arrival":
      return `arrival.${t.symbol}`;
    case "event":
      return `events.${t.name}`;
  }
}
