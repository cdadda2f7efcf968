/** UFFDIO_WRITEPROTECT, and its undoing at UFFDIO_UNREGISTER (mm/userfaultfd.c mwriteprotect_range, uffd_wp_range). */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EINVAL, ENOENT } from "../sim/errno.js";
import { vmaKernelPageSize, type MmContext } from "./context.js";
import type { Hugetlb } from "./hugetlb.js";
import { MMU_NOTIFY_PROTECTION_VMA } from "./notifiers.js";
import { LEVEL_SIZE, nextBoundary, PMD_SIZE } from "./pagetable.js";
import {
  HI_DIRTY,
  HI_UFFD_WP,
  HI_WRITE,
  isUffdWpMarker,
  MARKER_UFFD_WP,
  PTE_RDONLY,
  pteDirty,
  SWP_SWAP,
  swapEntryType,
  uffdWpHi,
} from "./pte.js";
import type { UserfaultContexts } from "./uffdcontexts.js";
import { cutsHugePage, UFFDIO_WRITEPROTECT_MODE_DONTWAKE, UFFDIO_WRITEPROTECT_MODE_WP } from "./uffdio.js";
import { VM_HUGETLB, VM_SHARED, VM_UFFD_WP, VM_WRITE } from "./vmflags.js";

const UFFD = ARG;
const START = ARG + 1;
const LEN = ARG + 2;
const MODE = ARG + 3;
const AT = ARG + 4;
const VMA = ARG + 5;
// range
const WP_VMA = ARG;
const WP_START = ARG + 1;
const WP_END = ARG + 2;
const PROTECT = ARG + 3;
const FIRST = ARG + 4;

export class UffdWriteprotect {
  /** UFFDIO_WRITEPROTECT: (uffd, start, len, mode) -> 0 | -errno. */
  readonly writeprotect: Activity;
  /** (VMA, start, end, protect 0|1): change_protection with MM_CP_UFFD_WP or MM_CP_UFFD_WP_RESOLVE. */
  readonly range: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly contexts: UserfaultContexts,
    private readonly hugetlb: Hugetlb,
  ) {
    const { agents } = mm.sim;
    this.writeprotect = agents.activity("uffdioWriteprotect", "mm/userfaultfd.c mwriteprotect_range", 6, [
      ["start", (f) => this.wpStart(f)],
      ["next", (f) => this.wpNext(f)],
    ]);
    this.range = agents.activity("uffdWpRange", "mm/userfaultfd.c uffd_wp_range", 5, [
      ["start", (f) => this.changeStart(f)],
      ["change", (f) => this.changeEntries(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
  }

  private wpStart(f: number): number {
    const { sim, d } = this.mm;
    const s = sim.agents.stack;
    const start = s.a[f + START]!;
    const mode = s.a[f + MODE]!;
    if (!sim.locks.read(this.mm.mmapLock(this.contexts.mmOf(f)))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const modes = UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    const bad = !d.userfaultfdWriteprotect || (mode & ~modes) !== 0 || mode === modes;
    if (bad || this.contexts.validRange(s.a[f + UFFD]!, start, s.a[f + LEN]!) < 0) return this.wpLeave(f, -EINVAL);
    s.set(f + AT, start);
    return this.wpNext(f);
  }

  private wpLeave(f: number, r: number): number {
    this.mm.sim.locks.unlockRead(this.mm.mmapLock(this.contexts.mmOf(f)));
    return this.mm.sim.agents.ret(f, r);
  }

  /** mwriteprotect_range: one VMA after the other, until one is not registered for it; holes are passed over. */
  private wpNext(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const start = s.a[f + START]!;
    const end = start + s.a[f + LEN]!;
    const mode = s.a[f + MODE]!;
    const at = s.a[f + AT]!;
    const v = at < end ? vmas.findVma(this.contexts.mmOf(f), at) : -1;
    if (v < 0 || vmas.start(v) >= end) {
      if (s.a[f + VMA] === 0) return this.wpLeave(f, -ENOENT);
      if (mode === 0) this.contexts.wakeRange(s.a[f + UFFD]!, start, end);
      return this.wpLeave(f, 0);
    }
    if ((vmas.flags(v) & VM_UFFD_WP) === 0) return this.wpLeave(f, -ENOENT);
    if (cutsHugePage(this.mm, v, start, end - start)) return this.wpLeave(f, -EINVAL);
    const to = Math.min(end, vmas.end(v));
    s.set(f + AT, to);
    s.set(f + VMA, 1); // one was found
    const protect = mode & UFFDIO_WRITEPROTECT_MODE_WP;
    return sim.agents.call(f, this.writeprotect.first + 1, this.range, v, Math.max(at, vmas.start(v)), to, protect);
  }

  /** change_pud_range: announced from the first populated entry on; a file's pages are marked also where there is none (change_prepare). */
  private changeStart(f: number): number {
    const { sim, vmas, zap, notifiers, d } = this.mm;
    const s = sim.agents.stack;
    const v = s.a[f + WP_VMA]!;
    const start = s.a[f + WP_START]!;
    const end = s.a[f + WP_END]!;
    const everywhere = (vmas.flags(v) & VM_HUGETLB) !== 0 || (vmas.file(v) >= 0 && s.a[f + PROTECT] !== 0);
    const first = everywhere ? start : zap.firstPopulated(vmas.mm(v), start, end, d.mprotectNotifierSpan === "pmd" ? 2 : 1);
    if (first < 0) return sim.agents.ret(f, 0);
    s.set(f + FIRST, first);
    return sim.agents.call(f, this.range.first + 1, notifiers.invalidateRangeStart, vmas.mm(v), first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  private changeEntries(f: number): number {
    const { sim, pt, vmas, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + WP_VMA]!;
    const mm = vmas.mm(v);
    const first = s[f + FIRST]!;
    const end = s[f + WP_END]!;
    if (pt.contended(mm, first, end)) return BLOCKED;
    this.changeRange(mm, v, first, end, s[f + PROTECT] !== 0);
    pt.tlb.flushRange(mm, first, end);
    return sim.agents.call(f, this.range.first + 2, notifiers.invalidateRangeEnd, mm, first, end, MMU_NOTIFY_PROTECTION_VMA, 1);
  }

  /** change_pte_range, change_huge_pmd, hugetlb_change_protection. */
  private changeRange(mm: number, v: number, start: number, end: number, protect: boolean): void {
    const { pt, vmas, zap } = this.mm;
    const hugetlb = (vmas.flags(v) & VM_HUGETLB) !== 0;
    const marks = protect && vmas.file(v) >= 0;
    for (let a = start; a < end;) {
      pt.walk(mm, a);
      // A huge page of a file is protected page by page (pgtable_split_needed).
      if (pt.leafLevel === 2 && !hugetlb && (marks || a % PMD_SIZE !== 0 || a + PMD_SIZE > end)) {
        zap.splitHugePmdPlain(mm, a);
        pt.walk(mm, a);
      }
      if (!pt.none) {
        this.changeEntry(mm, v, a - (a % LEVEL_SIZE[pt.level as 1 | 2 | 3]), protect, hugetlb);
        a = nextBoundary(a, pt.level);
      } else if (!marks) a = nextBoundary(a, pt.level);
      else {
        if (hugetlb)
          this.hugetlb.setMarker(mm, a, Math.log2(vmaKernelPageSize(this.mm.vmas, this.mm.files, v)) - 12, MARKER_UFFD_WP, HI_UFFD_WP);
        else pt.setEntry(mm, a, 3, pt.ensure(mm, a, 3), MARKER_UFFD_WP, HI_UFFD_WP);
        a += vmaKernelPageSize(this.mm.vmas, this.mm.files, v);
      }
    }
  }

  /** The entry of the last walk. */
  private changeEntry(mm: number, v: number, at: number, protect: boolean, hugetlb: boolean): void {
    const { pt, vmas, zap } = this.mm;
    const { level, entry } = pt;
    let { lo, hi } = pt;
    if (pt.leafLevel < 0) {
      // A page in swap keeps the mark; the mark alone goes; poison stays.
      if (!protect && isUffdWpMarker(lo, hi)) pt.setEntry(mm, at, level, entry, 0, 0);
      else if (swapEntryType(lo) === SWP_SWAP) pt.setEntry(mm, at, level, entry, lo, protect ? hi | HI_UFFD_WP : hi & ~HI_UFFD_WP);
      return;
    }
    if (pt.hwDirty) hi |= HI_DIRTY;
    if (protect) {
      lo |= PTE_RDONLY;
      hi = uffdWpHi(hi);
    } else {
      hi &= ~HI_UFFD_WP;
      // MM_CP_TRY_CHANGE_WRITABLE: can_change_pte_writable, can_change_pmd_writable.
      const flags = vmas.flags(v);
      const may = (flags & VM_SHARED) !== 0 ? pteDirty(lo, hi) : zap.protect.mine(lo, hi);
      if ((flags & VM_WRITE) !== 0 && !hugetlb && may) hi |= HI_WRITE;
      if ((hi & (HI_WRITE | HI_DIRTY)) === (HI_WRITE | HI_DIRTY)) lo &= ~PTE_RDONLY;
    }
    if (lo !== pt.lo || hi !== pt.hi) pt.setEntry(mm, at, level, entry, lo, hi);
  }
}
