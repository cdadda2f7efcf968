/**
 * An agent's statements inside `par` as a flat list of operations, so that where it stands is a number:
 * an agent can be stopped, hashed, put back and run again between any two of its steps.
 *
 * Values lie in numbered slots: one for every `let` and loop variable, one for every call's value.
 */
import type { Call, Expr, GuestBlock, ParThread, Statement } from "./ast.js";
import { findCall, parameterOf } from "./calls.js";
import type { Span } from "./diagnostics.js";

/** A name of the agent's own: its slot. Anything else is looked up in the script around the `par`. */
export type Names = ReadonlyMap<string, number>;

/** An argument of a call: a number is evaluated each time, anything else stands for itself. */
export interface Given {
  readonly name: string;
  readonly isNumber: boolean;
  readonly value: Expr;
}

export interface CallOp {
  readonly kind: "call";
  readonly call: Call;
  readonly given: readonly Given[];
  /** What the parameters are where they are not given. */
  readonly fallbacks: ReadonlyMap<string, bigint>;
  readonly slot: number;
  readonly names: Names;
  readonly text: string;
  readonly span: Span;
}

export type Op =
  | CallOp
  | { readonly kind: "set"; readonly slot: number; readonly value: Expr; readonly names: Names; readonly span: Span }
  /** Leaves a loop when slot `i` has reached slot `to`. */
  | { readonly kind: "loop"; readonly i: number; readonly to: number; readonly step: number; readonly exit: number; readonly span: Span }
  | { readonly kind: "next"; readonly i: number; readonly step: number; readonly target: number }
  /** KVM_RUN until the block ends; with a block the vCPU starts at its first instruction. */
  | {
      readonly kind: "run";
      readonly vcpu: number;
      readonly block: GuestBlock | undefined;
      /** kvm_run.immediate_exit. */
      readonly immediateExit: Expr | undefined;
      readonly names: Names;
      readonly text: string;
      readonly span: Span;
    };

export interface AgentProgram {
  /** As the story names it: vmm, vcpu0, … */
  readonly who: string;
  /** The vCPU whose thread this is, -1 for a thread of the VMM or the kernel. */
  readonly vcpu: number;
  readonly ops: readonly Op[];
  readonly slots: number;
  /** The slot of a call's value. */
  readonly callSlots: ReadonlyMap<Call, number>;
}

/** The outermost calls of an expression, left to right. */
export function callsIn(e: Expr, out: Call[] = []): Call[] {
  if (e.kind === "call") out.push(e);
  else if (e.kind === "unary") callsIn(e.of, out);
  else if (e.kind === "binary") {
    callsIn(e.left, out);
    callsIn(e.right, out);
  }
  return out;
}

/** A guest block in one line: its instructions, shortened. */
export function blockText(b: GuestBlock): string {
  const parts = b.body.map((s) => (s.kind === "instruction" ? s.text : s.kind === "label" ? `${s.name}:` : `for ${s.name} { … }`));
  const text = parts.slice(0, 4).join("; ");
  return `guest vcpu${b.vcpu} { ${text}${parts.length > 4 ? "; …" : ""} }`;
}

/**
 * The operations of one agent of a `par`.
 * @param isThis whether an `on NAME { … }` block is for the variant that runs
 */
export function flatten(agent: GuestBlock | ParThread, isThis: (name: string) => boolean): AgentProgram {
  const ops: Op[] = [];
  const callSlots = new Map<Call, number>();
  let slots = 0;

  const calls = (e: Expr, names: Names, text: string, span: Span): void => {
    for (const c of callsIn(e)) call(c, names, text === "" ? c.text : text, span);
  };
  const call = (c: Call, names: Names, text: string, span: Span): void => {
    const decl = findCall(c.name)!;
    const given: Given[] = [];
    for (const [n, a] of c.args.entries()) {
      const p = parameterOf(decl, a.name, n)!;
      const isNumber = p.kind === "number";
      if (isNumber) calls(a.value, names, "", a.span);
      given.push({ name: p.name, isNumber, value: a.value });
    }
    if (c.name === "KVM_RUN") {
      const v = given.find((g) => g.name === "vcpu")?.value;
      const vcpu = v?.kind === "name" ? Number(v.name.slice(4)) : 0;
      const immediateExit = given.find((g) => g.name === "immediate_exit")?.value;
      ops.push({ kind: "run", vcpu, block: undefined, immediateExit, names: new Map(names), text, span });
      callSlots.set(c, slots++);
      return;
    }
    callSlots.set(c, slots);
    const fallbacks = new Map<string, bigint>();
    for (const p of decl.parameters) if (p.fallback !== undefined) fallbacks.set(p.name, p.fallback);
    ops.push({ kind: "call", call: c, given, fallbacks, slot: slots++, names: new Map(names), text, span });
  };
  const set = (slot: number, value: Expr, names: Names, text: string, span: Span): void => {
    calls(value, names, text, span);
    ops.push({ kind: "set", slot, value, names: new Map(names), span });
  };
  const body = (statements: readonly Statement[], outer: Names): void => {
    const names = new Map(outer);
    for (const s of statements) {
      if (s.kind === "let") {
        const slot = slots++;
        set(slot, s.value, names, s.text, s.span);
        names.set(s.name, slot);
      } else if (s.kind === "call") call(s, names, s.text, s.span);
      else if (s.kind === "for") {
        const [i, to, step] = [slots++, slots++, slots++];
        set(i, s.from, names, "", s.span);
        set(to, s.to, names, "", s.span);
        set(step, s.step ?? { kind: "number", value: 1n, span: s.span }, names, "", s.span);
        const top = ops.length;
        ops.push({ kind: "loop", i, to, step, exit: -1, span: s.span });
        body(s.body, new Map(names).set(s.name, i));
        ops.push({ kind: "next", i, step, target: top });
        ops[top] = { kind: "loop", i, to, step, exit: ops.length, span: s.span };
      } else if (s.kind === "on" && s.on.some((n) => isThis(n.name))) body(s.body, names);
    }
  };

  if (agent.kind === "guest") {
    ops.push({
      kind: "run",
      vcpu: agent.vcpu,
      block: agent,
      immediateExit: undefined,
      names: new Map(),
      text: blockText(agent),
      span: agent.span,
    });
    return { who: `vcpu${agent.vcpu}`, vcpu: agent.vcpu, ops, slots, callSlots };
  }
  body(agent.body, new Map());
  return { who: agent.name, vcpu: -1, ops, slots, callSlots };
}
