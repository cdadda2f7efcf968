/**
 * Taking the table of small entries away from under a file's huge page (mm/khugepaged.c collapse_and_free_pmd; from v6.6 on the
 * same steps within collapse_pte_mapped_thp and retract_page_tables). The page table goes; pages of the file stay in the cache.
 *
 * When who walks without a lock (hardware, gup_fast, KVM's get_user_mapping_size) can no longer meet the freed table is the era's:
 *
 * at-once | pmdp_collapse_flush, pte_free
 * ipi     | pmdp_collapse_flush, tlb_remove_table_sync_one, pte_free: a CPU with interrupts off holds the IPI up
 * rcu     | entries cleared, pmdp_collapse_flush, pte_free_defer
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { Frames } from "./frames.js";
import type { MmapLocks } from "./gup.js";
import { MMU_NOTIFY_CLEAR, type MmuNotifiers } from "./notifiers.js";
import type { PageLocks } from "./pagelock.js";
import { PMD_SIZE, type HostPageTables } from "./pagetable.js";
import { descPfn, HI_PROT_NONE, HI_SPECIAL, PTE_VALID } from "./pte.js";

const MM = ARG;
const ADDR = ARG + 1;
const HEAD = ARG + 2;
const OLD_LO = ARG + 3;
const OLD_HI = ARG + 4;
/** What the activity answers. */
const RESULT = ARG + 5;

const P_CLEAR = 1;
const P_SYNC = 2;
const P_FREE = 3;

export class RetractTable {
  /**
   * (mm, addr, head or -1) -> R0 1 | 0: the table of the block at addr goes. With a head, its entries that map that huge page are
   * cleared first and their references given back; 0: another page is there now, and the table stays. The caller holds
   * what keeps others from putting entries in: the mmap_lock for writing, or the lock of the file's pages.
   */
  readonly activity: Activity;
  private readonly freeRcu: number;

  constructor(
    private readonly sim: Sim,
    private readonly frames: Frames,
    private readonly pt: HostPageTables,
    private readonly notifiers: MmuNotifiers,
    private readonly locks: MmapLocks,
    private readonly pages: PageLocks,
    private readonly d: MmRow,
  ) {
    const { agents } = sim;
    this.freeRcu = sim.rcu.callback((lo, hi) => pt.freeDetached(lo, hi));
    this.activity = agents.activity("collapseAndFreePmd", "mm/khugepaged.c collapse_and_free_pmd", 6, [
      ["notify", (f) => this.notify(f)],
      ["pmdpCollapseFlush", (f) => this.clear(f)],
      ["tlbRemoveTableSyncOne", (f) => this.sync(f)],
      ["pteFree", (f) => this.free(f)],
    ]);
  }

  private range(f: number, then: number, what: Activity): number {
    const { agents } = this.sim;
    if (!this.d.fileCollapseNotifies) return this.activity.first + then;
    const s = agents.stack.a;
    const addr = s[f + ADDR]!;
    return agents.call(f, this.activity.first + then, what, s[f + MM]!, addr, addr + PMD_SIZE, MMU_NOTIFY_CLEAR, 1);
  }

  private notify(f: number): number {
    return this.range(f, P_CLEAR, this.notifiers.invalidateRangeStart);
  }

  private clear(f: number): number {
    const { pt } = this;
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]!;
    const addr = s.a[f + ADDR]!;
    const head = s.a[f + HEAD]!;
    if (this.d.fileCollapseTable === "ipi") {
      // mmap_assert_write_locked; lockdep_assert_held_write(i_mmap_rwsem)
      this.sim.locks.assertHeld(this.locks.mmapLock(mm));
      this.sim.locks.assertHeld(this.pages.rmapLock);
    }
    pt.walk(mm, addr);
    if (pt.level < 3) return this.range(f, P_FREE, this.notifiers.invalidateRangeEnd); // gone meanwhile
    const e = pt.entryAt(mm, addr, 2);
    if (pt.contended(mm, addr, addr + 1) || pt.locks.taken(e)) return BLOCKED;
    if (head >= 0 && !this.clearEntries(mm, addr, head)) return this.range(f, P_FREE, this.notifiers.invalidateRangeEnd);
    s.set(f + OLD_LO, pt.tables.words.a[e]!);
    s.set(f + OLD_HI, pt.tables.words.a[e + 1]!);
    s.set(f + RESULT, 1);
    pt.clearFlush(mm, addr, 2, e);
    return this.d.fileCollapseTable === "ipi" ? this.activity.first + P_SYNC : this.range(f, P_FREE, this.notifiers.invalidateRangeEnd);
  }

  /** Step 2 of collapse_pte_mapped_thp. @returns false, with what was done before, at an entry of another page */
  private clearEntries(mm: number, addr: number, head: number): boolean {
    const { pt, frames } = this;
    const table = pt.tableWord(pt.entryAt(mm, addr, 2));
    for (let i = 0; i < 512; i++) {
      const e = table + 2 * i;
      const lo = pt.tables.words.a[e]!;
      const hi = pt.tables.words.a[e + 1]!;
      if ((lo | hi) === 0) continue;
      if (!mapsPage(lo, hi, head + i)) {
        pt.tlb.flushMm(mm);
        return false;
      }
      pt.setEntry(mm, addr + i * 4096, 3, e, 0, 0);
      frames.dropMapping(head + i);
    }
    return true;
  }

  /** tlb_remove_table_sync_one: not a grace period; enough for who walks with interrupts off. */
  private sync(f: number): number {
    if (!this.sim.interrupts.ipiTaken()) return BLOCKED;
    return this.range(f, P_FREE, this.notifiers.invalidateRangeEnd);
  }

  private free(f: number): number {
    const { agents, rcu } = this.sim;
    const s = agents.stack.a;
    const lo = s[f + OLD_LO]!;
    const hi = s[f + OLD_HI]!;
    if (s[f + RESULT] === 0) return agents.ret(f, 0);
    if (this.d.fileCollapseTable === "rcu") rcu.call(this.freeRcu, lo, hi, 0);
    else this.pt.freeDetached(lo, hi);
    return agents.ret(f, 1);
  }
}

/** Whether a last-level entry maps this page, present (PROT_NONE too). */
export function mapsPage(lo: number, hi: number, pfn: number): boolean {
  const present = (lo & PTE_VALID) !== 0 || (hi & HI_PROT_NONE) !== 0;
  return present && (hi & HI_SPECIAL) === 0 && descPfn(lo, hi) === pfn;
}
