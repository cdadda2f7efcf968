/**
 * The TLBs and their maintenance against a naive model: a plain list of entries, each with its tags, and for
 * every TLBI the scope table of the architecture (Arm ARM D8.14.5) asked of each entry in turn. After every
 * step the TLBs must hold exactly what the list holds.
 *
 * What tlb.ts may lose beyond that, and the model lets go:
 * - a fill displaces what lies at the same place of the same CPU (direct-mapped);
 * - a context that is given a number may take the place of one other context;
 * - VMIDs with equal low 8 bits are invalidated together by VMALLE1 and VMALLS12E1;
 * - a level hint or a granule that does not fit an entry asks for nothing, and need not spare it;
 * - more pending operations than the list has room for drop everything of their regimes.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { cpuProfile, customProfile } from "../../src/arch/features.js";
import * as T from "../../src/arch/tlb.js";
import { DSB_ISH, DSB_NSH, DSB_SY, TlbMaintenance, tlbiName } from "../../src/arch/tlbi.js";
import { liveEntries } from "../../src/explore/tlbdigest.js";
import { Sim } from "../../src/sim/sim.js";
import type { I32Pool, Mark } from "../../src/sim/state.js";

const CPUS = 3;
/** Host: -1. 1 and 257 have equal low bits. */
const VMIDS = [1, 129, 257, 0x8002];
const ASIDS = [1, 2, 0x100, 0xffff];

// ---- addresses, as page numbers of the whole 64-bit address (bits 63:12)

const GIB = 0x40000;
/** Blocks of 1 GiB that the entries lie in: two neighbours, the one below 4 GiB and the one above, one far up, the upper half. */
const BASES = [GIB, 2 * GIB, 3 * GIB, 4 * GIB, 0x7f0000000, 2 ** 52 - 2 ** 35, 2 ** 52 - 2 ** 35 + GIB];
const IPA_BASES = BASES.slice(0, 5);
const near = fc.oneof(
  { weight: 4, arbitrary: fc.nat(18) },
  { weight: 2, arbitrary: fc.integer({ min: 500, max: 530 }) },
  { weight: 1, arbitrary: fc.integer({ min: GIB - 20, max: GIB - 1 }) },
  { weight: 1, arbitrary: fc.nat(GIB - 1) },
);
const pageOf = (bases: readonly number[]) => fc.tuple(fc.constantFrom(...bases), near).map(([base, d]) => base + d);
const words = (page: number): readonly [number, number] => [(page / 1048576) | 0, ((page % 1048576) << 12) | 0];

// ---- entries

const POOLS = ["combined", "stage1", "stage2", "walk1", "walk2"] as const;
type PoolName = (typeof POOLS)[number];
const isWalk = (e: Entry): boolean => e.pool === "walk1" || e.pool === "walk2";

interface Entry {
  readonly cpu: number;
  readonly pool: PoolName;
  readonly kind: number;
  readonly vmid: number;
  readonly asid: number;
  /** VA or IPA; of a walk cache the first page of its 2 MiB. */
  readonly page: number;
  /** Of the leaf, log2; of a walk cache 21. */
  readonly shift: number;
  /** Of the leaf; 0: without stage 1 there is none. */
  readonly level: number;
  /** Where it lies in its pool. */
  readonly at: number;
}

/** Leaves of 4 KiB, 16 KiB and 64 KiB granules: shift, level, TG. */
const LEAVES = [
  [12, 3, 1],
  [12, 3, 1],
  [21, 2, 1],
  [30, 1, 1],
  [14, 3, 2],
  [25, 2, 2],
  [16, 3, 3],
  [29, 2, 3],
] as const;
const granuleOf = (shift: number): number => LEAVES.find((l) => l[0] === shift)![2];

// ---- operations

const OPS = [
  ["vmalle1", "vae1", "aside1", "vaae1", "vale1", "vaale1", "rvae1", "rvaae1", "rvale1", "rvaale1"],
  ["ipas2e1", "ipas2le1", "ripas2e1", "ripas2le1", "vmalls12e1", "alle1"],
].flat();
type Scope = "local" | "forced" | "is" | "os";
const SCOPE_BITS: Record<Scope, number> = { local: 0, forced: 1 << 7, is: 1 << 4, os: 2 << 4 };

interface Tlbi {
  readonly cpu: number;
  readonly name: string;
  readonly scope: Scope;
  /** -1: the host's regime. */
  readonly vmid: number;
  readonly asid: number;
  readonly page: number;
  /** Of TTL: granule and level; of a range: TG, TTL. */
  readonly granule: number;
  readonly level: number;
  readonly scale: number;
  readonly num: number;
}

/** The operand, field by field (C5.5). */
function operand(o: Tlbi): bigint {
  const range = o.name.startsWith("r");
  const asid = BigInt(o.asid) << 48n;
  if (!range) {
    const ttl = (BigInt(o.granule) << 46n) | (BigInt(o.level) << 44n);
    const ipa = o.name.startsWith("ipa");
    return (ipa ? 0n : asid) | ttl | (BigInt(o.page) & (ipa ? 2n ** 40n - 1n : 2n ** 44n - 1n));
  }
  const base = (BigInt.asIntN(52, BigInt(o.page)) >> BigInt(2 * (o.granule - 1))) & (2n ** 37n - 1n);
  const fields = (BigInt(o.granule) << 46n) | (BigInt(o.scale) << 44n) | (BigInt(o.num) << 39n) | (BigInt(o.level) << 37n);
  return (o.name.startsWith("rip") ? 0n : asid) | fields | base;
}

/** Pages [first, end) that an operation by address names. */
function extent(o: Tlbi): readonly [number, number] {
  if (!o.name.startsWith("r")) return [o.page, o.page + 1];
  const unit = 4 ** (o.granule - 1);
  const first = Math.floor(o.page / unit) * unit;
  return [first, first + (o.num + 1) * 2 ** (5 * o.scale + 1) * unit];
}

type Answer = "goes" | "may go" | "stays";

/** What a completed operation does to an entry in its domain: the scope table. @param ttl the CPU has FEAT_TTL */
function answer(o: Tlbi, e: Entry, ttl: boolean): Answer {
  const host = o.vmid < 0;
  const stage2 = e.kind === T.CTX_STAGE2;
  if (o.name === "alle1") return e.kind === T.CTX_HOST ? "stays" : "goes";
  if (host !== (e.kind === T.CTX_HOST)) return "stays";
  if (o.name === "vmalle1" || o.name === "vmalls12e1") {
    if (host) return "goes";
    if (stage2 && o.name === "vmalle1") return "stays";
    return e.vmid === o.vmid ? "goes" : (e.vmid & 255) === (o.vmid & 255) ? "may go" : "stays";
  }
  if (!host && e.vmid !== o.vmid) return "stays";
  if (o.name === "aside1") return (host || e.kind === T.CTX_ASID) && e.asid === o.asid ? "goes" : "stays";
  const byIpa = o.name.includes("ipas2");
  if (byIpa !== stage2) return "stays";
  const anyAsid = byIpa || o.name.includes("aa") || e.kind === T.CTX_GLOBAL || e.kind === T.CTX_OFF;
  if (!anyAsid && e.asid !== o.asid) return "stays";
  const [first, end] = extent(o);
  const size = 2 ** (e.shift - 12);
  const start = Math.floor(e.page / size) * size;
  if (start >= end || start + size <= first) return "stays";
  const range = o.name.startsWith("r");
  const level = range ? o.level : ttl && o.granule !== 0 ? o.level : 0;
  if (isWalk(e)) {
    if (o.name.includes("l")) return "stays"; // last level only
    if (level === 0 || level === 3) return range && o.granule !== 1 ? "may go" : "goes";
    return "stays";
  }
  if (level !== 0 && e.level !== 0 && e.level !== level) return "stays";
  const otherGranule = e.level !== 0 && (range || level !== 0) && o.granule !== granuleOf(e.shift);
  return otherGranule || (level !== 0 && e.level === 0) ? "may go" : "goes";
}

interface Pending {
  readonly o: Tlbi;
  done: boolean;
}

/** What the model knows: entries, contexts with their numbers, pending operations of each CPU. */
interface Known {
  entries: Entry[];
  readonly numbers: Map<string, number>;
  /** Of each CPU, and those beyond the room of its list. */
  readonly pending: Pending[][];
  readonly over: Tlbi[][];
}
const copy = (k: Known): Known => ({
  entries: [...k.entries],
  numbers: new Map(k.numbers),
  pending: k.pending.map((p) => p.map((x) => ({ ...x }))),
  over: k.over.map((p) => [...p]),
});

const ROOM = 64;
const WIDTH: Record<Scope, number> = { local: 0, forced: 0, is: 1, os: 2 };

class Model {
  private readonly sim = new Sim();
  private readonly tlbs: T.Tlbs;
  private readonly maintenance: TlbMaintenance;
  private k: Known = { entries: [], numbers: new Map(), pending: [], over: [] };
  private readonly marks: { mark: Mark; hash: string; k: Known }[] = [];
  /** Numbers of contexts, by epoch and serial. */
  private readonly stamps = new Map<string, string>();
  private step = "";

  constructor(
    private readonly ttl: boolean,
    private readonly recording: boolean,
  ) {
    this.tlbs = new T.Tlbs(this.sim, CPUS);
    this.maintenance = new TlbMaintenance(this.sim, this.tlbs, ttl ? cpuProfile("max") : customProfile("max", { ttl: false }));
    this.sim.agents.add("vcpu0", "vcpu", 0);
    for (let c = 0; c < CPUS; c++) {
      this.k.pending.push([]);
      this.k.over.push([]);
    }
    if (recording) this.sim.state.startRecording();
  }

  /** An expectation that costs nothing while it holds. */
  private same(got: unknown, want: unknown): void {
    if (got !== want) expect([this.step, got]).toEqual([this.step, want]);
  }

  private pool(name: PoolName): I32Pool {
    return this.tlbs[name];
  }

  // ---- contexts

  /** The number of a context, given out if need be; it may take the place of one other. */
  private context(cpu: number, kind: number, vmid: number, asid: number): number {
    const { k, tlbs } = this;
    const key = `${cpu} ${kind} ${vmid} ${asid}`;
    const number = tlbs.context(cpu, kind, vmid, asid);
    if (k.numbers.get(key) === number) return number;
    // A number names one context of a CPU and no other, ever.
    for (const [name, n] of k.numbers) if (name.startsWith(`${cpu} `)) this.same(n === number, false);
    k.numbers.set(key, number);
    const lost = [...k.numbers.keys()].filter((name) => name.startsWith(`${cpu} `) && name !== key && this.find(name) === 0);
    this.same(lost.length < 2, true);
    for (const name of lost) this.forget(name);
    return number;
  }
  private find(name: string): number {
    const [cpu, kind, vmid, asid] = name.split(" ").map(Number) as [number, number, number, number];
    return this.tlbs.findContext(cpu, kind, vmid, asid);
  }
  private forget(name: string): void {
    this.k.numbers.delete(name);
    this.k.entries = this.k.entries.filter((e) => contextName(e) !== name);
  }

  // ---- fills, as translation.ts, stage1.ts, stage2walk.ts and hostaccess.ts do them

  fill(cpu: number, pool: PoolName, kind: number, vmid: number, asid: number, page: number, leaf: readonly [number, number, number]): void {
    const t = this.tlbs;
    const [shift, level] = leaf;
    const [hi, lo] = words(page);
    const id = kind === T.CTX_ASID || kind === T.CTX_HOST ? asid : 0;
    const vm = kind === T.CTX_HOST ? 0 : vmid;
    const tag = this.context(cpu, kind, vm, id);
    const p = this.pool(pool);
    const ids = kind === T.CTX_HOST ? asid : (vmid << 16) | asid;
    const size = (level << 8) | shift;
    let at: number;
    if (pool === "combined") {
      at = t.combinedAt(cpu, hi, lo);
      p.set2(at + T.C_VA_LO, lo, hi);
      p.set(at + T.C_TAG, tag);
      p.set2(at + T.C_S1, size, ids);
      if (shift > 12) t.noteBig(cpu, kind === T.CTX_HOST ? T.BIG_HOST : T.BIG_GUEST);
      if (kind === T.CTX_HOST) t.noteHost(cpu, hi, lo, shift);
    } else if (pool === "stage1") {
      at = t.stage1At(cpu, hi, lo);
      p.set2(at + T.L_LO, lo, hi);
      p.set(at + T.L_TAG, tag);
      p.set2(at + T.L_SIZE, size, ids);
      if (shift > 12) t.noteBig(cpu, T.BIG_GUEST);
    } else if (pool === "stage2") {
      const s = shift < 21 ? 0 : shift < 30 ? 1 : 2;
      at = t.stage2At(cpu, hi, lo, s);
      p.set2(at + T.L_LO, lo, hi);
      p.set(at + T.L_TAG, tag);
      p.set(at + T.L_SIZE, size);
      t.noteStage2Size(cpu, s);
    } else {
      at = t.walkAt(cpu, hi, lo);
      p.set2(at + T.W_LO, lo & ~0x1fffff, hi);
      p.set(at + T.W_TAG, tag);
      p.set(at + T.W_IDS, ids);
    }
    this.k.entries = this.k.entries.filter((e) => e.pool !== pool || e.at !== at);
    const first = pool.startsWith("walk") ? page - (page % 512) : page;
    this.k.entries.push({ cpu, pool, kind, vmid: vm, asid: id, page: first, shift, level, at });
  }

  // ---- maintenance

  issue(a: Aimed, nxs: boolean): void {
    const o = aimed(a, this.k.entries);
    const bits = operand(o);
    const op = OPS.indexOf(o.name) | SCOPE_BITS[o.scope] | (nxs ? 1 << 6 : 0);
    const suffix = o.scope === "is" || o.scope === "os" ? o.scope : "";
    this.same(tlbiName(op & 127), o.name + suffix + (nxs ? "nxs" : ""));
    this.maintenance.issue(o.cpu, op, o.vmid, Number(BigInt.asIntN(32, bits >> 32n)), Number(BigInt.asIntN(32, bits)));
    if (this.k.pending[o.cpu]!.length < ROOM) this.k.pending[o.cpu]!.push({ o, done: false });
    else this.k.over[o.cpu]!.push(o);
  }

  private apply(o: Tlbi): void {
    const here = (e: Entry): boolean => o.scope !== "local" || e.cpu === o.cpu;
    let held: Set<string> | undefined;
    this.k.entries = this.k.entries.filter((e) => {
      const a = here(e) ? answer(o, e, this.ttl) : "stays";
      return a === "stays" || (a === "may go" && (held ??= this.held()).has(text(e)));
    });
  }

  /** Entries go before the context does. */
  dsb(cpu: number, type: number): void {
    const { pending, over } = this.k;
    const done = this.maintenance.dsb(cpu, type);
    const width = ((type >> 2) & 3) === 1 ? 0 : ((type >> 2) & 3) === 2 ? 1 : 2;
    if ((type & 3) !== 3) {
      this.same(done, 0);
      return;
    }
    const completes = (o: Tlbi): boolean => WIDTH[o.scope] <= width;
    const ready = pending[cpu]!.filter((p) => completes(p.o));
    for (const p of ready) if (!p.done) this.apply(p.o);
    pending[cpu] = pending[cpu]!.filter((p) => !completes(p.o));
    let all = ready.length;
    const beyond = over[cpu]!;
    if (beyond.length > 0 && beyond.every(completes)) {
      const guest = beyond.some((o) => o.vmid >= 0);
      const host = beyond.some((o) => o.vmid < 0);
      this.k.entries = this.k.entries.filter((e) => (e.kind === T.CTX_HOST ? !host : !guest));
      over[cpu] = [];
      all++;
    }
    this.same(done, all);
  }

  early(cpu: number, n: number): void {
    const waiting = this.k.pending[cpu]!.filter((p) => !p.done);
    this.same(this.maintenance.takeEffect(cpu, n), n < waiting.length);
    const p = waiting[n];
    if (p === undefined) return;
    p.done = true;
    this.apply(p.o);
  }

  // ---- undo

  mark(): void {
    if (this.recording) this.marks.push({ mark: this.sim.state.mark(), hash: this.sim.state.hash(), k: copy(this.k) });
  }
  rollback(): void {
    const to = this.marks.pop();
    if (to === undefined) return;
    this.sim.state.rollback(to.mark);
    expect(this.sim.state.hash()).toBe(to.hash);
    this.k = to.k;
  }

  // ---- comparison

  /** Every entry of the TLBs that can be hit. */
  private held(): Set<string> {
    const out = new Set<string>();
    liveEntries(this.tlbs, (pool, at, _words, cpu, kind, ids) => {
      const name = POOLS.find((n) => this.tlbs[n] === pool)!;
      const a = pool.a;
      const vmid = kind === T.CTX_HOST ? 0 : ids >>> 16;
      out.add(`${cpu} ${name} ${at} ${kind} ${vmid} ${ids & 0xffff} ${(a[at + 1]! >>> 0) * 1048576 + (a[at]! >>> 12)}`);
    });
    return out;
  }

  /** Runs a step, and compares what the TLBs hold with the model. */
  run(step: Step): void {
    this.step = JSON.stringify(step);
    perform(this, step);
    const { numbers } = this.k;
    for (const [name, n] of [...numbers]) if (this.find(name) !== n) numbers.delete(name);
    // A context's number that somebody has cached is good while epoch and serial stand.
    const stamp = `${this.tlbs.epoch.a[0]} ${this.tlbs.serial}`;
    const now = [...numbers].sort().join();
    this.same(this.stamps.get(stamp) ?? now, now);
    this.stamps.set(stamp, now);
    const want = this.k.entries.map(text).sort();
    const got = [...this.held()].sort();
    if (want.join() !== got.join()) {
      expect({ step: this.step, lost: want.filter((x) => !got.includes(x)), kept: got.filter((x) => !want.includes(x)) }).toEqual({
        step: this.step,
        lost: [],
        kept: [],
      });
    }
    for (let c = 0; c < CPUS; c++) {
      const n = this.k.pending[c]!.length + Math.min(this.k.over[c]!.length, 1);
      this.same(this.maintenance.pendingOn(c), n);
    }
  }
}

const contextName = (e: Entry): string => `${e.cpu} ${e.kind} ${e.vmid} ${e.asid}`;
const text = (e: Entry): string => `${e.cpu} ${e.pool} ${e.at} ${e.kind} ${e.vmid} ${e.asid} ${e.page}`;

// ---- steps

const cpu = fc.nat(CPUS - 1);
const asid = fc.constantFrom(...ASIDS);
const vmid = fc.constantFrom(...VMIDS);
const page = pageOf(BASES);
const leaf = fc.constantFrom(...LEAVES);
const S2_LEAVES = LEAVES.filter((l) => l[2] === 1);

const onePage = fc.constant([12, 0, 0] as const);
const table = fc.constant([21, 3, 1] as const);
const ipa = pageOf(IPA_BASES);
const s2Leaf = fc.constantFrom(...S2_LEAVES);
const stage1Kind = fc.constantFrom(T.CTX_ASID, T.CTX_GLOBAL);
const entryOf = (
  pool: PoolName,
  kind: fc.Arbitrary<number>,
  page: fc.Arbitrary<number>,
  leaf: fc.Arbitrary<readonly [number, number, number]>,
) => fc.record({ pool: fc.constant(pool), kind, page, leaf });
const HOST_ENTRIES = [entryOf("combined", fc.constant(T.CTX_HOST), ipa, s2Leaf)];
const STAGE2_ENTRIES = [entryOf("stage2", fc.constant(T.CTX_STAGE2), ipa, s2Leaf), entryOf("walk2", fc.constant(T.CTX_STAGE2), ipa, table)];
const ENTRIES = [
  entryOf("combined", stage1Kind, page, leaf),
  entryOf("combined", fc.constant(T.CTX_OFF), ipa, onePage),
  entryOf("stage1", stage1Kind, page, leaf),
  entryOf("walk1", fc.constant(T.CTX_ASID), page, table),
  ...HOST_ENTRIES,
  ...STAGE2_ENTRIES,
];

const tlbi = {
  cpu,
  scope: fc.constantFrom<Scope>("local", "forced", "is", "is", "os"),
  vmid: fc.oneof(vmid, vmid, fc.constant(-1)),
  asid,
  page,
  granule: fc.constantFrom(0, 1, 1, 1, 2, 3),
  level: fc.oneof(fc.constant(0), fc.nat(3)),
  scale: fc.oneof(fc.constant(0), fc.nat(3)),
  num: fc.oneof(fc.nat(3), fc.nat(8), fc.nat(31)),
  /** Most aim at an entry: at which, and where in its leaf or beside it. */
  aim: fc.option(fc.tuple(fc.nat(), near), { freq: 4 }),
  /** A range begins at what it aims at, before it, or so that this is its last page or the first behind it. */
  from: fc.constantFrom("at", "before", "last", "behind"),
};

type Aimed = Tlbi & { readonly aim: readonly [number, number] | null; readonly from: string };

/** The operation that a step issues, which one that the encoding knows. */
function aimed(a: Aimed, entries: readonly Entry[]): Tlbi {
  const range = a.name.startsWith("r");
  const byIpa = a.name.includes("ipas2");
  const guestOnly = byIpa || a.name === "vmalls12e1" || a.name === "alle1";
  const e = a.aim === null ? undefined : entries[a.aim[0] % entries.length];
  let { vmid, asid, page } = a;
  if (e !== undefined) {
    const size = 2 ** (e.shift - 12);
    page = Math.floor(e.page / size) * size - 1 + (a.aim![1] % (size + 2));
    vmid = e.kind === T.CTX_HOST ? -1 : e.vmid;
    if (e.asid !== 0) asid = e.asid;
  }
  const granule = a.granule === 0 ? (range ? 1 : 0) : a.granule;
  const length = (a.num + 1) * 2 ** (5 * a.scale + 1) * 4 ** (granule - 1);
  if (range) page -= a.from === "at" ? 0 : a.from === "before" ? a.num : a.from === "last" ? length - 1 : length;
  return {
    ...a,
    vmid: guestOnly ? Math.max(vmid, 1) : vmid,
    asid,
    // A base has bits 48:12, and an IPA nothing above; 0 is no hint, or, of a range, reserved.
    page: byIpa ? Math.max(page, 0) % 2 ** 36 : Math.max(page, 0),
    granule,
  };
}

const DSB_TYPES = [DSB_ISH, DSB_ISH, DSB_NSH, DSB_SY, 3, 10, 9];
const stepsOf = (entries: typeof ENTRIES, names: readonly string[]) => {
  const o = fc.record({ ...tlbi, name: fc.constantFrom(...names) });
  const fills = fc.array(fc.record({ cpu, vmid, asid, entry: fc.oneof(...entries) }), { minLength: 1, maxLength: 8 });
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ op: fc.constant("fill" as const), entries: fills }) },
    { weight: 6, arbitrary: fc.record({ op: fc.constant("tlbi" as const), o, nxs: fc.boolean(), dsb: fc.constantFrom(...DSB_TYPES) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("pending" as const), o, times: fc.constantFrom(1, 1, 1, 1, 70) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("early" as const), cpu, n: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("dsb" as const), cpu, type: fc.constantFrom(...DSB_TYPES) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constantFrom("mark" as const, "rollback" as const) }) },
  );
  return fc.array(step, { minLength: 2, maxLength: 25 });
};
/** Everything, or mostly one regime: its rarer meetings are as rare as it is. */
const steps = fc.oneof(
  stepsOf(ENTRIES, OPS),
  stepsOf(HOST_ENTRIES, ["vae1", "vae1", "vale1", "rvae1", "rvale1", "aside1", "vmalle1", "alle1"]),
  stepsOf(STAGE2_ENTRIES, ["ipas2e1", "ipas2le1", "ripas2e1", "ripas2le1", "vmalls12e1", "alle1"]),
);
type Step = typeof steps extends fc.Arbitrary<(infer S)[]> ? S : never;

function perform(m: Model, s: Step): void {
  if (s.op === "fill") for (const f of s.entries) m.fill(f.cpu, f.entry.pool, f.entry.kind, f.vmid, f.asid, f.entry.page, f.entry.leaf);
  else if (s.op === "tlbi") {
    m.issue(s.o, s.nxs);
    m.dsb(s.o.cpu, s.dsb);
  } else if (s.op === "pending") for (let i = 0; i < s.times; i++) m.issue(s.o, false);
  else if (s.op === "early") m.early(s.cpu, s.n);
  else if (s.op === "dsb") m.dsb(s.cpu, s.type);
  else if (s.op === "mark") m.mark();
  else m.rollback();
}

const RUNS = Number(process.env["TLBI_RUNS"] ?? 200);

it("the TLBs hold after every step what a plain list of entries holds", () => {
  fc.assert(
    fc.property(steps, fc.boolean(), fc.boolean(), (list, ttl, recording) => {
      const m = new Model(ttl, recording);
      for (const s of list) m.run(s);
    }),
    { numRuns: RUNS },
  );
}, 3_600_000);
