/** Random programs with a userfaultfd compared with a naive list of pages and of who waits (naiveuserfault.ts). */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as M from "../../src/mmu/madvise.js";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { HI_UFFD_WP } from "../../src/mmu/pte.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED } from "../../src/mmu/vmflags.js";
import { EINVAL, ENOMEM } from "../../src/sim/errno.js";
import { Host, LONG, PAGE, play, runsOr, SEED, stepsOr, type NaiveFile } from "./naivememory.js";
import { NaiveUserfault, WP, type Page } from "./naiveuserfault.js";

const AT = 0x40_0000_0000;
const FIRST = AT / PAGE;
const FILE_PAGES = 64;

/** Where each kind of memory lies, in pages from AT. */
const AREAS = [
  { kind: "anon", at: 0, pages: 1024 },
  { kind: "shmem", at: 1100, pages: 64 },
  { kind: "shmemPrivate", at: 1200, pages: 64 },
  { kind: "cont", at: 1280, pages: 64 },
  { kind: "contShared", at: 1408, pages: 64 },
  { kind: "contPrivate", at: 1536, pages: 64 },
  // The files once more, for nobody but the program that fills them.
  { kind: "shmem", at: 1700, pages: 64 },
  { kind: "contShared", at: 1792, pages: 64 },
] as const;
/** What UFFDIO_COPY copies; behind it is nothing. */
const SOURCE = 1900;
const SOURCE_PAGES = 34;
/** Where mremap moves to. */
const SPARE = 2304;

const area = fc.nat(AREAS.length - 1);
const registered = fc.nat(5);
const offset = fc.oneof({ weight: 4, arbitrary: fc.nat(5) }, { weight: 2, arbitrary: fc.constantFrom(15, 16, 31, 32, 48, 63, 511, 512) });
const pages = fc.constantFrom(1, 1, 2, 3, 16, 16, 32, 64, 64, 512, 1024);
const few = fc.constantFrom(1, 1, 2, 4, 16, 32);
const ctx = fc.constantFrom(0, 0, 0, 1);
const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      op: fc.constant("access" as const),
      thread: fc.nat(1),
      how: fc.constantFrom("load" as const, "store" as const, "store" as const, "gup" as const, "gupWrite" as const),
      area,
      offset,
      place: fc.nat(1),
      value: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("register" as const),
      ctx,
      area: registered,
      offset: fc.constantFrom(0, 0, 1, 16),
      pages,
      mode: fc.constantFrom<number>(1, 1, 2, 3, 4, 5, 7, 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("unregister" as const), ctx, area: registered, offset, pages }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("copy" as const),
      ctx,
      area: registered,
      offset,
      pages: few,
      from: fc.constantFrom(0, 1, 5, 18, 33, 40),
      off: fc.constantFrom(0, 0, 0, 2984),
      mode: fc.constantFrom(0, 0, 1, 2, 3, 4),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("zeropage" as const),
      ctx,
      area: registered,
      offset,
      pages: few,
      mode: fc.constantFrom(0, 0, 1, 2),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("continue" as const),
      ctx,
      area: registered,
      offset,
      pages: few,
      mode: fc.constantFrom(0, 0, 1, 2, 4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("poison" as const),
      ctx,
      area: registered,
      offset,
      pages: few,
      mode: fc.constantFrom(0, 0, 1, 2),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("writeprotect" as const),
      ctx,
      area: registered,
      offset,
      pages,
      mode: fc.constantFrom(1, 1, 0, 0, 2, 3),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("wake" as const), ctx, area: registered, offset, pages }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("read" as const), ctx }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom("dontneed" as const, "dontneed" as const, "munmap" as const, "remap" as const),
      area,
      offset,
      pages,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant("mprotect" as const), area: registered, offset, pages, prot: fc.constantFrom(0, 1, 3, 3) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom("move" as const, "move" as const, "dontunmap" as const, "grow" as const),
      area: fc.nat(2),
      offset,
      pages: few,
      to: fc.nat(40),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const, "split" as const), area, offset }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "exit" as const), area, offset }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("collapse" as const), area: fc.constant(0), offset: fc.constantFrom(0, 512) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom("punch" as const, "truncate" as const), huge: fc.boolean(), offset, pages: few }),
  },
);
const mode = fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7);
const modes = fc.tuple(mode, mode, mode, mode, mode, mode);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Program {
  readonly h: Host;
  readonly n: NaiveUserfault;
  readonly shmem: NaiveFile;
  readonly huge: NaiveFile;
  private child = -1;
  private childPages = new Map<number, Page>();

  constructor(era: string, thp: "always" | "never") {
    const h = (this.h = new Host(era, thp));
    const size = FILE_PAGES * PAGE;
    this.shmem = { file: h.mm.files.createMemfd(size), kind: "shmem", span: 1, size, pages: new Map() };
    this.huge = { file: h.mm.files.createHugetlb(size, 4), kind: "hugetlb", span: 16, size, pages: new Map() };
    const n = (this.n = new NaiveUserfault(h));
    for (let i = 0; i < 2; i++) {
      n.ctx.push(h.run(h.mm.userfaultfd.create, 0, 0));
      expect(h.run(h.mm.userfaultfd.api, n.ctx[i]!)).toBe(0);
    }
    for (let i = 0; i < AREAS.length; i++) this.map(i, 0, AREAS[i]!.pages);
    this.mapAnon(FIRST + SOURCE, SOURCE_PAGES);
    for (let p = 0; p < SOURCE_PAGES; p += 3) n.access(0, "store", FIRST + SOURCE + p, p % 2, 10 + p);
  }

  private get calls() {
    return this.h.mm.syscalls;
  }

  private slot(prot: number, shared: boolean, file: NaiveFile | undefined, pgoff: number): Page {
    return {
      prot,
      shared,
      file,
      pgoff,
      own: undefined,
      dontcopy: false,
      wipe: false,
      mapped: false,
      wp: false,
      poison: false,
      ctx: -1,
      modes: 0,
    };
  }

  private mapAnon(at: number, pages: number): void {
    expect(this.h.mmap(0, at * PAGE, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)).toBe(at * PAGE);
    for (let i = 0; i < pages; i++) this.n.pages.set(at + i, this.slot(3, false, undefined, 0));
  }

  private map(i: number, from: number, pages: number): void {
    const { kind, at } = AREAS[i]!;
    const start = FIRST + at + from;
    if (kind === "anon") return this.mapAnon(start, pages);
    const shared = kind === "shmem" || kind === "contShared";
    const named = kind === "cont" ? undefined : kind.startsWith("shmem") ? this.shmem : this.huge;
    let flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
    if (named === undefined) flags |= MAP_ANONYMOUS | MAP_HUGETLB | (16 << MAP_HUGE_SHIFT);
    const own = this.h.mm.files.count;
    const r = this.h.mmap(0, start * PAGE, pages * PAGE, 3, flags, named?.file ?? -1, from * PAGE);
    for (let p = start; p < start + pages; p++) this.n.pages.delete(p);
    if (r === -ENOMEM && kind.startsWith("cont")) return; // the pool is empty
    expect(r, "mmap").toBe(start * PAGE);
    const file = named ?? { file: own, kind: "hugetlb", span: 16, size: pages * PAGE, pages: new Map() };
    for (let k = 0; k < pages; k++) this.n.pages.set(start + k, this.slot(3, shared, file, named === undefined ? k : from + k));
  }

  /** Range of a step, inside of its area; whole huge pages where `even`. */
  private range(s: { area: number; offset: number; pages?: number }, even: boolean): [number, number] {
    const { at, pages, kind } = AREAS[s.area]!;
    let from = s.offset % pages;
    let n = Math.min(s.pages ?? 1, pages - from);
    if (even && kind.startsWith("cont")) {
      from -= from % 16;
      n = Math.ceil(n / 16) * 16;
    }
    return [FIRST + at + from, n];
  }

  do(s: Step): void {
    this.once(s);
    this.seeHuge();
    this.n.resume();
    this.seeHuge();
  }

  private seeHuge(): void {
    this.n.seeHuge(FIRST);
    this.n.seeHuge(FIRST + 512);
  }

  private once(s: Step): void {
    const { n } = this;
    switch (s.op) {
      case "access":
        return n.access(s.thread, s.how, this.range(s, false)[0], s.place, s.value);
      case "register":
        return n.register(s.ctx, ...this.range(s, s.offset !== 1), s.mode);
      case "unregister":
        return n.unregister(s.ctx, ...this.range(s, true));
      case "copy":
        return n.copy(s.ctx, ...this.range(s, s.offset !== 1), FIRST + SOURCE + s.from, s.off, s.mode);
      case "zeropage":
        return n.zeropage(s.ctx, ...this.range(s, true), s.mode);
      case "continue":
        return n.continue(s.ctx, ...this.range(s, s.offset !== 1), s.mode);
      case "poison":
        return n.poison(s.ctx, ...this.range(s, s.offset !== 1), s.mode);
      case "writeprotect":
        return n.writeprotect(s.ctx, ...this.range(s, s.offset !== 1), s.mode);
      case "wake":
        return n.wake(s.ctx, ...this.range(s, false));
      case "read":
        return n.read(s.ctx);
      case "dontneed":
        return this.dontneed(...this.range(s, true));
      case "munmap":
        return this.munmap(...this.range(s, true));
      case "remap": {
        const [at, k] = this.range(s, true);
        return this.map(s.area, at - FIRST - AREAS[s.area]!.at, k);
      }
      case "mprotect":
        return this.mprotect(...this.range(s, true), s.prot);
      case "move":
      case "dontunmap":
        return this.move(...this.range(s, true), FIRST + SPARE + 2 * s.to, s.op === "dontunmap");
      case "grow":
        return this.grow(this.range(s, true)[0], s.pages);
      case "fork":
        return this.fork();
      case "exit":
        return this.exit();
      case "punch":
        return this.punch(s.huge ? this.huge : this.shmem, s.offset % FILE_PAGES, s.pages);
      case "truncate":
        return this.truncate(s.huge ? this.huge : this.shmem, s.offset % FILE_PAGES);
      case "collapse":
        this.h.run(this.calls.madvise, 0, AT + s.offset * PAGE, 512 * PAGE, M.MADV_COLLAPSE);
        return;
      default: {
        const [page] = this.range(s, false);
        const { h } = this;
        if (s.op === "migrate") h.run(h.mm.migrate.migratePage, 0, page * PAGE);
        else if (s.op === "split") h.run(h.mm.huge.splitHugePage, 0, page * PAGE);
        else {
          const q = n.pages.get(page);
          const r = h.run(h.mm.reclaim.reclaimPage, 0, page * PAGE, 1);
          // A file's page is mapped nowhere any more.
          if (r === 0 && q !== undefined && q.own === undefined && q.file !== undefined) this.unmapped(q.file, q.pgoff, q.pgoff + 1, false);
        }
      }
    }
  }

  /** What a range of a file shows is unmapped; with copies the private pages go too. */
  private unmapped(file: NaiveFile, from: number, to: number, copies: boolean): void {
    for (const q of [...this.n.pages.values(), ...this.childPages.values()]) {
      if (q.file !== file || q.pgoff < from || q.pgoff >= to) continue;
      // A hole in hugetlb takes the private copies too.
      if (copies || file.span > 1) q.poison = false;
      if (q.own !== undefined && !copies && file.span === 1) continue;
      q.mapped = false;
      q.own = undefined;
    }
  }

  private dontneed(start: number, k: number): void {
    const slots = Array.from({ length: k }, (_, i) => this.n.pages.get(start + i));
    const r = this.h.run(this.calls.madvise, 0, start * PAGE, k * PAGE, M.MADV_DONTNEED);
    if (slots.some((s) => s?.file?.kind === "hugetlb") && !this.h.d.madviseDontneedHugetlb) {
      expect(r, "MADV_DONTNEED").toBe(-EINVAL);
      return;
    }
    expect(r, "MADV_DONTNEED").toBe(slots.includes(undefined) ? -ENOMEM : 0);
    for (const s of slots) if (s !== undefined) this.drop(s);
  }

  /** An entry goes; the mark of a protected page of a file stays. */
  private drop(s: Page): void {
    s.mapped = s.poison = false;
    s.own = undefined;
    if (s.file === undefined) s.wp = false;
  }

  private munmap(start: number, k: number): void {
    expect(this.h.run(this.calls.munmap, 0, start * PAGE, k * PAGE), "munmap").toBe(0);
    for (let p = start; p < start + k; p++) this.n.pages.delete(p);
  }

  private mprotect(start: number, k: number, prot: number): void {
    for (let p = start; p < start + k; p++) if (!this.n.pages.has(p)) return;
    expect(this.h.run(this.calls.mprotect, 0, start * PAGE, k * PAGE, prot), "mprotect").toBe(0);
    for (let p = start; p < start + k; p++) this.n.pages.get(p)!.prot = prot;
  }

  private move(start: number, k: number, to: number, stays: boolean): void {
    const { d } = this.h;
    const { pages } = this.n;
    if (!pages.has(start) || this.n.vma(start)!.end < start + k) return;
    const s = pages.get(start)!;
    if (stays && (!d.mremapDontunmap || (s.file !== undefined && d.mremapDontunmapFiles === "EINVAL"))) return;
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED | (stays ? MREMAP_DONTUNMAP : 0);
    expect(this.h.run(this.calls.mremap, 0, start * PAGE, k * PAGE, k * PAGE, flags, to * PAGE), "mremap").toBe(to * PAGE);
    for (let i = 0; i < k; i++) {
      const q = pages.get(start + i)!;
      const kept = d.mremapUserfaultfd === "kept" ? {} : { wp: false, ctx: -1, modes: 0 };
      pages.set(to + i, { ...q, ...kept });
      if (stays) pages.set(start + i, { ...q, own: undefined, mapped: false, wp: false, poison: false });
      else pages.delete(start + i);
    }
  }

  private grow(start: number, k: number): void {
    const { pages } = this.n;
    if (!pages.has(start)) return;
    const { end } = this.n.vma(start)!;
    const last = pages.get(end - 1)!;
    if (last.file?.kind === "hugetlb") return;
    const free = Array.from({ length: k }, (_, i) => end + i).every((p) => !pages.has(p));
    const r = this.h.run(this.calls.mremap, 0, (end - 1) * PAGE, PAGE, (k + 1) * PAGE, 0, 0);
    expect(r, "mremap").toBe(free ? (end - 1) * PAGE : -ENOMEM);
    if (!free) return;
    for (let i = 0; i < k; i++)
      pages.set(end + i, { ...last, pgoff: last.pgoff + i + 1, own: undefined, mapped: false, wp: false, poison: false });
  }

  private fork(): void {
    if (this.child >= 0) return;
    this.child = this.h.run(this.calls.fork, 0);
    expect(this.child).toBeGreaterThan(0);
    this.h.hear(this.child);
    for (const [p, s] of this.n.pages)
      this.childPages.set(p, { ...s, own: s.own === undefined ? undefined : [...s.own], ctx: -1, modes: 0, wp: false });
  }

  private exit(): void {
    if (this.child < 0) return;
    this.h.run(this.calls.exitMm, this.child);
    this.child = -1;
    this.childPages = new Map();
  }

  private punch(file: NaiveFile, from: number, k: number): void {
    if (file.span > 1) {
      from -= from % 16;
      k = 16;
    }
    expect(this.h.run(this.calls.fallocate, file.file, 3, from * PAGE, k * PAGE), "punch").toBe(0);
    this.unmapped(file, from, from + k, false);
    for (let p = from; p < from + k; p++) file.pages.delete(p);
  }

  private truncate(file: NaiveFile, to: number): void {
    if (file.span > 1) to -= to % 16;
    expect(this.h.run(this.calls.ftruncate, file.file, to * PAGE), "ftruncate").toBe(0);
    file.size = to * PAGE;
    this.unmapped(file, to, Infinity, true);
    // hugetlb_vmtruncate drops the marks too (ZAP_FLAG_DROP_MARKER).
    if (file.span > 1)
      for (const q of [...this.n.pages.values(), ...this.childPages.values()]) if (q.file === file && q.pgoff >= to) q.wp = false;
    for (const p of [...file.pages.keys()]) if (p >= to) file.pages.delete(p);
  }

  /** @returns what is not as the list has it */
  wrong(): string | undefined {
    const { pt } = this.h.mm;
    for (const [page, s] of this.n.pages) {
      pt.walk(0, page * PAGE);
      const where = `page ${(page - FIRST).toString()}`;
      if (page >= FIRST + SOURCE && page < FIRST + SOURCE + SOURCE_PAGES) continue;
      const marked = s.file !== undefined && s.wp && (s.modes & WP) !== 0;
      if (!pt.none !== (s.mapped || s.poison || marked))
        return `${where}: ${pt.none ? "no entry" : "an entry"}, mapped ${String(s.mapped)}`;
      if (!s.mapped || (s.modes & WP) === 0) continue;
      if (((pt.hi & HI_UFFD_WP) !== 0) !== s.wp) return `${where}: write-protected ${String(s.wp)}`;
      if (s.wp && pt.writable) return `${where}: protected and writable`;
    }
    const all = new Map<number, typeof this.n.process>([[0, this.n.process]]);
    if (this.child >= 0) all.set(this.child, this.childPages);
    return this.h.wrong(all);
  }

  end(): void {
    this.exit();
    for (let ctx = 0; ctx < 2; ctx++) this.n.wake(ctx, FIRST, 8192);
    expect(this.h.run(this.calls.munmap, 0, 0, 2 ** 48)).toBe(0);
    this.n.pages.clear();
    this.n.resume();
    for (const f of [this.shmem, this.huge]) this.h.mm.files.put(f.file);
    expect(this.wrong()).toBeUndefined();
  }
}

/** @param modes what each kind of memory is registered for at the beginning */
function check(era: string, thp: "always" | "never", modes: readonly number[], steps: readonly Step[]): void {
  const p = new Program(era, thp);
  for (const [i, mode] of modes.entries()) p.do({ op: "register", ctx: 0, area: i, offset: 0, pages: 1024, mode });
  // All tables are walked after every fourth step, in long runs after each.
  play(
    steps,
    (s) => p.do(s),
    (i) => (i % 4 === 3 || LONG ? p.wrong() : undefined),
  );
  p.end();
}

describe("random programs with a userfaultfd: pages, results, messages and sleepers are what a naive list has", () => {
  for (const [era, thp] of [
    ["v4.10", "always"],
    ["v5.4", "never"],
    ["v5.8", "always"],
    ["v5.14", "never"],
    ["v6.4", "always"],
    ["v6.12.117", "never"],
    ["v7.2.12", "always"],
  ] as const) {
    it(`${era}, transparent huge pages ${thp}`, () => {
      fc.assert(
        fc.property(modes, fc.array(step, { minLength: stepsOr(40), maxLength: 60 }), (m, steps) => check(era, thp, m, steps)),
        { numRuns: runsOr(3), seed: SEED, endOnFailure: LONG },
      );
    });
  }
});

describe("short programs that random ones of this length seldom are", () => {
  const load = (offset: number) => ({ op: "access", thread: 0, how: "load", area: 0, offset, place: 0, value: 1 }) as const;

  it("who waits for a page goes on where its range is unregistered", () => {
    for (const era of ["v5.8", "v7.2.12"]) check(era, "never", [1], [load(3), { op: "unregister", ctx: 0, area: 0, offset: 0, pages: 16 }]);
  });
});
