/**
 * Both walks against a second implementation of the architecture's pseudo-code (AArch64.S1Translate,
 * AArch64.S2Translate), written plainly over BigInt, without TLBs: any tables, any access.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { customProfile } from "../../src/arch/features.js";
import { PE_EL1, PE_OK } from "../../src/arch/pe.js";
import { ARCHITECTURAL } from "../../src/arch/profile.js";
import * as R from "../../src/arch/registers.js";
import { decodeSyndrome } from "../../src/arch/syndrome.js";
import { BAR, Rig } from "./rig.js";

type Kind = "r" | "w" | "x";
/** "pa 0x…", "el1 FSC" or "el2 FSC walk? ipa". */
type Outcome = string;

const bit = (d: bigint, n: number) => ((d >> BigInt(n)) & 1n) === 1n;
const bits = (d: bigint, hi: number, lo: number) => Number((d >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n));

/** The plain translation of one aligned access. */
class Plain {
  constructor(
    private readonly m: Rig,
    private readonly xnx: boolean,
    private readonly fwb: boolean,
    private readonly wxn: boolean,
    private readonly el0: boolean,
    private readonly pan: boolean,
  ) {}

  private descriptor(pa: bigint): bigint {
    this.m.phys.read(Number(pa), 8);
    return (BigInt(this.m.phys.hi >>> 0) << 32n) | BigInt(this.m.phys.lo >>> 0);
  }

  /** Stage 2. @returns the leaf and PA, or a status code */
  stage2(ipa: bigint): { leaf: bigint; level: number; pa: bigint } | number {
    if (ipa >> 40n !== 0n) return 0x04;
    let table = BigInt(this.m.root);
    for (let level = 1; level <= 3; level++) {
      const shift = BigInt(39 - 9 * level);
      const index = level === 1 ? ipa >> shift : (ipa >> shift) & 511n;
      const d = this.descriptor(table + index * 8n);
      if (!bit(d, 0) || (level === 3 && !bit(d, 1))) return 0x04 | level;
      if (level === 3 || !bit(d, 1)) {
        const mask = (1n << shift) - 1n;
        const pa = (d & 0xffff_ffff_f000n & ~mask) | (ipa & mask);
        if (!bit(d, 10)) return 0x08 | level;
        return { leaf: d, level, pa };
      }
      table = d & 0xffff_ffff_f000n;
    }
    throw new Error("unreachable");
  }
  private permits2(leaf: bigint, kind: Kind): boolean {
    if (kind === "r") return bit(leaf, 6);
    if (kind === "w") return bit(leaf, 7);
    const xn = bits(leaf, 54, 53);
    if (!this.xnx) return xn < 2;
    return xn === 0 || (this.el0 ? xn === 1 : xn === 3);
  }
  private device2(leaf: bigint): boolean {
    return this.fwb ? !bit(leaf, 4) : bits(leaf, 5, 4) === 0;
  }

  run(va: bigint, kind: Kind): Outcome {
    const upper = bit(va, 55);
    const r = (name: number) => this.m.regs.big(this.m.v, name);
    const tcr = r(R.TCR_EL1);
    const isize = 64 - (upper ? bits(tcr, 21, 16) : bits(tcr, 5, 0));
    const top = va >> BigInt(isize);
    if (top !== (upper ? (1n << BigInt(64 - isize)) - 1n : 0n)) return "el1 4";
    if (bit(tcr, upper ? 23 : 7)) return "el1 4";
    let table = r(upper ? R.TTBR1_EL1 : R.TTBR0_EL1) & 0xffff_ffff_fffen;
    let ro = false;
    let noEl0 = false;
    let uxn = false;
    let pxn = false;
    const start = 4 - Math.ceil((isize - 12) / 9);
    for (let level = start; level <= 3; level++) {
      const shift = BigInt(39 - 9 * level);
      const index = level === start ? (va & ((1n << BigInt(isize)) - 1n)) >> shift : (va >> shift) & 511n;
      const at = table + index * 8n;
      const s2 = this.stage2(at);
      if (typeof s2 === "number") return `el2 ${s2} walk ${at >> 12n}`;
      if (!bit(s2.leaf, 6) || this.device2(s2.leaf)) return `el2 ${0x0c | s2.level} walk ${at >> 12n}`;
      const d = this.descriptor(s2.pa);
      if (!bit(d, 0) || (level === 3 && !bit(d, 1)) || (level === 0 && !bit(d, 1))) return `el1 ${0x04 | level}`;
      const out = d & 0xffff_ffff_f000n;
      if (level === 3 || !bit(d, 1)) {
        const mask = (1n << shift) - 1n;
        if ((out & ~mask) >> 40n !== 0n) return `el1 ${level}`;
        if (!bit(d, 10)) return `el1 ${0x08 | level}`;
        return this.leaf(
          d,
          level,
          (out & ~mask) | (va & mask),
          kind,
          ro || bit(d, 7),
          !noEl0 && bit(d, 6),
          uxn || bit(d, 54),
          pxn || bit(d, 53),
        );
      }
      if (out >> 40n !== 0n) return `el1 ${level}`;
      ro ||= bit(d, 62);
      noEl0 ||= bit(d, 61);
      uxn ||= bit(d, 60);
      pxn ||= bit(d, 59);
      table = out;
    }
    throw new Error("unreachable");
  }

  private leaf(_d: bigint, level: number, ipa: bigint, kind: Kind, ro: boolean, el0: boolean, uxn: boolean, pxn: boolean): Outcome {
    let ok: boolean;
    if (this.el0) {
      const writable = el0 && !ro;
      ok = kind === "r" ? el0 : kind === "w" ? writable : !uxn && !(this.wxn && writable);
    } else {
      const shut = this.pan && el0;
      ok = kind === "r" ? !shut : kind === "w" ? !ro && !shut : !pxn && !(el0 && !ro) && !(this.wxn && !ro);
    }
    if (!ok) return `el1 ${0x0c | level}`;
    const s2 = this.stage2(ipa);
    if (typeof s2 === "number") return `el2 ${s2} ${ipa >> 12n}`;
    if (!this.permits2(s2.leaf, kind)) return `el2 ${0x0c | s2.level} ${ipa >> 12n}`;
    return `pa ${s2.pa}`;
  }
}

/** IPAs that tables and leaves point to: RAM pages, one without a mapping, one beyond 40 bits, a device. */
const TABLE_IPAS = [0x60000000, 0x60001000, 0x60002000, 0x60003000, 0x7fff0000];
const LEAF_IPAS = [0x80000000, 0x80200000, 0xc0000000, 0x90000000, 2 ** 40, 0x1000];

describe("both walks", () => {
  it("give the address, or the fault with its level, place and cause, of the plain pseudo-code", () => {
    let ok = 0;
    const kinds = new Set<string>();
    fc.assert(
      fc.property(
        fc.infiniteStream(fc.nat(0xffff)),
        fc.record({
          xnx: fc.boolean(),
          fwb: fc.boolean(),
          wxn: fc.boolean(),
          el0: fc.boolean(),
          pan: fc.boolean(),
          t0sz: fc.constantFrom(16, 25, 30, 34),
        }),
        (stream, o) => {
          const next = (n: number) => (stream.next().value as number) % n;
          const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;
          const cpu = customProfile("cortex-a76", { xnx: o.xnx, s2fwb: o.fwb });
          // The fetch from Device works, HPFAR is written for permission faults too.
          const m = new Rig({ cpu, ha: false, profile: { ...ARCHITECTURAL, hpfarOnPermission: "written" } });
          const s2 = () => ({ s2ap: next(3) === 0 ? next(4) : 3, xn: next(3) === 0 ? next(4) : 0, af: next(20) !== 0 });
          const attr = () => (o.fwb ? pick([6, 6, 5]) : pick([15, 15, 5]));
          for (const ipa of TABLE_IPAS.slice(0, 4)) {
            if (next(20) === 0) continue;
            if (next(20) === 0) m.map(ipa, BAR, { attr: 1 });
            else m.map(ipa, m.page(), { ...s2(), attr: attr() });
          }
          for (const ipa of LEAF_IPAS.slice(0, 4)) {
            const level = ipa === 0x90000000 ? 3 : pick([1, 2, 3, 3]);
            const size = 2 ** (39 - 9 * level);
            const device = ipa === 0x90000000 && next(2) === 0;
            if (next(10) !== 0 && (level === 3 || ipa % size === 0) && (level > 1 || ipa === 0xc0000000)) {
              m.map(ipa, device ? BAR : level === 3 ? m.page() : 0x40000000, { ...s2(), level, attr: device ? 1 : attr() });
            }
          }
          const word = (pa: number, hi: number, lo: number) => m.phys.write(pa, 8, lo | 0, hi | 0);
          const indices = [0, 1, 2, 256];
          for (const ipa of TABLE_IPAS.slice(0, 4)) {
            const w = m.entryOf(ipa);
            if (w === undefined || w >= BAR) continue;
            for (const index of indices) {
              const to = next(2) === 0 ? LEAF_IPAS[next(next(6) === 0 ? 6 : 4)]! : TABLE_IPAS[next(next(10) === 0 ? 5 : 4)]!;
              const low =
                pick([3, 3, 3, 3, 3, 3, 1, 1, 0]) | (next(20) === 0 ? 0 : 0x400) | (next(4) << 6) | 0x300 | (pick([0, 1, 1]) << 2);
              const high = (next(4) === 0 ? next(4) << 21 : 0) | (next(8) === 0 ? next(16) << 27 : 0);
              word(w + index * 8, (to / 4294967296) | high, (to & ~0xfff) | low);
            }
          }
          m.mmuOn(TABLE_IPAS[0]!, {
            tcrLo: o.t0sz | (25 << 16) | (2 << 30) | 0x3500 | (next(6) === 0 ? 1 << 7 : 0) | 0,
            ttbr1: TABLE_IPAS[next(2)]!,
            sctlr: 0x30d0199d | (o.wxn ? R.SCTLR_WXN : 0),
          });
          const pstate = (o.el0 ? 0 : 0x3c5) | (o.pan ? R.PSTATE_PAN : 0);
          const plain = new Plain(m, o.xnx, o.fwb, o.wxn, o.el0, o.pan && cpu.pan);
          let wrote = false;
          for (let n = 0; n < 12; n++) {
            const va =
              (BigInt(pick(indices)) << 39n) * (o.t0sz === 16 ? 1n : 0n) +
              (BigInt(pick(indices.slice(0, 3))) << 30n) +
              (BigInt(pick(indices)) << 21n) +
              (BigInt(pick(indices)) << 12n) +
              BigInt(next(512) * 8) +
              (next(5) === 0 ? 0xffff_ff80_0000_0000n : 0n);
            const kind = pick(["r", "w", "x"] as const);
            m.regs.pool.set(m.regs.base(m.v) + R.PSTATE, pstate);
            const want = plain.run(BigInt.asUintN(64, va), kind);
            if (next(2) === 0 || wrote) {
              // Half of the accesses meet whatever the TLBs hold; but a store may have hit a table.
              m.pe.hypTlbi(4, true, 0, 0, 0);
              m.pe.hostDsb(11);
            }
            const hi = Number(BigInt.asIntN(32, va >> 32n));
            const lo = Number(BigInt.asIntN(32, va));
            const rc = kind === "r" ? m.pe.read(m.v, hi, lo, 8, 0) : kind === "w" ? m.pe.write(m.v, hi, lo, 8, 0) : m.pe.fetch(m.v, hi, lo);
            wrote = rc === PE_OK && kind === "w";
            let got: Outcome;
            if (rc === PE_OK) {
              const e = m.pe.tlbs.combined.a;
              const i = m.pe.tlbs.combinedAt(0, hi, lo);
              got = `pa ${(e[i + 7]! >>> 0) * 4294967296 + (e[i + 6]! >>> 0) + (lo & 0xfff)}`;
              ok++;
            } else {
              const esr = m.regs.lo(m.v, rc === PE_EL1 ? R.ESR_EL1 : R.ESR_EL2);
              const d = decodeSyndrome(esr);
              got = rc === PE_EL1 ? `el1 ${d.fsc}` : `el2 ${d.fsc} ${d.s1ptw === true ? "walk " : ""}${m.hpfarIpa / 4096}`;
              expect([d.ec & 4, d.wnr ?? false]).toEqual([kind === "x" ? 0 : 4, kind === "w"]);
            }
            kinds.add(got.replace(/ \d+$/, ""));
            expect([va.toString(16), kind, got]).toEqual([va.toString(16), kind, want]);
          }
        },
      ),
      { numRuns: 2000 },
    );
    // The tables are random, but not so random that nothing is reached.
    expect(ok).toBeGreaterThan(100);
    expect(kinds.size).toBeGreaterThan(12);
  });
});
