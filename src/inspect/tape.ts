/**
 * Everything that was done to a machine from outside, in order: calls begun, phases run, registers set.
 * The machine itself is deterministic, so the tape alone repeats a run, from its beginning or from a
 * copy of its state (timeline.ts).
 */
import type { Call } from "../api/calls.js";
import { FaultlineError } from "../sim/errors.js";

export type Input =
  | { readonly kind: "begin"; readonly agent: number; readonly call: Call }
  /** So many phases of one agent; `interleave`: each guest instruction is one. */
  | { readonly kind: "steps"; readonly agent: number; readonly interleave: boolean; count: number }
  /** Phases until the agent is idle or blocked. */
  | { readonly kind: "run"; readonly agent: number }
  /** What the agent does next happens after that time. */
  | { readonly kind: "catchUp"; readonly agent: number; readonly time: number }
  | { readonly kind: "thread" | "kthread"; readonly name: string }
  | { readonly kind: "register"; readonly vcpu: number; readonly register: string; readonly value: bigint }
  | { readonly kind: "breakpoint"; readonly vcpu: number; readonly address: bigint }
  | { readonly kind: "answerMmio"; readonly vcpu: number; readonly data: bigint }
  | { readonly kind: "cancelMmio"; readonly vcpu: number }
  | { readonly kind: "harvest"; readonly vcpu: number; readonly limit: number };

export class Tape {
  readonly inputs: Input[] = [];
  sealed = false;
  /** Somebody has played the tape to its end: the last input does not grow any more. */
  private played = false;

  /** From now on nothing may be done to the machine: it is a copy to look at. */
  seal(): this {
    this.sealed = true;
    return this;
  }

  /** @throws FaultlineError on the tape of a copy */
  note(input: Input): void {
    if (this.sealed) throw new FaultlineError("this machine is a copy of a moment: it can be looked at, not run");
    this.inputs.push(input);
    this.played = false;
  }
  /** To be called by whoever reads the inputs. */
  play(): void {
    this.played = true;
  }

  /** One phase of an agent. */
  step(agent: number, interleave: boolean): void {
    const last = this.inputs[this.inputs.length - 1];
    if (last?.kind === "steps" && last.agent === agent && last.interleave === interleave && !this.played) last.count++;
    else this.note({ kind: "steps", agent, interleave, count: 1 });
  }
}
