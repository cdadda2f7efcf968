/**
 * Looking ahead (weak mode): finds a load or store behind the program counter that a CPU may perform, or whose walk it
 * may finish, before the instructions in between, and performs it. What comes of it waits in `EarlyAccesses`.
 *
 * The scan follows the fall-through path. It stops where the address is not known yet (a register that an instruction
 * in between writes: an address dependency) and at what orders: ISB for all, DSB and DMB of loads and LDAR for the
 * access itself; a walk passes those without FEAT_ETS2.
 */
import { Alu } from "./a64alu.js";
import { ACCESS_BYTES, F_HI, F_LO, F_OP, F_RA, F_RD, F_RM, F_RN, FIELD_WORDS, Op } from "./a64ops.js";
import { decodeInto } from "./decode.js";
import type { CpuFeatures } from "./features.js";
import { accessEarly } from "./orderingevents.js";
import {
  E_DATA,
  E_ESR,
  E_HPFAR_HI,
  E_HPFAR_LO,
  E_PA_HI,
  E_PA_LO,
  E_PC_HI,
  E_PC_LO,
  E_RESULT,
  E_SIZE,
  E_VA_HI,
  E_VA_LO,
  E_WHAT,
  EARLY_FAULT,
  EARLY_LOAD,
  EARLY_WALK,
} from "./orderingearly.js";
import { NOT_EARLY, type Pe } from "./pe.js";
import { ESR_EL1, ESR_EL2, HPFAR_EL2, PC, X, ZR, type RegisterFile } from "./registers.js";
import { PE_EL1, PE_OK } from "./translation.js";
import type { Sim } from "../sim/sim.js";

/** How many instructions ahead. */
const WINDOW = 12;
const LOADS = 1;
/** Events of one access or walk, at most. */
const EVENTS = 64;

export class LookAhead {
  private readonly fields = new Int32Array(FIELD_WORDS);
  private readonly alu = new Alu();
  /** X0 … X30, ZR as they will be at the target, as far as `written` does not say that they are unknown. */
  private readonly x = new Int32Array(ZR + 2);

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly pe: Pe,
    private readonly features: CpuFeatures,
  ) {}

  /**
   * Performs the n-th load or store (0 …) behind the instruction at PC, or only its walk.
   * Needs recording (undo). @returns false if there is none that may go ahead
   */
  perform(v: number, n: number, walk: boolean): boolean {
    const cpu = this.sim.agents.cpu;
    const early = this.pe.ordering!.early;
    if (walk && early.ets >= 2) return false;
    const slot = early.free(cpu);
    if (slot < 0) return false;
    const k = this.scan(v, n, walk);
    if (k < 0) return false;
    const r = this.regs.pool.a;
    const b = this.regs.base(v);
    const pcLo = (r[b + PC]! + 4 * k) | 0;
    const pcHi = r[b + PC + 1]!;
    if (early.find(cpu, pcHi, pcLo) >= 0) return false;
    return this.access(v, slot, pcHi, pcLo, walk);
  }

  /** @returns how many instructions ahead the target is (its fields are in `fields`), -1: none */
  private scan(v: number, n: number, walk: boolean): number {
    const f = this.fields;
    const r = this.regs.pool.a;
    const b = this.regs.base(v);
    let written = 0;
    for (let i = 0; i < ZR; i++) this.x[i] = r[b + X + i]!;
    for (let k = 0; k < WINDOW; k++) {
      const word = this.pe.codeWord(v, r[b + PC + 1]!, (r[b + PC]! + 4 * k) | 0);
      if (word === 0) return -1;
      const op = decodeInto(word, this.features, f, 0);
      const load = op === Op.LoadImm || op === Op.LoadReg;
      if (load || op === Op.StoreImm || op === Op.StoreReg) {
        const indexed = op === Op.LoadReg || op === Op.StoreReg;
        const known = f[F_RN]! >= 0 && (written & bit(f[F_RN]!)) === 0 && (!indexed || (written & bit(f[F_RM]!)) === 0);
        if (k > 0 && n-- === 0) return known ? k : -1;
        if (load) written |= bit(f[F_RD]!);
        continue;
      }
      switch (op) {
        case Op.Dmb:
          if (!walk && (f[F_LO]! & LOADS) !== 0) return -1;
          break;
        case Op.Dsb:
        case Op.DsbNxs:
          if (!walk) return -1;
          break;
        case Op.LoadAcquire:
          if (!walk) return -1;
          written |= bit(f[F_RD]!);
          break;
        case Op.MovConst:
          this.x[f[F_RD]!] = f[F_LO]!;
          this.x[f[F_RD]! + 1] = f[F_HI]!;
          written &= ~bit(f[F_RD]!);
          break;
        case Op.MovkX: {
          const mask = 0xffff << (f[F_HI]! & 16);
          const at = f[F_RD]! + (f[F_HI]! >= 32 ? 1 : 0);
          this.x[at] = (this.x[at]! & ~mask) | (f[F_LO]! << (f[F_HI]! & 16));
          break;
        }
        case Op.StoreRelease:
        case Op.BCond:
        case Op.CbzX:
        case Op.CbnzX:
        case Op.CbzW:
        case Op.CbnzW:
        case Op.Tbz:
        case Op.Tbnz:
        case Op.Nop:
        case Op.Tlbi:
        case Op.Dc:
        case Op.Ic:
          break;
        default:
          if (op < Op.AddXImm || op > Op.Adrp) return -1;
          written |= bit(f[F_RD]!);
      }
    }
    return -1;
  }

  private access(v: number, slot: number, pcHi: number, pcLo: number, walk: boolean): boolean {
    const f = this.fields;
    const r = this.regs.pool.a;
    const b = this.regs.base(v);
    const write = f[F_OP] === Op.StoreImm || f[F_OP] === Op.StoreReg;
    const n = f[F_RN]!;
    const { x } = this;
    let lo: number;
    let hi: number;
    if (f[F_OP] === Op.LoadReg || f[F_OP] === Op.StoreReg) {
      const m = f[F_RM]!;
      this.alu.extend(x[m]!, x[m + 1]!, f[F_HI]!, f[F_LO]!);
      lo = (x[n]! + this.alu.lo) | 0;
      hi = (x[n + 1]! + this.alu.hi + (lo >>> 0 < x[n]! >>> 0 ? 1 : 0)) | 0;
    } else {
      lo = (x[n]! + f[F_LO]!) | 0;
      hi = (x[n + 1]! + (f[F_LO]! >> 31) + (lo >>> 0 < x[n]! >>> 0 ? 1 : 0)) | 0;
    }
    const size = f[F_RA]! & ACCESS_BYTES;
    const { state } = this.sim;
    const { early } = this.pe.ordering!;
    this.sim.bus.room(EVENTS);
    const mark = state.mark();
    const rc = this.pe.accessEarly(v, hi, lo, size, write, !walk);
    const ok = rc === PE_OK;
    const esr = rc === PE_EL1 ? r[b + ESR_EL1]! : r[b + ESR_EL2]!;
    const hpLo = r[b + HPFAR_EL2]!;
    const hpHi = r[b + HPFAR_EL2 + 1]!;
    // A success that nobody will use, or a fault before its time: the exception is not taken now.
    if (rc === NOT_EARLY || (ok && (walk || write))) {
      state.rollback(mark);
      return false;
    }
    // Nor need the walk have left anything in the TLBs; what a device has seen it has seen.
    const pa = this.pe.pa;
    if (!ok || this.pe.phys.isRam(pa)) state.rollback(mark);
    if (!ok && early.ets >= 2) return false;
    const p = early.pool;
    early.found(this.sim.agents.cpu, r[b + PC]!);
    p.set(slot + E_WHAT, ok ? EARLY_LOAD : walk ? EARLY_WALK : EARLY_FAULT);
    p.set(slot + E_PC_LO, pcLo);
    p.set(slot + E_PC_HI, pcHi);
    p.set(slot + E_VA_LO, lo);
    p.set(slot + E_VA_HI, hi);
    p.set(slot + E_SIZE, size);
    p.set(slot + E_RESULT, rc);
    if (ok) {
      p.set(slot + E_DATA, this.pe.d0);
      p.set(slot + E_DATA + 1, this.pe.d1);
      p.set(slot + E_PA_LO, pa | 0);
      p.set(slot + E_PA_HI, (pa / 4294967296) | 0);
    } else {
      p.set(slot + E_ESR, esr);
      p.set(slot + E_HPFAR_LO, hpLo);
      p.set(slot + E_HPFAR_HI, hpHi);
    }
    this.sim.bus.emit(accessEarly, this.sim.agents.cpu, pcHi, pcLo, hi, lo, ok ? 0 : walk ? 2 : 1);
    return true;
  }
}

/** A register's bit in a set, by its word offset. */
function bit(offset: number): number {
  return offset === ZR || offset < 0 ? 0 : 1 << (offset >> 1);
}
