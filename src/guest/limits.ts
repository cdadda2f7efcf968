/** Budgets of a script: what it may ask for before Faultline says no. */
export const LIMITS = {
  /** Bytes of a script file. */
  fileBytes: 1024 * 1024,
  /** Nested blocks, and nested parentheses of an expression. */
  nesting: 32,
  /** Statements and instructions of a file. */
  statements: 50_000,
  /** Variants of a file. */
  variants: 64,
  /** Iterations of all VMM loops of one run. */
  iterations: 1_000_000,
  /** Expectations that one run may judge. */
  expectations: 1_000_000,
  /** Bytes of guest code: the code slot. */
  codeBytes: 2 * 1024 * 1024,
  /** vCPUs of a machine. */
  vcpus: 8,
  /** Modelled RAM in bytes, `machine { ram … }`. */
  ram: 64 * 1024 ** 3,
} as const;

/** Budgets of one run, raised by `--max-steps` and `--max-memory`. */
export interface Budget {
  /** Phases of kernel operations and instructions of guest code, over all agents. */
  readonly steps: number;
  /** Bytes of emulator state. */
  readonly memory: number;
}
export const DEFAULT_BUDGET: Budget = { steps: 200_000_000, memory: 1024 ** 3 };
