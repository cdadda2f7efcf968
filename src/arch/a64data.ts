/** The less frequent data-processing instructions: bit fields, products, shifts by register, selects, FP moves. */
import { Alu, holds } from "./a64alu.js";
import { F_HI, F_LO, F_OP, F_RA, F_RD, F_RM, F_RN, Op } from "./a64ops.js";
import { PSTATE, V, ZR } from "./registers.js";
import type { I32Pool } from "../sim/state.js";

export class DataOps {
  private readonly alu = new Alu();
  constructor(private readonly pool: I32Pool) {}

  /** Executes one decoded instruction. @param b base of the vCPU's registers @returns false if it is not one of these */
  execute(dec: Int32Array, d: number, b: number): boolean {
    const op = dec[d + F_OP]!;
    const r = this.pool.a;
    const n = b + dec[d + F_RN]!;
    const m = b + dec[d + F_RM]!;
    const nl = r[n]!;
    const nh = r[n + 1]!;
    const ml = r[m]!;
    const mh = r[m + 1]!;
    const alu = this.alu;
    switch (op) {
      case Op.SbfmX:
      case Op.BfmX:
      case Op.UbfmX: {
        const rd = b + dec[d + F_RD]!;
        const kind = op === Op.SbfmX ? 0 : op === Op.BfmX ? 1 : 2;
        alu.bitfieldX(nl, nh, r[rd]!, r[rd + 1]!, dec[d + F_LO]!, dec[d + F_HI]!, kind);
        return this.put(dec, d, b, alu.lo, alu.hi);
      }
      case Op.SbfmW:
      case Op.BfmW:
      case Op.UbfmW: {
        const kind = op === Op.SbfmW ? 0 : op === Op.BfmW ? 1 : 2;
        return this.put(dec, d, b, alu.bitfieldW(nl, r[b + dec[d + F_RD]!]!, dec[d + F_LO]!, dec[d + F_HI]!, kind), 0);
      }
      case Op.ExtrX: {
        const lsb = dec[d + F_LO]!;
        if (lsb === 0) return this.put(dec, d, b, ml, mh);
        alu.shiftX(ml, mh, 1, lsb);
        const lo = alu.lo;
        const hi = alu.hi;
        alu.shiftX(nl, nh, 0, 64 - lsb);
        return this.put(dec, d, b, lo | alu.lo, hi | alu.hi);
      }
      case Op.ExtrW: {
        const lsb = dec[d + F_LO]!;
        return this.put(dec, d, b, lsb === 0 ? ml : (ml >>> lsb) | (nl << (32 - lsb)), 0);
      }
      case Op.MaddX:
      case Op.MsubX: {
        alu.mul(nl, nh, ml, mh);
        const a = b + dec[d + F_RA]!;
        const al = r[a]!;
        const ah = r[a + 1]!;
        if (op === Op.MaddX) {
          const lo = (al + alu.lo) | 0;
          return this.put(dec, d, b, lo, ah + alu.hi + (lo >>> 0 < al >>> 0 ? 1 : 0));
        }
        return this.put(dec, d, b, al - alu.lo, ah - alu.hi - (al >>> 0 < alu.lo >>> 0 ? 1 : 0));
      }
      case Op.MaddW:
        return this.put(dec, d, b, r[b + dec[d + F_RA]!]! + Math.imul(nl, ml), 0);
      case Op.MsubW:
        return this.put(dec, d, b, r[b + dec[d + F_RA]!]! - Math.imul(nl, ml), 0);
      case Op.UdivX:
      case Op.SdivX:
        alu.div(nl, nh, ml, mh, op === Op.SdivX);
        return this.put(dec, d, b, alu.lo, alu.hi);
      case Op.UdivW:
        return this.put(dec, d, b, ml === 0 ? 0 : Math.floor((nl >>> 0) / (ml >>> 0)), 0);
      case Op.SdivW:
        return this.put(dec, d, b, ml === 0 ? 0 : Math.trunc(nl / ml), 0);
      case Op.LslvX:
      case Op.LsrvX:
      case Op.AsrvX:
      case Op.RorvX: {
        const type = op === Op.LslvX ? 0 : op === Op.LsrvX ? 1 : op === Op.AsrvX ? 2 : 3;
        alu.shiftX(nl, nh, type, ml & 63);
        return this.put(dec, d, b, alu.lo, alu.hi);
      }
      case Op.LslvW:
      case Op.LsrvW:
      case Op.AsrvW:
      case Op.RorvW: {
        const type = op === Op.LslvW ? 0 : op === Op.LsrvW ? 1 : op === Op.AsrvW ? 2 : 3;
        return this.put(dec, d, b, alu.shiftW(nl, type, ml & 31), 0);
      }
      case Op.RbitX:
        return this.put(dec, d, b, alu.reverseBits(nh), alu.reverseBits(nl));
      case Op.RbitW:
        return this.put(dec, d, b, alu.reverseBits(nl), 0);
      case Op.RevX:
        return this.put(dec, d, b, alu.reverseBytes(nh), alu.reverseBytes(nl));
      case Op.RevW:
        return this.put(dec, d, b, alu.reverseBytes(nl), 0);
      case Op.Rev32X:
        return this.put(dec, d, b, alu.reverseBytes(nl), alu.reverseBytes(nh));
      case Op.Rev16X:
        return this.put(dec, d, b, alu.reverseBytes16(nl), alu.reverseBytes16(nh));
      case Op.Rev16W:
        return this.put(dec, d, b, alu.reverseBytes16(nl), 0);
      case Op.ClzX:
        return this.put(dec, d, b, nh !== 0 ? Math.clz32(nh) : 32 + Math.clz32(nl), 0);
      case Op.ClzW:
        return this.put(dec, d, b, Math.clz32(nl), 0);
      case Op.CselX:
      case Op.CsincX:
      case Op.CsinvX:
      case Op.CsnegX: {
        if (holds(dec[d + F_LO]!, r[b + PSTATE]!)) return this.put(dec, d, b, nl, nh);
        if (op === Op.CselX) return this.put(dec, d, b, ml, mh);
        if (op === Op.CsinvX) return this.put(dec, d, b, ~ml, ~mh);
        if (op === Op.CsincX) return this.put(dec, d, b, ml + 1, mh + (ml === -1 ? 1 : 0));
        return this.put(dec, d, b, -ml, ml === 0 ? -mh : ~mh);
      }
      case Op.CselW:
      case Op.CsincW:
      case Op.CsinvW:
      case Op.CsnegW: {
        if (holds(dec[d + F_LO]!, r[b + PSTATE]!)) return this.put(dec, d, b, nl, 0);
        return this.put(dec, d, b, op === Op.CselW ? ml : op === Op.CsinvW ? ~ml : op === Op.CsincW ? ml + 1 : -ml, 0);
      }
      case Op.FmovToD:
        return this.vector(dec, d, b, nl, nh);
      case Op.FmovToS:
        return this.vector(dec, d, b, nl, 0);
      case Op.FmovFromD: {
        const v = b + V + 2 * dec[d + F_RN]!;
        return this.put(dec, d, b, r[v]!, r[v + 1]!);
      }
      case Op.FmovFromS:
        return this.put(dec, d, b, r[b + V + 2 * dec[d + F_RN]!]!, 0);
      case Op.FmovFromTop: {
        const v = b + V + 2 * dec[d + F_RN]!;
        return this.put(dec, d, b, r[v + 2]!, r[v + 3]!);
      }
      case Op.FmovToTop: {
        const v = b + V + 2 * dec[d + F_RD]!;
        this.pool.set(v + 2, nl);
        this.pool.set(v + 3, nh);
        return true;
      }
      default:
        return false;
    }
  }

  private put(dec: Int32Array, d: number, b: number, lo: number, hi: number): boolean {
    const rd = dec[d + F_RD]!;
    if (rd !== ZR) {
      this.pool.set(b + rd, lo | 0);
      this.pool.set(b + rd + 1, hi | 0);
    }
    return true;
  }
  /** Writes a scalar FP register: the rest of the vector becomes zero. */
  private vector(dec: Int32Array, d: number, b: number, lo: number, hi: number): boolean {
    const v = b + V + 2 * dec[d + F_RD]!;
    this.pool.set(v, lo);
    this.pool.set(v + 1, hi);
    this.pool.set(v + 2, 0);
    this.pool.set(v + 3, 0);
    return true;
  }
}
