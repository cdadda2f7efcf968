/** What instructions need of the processing element's memory side; `Pe` (pe.ts) is the one implementation. */
import type { AtOp, DcOp, IcOp } from "./a64system.js";

/** Results of every access. */
export const PE_OK = 0;
/** An exception was taken to EL1: ESR, FAR, ELR, SPSR, PSTATE and PC of the vCPU are set. */
export const PE_EL1 = 1;
/** A stage-2 abort or a trap is latched in ESR_EL2, FAR_EL2, HPFAR_EL2; PC is at the instruction. */
export const PE_EL2 = 2;

export interface PeAccess {
  /** Data of the last read, or of the next write: bits 31:0, 63:32, 95:64, 127:96. A narrow read is zero-extended. */
  d0: number;
  d1: number;
  d2: number;
  d3: number;
  /** Loads and stores of a vCPU whose context the PE has entered. */
  readHere(v: number, vaHi: number, vaLo: number, size: number, iss: number): number;
  writeHere(v: number, vaHi: number, vaLo: number, size: number, iss: number): number;
  /** Fetches the instruction word into d0. */
  fetch(v: number, vaHi: number, vaLo: number): number;
  /** Checks an exclusive or atomic access (alignment always) without making it. */
  probe(v: number, vaHi: number, vaLo: number, size: number, iss: number, write: boolean): number;
  /** The alignment and both pages of an ordered access or a pair, without making it. */
  check(v: number, vaHi: number, vaLo: number, size: number, iss: number, write: boolean): number;
  /** The last probe found memory where this CPU's atomics do nothing and store-exclusives fail. */
  atomicIsNop(): boolean;
  dc(v: number, op: DcOp, vaHi: number, vaLo: number): number;
  ic(v: number, op: IcOp, vaHi: number, vaLo: number): number;
  at(v: number, op: AtOp, vaHi: number, vaLo: number): number;
  tlbi(v: number, op: number, hi: number, lo: number): void;
  dsb(v: number, type: number): void;
  dmb(v: number, type: number): void;
  isb(v: number): void;
  /** An exclusive or atomic access has been made: its store waits in no buffer. */
  atomicDone(): void;
}

/** What a slow instruction did. */
export const STEP_NEXT = 0;
/** PC in the register file is where to go on (exception, ERET). */
export const STEP_RELOAD = 1;
/** Left for EL2: the syndrome is latched. */
export const STEP_EL2 = 2;
export const STEP_WFI = 3;
