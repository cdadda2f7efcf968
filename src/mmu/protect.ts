/** mprotect's walk over present entries: mm/mprotect.c change_protection, mm/huge_memory.c change_huge_pmd, mm/hugetlb.c hugetlb_change_protection. */
import type { MmRow } from "./decisions.js";
import { FRAME_ANON, type Frames } from "./frames.js";
import { LEVEL_SIZE, nextBoundary, type HostPageTables } from "./pagetable.js";
import type { PageProtection } from "./pageprot.js";
import { descPfn, HI_DIRTY, HI_PROT_NONE, HI_UFFD_WP, HI_WRITE, MODIFY_HI, MODIFY_LO, PTE_RDONLY, PTE_VALID } from "./pte.js";
import { VM_HUGETLB, VM_SHARED, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

export class Protect {
  constructor(
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly prot: PageProtection,
    private readonly d: MmRow,
  ) {}

  /**
   * Gives every present entry of [start, end) the VMA's present protection and flushes the TLB.
   * A leaf that reaches over the range must have been split. @returns number of entries changed
   */
  changeProtection(mm: number, vma: number, start: number, end: number): number {
    const { pt } = this;
    const newLo = this.prot.lo(vma);
    const newHi = this.prot.hi(vma);
    const flags = this.vmas.flags(vma);
    // vma_wants_manual_pte_write_upgrade: a private writable mapping. hugetlb_change_protection never does.
    const upgrade = this.d.mprotectRestoresWrite !== "never" && (flags & (VM_WRITE | VM_SHARED | VM_HUGETLB)) === VM_WRITE;
    let changed = 0;
    for (let a = start; a < end; a = nextBoundary(a, pt.level)) {
      if (!pt.walk(mm, a)) continue;
      const level = pt.leafLevel;
      const one = this.change(mm, a - (a % LEVEL_SIZE[level as 1 | 2 | 3]), newLo, newHi, upgrade);
      changed += one;
      if (one !== 0 && level === 3 && this.frames.isThp(pt.leafPfn)) this.fold(a, start);
    }
    if (changed > 0) pt.tlb.flushRange(mm, start, end);
    return changed;
  }

  /** pte_modify on the leaf of the last walk, then the write upgrade (can_change_pte_writable). */
  private change(mm: number, addr: number, newLo: number, newHi: number, upgrade: boolean): number {
    const { pt } = this;
    let hi = pt.hi;
    if (pt.hwDirty) hi |= HI_DIRTY;
    let lo = (pt.lo & ~MODIFY_LO) | (newLo & MODIFY_LO);
    hi = (hi & ~MODIFY_HI) | (newHi & MODIFY_HI);
    if ((hi & HI_PROT_NONE) !== 0) lo &= ~PTE_VALID;
    if (upgrade && this.canUpgrade(lo, hi)) hi |= HI_WRITE;
    if ((hi & (HI_WRITE | HI_DIRTY)) === (HI_WRITE | HI_DIRTY)) lo &= ~PTE_RDONLY;
    if (lo === pt.lo && hi === pt.hi) return 0;
    pt.setEntry(mm, addr, pt.leafLevel, pt.entry, lo, hi);
    return 1;
  }

  /**
   * contpte_set_ptes of a small entry of a huge page that was changed: sixteen have the contiguous bit again once the last of them is
   * set and is like the others. Set as a batch, they have it where all sixteen are set at once.
   */
  private fold(addr: number, start: number): void {
    const { pt, frames } = this;
    const pfn = descPfn(pt.lo, pt.hi);
    const first = addr - 0xf000;
    const last = (addr & 0xf000) === 0xf000 && (this.d.mprotectBatch === "single" || start <= first || start === addr);
    frames.setFolded(pfn, last && this.alike(pt.entry, pfn));
  }

  /** The fifteen entries before that of `pfn` map the pages before it, and are the same but for what was accessed or written. */
  private alike(entry: number, pfn: number): boolean {
    const w = this.pt.tables.words.a;
    const same = HI_WRITE | HI_UFFD_WP | HI_PROT_NONE;
    for (let i = 1; i < 16; i++) {
      const hi = w[entry - 2 * i + 1]!;
      if (descPfn(w[entry - 2 * i]!, hi) !== pfn - i || ((hi ^ w[entry + 1]!) & same) !== 0) return false;
    }
    return true;
  }

  /** can_change_pte_writable, can_change_pmd_writable. */
  private canUpgrade(lo: number, hi: number): boolean {
    // userfaultfd_pte_wp: the next write is to be told.
    if ((hi & (HI_PROT_NONE | HI_UFFD_WP)) !== 0) return false;
    if (this.d.mprotectRestoresWrite === "dirtyPtes" && (this.pt.leafLevel !== 3 || (hi & HI_DIRTY) === 0)) return false;
    return this.mine(lo, hi);
  }

  /** PageAnonExclusive of what an entry maps. */
  mine(lo: number, hi: number): boolean {
    const pfn = descPfn(lo, hi);
    return (this.frames.flags(pfn) & FRAME_ANON) !== 0 && this.frames.isExclusive(pfn);
  }
}
