/** mremap's move of entries: mm/mremap.c move_page_tables. */
import { HI_UFFD_WP, isUffdWpMarker } from "./pte.js";
import { LEVEL_SIZE, nextBoundary, PMD_SIZE, type HostPageTables } from "./pagetable.js";

export class MoveTables {
  constructor(private readonly pt: HostPageTables) {}

  /**
   * The first address in [from, from + len) whose 2 MiB leaf cannot move as one (not wholly inside, or
   * the target is not congruent) and must be split first (splitHugePmd), or -1.
   */
  needsSplit(mm: number, from: number, to: number, len: number): number {
    const { pt } = this;
    for (let a = from; a < from + len; a = nextBoundary(a, pt.level)) {
      pt.walk(mm, a);
      if (pt.leafLevel !== 2) continue;
      const whole = a % PMD_SIZE === 0 && a + PMD_SIZE <= from + len && (to + (a - from)) % PMD_SIZE === 0;
      if (!whole) return a;
    }
    return -1;
  }

  /** Moves every entry of [from, from + len) to `to`; the old range is flushed. @param clearUffdWp the mark of protected pages stays behind @returns len */
  movePageTables(mm: number, from: number, to: number, len: number, clearUffdWp = false): number {
    const { pt } = this;
    let moved = false;
    for (let a = from; a < from + len;) {
      pt.walk(mm, a);
      const { level, entry, lo, hi } = pt;
      if (!pt.none) {
        const size = LEVEL_SIZE[level as 1 | 2 | 3];
        if (a % size !== 0) throw new Error(`the leaf at 0x${a.toString(16)} must be split before it moves`);
        pt.setEntry(mm, a, level, entry, 0, 0);
        const target = to + (a - from);
        // move_ptes, move_huge_pmd: pte_marker_uffd_wp goes, the bit of other entries too.
        const marker = clearUffdWp && isUffdWpMarker(lo, hi);
        if (!marker) pt.setEntry(mm, target, level, pt.ensure(mm, target, level), lo, clearUffdWp ? hi & ~HI_UFFD_WP : hi);
        moved = true;
      }
      a = nextBoundary(a, level);
    }
    if (moved) pt.tlb.flushRange(mm, from, from + len);
    return len;
  }
}
