/**
 * Several VMs with several vCPUs over one process's memory, compared with a naive list: what each host page holds, which slots each VM has,
 * which of their pages are dirty. Whatever the VMM does in between, a guest reads what was stored last, by whom ever; its own stores are
 * in the log or the ring, and nothing else is. After every fourth step (in long runs after each) the invariants of `explore` hold.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvariantChecker } from "../../src/explore/invariants/index.js";
import { Machine } from "../../src/machine.js";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED } from "../../src/mmu/vmflags.js";
import { EEXIST, EFAULT, EINVAL, EPERM } from "../../src/sim/errno.js";
import { accessGuest, guestCode, OUT, setCode } from "./guestaccess.js";

const PAGE = 4096;
const BLOCK = 0x200000;
const HOST = 0x40_0000_0000;
/** Host pages: two blocks of anonymous memory, one of a memfd, and the memfd once more. */
const PAGES = 4 * 512;
const ANON_PAGES = 1024;
/** Guest frames are counted from here. */
const BASE = 0x4000_0000;
const LOG = 1;
const READONLY = 2;
const CAP_RING_ACQ_REL = 223;
const CAP_RING_WITH_BITMAP = 225;
const EFFECT = ["load", "store"] as const;
/** Invariants of `explore` that a whole call keeps, whoever runs it. */
const PROMISES = [
  "no-freed-page",
  "no-freed-table",
  "invalidated-range-unusable",
  "break-before-make",
  "no-stale-translation",
  "stage2-agrees-with-host",
  "block-inside-vma",
  "no-lost-write",
  "no-lost-ring-entry",
  "guest-mapping-as-specified",
  "host-mapping-as-specified",
  "tlbi-order",
];

interface Slot {
  gfn: number;
  readonly pages: number;
  readonly page: number;
  flags: number;
  dirty: Set<number>;
}

/** Guest frames: six 2 MiB areas; host pages of the same four blocks, aligned or a little off. */
const place = fc.oneof(fc.constantFrom(0, 1, 2, 511, 512), fc.nat(30));
const slotPlace = fc.record({
  id: fc.integer({ min: 1, max: 3 }),
  gfn: fc.tuple(fc.nat(5), fc.constantFrom(0, 0, 0, 1)).map(([a, b]) => 512 * a + b),
  pages: fc.constantFrom(512, 512, 1024, 16, 3),
  page: fc.tuple(fc.nat(3), fc.constantFrom(0, 0, 0, 1, 16)).map(([a, b]) => 512 * a + b),
  flags: fc.constantFrom(0, 0, LOG, LOG, READONLY),
});
const vm = fc.nat(1);
const step = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      op: fc.constant("access" as const),
      vm,
      vcpu: fc.nat(1),
      how: fc.constantFrom(...EFFECT, "store" as const),
      slot: fc.nat(3),
      at: place,
      value: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constantFrom("host" as const, "hostRead" as const),
      block: fc.nat(3),
      at: place,
      value: fc.integer({ min: 10, max: 19 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("slot" as const), vm, to: slotPlace }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom("move" as const, "delete" as const, "toggle" as const),
      vm,
      id: fc.integer({ min: 1, max: 3 }),
      to: fc.nat(5),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("log" as const, "clear" as const), vm, id: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constantFrom(
        "munmap" as const,
        "mmap" as const,
        "mmap" as const,
        "dontneed" as const,
        "collapse" as const,
        "readonly" as const,
        "writable" as const,
      ),
      block: fc.nat(3),
      at: place,
      n: fc.constantFrom(1, 3, 16, 512),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const, "age" as const), block: fc.nat(3), at: place }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "kill" as const, "punch" as const), at: place }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  readonly m: Machine;
  private readonly checker: InvariantChecker;
  private readonly vms;
  private readonly fd: number;
  private readonly slots = [new Map<number, Slot>(), new Map<number, Slot>()];
  private readonly ring = [false, false];
  /** What the second VM's ring has given so far. */
  private collected = new Set<string>();
  /** Host page -> what it holds; absent: not mapped. A memfd's pages are in `file`. */
  private readonly anon = new Map<number, number>();
  private readonly mapped = new Map<number, { writable: boolean }>();
  private readonly file = new Map<number, number>();
  private child = -1;
  private dead = false;

  constructor(
    kernel: string,
    private readonly huge: boolean,
  ) {
    const m = (this.m = new Machine({ kernel, cpu: "max", ram: 2 ** 28 }));
    this.fd = m.host.memfdCreate(BLOCK);
    const code = guestCode(m);
    for (let block = 0; block < 4; block++) this.mmap(block * 512, 512);
    this.vms = [0, 1].map((n) => {
      const v = m.createVm();
      if (n === 1) {
        this.ring[1] = v.enableCap(CAP_RING_ACQ_REL, 4096) === 0;
        if (this.ring[1]) expect(v.enableCap(CAP_RING_WITH_BITMAP, 0)).toBe(0);
      }
      expect(setCode(v, code)).toBe(0);
      const vcpus = [v.createVcpu(), v.createVcpu()];
      return { v, vcpus };
    });
    this.checker = new InvariantChecker(m, PROMISES);
    for (const n of [0, 1]) this.slot(n, 1, { gfn: 0, pages: 1024, page: 512 * n, flags: n === 0 ? LOG : 0 });
  }

  private fileOffset(page: number): number {
    return page >= ANON_PAGES ? page % 512 : -1;
  }
  private content(page: number): number {
    const at = this.fileOffset(page);
    return (at >= 0 ? this.file.get(at) : this.anon.get(page)) ?? 0;
  }
  private put(page: number, value: number): void {
    const at = this.fileOffset(page);
    if (at >= 0) this.file.set(at, value);
    else this.anon.set(page, value);
  }

  private mmap(page: number, n: number): void {
    const at = this.fileOffset(page);
    const flags = MAP_FIXED | (at >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
    const r = this.m.host.mmap({
      addr: HOST + page * PAGE,
      length: n * PAGE,
      prot: 3,
      flags,
      fd: at >= 0 ? this.fd : -1,
      offset: at >= 0 ? at * PAGE : 0,
    });
    expect(r).toBe(HOST + page * PAGE);
    if (this.huge && at < 0) this.m.host.madvise(HOST + page * PAGE, n * PAGE, MADV_HUGEPAGE);
    for (let p = page; p < page + n; p++) {
      this.mapped.set(p, { writable: true });
      this.anon.delete(p);
    }
  }

  /** KVM_SET_USER_MEMORY_REGION, as the documentation has it. */
  private slot(n: number, id: number, to: { gfn: number; pages: number; page: number; flags: number }): void {
    const slots = this.slots[n]!;
    const old = slots.get(id);
    const clash = [...slots].some(([k, s]) => k !== id && s.gfn < to.gfn + to.pages && to.gfn < s.gfn + s.pages);
    let want = 0;
    if (to.pages === 0) want = old === undefined ? -EINVAL : 0;
    else if (old !== undefined && (old.pages !== to.pages || old.page !== to.page || ((old.flags ^ to.flags) & READONLY) !== 0))
      want = -EINVAL;
    else if (old?.gfn === to.gfn && old.flags === to.flags) want = 0;
    else if (old?.gfn !== to.gfn && clash) want = -EEXIST;
    // What the ring has not given yet would be lost with the slot's number.
    this.harvest(n);
    if (to.pages + to.page > PAGES) return;
    const r = this.vms[n]!.v.setUserMemoryRegion({
      slot: id,
      flags: to.flags,
      guestPhysAddr: BASE + to.gfn * PAGE,
      memorySize: to.pages * PAGE,
      userspaceAddr: HOST + to.page * PAGE,
    });
    if (want === 0 && r === -EPERM) {
      // decision memslotWriteCheck: a writable slot over a VMA that may not be written.
      const behind = Array.from({ length: to.pages }, (_, i) => this.mapped.get(to.page + i));
      expect([to.flags & READONLY, behind.some((q) => q?.writable === false)], `slot ${id}`).toEqual([0, true]);
      return;
    }
    expect(r, `slot ${id}`).toBe(want);
    if (want < 0) return;
    if (to.pages === 0) slots.delete(id);
    else slots.set(id, { ...to, dirty: old !== undefined && (old.flags & to.flags & LOG) !== 0 ? old.dirty : new Set() });
  }

  /** What the ring has: every entry was a store, and every store is an entry. */
  private harvest(n: number): void {
    if (!this.ring[n]) return;
    const { v, vcpus } = this.vms[n]!;
    for (const c of vcpus) for (const g of c.dirtyGfns()) this.collected.add(`${g.slot} ${g.offset}`);
    expect(v.resetDirtyRings()).toBeGreaterThanOrEqual(0);
    const want = new Set<string>();
    for (const [id, s] of this.slots[n]!) if ((s.flags & LOG) !== 0) for (const p of s.dirty) want.add(`${id} ${p}`);
    expect(
      [...this.collected].filter((x) => !want.has(x)),
      "in the ring without a store",
    ).toEqual([]);
    expect(
      [...want].filter((x) => !this.collected.has(x)),
      "stored, and not in the ring",
    ).toEqual([]);
    this.collected = new Set();
    for (const s of this.slots[n]!.values()) s.dirty.clear();
  }

  private access(n: number, k: number, how: "load" | "store", gfn: number, value: number): void {
    const c = this.vms[n]!.vcpus[k]!;
    const store = how === "store";
    const s = [...this.slots[n]!.values()].find((q) => gfn >= q.gfn && gfn < q.gfn + q.pages);
    let { ret, exit } = accessGuest(c, BASE + gfn * PAGE + 8, store, value);
    while (exit.reason === "DIRTY_RING_FULL") {
      this.harvest(n);
      ({ ret, exit } = c.run({ maxExits: 50 }));
    }
    if (this.m.sim.crashed !== undefined) {
      this.dead = true;
      return;
    }
    const what = `${how} of frame ${gfn} by vCPU ${k} of VM ${n}`;
    const mmio = exit.reason === "MMIO" ? exit.physAddr : -1;
    if (s === undefined || (store && (s.flags & READONLY) !== 0)) {
      expect([ret, mmio], what).toEqual([0, BASE + gfn * PAGE + 8]);
      return;
    }
    const page = s.page + gfn - s.gfn;
    const there = this.mapped.get(page);
    if (there === undefined || (store && !there.writable)) {
      expect(ret, what).toBe(-EFAULT);
      return;
    }
    expect([ret, mmio], what).toEqual([0, OUT]);
    if (!store) {
      expect(Number(c.get("x1")), what).toBe(this.content(page));
      return;
    }
    this.put(page, value);
    if ((s.flags & LOG) !== 0) s.dirty.add(gfn - s.gfn);
  }

  do(s: Step): void {
    const { m } = this;
    const { host } = m;
    switch (s.op) {
      case "access": {
        const all = [...this.slots[s.vm]!.values()];
        const q = all[s.slot % Math.max(1, all.length)];
        return this.access(s.vm, s.vcpu, s.how, q === undefined || s.slot === 3 ? s.at * 5 : q.gfn + (s.at % q.pages), s.value);
      }
      case "host":
      case "hostRead": {
        const page = s.block * 512 + (s.at % 512);
        const there = this.mapped.get(page);
        if (there === undefined || (s.op === "host" && !there.writable)) return;
        if (s.op === "host") {
          expect(host.write(HOST + page * PAGE + 8, 4, BigInt(s.value)).ret).toBe(0);
          this.put(page, s.value);
        } else expect(Number(host.read(HOST + page * PAGE + 8, 4).value), `host page ${page}`).toBe(this.content(page));
        return;
      }
      case "slot":
        return this.slot(s.vm, s.to.id, s.to);
      case "move":
      case "delete":
      case "toggle": {
        const old = this.slots[s.vm]!.get(s.id);
        if (old === undefined) return;
        if (s.op === "toggle" && (old.flags & LOG) !== 0) this.log(s.vm, s.id);
        const to =
          s.op === "delete" ? { ...old, pages: 0 } : s.op === "move" ? { ...old, gfn: 512 * s.to } : { ...old, flags: old.flags ^ LOG };
        return this.slot(s.vm, s.id, to);
      }
      case "log":
      case "clear":
        return this.log(s.vm, s.id);
      case "fork":
        if (this.child < 0) this.child = host.fork();
        return;
      case "kill":
        if (this.child >= 0) host.kill(this.child);
        this.child = -1;
        return;
      case "punch":
        expect(host.fallocate(this.fd, 3, (s.at % 512) * PAGE, PAGE)).toBe(0);
        this.file.delete(s.at % 512);
        return;
      default:
        return this.memory(s);
    }
  }

  private memory(s: Extract<Step, { block: number }>): void {
    const { host } = this.m;
    const page = s.block * 512 + (s.at % 512);
    const addr = HOST + page * PAGE;
    switch (s.op) {
      case "migrate":
        this.m.call(0, { call: "migrate_pages", addr });
        return;
      case "reclaim":
        this.m.call(0, { call: "shrink_folio_list", addr, force: true });
        return;
      case "age":
        this.m.call(0, { call: "age", addr, length: PAGE, kind: 0 });
        return;
      case "host":
      case "hostRead":
        return;
    }
    const n = Math.min(s.n, 512 - (page % 512));
    const each = (does: (p: number) => void): void => {
      for (let p = page; p < page + n; p++) does(p);
    };
    if (s.op === "mmap") return this.mmap(page, n);
    if (s.op === "munmap") {
      expect(host.munmap(addr, n * PAGE)).toBe(0);
      return each((p) => (this.mapped.delete(p), this.anon.delete(p)));
    }
    if (s.op === "collapse") {
      host.madvise(HOST + s.block * BLOCK, BLOCK, MADV_COLLAPSE);
      return;
    }
    for (let p = page; p < page + n; p++) if (!this.mapped.has(p)) return;
    if (s.op === "dontneed") {
      expect(host.madvise(addr, n * PAGE, MADV_DONTNEED)).toBe(0);
      return each((p) => this.anon.delete(p));
    }
    expect(host.mprotect(addr, n * PAGE, s.op === "readonly" ? 1 : 3)).toBe(0);
    each((p) => (this.mapped.get(p)!.writable = s.op === "writable"));
  }

  /** What the log says, and then it is empty. */
  private log(n: number, id: number): void {
    const s = this.slots[n]!.get(id);
    if (s === undefined || (s.flags & LOG) === 0) return;
    if (this.ring[n]) return this.harvest(n);
    const { ret, pages } = this.vms[n]!.v.getDirtyLog(id);
    expect(ret).toBe(0);
    expect(pages, `dirty pages of slot ${id} of VM ${n}`).toEqual([...s.dirty].sort((a, b) => a - b));
    s.dirty.clear();
  }

  play(steps: readonly Step[]): void {
    for (const [i, s] of steps.entries()) {
      try {
        this.do(s);
        if (this.dead) return;
        const wrong = i % 4 === 3 || process.env["RUNS"] !== undefined ? this.checker.step(0) : undefined;
        if (wrong !== undefined) throw new Error(`${wrong.invariant.name}: ${wrong.what}`);
      } catch (e) {
        throw new Error(`step ${i}, ${JSON.stringify(s)}: ${e instanceof Error ? e.message : String(e)}`, { cause: e });
      }
    }
    for (const n of [0, 1]) {
      for (const id of this.slots[n]!.keys()) this.log(n, id);
      this.harvest(n);
    }
  }
}

const RUNS = Number(process.env["RUNS"] ?? 2);
const SEED = Number(process.env["SEED"] ?? 42);
const MIN = Number(process.env["MIN"] ?? 20);

describe("several VMs and vCPUs over one process's memory read, store and log what a naive list has", () => {
  it.each(["v5.4", "v5.14", "v6.1.192", "v6.4", "v6.12", "v7.2.12"])("%s", (kernel) => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(step, { minLength: MIN, maxLength: 60 }), (huge, steps) => new Program(kernel, huge).play(steps)),
      { numRuns: RUNS, seed: SEED, endOnFailure: process.env["RUNS"] !== undefined },
    );
  });
});
