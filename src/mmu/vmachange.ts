/**
 * Cutting, joining and re-flagging VMAs (mm/mmap.c __split_vma, vma_merge; mm/vma.c vma_modify).
 *
 * A cut inside a 2 MiB block that the VMA held whole announces a split of that PMD first
 * (vma_adjust_trans_huge), whatever is mapped there.
 */
import { ARG, R0, R1, type Activity } from "../sim/agents.js";
import { declareEvent } from "../sim/events.js";
import { EINVAL, ENOMEM } from "../sim/errno.js";
import type { MmContext } from "./context.js";
import { MAX_MAP_COUNT } from "./vmas.js";
import { VM_HUGETLB, VM_UFFD_FLAGS } from "./vmflags.js";

export const vmaSplit = declareEvent("faultline", "vma_split", "a VMA was cut in two", [
  { name: "mm", kind: "dec" },
  { name: "start", kind: "hex" },
  { name: "addr", kind: "hex" },
  { name: "end", kind: "hex" },
]);

const BLOCK = 0x200000;

const VMA = ARG;
// splitVma
const ADDR = ARG + 1;
const NEW_BELOW = ARG + 2;
const NEW = ARG + 3;
// modifyFlags
const START = ARG + 1;
const END = ARG + 2;
const FLAGS = ARG + 3;
const UFFD = ARG + 4;
const MERGE = ARG + 5;

/** How `modifyFlags` joins the range with its neighbours: a set of these. */
const MERGE_PREV = 1;
const MERGE_NEXT = 2;

export class VmaChange {
  /** (vma, addr, newBelow) -> R0 0 | -errno, R1 the new VMA. Holds the mmap_lock for writing. */
  readonly splitVma: Activity;
  /**
   * (vma, start, end, flags, the userfaultfd that registers it + 1, 0: as before) -> R0 0 | -errno, R1 the VMA that now covers
   * [start, end) with these flags.
   */
  readonly modifyFlags: Activity;

  constructor(private readonly mm: MmContext) {
    const { agents } = mm.sim;
    this.splitVma = agents.activity("splitVma", "mm/mmap.c __split_vma", 4, [
      ["dup", (f) => this.dup(f)],
      ["announce", (f) => this.announce(f)],
      ["adjust", (f) => this.adjust(f)],
    ]);
    this.modifyFlags = agents.activity("modifyFlags", "mm/mmap.c vma_merge, split_vma; mm/vma.c vma_modify", 6, [
      ["merge", (f) => this.tryMerge(f)],
      ["join", (f) => this.join(f)],
      ["cutEnd", (f) => this.cutEnd(f)],
      ["done", (f) => this.done(f)],
    ]);
  }

  /** The cut at `addr` splits a PMD for the notifiers (split_huge_pmd_if_needed). */
  private splitsBlock(v: number, addr: number): boolean {
    const { vmas, zap, d } = this.mm;
    const low = addr - (addr % BLOCK);
    if (low === addr || low < vmas.start(v) || low + BLOCK > vmas.end(v)) return false;
    const mm = vmas.mm(v);
    return d.vmaSplitEvent === "always" ? zap.hasPud(mm, addr) : zap.isHugePmd(mm, addr);
  }

  private dup(f: number): number {
    const { sim, vmas, files } = this.mm;
    const { agents } = sim;
    const s = agents.stack;
    const v = s.a[f + VMA]!;
    const addr = s.a[f + ADDR]!;
    if ((vmas.flags(v) & VM_HUGETLB) !== 0 && addr % files.hugetlbSize(vmas.file(v)) !== 0) return agents.ret(f, -EINVAL);
    const below = s.a[f + NEW_BELOW] !== 0;
    const n = below ? vmas.dup(v, vmas.start(v), addr) : vmas.dup(v, addr, vmas.end(v));
    s.set(f + NEW, n);
    files.get(vmas.file(v));
    sim.bus.emit(vmaSplit, vmas.mm(v), vmas.start(v), addr, vmas.end(v));
    const open = files.vmOps(vmas.file(v))?.open;
    if (open !== undefined) return agents.call(f, this.splitVma.first + 1, open, vmas.mm(v), n);
    return this.announce(f);
  }

  private announce(f: number): number {
    const { sim, vmas, huge } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + VMA]!;
    const addr = s[f + ADDR]!;
    if (this.splitsBlock(v, addr)) return sim.agents.call(f, this.splitVma.first + 2, huge.splitHugePmd, vmas.mm(v), addr);
    return this.adjust(f);
  }

  private adjust(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + VMA]!;
    const addr = s[f + ADDR]!;
    const n = s[f + NEW]!;
    if (s[f + NEW_BELOW] !== 0) vmas.adjust(v, addr, vmas.end(v));
    else vmas.adjust(v, vmas.start(v), addr);
    vmas.insert(n);
    return sim.agents.ret(f, 0, n);
  }

  /**
   * Joins a new range with the VMAs around it where they are alike (vma_merge, vma_merge_new_range).
   * Nothing may be mapped in [start, end). @param prev the VMA below, or -1 @param next the VMA above, or -1 @param anon its anon_vma, 0 for a fresh range
   * @param uffd the userfaultfd that it is registered with, -1 for a fresh range
   * @returns the VMA that holds the range now, or -1: none of them is alike
   */
  mergeNew(
    prev: number,
    next: number,
    start: number,
    end: number,
    flags: number,
    file: number,
    pgoff: number,
    pageProt: number,
    anon = 0,
    uffd = -1,
  ): number {
    const { vmas } = this.mm;
    const pages = (end - start) / 4096;
    const withPrev =
      prev >= 0 && vmas.end(prev) === start && vmas.canMerge(prev, flags, file, pgoff, pageProt, anon, uffd) && this.anonJoins(prev, anon);
    const withNext =
      next >= 0 &&
      vmas.start(next) === end &&
      vmas.canMergeBelow(next, pages, flags, file, pgoff, pageProt, anon, uffd) &&
      this.anonJoins(next, anon);
    return this.joined(withPrev ? prev : -1, withNext && (!withPrev || vmas.anonCompatible(prev, next)) ? next : -1, start, end);
  }

  /** mergeNew of a fresh range of mmap, between these two. From v6.1 to v6.11 mmap_region asked the next VMA first, and the one before whether it fits to that. */
  mergeMmap(prev: number, next: number, start: number, end: number, flags: number, file: number, pgoff: number, pageProt: number): number {
    const { vmas, d } = this.mm;
    if (d.mmapMergeFirst === "prev") return this.mergeNew(prev, next, start, end, flags, file, pgoff, pageProt);
    const pages = (end - start) / 4096;
    const withNext = next >= 0 && vmas.start(next) === end && vmas.canMergeBelow(next, pages, flags, file, pgoff, pageProt, 0);
    const anon = withNext ? vmas.anonVma(next) : 0;
    const withPrev =
      prev >= 0 && vmas.end(prev) === start && vmas.canMerge(prev, flags, file, pgoff, pageProt, anon) && this.anonJoins(prev, anon);
    return this.joined(withPrev ? prev : -1, withNext ? next : -1, start, end);
  }

  /** The range between two VMAs goes to the first, to the second, or makes one of both. @param prev or -1 @param next or -1 */
  private joined(prev: number, next: number, start: number, end: number): number {
    const { vmas } = this.mm;
    if (prev >= 0 && next >= 0) {
      vmas.adjust(prev, vmas.start(prev), vmas.end(next));
      this.absorb(prev, next);
      return prev;
    }
    if (prev >= 0) {
      vmas.adjust(prev, vmas.start(prev), end);
      return prev;
    }
    if (next >= 0) {
      vmas.adjust(next, start, vmas.end(next));
      return next;
    }
    return -1;
  }

  /**
   * is_mergeable_anon_vma with the VMA that stays: one without an anon_vma has an empty chain, which list_is_singular
   * refused, so that a range with anonymous pages could not join it.
   */
  private anonJoins(keeper: number, anon: number): boolean {
    return anon === 0 || this.mm.vmas.anonVma(keeper) !== 0 || this.mm.d.anonVmaMerge === "joins";
  }

  /** The swallowed VMA goes; its anon_vma passes on where the keeper has none (anon_vma_clone). */
  private absorb(keeper: number, gone: number): void {
    const { vmas, files } = this.mm;
    if (vmas.anonVma(keeper) === 0) vmas.setAnonVma(keeper, vmas.anonVma(gone));
    const file = vmas.file(gone);
    vmas.remove(gone);
    files.put(file);
  }

  private tryMerge(f: number): number {
    const { sim, vmas, huge } = this.mm;
    const { agents } = sim;
    const s = agents.stack;
    const v = s.a[f + VMA]!;
    const start = s.a[f + START]!;
    const end = s.a[f + END]!;
    const flags = s.a[f + FLAGS]!;
    const merge = this.neighbours(v, start, end, flags, this.uffdOf(f));
    s.set(f + MERGE, merge);
    // A boundary that moves inside the VMA cuts it there.
    const cut = merge === MERGE_PREV && end < vmas.end(v) ? end : merge === MERGE_NEXT && start > vmas.start(v) ? start : -1;
    if (cut >= 0 && this.splitsBlock(v, cut)) return agents.call(f, this.modifyFlags.first + 1, huge.splitHugePmd, vmas.mm(v), cut);
    return this.join(f);
  }

  /** Whose userfaultfd the range has then, or -1. */
  private uffdOf(f: number): number {
    const s = this.mm.sim.agents.stack.a;
    if ((s[f + FLAGS]! & VM_UFFD_FLAGS) === 0) return -1;
    return s[f + UFFD] !== 0 ? s[f + UFFD]! - 1 : this.mm.vmas.uffd(s[f + VMA]!);
  }

  private neighbours(v: number, start: number, end: number, flags: number, uffd: number): number {
    const { vmas } = this.mm;
    const file = vmas.file(v);
    const prot = vmas.pageProt(v);
    const anon = vmas.anonVma(v);
    const pgoff = vmas.pageIndex(v, start);
    const prev = vmas.prev(v);
    const next = vmas.next(v);
    let merge = 0;
    if (start === vmas.start(v) && prev >= 0 && vmas.end(prev) === start && this.anonJoins(prev, anon)) {
      if (vmas.canMerge(prev, flags, file, pgoff, prot, anon, uffd)) merge |= MERGE_PREV;
    }
    if (end === vmas.end(v) && next >= 0 && vmas.start(next) === end && this.anonJoins(next, anon)) {
      if (vmas.canMergeBelow(next, (end - start) / 4096, flags, file, pgoff, prot, anon, uffd)) merge |= MERGE_NEXT;
    }
    return merge === (MERGE_PREV | MERGE_NEXT) && !vmas.anonCompatible(prev, next) ? MERGE_PREV : merge;
  }

  private join(f: number): number {
    const { sim, vmas } = this.mm;
    const { agents } = sim;
    const s = agents.stack.a;
    const v = s[f + VMA]!;
    const start = s[f + START]!;
    const end = s[f + END]!;
    const merge = s[f + MERGE]!;
    const prev = vmas.prev(v);
    const next = vmas.next(v);
    if ((merge & MERGE_PREV) !== 0) {
      if (end < vmas.end(v)) {
        vmas.adjust(v, end, vmas.end(v));
        if (vmas.anonVma(prev) === 0) vmas.setAnonVma(prev, vmas.anonVma(v));
      } else this.absorb(prev, v);
      if ((merge & MERGE_NEXT) !== 0) {
        const top = vmas.end(next);
        this.absorb(prev, next);
        vmas.adjust(prev, vmas.start(prev), top);
      } else vmas.adjust(prev, vmas.start(prev), end);
      return agents.ret(f, 0, prev);
    }
    if ((merge & MERGE_NEXT) !== 0) {
      if (start > vmas.start(v)) {
        vmas.adjust(v, vmas.start(v), start);
        if (vmas.anonVma(next) === 0) vmas.setAnonVma(next, vmas.anonVma(v));
      } else this.absorb(next, v);
      vmas.adjust(next, start, vmas.end(next));
      return agents.ret(f, 0, next);
    }
    // split_vma's own test; munmap makes a different one before it cuts.
    const cuts = start > vmas.start(v) || end < vmas.end(v);
    if (cuts && vmas.count(vmas.mm(v)) >= MAX_MAP_COUNT) return agents.ret(f, -ENOMEM);
    if (start > vmas.start(v)) return agents.call(f, this.modifyFlags.first + 2, this.splitVma, v, start, 1);
    return this.cutEnd(f);
  }

  private cutEnd(f: number): number {
    const { sim, vmas } = this.mm;
    const { agents } = sim;
    const s = agents.stack.a;
    const v = s[f + VMA]!;
    if (s[f + R0]! < 0) return agents.ret(f, s[f + R0]!);
    if (s[f + END]! < vmas.end(v) && vmas.count(vmas.mm(v)) >= MAX_MAP_COUNT) return agents.ret(f, -ENOMEM);
    if (s[f + END]! < vmas.end(v)) return agents.call(f, this.modifyFlags.first + 3, this.splitVma, v, s[f + END]!, 0);
    return this.done(f);
  }

  private done(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack.a;
    if (s[f + R0]! < 0) return sim.agents.ret(f, s[f + R0]!);
    const v = s[f + VMA]!;
    const uffd = this.uffdOf(f);
    if (uffd !== vmas.uffd(v)) vmas.setUffd(v, uffd);
    vmas.setFlags(v, s[f + FLAGS]!);
    return sim.agents.ret(f, 0, v);
  }
}

/** R1 of a finished splitVma or modifyFlags in the caller's frame. */
export const RESULT_VMA = R1;
