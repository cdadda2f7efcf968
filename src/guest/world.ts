/** What a script may name besides its own values: eras, decisions, CPUs, devices, costs, events, instructions. */
import type { Field } from "../sim/events.js";
import type { Assembler } from "./guestcode.js";

export interface World {
  readonly eras: readonly string[];
  /** What to say about an era that is no row: the rows around it; "" if it is not like an era at all. */
  eraHint(name: string): string;
  readonly cpus: readonly string[];
  /** What is wrong with a CPU of one's own, "max,-s2fwb"; "" if nothing is. */
  cpuProblem(name: string): string;
  readonly devices: readonly string[];
  readonly profiles: readonly string[];
  readonly caches: readonly string[];
  readonly apeis: readonly string[];
  readonly atomics: readonly string[];
  readonly costs: readonly string[];
  readonly decisions: readonly string[];
  /** Legal values of a decision. */
  decisionValues(name: string): readonly string[];
  readonly events: readonly string[];
  eventFields(name: string): readonly Field[] | undefined;
  readonly assembler: Assembler;
  /** Registers that KVM_GET_ONE_REG and KVM_SET_ONE_REG reach, and expectations: x0, pc, esr_el1. */
  readonly registers: readonly string[];
}
