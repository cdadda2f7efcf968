/** A litmus test as it is written: what is mapped, who runs what, and which outcome is asked for. */
import type { Program } from "../guest/compile.js";

/** How a page of a symbol is mapped and what it holds. */
export interface PageSetup {
  readonly symbol: string;
  /** Leaf descriptor at the start: attributes joined by `_` after the page that it maps; undefined: its own page, read-write. */
  readonly leaf: string | undefined;
  /** First words of the page. */
  readonly values: readonly number[];
  readonly line: number;
}

/** One operation of the hypervisor or host kernel at EL2, with symbols and numbers as written. */
export interface HostOp {
  readonly op: string;
  readonly words: readonly string[];
  readonly line: number;
}

export interface HostThread {
  readonly name: string;
  readonly cpu: number;
  readonly ops: readonly HostOp[];
}

export type Term =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "register"; readonly vcpu: number; readonly register: number }
  | { readonly kind: "faults" | "aborts"; readonly vcpu: number }
  | { readonly kind: "host"; readonly name: string }
  | { readonly kind: "memory"; readonly symbol: string }
  | { readonly kind: "arrival"; readonly symbol: string }
  | { readonly kind: "event"; readonly name: "late" | "tlps" | "reads" };

export type Condition =
  | { readonly kind: "compare"; readonly op: string; readonly left: Term; readonly right: Term }
  | { readonly kind: "and" | "or"; readonly left: Condition; readonly right: Condition }
  | { readonly kind: "not"; readonly of: Condition };

export type Verdict = "allowed" | "forbidden" | "required";

export interface Question {
  readonly verdict: Verdict;
  /** The reference marks the outcome as observed on hardware or as central: it must be reached. */
  readonly central: boolean;
  readonly condition: Condition;
  readonly text: string;
  readonly line: number;
}

/** Settings of the machine that a test asks for. */
export interface LitmusMachine {
  readonly cpus: number;
  readonly cpu: string;
  readonly ets: 0 | 2 | 3;
  /** Stage 2 translates. */
  readonly stage2: boolean;
  readonly serialization: "root-complex" | "interconnect";
  readonly relaxedOrdering: boolean;
  readonly cache: boolean;
  /** Hardware access flag and dirty state (TCR_EL1.HA, HD). */
  readonly hardwareUpdate: boolean;
}

export interface LitmusTest {
  readonly file: string;
  readonly line: number;
  /** Row and variant: A12, A12/ctrl. */
  readonly id: string;
  readonly name: string;
  readonly sources: readonly string[];
  readonly machine: LitmusMachine;
  readonly pages: readonly PageSetup[];
  readonly maps: readonly { readonly symbol: string; readonly where: string; readonly offset: number; readonly type: string }[];
  /** vCPU -> physical CPU, where it is not its own number. */
  readonly placed: ReadonlyMap<number, number>;
  readonly hosts: readonly HostThread[];
  readonly program: Program;
  readonly questions: readonly Question[];
  /** Not run: the mechanism that is missing. */
  readonly missing: string | undefined;
}
