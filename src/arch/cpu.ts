/**
 * The instruction interpreter: runs a vCPU's guest code, fetched through the processing element, until
 * something leaves the guest (Arm ARM C1, D1; the instructions' own pages in C6).
 *
 * A word is decoded once into flat fields and remembered by its value: a pure function of the word and
 * the CPU model. Two small memories beside it save work that would have no effect of its own, a TLB hit:
 *
 * - the window: the instructions fetched through the present code page. Empty at the start of a run, when
 *   another page is entered, when the page's TLB entry is no longer the one that the fetches hit, and when
 *   the vCPU stores to the page.
 * - data pages: where the words of a RAM page lie whose TLB entry a load or store has just hit. An entry
 *   goes when anything else uses its place in the TLB, all go when anything happens that is not a plain
 *   load, store or arithmetic.
 *
 * Neither outlives a run, so no other agent, nor undo, can come between.
 *
 * A loop that is taken often becomes a function (compiled.ts), which the branch back enters when its words are those that
 * were compiled and a fetch of each would hit. It makes accesses to data pages that are known by itself and calls `loopLoad` and
 * `loopStore` for all others, with PC, clock, flags and registers where the instruction has them; it is left before any
 * instruction that it cannot finish. While anybody records or steps nothing is entered, nor a loop with a breakpoint in it.
 */
import { PE_EL2, STEP_EL2, STEP_NEXT, STEP_RELOAD } from "./a64access.js";
import { addFlagsW, addFlagsX, Alu, flagsNz, holds, subFlagsW, subFlagsX } from "./a64alu.js";
import { DataOps } from "./a64data.js";
import { MemoryOps, spOffset } from "./a64memory.js";
import { ACCESS_BYTES, ACCESS_SIGNED, ACCESS_X, F_HI, F_ISS, F_LO, F_RA, F_RD, F_RM, F_RN, FIELD_WORDS, Op } from "./a64ops.js";
import { SystemOps } from "./a64systemops.js";
import { LOOP_SHIFT, LOOP_TRIPS, LOOP_WORDS, Loops, type LoopFunction } from "./compiled.js";
import {
  IO_CHARGED,
  IO_FETCHED,
  IO_HI,
  IO_LEFT,
  IO_LO,
  IO_RAM,
  IO_STAMP,
  IO_WORDS,
  LOOP_LEAVE,
  PAGE_ENTRIES,
  STORE_PAGES,
} from "./compiledtext.js";
import { decodeInto } from "./decode.js";
import { EC_PC_ALIGN, Exceptions, syndromeOf, VECTOR_SYNC } from "./exception.js";
import type { CpuFeatures } from "./features.js";
import {
  MONITOR,
  PC,
  PSTATE,
  PSTATE_BTYPE,
  SCTLR_EL1,
  SCTLR_M,
  STOP_ENABLED,
  STOP_PC,
  TCR_EL1,
  X,
  ZR,
  type RegisterFile,
} from "./registers.js";
import type { Pe } from "./pe.js";
import { ISS_ISV_FIELDS } from "./syndrome.js";
import { C_FLAGS, C_SLOT, C_TAG, C_VA_HI, vaHash } from "./tlb.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** Why `run` came back. */
export const RUN_BUDGET = 0;
/** An abort or trap is latched in ESR_EL2, FAR_EL2, HPFAR_EL2; PC is the preferred return address. */
export const RUN_EL2 = 1;
/** PC is the breakpoint; it has not been executed. */
export const RUN_BREAKPOINT = 2;
/** WFI; PC is after it. */
export const RUN_WFI = 3;
/** `b .`: nothing will ever change by running on. */
export const RUN_SELF_BRANCH = 4;

const NZCV_MASK = 0x0fffffff;
const MAX_BUDGET = 0x7ffffffe;
/** The window, by address in the page: [stamp, decoded fields …, word], 16 words an instruction. */
const WINDOW_WORDS = 1024 * 16;
const W_WORD = 1 + FIELD_WORDS;
/** Of a branch back in its page: trips, its compiled loop (-1: cannot be compiled), and the stamp under which its words were compared. */
const W_TRIPS = W_WORD + 1;
const W_LOOP = W_WORD + 2;
const W_COMPARED = W_WORD + 3;
/** One of so many trips (a mask) asks for a compiled loop, all of them once it has paid. */
const ASK_TRIPS = 15;
/** Budget below which it does not pay to enter a compiled loop. */
const LEAST_BUDGET = 16;
/** Decoded words kept before all are forgotten. */
const DECODED_LIMIT = 1 << 15;

/** Where a data page of loads is looked for. */
function dataPage(hi: number, lo: number): number {
  return (vaHash(hi, lo) & (PAGE_ENTRIES - 1)) << 2;
}

type LoopEntry = (at: number, off: number, v: number, b: number, code: number, pcLo: number, pcHi: number) => number;

export class Cpu {
  readonly exceptions: Exceptions;
  private readonly data: DataOps;
  private readonly memory: MemoryOps;
  private readonly system: SystemOps;
  private readonly alu = new Alu();
  private readonly pool: I32Pool;

  // Memo of decodeInto: open addressing by word. `keys` holds the entry number + 1 and is twice as long as the others.
  private decoded = new Int32Array(512 * FIELD_WORDS);
  private words = new Int32Array(512);
  private decodedCount = 0;
  private keys = new Int32Array(1024);

  /** See the file's comment; the stamps say which entries are of the present window and run. */
  private readonly window = new Int32Array(WINDOW_WORDS);
  private readonly pages = new Int32Array(STORE_PAGES * 2);
  // The window: the TLB entry through which the code page is fetched, as it was.
  private readonly combined: I32Pool;
  private readonly changes: I32Pool;
  private readonly dir: I32Pool;
  private readonly full: I32Pool;
  private wEntry = 0;
  private wVaLo = 0;
  private wVaHi = 0;
  private wTag = 0;
  private wFlags = 0;
  private wSlot = -1;
  private wChanges = 0;
  /** The context (`Pe.contextNumber`) in which that entry is known to be hit, -1 none. */
  private wContext = -1;
  /** Stamp of the data pages when it was opened: while that stands no other context can have begun. */
  private wOpened = 0;

  // Loops that are compiled: the words that pass between the interpreter and their functions, and where such a function stands.
  readonly loops: Loops;
  private readonly io = new Int32Array(IO_WORDS);
  private readonly loopWords = new Int32Array(LOOP_WORDS);
  /** Instructions that the last run executed, with the one that it ended in. */
  executed = 0;
  private loopV = 0;
  private loopPc = 0;
  /** The loop whose first instruction the last run ended in, and its branch in the window. */
  private loopLeft: LoopFunction | undefined;
  private loopAt = 0;

  /** @param trips of a loop before it is compiled, Infinity: never */
  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly pe: Pe,
    readonly features: CpuFeatures,
    trips = LOOP_TRIPS,
  ) {
    this.pool = regs.pool;
    this.combined = pe.tlbs.combined;
    this.changes = pe.tables.changes;
    this.dir = pe.phys.dir;
    this.full = pe.phys.full;
    this.exceptions = new Exceptions(regs, features);
    this.data = new DataOps(regs.pool);
    this.memory = new MemoryOps(regs.pool, pe, this.exceptions);
    this.system = new SystemOps(sim, regs.pool, pe, this.exceptions, features);
    this.loops = new Loops(trips, features, sim.costs, [
      this.pool,
      this.full,
      this.pages,
      this.io,
      this.loopLoad,
      this.loopStore,
      (fields: Int32Array, d: number, b: number): boolean => this.data.execute(fields, d, b),
    ]);
  }

  /** Offset of a word's fields in `decoded`. */
  private lookup(word: number): number {
    let mask = this.keys.length - 1;
    let h = Math.imul(word, 0x9e3779b1);
    h = (h ^ (h >>> 15)) & mask;
    for (let k = this.keys[h]!; k !== 0; k = this.keys[h]!) {
      if (this.words[k - 1] === word) return (k - 1) * FIELD_WORDS;
      h = (h + 1) & mask;
    }
    if (this.decodedCount === DECODED_LIMIT) {
      this.decodedCount = 0;
      this.keys.fill(0);
    }
    const n = this.decodedCount++;
    if (n * 2 >= this.keys.length) {
      this.grow();
      mask = this.keys.length - 1;
    }
    decodeInto(word, this.features, this.decoded, n * FIELD_WORDS);
    this.words[n] = word;
    this.insert(word, n + 1, mask);
    return n * FIELD_WORDS;
  }
  private insert(word: number, key: number, mask: number): void {
    let h = Math.imul(word, 0x9e3779b1);
    h = (h ^ (h >>> 15)) & mask;
    while (this.keys[h] !== 0) h = (h + 1) & mask;
    this.keys[h] = key;
  }
  private grow(): void {
    this.keys = new Int32Array(this.keys.length * 2);
    if (this.words.length < this.keys.length / 2) {
      const words = new Int32Array(this.keys.length / 2);
      words.set(this.words);
      this.words = words;
      const decoded = new Int32Array(words.length * FIELD_WORDS);
      decoded.set(this.decoded);
      this.decoded = decoded;
    }
    for (let n = 0; n < this.decodedCount - 1; n++) this.insert(this.words[n]!, n + 1, this.keys.length - 1);
  }

  /** Forgets what was fetched. */
  private newStamp(): number {
    const next = (this.io[IO_FETCHED]! + 1) | 0;
    if (next < 0) return this.wrapped(this.window, IO_FETCHED);
    return (this.io[IO_FETCHED] = next);
  }
  /** Forgets the data pages. */
  private newPageStamp(): number {
    const next = (this.io[IO_STAMP]! + 1) | 0;
    if (next < 0) return this.wrapped(this.pages, IO_STAMP);
    return (this.io[IO_STAMP] = next);
  }
  /** All stamps have been used: none is left that an entry could have by chance. */
  private wrapped(entries: Int32Array, stamp: number): number {
    entries.fill(0);
    return (this.io[stamp] = 1);
  }

  /** Makes the page just fetched from the window. */
  private openWindow(hi: number, lo: number): void {
    const i = this.pe.entry;
    const t = this.combined.a;
    this.wEntry = i;
    this.wVaLo = lo & ~0xfff;
    this.wVaHi = hi;
    this.wTag = t[i + C_TAG]!;
    this.wFlags = t[i + C_FLAGS]!;
    // A tagged address is not that of its entry: no window.
    this.wSlot = t[i + C_VA_HI] === hi ? t[i + C_SLOT]! : -1;
    this.wChanges = this.changes.a[0]!;
    this.wContext = this.pe.contextNumber;
    this.wOpened = this.io[IO_STAMP]!;
  }
  /** Would a fetch from the window's page still hit the same entry? */
  private windowHolds(): boolean {
    const t = this.combined.a;
    const i = this.wEntry;
    return (
      t[i] === this.wVaLo &&
      t[i + C_VA_HI] === this.wVaHi &&
      t[i + C_TAG] === this.wTag &&
      t[i + C_FLAGS] === this.wFlags &&
      t[i + C_SLOT] === this.wSlot &&
      this.changes.a[0] === this.wChanges
    );
  }
  /** Words in `full` of the window's page if this PC lies in it and a fetch would hit, else -1. @param stop a breakpoint is set */
  private codeWords(hi: number, lo: number, stop: boolean): number {
    if (stop || (lo & ~0xffc) !== this.wVaLo || hi !== this.wVaHi) return -1;
    return this.wSlot >= 0 && this.windowHits() && this.windowHolds() ? this.windowWords() : -1;
  }
  /** `codeWords` of the window from which a fetch has just been made. */
  private windowWords(): number {
    if (this.wSlot < 0) return -1;
    const ref = this.dir.a[this.wSlot]!;
    return ref < 0 ? ~ref << 10 : -1;
  }
  /** Is the window's entry, if it holds, hit in the present context? Asked first: a TLBI takes contexts away, not entries. */
  private windowHits(): boolean {
    const context = this.pe.contextNumber;
    if (this.wContext !== context) {
      if (!this.pe.fetchHits(this.wEntry, this.wTag, this.wFlags)) return false;
      this.wContext = context;
    }
    return true;
  }
  /** Did a store to this address, which has just succeeded, go to the window's page? */
  private storedToWindow(hi: number, lo: number, size: number): boolean {
    const t = this.combined.a;
    const i = this.pe.tlbs.combinedAt(this.sim.agents.cpu, hi, lo);
    // Over a page boundary, or with a tagged address, the entry is another: rather fetch once more.
    return (lo & 0xfff) + size > 4096 || t[i] !== (lo & ~0xfff) || t[i + C_SLOT] === this.wSlot;
  }

  /**
   * Fetches at PC, which the register file holds, into the window.
   * @returns 0, or the STEP_ code of what the fetch ended in
   */
  private fetch(v: number, hi: number, lo: number, stamp: number): number {
    const at = (lo & 0xffc) << 2;
    const w = this.window;
    let word: number;
    // The page has been fetched from in this context, and the entry stands: a hit.
    const code = this.wOpened === this.io[IO_STAMP] ? this.codeWords(hi, lo, false) : -1;
    if (code >= 0) word = this.full.a[code | ((lo & 0xfff) >> 2)]!;
    else {
      if ((lo & 3) !== 0) {
        this.exceptions.takeExceptionEl1(v, syndromeOf(EC_PC_ALIGN, 0), hi, lo, VECTOR_SYNC);
        return STEP_RELOAD;
      }
      const result = this.pe.fetchHere(v, hi, lo);
      if (result !== 0) return result === PE_EL2 ? STEP_EL2 : STEP_RELOAD;
      word = this.pe.d0;
      this.openWindow(hi, lo);
    }
    // An entry without a stamp may still hold the right word.
    if (w[at + W_WORD] !== word || w[at] === 0) {
      const from = this.lookup(word);
      for (let k = 0; k < FIELD_WORDS; k++) w[at + 1 + k] = this.decoded[from + k]!;
      w[at + W_WORD] = word;
      w[at + W_TRIPS] = w[at + W_LOOP] = w[at + W_COMPARED] = 0;
    }
    w[at] = this.wSlot >= 0 ? stamp : -1;
    return STEP_NEXT;
  }

  /**
   * Target of an indirect branch: with top-byte-ignore the address is made canonical (AArch64.BranchAddr).
   * @returns the high word
   */
  private branchHi(b: number, hi: number): number {
    const top = hi >> 24;
    const r = this.pool.a;
    if (top === 0 || top === -1 || (r[b + SCTLR_EL1]! & SCTLR_M) === 0) return hi;
    const upper = (hi & (1 << 23)) !== 0;
    // TBI0 is bit 37, TBI1 bit 38 of TCR_EL1.
    if ((r[b + TCR_EL1 + 1]! & (upper ? 1 << 6 : 1 << 5)) === 0) return hi;
    return upper ? hi | (0xff << 24) : hi & 0x00ffffff;
  }

  /**
   * Runs a vCPU on the running agent's CPU.
   * @param budget at most this many instructions
   * @returns a RUN_ reason
   */
  run(v: number, budget: number): number {
    const most = budget > MAX_BUDGET ? MAX_BUDGET : budget | 0;
    if (this.loopLeft === undefined || v !== this.loopV || most <= LEAST_BUDGET) return this.interpret(v, most, true) | 0;
    const step = this.backIntoLoop(v, most) | 0;
    if (step === STEP_EL2) {
      this.loseMonitor(this.regs.base(v) | 0);
      return RUN_EL2;
    }
    const before = this.executed | 0;
    if (before === most) return RUN_BUDGET;
    const reason = this.interpret(v, most - before, step === STEP_RELOAD) | 0;
    this.executed += before;
    return reason;
  }

  /** Leaving the guest for EL2 and coming back is an exception return: the monitor is lost. */
  private loseMonitor(b: number): void {
    if (this.pool.a[b + MONITOR] !== 0) this.pool.set(b + MONITOR, 0);
  }

  /** What was known of code and data is known no more. @returns was an SError taken? PC is at its vector then */
  private beginContext(v: number, b: number): boolean {
    this.newStamp();
    this.newPageStamp();
    const serror = this.system.takePendingSerror(v, b);
    this.pe.enter(v);
    return serror;
  }

  /**
   * The last run ended at the first instruction of a compiled loop, in a fault most often: goes on there, if that is where the vCPU is.
   * @returns STEP_EL2: the run ends; STEP_NEXT: the interpreter goes on in the same context; STEP_RELOAD: it begins anew
   */
  private readonly backIntoLoop = (v: number, budget: number): number => {
    const r = this.pool.a;
    const b = this.regs.base(v) | 0;
    const pcLo = r[b + PC]!;
    const pcHi = r[b + PC + 1]!;
    const loop = this.loopLeft!;
    const before = this.executed;
    this.executed = 0;
    const watched = this.sim.state.recording || this.pe.modelled;
    if (pcLo !== this.loopPc || r[b + STOP_ENABLED] !== 0 || (r[b + PSTATE]! & PSTATE_BTYPE) !== 0 || watched) {
      // Gone elsewhere. Did the last run make a whole trip?
      if (before > 1 - (this.window[this.loopAt + 1 + F_LO]! >> 2)) this.leaveLoop();
      else this.loopLeft = undefined;
      return STEP_RELOAD;
    }
    if (this.beginContext(v, b)) return STEP_NEXT;
    let code = this.codeWords(pcHi, pcLo, false) | 0;
    if (code < 0) {
      const failed = this.fetch(v, pcHi, pcLo, this.io[IO_FETCHED]!);
      if (failed === STEP_RELOAD) this.executed = 1;
      if (failed !== STEP_NEXT) return failed;
      code = this.windowWords() | 0;
      if (code < 0) return STEP_NEXT;
    }
    const end = loop(b, pcLo, pcHi, code | ((pcLo & 0xfff) >> 2), budget, budget, 0) | 0;
    const left = this.io[IO_LEFT]!;
    const step = end & 3;
    this.executed = (budget - left) | 0;
    if (step !== STEP_EL2) this.leaveLoop();
    if (step === STEP_NEXT) {
      this.syncPc(b, (pcLo + end) | 0, pcHi);
      this.charge((this.io[IO_CHARGED]! - left) * this.sim.costs.instruction + this.io[IO_RAM]!);
    }
    return step;
  };

  /** The loop has been gone back into and is left to the interpreter, which asks for it at once at its branch: it has paid. */
  private leaveLoop(): void {
    this.loopLeft = undefined;
    this.window[this.loopAt + W_TRIPS] = 0;
  }

  /**
   * The hot loop writes registers at few places (each call of `set` that is inlined counts): a result for
   * rd, the flags, PC before anything that can fault, a base register. Its blocks, inside out:
   * `done` what a slow or faulting instruction did, `flagged` new flags then a result, `result` a value
   * for rd, `next` on to PC + 4.
   * @param fresh false: goes on in the context that `backIntoLoop` has begun
   */
  private readonly interpret = (v: number, budget: number, fresh: boolean): number => {
    const pool = this.pool;
    const pe = this.pe;
    const alu = this.alu;
    const r = pool.a;
    // While nobody records, words are written without the journal's test: nothing can begin to record here.
    const recording = this.sim.state.recording;
    const b = this.regs.base(v) | 0;
    const dec = this.window;
    const pages = this.pages;
    const dir = this.dir;
    let full = this.full.a;
    const { agents } = this.sim;
    const cost = this.sim.costs.instruction | 0;
    const ramCost = this.sim.costs.ramAccess | 0;
    if (fresh) this.beginContext(v, b);
    let stamp = this.io[IO_FETCHED]! | 0;
    let pageStamp = this.io[IO_STAMP]! | 0;
    let codeSlot = -1;
    let pcLo = r[b + PC]!;
    // The high word in the register file always equals this one.
    let pcHi = r[b + PC + 1]!;
    const stop = r[b + STOP_ENABLED] !== 0;
    // Words of the code page in `full` while PC is aligned and in the window's page and its TLB entry stands, -1: fetch.
    let code = this.codeWords(pcHi, pcLo, stop) | 0;
    if (code >= 0) codeSlot = this.wSlot;
    const stopLo = r[b + STOP_PC]!;
    const stopHi = r[b + STOP_PC + 1]!;
    let left = budget | 0;
    // What was executed and not yet added to the clock: instructions since `charged`, and RAM accesses.
    let charged = left;
    let ram = 0;
    // 2: BTYPE was just set, 1: the instruction after is under way, 0: BTYPE is zero.
    let btype = (r[b + PSTATE]! & PSTATE_BTYPE) !== 0 ? 2 : 0;
    // The head of the loop looks closer when `left` is not above this.
    let limit = btype !== 0 ? MAX_BUDGET : 0;
    let reason = RUN_BUDGET;

    loop: for (;;) {
      if (left <= limit) {
        if (btype !== 0 && --btype === 0) this.clearBtype(b);
        limit = btype !== 0 ? MAX_BUDGET : 0;
        if (left <= 0) break;
      }
      const at = (pcLo & 0xffc) << 2;
      if (dec[at] === stamp) {
        // Fetched in this run.
      } else if (code >= 0 && dec[at + W_WORD] === full[code + (at >> 4)] && dec[at]! > 0) {
        // Fetched in an earlier run, and a fetch now would hit the same entry and find the same word.
        dec[at] = stamp;
      } else {
        if (stop && pcLo === stopLo && pcHi === stopHi) {
          reason = RUN_BREAKPOINT;
          break;
        }
        this.syncPc(b, pcLo, pcHi);
        this.charge((charged - left) * cost + ram);
        charged = left;
        ram = 0;
        const failed = this.fetch(v, pcHi, pcLo, stamp);
        // The fetch may have taken a data page's place in the TLB.
        const k = dataPage(pcHi, pcLo);
        pages[k + 2] = 0;
        pages[k + STORE_PAGES + 2] = 0;
        if (failed !== STEP_NEXT) {
          if (failed === STEP_EL2) {
            reason = RUN_EL2;
            break;
          }
          // The exception counts as an instruction: a fault loop ends with the budget.
          left = (left - 1) | 0;
          btype = 0;
          pcLo = r[b + PC]!;
          pcHi = r[b + PC + 1]!;
          stamp = this.newStamp() | 0;
          code = -1;
          pageStamp = this.newPageStamp() | 0;
          pe.enter(v);
          continue;
        }
        code = stop ? -1 : this.windowWords() | 0;
        if (this.wSlot !== codeSlot || this.changes.a[0] !== this.wChanges) {
          codeSlot = this.wSlot;
          pageStamp = this.newPageStamp() | 0;
        }
      }
      const d = at + 1;
      left = (left - 1) | 0;
      const op = dec[d]!;
      let lo = 0;
      let hi = 0;
      let flags = 0;
      let step: number;
      next: {
        result: {
          flagged: {
            done: {
              if (op <= Op.StoreReg && op !== Op.Undefined) {
                // ---- loads and stores of one general register
                let n: number;
                const rn = dec[d + F_RN]!;
                if (op === Op.LoadImm && rn >= 0 && dec[d + F_RA] === (8 | ACCESS_X)) {
                  // ldr Xt, [Xn, #imm] from a page that is known: what follows, without what cannot be.
                  const low = r[b + rn]!;
                  const imm = dec[d + F_LO]!;
                  const at8 = (low + imm) | 0;
                  const high = (r[b + rn + 1]! + (imm >> 31) + (at8 >>> 0 < low >>> 0 ? 1 : 0)) | 0;
                  const p = dataPage(high, at8);
                  const first = pages[p + 3]!;
                  if (pages[p + 2] === pageStamp && pages[p] === (at8 & ~0xfff) && pages[p + 1] === high && (at8 & 7) === 0 && first >= 0) {
                    ram = (ram + ramCost) | 0;
                    const w = first + ((at8 & 0xfff) >> 2);
                    lo = full[w]!;
                    hi = full[w + 1]!;
                    break result;
                  }
                }
                if (rn >= 0) n = b + rn;
                else {
                  this.syncPc(b, pcLo, pcHi);
                  step = this.memory.checkSp(v, b);
                  if (step !== STEP_NEXT) break done;
                  n = b + spOffset(r[b + PSTATE]!);
                }
                let al = r[n]!;
                let ah = r[n + 1]!;
                const imm = dec[d + F_LO]!;
                // What goes into the address, and what into the base register.
                let off = imm;
                if (op === Op.LoadPost || op === Op.StorePost) off = 0;
                else if (op === Op.LoadReg || op === Op.StoreReg) {
                  const m = b + dec[d + F_RM]!;
                  alu.extend(r[m]!, r[m + 1]!, dec[d + F_HI]!, imm);
                  const sum = (al + alu.lo) | 0;
                  ah = (ah + alu.hi + (sum >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                  al = sum;
                  off = 0;
                } else if (op === Op.LoadLiteral) {
                  al = pcLo;
                  ah = pcHi;
                }
                const vl = (al + off) | 0;
                const vh = (ah + (off >> 31) + (vl >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                const access = dec[d + F_RA]!;
                const size = access & ACCESS_BYTES;
                const page = vl & ~0xfff;
                const k = dataPage(vh, vl);
                if (op <= Op.LoadLiteral) {
                  const first = pages[k + 3]!;
                  if (
                    pages[k + 2] === pageStamp &&
                    pages[k] === page &&
                    pages[k + 1] === vh &&
                    (vl & (size - 1)) === 0 &&
                    (first >= 0 || dir.a[~first] === 0)
                  ) {
                    ram = (ram + ramCost) | 0;
                    if (first >= 0) {
                      const w = first + ((vl & 0xfff) >> 2);
                      lo = full[w]!;
                      if (size === 8) hi = full[w + 1]!;
                      else if (size !== 4) lo = (lo >>> ((vl & 3) << 3)) & (size === 1 ? 0xff : 0xffff);
                    }
                  } else {
                    pool.set(b + PC, pcLo);
                    agents.charge((charged - left) * cost + ram);
                    charged = left;
                    ram = 0;
                    const outcome = pe.readHere(v, vh, vl, size, dec[d + F_ISS]!);
                    if (outcome !== 0) {
                      step = outcome === PE_EL2 ? STEP_EL2 : STEP_RELOAD;
                      break done;
                    }
                    this.accessed(vh, vl, size, 0);
                    if (this.io[IO_FETCHED]! !== stamp) code = -1;
                    stamp = this.io[IO_FETCHED]! | 0;
                    pageStamp = this.io[IO_STAMP]! | 0;
                    full = this.full.a;
                    lo = pe.d0 | 0;
                    if (size === 8) hi = pe.d1 | 0;
                  }
                  if ((access & ACCESS_SIGNED) !== 0) {
                    if (size === 1) lo = (lo << 24) >> 24;
                    else if (size === 2) lo = (lo << 16) >> 16;
                    if ((access & ACCESS_X) !== 0) hi = lo >> 31;
                  }
                } else {
                  const t = b + dec[d + F_RD]!;
                  const q = k + STORE_PAGES;
                  if (pages[q + 2] === pageStamp && pages[q] === page && pages[q + 1] === vh && (vl & (size - 1)) === 0 && size >= 4) {
                    ram = (ram + ramCost) | 0;
                    const w = pages[q + 3]! + ((vl & 0xfff) >> 2);
                    if (recording) {
                      this.full.set(w, r[t]!);
                      if (size === 8) this.full.set(w + 1, r[t + 1]!);
                    } else {
                      full[w] = r[t]!;
                      if (size === 8) full[w + 1] = r[t + 1]!;
                    }
                  } else {
                    pool.set(b + PC, pcLo);
                    agents.charge((charged - left) * cost + ram);
                    charged = left;
                    ram = 0;
                    pe.d0 = r[t]!;
                    pe.d1 = r[t + 1]!;
                    const outcome = pe.writeHere(v, vh, vl, size, dec[d + F_ISS]!);
                    if (outcome !== 0) {
                      step = outcome === PE_EL2 ? STEP_EL2 : STEP_RELOAD;
                      break done;
                    }
                    this.accessed(vh, vl, size, STORE_PAGES);
                    if (this.io[IO_FETCHED]! !== stamp) code = -1;
                    stamp = this.io[IO_FETCHED]! | 0;
                    pageStamp = this.io[IO_STAMP]! | 0;
                    full = this.full.a;
                  }
                }
                if (op === Op.LoadPost || op === Op.StorePost || op === Op.LoadPre || op === Op.StorePre) {
                  const wl = (al + imm) | 0;
                  const wh = (ah + (imm >> 31) + (wl >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                  if (recording) {
                    pool.set(n, wl);
                    pool.set(n + 1, wh);
                  } else {
                    r[n] = wl;
                    r[n + 1] = wh;
                  }
                }
                if (op > Op.LoadLiteral) break next;
                break result;
              }
              switch (op) {
                // ---- additions and subtractions
                case Op.AddXImm: {
                  const rn = dec[d + F_RN]!;
                  const n = rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!);
                  const al = r[n]!;
                  lo = (al + dec[d + F_LO]!) | 0;
                  hi = (r[n + 1]! + (lo >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                  break result;
                }
                case Op.SubXImm: {
                  const rn = dec[d + F_RN]!;
                  const n = rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!);
                  const al = r[n]!;
                  const imm = dec[d + F_LO]!;
                  lo = (al - imm) | 0;
                  hi = (r[n + 1]! - (al >>> 0 < imm >>> 0 ? 1 : 0)) | 0;
                  break result;
                }
                case Op.AddsXImm: {
                  const rn = dec[d + F_RN]!;
                  const n = rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!);
                  const al = r[n]!;
                  const ah = r[n + 1]!;
                  lo = (al + dec[d + F_LO]!) | 0;
                  hi = (ah + (lo >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                  flags = addFlagsX(ah, 0, lo, hi) | 0;
                  break flagged;
                }
                case Op.SubsXImm: {
                  const rn = dec[d + F_RN]!;
                  const n = rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!);
                  const al = r[n]!;
                  const ah = r[n + 1]!;
                  const imm = dec[d + F_LO]!;
                  lo = (al - imm) | 0;
                  hi = (ah - (al >>> 0 < imm >>> 0 ? 1 : 0)) | 0;
                  flags = subFlagsX(ah, 0, lo, hi) | 0;
                  break flagged;
                }
                case Op.AddXReg:
                case Op.AddsXReg:
                case Op.SubXReg:
                case Op.SubsXReg:
                case Op.AddXExt:
                case Op.AddsXExt:
                case Op.SubXExt:
                case Op.SubsXExt: {
                  const m = b + dec[d + F_RM]!;
                  const rn = dec[d + F_RN]!;
                  const n = rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!);
                  let bl = r[m]!;
                  let bh = r[m + 1]!;
                  if (op >= Op.AddXExt) {
                    alu.extend(bl, bh, dec[d + F_HI]!, dec[d + F_LO]!);
                    bl = alu.lo | 0;
                    bh = alu.hi | 0;
                  } else if (dec[d + F_LO] !== 0) {
                    alu.shiftX(bl, bh, dec[d + F_HI]!, dec[d + F_LO]!);
                    bl = alu.lo | 0;
                    bh = alu.hi | 0;
                  }
                  const al = r[n]!;
                  const ah = r[n + 1]!;
                  if (op === Op.AddXReg || op === Op.AddXExt || op === Op.AddsXReg || op === Op.AddsXExt) {
                    lo = (al + bl) | 0;
                    hi = (ah + bh + (lo >>> 0 < al >>> 0 ? 1 : 0)) | 0;
                    if (op === Op.AddXReg || op === Op.AddXExt) break result;
                    flags = addFlagsX(ah, bh, lo, hi) | 0;
                  } else {
                    lo = (al - bl) | 0;
                    hi = (ah - bh - (al >>> 0 < bl >>> 0 ? 1 : 0)) | 0;
                    if (op === Op.SubXReg || op === Op.SubXExt) break result;
                    flags = subFlagsX(ah, bh, lo, hi) | 0;
                  }
                  break flagged;
                }
                case Op.AddWImm:
                case Op.AddsWImm:
                case Op.SubWImm:
                case Op.SubsWImm:
                case Op.AddWReg:
                case Op.AddsWReg:
                case Op.SubWReg:
                case Op.SubsWReg:
                case Op.AddWExt:
                case Op.AddsWExt:
                case Op.SubWExt:
                case Op.SubsWExt: {
                  const rn = dec[d + F_RN]!;
                  const a = r[rn >= 0 ? b + rn : b + spOffset(r[b + PSTATE]!)]!;
                  let c: number;
                  if (op <= Op.SubsWImm) c = dec[d + F_LO]!;
                  else {
                    c = r[b + dec[d + F_RM]!]!;
                    if (op >= Op.AddWExt) {
                      alu.extend(c, 0, dec[d + F_HI]!, dec[d + F_LO]!);
                      c = alu.lo | 0;
                    } else c = alu.shiftW(c, dec[d + F_HI]!, dec[d + F_LO]!) | 0;
                  }
                  switch (op) {
                    case Op.AddWImm:
                    case Op.AddWReg:
                    case Op.AddWExt:
                      lo = (a + c) | 0;
                      break result;
                    case Op.SubWImm:
                    case Op.SubWReg:
                    case Op.SubWExt:
                      lo = (a - c) | 0;
                      break result;
                    case Op.AddsWImm:
                    case Op.AddsWReg:
                    case Op.AddsWExt:
                      lo = (a + c) | 0;
                      flags = addFlagsW(a, c) | 0;
                      break flagged;
                    default:
                      lo = (a - c) | 0;
                      flags = subFlagsW(a, c) | 0;
                      break flagged;
                  }
                }
                // ---- logic
                case Op.AndXImm:
                case Op.OrrXImm:
                case Op.EorXImm:
                case Op.AndsXImm:
                case Op.AndXReg:
                case Op.OrrXReg:
                case Op.EorXReg:
                case Op.AndsXReg:
                case Op.AndWImm:
                case Op.OrrWImm:
                case Op.EorWImm:
                case Op.AndsWImm:
                case Op.AndWReg:
                case Op.OrrWReg:
                case Op.EorWReg:
                case Op.AndsWReg: {
                  const n = b + dec[d + F_RN]!;
                  const wide = (op >= Op.AndXImm && op <= Op.AndsXImm) || (op >= Op.AndXReg && op <= Op.AndsXReg);
                  let cl = dec[d + F_LO]!;
                  let ch = dec[d + F_HI]!;
                  if (op >= Op.AndXReg) {
                    const m = b + dec[d + F_RM]!;
                    const type = ch;
                    const amount = cl;
                    cl = r[m]!;
                    ch = r[m + 1]!;
                    if (amount !== 0) {
                      if (wide) {
                        alu.shiftX(cl, ch, type & 3, amount);
                        cl = alu.lo | 0;
                        ch = alu.hi | 0;
                      } else cl = alu.shiftW(cl, type & 3, amount) | 0;
                    }
                    if ((type & 4) !== 0) {
                      cl = ~cl;
                      ch = ~ch;
                    }
                  }
                  lo = r[n]!;
                  hi = r[n + 1]!;
                  switch (op) {
                    case Op.OrrXImm:
                    case Op.OrrXReg:
                    case Op.OrrWImm:
                    case Op.OrrWReg:
                      lo |= cl;
                      hi |= ch;
                      break;
                    case Op.EorXImm:
                    case Op.EorXReg:
                    case Op.EorWImm:
                    case Op.EorWReg:
                      lo ^= cl;
                      hi ^= ch;
                      break;
                    default:
                      lo &= cl;
                      hi &= ch;
                  }
                  if (!wide) hi = 0;
                  if (op === Op.AndsXImm || op === Op.AndsXReg) {
                    flags = flagsNz(lo, hi) | 0;
                    break flagged;
                  }
                  if (op === Op.AndsWImm || op === Op.AndsWReg) {
                    flags = flagsNz(lo, lo) | 0;
                    break flagged;
                  }
                  break result;
                }
                // ---- moves and addresses
                case Op.MovConst:
                  lo = dec[d + F_LO]!;
                  hi = dec[d + F_HI]!;
                  break result;
                case Op.MovkX:
                case Op.MovkW: {
                  const n = b + dec[d + F_RD]!;
                  const shift = dec[d + F_HI]!;
                  const mask = 0xffff << (shift & 16);
                  const bits = dec[d + F_LO]! << (shift & 16);
                  lo = r[n]!;
                  hi = op === Op.MovkX ? r[n + 1]! : 0;
                  if (shift >= 32) hi = (hi & ~mask) | bits;
                  else lo = (lo & ~mask) | bits;
                  break result;
                }
                case Op.Adr: {
                  const off = dec[d + F_LO]!;
                  lo = (pcLo + off) | 0;
                  hi = (pcHi + (off >> 31) + (lo >>> 0 < pcLo >>> 0 ? 1 : 0)) | 0;
                  break result;
                }
                case Op.Adrp: {
                  // The offset in pages has 21 bits: 33 in bytes.
                  const off = dec[d + F_LO]!;
                  const base = pcLo & ~0xfff;
                  lo = (base + (off << 12)) | 0;
                  hi = (pcHi + (off >> 20) + (lo >>> 0 < base >>> 0 ? 1 : 0)) | 0;
                  break result;
                }
                // ---- branches
                case Op.BCond: {
                  const condition = dec[d + F_HI]!;
                  const pstate = r[b + PSTATE]!;
                  // EQ and NE without a call.
                  if (condition <= 1 ? ((pstate >>> 30) & 1) === condition : !holds(condition, pstate)) break next;
                  break;
                }
                case Op.CbzX: {
                  const t = b + dec[d + F_RD]!;
                  if ((r[t]! | r[t + 1]!) !== 0) break next;
                  break;
                }
                case Op.CbnzX: {
                  const t = b + dec[d + F_RD]!;
                  if ((r[t]! | r[t + 1]!) === 0) break next;
                  break;
                }
                case Op.CbzW:
                  if (r[b + dec[d + F_RD]!] !== 0) break next;
                  break;
                case Op.CbnzW:
                  if (r[b + dec[d + F_RD]!] === 0) break next;
                  break;
                case Op.Tbz:
                  if (((r[b + dec[d + F_RD]! + dec[d + F_RA]!]! >>> dec[d + F_HI]!) & 1) !== 0) break next;
                  break;
                case Op.Tbnz:
                  if (((r[b + dec[d + F_RD]! + dec[d + F_RA]!]! >>> dec[d + F_HI]!) & 1) === 0) break next;
                  break;
                case Op.B:
                  if (dec[d + F_LO] === 0) {
                    reason = RUN_SELF_BRANCH;
                    break loop;
                  }
                  break;
                case Op.Bl:
                  this.link(b, pcLo, pcHi);
                  break;
                case Op.Br:
                case Op.Blr:
                case Op.Ret: {
                  const n = b + dec[d + F_RN]!;
                  const tl = r[n]!;
                  const th = this.branchHi(b, r[n + 1]!) | 0;
                  if (op === Op.Blr) this.link(b, pcLo, pcHi);
                  if (op !== Op.Ret && this.features.bti) {
                    this.setBtype(b, op === Op.Blr ? 2 : 1);
                    btype = 2;
                    limit = MAX_BUDGET;
                  }
                  // Another page, or an address that is not aligned: not from the window.
                  if (((tl ^ pcLo) & ~0xffc) !== 0 || th !== pcHi) {
                    stamp = this.newStamp() | 0;
                    code = -1;
                  }
                  pcLo = tl;
                  if (th !== pcHi) {
                    pcHi = th;
                    this.syncPc(b, pcLo, pcHi);
                  }
                  continue;
                }
                default:
                  this.syncPc(b, pcLo, pcHi);
                  this.charge((charged - left) * cost + ram);
                  charged = left;
                  ram = 0;
                  step = this.slowly(d, v, b, op);
                  if (op >= Op.Nop) {
                    // Whatever it was: registers, TLB, memory or code may have changed.
                    stamp = this.newStamp() | 0;
                    code = -1;
                    pageStamp = this.newPageStamp() | 0;
                    pe.enter(v);
                  } else if (op >= Op.LoadVecImm) {
                    const m = this.memory;
                    if (!this.windowHolds() || (m.stored !== 0 && this.storedToWindow(m.storedHi, m.storedLo, m.stored)))
                      stamp = this.newStamp() | 0;
                    code = -1;
                    pageStamp = this.newPageStamp() | 0;
                    full = this.full.a;
                  }
                  break done;
              }
              // A direct branch that is taken.
              const off = dec[d + F_LO]!;
              const from = pcLo;
              pcLo = (from + off) | 0;
              const to = (pcHi + (off >> 31) + (pcLo >>> 0 < from >>> 0 ? 1 : 0)) | 0;
              if (((from ^ pcLo) & ~0xfff) !== 0 || to !== pcHi) {
                pcHi = to;
                this.syncPc(b, pcLo, pcHi);
                stamp = this.newStamp() | 0;
                code = -1;
              } else if (off < 0 && btype === 0 && left > LEAST_BUDGET) {
                const trips = dec[at + W_TRIPS]!;
                if ((trips & ASK_TRIPS) !== 0) dec[at + W_TRIPS] = trips + 1;
                else {
                  this.io[IO_LEFT] = left;
                  this.io[IO_CHARGED] = charged;
                  this.io[IO_RAM] = ram;
                  const end = this.loopEntries[(trips >> 4) & 1]!(at, off, v, b, code, pcLo, pcHi) | 0;
                  step = end & 3;
                  left = this.io[IO_LEFT]!;
                  charged = step === STEP_NEXT ? this.io[IO_CHARGED]! : left;
                  ram = step === STEP_NEXT ? this.io[IO_RAM]! : 0;
                  if (this.io[IO_FETCHED]! !== stamp) code = -1;
                  stamp = this.io[IO_FETCHED]! | 0;
                  pageStamp = this.io[IO_STAMP]! | 0;
                  full = this.full.a;
                  if (step !== STEP_NEXT) break done;
                  pcLo = (pcLo + end) | 0;
                }
              }
              continue;
            }
            // What a slow or faulting instruction did.
            if (step === STEP_NEXT) break next;
            // PC in the register file is where the guest goes on: at the instruction, at a vector, or after HVC.
            pcLo = r[b + PC]!;
            pcHi = r[b + PC + 1]!;
            if (step === STEP_RELOAD) {
              pe.enter(v);
              btype = (r[b + PSTATE]! & PSTATE_BTYPE) !== 0 ? 2 : 0;
              limit = btype !== 0 ? MAX_BUDGET : 0;
              stamp = this.newStamp() | 0;
              code = -1;
              pageStamp = this.newPageStamp() | 0;
              continue;
            }
            reason = step === STEP_EL2 ? RUN_EL2 : RUN_WFI;
            break loop;
          }
          const pstate = (r[b + PSTATE]! & NZCV_MASK) | flags;
          if (recording) pool.set(b + PSTATE, pstate);
          else r[b + PSTATE] = pstate;
        }
        const rd = dec[d + F_RD]!;
        if (rd !== ZR) {
          const i = rd >= 0 ? b + rd : b + spOffset(r[b + PSTATE]!);
          if (recording) {
            pool.set(i, lo);
            pool.set(i + 1, hi);
          } else {
            r[i] = lo;
            r[i + 1] = hi;
          }
        }
      }
      pcLo = (pcLo + 4) | 0;
      if ((pcLo & 0xfff) === 0) {
        if (pcLo === 0) {
          pcHi = (pcHi + 1) | 0;
          this.syncPc(b, pcLo, pcHi);
        }
        stamp = this.newStamp() | 0;
        code = -1;
      }
    }
    this.syncPc(b, pcLo, pcHi);
    this.charge((charged - left) * cost + ram);
    this.executed = (budget - left) | 0;
    if (reason === RUN_EL2 || reason === RUN_WFI) this.loseMonitor(b);
    return reason;
  };

  /**
   * What is still known after a load or store that was not to a known page and has just succeeded, and where its page lies.
   * @param table of loads or stores @returns does the window hold?
   */
  private accessed(vh: number, vl: number, size: number, table: number): boolean {
    const t = this.combined.a;
    const e = this.pe.entry;
    const slot = t[e + C_SLOT]!;
    // RAM by another entry than the window's, which filled or changed no entry but its own. (A tagged address has another high word.)
    const apart = e !== this.wEntry && slot !== this.wSlot && slot !== -1 && t[e + C_VA_HI] === vh;
    if (!apart || (vl & (size - 1)) !== 0 || this.changes.a[0] !== this.wChanges || this.pe.modelled) {
      return this.accessedElse(vh, vl, size, table);
    }
    const k = dataPage(vh, vl);
    this.pages[k + 2] = 0;
    this.pages[k + STORE_PAGES + 2] = 0;
    this.rememberPage(k + table, vh, vl, slot);
    return true;
  }
  /** `accessed` by the window's entry or page, a device, unaligned, with a tagged address, or where tables have changed since the last fetch. */
  private accessedElse(vh: number, vl: number, size: number, table: number): boolean {
    const holds = this.windowHolds() && (table === 0 || !this.storedToWindow(vh, vl, size));
    if (!holds) this.newStamp();
    if (this.changes.a[0] !== this.wChanges || (vl & (size - 1)) !== 0) {
      this.newPageStamp();
      return holds;
    }
    const k = dataPage(vh, vl);
    this.pages[k + 2] = 0;
    this.pages[k + STORE_PAGES + 2] = 0;
    const t = this.combined.a;
    const i = this.pe.tlbs.combinedAt(this.sim.agents.cpu, vh, vl);
    // With buffers or caches in between an access is more than its page.
    if (!this.pe.modelled && t[i] === (vl & ~0xfff) && t[i + C_VA_HI] === vh && t[i + C_SLOT] !== -1) {
      this.rememberPage(k + table, vh, vl, t[i + C_SLOT]!);
    }
    return holds;
  }
  /** Remembers where the page of an access lies. @param at entry in `pages`, of a load or a store @param slot of its TLB entry */
  private rememberPage(at: number, hi: number, lo: number, slot: number): void {
    const store = at >= STORE_PAGES;
    // Stores to the code page are watched. The word of a narrow slot may say anything of a page that is not zero.
    if (store && (slot < 0 || slot === this.wSlot)) return;
    const said = slot < 0 ? ~slot : slot;
    const ref = this.dir.a[said]!;
    // Of a page that is zero is kept where that is said: it may come to life meanwhile.
    if (ref > 0 || (slot < 0 && ref !== 0) || (store && ref === 0)) return;
    const p = this.pages;
    p[at] = lo & ~0xfff;
    p[at + 1] = hi;
    p[at + 2] = this.io[IO_STAMP]!;
    p[at + 3] = ref < 0 ? ~ref << 10 : ~said;
  }

  /**
   * Two ways into `loop`, taken in turns: V8 makes a function that it knows part of `run`, and has to make all of `run` again when the first
   * loop is compiled.
   */
  private readonly loopEntries: readonly LoopEntry[] = [
    (at, off, v, b, code, pcLo, pcHi) => this.loop(at, off, v, b, code, pcLo, pcHi),
    (at, off, v, b, code, pcLo, pcHi) => this.loop(at, off, v, b, code, pcLo, pcHi),
  ];
  /**
   * A branch back has been taken that was taken often: runs its loop's function, if it has one and the words are still the same.
   * @param at the branch in the window @param off its offset @param code see `run`
   * @returns distance from the loop's first instruction of the one at which to go on, or a STEP_ code
   */
  private loop(at: number, off: number, v: number, b: number, code: number, pcLo: number, pcHi: number): number {
    const dec = this.window;
    const { loops } = this;
    let n = dec[at + W_LOOP]!;
    const r = this.pool.a;
    const length = 1 - (off >> 2);
    const stops = r[b + STOP_ENABLED] !== 0 && r[b + STOP_PC + 1] === pcHi && (r[b + STOP_PC]! - pcLo) >>> 0 < length << 2;
    const plain = !this.sim.state.recording && !this.pe.modelled && !stops;
    if (!plain || n < 0 || (n === 0 && dec[at + W_TRIPS]! < loops.trips)) {
      dec[at + W_TRIPS]!++;
      return 0;
    }
    const first = at + (off << 2);
    if (n === 0) {
      if (length <= LOOP_WORDS && !this.gather(first, length, code)) return 0;
      n = dec[at + W_LOOP] = length <= LOOP_WORDS ? this.compile(length) : -1;
      dec[at + W_COMPARED] = this.io[IO_FETCHED]!;
    } else if (dec[at + W_COMPARED] !== this.io[IO_FETCHED]!) {
      // Other code may have come to the same place.
      if (!this.isStill(n, first, length, code)) n = dec[at + W_LOOP] = 0;
      dec[at + W_COMPARED] = this.io[IO_FETCHED]!;
    }
    const left = this.io[IO_LEFT]!;
    if (n <= 0 || left < length) return 0;
    this.loopV = v;
    this.loopPc = pcLo;
    this.loopAt = at;
    const run = loops.get(n);
    this.pool.set(b + PC, pcLo);
    const end = run(b, pcLo, pcHi, -1, left, this.io[IO_CHARGED]!, this.io[IO_RAM]!);
    this.loopLeft = (end & 3) === STEP_EL2 && r[b + PC] === pcLo ? run : undefined;
    // It was left in its first trip (a fault, most often): the interpreter makes the next ones.
    dec[at + W_TRIPS] = left - this.io[IO_LEFT]! < length ? 1 : 0;
    return end;
  }
  /** Is the word at this place in the window known: fetched in this run, or a fetch would hit? */
  private known(i: number, code: number): boolean {
    return code >= 0 || this.window[i] === this.io[IO_FETCHED]!;
  }
  private wordAt(i: number, code: number): number {
    return this.window[i] === this.io[IO_FETCHED]! ? this.window[i + W_WORD]! : this.full.a[code + (i >> 4)]!;
  }
  /** Puts a loop's words into `loopWords`. @param first its first instruction in the window @returns false if one is not known */
  private gather(first: number, length: number, code: number): boolean {
    for (let k = 0, i = first; k < length; k++, i += 16) {
      if (!this.known(i, code)) return false;
      this.loopWords[k] = this.wordAt(i, code);
    }
    return true;
  }
  /** Are the words there those of loop n? */
  private isStill(n: number, first: number, length: number, code: number): boolean {
    const { words } = this.loops;
    const own = n << LOOP_SHIFT;
    for (let k = 0, i = first; k < length; k++, i += 16) if (!this.known(i, code) || this.wordAt(i, code) !== words[own + k]) return false;
    return true;
  }
  /** @returns the number of the loop in `loopWords`, or -1 */
  private compile(length: number): number {
    const { loops, window } = this;
    if (loops.full) {
      loops.forget();
      for (let i = W_LOOP; i < WINDOW_WORDS; i += 16) window[i] = 0;
    }
    return loops.make(this.loopWords, length);
  }
  /**
   * What a loop's function calls for an access that it does not make itself; its registers, and PC of the access, are in the file.
   * @param site size, and the fields of the syndrome in their place @param cycles until then, not yet charged
   * @returns a STEP_ code (that of PE_EL1 and PE_EL2 is the same number), or LOOP_LEAVE
   */
  private readonly loopLoad = (vl: number, vh: number, site: number, cycles: number): number => {
    const { io, pages } = this;
    const size = site & ACCESS_BYTES;
    const { agents, costs } = this.sim;
    agents.charge(cycles);
    const k = dataPage(vh, vl);
    if (
      pages[k + 2] === io[IO_STAMP] &&
      pages[k] === (vl & (~0xfff | (size - 1))) &&
      pages[k + 1] === vh &&
      this.dir.a[~pages[k + 3]!] === 0
    ) {
      // A page that is zero.
      io[IO_LO] = io[IO_HI] = 0;
      agents.charge(costs.ramAccess);
      return STEP_NEXT;
    }
    const full = this.full.a;
    const outcome = this.pe.readHere(this.loopV, vh, vl, size, site & ISS_ISV_FIELDS);
    if (outcome !== 0) return outcome;
    const holds = this.accessed(vh, vl, size, 0);
    io[IO_LO] = this.pe.d0;
    io[IO_HI] = this.pe.d1;
    return holds === true && this.full.a === full ? STEP_NEXT : LOOP_LEAVE;
  };
  private readonly loopStore = (vl: number, vh: number, lo: number, hi: number, site: number, cycles: number): number => {
    const size = site & ACCESS_BYTES;
    this.sim.agents.charge(cycles);
    const full = this.full.a;
    this.pe.d0 = lo;
    this.pe.d1 = hi;
    const outcome = this.pe.writeHere(this.loopV, vh, vl, size, site & ISS_ISV_FIELDS);
    if (outcome !== 0) return outcome;
    return this.accessed(vh, vl, size, STORE_PAGES) === true && this.full.a === full ? STEP_NEXT : LOOP_LEAVE;
  };

  // Register writes outside the hot paths.
  private syncPc(b: number, lo: number, hi: number): void {
    this.pool.set(b + PC, lo);
    this.pool.set(b + PC + 1, hi);
  }
  private charge(cycles: number): void {
    if (cycles !== 0) this.sim.agents.charge(cycles);
  }
  private setBtype(b: number, type: number): void {
    // 0b10 after BLR; after BR from a page that is not guarded 0b01.
    this.pool.set(b + PSTATE, (this.pool.a[b + PSTATE]! & ~PSTATE_BTYPE) | (type << 10));
  }
  private clearBtype(b: number): void {
    this.pool.set(b + PSTATE, this.pool.a[b + PSTATE]! & ~PSTATE_BTYPE);
  }
  private link(b: number, pcLo: number, pcHi: number): void {
    const lo = (pcLo + 4) | 0;
    this.pool.set(b + X + 60, lo);
    this.pool.set(b + X + 61, lo === 0 ? pcHi + 1 : pcHi);
  }

  /** The instructions outside the hot switch. */
  private slowly(d: number, v: number, b: number, op: number): number {
    const dec = this.window;
    if (op >= Op.Nop) {
      this.system.word = dec[d + FIELD_WORDS]!;
      return this.system.execute(dec, d, v, b);
    }
    if (op >= Op.LoadVecImm) return this.memory.execute(dec, d, v, b);
    if (op === Op.Undefined) return this.system.undefinedInstruction(v);
    if (op >= Op.FmovToD) {
      const trapped = this.memory.checkFp(v, b);
      if (trapped !== STEP_NEXT) return trapped;
    }
    return this.data.execute(dec, d, b) ? STEP_NEXT : this.system.undefinedInstruction(v);
  }
}
