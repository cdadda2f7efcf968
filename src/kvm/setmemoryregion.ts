/**
 * KVM_SET_USER_MEMORY_REGION (virt/kvm/kvm_main.c __kvm_set_memory_region, kvm_set_memslot;
 * kvm_arch_prepare_memory_region and kvm_arch_commit_memory_region of arm64): creating, deleting,
 * moving a memslot or changing its flags.
 *
 * create, flags-only: prepare, publish, commit. delete, move: publish the slot as INVALID (faults now
 * see no slot), wait for the readers, empty its range of stage 2, then prepare, publish, commit.
 */
import type { CpuFeatures } from "../arch/features.js";
import { PAGE_PROT_NORMAL, PAGE_PROT_TAGGED, VM_MTE_ALLOWED, VM_PFNMAP, VM_SHARED, VM_WRITE } from "../mmu/vmflags.js";
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EEXIST, EFAULT, EINVAL, EPERM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool } from "../sim/state.js";
import type { kvmDecisions } from "./decisions.js";
import type { DirtyLog } from "./dirtylog.js";
import { KVM_MEM_DMABUF, KVM_MEM_GUEST_MEMFD, KVM_MEM_INCOHERENT, type GuestMemfdPort } from "./ports.js";
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MEMSLOT_INVALID, type Memslots } from "./memslots.js";
import { SPLIT_BLOCK_SIZES } from "./pgtablesplit.js";
import type { Stage2 } from "./stage2.js";
import type { Vms } from "./vm.js";

/** enum kvm_mr_change */
export const KVM_MR_CREATE = 0;
export const KVM_MR_DELETE = 1;
export const KVM_MR_MOVE = 2;
export const KVM_MR_FLAGS_ONLY = 3;

/** KVM_MEM_MAX_NR_PAGES */
const MAX_PAGES = 2 ** 31 - 1;
/** TASK_SIZE of the VMM: 48-bit user addresses. */
const TASK_SIZE = 2 ** 48;

/** What slot creation asks of the host's address space (src/mmu). */
export interface SlotHost {
  readonly vmas: {
    /** find_vma: the first VMA that ends after addr, or -1. */
    findVma(mm: number, addr: number): number;
    start(vma: number): number;
    end(vma: number): number;
    flags(vma: number): number;
    pageProt(vma: number): number;
    /** Pages. */
    pgoff(vma: number): number;
  };
  mmapLock(mm: number): number;
}

/** Frame: the ioctl's arguments. */
const VM = ARG;
const ID = ARG + 1;
const FLAGS = ARG + 2;
const GPA = ARG + 3;
const SIZE = ARG + 4;
const HVA = ARG + 5;
/** The published record that changes, or -1; its INVALID copy; the new record; what changes. */
const OLD = ARG + 6;
const INVALID = ARG + 7;
const NEW = ARG + 8;
const CHANGE = ARG + 9;
/** Cursor of the step (host or guest address); its end; the result so far; end of the VMA being mapped. */
const AT = ARG + 10;
const END = ARG + 11;
const RET = ARG + 12;
const VMA_END = ARG + 13;
/** Of KVM_SET_USER_MEMORY_REGION2: guest_memfd, guest_memfd_offset. */
const GMEM_FD = ARG + 14;
const GMEM_OFFSET = ARG + 15;
const FRAME = 16;

/** Frame of installNewMemslots: VM, old record, new record; the SRCU index waited for. */
const P_OLD = ARG + 1;
const P_NEW = ARG + 2;
const P_INDEX = ARG + 3;

/** Phases of setUserMemoryRegion; 0 is `validate`. */
const INVALIDATE = 1;
const FLUSH_SHADOW = 2;
const FLUSH_CHUNK = 3;
const PREPARE = 4;
const VMA = 5;
const EAGER_DONE = 6;
const PREPARED = 7;
const ROLL_BACK = 8;
const FAILED = 9;
const PUBLISH = 10;
const COMMIT = 11;
const PROTECT = 12;
const SPLIT = 13;
const SPLIT_DONE = 14;
const DONE = 15;

export class SetMemoryRegion {
  /** (vm, slot, flags, guest_phys_addr, memory_size, userspace_addr). R0: 0 or -errno. */
  readonly setUserMemoryRegion: Activity;
  /** install_new_memslots / kvm_swap_active_memslots (vm, old, new): publishes and waits for the readers. */
  private readonly installNewMemslots: Activity;
  /**
   * kvm_phys_addr_ioremap for one VMA: (vm, ipa, size, pa by arithmetic, writable, hva) -> R0 0 or -errno
   * (EagerMapping.activity); set when the room is wired. mmap_lock is held for reading where the era takes it.
   */
  eagerMap: Activity | undefined;
  /** Per agent, of the call that comes: 1 for the second ioctl, its guest_memfd, its offset. */
  private readonly region2: F64Pool;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly dirtyLog: DirtyLog,
    private readonly stage2: Stage2,
    private readonly host: SlotHost,
    private readonly features: CpuFeatures,
    private readonly guestMemfd: GuestMemfdPort,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    const act = sim.agents;
    this.region2 = sim.state.f64("kvm.region2", 0);
    this.installNewMemslots = act.activity("installNewMemslots", "virt/kvm/kvm_main.c kvm_swap_active_memslots", 4, [
      ["wait-notifiers", (f) => this.waitNotifiers(f)],
      ["synchronize-srcu", (f) => this.synchronizeSrcu(f)],
    ]);
    this.setUserMemoryRegion = act.activity("kvmSetMemoryRegion", "virt/kvm/kvm_main.c __kvm_set_memory_region", FRAME, [
      ["validate", (f) => this.validate(f)],
      ["invalidate", (f) => this.invalidate(f)],
      ["flush-shadow", (f) => this.flushShadow(f)],
      ["flush-shadow-chunk", (f) => this.flushShadowChunk(f)],
      ["prepare", (f) => this.prepare(f)],
      ["prepare-vma", (f) => this.prepareVma(f)],
      ["eager-mapped", (f) => this.eagerDone(f)],
      ["prepared", (f) => this.prepared(f)],
      ["roll-back", (f) => this.rollBack(f)],
      ["failed", (f) => this.failed(f)],
      ["publish", (f) => this.publish(f)],
      ["commit", (f) => this.commit(f)],
      ["write-protect", (f) => this.protectChunk(f)],
      ["split", (f) => this.split(f)],
      ["split-done", (f) => this.splitDone(f)],
      ["done", (f) => this.done(f)],
    ]);
  }

  /** KVM_SET_USER_MEMORY_REGION2 on an agent: what `setUserMemoryRegion` has no arguments for. */
  guestMemfdRegion(agent: number, fd: number, offset: number): void {
    this.region2.ensure((agent + 1) * 3);
    this.region2.set(agent * 3, 1);
    this.region2.set(agent * 3 + 1, fd);
    this.region2.set(agent * 3 + 2, offset);
  }
  /** @returns whether the call is the second ioctl; then GMEM_FD and GMEM_OFFSET are in the frame */
  private takeRegion2(f: number): boolean {
    const at = this.sim.agents.current * 3;
    const a = this.region2.a;
    if (at >= this.region2.needed || a[at] === 0) return false;
    const s = this.sim.agents.stack;
    s.set(f + GMEM_FD, a[at + 1]!);
    s.set(f + GMEM_OFFSET, a[at + 2]!);
    this.region2.set3(at, 0, 0, 0);
    return true;
  }

  private next(phase: number): number {
    return this.setUserMemoryRegion.first + phase;
  }
  private finish(f: number, ret: number): number {
    this.sim.locks.unlockWrite(this.vms.slotsLock(this.sim.agents.stack.a[f + VM]!));
    return this.sim.agents.ret(f, ret);
  }

  // ------------------------------------------------------------------- publishing

  private waitNotifiers(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]!;
    if (this.d.memslotPublish === "waits-for-notifiers" && this.vms.mnActive(vm) !== 0) return BLOCKED;
    this.memslots.publish(vm, s.a[f + P_OLD]!, s.a[f + P_NEW]!);
    s.set(f + P_INDEX, this.vms.srcuFlip(vm));
    return this.installNewMemslots.first + 1;
  }

  private synchronizeSrcu(f: number): number {
    const s = this.sim.agents.stack.a;
    if (this.vms.srcuReaders(s[f + VM]!, s[f + P_INDEX]!) !== 0) return BLOCKED;
    return this.sim.agents.ret(f, 0);
  }

  // ------------------------------------------------------------------- validation

  /** The tests of the ioctl in the kernel's order; makes the new record. */
  private validate(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]!;
    if (!locks.write(this.vms.slotsLock(vm))) return BLOCKED;
    const id = s.a[f + ID]!;
    const flags = s.a[f + FLAGS]!;
    const gpa = s.a[f + GPA]!;
    const size = s.a[f + SIZE]!;
    const hva = s.a[f + HVA]!;
    const bad = this.checkArguments(id, flags, gpa, size, hva, this.takeRegion2(f) ? s.a[f + GMEM_OFFSET]! : -1);
    if (bad !== 0) return this.finish(f, bad);
    const base = gpa / 4096;
    const npages = size / 4096;
    const old = this.memslots.byId(vm, id);
    const change = this.classify(old, flags, base, npages, hva);
    if (change < 0) return this.finish(f, change === NOTHING ? 0 : change);
    if ((change === KVM_MR_CREATE || change === KVM_MR_MOVE) && this.memslots.overlaps(vm, id, base, npages))
      return this.finish(f, -EEXIST);
    s.set(f + OLD, old);
    s.set(f + CHANGE, change);
    s.set(f + INVALID, -1);
    s.set(f + RET, 0);
    s.set(
      f + NEW,
      change === KVM_MR_DELETE ? -1 : this.memslots.make(vm, id, flags, base, npages, hva, this.bitmapFor(vm, old, flags, npages)),
    );
    if (change !== KVM_MR_DELETE && (flags & KVM_MEM_GUEST_MEMFD) !== 0) {
      const error = this.guestMemfd.bind(vm, s.a[f + NEW]!, s.a[f + GMEM_FD]!, s.a[f + GMEM_OFFSET]!);
      if (error !== 0) {
        this.memslots.free(s.a[f + NEW]!);
        return this.finish(f, error);
      }
    }
    return this.next(change === KVM_MR_DELETE || change === KVM_MR_MOVE ? INVALIDATE : PREPARE);
  }

  /** Everything that the arguments alone decide. @param gmemOffset guest_memfd_offset of the second ioctl, -1: it is the first */
  private checkArguments(id: number, flags: number, gpa: number, size: number, hva: number, gmemOffset: number): number {
    if ((id & 0xffff) >= this.d.userMemslots) return -EINVAL;
    const incoherent = this.d.memslotIncoherent === "clean" ? KVM_MEM_INCOHERENT : 0;
    const dmabufs = this.d.memslotDmabuf === "vfio" ? KVM_MEM_DMABUF : 0;
    const gmem = (flags & KVM_MEM_GUEST_MEMFD) !== 0 && gmemOffset >= 0 && this.d.capGuestMemfd === "always";
    // check_memory_region_flags: no dirty log of a guest_memfd, and no read-only one, as writes to that are emulated.
    const known = gmem ? KVM_MEM_GUEST_MEMFD : KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY | incoherent | dmabufs;
    if ((flags & ~known) !== 0) return -EINVAL;
    const dmabuf = (flags & KVM_MEM_DMABUF) !== 0;
    // Nobody tells of writes behind it.
    if (dmabuf && (flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0) return -EINVAL;
    if (size % 4096 !== 0 || size < 0) return -EINVAL;
    if (gpa % 4096 !== 0 || gpa < 0) return -EINVAL;
    if (hva % 4096 !== 0 || hva < 0 || (hva + size > TASK_SIZE && !dmabuf)) return -EINVAL;
    if (gmem && (gmemOffset % 4096 !== 0 || gmemOffset + size >= 2 ** 64)) return -EINVAL;
    // arm64 has one address space.
    if (id >>> 16 !== 0 || id < 0) return -EINVAL;
    if (size !== 0 && gpa + size >= 2 ** 64) return -EINVAL;
    return size / 4096 > MAX_PAGES ? -EINVAL : 0;
  }

  /** What the call asks of an existing slot or of none. @returns KVM_MR_*, -EINVAL, or NOTHING */
  private classify(old: number, flags: number, base: number, npages: number, hva: number): number {
    if (npages === 0) return old < 0 ? -EINVAL : KVM_MR_DELETE;
    if (old < 0) return KVM_MR_CREATE;
    const m = this.memslots;
    if ((flags & KVM_MEM_GUEST_MEMFD) !== 0) return -EINVAL;
    const fixed = KVM_MEM_READONLY | (this.d.gmemFlagChange ? 0 : KVM_MEM_GUEST_MEMFD);
    if (m.userspaceAddr(old) !== hva || m.npages(old) !== npages || ((flags ^ m.flags(old)) & fixed) !== 0) return -EINVAL;
    if (m.baseGfn(old) !== base) return KVM_MR_MOVE;
    return m.flags(old) === flags ? NOTHING : KVM_MR_FLAGS_ONLY;
  }

  /** The new record's dirty bitmap: the old one, a new one, or none. */
  private bitmapFor(vm: number, old: number, flags: number, npages: number): number {
    if ((flags & KVM_MEM_LOG_DIRTY_PAGES) === 0) return -1;
    if (old >= 0 && this.memslots.bitmap(old) >= 0) return this.memslots.bitmap(old);
    if (!this.vms.usesBitmap(vm)) return -1;
    return this.dirtyLog.alloc(npages, this.vms.initiallySet(vm));
  }

  // ------------------------------------------------------------------- delete, move

  private invalidate(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]!;
    const old = s.a[f + OLD]!;
    const m = this.memslots;
    const invalid = m.make(
      vm,
      m.id(old),
      m.flags(old) | KVM_MEMSLOT_INVALID,
      m.baseGfn(old),
      m.npages(old),
      m.userspaceAddr(old),
      m.bitmap(old),
    );
    if (m.gmemFile(old) >= 0) m.setGmem(invalid, m.gmemFile(old), m.gmemPgoff(old));
    s.set(f + INVALID, invalid);
    return agents.call(f, this.next(FLUSH_SHADOW), this.installNewMemslots, vm, old, invalid);
  }

  /** kvm_arch_flush_shadow_memslot */
  private flushShadow(f: number): number {
    const s = this.sim.agents.stack;
    const old = s.a[f + OLD]!;
    const start = this.memslots.baseGfn(old) * 4096;
    s.set(f + AT, start);
    s.set(f + END, start + this.memslots.npages(old) * 4096);
    this.stage2.unmapper.announce(start, this.memslots.npages(old) * 4096);
    return this.next(FLUSH_CHUNK);
  }

  private flushShadowChunk(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]!;
    const lock = this.vms.mmuLock(vm);
    if (!this.sim.locks.write(lock)) return BLOCKED;
    const to = this.stage2.unmapper.chunkEnd(vm, s.a[f + AT]!, s.a[f + END]!);
    this.stage2.unmapper.chunk(vm, s.a[f + AT]!, to);
    this.sim.locks.unlockWrite(lock);
    if (to === s.a[f + END]) return this.next(PREPARE);
    s.set(f + AT, to);
    return this.next(FLUSH_CHUNK);
  }

  // ------------------------------------------------------------------- kvm_arch_prepare_memory_region

  private prepare(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]!;
    if (s.a[f + CHANGE] === KVM_MR_DELETE) return this.next(PUBLISH);
    const last = (s.a[f + GPA]! + s.a[f + SIZE]!) / 4096;
    const limit = this.vms.ipaSize(vm) / 4096;
    if (this.d.memslotIpaLimit === "exact" ? last > limit : last >= limit) {
      s.set(f + RET, -EFAULT);
      return this.next(ROLL_BACK);
    }
    if ((s.a[f + FLAGS]! & KVM_MEM_GUEST_MEMFD) !== 0) {
      const mte = this.d.gmemMte === "EINVAL" && this.vms.mte(vm);
      if (mte || !this.guestMemfd.gmemOnly(s.a[f + NEW]!)) {
        s.set(f + RET, -EINVAL);
        return this.next(ROLL_BACK);
      }
    }
    if (this.d.eagerMmapLock && !locks.read(this.host.mmapLock(this.vms.mm(vm)))) return BLOCKED;
    s.set(f + AT, s.a[f + HVA]!);
    return this.next(VMA);
  }

  /** One VMA of the slot's host range after the other; holes are skipped, no VMA at all is fine. */
  private prepareVma(f: number): number {
    const s = this.sim.agents.stack;
    const { vmas } = this.host;
    const end = s.a[f + HVA]! + s.a[f + SIZE]!;
    while (s.a[f + AT]! < end) {
      const hva = s.a[f + AT]!;
      const vma = vmas.findVma(this.vms.mm(s.a[f + VM]!), hva);
      if (vma < 0 || vmas.start(vma) >= end) break;
      const ret = this.checkVma(f, vma);
      if (ret !== 0) {
        s.set(f + RET, ret);
        break;
      }
      const to = Math.min(end, vmas.end(vma));
      if (this.d.eagerDeviceMapping && (vmas.flags(vma) & VM_PFNMAP) !== 0 && this.eagerMap !== undefined) {
        const from = Math.max(hva, vmas.start(vma));
        const writable = (s.a[f + FLAGS]! & KVM_MEM_READONLY) === 0 ? 1 : 0;
        s.set(f + VMA_END, to);
        const ipa = s.a[f + GPA]! + (from - s.a[f + HVA]!);
        // vm_pgoff is the PFN of the VMA's first page here: the host page tables are not consulted.
        const pa = vmas.pgoff(vma) * 4096 + (from - vmas.start(vma));
        return this.sim.agents.call(f, this.next(EAGER_DONE), this.eagerMap, s.a[f + VM]!, ipa, to - from, pa, writable, from);
      }
      s.set(f + AT, to);
    }
    return this.next(PREPARED);
  }

  /** The era's rules for one VMA. @returns 0 or -errno */
  private checkVma(f: number, vma: number): number {
    const s = this.sim.agents.stack.a;
    const { vmas } = this.host;
    const flags = vmas.flags(vma);
    const d = this.d;
    const writable = (s[f + FLAGS]! & KVM_MEM_READONLY) === 0;
    if (d.memslotWriteCheck === "eperm" && writable && (flags & VM_WRITE) === 0) return -EPERM;
    if (this.vms.mte(s[f + VM]!)) {
      const shared = d.memslotMte === "shared" || d.memslotMte === "shared-leaks-lock";
      if (shared && (flags & VM_SHARED) !== 0) return -EINVAL;
      if (d.memslotMte === "mte-allowed" && (flags & VM_MTE_ALLOWED) === 0) return -EINVAL;
    }
    if ((flags & VM_PFNMAP) === 0) return 0;
    if ((s[f + FLAGS]! & KVM_MEM_LOG_DIRTY_PAGES) !== 0) return -EINVAL;
    const prot = vmas.pageProt(vma);
    const cacheable = prot === PAGE_PROT_NORMAL || prot === PAGE_PROT_TAGGED;
    return d.memslotCacheablePfnmap === "einval" && cacheable && !(this.features.s2fwb && this.features.dic) ? -EINVAL : 0;
  }

  private eagerDone(f: number): number {
    const s = this.sim.agents.stack;
    const ret = s.a[f + R0]!;
    s.set(f + AT, s.a[f + VMA_END]!);
    if (ret === 0) return this.next(VMA);
    s.set(f + RET, ret);
    return this.next(PREPARED);
  }

  /** Up to v5.12 a failed slot is emptied again (not for logging on PFNMAP), a good one cleaned; then mmap_lock is dropped. */
  private prepared(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const vm = s[f + VM]!;
    const ret = s[f + RET]!;
    if (this.d.eagerDeviceMapping && s[f + CHANGE] !== KVM_MR_FLAGS_ONLY && ret !== -EINVAL) {
      const lock = this.vms.mmuLock(vm);
      if (!locks.write(lock)) return BLOCKED;
      if (ret !== 0) this.stage2.unmapRange(vm, s[f + GPA]!, s[f + SIZE]!);
      else this.stage2.flushRange(vm, s[f + GPA]!, s[f + SIZE]!);
      locks.unlockWrite(lock);
    }
    const leaked = ret !== 0 && this.d.memslotMte === "shared-leaks-lock" && this.vms.mte(vm);
    if (this.d.eagerMmapLock && !leaked) locks.unlockRead(this.host.mmapLock(this.vms.mm(vm)));
    return this.next(ret === 0 ? PUBLISH : ROLL_BACK);
  }

  // ------------------------------------------------------------------- failure

  /** A failed move brings the old slot back; its stage-2 entries are gone and fault in again. */
  private rollBack(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    if (s[f + INVALID]! < 0) return this.next(FAILED);
    return agents.call(f, this.next(FAILED), this.installNewMemslots, s[f + VM]!, s[f + INVALID]!, s[f + OLD]!);
  }

  private failed(f: number): number {
    const s = this.sim.agents.stack.a;
    const m = this.memslots;
    const fresh = s[f + NEW]!;
    const old = s[f + OLD]!;
    if (s[f + INVALID]! >= 0) m.free(s[f + INVALID]!);
    if (m.bitmap(fresh) >= 0 && (old < 0 || m.bitmap(old) < 0)) this.dirtyLog.free(m.bitmap(fresh), m.npages(fresh));
    m.free(fresh);
    return this.finish(f, s[f + RET]!);
  }

  // ------------------------------------------------------------------- publish, commit

  private publish(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    const visible = s[f + INVALID]! >= 0 ? s[f + INVALID]! : s[f + OLD]!;
    return agents.call(f, this.next(COMMIT), this.installNewMemslots, s[f + VM]!, visible, s[f + NEW]!);
  }

  /** kvm_arch_commit_memory_region; the old records and an unused bitmap go. */
  private commit(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]!;
    const m = this.memslots;
    const fresh = s.a[f + NEW]!;
    const old = s.a[f + OLD]!;
    if (old >= 0 && m.bitmap(old) >= 0 && (fresh < 0 || m.bitmap(fresh) < 0)) this.dirtyLog.free(m.bitmap(old), m.npages(old));
    if (old >= 0) m.free(old);
    if (s.a[f + INVALID]! >= 0) m.free(s.a[f + INVALID]!);
    if (fresh < 0 || (m.flags(fresh) & KVM_MEM_LOG_DIRTY_PAGES) === 0) {
      this.vms.setSplitCache(vm, 0);
      return this.next(DONE);
    }
    if (this.vms.initiallySet(vm)) return this.next(DONE);
    const start = m.baseGfn(fresh) * 4096;
    const size = m.npages(fresh) * 4096;
    s.set(f + AT, start);
    s.set(f + END, start + size);
    this.stage2.attributes.announceWrprotect(start, size);
    return this.next(PROTECT);
  }

  /** kvm_mmu_wp_memory_region, a chunk at a time, then one flush. */
  private protectChunk(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]!;
    const lock = this.vms.mmuLock(vm);
    if (!this.sim.locks.write(lock)) return BLOCKED;
    const from = s.a[f + AT]!;
    const to = this.stage2.unmapper.chunkEnd(vm, from, s.a[f + END]!);
    this.stage2.attributes.wrprotect(vm, from, to - from);
    this.sim.locks.unlockWrite(lock);
    s.set(f + AT, to);
    if (to < s.a[f + END]!) return this.next(PROTECT);
    const start = this.memslots.baseGfn(s.a[f + NEW]!) * 4096;
    this.stage2.tlb.flushMemslot(vm, start, to - start);
    return this.next(this.d.eagerSplit && this.vms.splitChunk(vm) !== 0 ? SPLIT : DONE);
  }

  /** kvm_mmu_split_memory_region */
  private split(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack.a;
    const vm = s[f + VM]!;
    if (!locks.write(this.vms.mmuLock(vm))) return BLOCKED;
    const start = this.memslots.baseGfn(s[f + NEW]!) * 4096;
    return agents.call(f, this.next(SPLIT_DONE), this.stage2.splitter.splitHugePages, vm, start, s[f + END]!);
  }

  private splitDone(f: number): number {
    this.sim.locks.unlockWrite(this.vms.mmuLock(this.sim.agents.stack.a[f + VM]!));
    return this.next(DONE);
  }

  private done(f: number): number {
    return this.finish(f, 0);
  }

  /**
   * KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE: 0, or a supported block size, while there is no memslot.
   * @returns 0 or -EINVAL
   */
  setSplitChunk(vm: number, bytes: number): number {
    if (!this.d.eagerSplit || this.memslots.count(vm) !== 0) return -EINVAL;
    if (bytes !== 0 && (bytes > 2 ** 30 || (bytes & (bytes - 1)) !== 0 || (bytes & SPLIT_BLOCK_SIZES) === 0)) return -EINVAL;
    this.vms.setSplitChunk(vm, bytes);
    return 0;
  }
}

/** classify: the call changes nothing and succeeds. */
const NOTHING = -1000;
