/** mprotect (mm/mprotect.c do_mprotect_pkey, mprotect_fixup, change_protection). */
import { ARG, BLOCKED, R0, R1, type Activity } from "../sim/agents.js";
import { EACCES, EINVAL, ENOMEM } from "../sim/errno.js";
import { isPageAligned, pageAlign, type MmContext } from "./context.js";
import { protFlags } from "./mmap.js";
import { MMU_NOTIFY_PROTECTION_VMA } from "./notifiers.js";
import { nextBoundary } from "./pagetable.js";
import type { VmaChange } from "./vmachange.js";
import {
  PAGE_PROT_NORMAL,
  PAGE_PROT_TAGGED,
  PROT_EXEC,
  PROT_MTE,
  PROT_READ,
  PROT_WRITE,
  VM_ACCESS_FLAGS,
  VM_HUGETLB,
  VM_MTE,
  VM_MTE_ALLOWED,
} from "./vmflags.js";
import { widenHugetlb } from "./zapvma.js";

const MM = ARG;
const ADDR = ARG + 1;
const LEN = ARG + 2;
const PROT = ARG + 3;
/** Up to here the VMAs have their new flags. */
const DONE = ARG + 4;
const VMA = ARG + 5;
/** End of the part of this VMA that changes. */
const VMA_END = ARG + 6;
/** Up to here the entries of this VMA have changed. */
const CUR = ARG + 7;
const S_START = ARG + 8;
const S_END = ARG + 9;
/** What changes lies between here and CUR; more may be announced. */
const FROM = ARG + 10;

const P_MODIFIED = 1;
const P_CHANGE = 2;
const P_NEXT_SPAN = 3;

export class Mprotect {
  /** (mm, addr, length, PROT_*) -> R0 0 | -errno: the system call. */
  readonly mprotect: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly change: VmaChange,
  ) {
    this.mprotect = mm.sim.agents.activity("mprotect", "mm/mprotect.c do_mprotect_pkey", 11, [
      ["lock", (f) => this.lock(f)],
      ["vmaModified", (f) => this.modified(f)],
      ["changeProtection", (f) => this.changeEntries(f)],
      ["nextSpan", (f) => this.nextSpan(f)],
    ]);
  }

  private lock(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    if (!sim.locks.write(this.mm.mmapLock(mm))) return BLOCKED;
    sim.agents.charge(sim.costs.syscall);
    const addr = s.a[f + ADDR]!;
    const len = pageAlign(s.a[f + LEN]!);
    const known = PROT_READ | PROT_WRITE | PROT_EXEC | (this.mm.mte ? PROT_MTE : 0);
    if (!isPageAligned(addr)) return this.leave(f, -EINVAL);
    if (len === 0) return this.leave(f, 0);
    // end <= start: the sum wraps around.
    if (addr + len >= 2 ** 64) return this.leave(f, -ENOMEM);
    if ((s.a[f + PROT]! & ~known) !== 0) return this.leave(f, -EINVAL);
    const v = vmas.lookup(mm, addr);
    if (v < 0) return this.leave(f, -ENOMEM);
    s.set(f + LEN, len);
    s.set(f + DONE, addr);
    return this.nextVma(f);
  }

  /** mprotect_fixup of the VMA at DONE. */
  private nextVma(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    const end = s.a[f + ADDR]! + s.a[f + LEN]!;
    const start = s.a[f + DONE]!;
    if (start >= end) return this.leave(f, 0);
    const v = vmas.lookup(s.a[f + MM]!, start);
    if (v < 0) return this.leave(f, -ENOMEM);
    const old = vmas.flags(v);
    const flags = (old & ~(VM_ACCESS_FLAGS | (this.mm.mte ? VM_MTE : 0))) | protFlags(s.a[f + PROT]!, this.mm.mte);
    // VM_MAYREAD and its fellows lie four bits above the access flags.
    if ((flags & ~(flags >> 4) & VM_ACCESS_FLAGS) !== 0) return this.leave(f, -EACCES);
    if ((flags & VM_MTE) !== 0 && (flags & VM_MTE_ALLOWED) === 0) return this.leave(f, -EINVAL);
    const vmaEnd = Math.min(vmas.end(v), end);
    s.set(f + DONE, vmaEnd);
    if (flags === old) return this.nextVma(f);
    s.set(f + CUR, start);
    s.set(f + VMA_END, vmaEnd);
    return sim.agents.call(f, this.mprotect.first + P_MODIFIED, this.change.modifyFlags, v, start, vmaEnd, flags);
  }

  private modified(f: number): number {
    const { sim, vmas } = this.mm;
    const s = sim.agents.stack;
    if (s.a[f + R0]! < 0) return this.leave(f, s.a[f + R0]!);
    const v = s.a[f + R1]!;
    const prot = vmas.pageProt(v);
    if (prot === PAGE_PROT_NORMAL || prot === PAGE_PROT_TAGGED) {
      vmas.setPageProt(v, (vmas.flags(v) & VM_MTE) !== 0 ? PAGE_PROT_TAGGED : PAGE_PROT_NORMAL);
    }
    s.set(f + VMA, v);
    return this.announce(f);
  }

  /** change_pmd_range (change_pud_range): announced from the first populated entry to the end of its table's span. */
  private announce(f: number): number {
    const { sim, vmas, zap, notifiers, d } = this.mm;
    const s = sim.agents.stack;
    const mm = s.a[f + MM]!;
    const end = s.a[f + VMA_END]!;
    let start = s.a[f + CUR]!;
    let spanEnd = end;
    if ((vmas.flags(s.a[f + VMA]!) & VM_HUGETLB) === 0 && start < end) {
      const byPmd = d.mprotectNotifierSpan === "pmd";
      start = zap.firstPopulated(mm, start, end, byPmd ? 2 : 1);
      if (start >= 0) spanEnd = Math.min(end, nextBoundary(start, byPmd ? 1 : 0));
    }
    if (start < 0 || start >= end) return this.nextVma(f);
    const v = s.a[f + VMA]!;
    s.set(f + S_START, widenHugetlb(vmas, v, start, spanEnd, false));
    s.set(f + S_END, widenHugetlb(vmas, v, start, spanEnd, true));
    s.set(f + FROM, start);
    s.set(f + CUR, spanEnd);
    return sim.agents.call(
      f,
      this.mprotect.first + P_CHANGE,
      notifiers.invalidateRangeStart,
      mm,
      s.a[f + S_START]!,
      s.a[f + S_END]!,
      MMU_NOTIFY_PROTECTION_VMA,
      1,
    );
  }

  private changeEntries(f: number): number {
    const { sim, zap, notifiers } = this.mm;
    const s = sim.agents.stack.a;
    const mm = s[f + MM]!;
    if (this.mm.pt.contended(mm, s[f + FROM]!, s[f + CUR]!)) return BLOCKED;
    zap.changeProtection(mm, s[f + VMA]!, s[f + FROM]!, s[f + CUR]!);
    return sim.agents.call(
      f,
      this.mprotect.first + P_NEXT_SPAN,
      notifiers.invalidateRangeEnd,
      mm,
      s[f + S_START]!,
      s[f + S_END]!,
      MMU_NOTIFY_PROTECTION_VMA,
      1,
    );
  }

  private nextSpan(f: number): number {
    const s = this.mm.sim.agents.stack.a;
    return s[f + CUR]! < s[f + VMA_END]! ? this.announce(f) : this.nextVma(f);
  }

  private leave(f: number, result: number): number {
    const { sim } = this.mm;
    sim.locks.unlockWrite(this.mm.mmapLock(sim.agents.stack.a[f + MM]!));
    return sim.agents.ret(f, result);
  }
}
