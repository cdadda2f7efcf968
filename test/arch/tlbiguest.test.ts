/**
 * TLBIs of a guest by what its accesses then see: contexts, walks and fills as the processing element does them
 * (tlbinaive.test.ts makes the entries itself). The model keeps, for each CPU, VM, ASID and page, what was read
 * since the last TLBI that covers it, and which level-3 tables were walked: a read gives one of these or what the
 * tables say now.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { PE_OK } from "../../src/arch/pe.js";
import * as R from "../../src/arch/registers.js";
import { DSB_ISH, rangeOperandHi, rangeOperandLo, tlbiOp, vaOperandHi, vaOperandLo } from "../../src/arch/tlbi.js";
import type { Mark } from "../../src/sim/state.js";
import { Rig } from "./rig.js";

const CPUS = 2;
/** Of VMID 1 the contexts of ASIDs 37, 112 and 256 have once shared places with those of its stage 2 and its global entries. */
const ASIDS = [1, 37, 112, 256];
const VMIDS = [1, 2];
const VARIANTS = 3;
/** Pages 0 to 3 of a level-3 table, 3 global; 4 and 5 lie in one block of 2 MiB. */
const PAGES = 6;
const GLOBAL = 3;
const vaOf = (n: number): number => (n < 4 ? 0x10000000 + n * 4096 : 0x10400000 + (n - 4) * 0x5000);
const NG = 0x800;

/** What the tables of an ASID say: of the table in use the leaves, and the block. */
interface World {
  /** Leaves of every level-3 table there ever was, by its IPA. */
  tables: Map<number, number[]>;
  table: number[];
  block: number[];
  global: number;
  nextTable: number;
  /** Values that may be held, by "cpu vm asid page". */
  held: Map<string, Set<number>>;
  /** Tables that may be held, by "cpu vm asid". */
  walks: Map<string, Set<number>>;
}
const copySets = (m: Map<string, Set<number>>) => new Map([...m].map(([k, v]) => [k, new Set(v)]));
const copy = (w: World): World => ({
  ...w,
  tables: new Map([...w.tables].map(([k, v]) => [k, [...v]])),
  table: [...w.table],
  block: [...w.block],
  held: copySets(w.held),
  walks: copySets(w.walks),
});

class Guests {
  private readonly m = new Rig({ cpus: CPUS });
  /** Number of each of the four address spaces. */
  readonly asids = [...ASIDS];
  private readonly vcpus: number[];
  private w: World = { tables: new Map(), table: [], block: [], global: 0, nextTable: 0, held: new Map(), walks: new Map() };
  private readonly marks: { mark: Mark; w: World }[] = [];

  constructor(private readonly recording: boolean) {
    const { m } = this;
    this.vcpus = VMIDS.map((vmid) => (vmid === 1 ? m.v : m.addVcpu(vmid)));
    // Leaf pages, one for each ASID (the last: global) and variant, and blocks.
    for (let a = 0; a <= ASIDS.length; a++) {
      for (let x = 0; x < VARIANTS; x++) {
        m.phys.write(m.ram(this.leafIpa(a, x)), 8, this.value(a, x), 0);
        if (a === ASIDS.length) continue;
        const pa = 0x50000000 + (a * VARIANTS + x) * 0x200000;
        m.map(this.blockIpa(a, x), pa, { level: 2 });
        for (const n of [4, 5]) m.phys.write(pa + (vaOf(n) & 0x1fffff), 8, this.value(a, x), 0);
      }
    }
    for (let a = 0; a < ASIDS.length; a++) {
      m.phys.write(m.ram(this.root(a)), 8, (this.root(a) + 0x1000) | 3, 0);
      m.ram(this.root(a) + 0x1000);
    }
    for (const v of this.vcpus) {
      m.regs.set64(v, R.MAIR_EL1, 0, 0x44_0c_ff_00);
      m.regs.set64(v, R.TCR_EL1, 2 | (1 << 4), 0x00803519);
      m.regs.set64(v, R.SCTLR_EL1, 0, 0x30d0199d);
    }
    for (let t = 0; t < 24; t++) m.ram(0x62000000 + t * 4096);
    for (let a = 0; a < ASIDS.length; a++) {
      this.w.block.push(0);
      this.w.table.push(0);
      this.newTable(a, 0);
      this.pointBlock(a, 0);
    }
    if (recording) m.sim.state.startRecording();
  }

  private value(a: number, x: number): number {
    return a * 10 + x + 1;
  }
  private leafIpa(a: number, x: number): number {
    return 0x80000000 + (a * VARIANTS + x) * 4096;
  }
  private blockIpa(a: number, x: number): number {
    return 0x90000000 + (a * VARIANTS + x) * 0x200000;
  }
  private root(a: number): number {
    return 0x60000000 + a * 0x10000;
  }
  /** A doubleword of guest memory. */
  private store(ipa: number, lo: number): void {
    this.m.phys.write(this.m.entryOf(ipa - (ipa % 4096))! + (ipa % 4096), 8, lo | 0, 0);
  }

  // ---- what the guest's system does to its tables

  /** Another level-3 table in the place of the old one, which stays as it is. */
  newTable(a: number, x: number): void {
    const { w } = this;
    if (w.nextTable >= 24) return;
    const table = 0x62000000 + w.nextTable++ * 4096;
    w.tables.set(table, [0, 0, 0, 0]);
    w.table[a] = table;
    for (let n = 0; n < 4; n++) this.point(a, n, n === GLOBAL ? w.global : x);
    this.store(this.root(a) + 0x1000 + 128 * 8, table | 3);
  }
  point(a: number, n: number, x: number): void {
    const { w } = this;
    if (n >= 4) {
      this.pointBlock(a, x);
      return;
    }
    if (n === GLOBAL) {
      // The same in every table in use.
      w.global = x;
      for (const t of w.table) if (t !== 0) this.leaf(t, n, ASIDS.length, x, 0);
    } else this.leaf(w.table[a]!, n, a, x, NG);
  }
  private leaf(table: number, n: number, a: number, x: number, ng: number): void {
    this.store(table + n * 8, this.leafIpa(a, x) | 0x707 | ng);
    this.w.tables.get(table)![n] = this.value(a, x);
  }
  private pointBlock(a: number, x: number): void {
    this.store(this.root(a) + 0x1000 + 130 * 8, this.blockIpa(a, x) | 0xf05);
    this.w.block[a] = this.value(a, x);
  }

  // ---- accesses

  read(cpu: number, vm: number, a: number, n: number): void {
    const { m, w } = this;
    const v = this.vcpus[vm]!;
    m.onCpu(cpu);
    m.regs.set64(v, R.TTBR0_EL1, this.asids[a]! << 16, this.root(a));
    const va = vaOf(n);
    expect(m.pe.read(v, 0, va, 8, 0)).toBe(PE_OK);
    const got = m.pe.d0;
    const held = set(w.held, `${cpu} ${vm} ${n === GLOBAL ? "G" : a} ${n}`);
    const walks = set(w.walks, `${cpu} ${vm} ${a}`);
    if (n < 4) walks.add(w.table[a]!);
    const now = n < 4 ? [...walks].map((t) => w.tables.get(t)![n]!) : [w.block[a]!];
    if (!held.has(got) && !now.includes(got)) expect({ got, held: [...held], now }).toBe("one of them");
    held.add(got);
  }

  /** @param how which TLBI, of which VM and ASID, at or from which page */
  tlbi(cpu: number, vm: number, a: number, n: number, name: string, level: number): void {
    const { m, w } = this;
    const v = this.vcpus[vm]!;
    const va = vaOf(n);
    const asid = this.asids[a]!;
    const range = name.startsWith("r");
    const pages = 2;
    const hi = range ? rangeOperandHi(va / 4096, 0, 0, level, asid) : vaOperandHi(0, asid, level);
    m.onCpu(cpu);
    m.pe.tlbi(v, tlbiOp(`${name}is`), hi, range ? rangeOperandLo(va / 4096) : vaOperandLo(0, va));
    m.pe.dsb(v, DSB_ISH);
    const all = name === "vmalle1";
    const byAddress = !all && name !== "aside1";
    /** Is page p hit, by its own size? */
    const hit = (p: number): boolean => {
      const size = p < 4 ? 4096 : 0x200000;
      const start = vaOf(p) - (vaOf(p) % size);
      if (level !== 0 && level !== (p < 4 ? 3 : 2)) return false;
      return start < va + (range ? pages : 1) * 4096 && start + size > va;
    };
    for (const key of w.held.keys()) {
      const [, kvm, ka, kn] = key.split(" ");
      if (kvm !== String(vm)) continue;
      const ofAsid = ka === String(a) || (byAddress && (ka === "G" || name.includes("aa")));
      if (all || (ofAsid && (!byAddress || hit(Number(kn))))) w.held.delete(key);
    }
    const leads = !name.includes("l") && (level === 0 || level === 3) && n < 4;
    for (const key of w.walks.keys()) {
      const [, kvm, ka] = key.split(" ");
      if (kvm !== String(vm)) continue;
      if (all || ((ka === String(a) || name.includes("aa")) && (leads || !byAddress))) w.walks.delete(key);
    }
  }

  mark(): void {
    if (this.recording) this.marks.push({ mark: this.m.sim.state.mark(), w: copy(this.w) });
  }
  rollback(): void {
    const to = this.marks.pop();
    if (to === undefined) return;
    this.m.sim.state.rollback(to.mark);
    this.w = to.w;
  }
}

function set(of: Map<string, Set<number>>, key: string): Set<number> {
  let s = of.get(key);
  if (s === undefined) of.set(key, (s = new Set()));
  return s;
}

const place = { cpu: fc.nat(CPUS - 1), vm: fc.nat(VMIDS.length - 1), a: fc.nat(ASIDS.length - 1), n: fc.nat(PAGES - 1) };
/** Most steps stay at home in most of it, so that they meet. */
const some = (x: fc.Arbitrary<number>) => fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: x });
const where = { cpu: some(place.cpu), vm: some(place.vm), a: some(place.a), n: some(place.n) };
const NAMES = ["vmalle1", "vae1", "aside1", "vaae1", "vale1", "vaale1", "rvae1", "rvaae1", "rvale1", "rvaale1"];
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant("read" as const), ...where }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("point" as const), ...where, x: fc.nat(VARIANTS - 1) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("table" as const), ...where, x: fc.nat(VARIANTS - 1) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("tlbi" as const),
      ...where,
      name: fc.constantFrom(...NAMES),
      level: fc.constantFrom(0, 0, 2, 3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("undo" as const), back: fc.boolean() }) },
);

const RUNS = Number(process.env["TLBI_RUNS"] ?? 100);

it("reads of guests see what their tables say, or what no TLBI has yet taken away", () => {
  fc.assert(
    fc.property(fc.record(place), fc.array(step, { minLength: 5, maxLength: 60 }), fc.boolean(), (home, steps, recording) => {
      const g = new Guests(recording);
      const at = (x: number, y: number): number => (x < 0 ? y : x);
      for (const s of steps) {
        if (s.op === "undo") {
          if (s.back) g.rollback();
          else g.mark();
        } else {
          const [cpu, vm, a, n] = [at(s.cpu, home.cpu), at(s.vm, home.vm), at(s.a, home.a), at(s.n, home.n)];
          if (s.op === "read") g.read(cpu, vm, a, n);
          else if (s.op === "point") g.point(a, n, s.x);
          else if (s.op === "table") g.newTable(a, s.x);
          else g.tlbi(cpu, vm, a, n, s.name, s.level);
        }
      }
    }),
    { numRuns: RUNS },
  );
}, 3_600_000);

it("TLBIs by VA and by ASID reach what a guest has cached, whatever its ASID", () => {
  const g = new Guests(false);
  for (let asid = 1; asid < 300; asid++) {
    g.asids[0] = asid;
    for (const name of ["vae1", "rvale1", "aside1"]) {
      g.tlbi(0, 0, 0, 0, "vmalle1", 0);
      for (const x of [0, 1]) {
        g.point(0, 0, x);
        if (x === 1) g.tlbi(0, 0, 0, 0, name, 0);
        g.read(0, 0, 0, 0);
      }
    }
  }
});
