/**
 * The VMM's own loads and stores: its CPU's TLB, then the host's fault handler
 * (arch/arm64/mm/fault.c do_page_fault), then RAM or a device window.
 */
import { ARG, BLOCKED, PHASE, R0, type Activity } from "../sim/agents.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { READ_OK, READ_SEA } from "../arch/storebuffer.js";
import type { Sim } from "../sim/sim.js";
import type { MmRow } from "./decisions.js";
import type { HostFault } from "./fault.js";
import type { Ghes } from "./ghes.js";
import type { MmapLocks } from "./gup.js";
import type { HostPageTables } from "./pagetable.js";
import {
  FAULT_FLAG_TRIED,
  FAULT_FLAG_USER,
  FAULT_FLAG_VMA_LOCK,
  FAULT_FLAG_WRITE,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_RETRY,
  VM_FAULT_SIGSEGV,
} from "./vmfault.js";
import { VM_READ, VM_WRITE } from "./vmflags.js";
import type { Vmas } from "./vmas.js";

/** Results of hostAccess besides 0; R1 is the si_code, SEGV_MAPERR 1 or SEGV_ACCERR 2. */
export const HOST_SIGSEGV = -11;
const SEGV_MAPERR = 1;
const SEGV_ACCERR = 2;
/** SIGBUS: -(7 * 256 + si_code), BUS_ADRERR 2, BUS_OBJERR 3, BUS_MCEERR_AR 4, SI_KERNEL 0x80, or 0. */
export const HOST_SIGBUS = -(7 * 256);
export const HOST_SIGBUS_ADRERR = -(7 * 256 + 2);
export const HOST_SIGBUS_OBJERR = -(7 * 256 + 3);
export const HOST_SIGBUS_MCEERR_AR = -(7 * 256 + 4);

/** What hostAccess does at the address. */
export const HOST_READ = 0;
export const HOST_WRITE = 1;
/** A bus master's access to pinned pages (VFIO type1): + 1 if it does not snoop the caches. */
export const HOST_DMA_READ = 2;
export const HOST_DMA_WRITE = 4;
/** + LINE_*: something with every cache line of the range. */
export const HOST_LINES = 8;
export const LINE_CVAC = 0;
export const LINE_CVAU = 1;
export const LINE_CIVAC = 2;
export const LINE_IC_IVAU = 3;
/** DC IVAC and DC CIVAC by the kernel, as an Arm-private system call would. */
export const LINE_KERNEL_IVAC = 4;
export const LINE_KERNEL_CIVAC = 5;
/** Not instructions: what hardware may do at any moment. */
export const LINE_SPECULATE = 6;
export const LINE_EVICT = 7;

/** The CPU's translation of an access of the host's own. */
export interface HostCpu {
  /** A bus master's, past the CPU's types. */
  dma(pa: number, size: number, write: boolean, snoops: boolean, lo: number, hi: number): void;
  /** @param op LINE_* */
  lineOp(pa: number, op: number): void;

  /** Physical address, or -1: the access faults. @param rootPa the pgd, @param asid the address space's tag */
  hostLookup(rootPa: number, asid: number, hva: number, write: boolean): number;
  /**
   * The access itself at the address just looked up; a load leaves its data in the PhysicalMemory's lo and hi.
   * @returns READ_OK; READ_SERROR, READ_SEA, READ_UNCONTAINED: no device answered; READ_SEA: RAM has lost the data
   */
  hostLoad(pa: number, size: number): number;
  hostStore(pa: number, size: number, lo: number, hi: number): void;
}

const MM = ARG;
const HVA = ARG + 1;
const SIZE = ARG + 2;
const WRITE = ARG + 3;
const LO = ARG + 4;
const HI = ARG + 5;
/** Bytes done, when the access crosses a page. */
const DONE = ARG + 6;
const OUT_LO = ARG + 7;
const OUT_HI = ARG + 8;
/** FAULT_FLAG_TRIED once the fault has slept. */
const TRIED = ARG + 9;
const WORDS = 10;

/** Phases, as offsets. */
const VMA_LOCK_DONE = 1;
const MMAP_LOCK = 2;
const FAULT_DONE = 3;
const CLAIMED = 4;

export class UserAccess {
  /** (mm, hva, size 1|2|4|8 or bytes of lines, HOST_READ …, lo, hi) -> R0 0 | HOST_SIG*, R1 lo, R2 hi (int32). */
  readonly hostAccess: Activity;
  /** Given later: it needs what is made after this. */
  ghes!: Ghes;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly cpu: HostCpu,
    private readonly pt: HostPageTables,
    private readonly vmas: Vmas,
    private readonly fault: HostFault,
    private readonly locks: MmapLocks,
    private readonly d: MmRow,
  ) {
    this.hostAccess = sim.agents.activity("hostAccess", "arch/arm64/mm/fault.c do_page_fault", WORDS, [
      ["access", (f) => this.access(f)],
      ["vmaLockFault", (f) => this.vmaLockDone(f)],
      ["mmapLock", (f) => this.mmapLock(f)],
      ["mmapLockFault", (f) => this.faultDone(f, sim.agents.stack.a[f + R0]!)],
      ["claimed", (f) => this.claimed(f)],
    ]);
  }

  /** The instruction itself, page by page: TLB hit or walk, then the bus. */
  private access(f: number): number {
    const s = this.sim.agents.stack;
    const mm = s.a[f + MM]! | 0;
    const size = s.a[f + SIZE]!;
    const what = s.a[f + WRITE]!;
    const write = writes(what);
    for (;;) {
      const done = s.a[f + DONE]!;
      if (done >= size) return this.sim.agents.ret(f, 0, s.a[f + OUT_LO]!, s.a[f + OUT_HI]!);
      const hva = s.a[f + HVA]! + done;
      const pa = this.cpu.hostLookup(this.pt.root(mm), mm, hva, write);
      if (pa < 0) {
        // What hardware does of its own accord faults nothing in.
        if (what < HOST_LINES + LINE_SPECULATE) return this.enterFault(f, mm, hva, write);
        s.set(f + DONE, done + 64 - (hva & 63));
        continue;
      }
      if (what >= HOST_LINES) {
        this.cpu.lineOp(pa, what - HOST_LINES);
        s.set(f + DONE, done + 64 - (hva & 63));
        continue;
      }
      if (done === 0 && (hva & 4095) + size <= 4096) {
        if (what >= HOST_DMA_READ) this.cpu.dma(pa, size, write, (what & 1) === 0, s.a[f + LO]!, s.a[f + HI]!);
        else if (write) this.cpu.hostStore(pa, size, s.a[f + LO]!, s.a[f + HI]!);
        else {
          const answer = this.cpu.hostLoad(pa, size);
          if (answer !== READ_OK) return this.externalAbort(f, answer, mm, hva);
        }
        if (!write) {
          s.set(f + OUT_LO, this.phys.lo);
          s.set(f + OUT_HI, this.phys.hi);
        }
        s.set(f + DONE, size);
      } else {
        const answer = this.oneByte(f, pa, done, write);
        if (answer !== READ_OK) return this.externalAbort(f, answer, mm, hva);
        s.set(f + DONE, done + 1);
      }
      this.sim.agents.charge(this.sim.costs.ramAccess);
    }
  }

  /** do_sea. do_serror: the kernel does not know whose access it was, and panics. */
  private externalAbort(f: number, answer: number, mm: number, hva: number): number {
    if (answer !== READ_SEA) return this.sim.crash("arm64_serror_panic", "Asynchronous SError Interrupt");
    const pfn = this.ghes.claim();
    if (pfn < 0) return this.unclaimed(f);
    return this.sim.agents.call(f, this.hostAccess.first + CLAIMED, this.ghes.memoryFailure, mm, hva - (hva % 4096), pfn);
  }
  private unclaimed(f: number): number {
    return this.sim.agents.ret(f, this.d.seaSignal === "noCode" ? HOST_SIGBUS : HOST_SIGBUS_OBJERR);
  }
  /** memory_failure returned. Without a signal the instruction runs again, and finds the page gone. */
  private claimed(f: number): number {
    if (this.d.seaSignal !== "unlessClaimed") return this.unclaimed(f);
    const code = this.ghes.signal(f);
    return code === 0 ? this.hostAccess.first : this.sim.agents.ret(f, HOST_SIGBUS - code);
  }

  /** An access that crosses a page goes byte by byte. @returns READ_OK, or how the load failed */
  private oneByte(f: number, pa: number, i: number, write: boolean): number {
    const s = this.sim.agents.stack;
    const shift = (i & 3) * 8;
    if (write) {
      this.cpu.hostStore(pa, 1, (s.a[f + (i < 4 ? LO : HI)]! >>> shift) & 0xff, 0);
      return READ_OK;
    }
    const answer = this.cpu.hostLoad(pa, 1);
    if (answer !== READ_OK) return answer;
    const out = f + (i < 4 ? OUT_LO : OUT_HI);
    s.set(out, s.a[out]! | (this.phys.lo << shift));
    return READ_OK;
  }

  /** do_page_fault: first under the VMA's lock, where the release has that. */
  private enterFault(f: number, mm: number, hva: number, write: boolean): number {
    this.sim.agents.charge(this.sim.costs.hostFault);
    if (!this.d.perVmaLock) return this.mmapLock(f);
    const vma = this.vmas.covering(mm, hva);
    if (vma < 0 || !this.permits(vma, write) || (this.vmas.file(vma) >= 0 && !this.d.perVmaLockFiles)) return this.mmapLock(f);
    // vma_start_read fails while a writer of the mmap_lock has the VMA.
    if (this.sim.agents.interleaving && this.sim.locks.heldByWriter(this.locks.mmapLock(mm))) return this.mmapLock(f);
    const flags = FAULT_FLAG_USER | FAULT_FLAG_VMA_LOCK | (write ? FAULT_FLAG_WRITE : 0);
    const r = this.fault.faultNow(mm, vma, hva, flags);
    // A fault of several phases keeps such a writer out (vma_start_write); while agents take turns the mmap_lock does that.
    if (r < 0 && this.sim.agents.interleaving) return this.mmapLock(f);
    if (r < 0) return this.sim.agents.call(f, this.hostAccess.first + VMA_LOCK_DONE, this.fault.handleMmFault, mm, hva, flags);
    return this.outcome(f, r);
  }

  private permits(vma: number, write: boolean): boolean {
    return (this.vmas.flags(vma) & (write ? VM_WRITE : VM_READ | VM_WRITE)) !== 0;
  }

  private vmaLockDone(f: number): number {
    const r = this.sim.agents.stack.a[f + R0]!;
    if ((r & VM_FAULT_RETRY) !== 0) return this.mmapLock(f);
    return this.outcome(f, r);
  }

  private mmapLock(f: number): number {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    // Blocked: only the lock is tried again, not the whole access.
    if (!this.sim.locks.read(this.locks.mmapLock(mm))) {
      this.sim.agents.stack.set(f + PHASE, this.hostAccess.first + MMAP_LOCK);
      return BLOCKED;
    }
    const hva = s[f + HVA]! + s[f + DONE]!;
    const write = writes(s[f + WRITE]!);
    const vma = this.vmas.covering(mm, hva);
    if (vma < 0 || !this.permits(vma, write)) {
      this.sim.locks.unlockRead(this.locks.mmapLock(mm));
      return this.sim.agents.ret(f, HOST_SIGSEGV, vma < 0 ? SEGV_MAPERR : SEGV_ACCERR);
    }
    const flags = FAULT_FLAG_USER | (write ? FAULT_FLAG_WRITE : 0) | s[f + TRIED]!;
    const r = this.fault.faultNow(mm, vma, hva, flags);
    if (r < 0) return this.sim.agents.call(f, this.hostAccess.first + FAULT_DONE, this.fault.handleMmFault, mm, hva, flags);
    return this.faultDone(f, r);
  }

  private faultDone(f: number, r: number): number {
    // It dropped the mmap_lock.
    if ((r & VM_FAULT_RETRY) !== 0) {
      this.sim.agents.stack.set(f + TRIED, FAULT_FLAG_TRIED);
      return this.hostAccess.first + MMAP_LOCK;
    }
    this.sim.locks.unlockRead(this.locks.mmapLock(this.sim.agents.stack.a[f + MM]! | 0));
    return this.outcome(f, r);
  }

  /** Success: the instruction runs again. Else the signal that the thread gets. */
  private outcome(f: number, r: number): number {
    if ((r & VM_FAULT_ERROR) === 0) {
      if (this.sim.agents.stack.a[f + TRIED] !== 0) this.sim.agents.stack.set(f + TRIED, 0);
      return this.hostAccess.first;
    }
    if ((r & VM_FAULT_SIGSEGV) !== 0) return this.sim.agents.ret(f, HOST_SIGSEGV, SEGV_MAPERR);
    const poison = (r & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) !== 0;
    return this.sim.agents.ret(f, poison ? HOST_SIGBUS_MCEERR_AR : HOST_SIGBUS_ADRERR);
  }
}

/** Does hostAccess need the right to write? */
function writes(what: number): boolean {
  return what === HOST_WRITE || (what & ~1) === HOST_DMA_WRITE;
}

export type UserAccessShape = UserAccess;
