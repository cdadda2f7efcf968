/**
 * The less frequent loads and stores: pairs, SIMD&FP, exclusives, ordered accesses, atomics (Arm ARM C6.2).
 * An instruction that faults changes no register; a pair that faults on its second element may have
 * stored the first, as the architecture allows.
 */
import { STEP_EL2, STEP_NEXT, STEP_RELOAD, type PeAccess } from "./a64access.js";
import { Alu } from "./a64alu.js";
import { ACCESS_BYTES, ACCESS_SIGNED, ACCESS_X, F_HI, F_ISS, F_LO, F_OP, F_RA, F_RD, F_RM, F_RN, Op } from "./a64ops.js";
import { EC_FP, EC_SP_ALIGN, syndromeOf, VECTOR_SYNC, type Exceptions } from "./exception.js";
import {
  CPACR_EL1,
  MONITOR,
  MONITOR_DATA,
  MONITOR_VA,
  PC,
  PSTATE,
  SCTLR_EL1,
  SCTLR_SA,
  SCTLR_SA0,
  SP_EL0,
  SP_EL1,
  V,
  ZR,
} from "./registers.js";
import type { I32Pool } from "../sim/state.js";

/** Word offset of the present stack pointer. */
export function spOffset(pstate: number): number {
  return (pstate & 5) === 5 ? SP_EL1 : SP_EL0;
}

export class MemoryOps {
  private readonly alu = new Alu();
  /** What the last instruction stored: bytes from an address on (0: nothing), also when it then faulted. */
  stored = 0;
  storedLo = 0;
  storedHi = 0;
  /** Address of the access being made. */
  private vaLo = 0;
  private vaHi = 0;
  /** An operand being computed. */
  private outLo = 0;
  private outHi = 0;

  constructor(
    private readonly pool: I32Pool,
    private readonly pe: PeAccess,
    private readonly exceptions: Exceptions,
  ) {}

  /** SP alignment check of a load or store with base SP. @returns 0, or STEP_RELOAD after the exception */
  checkSp(v: number, b: number): number {
    const r = this.pool.a;
    const pstate = r[b + PSTATE]!;
    const enabled = (pstate & 0xc) !== 0 ? SCTLR_SA : SCTLR_SA0;
    if ((r[b + SCTLR_EL1]! & enabled) === 0 || (r[b + spOffset(pstate)]! & 15) === 0) return STEP_NEXT;
    this.exceptions.takeWithoutFar(v, syndromeOf(EC_SP_ALIGN, 0), VECTOR_SYNC);
    return STEP_RELOAD;
  }

  /** Is SIMD&FP enabled (CPACR_EL1.FPEN)? @returns 0, or STEP_RELOAD after the trap */
  checkFp(v: number, b: number): number {
    const fpen = (this.pool.a[b + CPACR_EL1]! >>> 20) & 3;
    if (fpen === 3 || (fpen === 1 && (this.pool.a[b + PSTATE]! & 0xc) !== 0)) return STEP_NEXT;
    // cv 1, cond 0b1110
    this.exceptions.takeWithoutFar(v, syndromeOf(EC_FP, (1 << 24) | (0xe << 20)), VECTOR_SYNC);
    return STEP_RELOAD;
  }

  /** Word offset of the base register's value. */
  private baseIndex(dec: Int32Array, d: number, b: number): number {
    const rn = dec[d + F_RN]!;
    return rn >= 0 ? b + rn : b + spOffset(this.pool.a[b + PSTATE]!);
  }
  private setAddress(lo: number, hi: number, offset: number): void {
    const sum = (lo + offset) | 0;
    this.vaLo = sum;
    this.vaHi = (hi + (offset >> 31) + (sum >>> 0 < lo >>> 0 ? 1 : 0)) | 0;
  }
  private setX(b: number, rd: number, lo: number, hi: number): void {
    if (rd === ZR) return;
    this.pool.set(b + rd, lo);
    this.pool.set(b + rd + 1, hi);
  }
  /** A store, remembered for whoever keeps code. */
  private write(v: number, hi: number, lo: number, size: number, iss: number): number {
    if (this.stored === 0) {
      this.storedLo = lo;
      this.storedHi = hi;
    }
    this.stored += size;
    return this.pe.writeHere(v, hi, lo, size, iss);
  }
  private outcome(result: number): number {
    return result === 2 ? STEP_EL2 : result === 1 ? STEP_RELOAD : STEP_NEXT;
  }

  /** Executes one decoded instruction of this group. @returns a STEP_ code, -1 if it is not one of these */
  execute(dec: Int32Array, d: number, v: number, b: number): number {
    const op = dec[d + F_OP]!;
    if (op < Op.LoadVecImm || op > Op.Clrex) return -1;
    this.stored = 0;
    if (op >= Op.LoadPairVec ? op <= Op.StorePairVecPre : op <= Op.StoreVecReg) {
      const trapped = this.checkFp(v, b);
      if (trapped !== STEP_NEXT) return trapped;
    }
    if (op === Op.Clrex) {
      this.pool.set(b + MONITOR, 0);
      return STEP_NEXT;
    }
    if (dec[d + F_RN]! < 0) {
      const trapped = this.checkSp(v, b);
      if (trapped !== STEP_NEXT) return trapped;
    }
    const r = this.pool.a;
    const n = this.baseIndex(dec, d, b);
    switch (op) {
      case Op.LoadVecImm:
      case Op.StoreVecImm:
        this.setAddress(r[n]!, r[n + 1]!, dec[d + F_LO]!);
        return this.vector(dec, d, v, b, op === Op.LoadVecImm, -1, 0);
      case Op.LoadVecPre:
      case Op.StoreVecPre:
        this.setAddress(r[n]!, r[n + 1]!, dec[d + F_LO]!);
        return this.vector(dec, d, v, b, op === Op.LoadVecPre, n, 0);
      case Op.LoadVecPost:
      case Op.StoreVecPost:
        this.setAddress(r[n]!, r[n + 1]!, 0);
        return this.vector(dec, d, v, b, op === Op.LoadVecPost, n, dec[d + F_LO]!);
      case Op.LoadVecReg:
      case Op.StoreVecReg:
        this.indexed(dec, d, b, n);
        return this.vector(dec, d, v, b, op === Op.LoadVecReg, -1, 0);
      case Op.LoadVecLiteral:
        this.setAddress(r[b + PC]!, r[b + PC + 1]!, dec[d + F_LO]!);
        return this.vector(dec, d, v, b, true, -1, 0);
      case Op.LoadPair:
      case Op.StorePair:
      case Op.LoadPairVec:
      case Op.StorePairVec:
        this.setAddress(r[n]!, r[n + 1]!, dec[d + F_LO]!);
        return this.pair(dec, d, v, b, -1, 0);
      case Op.LoadPairPre:
      case Op.StorePairPre:
      case Op.LoadPairVecPre:
      case Op.StorePairVecPre:
        this.setAddress(r[n]!, r[n + 1]!, dec[d + F_LO]!);
        return this.pair(dec, d, v, b, n, 0);
      case Op.LoadPairPost:
      case Op.StorePairPost:
      case Op.LoadPairVecPost:
      case Op.StorePairVecPost:
        this.setAddress(r[n]!, r[n + 1]!, 0);
        return this.pair(dec, d, v, b, n, dec[d + F_LO]!);
      default: {
        this.setAddress(r[n]!, r[n + 1]!, 0);
        const step = this.special(dec, d, v, b, op);
        if (op !== Op.LoadAcquire && op !== Op.StoreRelease) this.pe.atomicDone();
        return step;
      }
    }
  }

  /** Base plus extended, shifted index. */
  private indexed(dec: Int32Array, d: number, b: number, n: number): void {
    const r = this.pool.a;
    const m = b + dec[d + F_RM]!;
    this.alu.extend(r[m]!, r[m + 1]!, dec[d + F_HI]!, dec[d + F_LO]!);
    const lo = (r[n]! + this.alu.lo) | 0;
    this.vaHi = (r[n + 1]! + this.alu.hi + (lo >>> 0 < r[n]! >>> 0 ? 1 : 0)) | 0;
    this.vaLo = lo;
  }

  /** Puts address + offset back into the base register. */
  private writeBack(n: number, offset: number): void {
    if (n < 0) return;
    this.setAddress(this.vaLo, this.vaHi, offset);
    this.pool.set(n, this.vaLo);
    this.pool.set(n + 1, this.vaHi);
  }

  /** One SIMD&FP register. @param n base register to write back, or -1 @param after what a post-index adds */
  private vector(dec: Int32Array, d: number, v: number, b: number, load: boolean, n: number, after: number): number {
    const pe = this.pe;
    const size = dec[d + F_RA]! & ACCESS_BYTES;
    const reg = b + V + 2 * dec[d + F_RD]!;
    if (load) {
      const result = pe.readHere(v, this.vaHi, this.vaLo, size, 0);
      if (result !== 0) return this.outcome(result);
      this.putVector(reg, size);
    } else {
      this.takeVector(reg);
      const result = this.write(v, this.vaHi, this.vaLo, size, 0);
      if (result !== 0) return this.outcome(result);
    }
    this.writeBack(n, after);
    return STEP_NEXT;
  }
  private putVector(reg: number, size: number): void {
    const p = this.pool;
    const pe = this.pe;
    p.set(reg, pe.d0);
    p.set(reg + 1, size >= 8 ? pe.d1 : 0);
    p.set(reg + 2, size === 16 ? pe.d2 : 0);
    p.set(reg + 3, size === 16 ? pe.d3 : 0);
  }
  private takeVector(reg: number): void {
    const r = this.pool.a;
    const pe = this.pe;
    pe.d0 = r[reg]!;
    pe.d1 = r[reg + 1]!;
    pe.d2 = r[reg + 2]!;
    pe.d3 = r[reg + 3]!;
  }
  private takeX(b: number, rt: number): void {
    this.pe.d0 = this.pool.a[b + rt]!;
    this.pe.d1 = this.pool.a[b + rt + 1]!;
  }

  /** Two registers, as two accesses of the element size. */
  private pair(dec: Int32Array, d: number, v: number, b: number, n: number, after: number): number {
    const pe = this.pe;
    const op = dec[d + F_OP]!;
    const access = dec[d + F_RA]!;
    const size = access & ACCESS_BYTES;
    const rt = dec[d + F_RD]!;
    const rt2 = dec[d + F_HI]!;
    const lo = this.vaLo;
    const hi = this.vaHi;
    const lo2 = (lo + size) | 0;
    const hi2 = (hi + (lo2 >>> 0 < lo >>> 0 ? 1 : 0)) | 0;
    const isVector = op >= Op.LoadPairVec;
    const isLoad = isVector ? op <= Op.LoadPairVecPre : op <= Op.LoadPairPre;
    if (isLoad) {
      let result = pe.readHere(v, hi, lo, size, 0);
      if (result !== 0) return this.outcome(result);
      const a0 = pe.d0;
      const a1 = pe.d1;
      const a2 = pe.d2;
      const a3 = pe.d3;
      result = pe.readHere(v, hi2, lo2, size, 0);
      if (result !== 0) return this.outcome(result);
      if (isVector) {
        this.putVector(b + V + 2 * rt2, size);
        pe.d0 = a0;
        pe.d1 = a1;
        pe.d2 = a2;
        pe.d3 = a3;
        this.putVector(b + V + 2 * rt, size);
      } else {
        this.loaded(b, rt2, access, pe.d0, pe.d1);
        this.loaded(b, rt, access, a0, a1);
      }
    } else {
      // A pair over a page boundary is checked on both pages before anything is stored.
      if (((lo & 0xfff) + size) >>> 12 !== 0 && (lo & (size - 1)) === 0) {
        const crossing = pe.check(v, hi2, lo2, size, 0, true);
        if (crossing !== 0) {
          const first = crossing === 1 ? 0 : pe.check(v, hi, lo, size, 0, true);
          return this.outcome(first !== 0 ? first : crossing);
        }
      }
      if (isVector) this.takeVector(b + V + 2 * rt);
      else this.takeX(b, rt);
      let result = this.write(v, hi, lo, size, 0);
      if (result !== 0) return this.outcome(result);
      if (isVector) this.takeVector(b + V + 2 * rt2);
      else this.takeX(b, rt2);
      result = this.write(v, hi2, lo2, size, 0);
      if (result !== 0) return this.outcome(result);
    }
    this.writeBack(n, after);
    return STEP_NEXT;
  }

  /** Writes loaded data to a general register, extended as the access says. */
  private loaded(b: number, rt: number, access: number, lo: number, hi: number): void {
    const size = access & ACCESS_BYTES;
    let l = lo;
    let h = size === 8 ? hi : 0;
    if ((access & ACCESS_SIGNED) !== 0) {
      if (size === 1) l = (lo << 24) >> 24;
      else if (size === 2) l = (lo << 16) >> 16;
      h = (access & ACCESS_X) !== 0 ? l >> 31 : 0;
    }
    this.setX(b, rt, l, h);
  }

  // ---- exclusives, ordered accesses, atomics

  private special(dec: Int32Array, d: number, v: number, b: number, op: number): number {
    const pe = this.pe;
    const access = dec[d + F_RA]!;
    const size = access & ACCESS_BYTES;
    const rt = dec[d + F_RD]!;
    const iss = dec[d + F_ISS]!;
    const lo = this.vaLo;
    const hi = this.vaHi;
    switch (op) {
      case Op.LoadAcquire: {
        if ((lo & (size - 1)) !== 0) {
          const bad = pe.check(v, hi, lo, size, iss, false);
          if (bad !== 0) return this.outcome(bad);
        }
        const result = pe.readHere(v, hi, lo, size, iss);
        if (result !== 0) return this.outcome(result);
        this.loaded(b, rt, access, pe.d0, pe.d1);
        return STEP_NEXT;
      }
      case Op.StoreRelease: {
        if ((lo & (size - 1)) !== 0) {
          const bad = pe.check(v, hi, lo, size, iss, true);
          if (bad !== 0) return this.outcome(bad);
        }
        this.takeX(b, rt);
        return this.outcome(this.write(v, hi, lo, size, iss));
      }
      case Op.LoadExclusive:
        return this.loadExclusive(dec, d, v, b, size, false);
      case Op.LoadExclusivePair:
        return this.loadExclusive(dec, d, v, b, 2 * size, true);
      case Op.StoreExclusive:
        return this.storeExclusive(dec, d, v, b, size, false);
      case Op.StoreExclusivePair:
        return this.storeExclusive(dec, d, v, b, 2 * size, true);
      case Op.Casp:
        return this.comparePair(dec, d, v, b, size);
      default:
        return this.atomic(dec, d, v, b, op, size);
    }
  }

  private loadExclusive(dec: Int32Array, d: number, v: number, b: number, size: number, pair: boolean): number {
    const pe = this.pe;
    const p = this.pool;
    let result = pe.probe(v, this.vaHi, this.vaLo, size, 0, false);
    if (result === 0) result = pe.readHere(v, this.vaHi, this.vaLo, size, 0);
    if (result !== 0) return this.outcome(result);
    p.set(b + MONITOR, size);
    p.set(b + MONITOR_VA, this.vaLo);
    p.set(b + MONITOR_VA + 1, this.vaHi);
    p.set(b + MONITOR_DATA, pe.d0);
    p.set(b + MONITOR_DATA + 1, size >= 8 ? pe.d1 : 0);
    p.set(b + MONITOR_DATA + 2, size === 16 ? pe.d2 : 0);
    p.set(b + MONITOR_DATA + 3, size === 16 ? pe.d3 : 0);
    const access = dec[d + F_RA]!;
    if (!pair) this.loaded(b, dec[d + F_RD]!, access, pe.d0, pe.d1);
    else if (size === 8) {
      const second = pe.d1;
      this.setX(b, dec[d + F_RD]!, pe.d0, 0);
      this.setX(b, dec[d + F_HI]!, second, 0);
    } else {
      this.setX(b, dec[d + F_RD]!, pe.d0, pe.d1);
      this.setX(b, dec[d + F_HI]!, pe.d2, pe.d3);
    }
    return STEP_NEXT;
  }

  /**
   * A store-exclusive without the monitor fails and does not even translate. The global monitor is
   * modelled by value: the store fails if the location no longer holds what the load saw.
   */
  private storeExclusive(dec: Int32Array, d: number, v: number, b: number, size: number, pair: boolean): number {
    const pe = this.pe;
    const p = this.pool;
    const r = p.a;
    let pass = r[b + MONITOR] === size && r[b + MONITOR_VA] === this.vaLo && r[b + MONITOR_VA + 1] === this.vaHi;
    if (pass) {
      let result = pe.probe(v, this.vaHi, this.vaLo, size, 0, true);
      if (result !== 0) return this.outcome(result);
      const never = pe.atomicIsNop();
      result = pe.readHere(v, this.vaHi, this.vaLo, size, 0);
      if (result !== 0) return this.outcome(result);
      pass =
        !never &&
        pe.d0 === r[b + MONITOR_DATA] &&
        (size < 8 || pe.d1 === r[b + MONITOR_DATA + 1]) &&
        (size < 16 || (pe.d2 === r[b + MONITOR_DATA + 2] && pe.d3 === r[b + MONITOR_DATA + 3]));
      if (pass) {
        this.takeX(b, dec[d + F_RD]!);
        if (pair) {
          const t2 = b + dec[d + F_HI]!;
          if (size === 8) pe.d1 = r[t2]!;
          else {
            pe.d2 = r[t2]!;
            pe.d3 = r[t2 + 1]!;
          }
        }
        result = this.write(v, this.vaHi, this.vaLo, size, 0);
        if (result !== 0) return this.outcome(result);
      }
    }
    p.set(b + MONITOR, 0);
    this.setX(b, dec[d + F_RM]!, pass ? 0 : 1, 0);
    return STEP_NEXT;
  }

  /** Both directions are checked before anything is read: a fault of the read has WnR 0, one of the write 1. */
  private readForUpdate(v: number, size: number): number {
    const pe = this.pe;
    let result = pe.probe(v, this.vaHi, this.vaLo, size, 0, false);
    if (result === 0) result = pe.probe(v, this.vaHi, this.vaLo, size, 0, true);
    if (result === 0) result = pe.readHere(v, this.vaHi, this.vaLo, size, 0);
    return result;
  }

  private atomic(dec: Int32Array, d: number, v: number, b: number, op: number, size: number): number {
    const pe = this.pe;
    const r = this.pool.a;
    let result = this.readForUpdate(v, size);
    if (result !== 0) return this.outcome(result);
    if (pe.atomicIsNop()) return STEP_NEXT;
    const oldLo = pe.d0;
    const oldHi = size === 8 ? pe.d1 : 0;
    const s = b + dec[d + F_RM]!;
    const rt = dec[d + F_RD]!;
    if (op === Op.Cas) {
      const mask = size === 1 ? 0xff : size === 2 ? 0xffff : -1;
      const equal = ((r[s]! ^ oldLo) & mask) === 0 && (size < 8 || r[s + 1] === oldHi);
      if (equal) {
        this.takeX(b, rt);
        result = this.write(v, this.vaHi, this.vaLo, size, 0);
        if (result !== 0) return this.outcome(result);
      }
      this.setX(b, dec[d + F_RM]!, oldLo, oldHi);
      return STEP_NEXT;
    }
    this.combine(op, size, oldLo, oldHi, r[s]!, r[s + 1]!);
    pe.d0 = this.outLo;
    pe.d1 = this.outHi;
    result = this.write(v, this.vaHi, this.vaLo, size, 0);
    if (result !== 0) return this.outcome(result);
    this.setX(b, rt, oldLo, oldHi);
    return STEP_NEXT;
  }

  /** The new value of an atomic: into outLo, outHi. */
  private combine(op: number, size: number, ol: number, oh: number, sl: number, sh: number): void {
    switch (op) {
      case Op.Swp:
        this.outLo = sl;
        this.outHi = sh;
        return;
      case Op.LdAdd:
        this.outLo = (ol + sl) | 0;
        this.outHi = (oh + sh + (this.outLo >>> 0 < ol >>> 0 ? 1 : 0)) | 0;
        return;
      case Op.LdClr:
        this.outLo = ol & ~sl;
        this.outHi = oh & ~sh;
        return;
      case Op.LdEor:
        this.outLo = ol ^ sl;
        this.outHi = oh ^ sh;
        return;
      case Op.LdSet:
        this.outLo = ol | sl;
        this.outHi = oh | sh;
        return;
      default: {
        const signed = op === Op.LdSmax || op === Op.LdSmin;
        const max = op === Op.LdSmax || op === Op.LdUmax;
        // Compare as 64 bits: narrow values are extended the way the comparison wants them.
        const shift = size >= 4 ? 0 : 32 - 8 * size;
        const el = signed ? (ol << shift) >> shift : (ol << shift) >>> shift;
        const fl = signed ? (sl << shift) >> shift : (sl << shift) >>> shift;
        const eh = size === 8 ? oh : signed ? el >> 31 : 0;
        const fh = size === 8 ? sh : signed ? fl >> 31 : 0;
        const old = this.alu.less(fl, fh, el, eh, signed) === max || (el === fl && eh === fh);
        this.outLo = old ? ol : sl;
        this.outHi = old ? oh : sh;
      }
    }
  }

  private comparePair(dec: Int32Array, d: number, v: number, b: number, size: number): number {
    const pe = this.pe;
    const r = this.pool.a;
    let result = this.readForUpdate(v, 2 * size);
    if (result !== 0) return this.outcome(result);
    if (pe.atomicIsNop()) return STEP_NEXT;
    const o0 = pe.d0;
    const o1 = pe.d1;
    const o2 = pe.d2;
    const o3 = pe.d3;
    const rs = dec[d + F_RM]!;
    const s = b + rs;
    // Register pairs start at an even number; x30 is followed by the zero register.
    const t = b + dec[d + F_RD]!;
    const wide = size === 8;
    const equal = wide ? r[s] === o0 && r[s + 1] === o1 && r[s + 2] === o2 && r[s + 3] === o3 : r[s] === o0 && r[s + 2] === o1;
    if (equal) {
      pe.d0 = r[t]!;
      pe.d1 = wide ? r[t + 1]! : r[t + 2]!;
      pe.d2 = r[t + 2]!;
      pe.d3 = r[t + 3]!;
      result = this.write(v, this.vaHi, this.vaLo, 2 * size, 0);
      if (result !== 0) return this.outcome(result);
    }
    this.setX(b, rs, o0, wide ? o1 : 0);
    this.setX(b, rs + 2, wide ? o2 : o1, wide ? o3 : 0);
    return STEP_NEXT;
  }
}
