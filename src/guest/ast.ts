/** The tree of a script. Every node knows its place, for messages and for the results of a run. */
import type { Span } from "./diagnostics.js";

export type Expr =
  | { readonly kind: "number"; readonly value: bigint; readonly span: Span }
  | { readonly kind: "string"; readonly text: string; readonly span: Span }
  | { readonly kind: "name"; readonly name: string; readonly span: Span }
  | { readonly kind: "unary"; readonly op: string; readonly of: Expr; readonly span: Span }
  | { readonly kind: "binary"; readonly op: string; readonly left: Expr; readonly right: Expr; readonly span: Span }
  | Call;

/** A system call or ioctl: `mmap(0, 4M, PROT_READ, MAP_SHARED, dev, bar2)`, arguments by position or by name. */
export interface Call {
  readonly kind: "call";
  readonly name: string;
  readonly args: readonly Argument[];
  readonly span: Span;
  /** Of the whole statement, for traces. */
  readonly text: string;
}

export interface Argument {
  readonly name: string | undefined;
  readonly value: Expr;
  readonly span: Span;
}

/** A part of an A64 operand: text as written, or an expression that becomes a number. */
export type OperandPart = { readonly text: string; readonly span: Span } | { readonly expr: Expr; readonly span: Span };

export type GuestStatement =
  | {
      readonly kind: "instruction";
      readonly mnemonic: string;
      readonly operands: readonly (readonly OperandPart[])[];
      readonly text: string;
      readonly span: Span;
    }
  | { readonly kind: "label"; readonly name: string; readonly span: Span }
  | {
      readonly kind: "loop";
      readonly name: string;
      readonly from: Expr;
      readonly to: Expr;
      readonly step: Expr | undefined;
      readonly body: readonly GuestStatement[];
      readonly span: Span;
    };

export interface GuestBlock {
  readonly kind: "guest";
  /** Number of the vCPU. */
  readonly vcpu: number;
  readonly body: readonly GuestStatement[];
  readonly span: Span;
}

/** One field of an event as an expectation names it. */
export interface FieldTest {
  readonly name: string;
  readonly op: "=" | "!=" | "<" | "<=" | ">" | ">=";
  readonly value: Expr;
  readonly span: Span;
}

/** How many events an expectation wants. */
export interface Count {
  readonly least: number;
  readonly most: number;
}

export type Condition =
  | { readonly kind: "crash"; readonly not: boolean; readonly where: string | undefined; readonly reason: string | undefined }
  | { readonly kind: "livelock" }
  | { readonly kind: "deadlock" }
  | { readonly kind: "errno"; readonly name: string | undefined; readonly span: Span }
  | { readonly kind: "exit"; readonly count: Count; readonly reason: string; readonly fields: readonly FieldTest[]; readonly span: Span }
  | {
      readonly kind: "event";
      readonly count: Count;
      readonly event: string;
      readonly fields: readonly FieldTest[];
      readonly span: Span;
      readonly anywhere: boolean;
    }
  | { readonly kind: "inject"; readonly count: Count; readonly what: string; readonly fields: readonly FieldTest[]; readonly span: Span }
  | { readonly kind: "exception"; readonly not: boolean; readonly fields: readonly FieldTest[] }
  | { readonly kind: "stage2"; readonly ipa: Expr; readonly none: boolean; readonly fields: readonly FieldTest[] }
  | { readonly kind: "dirty"; readonly pages: readonly Expr[] }
  /** The line of a host address in the data cache: invalid, clean, dirty. */
  | { readonly kind: "cache"; readonly addr: Expr; readonly state: string; readonly span: Span }
  | { readonly kind: "value"; readonly expr: Expr };

export interface Expectation {
  readonly kind: "expect";
  /** Variant or era names it is limited to; empty: all. */
  readonly on: readonly NameAt[];
  readonly condition: Condition;
  readonly text: string;
  readonly span: Span;
}

/** A cell of the run's table: a value, or how often an event came in the whole run, or the sum of one of its fields. */
export interface Report {
  readonly kind: "report";
  readonly label: string;
  readonly what:
    | { readonly kind: "value"; readonly expr: Expr }
    /** The memory type of the leaf that maps an IPA. */
    | { readonly kind: "stage2"; readonly expr: Expr }
    /** A value of write_place, in words. */
    | { readonly kind: "place"; readonly expr: Expr }
    | { readonly kind: "count"; readonly event: string; readonly fields: readonly FieldTest[]; readonly span: Span }
    | {
        readonly kind: "sum";
        readonly event: string;
        readonly field: string;
        readonly fields: readonly FieldTest[];
        readonly span: Span;
        readonly fieldSpan: Span;
      };
  readonly span: Span;
}

export interface NameAt {
  readonly name: string;
  readonly span: Span;
}

export type Statement =
  | { readonly kind: "let"; readonly name: string; readonly value: Expr; readonly text: string; readonly span: Span }
  | Call
  | {
      readonly kind: "for";
      readonly name: string;
      readonly from: Expr;
      readonly to: Expr;
      readonly step: Expr | undefined;
      readonly body: readonly Statement[];
      readonly span: Span;
    }
  | GuestBlock
  | { readonly kind: "vmm"; readonly body: readonly Statement[]; readonly span: Span }
  | ParThread
  | { readonly kind: "par"; readonly agents: readonly (GuestBlock | ParThread)[]; readonly span: Span }
  | { readonly kind: "on"; readonly on: readonly NameAt[]; readonly body: readonly Statement[]; readonly span: Span }
  /** The VMM emulates the 4 KiB of a function's configuration space for the guest with the device's own. */
  | { readonly kind: "ecam"; readonly base: Expr; readonly device: Expr; readonly span: Span }
  /** The guest's access at an address ends its block with the exit not yet completed. */
  | { readonly kind: "leave"; readonly address: Expr; readonly span: Span }
  | { readonly kind: "answer"; readonly address: Expr; readonly value: Expr; readonly span: Span }
  | Report
  | Expectation;

/** A VMM thread inside `par`, or a kernel thread anywhere. */
export interface ParThread {
  readonly kind: "thread";
  /** khugepaged, kswapd, …: it makes no system calls. */
  readonly kernel: boolean;
  readonly name: string;
  readonly body: readonly Statement[];
  readonly span: Span;
}

/** A machine or variant setting: `kernel v5.4`, `set eagerDeviceMapping = always`. */
export interface Setting {
  readonly key: string;
  readonly words: readonly NameAt[];
  readonly value: Expr | undefined;
  readonly span: Span;
}

export interface Variant {
  readonly name: string;
  readonly settings: readonly Setting[];
  readonly span: Span;
}

export interface Script {
  readonly file: string;
  readonly title: string;
  readonly sources: readonly string[];
  readonly machine: readonly Setting[];
  readonly variants: readonly Variant[];
  readonly handler: { readonly body: readonly GuestStatement[]; readonly span: Span } | undefined;
  readonly body: readonly Statement[];
}
