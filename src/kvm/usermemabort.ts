/**
 * user_mem_abort (arch/arm64/kvm/mmu.c; v5.4 virt/kvm/arm/mmu.c; v4.0 arch/arm/kvm/mmu.c): from a
 * memslot and a host address to a stage-2 entry.
 *
 * Phases end where the kernel drops a lock or can sleep. Which come in which order is the era's:
 *
 * up to v6.1          | v6.3 - v7.0             | v7.1 on
 * vma                 | vma (topup first, seq   | vma (the same)
 *                     |  read inside mmap_lock) |
 * snapshot (topup,    | -                       | -
 *   seq read)         |                         |
 * pfn                 | pfn                     | pfn
 * (+ the decisions)   | (the same)              | decide (a step of its own)
 * install             | install                 | install
 *
 * `install` takes mmu_lock, looks at the sequence, adjusts to a huge page, cleans caches, maps or
 * relaxes, marks dirty, unlocks; it ends in one phase because nothing in it sleeps. While agents are interleaved the walk is an
 * activity of its own (pgtablesteps.ts), and what comes after it the phase `installed`; so is that of the user's tables
 * (usertablewalk.ts), with the phase `measured` after it.
 */
import { BY_KERNEL, CLEAN_INVALIDATE } from "../arch/cachemaintenance.js";
import type { CpuFeatures } from "../arch/features.js";
import type { MachineProfile } from "../arch/profile.js";
import { ESR_EL2, SCTLR_EL1, type RegisterFile } from "../arch/registers.js";
import { PAGE_SIZE } from "../arch/types.js";
import { ARG, BLOCKED, CALLED, FRAME, R0, R1, RETURN, type Activity, type ApartPhase } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EAGAIN, EFAULT, EHWPOISON, ENOEXEC, ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import {
  isCowMapping,
  PAGE_PROT_DEVICE,
  PAGE_PROT_NONCACHED,
  PAGE_PROT_WRITECOMBINE,
  VM_ALLOW_ANY_UNCACHED,
  VM_FORCE_CACHED,
  VM_HUGETLB,
  VM_MIXEDMAP,
  VM_MTE_ALLOWED,
  VM_PFNMAP,
  VM_SHARED,
} from "../mmu/vmflags.js";
import type { HostMm } from "../mmu/mm.js";
import { HI_UFFD_WP } from "../mmu/pte.js";
import type { kvmDecisions } from "./decisions.js";
import type { DirtyLog } from "./dirtylog.js";
import { PFN_REFERENCED, PFN_WRITABLE, REST, type GfnToPfn } from "./gfntopfn.js";
import type { Memslots } from "./memslots.js";
import { KVM_MEM_DMABUF, KVM_MEM_INCOHERENT, KVM_MEM_READONLY, type DmaBufPort } from "./ports.js";
import { SET_LOGGING } from "./pgtablesteps.js";
import { INSTALL_LOGGING, STAGE2_CRASHED, type Stage2 } from "./stage2.js";
import {
  branchTaken,
  decisionTaken,
  faultVma,
  hostSignal,
  internNames,
  mmuRetry,
  PROT_DEVICE,
  PROT_IOMAP,
  PROT_NORMAL_NC,
  PROT_R,
  PROT_W,
  PROT_X,
  userMappingSize,
  type Names,
} from "./trace.js";
import type { UserTableWalk } from "./usertablewalk.js";
import type { Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

export const PMD_SIZE = 0x200000;
export const PUD_SIZE = 0x40000000;
const CONT_PTE_SIZE = 0x10000;
const CONT_PMD_SIZE = 0x2000000;
/** Bytes that an entry at the reported level maps. */
const GRANULE = [2 ** 39, PUD_SIZE, PMD_SIZE, PAGE_SIZE] as const;

/** What guest abort knows of the fault: bits of the KIND argument. */
export const FAULT_WRITE = 1;
export const FAULT_EXEC = 2;
export const FAULT_PERMISSION = 4;
/** FSC 0x35: the pfn is looked up, then a data abort is injected. */
export const FAULT_EXCLUSIVE = 8;
const LOGGING = 16;
const FORCE_PTE = 32;
/** The pfn is device memory for the THP and cache steps. */
const DEVICE = 64;
/** Mapped Device or Normal-NC. */
const FORCE_NONCACHEABLE = 128;
const WRITABLE = 256;
const REFERENCED = 512;
const MTE_ALLOWED = 1024;

/** R0 beside 0 and -errno: an exclusive fault that must become a data abort. */
export const INJECT_EXCLUSIVE = 2;

/** mappingSize: no later step may enlarge it. */
const FORCED = 1;
/** adjustSize: the host crashes on a pfn without struct page, on an entry that is gone. */
const CRASH_NO_PAGE = 0;
const CRASH_NO_ENTRY = 1;

const V = ARG;
const IPA = ARG + 1;
const SLOT = ARG + 2;
const HVA = ARG + 3;
const KIND = ARG + 4;
/** Size of the mapping so far. */
const SIZE = ARG + 5;
/** The sequence count that the fault has read. */
export const SEQ = ARG + 6;
/** The gfn that is looked up: the block's first. */
const GFN = ARG + 7;
const PFN = ARG + 8;
const VMA_FLAGS = ARG + 9;
const PAGE_PROT = ARG + 10;
const WORDS = 11;

const NAMES = [
  "user_mem_abort",
  "permission fault on a read",
  "no VMA at the address",
  "table cache",
  "error pfn",
  "poisoned page",
  "execute from device memory",
  "cacheable PFNMAP without S2FWB and DIC",
  "COW PFNMAP refused",
  "shared VMA in an MTE VM",
  "invalidation raced",
  "host entry vanished",
  "mapped",
  "relaxed",
  "set",
  "exclusive on valid memory",
  "permissionReadFault",
  "efault",
  "silent",
  "warn",
  "pfnmapBlockSize",
  "page",
  "forced-page",
  "vma-arithmetic",
  "deviceTest",
  "no-struct-page",
  "not-linear-map",
  "vma-and-not-linear-map",
  "device",
  "memory",
  "deviceType",
  "nGnRE",
  "normal-nc",
  "cacheablePfnmap",
  "write-back-if-flagged",
  "write-back",
  "cowPfnmap",
  "refuse",
  "execOnDevice",
  "map-executable",
  "inject-pabt",
  "exit-to-user",
  "thpAdjustDevices",
  "true",
  "dcacheDevice",
  "mteVma",
  "not-shared",
  "mte-allowed",
] as const;

export class UserMemAbort {
  /** (v, ipa, slot, hva, FAULT_*) -> R0 0 | -errno (-ENOEXEC: the fetch is refused) | INJECT_EXCLUSIVE. */
  readonly activity: Activity;
  private readonly first: number;
  private readonly apartPfn: ApartPhase;
  private readonly apartInstall: ApartPhase;
  private readonly n: Names<(typeof NAMES)[number]>;
  private readonly crashNoPage = "PFN without struct page";
  private readonly crashNoMapping = "data cache clean through an unmapped kernel address";
  /** What memslots without a VMA are backed by; set when the rooms are wired. */
  dmabufs: DmaBufPort | undefined;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly features: CpuFeatures,
    private readonly profile: MachineProfile,
    private readonly mm: HostMm,
    private readonly vms: Vms,
    private readonly vcpus: Vcpus,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly dirtyLog: DirtyLog,
    private readonly pfns: GfnToPfn,
    private readonly userTables: UserTableWalk,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.n = internNames(sim.bus, NAMES);
    this.activity = sim.agents.activity("userMemAbort", "arch/arm64/kvm/mmu.c user_mem_abort", WORDS, [
      ["vma", this.vma],
      ["snapshot", this.snapshot],
      ["pfn", this.pfn],
      ["gotPfn", this.gotPfn],
      ["decide", this.decide],
      ["install", this.install],
      ["installed", this.installed],
      ["measured", this.measured],
    ]);
    this.first = this.activity.first;
    this.apartPfn = sim.agents.apart(this.activity, 2);
    this.apartInstall = sim.agents.apart(this.activity, 5);
  }

  private branch(name: number): void {
    this.sim.bus.emit(branchTaken, this.n.user_mem_abort, name);
  }
  private chose(name: number, value: number): void {
    this.sim.bus.emit(decisionTaken, name, value);
  }
  private ret(f: number, r: number): number {
    return this.sim.agents.ret(f, r);
  }

  // ------------------------------------------------------------------------------------ vma

  /**
   * Under mmap_lock: the VMA that covers hva, the size of the mapping from it, what later steps need
   * of its flags; where the era does so also the table cache (before) and the sequence (inside).
   */
  private readonly vma = (f: number): number => {
    f &= FRAME;
    const { sim, d, n } = this;
    const stack = sim.agents.stack;
    const s = stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const mm = this.vms.mm(vm);
    let kind = s[f + KIND]! | 0;
    const slot = s[f + SLOT]! | 0;
    if (d.permissionReadFault === "efault" && (kind & (FAULT_PERMISSION | FAULT_WRITE | FAULT_EXEC)) === FAULT_PERMISSION) {
      this.chose(n.permissionReadFault, n.efault);
      this.branch(n["permission fault on a read"]);
      return this.ret(f, -EFAULT);
    }
    if ((this.memslots.flags(slot) & KVM_MEM_DMABUF) !== 0) return this.dmabuf(f, v, vm, kind);
    if (this.loggingActive(slot)) kind |= LOGGING;
    if (d.memcacheTopup === "before-vma" && !this.topup(v, vm, kind)) return this.ret(f, -ENOMEM);
    const lock = this.mm.mmapLock(mm);
    if (!sim.locks.read(lock)) return BLOCKED;
    const hva = s[f + HVA]!;
    const vmas = this.mm.vmas;
    const vma = vmas.covering(mm, hva);
    if (vma < 0) {
      sim.locks.unlockRead(lock);
      this.branch(n["no VMA at the address"]);
      return this.ret(f, -EFAULT);
    }
    const flags = vmas.flags(vma);
    const sized = this.mappingSize(hva, kind, slot, vma, flags);
    const size = sized & ~FORCED;
    if ((sized & FORCED) !== 0) kind |= FORCE_PTE;
    const ipa = s[f + IPA]!;
    stack.set(f + SIZE, size);
    stack.set(f + KIND, kind);
    // Only PMD and PUD blocks align the gfn; an odd (contiguous) size of the old code does not.
    const block = size === PMD_SIZE || size === PUD_SIZE ? alignDown(ipa, size) : ipa;
    stack.set(f + GFN, block / PAGE_SIZE);
    if (d.hugetlbBlock === "page-shift") stack.set(f + IPA, block);
    stack.set(f + VMA_FLAGS, flags);
    const pageProt = vmas.pageProt(vma);
    stack.set(f + PAGE_PROT, pageProt);
    sim.bus.emit(faultVma, hva, flags, pageProt, size);
    if (d.seqSnapshot === "inside-mmap-lock") {
      stack.set(f + SEQ, this.vms.seq(vm));
      sim.locks.unlockRead(lock);
      if (d.memcacheTopup === "after-unlock" && !this.topup(v, vm, kind)) return this.ret(f, -ENOMEM);
      return sim.agents.goApart(f, this.apartPfn);
    }
    sim.locks.unlockRead(lock);
    return sim.agents.go(f, this.first + 1, this.snapshot);
  };

  /**
   * A memslot backed by a dma-buf, as gmem_abort does it for guest_memfd: the sequence, then the frame from the exporter,
   * which says how large a block around it is (max_order of kvm_gmem_get_pfn, and of the proposed get_pfn of dma-bufs).
   * No VMA says anything of its type: vfio-pci's BARs may be anything uncached.
   */
  private dmabuf(f: number, v: number, vm: number, kind: number): number {
    const stack = this.sim.agents.stack;
    if (!this.topup(v, vm, kind)) return this.ret(f, -ENOMEM);
    stack.set(f + SEQ, this.vms.seq(vm));
    const name = stack.a[f + HVA]!;
    const ipa = stack.a[f + IPA]!;
    const size = this.exportedSize(stack.a[f + SLOT]! | 0, name);
    const block = alignDown(ipa, size);
    stack.set(f + KIND, size === PAGE_SIZE ? kind | FORCE_PTE : kind);
    stack.set(f + SIZE, size);
    stack.set(f + GFN, block / PAGE_SIZE);
    if (this.d.hugetlbBlock === "page-shift") stack.set(f + IPA, block);
    stack.set(f + VMA_FLAGS, VM_PFNMAP | VM_SHARED | VM_ALLOW_ANY_UNCACHED);
    stack.set(f + PAGE_PROT, PAGE_PROT_NONCACHED);
    return this.gotPfnOf(f, this.dmabufs?.pfnAt(name - (ipa - block)) ?? -1, PFN_WRITABLE);
  }

  /** The largest block around a place in a dma-buf. */
  private exportedSize(slot: number, name: number): number {
    if (this.exportsBlock(slot, name, PUD_SIZE)) return PUD_SIZE;
    return this.exportsBlock(slot, name, PMD_SIZE) ? PMD_SIZE : PAGE_SIZE;
  }

  /** Whether the block around a place in a dma-buf lies in the slot, is congruent with it, and is contiguous. */
  private exportsBlock(slot: number, name: number, size: number): boolean {
    const start = alignDown(name, size);
    const first = this.dmabufs?.pfnAt(start) ?? -1;
    if (!this.supports(slot, name, size) || first < 0 || first % (size / PAGE_SIZE) !== 0) return false;
    return this.dmabufs!.pfnAt(start + size - PAGE_SIZE) === first + size / PAGE_SIZE - 1;
  }

  /** memslot_is_logging: a writable slot with a dirty bitmap (with a dirty ring alone there is none). */
  private loggingActive(slot: number): boolean {
    return this.memslots.bitmap(slot) >= 0 && (this.memslots.flags(slot) & KVM_MEM_READONLY) === 0;
  }

  private topup(v: number, vm: number, kind: number): boolean {
    const { memcacheTopupWhen } = this.d;
    const logged = memcacheTopupWhen === "unless-permission-unlogged" ? LOGGING : LOGGING | FAULT_WRITE;
    const needed = memcacheTopupWhen === "always" || (kind & FAULT_PERMISSION) === 0 || (kind & logged) === logged;
    return !needed || this.stage2.caches.topup(this.vcpus.memcache(v), this.vms.cacheMinPages(vm)) === 0;
  }

  /** Chooses the size from VMA, slot and logging. @returns it, with FORCED where no later step may enlarge it */
  private mappingSize(hva: number, kind: number, slot: number, vma: number, flags: number): number {
    const { d, n } = this;
    const pfnmap = (flags & VM_PFNMAP) !== 0;
    if (pfnmap) this.chose(n.pfnmapBlockSize, n[d.pfnmapBlockSize]);
    let size = PAGE_SIZE;
    let force = pfnmap && d.pfnmapBlockSize === "forced-page";
    const logging = (kind & LOGGING) !== 0;
    if (d.hugetlbBlock === "page-shift") {
      if (logging) force = true;
      else if (!force) {
        size = this.vmaPageSize(vma, flags, hva);
        if (size === PUD_SIZE && !this.supports(slot, hva, PUD_SIZE)) size = PMD_SIZE;
        if (size === CONT_PMD_SIZE) size = PMD_SIZE;
        if (size === PMD_SIZE && !this.supports(slot, hva, PMD_SIZE)) {
          size = PAGE_SIZE;
          force = true;
        }
        if (size === CONT_PTE_SIZE) {
          size = PAGE_SIZE;
          force = true;
        }
      }
    } else if (d.hugetlbBlock === "pmd") {
      // v4.0: any hugetlb VMA is one PMD block; the slot is looked at only for the THP of other VMAs.
      if ((flags & VM_HUGETLB) !== 0 && !logging) size = PMD_SIZE;
      else if (!this.congruent(slot, PMD_SIZE)) force = true;
    } else {
      size = (flags & VM_HUGETLB) !== 0 ? this.hugePageSize(vma) : PAGE_SIZE;
      if (d.slotFitsBlock === "thp-congruence") {
        if (size !== PMD_SIZE || logging) {
          size = PAGE_SIZE;
          if (!this.congruent(slot, PMD_SIZE)) force = true;
        }
      } else if (logging || force || !this.supports(slot, hva, size)) {
        size = PAGE_SIZE;
        force = true;
      }
    }
    return force ? size | FORCED : size;
  }

  /** vma_kernel_pagesize of a hugetlb VMA. */
  private hugePageSize(vma: number): number {
    return this.mm.files.hugetlbSize(this.mm.vmas.file(vma));
  }

  /** get_vma_page_shift, as a size. */
  private vmaPageSize(vma: number, flags: number, hva: number): number {
    if ((flags & (VM_HUGETLB | VM_PFNMAP)) === VM_HUGETLB) return this.hugePageSize(vma);
    if ((flags & VM_PFNMAP) === 0 || this.d.pfnmapBlockSize !== "vma-arithmetic") return PAGE_SIZE;
    const vmas = this.mm.vmas;
    const start = vmas.start(vma);
    const end = vmas.end(vma);
    // The host page tables are not looked at: vm_pgoff may be a pfn or, from v6.10, a file offset.
    const pa = vmas.pgoff(vma) * PAGE_SIZE + (hva - start);
    if (((hva ^ pa) & (PUD_SIZE - 1)) === 0 && alignDown(hva, PUD_SIZE) >= start && alignUp(hva, PUD_SIZE) <= end) return PUD_SIZE;
    if (((hva ^ pa) & (PMD_SIZE - 1)) === 0 && alignDown(hva, PMD_SIZE) >= start && alignUp(hva, PMD_SIZE) <= end) return PMD_SIZE;
    return PAGE_SIZE;
  }

  /** fault_supports_stage2_huge_mapping: congruent modulo the size, and the block lies inside the slot. */
  private supports(slot: number, hva: number, size: number): boolean {
    if (size === PAGE_SIZE) return true;
    if (!this.congruent(slot, size)) return false;
    const start = this.memslots.userspaceAddr(slot);
    const block = alignDown(hva, size);
    return block >= start && block + size <= start + this.memslots.npages(slot) * PAGE_SIZE;
  }
  private congruent(slot: number, size: number): boolean {
    return (((this.memslots.baseGfn(slot) * PAGE_SIZE) ^ this.memslots.userspaceAddr(slot)) & (size - 1)) === 0;
  }

  // ------------------------------------------------------------------------- snapshot and pfn

  /** Up to v6.1: mmap_lock is gone already when the sequence is read. */
  private readonly snapshot = (f: number): number => {
    f &= FRAME;
    const stack = this.sim.agents.stack;
    const s = stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    if (this.d.memcacheTopup === "after-unlock" && !this.topup(v, vm, s[f + KIND]! | 0)) return this.ret(f, -ENOMEM);
    stack.set(f + SEQ, this.vms.seq(vm));
    return this.sim.agents.goApart(f, this.apartPfn);
  };

  /** gfn_to_pfn_prot / __kvm_faultin_pfn: fast GUP at once, the rest as an activity. */
  private readonly pfn = (f: number): number => {
    f &= FRAME;
    const { agents } = this.sim;
    const s = agents.stack.a;
    const slot = s[f + SLOT]! | 0;
    const vm = this.vcpus.vm(s[f + V]! | 0);
    const mm = this.vms.mm(vm);
    const hva = this.memslots.userspaceAddr(slot) + (s[f + GFN]! - this.memslots.baseGfn(slot)) * PAGE_SIZE;
    const kind = s[f + KIND]! | 0;
    const write = (kind & FAULT_WRITE) !== 0;
    if (agents.interleaving) return agents.call(f, this.first + 3, this.pfns.lookup, mm, hva, write ? 1 : 0);
    let flags = PFN_WRITABLE | PFN_REFERENCED;
    let pfn = this.pfns.fast(mm, hva);
    if (pfn < 0) {
      pfn = write ? this.pfns.slowNow(mm, hva) : REST;
      if (pfn === REST) return agents.callStraight(f, this.first + 3, this.gotPfn, this.pfns.rest(write), mm, hva, write ? 1 : 0);
      if (pfn === RETURN) return RETURN;
      flags = this.pfns.flags;
    }
    return this.havePfn(f, vm, slot, kind, pfn, flags);
  };

  private readonly gotPfn = (f: number): number => {
    f &= FRAME;
    const s = this.sim.agents.stack.a;
    return this.gotPfnOf(f, s[f + R0]!, s[f + R1]!);
  };
  private gotPfnOf(f: number, pfn: number, flags: number): number {
    const s = this.sim.agents.stack.a;
    return this.havePfn(f, this.vcpus.vm(s[f + V]! | 0), s[f + SLOT]! | 0, s[f + KIND]! | 0, pfn, flags);
  }

  private havePfn(f: number, vm: number, slot: number, kind: number, pfn: number, flags: number): number {
    const { stack } = this.sim.agents;
    if (pfn < 0) return this.errorPfn(f, pfn);
    stack.set(f + PFN, pfn);
    if ((flags & PFN_WRITABLE) !== 0 && (this.memslots.flags(slot) & KVM_MEM_READONLY) === 0) kind |= WRITABLE;
    if ((flags & PFN_REFERENCED) !== 0) kind |= REFERENCED;
    stack.set(f + KIND, kind);
    // From v7.1 on the decisions are a step of their own.
    return this.d.steps === "taken-apart" ? this.sim.agents.go(f, this.first + 4, this.decide) : this.decideFor(f, vm, kind, pfn);
  }

  /** Poison becomes a SIGBUS to the thread and return 0; any other error pfn -EFAULT. */
  private errorPfn(f: number, error: number): number {
    const { n } = this;
    const s = this.sim.agents.stack.a;
    if (error === -EHWPOISON && this.d.poison === "sigbus") {
      this.branch(n["poisoned page"]);
      const hva = s[f + HVA]!;
      if (this.d.poisonVma === "after-unlock" && !this.vmaStillThere(s[f + V]! | 0, hva))
        return this.crash("user_mem_abort", "VMA used after mmap_sem was dropped");
      const lsb = s[f + SIZE] === PUD_SIZE ? 30 : s[f + SIZE] === PMD_SIZE ? 21 : 12;
      this.vcpus.setSignal(s[f + V]! | 0, 7, 4, hva, lsb);
      this.sim.bus.emit(hostSignal, 7, 4, hva, lsb);
      return this.ret(f, 0);
    }
    this.branch(n["error pfn"]);
    return this.ret(f, -EFAULT);
  }

  /** Without mmap_lock the VMA of the lookup may be freed: the size for the SIGBUS is then read from nothing. */
  private vmaStillThere(v: number, hva: number): boolean {
    const vmas = this.mm.vmas;
    const vma = vmas.findVma(this.vms.mm(this.vcpus.vm(v)), hva);
    return vma >= 0 && vmas.start(vma) <= hva;
  }

  // ------------------------------------------------------------------------------------ decide

  /** Device or memory, cacheable or not, logging and read-only, exec on device: everything before mmu_lock. */
  private readonly decide = (f: number): number => {
    f &= FRAME;
    const s = this.sim.agents.stack.a;
    return this.decideFor(f, this.vcpus.vm(s[f + V]! | 0), s[f + KIND]! | 0, s[f + PFN]!);
  };

  private decideFor(f: number, vm: number, known: number, pfn: number): number {
    const { d, n } = this;
    const { stack } = this.sim.agents;
    const s = stack.a;
    let kind = this.memoryType(f, known, pfn, s[f + VMA_FLAGS]! | 0);
    if (kind < 0) return this.refuse(f, kind);
    if ((kind & DEVICE) === 0 && (kind & LOGGING) !== 0) {
      kind |= FORCE_PTE;
      // Only a write fault makes the page writable: the others must still fault to be logged.
      if ((kind & FAULT_WRITE) === 0) kind &= ~WRITABLE;
    }
    if ((kind & FAULT_EXEC) !== 0 && (kind & FORCE_NONCACHEABLE) !== 0) {
      this.chose(n.execOnDevice, n[d.execOnDevice]);
      if (d.execOnDevice !== "map-executable") {
        this.branch(n["execute from device memory"]);
        return this.refuse(f, -ENOEXEC);
      }
    }
    if ((kind & FAULT_EXCLUSIVE) !== 0) {
      this.branch(n["exclusive on valid memory"]);
      return this.refuse(f, INJECT_EXCLUSIVE);
    }
    if (this.vms.mte(vm) && (kind & (DEVICE | FAULT_PERMISSION)) === 0) {
      if (this.mteAllowed(s[f + VMA_FLAGS]! | 0)) kind |= MTE_ALLOWED;
      else if (d.mteCheck === "before-lock") return this.refuse(f, -EFAULT);
    }
    stack.set(f + KIND, kind);
    return this.sim.agents.goApart(f, this.apartInstall);
  }

  private mteAllowed(vmaFlags: number): boolean {
    const allowed = this.d.mteVma === "not-shared" ? (vmaFlags & VM_SHARED) === 0 : (vmaFlags & VM_MTE_ALLOWED) !== 0;
    if (!allowed) {
      this.chose(this.n.mteVma, this.n[this.d.mteVma]);
      this.branch(this.n["shared VMA in an MTE VM"]);
    }
    return allowed;
  }

  /** An error before the lock: up to v6.17 the page reference leaks. */
  private refuse(f: number, r: number): number {
    const s = this.sim.agents.stack.a;
    if (!this.d.errorLeaksPage) this.release(s[f + KIND]! | 0, s[f + PFN]!);
    return this.ret(f, r);
  }

  /** kvm_set_pfn_accessed, kvm_release_pfn_clean. */
  private release(kind: number, pfn: number): void {
    if ((kind & REFERENCED) === 0) return;
    this.mm.frames.accessed?.markPageAccessed(pfn);
    this.pfns.release(pfn, PFN_REFERENCED);
  }

  /** 2.6 of the reference: what KVM takes the pfn for. @returns KIND, or -EFAULT */
  private memoryType(f: number, kind: number, pfn: number, vmaFlags: number): number {
    const { d, n } = this;
    const frames = this.mm.frames;
    const special = (vmaFlags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0;
    const device =
      d.deviceTest === "no-struct-page"
        ? !frames.pfnValid(pfn)
        : d.deviceTest === "not-linear-map"
          ? !frames.isMapMemory(pfn)
          : special && !frames.isMapMemory(pfn);
    if (special || device) this.chose(n.deviceTest, n[d.deviceTest]);
    if ((vmaFlags & VM_PFNMAP) !== 0 && d.cowPfnmap === "refuse" && isCowMapping(vmaFlags)) {
      this.chose(n.cowPfnmap, n.refuse);
      this.branch(n["COW PFNMAP refused"]);
      return -EFAULT;
    }
    return device ? this.deviceMemory(f, kind | DEVICE, vmaFlags) : kind;
  }

  /** The same of device memory: write-back or not. */
  private deviceMemory(f: number, kind: number, vmaFlags: number): number {
    const { d, n, features } = this;
    const asked =
      d.cacheablePfnmap === "write-back" || (d.cacheablePfnmap === "write-back-if-flagged" && (vmaFlags & VM_FORCE_CACHED) !== 0);
    if (asked && isWriteBack(this.sim.agents.stack.a[f + PAGE_PROT]!)) {
      this.chose(n.cacheablePfnmap, n[d.cacheablePfnmap]);
      if (features.s2fwb && features.dic) return kind;
      this.branch(n["cacheable PFNMAP without S2FWB and DIC"]);
      return -EFAULT;
    }
    return kind | FORCE_NONCACHEABLE;
  }

  // ----------------------------------------------------------------------------------- install

  /** Bytes of an entry at the level that the syndrome reports. */
  private granule(v: number): number {
    return GRANULE[this.regs.lo(v, ESR_EL2) & 3]!;
  }

  /** From taking mmu_lock to dropping it, and what the era does right after. */
  private readonly install = (f: number): number => {
    f &= FRAME;
    const { sim, d, n, vms } = this;
    const stack = sim.agents.stack;
    const s = stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const kind = s[f + KIND]! | 0;
    const shared =
      d.faultLock === "read" ||
      (d.faultLock === "read-for-logged-writes" &&
        (kind & (FAULT_PERMISSION | FAULT_WRITE | LOGGING)) === (FAULT_PERMISSION | FAULT_WRITE | LOGGING) &&
        this.granule(v) === PAGE_SIZE);
    const lock = vms.mmuLock(vm);
    if (!(shared ? sim.locks.read(lock) : sim.locks.write(lock))) return BLOCKED;
    const slot = s[f + SLOT]! | 0;
    if ((vms.inProgress(vm) !== 0 || vms.seq(vm) !== s[f + SEQ]!) && d.invalidateRetry === "check") {
      sim.bus.emit(mmuRetry, vm, s[f + SEQ]!, vms.seq(vm), vms.inProgress(vm));
      this.branch(n["invalidation raced"]);
      return this.unlock(f, v, vm, slot, lock, shared, kind, -EAGAIN, 0);
    }
    const size = this.adjustSize(f, v, vm, slot, kind);
    return this.installSize(f, v, vm, slot, lock, kind, shared, size);
  };

  /** The size is known: the checks that come after it, and the entry. */
  private readonly installSize = (
    f: number,
    v: number,
    vm: number,
    slot: number,
    lock: number,
    kind: number,
    shared: boolean,
    size: number,
  ): number => {
    const { d } = this;
    if (size < PAGE_SIZE) return this.noSize(f, v, vm, slot, lock, kind, shared, size);
    if (this.vms.mte(vm) && (kind & (DEVICE | FAULT_PERMISSION | MTE_ALLOWED)) === 0)
      return this.unlock(f, v, vm, slot, lock, shared, kind, -EFAULT, 0);
    const ret = d.mapCode === "set" ? this.set(f, vm, size, kind) : this.mapOrRelax(f, v, vm, slot, size, kind);
    if (ret === CALLED || ret === RETURN) return ret;
    return this.unlock(f, v, vm, slot, lock, shared, kind, ret, size);
  };

  /** `adjustSize` has answered CALLED, -EAGAIN or CRASH_*. */
  private noSize(f: number, v: number, vm: number, slot: number, lock: number, kind: number, shared: boolean, answer: number): number {
    if (answer === CALLED) return CALLED;
    if (answer === CRASH_NO_PAGE) return this.crash("transparent_hugepage_adjust", this.crashNoPage);
    if (answer === CRASH_NO_ENTRY) return this.crash("get_user_mapping_size", "the user's page-table entry vanished");
    this.branch(this.n["host entry vanished"]);
    return this.unlock(f, v, vm, slot, lock, shared, kind, answer, 0);
  }

  /** The walk has ended that went step by step: the rest of `install`. */
  private readonly installed = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const kind = s[f + KIND]! | 0;
    const slot = s[f + SLOT]! | 0;
    const size = s[f + SIZE]!;
    const ret = s[f + R0]!;
    if (ret === 0 && (kind & WRITABLE) !== 0 && this.d.mapCode === "walker" && this.d.dirtyMark === "after-map")
      this.markDirty(f, v, vm, slot, size, s[f + PFN]!);
    const lock = this.vms.mmuLock(vm);
    return this.unlock(f, v, vm, slot, lock, !this.sim.locks.heldForWrite(lock), kind, ret, size);
  };

  private crash(where: string, why: string): number {
    return this.sim.crash(where, why);
  }

  /**
   * transparent_hugepage_adjust: a page-sized mapping becomes a PMD block where a huge host page is
   * behind it. Moves IPA and PFN in the frame. @returns the size, -EAGAIN, or CRASH_*
   */
  private readonly adjustSize = (f: number, v: number, vm: number, slot: number, kind: number): number => {
    const { d, n } = this;
    const s = this.sim.agents.stack.a;
    const size = s[f + SIZE]! | 0;
    if (size !== PAGE_SIZE || (kind & FORCE_PTE) !== 0) return size;
    if ((kind & FORCE_NONCACHEABLE) !== 0) {
      if (!d.thpAdjustDevices) return size;
      this.chose(n.thpAdjustDevices, n.true);
    }
    if (d.permissionKeepsGranule && (kind & FAULT_PERMISSION) !== 0 && this.granule(v) > PAGE_SIZE) return this.granule(v) | 0;
    const hva = s[f + HVA]!;
    const fits = d.slotFitsBlock === "thp-congruence" ? this.congruent(slot, PMD_SIZE) : this.supports(slot, hva, PMD_SIZE);
    if (!fits) return size;
    const mm = this.vms.mm(vm);
    if (d.thpAdjust === "user-table") {
      const { agents } = this.sim;
      if (agents.interleaving) return agents.call(f, this.first + 7, this.userTables.activity, mm, hva);
      const leaf = this.userMappingSize(mm, hva);
      if (leaf < PMD_SIZE) return this.unadjusted(leaf);
    } else {
      const pfn = s[f + PFN]!;
      // pfn_to_page() of something that has none.
      if (!this.mm.frames.pfnValid(pfn)) return CRASH_NO_PAGE;
      if (!this.pageTransCompoundMap(pfn, mm, hva)) return size;
    }
    return this.adjusted(f);
  };

  /** include/linux/page-flags.h PageTransCompoundMap; before v4.6 PageTransCompound, and hugetlb pages are compound too. */
  private pageTransCompoundMap(pfn: number, mm: number, hva: number): boolean {
    const { frames, rmap } = this.mm;
    const how = this.d.thpAdjust;
    if (how === "compound") return frames.isCompound(pfn);
    if (!frames.isThp(pfn)) return how === "compound-map" && frames.isCompound(pfn);
    // An entry of a file's huge page counts as a mapping of each of its pages.
    if (how !== "thp-map-files" && frames.isFile(pfn)) return false;
    return !rmap.pteMapped(pfn, mm, hva);
  }

  private adjusted(f: number): number {
    const stack = this.sim.agents.stack;
    const pfn = stack.a[f + PFN]!;
    stack.set(f + IPA, alignDown(stack.a[f + IPA]!, PMD_SIZE));
    this.moveReference(f, pfn, pfn - (pfn & 511));
    return PMD_SIZE;
  }

  /** The host's leaf is no huge one, or there is none any more. */
  private unadjusted(leaf: number): number {
    if (leaf !== 0) return PAGE_SIZE;
    return this.d.userTableWalk === "irqs-off" ? -EAGAIN : CRASH_NO_ENTRY;
  }

  /** The walk of the user's tables has ended that went step by step: the rest of `install`. */
  private readonly measured = (f: number): number => {
    const s = this.sim.agents.stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const leaf = s[f + R0]!;
    const size = leaf < PMD_SIZE ? this.unadjusted(leaf) : this.adjusted(f);
    const lock = this.vms.mmuLock(vm);
    const shared = !this.sim.locks.heldForWrite(lock);
    return this.installSize(f, v, vm, s[f + SLOT]! | 0, lock, s[f + KIND]! | 0, shared, size);
  };

  /** get_user_mapping_size: bytes of the host leaf, 0 where the entry vanished. */
  private userMappingSize(mm: number, hva: number): number {
    const size = this.mm.gup.userMappingSize(mm, hva);
    this.sim.bus.emit(userMappingSize, hva, size);
    return size;
  }

  /** kvm_release_pfn_clean(tail); get_page(head). Tail and head share one count in the model. */
  private moveReference(f: number, _tail: number, head: number): void {
    this.sim.agents.stack.set(f + PFN, head);
  }

  // ------------------------------------------------------------- the old code: set one entry

  /** v4.0 - v5.9: caches, then stage2_set_pte, _pmd_huge or _pud_huge. @returns 0, -errno, CALLED, or RETURN after a host crash */
  private set(f: number, vm: number, size: number, kind: number): number {
    const { d, n, sim } = this;
    const s = sim.agents.stack.a;
    const pfn = s[f + PFN]!;
    const device = (kind & DEVICE) !== 0;
    const writable = (kind & WRITABLE) !== 0;
    if (writable) this.mm.frames.setDirty(pfn);
    if (this.cleansData(f, s[f + SLOT]! | 0, kind)) {
      if (device && this.profile.cacheMaintenanceFaults) return this.crash("__clean_dcache_guest_page", this.crashNoMapping);
      this.stage2.cacheOps.dcache(pfn * PAGE_SIZE, size, CLEAN_INVALIDATE, BY_KERNEL);
      sim.agents.charge(sim.costs.cacheLine * (size / 64));
    }
    if (d.icacheAtFault === "always" || (kind & FAULT_EXEC) !== 0) this.stage2.cacheOps.icache(pfn * PAGE_SIZE, size, BY_KERNEL);
    const ipa = alignDown(s[f + IPA]!, size === PMD_SIZE || size === PUD_SIZE ? size : PAGE_SIZE);
    let prot = PROT_R;
    if (writable) prot |= PROT_W;
    if (!d.executeNever) {
      if (!device) prot |= PROT_X;
    } else if (
      (kind & FAULT_EXEC) !== 0 ||
      (!device && this.features.dic) ||
      ((kind & FAULT_PERMISSION) !== 0 &&
        this.stage2.isExec(vm, ipa, d.execInherited ? 0 : size === PAGE_SIZE ? 3 : size === PMD_SIZE ? 2 : 1))
    ) {
      prot |= PROT_X;
    }
    if (device) prot |= PROT_DEVICE | PROT_IOMAP;
    else if (d.stage2Memory === "non-cacheable") prot |= PROT_NORMAL_NC;
    // Only page mappings set the dirty bit, before the entry is written.
    if (writable && size < PMD_SIZE) this.dirtyLog.markPageDirty(vm, s[f + SLOT]! | 0, s[f + GFN]!, s[f + V]! | 0);
    this.branch(n.set);
    const block = size === PMD_SIZE || size === PUD_SIZE ? size : PAGE_SIZE;
    if (sim.agents.interleaving)
      return this.step(f, this.stage2.steps.set, vm, ipa, block, (kind & LOGGING) !== 0 ? prot | SET_LOGGING : prot);
    const flags = (kind & LOGGING) !== 0 ? INSTALL_LOGGING : 0;
    const ret = this.stage2.install(vm, this.vcpus.memcache(s[f + V]! | 0), ipa / PAGE_SIZE, block, pfn, prot, flags);
    return ret === STAGE2_CRASHED ? RETURN : ret;
  }

  /** Whether the data cache is cleaned for this fault. */
  private cleansData(f: number, slot: number, kind: number): boolean {
    const { d } = this;
    const incoherent = (this.memslots.flags(slot) & KVM_MEM_INCOHERENT) !== 0;
    if ((incoherent || d.stage2Memory === "non-cacheable") && (kind & (DEVICE | FAULT_PERMISSION)) === 0) return true;
    if ((kind & DEVICE) !== 0 && !d.dcacheDevice) return false;
    if (d.dcacheS2fwb && this.features.s2fwb) return false;
    switch (d.dcacheAtFault) {
      case "always":
        return true;
      case "guest-uncached":
        // MMU and data cache both on: the guest sees what the host sees; slots tagged incoherent are cleaned all the same.
        return (
          (this.regs.lo(this.sim.agents.stack.a[f + V]! | 0, SCTLR_EL1) & 5) !== 5 || (this.memslots.flags(slot) & KVM_MEM_READONLY) !== 0
        );
      case "unless-permission":
        return (kind & FAULT_PERMISSION) === 0;
      case "walker":
        return false;
    }
  }

  // ---------------------------------------------------------------- the walker: map or relax

  /** v5.10 on: permissions are added to an entry of the right size, anything else is mapped. */
  private readonly mapOrRelax = (f: number, v: number, vm: number, slot: number, size: number, kind: number): number => {
    const { d, n, sim } = this;
    const s = sim.agents.stack.a;
    const ipa = s[f + IPA]!;
    const pfn = s[f + PFN]!;
    if (d.dirtyMark === "before-map" && (kind & WRITABLE) !== 0) this.markDirty(f, v, vm, slot, size, pfn);
    if (this.cleansData(f, slot, kind)) {
      this.stage2.cacheOps.dcache(pfn * PAGE_SIZE, size, CLEAN_INVALIDATE, BY_KERNEL);
      sim.agents.charge(sim.costs.cacheLine * (size / 64));
    }
    if (d.icacheAtFault === "exec-fault" && (kind & FAULT_EXEC) !== 0) this.stage2.cacheOps.icache(pfn * PAGE_SIZE, size, BY_KERNEL);
    let prot = PROT_R;
    if ((kind & WRITABLE) !== 0) prot |= PROT_W;
    if ((kind & FAULT_EXEC) !== 0) prot |= PROT_X;
    if ((kind & FORCE_NONCACHEABLE) !== 0) prot |= this.deviceProt(f, vm);
    else {
      if (this.features.dic) prot |= PROT_X;
      // Executable memory is never Normal-NC (hyp/pgtable.c stage2_set_prot_attr).
      if (d.stage2Memory === "non-cacheable" && (kind & FAULT_EXEC) === 0) prot = (prot & ~PROT_X) | PROT_NORMAL_NC;
    }
    let ret: number;
    if ((kind & FAULT_PERMISSION) !== 0 && size === this.granule(v)) {
      this.branch(n.relaxed);
      if (sim.agents.interleaving) return this.step(f, this.stage2.steps.relax, vm, ipa, size, prot & (PROT_R | PROT_W | PROT_X));
      ret = this.stage2.relax(vm, ipa, prot & (PROT_R | PROT_W | PROT_X));
    } else {
      this.branch(n.mapped);
      const block = size === PAGE_SIZE ? ipa : alignDown(ipa, size);
      if (sim.agents.interleaving) return this.step(f, this.stage2.steps.map, vm, block, size, prot);
      ret = this.stage2.install(vm, this.vcpus.memcache(v), block / PAGE_SIZE, size, pfn, prot);
    }
    if (ret === 0 && (kind & WRITABLE) !== 0 && d.dirtyMark === "after-map") this.markDirty(f, v, vm, slot, size, pfn);
    return ret;
  };

  /** The walk as steps of their own; `installed` comes after. */
  private step(f: number, walk: Activity, vm: number, ipa: number, size: number, prot: number): number {
    const { agents } = this.sim;
    agents.stack.set(f + SIZE, size);
    const s = agents.stack.a;
    return agents.call(f, this.first + 6, walk, vm, this.vcpus.memcache(s[f + V]! | 0), ipa, size, s[f + PFN]! * PAGE_SIZE, prot);
  }

  private deviceProt(f: number, vm: number): number {
    const { d, n } = this;
    const s = this.sim.agents.stack.a;
    const nc =
      d.deviceType === "nc-if-vma-allows"
        ? (s[f + VMA_FLAGS]! & VM_ALLOW_ANY_UNCACHED) !== 0
        : d.deviceType === "nc-for-all" ||
          (d.deviceType === "follows-vma" && s[f + PAGE_PROT] === PAGE_PROT_WRITECOMBINE) ||
          (d.deviceType === "pte-bit" && this.mm.pt.walk(this.vms.mm(vm), s[f + HVA]!) && (this.mm.pt.hi & HI_UFFD_WP) !== 0);
    this.chose(n.deviceType, nc ? n["normal-nc"] : n.nGnRE);
    return nc ? PROT_NORMAL_NC : PROT_DEVICE;
  }

  /** kvm_set_pfn_dirty and mark_page_dirty_in_slot. */
  private markDirty(f: number, v: number, vm: number, slot: number, size: number, pfn: number): void {
    this.mm.frames.setDirty(pfn);
    if (!this.dirtyLog.tracks(slot)) return;
    const s = this.sim.agents.stack.a;
    const gfn = this.d.dirtyGfn === "block-head" ? alignDown(s[f + IPA]!, size) / PAGE_SIZE : s[f + GFN]!;
    this.dirtyLog.markTracked(vm, slot, gfn, v);
  }

  // ------------------------------------------------------------------------------------ unlock

  /** Drops lock and page, marks dirty where that comes after the unlock. -EAGAIN is a retry: 0. */
  private unlock(
    f: number,
    v: number,
    vm: number,
    slot: number,
    lock: number,
    shared: boolean,
    kind: number,
    ret: number,
    size: number,
  ): number {
    const { sim, d } = this;
    const pfn = sim.agents.stack.a[f + PFN]!;
    if (d.releasePage === "under-lock") this.release(kind, pfn);
    if (shared) sim.locks.unlockRead(lock);
    else sim.locks.unlockWrite(lock);
    if (d.dirtyMark === "after-unlock" && ret === 0 && size > 0 && (kind & WRITABLE) !== 0) this.markDirty(f, v, vm, slot, size, pfn);
    if (d.releasePage === "after-unlock") this.release(kind, pfn);
    return this.ret(f, ret === -EAGAIN ? 0 : ret);
  }
}

/** No pgprot_*() of uncached memory. */
function isWriteBack(pageProt: number): boolean {
  return pageProt !== PAGE_PROT_NONCACHED && pageProt !== PAGE_PROT_WRITECOMBINE && pageProt !== PAGE_PROT_DEVICE;
}

/** a rounded down to a power of two of at most 1 GiB: the low words of a number below 2^53 are all that matters. */
function alignDown(a: number, size: number): number {
  return a - (a & (size - 1));
}
function alignUp(a: number, size: number): number {
  const rest = a & (size - 1);
  return rest === 0 ? a : a - rest + size;
}
