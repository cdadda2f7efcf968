/**
 * Memory as a naive list: of each process, what is at each page, byte for byte the rules of the manual pages. And the host that is
 * compared with it: a TLB that forgets only what it is told to, and a second MMU that hears the notifiers.
 */
import fc from "fast-check";
import { it } from "vitest";
import { rangePages, TLBI_IS, TlbiKind } from "../../src/arch/tlbi.js";
import { eraRow } from "../../src/eras.js";
import type { MmRow } from "../../src/mmu/decisions.js";
import type { VmOperations } from "../../src/mmu/files.js";
import { FRAME_ANON } from "../../src/mmu/frames.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import type { MmuSubscriber } from "../../src/mmu/notifiers.js";
import {
  HI_CONT,
  HI_PROT_NONE,
  HI_SPECIAL,
  HI_WRITE,
  PTE_RDONLY,
  SWP_MARKER,
  SWP_SWAP,
  swapEntryPfn,
  swapEntryType,
} from "../../src/mmu/pte.js";
import { VM_FAULT_FALLBACK } from "../../src/mmu/vmfault.js";
import { PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { ARG, type Activity } from "../../src/sim/agents.js";
import { Bench, HostTlb, type HostTranslation } from "./faultbench.js";

export const PAGE = 4096;
export const BLOCK = 0x200000;
const BAR = 0x8000000000;
const BAR_SIZE = 4 * BLOCK;
const WORD = 4294967296;

/** The two words of a page that programs use, by their place in it. */
export const PLACES = [16, 3000] as const;
export type Words = [number, number];

export interface NaiveFile {
  readonly file: number;
  readonly kind: "shmem" | "regular" | "hugetlb" | "device";
  /** Pages of a huge page; 1 elsewhere. */
  readonly span: number;
  size: number;
  /** Of each resident page that is not zero; of a hugetlb file all resident ones. */
  readonly pages: Map<number, Words>;
}

/** What is mapped at a page. */
export interface Slot {
  prot: number;
  readonly shared: boolean;
  readonly file: NaiveFile | undefined;
  readonly pgoff: number;
  /** The process's own copy, or its anonymous page; absent: nothing stored yet. */
  own: Words | undefined;
  dontcopy: boolean;
  wipe: boolean;
}

/** A process: page number -> what is there. */
export type Process = Map<number, Slot>;

/** Nothing there, no such right; beyond the end of the file. */
export const SEGV = "SEGV";
export const BUS = "BUS";

/** What a load finds. */
export function load(process: Process, page: number): Words | typeof SEGV | typeof BUS {
  const s = process.get(page);
  if (s === undefined || (s.prot & (PROT_READ | PROT_WRITE)) === 0) return SEGV;
  return contents(s);
}

export function contents(s: Slot): Words | typeof BUS {
  if (s.own !== undefined) return s.own;
  if (s.file === undefined) return [0, 0];
  if (s.file.kind !== "device" && s.pgoff * PAGE >= s.file.size) return BUS;
  return s.file.pages.get(s.pgoff) ?? [0, 0];
}

/** The slots of the huge page that a page belongs to; of an ordinary page itself. */
function together(page: number, s: Slot): number[] {
  const first = page - (page % (s.file?.span ?? 1));
  return Array.from({ length: s.file?.span ?? 1 }, (_, i) => first + i);
}

/** A private hugetlb mapping does not put what it faults in into the file (VM_MAYSHARE): the page is its own at once. */
export function touch(process: Process, page: number): void {
  const s = process.get(page)!;
  if (s.file?.kind !== "hugetlb") return;
  const head = s.pgoff - (s.pgoff % s.file.span);
  if (s.file.pages.has(head)) return;
  if (s.shared) {
    for (let i = 0; i < s.file.span; i++) s.file.pages.set(head + i, [0, 0]);
    return;
  }
  for (const p of together(page, s)) process.get(p)!.own ??= [0, 0];
}

/** Makes the page the process's own where a store would. @returns false beyond the end of the file */
export function breakCow(process: Process, page: number): boolean {
  const s = process.get(page)!;
  if (contents(s) === BUS) return false;
  touch(process, page);
  if (s.shared) return true;
  for (const p of together(page, s)) {
    const q = process.get(p)!;
    q.own ??= [...(contents(q) as Words)];
  }
  return true;
}

export function store(process: Process, page: number, place: number, value: number): typeof SEGV | typeof BUS | undefined {
  const s = process.get(page);
  if (s === undefined || (s.prot & PROT_WRITE) === 0) return SEGV;
  if (!breakCow(process, page)) return BUS;
  if (!s.shared) s.own![place] = value;
  else {
    const words = s.file!.pages.get(s.pgoff) ?? [0, 0];
    words[place] = value;
    s.file!.pages.set(s.pgoff, words);
  }
  return undefined;
}

/** A CPU that keeps every translation until a TLBI names it. */
class StrictTlb extends HostTlb {
  tlbi(_v: number, op: number, hi: number, lo: number): void {
    const kind = op & ~TLBI_IS;
    const mm = hi >>> 16;
    if (kind === TlbiKind.Vae1 || kind === TlbiKind.Vale1) this.cached.delete(`${mm}:${(hi & 0xfff) * WORD + (lo >>> 0)}`);
    else {
      const first = kind === TlbiKind.Rvae1 ? (hi & 0x1f) * WORD + (lo >>> 0) : 0;
      const end = kind === TlbiKind.Rvae1 ? first + rangePages(hi) : Number.MAX_SAFE_INTEGER;
      if (kind !== TlbiKind.Rvae1 && kind !== TlbiKind.Aside1) throw new Error(`the host does not use TLBI ${kind}`);
      for (const [key, e] of this.cached) if (e.mm === mm && e.page >= first && e.page < end) this.cached.delete(key);
    }
  }
}

export class Host extends Bench {
  readonly d: MmRow;
  readonly device: number;
  /** What a second MMU has mapped: of each mm, page -> pfn and whether it may write. */
  readonly second = new Map<string, HostTranslation>();
  private readonly frames0: number;
  private readonly subscribers: MmuSubscriber[] = [];
  private readonly bar = new Map<number, number>();

  constructor(era: string, thp: "always" | "never") {
    super(era, { thp, hugetlbPages: 24, hugetlb: { 4: 64 } }, {}, 256 * 0x100000, new StrictTlb());
    this.d = eraRow(era).mm as MmRow;
    const { phys, bar } = this;
    phys.addWindow(BAR, BAR_SIZE, {
      read: (offset: number) => ((phys.lo = bar.get(offset) ?? 0), (phys.hi = 0)),
      write: (offset: number, _size: number, lo: number) => void bar.set(offset, lo),
    });
    this.device = this.mm.files.openDevice(this.driver());
    this.mm.frames.hugeZeroPfn();
    this.frames0 = this.mm.frames.allocated;
    for (let mm = 0; mm < 4; mm++) this.subscribers.push(this.subscriber(mm));
    this.hear(0);
  }

  private driver(): VmOperations {
    const { agents } = this.sim;
    const { vmas, zap } = this.mm;
    const a = agents.stack;
    const pfn = (v: number, addr: number): number => BAR / PAGE + vmas.pageIndex(v, addr);
    return {
      mmap: this.driverMmap(),
      fault: agents.activity("devFault", "test", 4, [
        [
          "fault",
          (f) => {
            const [mm, v, at] = [a.a[f + ARG]!, a.a[f + ARG + 1]!, a.a[f + ARG + 2]!];
            return agents.ret(f, zap.vmfInsertPfn(mm, v, at, pfn(v, at - (at % PAGE))));
          },
        ],
      ]),
      hugeFault: agents.activity("devHuge", "test", 4, [
        [
          "fault",
          (f) => {
            const [mm, v, at] = [a.a[f + ARG]!, a.a[f + ARG + 1]!, a.a[f + ARG + 2]!];
            const block = at - (at % BLOCK);
            const fits = block >= vmas.start(v) && block + BLOCK <= vmas.end(v) && pfn(v, block) % 512 === 0;
            return agents.ret(f, fits ? zap.vmfInsertPfnPmd(mm, v, block, pfn(v, block)) : VM_FAULT_FALLBACK);
          },
        ],
      ]),
    };
  }

  /** The second MMU of one mm lets go of what a range names. */
  hear(mm: number): void {
    this.mm.notifiers.register(mm, this.subscribers[mm]!);
  }
  private subscriber(mm: number): MmuSubscriber {
    const { agents } = this.sim;
    const a = agents.stack;
    const drop = (start: number, end: number): void => {
      for (const [key, e] of this.second) if (e.mm === mm && e.page * PAGE < end && (e.page + 1) * PAGE > start) this.second.delete(key);
    };
    const act = (name: string, does: (f: number) => void): Activity =>
      agents.activity(`test${name}${mm}`, "test", 6, [[name, (f) => (does(f), agents.ret(f, 0))]]);
    return {
      rangeStart: act("Start", (f) => drop(a.a[f + ARG + 1]!, a.a[f + ARG + 2]!)),
      rangeEnd: act("End", () => undefined),
      changePte: act("Pte", (f) => drop(a.a[f + ARG + 1]!, a.a[f + ARG + 1]! + PAGE)),
      release: act("Release", () => drop(0, Number.MAX_SAFE_INTEGER)),
    };
  }

  mmap(mm: number, addr: number, length: number, prot: number, flags: number, file: number, offset: number): number {
    return this.run(this.mm.syscalls.mmap, mm, addr, length, mmapMode(prot, flags), file, offset);
  }
  /** get_user_pages of one page into the second MMU, without keeping the reference. @returns 0 or -errno */
  gupPage(mm: number, page: number, flags: number): number {
    const { gup, pt, frames } = this.mm;
    const pfn = this.run(gup.getUserPagesUnlocked, mm, page * PAGE, flags);
    if (pfn < 0) return pfn;
    pt.walk(mm, page * PAGE);
    this.second.set(`${mm}:${page}`, { mm, page, pfn, writable: pt.writable });
    frames.put(pfn);
    return 0;
  }
  /** `mm:page` of what is in the swap: when that is, is the kernel's affair. */
  swapped(processes: ReadonlyMap<number, Process>): Set<string> {
    const { pt } = this.mm;
    const out = new Set<string>();
    for (const [mm, process] of processes)
      for (const [p, s] of process)
        if (s.own !== undefined && !pt.walk(mm, p * PAGE) && !pt.none && swapEntryType(pt.lo) === SWP_SWAP) out.add(`${mm}:${p}`);
    return out;
  }
  /** The words of a frame, seen past every mapping. */
  words(pfn: number): Words {
    return PLACES.map((at) => (this.phys.read(pfn * PAGE + at, 4), this.phys.lo)) as Words;
  }

  /** Walks everything: tables against VMAs and the list, counts against entries, TLB and second MMU against the tables. @returns what is wrong */
  wrong(processes: ReadonlyMap<number, Process>): string | undefined {
    const { frames, files, pt, vmas } = this.mm;
    const refs = new Map<number, number>();
    const maps = new Map<number, number>();
    const entries = new Map<number, number>();
    const add = (to: Map<number, number>, key: number, n = 1): void => void to.set(key, (to.get(key) ?? 0) + n);
    const words = this.tables.words.a;
    const protections: { pfn: number; where: string }[] = [];
    let tables = 0;
    let bad: string | undefined;
    const leaf = (mm: number, process: Process, e: number, level: number, at: number): void => {
      const lo = words[e]!;
      const hi = words[e + 1]!;
      const where = `mm ${mm} page ${(at / PAGE).toString(16)} level ${level}`;
      const pages = level === 3 ? 1 : level === 2 ? 512 : 262144;
      const present = (lo & 1) !== 0 || (hi & HI_PROT_NONE) !== 0;
      if (!present && swapEntryType(lo) === SWP_MARKER) return; // a userfaultfd's: there is no page
      if (!present && swapEntryType(lo) !== SWP_SWAP) bad ??= `${where}: an entry of type ${swapEntryType(lo)}`;
      const first = present ? (hi & 0xffff) * 1048576 + (lo >>> 12) : swapEntryPfn(lo, hi);
      if (!present) add(refs, frames.head(first));
      else if ((hi & HI_SPECIAL) === 0 && ((hi & HI_CONT) === 0 || ((e >> 1) & 15) === 0) && !frames.isHugeZeroPage(first)) {
        add(refs, frames.head(first));
        add(maps, frames.head(first));
      }
      for (let i = 0; i < pages && bad === undefined; i++) {
        const slot = process.get(at / PAGE + i);
        if (slot === undefined) bad = `${where}: mapped outside of every VMA`;
        else {
          const device = first >= BAR / PAGE;
          const want = contents(slot);
          const have = device ? PLACES.map((p) => this.bar.get((first + i) * PAGE - BAR + p) ?? 0) : this.words(first + i);
          if (want === BUS || want[0] !== have[0] || want[1] !== have[1])
            bad = `${where} + ${i}: ${String(want)} is stored, the page has ${have.join()}`;
          if (!present) continue;
          if (((lo & 1) !== 0) !== ((slot.prot & (PROT_READ | PROT_WRITE)) !== 0)) bad = `${where}: valid ${lo & 1}, prot ${slot.prot}`;
          const writable = (hi & HI_WRITE) !== 0 || (lo & PTE_RDONLY) === 0;
          if (writable && (slot.prot & PROT_WRITE) === 0) bad = `${where}: writable without the right`;
          if (device) continue;
          add(entries, first + i);
          if (writable && !slot.shared) protections.push({ pfn: first + i, where });
          const anon = (frames.flags(first) & FRAME_ANON) !== 0;
          if (slot.shared && anon) bad = `${where}: an anonymous page in a shared mapping`;
          if (!anon && slot.file !== undefined && (hi & HI_SPECIAL) === 0) {
            const span = slot.file.span;
            const cached = files.cache.find(slot.file.file, slot.pgoff - (slot.pgoff % span));
            if (cached + (slot.pgoff % span) !== first + i) bad = `${where}: not the page of its file`;
          }
          if (writable && !slot.shared && !anon) bad = `${where}: a page that is not the process's is writable`;
        }
      }
    };
    const table = (mm: number, process: Process, word: number, level: number, from: number): void => {
      tables++;
      const size = [2 ** 39, 2 ** 30, BLOCK, PAGE][level]!;
      for (let i = 0; i < 512; i++) {
        const e = word + 2 * i;
        if ((words[e]! | words[e + 1]!) === 0) continue;
        if (level < 3 && (words[e]! & 3) === 3) table(mm, process, pt.tableWord(e), level + 1, from + i * size);
        else leaf(mm, process, e, level, from + i * size);
      }
    };
    for (const [mm, process] of processes) {
      table(mm, process, this.tables.word(pt.root(mm) as never), 0, 0);
      let pages = 0;
      for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) {
        for (let at = vmas.start(v); at < vmas.end(v); at += PAGE, pages++) {
          const s = process.get(at / PAGE);
          const same =
            s !== undefined &&
            (vmas.flags(v) & 7) === s.prot &&
            (s.file === undefined ? vmas.file(v) < 0 : vmas.file(v) === s.file.file && vmas.pageIndex(v, at) === s.pgoff);
          if (!same) bad ??= `mm ${mm}: the VMA at ${at.toString(16)} is not what was mapped`;
        }
      }
      if (pages !== process.size) bad ??= `mm ${mm}: ${pages} pages in VMAs, ${process.size} mapped`;
    }
    if (this.tables.pagesUsed !== tables) bad ??= `${this.tables.pagesUsed} tables in use, ${tables} reached`;
    for (const { pfn, where } of protections)
      if (entries.get(pfn) !== 1 || (refs.get(pfn) ?? 0) > (maps.get(pfn) ?? 1)) bad ??= `${where}: writable and not only here`;
    for (let file = 0; file < files.count; file++) {
      if (files.kind(file) === 0) continue;
      for (let p = files.cache.next(file, 0, 2 ** 30); p >= 0; p = files.cache.next(file, p + 1, 2 ** 30))
        add(refs, frames.head(files.cache.find(file, p)));
    }
    let used = this.frames0;
    for (const [pfn, n] of refs) {
      used += 2 ** frames.orderOf(pfn);
      const is = [frames.refcount(pfn), frames.mapcount(pfn)];
      if (is[0] !== n || is[1] !== (maps.get(pfn) ?? 0))
        bad ??= `frame ${pfn.toString(16)}: counts ${is.join()}, entries ${n},${maps.get(pfn) ?? 0}`;
    }
    if (frames.allocated !== used) bad ??= `${frames.allocated} frames in use, ${used} reached`;
    bad ??= this.stale();
    for (let mm = 0; mm < 4; mm++) if (this.sim.locks.isHeld(this.mm.mmapLock(mm))) bad ??= `mmap_lock ${mm} is held`;
    if (this.sim.locks.isHeld(this.mm.pages.rmapLock)) bad ??= "the lock of the reverse mapping is held";
    return bad;
  }

  /** What TLB and second MMU have and the tables have no more. */
  stale(): string | undefined {
    const { pt } = this.mm;
    let bad: string | undefined;
    for (const e of this.pe.cached.values()) {
      const ok = pt.walk(e.mm, e.page * PAGE) && pt.valid && pt.leafPfn === e.pfn && (!e.writable || pt.writable);
      if (!ok) bad ??= `mm ${e.mm} page ${e.page.toString(16)}: the TLB has what the tables have no more`;
    }
    for (const e of this.second.values()) {
      const ok = pt.walk(e.mm, e.page * PAGE) && pt.valid && pt.leafPfn === e.pfn && (!e.writable || pt.writable);
      if (!ok) bad ??= `mm ${e.mm} page ${e.page.toString(16)}: nobody told the second MMU`;
    }
    return bad;
  }
}

/** A comparison runs as long as the environment says: NAIVE_RUNS programs of at least NAIVE_MIN steps, by NAIVE_SEED. */
export const LONG = process.env["NAIVE_RUNS"] !== undefined;
export const runsOr = (usual: number): number => Number(process.env["NAIVE_RUNS"] ?? usual);
export const stepsOr = (usual: number): number => Number(process.env["NAIVE_MIN"] ?? usual);
export const SEED = Number(process.env["NAIVE_SEED"] ?? 42);

/** Does one step after the other. @param wrong what is not as the list has it after step i @throws Error that names the step */
export function play<S>(steps: readonly S[], does: (s: S) => void, wrong: (i: number) => string | undefined): void {
  for (const [i, s] of steps.entries()) {
    try {
      does(s);
    } catch (e) {
      throw new Error(`step ${i}, ${JSON.stringify(s)}: ${e instanceof Error ? e.message : String(e)}`, { cause: e });
    }
    const what = wrong(i);
    if (what !== undefined) throw new Error(`after step ${i}, ${JSON.stringify(s)}: ${what}`);
  }
}

/** A test for each era: random programs of `step`s, each done by a new program that says itself what is not as its list has it. */
export function comparePrograms<S>(
  eras: readonly string[],
  step: fc.Arbitrary<S>,
  size: { readonly longest: number; readonly runs: number },
  begin: (era: string) => { do(s: S): void; wrong(): string | undefined },
): void {
  it.each(eras)("%s", (era) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: stepsOr(10), maxLength: size.longest }), (steps) => {
        const p = begin(era);
        play(
          steps,
          (s) => p.do(s),
          () => p.wrong(),
        );
      }),
      { numRuns: runsOr(size.runs), seed: SEED, endOnFailure: LONG },
    );
  });
}
