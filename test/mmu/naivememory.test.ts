/** Random programs of up to three processes compared with a naive list of what is at each page (naivememory.ts). */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FOLL_WRITE } from "../../src/mmu/gup.js";
import * as M from "../../src/mmu/madvise.js";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import { HOST_SIGBUS_ADRERR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_HUGE_SHIFT,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "../../src/mmu/vmflags.js";
import { EACCES, EAGAIN, EFAULT, EINVAL, ENOMEM } from "../../src/sim/errno.js";
import {
  breakCow,
  BUS,
  contents,
  Host,
  load,
  PAGE,
  PLACES,
  SEGV,
  store,
  touch,
  type NaiveFile,
  type Process,
  type Slot,
  type Words,
  play,
  runsOr,
  SEED,
  stepsOr,
} from "./naivememory.js";

const AT = 0x40_0000_0000;
const FIRST = AT / PAGE;
/** Four blocks of 2 MiB that programs use. */
const PAGES = 2048;
const FILE_PAGES = 1024;

const KINDS = [
  "anon",
  "anon",
  "shared",
  "memfd",
  "memfdPrivate",
  "regular",
  "regularShared",
  "hugetlb",
  "cont",
  "hugeShared",
  "hugePrivate",
  "contShared",
  "contPrivate",
  "device",
] as const;
const ADVICES = [
  "DONTNEED",
  "DONTNEED",
  "FREE",
  "REMOVE",
  "HUGEPAGE",
  "NOHUGEPAGE",
  "COLLAPSE",
  "COLD",
  "PAGEOUT",
  "MERGEABLE",
  "UNMERGEABLE",
  "DONTFORK",
  "DOFORK",
  "WIPEONFORK",
  "KEEPONFORK",
  "POPULATE_READ",
  "POPULATE_WRITE",
  "WILLNEED",
] as const;

const page = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0, 1, 15, 16, 511, 512, 513, 1024) },
  { weight: 1, arbitrary: fc.nat(40) },
  { weight: 1, arbitrary: fc.nat(PAGES - 1) },
);
const pages = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 5 }) },
  { weight: 3, arbitrary: fc.constantFrom(16, 32, 511, 512, 513, 1024, 1536, PAGES) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 700 }) },
);
const who = fc.nat(2);
const value = fc.integer({ min: 1, max: 3 });
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ op: fc.constantFrom("store" as const, "store" as const, "load" as const), who, page, place: fc.nat(1), value }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("gup" as const, "gupWrite" as const), who, page }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("mmap" as const),
      who,
      page,
      pages,
      kind: fc.constantFrom(...KINDS),
      prot: fc.constantFrom(3, 3, 3, 1, 0),
      offset: fc.constantFrom(0, 0, 16, 512, 3, 700),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("munmap" as const), who, page, pages }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("mprotect" as const), who, page, pages, prot: fc.constantFrom(0, 1, 3, 3) }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant("madvise" as const), who, page, pages, advice: fc.constantFrom(...ADVICES) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("mremap" as const),
      who,
      page,
      pages,
      to: page,
      newPages: pages,
      same: fc.boolean(),
      flags: fc.constantFrom(0, 1, 1, 3, 3, 5, 7),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom("fork" as const, "exit" as const), who }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom("truncate" as const, "punch" as const, "allocate" as const),
      file: fc.nat(2),
      page: fc.nat(FILE_PAGES),
      pages,
      part: fc.constantFrom(0, 0, 100, 2048),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constantFrom("migrate" as const, "reclaim" as const, "split" as const, "age" as const), who, page }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("merge" as const), who, page, other: page }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const kind = fc.constantFrom(...KINDS);
const kinds = fc.tuple(kind, kind, kind, kind);

class Program {
  readonly h: Host;
  /** Processes by their mm. */
  readonly processes = new Map<number, Process>([[0, new Map()]]);
  readonly files: NaiveFile[];
  readonly regular: NaiveFile;
  readonly device: NaiveFile;

  constructor(era: string, thp: "always" | "never") {
    const h = (this.h = new Host(era, thp));
    const { files } = h.mm;
    const size = FILE_PAGES * PAGE;
    this.files = [
      { file: files.createMemfd(size), kind: "shmem", span: 1, size, pages: new Map() },
      { file: files.createHugetlb(size), kind: "hugetlb", span: 512, size, pages: new Map() },
      { file: files.createHugetlb(size / 8, 4), kind: "hugetlb", span: 16, size: size / 8, pages: new Map() },
    ];
    this.device = { file: h.device, kind: "device", span: 1, size: 0, pages: new Map() };
    const file = files.openReadOnly(size - 5 * PAGE, 3);
    this.regular = { file, kind: "regular", span: 1, size: size - 5 * PAGE, pages: new Map() };
    for (let p = 0; p < FILE_PAGES; p++) this.regular.pages.set(p, PLACES.map((at) => files.contentWord(file, p * PAGE + at)) as Words);
  }

  get syscalls() {
    return this.h.mm.syscalls;
  }

  /** The process that a step speaks of: the first where there is no other. */
  whose(n: number): [number, Process] {
    const all = [...this.processes];
    return all[n % all.length]!;
  }

  /** Where the VMA that covers a page ends: what was mapped is compared elsewhere, where it is cut is the kernel's affair. */
  private vma(mm: number, page: number): { start: number; end: number } {
    const { vmas } = this.h.mm;
    const v = vmas.covering(mm, page * PAGE);
    return { start: vmas.start(v) / PAGE, end: vmas.end(v) / PAGE };
  }

  /** Whatever is done is done to pages that CPU and second MMU have just seen. */
  do(s: Step): void {
    if ("who" in s && "page" in s) {
      const last = s.page + ("pages" in s ? s.pages : 1) - 1;
      for (const page of [s.page, last]) {
        if (page % 3 === 2) continue;
        this.access(s.who, FIRST + page, false, 0, 0);
        this.gup(s.who, FIRST + page, false);
      }
    }
    this.once(s);
  }

  private once(s: Step): void {
    switch (s.op) {
      case "store":
      case "load":
        return this.access(s.who, FIRST + s.page, s.op === "store", s.place, s.value);
      case "gup":
      case "gupWrite":
        return this.gup(s.who, FIRST + s.page, s.op === "gupWrite");
      case "mmap":
        return this.mmap(s);
      case "munmap": {
        const [mm, process] = this.whose(s.who);
        const [start, end] = [FIRST + s.page, FIRST + s.page + s.pages];
        const want = this.unmap(process, start, end);
        expect(this.h.run(this.syscalls.munmap, mm, start * PAGE, s.pages * PAGE), "munmap").toBe(want);
        return;
      }
      case "mprotect":
        return this.mprotect(s.who, FIRST + s.page, s.pages, s.prot);
      case "madvise":
        return this.madvise(s.who, FIRST + s.page, s.pages, s.advice);
      case "mremap":
        return this.mremap(s.who, FIRST + s.page, s.pages, s.same ? s.pages : s.newPages, s.flags, FIRST + s.to);
      case "fork":
        return this.fork(s.who);
      case "exit": {
        const [mm] = this.whose(s.who);
        if (mm === 0) return;
        this.h.run(this.syscalls.exitMm, mm);
        this.processes.delete(mm);
        return;
      }
      case "truncate":
        return this.truncate(this.files[s.file]!, s.page, s.part);
      case "punch":
        return this.punch(this.files[s.file]!, s.page * PAGE + s.part, s.pages * PAGE);
      case "allocate":
        return this.allocate(this.files[s.file]!, s.page, s.pages);
      default: {
        // What kernel threads do changes nothing that anybody sees.
        const [mm] = this.whose(s.who);
        const at = AT + s.page * PAGE;
        if (s.op === "migrate") this.h.run(this.h.mm.migrate.migratePage, mm, at);
        else if (s.op === "reclaim") this.h.run(this.h.mm.reclaim.reclaimPage, mm, at, 1);
        else if (s.op === "split") this.h.run(this.h.mm.huge.splitHugePage, mm, at);
        else if (s.op === "age") this.h.run(this.h.mm.reclaim.ageRange, mm, at, at + PAGE, 1);
        else this.h.run(this.h.mm.ksm.mergeTwo, mm, at, AT + (s as { other: number }).other * PAGE, mm);
      }
    }
  }

  private access(n: number, page: number, write: boolean, place: number, value: number): void {
    const [mm, process] = this.whose(n);
    const want = write ? store(process, page, place, value) : load(process, page);
    const r = this.h.run(this.h.mm.hostAccess, mm, page * PAGE + PLACES[place]!, 4, write ? 1 : 0, value, 0);
    if (want === SEGV || want === BUS) {
      expect(r, `access to ${page - FIRST}`).toBe(want === SEGV ? HOST_SIGSEGV : HOST_SIGBUS_ADRERR);
      return;
    }
    expect(r, `access to ${page - FIRST}`).toBe(0);
    if (write) return;
    expect(this.h.sim.agents.result(0, 1), `load of ${page - FIRST}`).toBe(want![place]);
    touch(process, page);
  }

  private gup(n: number, page: number, write: boolean): void {
    const [mm, process] = this.whose(n);
    const s = process.get(page);
    const allowed = s !== undefined && s.file?.kind !== "device" && (s.prot & (write ? PROT_WRITE : PROT_READ)) !== 0;
    const want = allowed && contents(s) !== BUS ? 0 : -EFAULT;
    expect(this.h.gupPage(mm, page, write ? FOLL_WRITE : 0), `gup of ${page - FIRST}`).toBe(want);
    if (want < 0) return;
    touch(process, page);
    const breaks = write || (this.h.d.gupReadBreaksCow && !s!.shared && (s!.prot & PROT_WRITE) !== 0);
    if (breaks) breakCow(process, page);
  }

  /** What munmap does to the list. @returns 0 or -EINVAL: a huge page would be cut */
  private unmap(process: Process, start: number, end: number): number {
    for (const cut of [start, end]) {
      const s = process.get(cut);
      if (s?.file?.kind === "hugetlb" && cut % s.file.span !== 0) return -EINVAL;
    }
    for (let p = start; p < end; p++) process.delete(p);
    return 0;
  }

  private mmap(s: Extract<Step, { op: "mmap" }>): void {
    const [mm, process] = this.whose(s.who);
    const { kind } = s;
    const named: Partial<Record<typeof kind, NaiveFile | undefined>> = {
      memfd: this.files[0],
      memfdPrivate: this.files[0],
      regular: this.regular,
      regularShared: this.regular,
      hugeShared: this.files[1],
      hugePrivate: this.files[1],
      contShared: this.files[2],
      contPrivate: this.files[2],
      device: this.device,
    };
    const file = named[kind];
    const order = kind === "hugetlb" ? 9 : kind === "cont" ? 4 : 0;
    const span = file?.span ?? 2 ** order;
    const start = s.page - (s.page % span) + FIRST;
    let n = Math.ceil(s.pages / span) * span;
    if (span === 512) n = Math.min(n, 1024);
    if (span === 16) n = Math.min(n, 64);
    if (kind === "device") n = Math.min(n, 1024);
    const shared = kind === "shared" || kind.endsWith("Shared") || kind === "memfd" || kind === "device";
    let flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
    if (file === undefined) flags |= MAP_ANONYMOUS;
    if (order > 0) flags |= MAP_HUGETLB | ((order + 12) << MAP_HUGE_SHIFT);
    const prot = kind === "regularShared" ? s.prot & PROT_READ : s.prot;
    const offset = file === undefined ? 0 : s.offset - (s.offset % span);
    const reserved = this.h.mm.files.count;
    const r = this.h.mmap(mm, start * PAGE, n * PAGE, prot, flags, file?.file ?? -1, offset * PAGE);
    const free = this.unmap(process, start, start + n);
    if (free < 0) {
      expect(r, "mmap").toBe(free);
      return;
    }
    if (span > 1 && r === -ENOMEM) return; // the pool is empty
    expect(r, "mmap").toBe(start * PAGE);
    let behind = file;
    if (kind === "shared") behind = { file: reserved, kind: "shmem", span: 1, size: n * PAGE, pages: new Map() };
    if (order > 0) behind = { file: reserved, kind: "hugetlb", span, size: n * PAGE, pages: new Map() };
    for (let i = 0; i < n; i++) {
      process.set(start + i, { prot, shared, file: behind, pgoff: offset + i, own: undefined, dontcopy: false, wipe: false });
    }
  }

  private mprotect(n: number, start: number, pages: number, prot: number): void {
    const [mm, process] = this.whose(n);
    const end = start + pages;
    let want = 0;
    for (let p = start; p < end;) {
      const s = process.get(p);
      if (s === undefined) {
        want = -ENOMEM;
        break;
      }
      const part = Math.min(end, this.vma(mm, p).end);
      if (s.file?.kind === "regular" && s.shared && (prot & PROT_WRITE) !== 0) {
        want = -EACCES;
        break;
      }
      if (s.prot !== prot && s.file?.kind === "hugetlb" && (p % s.file.span !== 0 || part % s.file.span !== 0)) {
        want = -EINVAL;
        break;
      }
      p = part;
    }
    const stop = want === 0 ? end : this.firstRefused(mm, process, start, end, prot);
    for (let p = start; p < stop; p++) process.get(p)!.prot = prot;
    expect(this.h.run(this.syscalls.mprotect, mm, start * PAGE, pages * PAGE, prot), "mprotect").toBe(want);
  }

  private firstRefused(mm: number, process: Process, start: number, end: number, prot: number): number {
    for (let p = start; p < end;) {
      const s = process.get(p);
      if (s === undefined) return p;
      const part = Math.min(end, this.vma(mm, p).end);
      if (s.file?.kind === "regular" && s.shared && (prot & PROT_WRITE) !== 0) return p;
      if (s.prot !== prot && s.file?.kind === "hugetlb" && (p % s.file.span !== 0 || part % s.file.span !== 0)) return p;
      p = part;
    }
    return end;
  }

  private madvise(n: number, start: number, pages: number, advice: (typeof ADVICES)[number]): void {
    const [mm, process] = this.whose(n);
    const number = M[`MADV_${advice}`];
    if (advice.startsWith("POPULATE")) return this.populate(mm, process, start, pages, advice === "POPULATE_WRITE");
    const end = start + pages;
    const known = this.known(advice);
    let want: number | undefined = known ? 0 : -EINVAL;
    // What the advice does to each VMA's part, in their order; a hole is told at the end.
    let hole = false;
    const parts: [number, number, Slot][] = [];
    for (let p = start; p < end && known;) {
      const s = process.get(p);
      if (s === undefined) {
        hole = true;
        p++;
        continue;
      }
      const part = Math.min(end, this.vma(mm, p).end);
      parts.push([p, part, s]);
      p = part;
    }
    for (const [p, to, s] of parts) {
      const error = this.advise(process, p, to, s, advice);
      if (error === undefined) want = undefined;
      else if (error < 0) {
        if (want !== undefined) want = error;
        break;
      }
    }
    if (hole && want === 0) want = -ENOMEM;
    const r = this.h.run(this.syscalls.madvise, mm, start * PAGE, pages * PAGE, number);
    if (want !== undefined) expect(r, `MADV_${advice}`).toBe(want);
    else expect([0, -EINVAL, -EAGAIN, -ENOMEM], `MADV_${advice}`).toContain(r);
  }

  private known(advice: string): boolean {
    const { d } = this.h;
    if (advice === "FREE") return d.madviseFree;
    if (advice === "COLD" || advice === "PAGEOUT") return d.madviseCold;
    if (advice === "COLLAPSE") return d.madviseCollapse;
    if (advice === "WIPEONFORK" || advice === "KEEPONFORK") return d.madviseWipeOnFork;
    return true;
  }

  /** @returns 0, -errno, or undefined: success depends on what this list does not know */
  private advise(process: Process, from: number, to: number, s: Slot, advice: (typeof ADVICES)[number]): number | undefined {
    const { d } = this.h;
    const { kind, span } = s.file ?? { kind: "anon", span: 1 };
    const each = (does: (s: Slot) => void): number => {
      for (let p = from; p < to; p++) does(process.get(p)!);
      return 0;
    };
    // A VMA of huge pages is not cut inside one of them.
    const cuts = kind === "hugetlb" && (from % span !== 0 || to % span !== 0);
    switch (advice) {
      case "DONTNEED":
        if (kind === "device") return -EINVAL;
        if (kind !== "hugetlb") return each((q) => (q.own = undefined));
        if (!d.madviseDontneedHugetlb || from % span !== 0) return -EINVAL;
        to -= to % span;
        return each((q) => (q.own = undefined));
      case "FREE":
        return s.file === undefined ? 0 : -EINVAL;
      case "REMOVE":
        if (kind !== "shmem") return -EINVAL;
        if (!s.shared || (s.prot & PROT_WRITE) === 0) return -EACCES;
        for (let p = from; p < to; p++) s.file!.pages.delete(process.get(p)!.pgoff);
        return 0;
      case "COLD":
      case "PAGEOUT":
        return kind === "device" || kind === "hugetlb" ? -EINVAL : 0;
      case "DONTFORK":
        if (cuts && !s.dontcopy) return -EINVAL;
        return each((q) => (q.dontcopy = true));
      case "DOFORK":
        if (kind === "device" || (kind === "hugetlb" && d.madviseDoforkRefused === "special")) return -EINVAL;
        if (cuts && s.dontcopy) return -EINVAL;
        return each((q) => (q.dontcopy = false));
      case "WIPEONFORK":
        return s.file === undefined ? each((q) => (q.wipe = true)) : -EINVAL;
      case "KEEPONFORK":
        return each((q) => (q.wipe = false));
      case "HUGEPAGE":
      case "NOHUGEPAGE": {
        const special = kind === "device" || kind === "hugetlb" || s.shared;
        if (special && d.madviseHugepageSpecial === "EINVAL") return -EINVAL;
        return cuts ? undefined : 0;
      }
      case "COLLAPSE":
        return undefined;
      default:
        return 0;
    }
  }

  private populate(mm: number, process: Process, start: number, pages: number, write: boolean): void {
    let want = this.h.d.madvisePopulate ? 0 : -EINVAL;
    for (let p = start; p < start + pages && want === 0; p++) {
      const s = process.get(p);
      if (s === undefined) want = -ENOMEM;
      else if (s.file?.kind === "device" || (s.prot & (write ? PROT_WRITE : PROT_READ)) === 0) want = -EINVAL;
      else if (contents(s) === BUS) want = -EFAULT;
      else if (write) breakCow(process, p);
      else touch(process, p);
    }
    const advice = write ? M.MADV_POPULATE_WRITE : M.MADV_POPULATE_READ;
    expect(this.h.run(this.syscalls.madvise, mm, start * PAGE, pages * PAGE, advice), "populate").toBe(want);
  }

  private mremap(n: number, from: number, oldPages: number, newPages: number, flags: number, to: number): void {
    const [mm, process] = this.whose(n);
    const before = new Map(process);
    const want = this.resize(mm, process, from, oldPages, newPages, flags, to);
    const r = this.h.run(this.syscalls.mremap, mm, from * PAGE, oldPages * PAGE, newPages * PAGE, flags, to * PAGE);
    if (typeof want === "number") {
      expect(r, "mremap").toBe(want);
      return;
    }
    // Anywhere that was free.
    expect(r, "mremap").toBeGreaterThan(0);
    for (let i = 0; i < newPages; i++) expect(before.has(r / PAGE + i)).toBe(false);
    want(r / PAGE);
  }

  /** @returns the result, or what happens once it is known where the kernel has put it */
  private resize(
    mm: number,
    process: Process,
    from: number,
    oldPages: number,
    newPages: number,
    flags: number,
    to: number,
  ): number | ((to: number) => void) {
    const { d } = this.h;
    const dontunmap = (flags & MREMAP_DONTUNMAP) !== 0;
    const fixed = (flags & MREMAP_FIXED) !== 0;
    if (dontunmap && (!d.mremapDontunmap || oldPages !== newPages)) return -EINVAL;
    let s = process.get(from);
    if (d.mremapHugetlb === "moves") {
      if (s === undefined) return -EFAULT;
      if (s.file?.kind === "hugetlb") {
        const { span } = s.file;
        oldPages = Math.ceil(oldPages / span) * span;
        newPages = Math.ceil(newPages / span) * span;
        if (from % span !== 0 || to % span !== 0 || newPages > oldPages) return -EINVAL;
      }
    }
    if (fixed) {
      if (from + oldPages > to && to + newPages > from) return -EINVAL;
      const error = this.unmap(process, to, to + newPages);
      if (error < 0) return error;
    }
    if (fixed || dontunmap) {
      if (oldPages > newPages) {
        const error = this.unmap(process, from + newPages, from + oldPages);
        if (error < 0) return error;
        oldPages = newPages;
      }
    } else if (oldPages >= newPages) {
      const error = this.unmap(process, from + newPages, from + oldPages);
      return error < 0 && oldPages !== newPages ? error : from * PAGE;
    }
    s = process.get(from);
    if (s === undefined) return -EFAULT;
    const special = s.file?.kind === "device" || s.file?.kind === "hugetlb";
    const plain = s.file === undefined && !s.shared;
    if (dontunmap && (special || (!plain && !this.dontunmapOfFiles))) return -EINVAL;
    if (s.file?.kind === "hugetlb" && d.mremapHugetlb === "EINVAL") return -EINVAL;
    let end = from;
    while (end < from + oldPages && process.get(end) !== undefined && end < this.endOf(mm, from)) end++;
    if (end < from + oldPages) return -EFAULT;
    if (special && newPages !== oldPages) return -EFAULT;
    const last = process.get(from + oldPages - 1)!;
    const more = (at: number): void => {
      for (let i = oldPages; i < newPages; i++) process.set(at + i, { ...last, pgoff: last.pgoff + i - oldPages + 1, own: undefined });
    };
    if (!fixed && !dontunmap) {
      let room = from + oldPages === this.endOf(mm, from);
      for (let i = oldPages; i < newPages; i++) if (process.has(from + i)) room = false;
      if (room) {
        more(from);
        return from * PAGE;
      }
      if ((flags & MREMAP_MAYMOVE) === 0) return -ENOMEM;
    }
    const move = (at: number): void => {
      for (let i = 0; i < oldPages; i++) {
        const q = process.get(from + i)!;
        process.set(at + i, q);
        if (dontunmap) process.set(from + i, { ...q, own: undefined });
        else process.delete(from + i);
      }
      more(at);
    };
    if (!fixed) return move;
    move(to);
    return to * PAGE;
  }

  /** The end of the VMA as it is once target and tail are gone: where it was, or where the list ends. */
  private endOf(mm: number, from: number): number {
    return this.vma(mm, from).end;
  }

  private get dontunmapOfFiles(): boolean {
    return this.h.d.mremapDontunmapFiles === "allowed";
  }

  private fork(n: number): void {
    if (this.processes.size >= 3) return;
    const [mm, process] = this.whose(n);
    const child = this.h.run(this.syscalls.fork, mm);
    expect(child).toBeGreaterThan(0);
    this.h.hear(child);
    const copy: Process = new Map();
    for (const [p, s] of process) {
      if (s.dontcopy) continue;
      copy.set(p, { ...s, own: s.own === undefined || s.wipe ? undefined : [...s.own] });
    }
    this.processes.set(child, copy);
  }

  /** Takes pages of a file out of it, and of private copies too where `copies`. */
  private cut(file: NaiveFile, from: number, to: number, copies: boolean, swapped: ReadonlySet<string>): void {
    for (const p of [...file.pages.keys()]) if (p >= from && p < to) file.pages.delete(p);
    if (!copies) return;
    for (const [mm, process] of this.processes)
      for (const [p, s] of process) {
        if (s.file !== file || s.pgoff < from || s.pgoff >= to) continue;
        // Before v5.18 a truncation passes over what is in the swap.
        if (file.kind === "hugetlb" || this.h.d.truncatedPoison || !swapped.has(`${mm}:${p}`)) s.own = undefined;
      }
  }

  private truncate(file: NaiveFile, page: number, part: number): void {
    const swapped = this.h.swapped(this.processes);
    let size = page * PAGE + part;
    if (file.kind === "hugetlb") size = Math.floor(page / file.span) * file.span * PAGE;
    expect(this.h.run(this.syscalls.ftruncate, file.file, size), "ftruncate").toBe(0);
    const old = file.size;
    file.size = size;
    if (size >= old && file.kind !== "hugetlb") return;
    this.cut(file, Math.ceil(size / PAGE), Infinity, true, swapped);
    this.zero(file, size, Math.ceil(size / PAGE) * PAGE);
  }

  private zero(file: NaiveFile, from: number, to: number): void {
    const words = file.pages.get(Math.floor(from / PAGE));
    if (words === undefined || from >= to) return;
    for (const [i, at] of PLACES.entries()) if (at >= from % PAGE && at < ((to - 1) % PAGE) + 1) words[i] = 0;
  }

  private punch(file: NaiveFile, from: number, length: number): void {
    expect(this.h.run(this.syscalls.fallocate, file.file, 3, from, length), "punch").toBe(0);
    const size = file.span * PAGE;
    const to = from + length;
    const first = Math.ceil(from / size) * size;
    const last = Math.floor(to / size) * size;
    if (file.kind === "shmem") {
      this.zero(file, from, Math.min(to, first));
      if (last >= first) this.zero(file, last, to);
    }
    // A hole in hugetlb takes the copies of private mappings too (unmap_hugepage_range).
    if (last > first) this.cut(file, first / PAGE, last / PAGE, file.kind === "hugetlb", new Set());
  }

  private allocate(file: NaiveFile, page: number, pages: number): void {
    pages = Math.min(pages, 40);
    const r = this.h.run(this.syscalls.fallocate, file.file, 1, page * PAGE, pages * PAGE);
    if (file.kind !== "hugetlb") expect(r, "fallocate").toBe(0);
    else {
      expect([0, -ENOMEM]).toContain(r);
      for (let p = Math.floor(page / file.span) * file.span; p < page + pages; p++)
        if (!file.pages.has(p) && this.h.mm.files.cache.find(file.file, p - (p % file.span)) >= 0) file.pages.set(p, [0, 0]);
    }
  }

  end(): void {
    for (const mm of [...this.processes.keys()].reverse()) {
      if (mm !== 0) this.h.run(this.syscalls.exitMm, mm);
    }
    expect(this.h.run(this.syscalls.munmap, 0, 0, 2 ** 48)).toBe(0);
    for (const f of [...this.files, this.regular]) this.h.mm.files.put(f.file);
    this.processes.clear();
    this.processes.set(0, new Map());
    expect(this.h.wrong(this.processes)).toBeUndefined();
  }
}

/** @param kinds what each of the four blocks holds at the beginning */
function check(era: string, thp: "always" | "never", kinds: readonly (typeof KINDS)[number][], steps: readonly Step[]): void {
  const p = new Program(era, thp);
  for (const [i, kind] of kinds.entries())
    p.do({ op: "mmap", who: 0, page: 512 * i, pages: 512, kind, prot: 3, offset: i % 2 === 0 ? 0 : 512 });
  play(
    steps,
    (s) => p.do(s),
    () => p.h.wrong(p.processes),
  );
  p.end();
}

describe("random programs of processes, files and kernel threads leave what a naive list of pages has", () => {
  for (const [era, thp] of [
    ["v4.0", "always"],
    ["v5.4", "always"],
    ["v5.8", "always"],
    ["v5.14", "never"],
    ["v6.1.192", "always"],
    ["v6.4", "always"],
    ["v6.12", "always"],
    ["v7.2.12", "always"],
  ] as const) {
    it(`${era}, transparent huge pages ${thp}`, () => {
      fc.assert(
        fc.property(kinds, fc.array(step, { minLength: stepsOr(10), maxLength: 60 }), (k, steps) => check(era, thp, k, steps)),
        { numRuns: runsOr(8), seed: SEED },
      );
    });
  }
});
