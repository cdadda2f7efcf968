/**
 * TLB maintenance: TLBI operations, their operands and scope (Arm ARM C5.5, D8.14.5), pending until a
 * DSB of the issuing CPU completes them (D8.14.5.6 and B2.3.12).
 *
 * Before that DSB every CPU, the issuer included, may go on using what the TLBI names: that is how a
 * missing or too weak DSB shows. IPAS2E1 drops stage-2 entries and stage-2 walk caches, never combined
 * entries: those need a VMALLE1 after it.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { TLBI_IS, TLBI_LOCAL, TLBI_NXS, TLBI_OS, TLBI_OPS, TlbiKind } from "./a64system.js";
import { dsbDone, tlbiIssued, tlbiWithoutDsb } from "./events.js";
import type { CpuFeatures } from "./features.js";
import type { Ordering } from "./ordering.js";
import { CTX_ASID, CTX_HOST, type Tlbs } from "./tlb.js";

export { TLBI_IS, TLBI_LOCAL, TLBI_NXS, TLBI_OS, TlbiKind };

// ---- operations of EL2, continuing the numbering of TlbiKind
export const TLBI_IPAS2E1 = 10;
export const TLBI_IPAS2LE1 = 11;
export const TLBI_RIPAS2E1 = 12;
export const TLBI_RIPAS2LE1 = 13;
export const TLBI_VMALLS12E1 = 14;
export const TLBI_ALLE1 = 15;

/** An operation is its kind (bits 3:0), domain (5:4) and nXS (6). */
const KIND = 0xf;
const DOMAIN = 3 << 4;
/** A local operation that HCR_EL2.FB makes act on every CPU; a DSB NSH completes it. */
export const TLBI_FORCED = 1 << 7;
/** A pending operation that has already taken effect: a DSB still has to wait for it. */
const APPLIED = 1 << 8;
/** DSB nXS: waits only for accesses with XS = 0. */
export const DSB_NXS = 1 << 4;

/** DSB types (CRm): bits 3:2 domain 0 OSH, 1 NSH, 2 ISH, 3 SY; bits 1:0 type 1 loads, 2 stores, 3 both. */
export const DSB_OSHST = 2;
export const DSB_OSH = 3;
export const DSB_NSHST = 6;
export const DSB_NSH = 7;
export const DSB_ISHST = 10;
export const DSB_ISH = 11;
export const DSB_ST = 14;
export const DSB_SY = 15;

const EL2_NAMES = ["ipas2e1", "ipas2le1", "ripas2e1", "ripas2le1", "vmalls12e1", "alle1"];

const isRange = (kind: number): boolean =>
  (kind >= TlbiKind.Rvae1 && kind <= TlbiKind.Rvaale1) || kind === TLBI_RIPAS2E1 || kind === TLBI_RIPAS2LE1;

/** The mnemonic of an operation number. */
export function tlbiName(op: number): string {
  const kind = op & KIND;
  if (kind < TLBI_IPAS2E1) return TLBI_OPS.find((o) => o.id === op)?.name ?? `tlbi ${op}`;
  const domain = (op & DOMAIN) === TLBI_IS ? "is" : (op & DOMAIN) === TLBI_OS ? "os" : "";
  return EL2_NAMES[kind - TLBI_IPAS2E1]! + domain + ((op & TLBI_NXS) !== 0 ? "nxs" : "");
}
/** The operation number of a mnemonic. @throws Error for an unknown one */
export function tlbiOp(name: string): number {
  for (let op = 0; op < 128; op++) if ((op & DOMAIN) !== DOMAIN && tlbiName(op) === name.toLowerCase()) return op;
  throw new Error(`no TLBI named ${name}`);
}

// ---- operands

/** Operand of IPAS2E1: IPA[51:12] in 39:0 of a number pair. @param level leaf level for the hint, 0 none */
export function ipaOperandLo(ipa: number): number {
  return (ipa / 4096) | 0;
}
export function ipaOperandHi(ipa: number, level: number, pageShift = 12): number {
  return ((ipa / 17592186044416) & 0xff) | ttlField(level, pageShift);
}
/** TTL in bits 47:44: granule << 2 | level. */
export function ttlField(level: number, pageShift = 12): number {
  if (level === 0) return 0;
  return (((pageShift === 12 ? 1 : pageShift === 14 ? 2 : 3) << 2) | level) << 12;
}
/** Operand of the VA forms: ASID 63:48, TTL 47:44, VA[55:12] 43:0. */
export function vaOperandLo(vaHi: number, vaLo: number): number {
  return (vaLo >>> 12) | (vaHi << 20);
}
export function vaOperandHi(vaHi: number, asid: number, level: number, pageShift = 12): number {
  return (asid << 16) | ttlField(level, pageShift) | ((vaHi >>> 12) & 0xfff);
}
/** Operand of the range forms. @param scale @param num pages = (num + 1) << (5 * scale + 1) @param ttl 0 any level */
export function rangeOperandLo(page: number): number {
  return page | 0;
}
export function rangeOperandHi(page: number, scale: number, num: number, ttl: number, asid: number, pageShift = 12): number {
  const tg = pageShift === 12 ? 1 : pageShift === 14 ? 2 : 3;
  return (asid << 16) | (tg << 14) | (scale << 12) | (num << 7) | (ttl << 5) | ((page / 4294967296) & 0x1f);
}

/** Pending record of a CPU: op, vmid (-1 host), hi, lo. */
const RECORD = 4;
const PENDING = 64;
/** Per CPU: [0] number of records; [1] what came when there was no room, 0 nothing: widest domain in bits 1:0, guest 4, host 8. */
const SLICE = 2 + PENDING * RECORD;
const FIRST = 2;
const OVER_GUEST = 4;
const OVER_HOST = 8;

/** Bits 47:46 of an operand. */
const TTL_GRANULE = 3 << 14;

/** What an operation does to the TLBs of CPUs [from, to). @param vmid -1: the host's own regime */
type Effect = (op: number, from: number, to: number, vmid: number, hi: number, lo: number) => void;

export class TlbMaintenance {
  /** Store and gathering buffers, where they are modelled. */
  ordering: Ordering | undefined;
  private readonly pending: I32Pool;
  private readonly opNames: number[] = [];
  /** By kind. In a table, so that each is compiled by itself, once, and not as a part of whoever waits for it. */
  private readonly effects: Effect[] = [];

  constructor(
    private readonly sim: Sim,
    private readonly tlbs: Tlbs,
    private readonly features: CpuFeatures,
  ) {
    this.pending = sim.state.i32("tlbi.pending", tlbs.cpus * SLICE);
    for (let kind = 0; kind <= KIND; kind++) this.effects.push(this.effectOf(kind));
    for (let op = 0; op < 128; op++) this.opNames.push(sim.bus.name((op & DOMAIN) === DOMAIN ? `tlbi ${op}` : tlbiName(op)));
  }

  /** TLBIs that a CPU has issued and no DSB has completed; all those without room count as one. */
  pendingOn(cpu: number): number {
    const a = this.pending.a;
    return a[cpu * SLICE]! + (a[cpu * SLICE + 1] === 0 ? 0 : 1);
  }
  /** TLBIs without a DSB, over all CPUs. */
  pendingAnywhere(): number {
    let n = 0;
    for (let c = 0; c < this.tlbs.cpus; c++) n += this.pendingOn(c);
    return n;
  }

  /** Calls `visit` for every word of what waits for a DSB: how many there are, then the operations in order. */
  eachPending(visit: (cpu: number, word: number, value: number) => void): void {
    const a = this.pending.a;
    for (let cpu = 0; cpu < this.tlbs.cpus; cpu++) {
      const at = cpu * SLICE;
      const n = a[at]!;
      if ((n | a[at + 1]!) === 0) continue;
      for (let w = 0; w < FIRST + n * RECORD; w++) visit(cpu, w, a[at + w]!);
    }
  }

  /** Emits `tlbi_without_dsb` for every operation that is still pending: for the end of a run. @returns how many there are */
  reportPending(): number {
    const a = this.pending.a;
    for (let cpu = 0; cpu < this.tlbs.cpus; cpu++) {
      const at = cpu * SLICE;
      for (let i = 0; i < a[at]!; i++) {
        const r = at + FIRST + i * RECORD;
        this.sim.bus.emit(tlbiWithoutDsb, cpu, this.opNames[a[r]! & 127]!, a[r + 1]!, a[r + 2]!, a[r + 3]!);
      }
    }
    return this.pendingAnywhere();
  }

  /** Issues a TLBI on a CPU. @param vmid the VMID in VTTBR_EL2, -1: the host's own regime */
  issue(cpu: number, op: number, vmid: number, hi: number, lo: number): void {
    const p = this.pending;
    const at = Math.imul(cpu, SLICE);
    const n = p.a[at]!;
    if (n < PENDING) {
      const r = (at + FIRST + Math.imul(n, RECORD)) | 0;
      p.set2(r, op, vmid);
      p.set2((r + 2) | 0, hi, lo);
      p.set(at, (n + 1) | 0);
    } else this.noRoom(at, op, vmid);
    const costs = this.sim.costs;
    const issued = isLocal(op) ? costs.tlbiLocal : isRange(op & KIND) ? costs.tlbiRange : costs.tlbiBroadcast;
    this.sim.agents.charge(issued);
    this.sim.bus.emit(tlbiIssued, this.opNames[op & 127]!, vmid, hi, lo);
  }
  private noRoom(at: number, op: number, vmid: number): void {
    const over = this.pending.a[at + 1]!;
    this.pending.set(at + 1, Math.max(over & 3, (op & DOMAIN) >> 4) | (over & ~3) | (vmid < 0 ? OVER_HOST : OVER_GUEST));
  }

  /**
   * A DSB on a CPU: completes its pending TLBIs if the type is "both" and the domain is wide enough.
   * @param type CRm, DSB_NXS for an nXS form @returns how many were completed
   */
  dsb(cpu: number, type: number): number {
    this.ordering?.dsb(cpu, type);
    let done = 0;
    if ((type & 3) === 3) {
      const { a } = this.pending;
      const at = Math.imul(cpu, SLICE);
      const n = a[at]!;
      const over = a[(at + 1) | 0]!;
      const width = domainWidth((type >> 2) & 3);
      if (n !== 0) done = this.complete(cpu, at, n, width);
      if (over !== 0) done += this.overflow(at, width);
      if (done > 0) this.ordering?.dvmSync(cpu, (type & DSB_NXS) === 0);
    }
    const costs = this.sim.costs;
    this.sim.agents.charge(done === 0 ? costs.dsb : costs.dsbTlbi);
    this.sim.bus.emit(dsbDone, type & 15, done);
    return done;
  }

  private readonly complete = (cpu: number, at: number, n: number, width: number): number => {
    const p = this.pending;
    let kept = 0;
    let done = 0;
    for (let i = 0, r = (at + FIRST) | 0; i < n; i++, r = (r + RECORD) | 0) {
      const { a } = p;
      const op = a[r]!;
      if ((op & DOMAIN) >> 4 > width) {
        this.keep(at, kept++, r);
        continue;
      }
      done |= op;
      if ((op & APPLIED) === 0) this.apply(cpu, op, a[(r + 1) | 0]!, a[(r + 2) | 0]!, a[(r + 3) | 0]!);
      if (this.ordering !== undefined && !isLocal(op)) this.remote(this.ordering, cpu, op, a[(r + 3) | 0]!);
    }
    p.set(at, kept);
    if (!isLocal(done)) this.chargeOthers();
    return n - kept;
  };
  /** The DSB does not reach as far as the operation at word r: it stays, as the one of that number. */
  private keep(at: number, number: number, r: number): void {
    const p = this.pending;
    const to = at + FIRST + number * RECORD;
    if (to !== r) for (let k = 0; k < RECORD; k++) p.set(to + k, p.a[r + k]!);
  }

  /** The other CPUs give up what they did early through what this operation names. */
  private remote(ordering: Ordering, cpu: number, op: number, lo: number): void {
    const kind = op & KIND;
    const byAddress = kind === TlbiKind.Vae1 || kind === TlbiKind.Vaae1 || kind === TlbiKind.Vale1 || kind === TlbiKind.Vaale1;
    for (let c = 0; c < this.tlbs.cpus; c++) if (c !== cpu) ordering.early.remoteTlbi(c, byAddress ? lo : -1);
  }

  /**
   * The n-th pending operation of a CPU takes effect before its DSB, as hardware may. A DSB still has to
   * complete it. @returns false if there is none that has not
   */
  takeEffect(cpu: number, n: number): boolean {
    const p = this.pending;
    const at = cpu * SLICE;
    for (let i = 0; i < p.a[at]!; i++) {
      const r = at + FIRST + i * RECORD;
      const a = p.a;
      const op = a[r]!;
      if ((op & APPLIED) !== 0 || n-- > 0) continue;
      this.apply(cpu, op, a[r + 1]!, a[r + 2]!, a[r + 3]!);
      p.set(r, op | APPLIED);
      return true;
    }
    return false;
  }

  /** What was issued beyond the list: everything of its regimes goes, everywhere, once the DSB is wide enough for all of it. */
  private overflow(at: number, width: number): number {
    const over = this.pending.a[at + 1]!;
    if (width < (over & 3)) return 0;
    for (let c = 0; c < this.tlbs.cpus; c++) {
      if ((over & OVER_GUEST) !== 0) this.tlbs.dropAll(c);
      if ((over & OVER_HOST) !== 0) this.tlbs.dropHost(c);
    }
    this.pending.set(at + 1, 0);
    if ((over & 3) !== 0) this.chargeOthers();
    return 1;
  }

  /** The DVMSync waits for every other CPU. */
  private chargeOthers(): void {
    this.sim.agents.charge(this.sim.costs.dsbTlbiCpu * (this.tlbs.cpus - 1));
  }

  /** Takes effect on the TLBs of the CPU that issued it, or of all: the scope table of arch-translation.md 5.2. */
  private apply(cpu: number, op: number, vmid: number, hi: number, lo: number): void {
    const local = isLocal(op);
    this.effects[op & KIND]!(op, local ? cpu : 0, local ? (cpu + 1) | 0 : this.tlbs.cpus, vmid, hi, lo);
  }

  private effectOf(kind: number): Effect {
    switch (kind) {
      case TlbiKind.Vmalle1:
        return this.vmalle1;
      case TlbiKind.Vae1:
      case TlbiKind.Vaae1:
      case TlbiKind.Vale1:
      case TlbiKind.Vaale1:
        return this.vae1;
      case TLBI_IPAS2E1:
      case TLBI_IPAS2LE1:
        return this.ipas2e1;
      default:
        return this.wider;
    }
  }

  // ---- effects on CPUs [from, to)

  private readonly vmalle1: Effect = (_op, from, to, vmid) => {
    const t = this.tlbs;
    if (vmid < 0) for (let c = from; c < to; c++) t.dropHost(c);
    else t.dropVmid(from, to, vmid, false);
  };
  /** VAE1, VAAE1, VALE1, VAALE1. */
  private readonly vae1: Effect = (op, from, to, vmid, hi, lo) => {
    const kind = op & KIND;
    const any = kind === TlbiKind.Vaae1 || kind === TlbiKind.Vaale1;
    const walks = kind === TlbiKind.Vae1 || kind === TlbiKind.Vaae1;
    // VA[55:12]; the bits above copy bit 55.
    const vaHi = (((hi << 12) | (lo >>> 20)) << 8) >> 8;
    this.tlbs.dropVa(from, to, vmid < 0, vmid, any ? -1 : hi >>> 16, vaHi, lo << 12, walks, this.ttlLevel(hi));
  };
  /** IPAS2E1, IPAS2LE1. */
  private readonly ipas2e1: Effect = (op, from, to, vmid, hi, lo) => {
    const ipaHi = ((hi & 0xff) << 12) | (lo >>> 20);
    this.tlbs.dropIpa(from, to, vmid, ipaHi, lo << 12, (op & KIND) === TLBI_IPAS2E1, this.ttlLevel(hi));
  };
  /** What names ranges, whole ASIDs or more. */
  private readonly wider: Effect = (op, from, to, vmid, hi, lo) => {
    const t = this.tlbs;
    const host = vmid < 0;
    const asid = hi >>> 16;
    switch (op & KIND) {
      case TlbiKind.Aside1:
        for (let c = from; c < to; c++) t.dropAsid(c, host ? CTX_HOST : CTX_ASID, host ? 0 : vmid, asid);
        return;
      case TlbiKind.Rvae1:
      case TlbiKind.Rvaae1:
      case TlbiKind.Rvale1:
      case TlbiKind.Rvaale1: {
        const kind = op & KIND;
        const any = kind === TlbiKind.Rvaae1 || kind === TlbiKind.Rvaale1;
        const walks = kind === TlbiKind.Rvae1 || kind === TlbiKind.Rvaae1;
        // BaseADDR[36:0] is VA[48:12]; the bits above copy bit 48.
        const pageShift = rangeGranule(hi);
        if (pageShift === 0) return;
        const scale = 1 << (pageShift - 12);
        const pages = rangePages(hi) * scale;
        // VA bits 63:12 are 52; of a larger granule fewer bits of the base count.
        const page = ((((hi << 27) >> 27) & (0xfffff >>> (pageShift - 12))) * 4294967296 + (lo >>> 0)) * scale;
        for (let c = from; c < to; c++) t.dropVaRange(c, host, vmid, any ? -1 : asid, page, pages, walks, (hi >>> 5) & 3);
        return;
      }
      case TLBI_RIPAS2E1:
      case TLBI_RIPAS2LE1: {
        const pageShift = rangeGranule(hi);
        if (pageShift === 0) return;
        const scale = 1 << (pageShift - 12);
        const pages = rangePages(hi) * scale;
        const page = ((hi & 0x1f) * 4294967296 + (lo >>> 0)) * scale;
        for (let c = from; c < to; c++) t.dropIpaRange(c, vmid, page, pages, (op & KIND) === TLBI_RIPAS2E1, (hi >>> 5) & 3);
        return;
      }
      case TLBI_VMALLS12E1:
        t.dropVmid(from, to, vmid, true);
        return;
      default: // ALLE1
        for (let c = from; c < to; c++) t.dropAll(c);
    }
  };

  /**
   * The level that an operand's TTL names, 0: none, as where it names no granule. Without FEAT_TTL the bits are RES0; level 0
   * is no hint.
   */
  private ttlLevel(hi: number): number {
    return this.features.ttl && (hi & TTL_GRANULE) !== 0 ? (hi >>> 12) & 3 : 0;
  }
}

/** An operation of this CPU alone. Asked also of several, or'ed. */
function isLocal(op: number): boolean {
  return (op & (DOMAIN | TLBI_FORCED)) === 0;
}

/** How far a DSB domain reaches: 0 this CPU, 1 inner, 2 outer shareable and system. */
function domainWidth(domain: number): number {
  return domain === 1 ? 0 : domain === 2 ? 1 : 2;
}

/** Page shift of a range operand's TG, 0 when reserved. */
function rangeGranule(hi: number): number {
  const tg = (hi >>> 14) & 3;
  return tg === 0 ? 0 : tg === 1 ? 12 : tg === 2 ? 14 : 16;
}
/** Pages of a range operand: (NUM + 1) << (5 * SCALE + 1). */
export function rangePages(hi: number): number {
  return (((hi >>> 7) & 31) + 1) << (5 * ((hi >>> 12) & 3) + 1);
}
