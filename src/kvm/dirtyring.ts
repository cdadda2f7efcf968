/**
 * Dirty rings (virt/kvm/dirty_ring.c; on arm64 since v6.2): one ring of dirty guest frames per
 * vCPU, shared with the VMM. KVM pushes, the VMM harvests (sets RESET), the reset ioctl protects again.
 *
 * Per vCPU in `w`: 0 offset of its entries, 1 entries (0: no ring), 2 dirty_index, 3 reset_index,
 * 4 soft limit, 5 KVM_REQ_DIRTY_RING_SOFT_FULL, 6 VM + 1. Entries: flags and slot, and the page offset.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { E2BIG, EINVAL } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { Memslots } from "./memslots.js";
import type { Stage2 } from "./stage2.js";
import { kvmDirtyRingExit, kvmDirtyRingPush, kvmDirtyRingReset } from "./trace.js";
import type { Vms } from "./vm.js";

export const KVM_DIRTY_GFN_F_DIRTY = 1;
export const KVM_DIRTY_GFN_F_RESET = 2;
/** sizeof(struct kvm_dirty_gfn) */
export const DIRTY_GFN_BYTES = 16;
const RESERVED_ENTRIES = 64;
const MAX_ENTRIES = 65536;

const OFFSET = 0;
const ENTRIES = 1;
const DIRTY_INDEX = 2;
const RESET_INDEX = 3;
const SOFT_LIMIT = 4;
const SOFT_FULL = 5;
const VM = 6;
const WORDS = 8;

/** Frame of resetDirtyPages: the VM; then the next vCPU, the count. */
const F_VM = ARG;
const F_VCPU = ARG + 1;
const F_CLEARED = ARG + 2;

/** A harvested entry, as the VMM reads it. */
export interface DirtyGfn {
  readonly slot: number;
  readonly offset: number;
}

export class DirtyRings {
  private readonly w: I32Pool;
  private readonly entries: I32Pool;
  private readonly offsets: F64Pool;
  /** [0] entries in use over all rings, [1] vCPUs with a record. */
  private readonly meta: I32Pool;
  /** KVM_RESET_DIRTY_RINGS(vm). R0: entries that were reset, or -EINVAL without rings. */
  readonly resetDirtyPages: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
  ) {
    this.w = sim.state.i32("kvm.rings", WORDS);
    this.entries = sim.state.i32("kvm.rings.entries", 2);
    this.offsets = sim.state.f64("kvm.rings.offsets", 1);
    this.meta = sim.state.i32("kvm.rings.meta", 2);
    this.resetDirtyPages = sim.agents.activity("kvmVmIoctlResetDirtyPages", "virt/kvm/kvm_main.c kvm_vm_ioctl_reset_dirty_pages", 3, [
      ["lock", (f) => this.start(f)],
      ["ring", (f) => this.resetRing(f)],
      ["flush", (f) => this.finish(f)],
    ]);
  }

  /**
   * KVM_CAP_DIRTY_LOG_RING / _ACQ_REL: rings of so many bytes, once, before the first vCPU.
   * @returns 0, -EINVAL, -E2BIG beyond 65536 entries
   */
  enable(vm: number, bytes: number): number {
    if (bytes <= 0 || !Number.isInteger(Math.log2(bytes))) return -EINVAL;
    if (bytes < RESERVED_ENTRIES * DIRTY_GFN_BYTES || bytes < 4096) return -EINVAL;
    if (bytes > MAX_ENTRIES * DIRTY_GFN_BYTES) return -E2BIG;
    if (this.vms.ringSize(vm) !== 0 || this.vms.createdVcpus(vm) !== 0) return -EINVAL;
    this.vms.setRing(vm, bytes, false);
    return 0;
  }

  /** KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: after the rings, before the first memslot. */
  enableWithBitmap(vm: number): number {
    if (this.vms.ringSize(vm) === 0 || this.memslots.count(vm) !== 0) return -EINVAL;
    this.vms.setRing(vm, this.vms.ringSize(vm), true);
    return 0;
  }

  /** kvm_dirty_ring_alloc at vCPU creation; nothing where the VM has no rings. @param v machine-wide vCPU number */
  createForVcpu(vm: number, v: number): void {
    const n = this.vms.ringSize(vm) / DIRTY_GFN_BYTES;
    this.w.ensure((v + 1) * WORDS);
    if (this.meta.a[1]! <= v) this.meta.set(1, v + 1);
    const at = v * WORDS;
    this.w.set(at + VM, vm + 1);
    if (n === 0) return;
    const offset = this.meta.a[0]!;
    this.meta.set(0, offset + n);
    this.entries.ensure(2 * (offset + n));
    this.offsets.ensure(offset + n);
    this.w.set(at + OFFSET, offset);
    this.w.set(at + ENTRIES, n);
    this.w.set(at + SOFT_LIMIT, n - RESERVED_ENTRIES);
  }

  /** True if the vCPU has a ring. */
  has(v: number): boolean {
    return v >= 0 && (this.w.a[Math.imul(v, WORDS) + ENTRIES] ?? 0) !== 0;
  }
  /** Entries pushed and not yet reset. */
  used(v: number): number {
    return (this.w.a[v * WORDS + DIRTY_INDEX]! - this.w.a[v * WORDS + RESET_INDEX]!) >>> 0;
  }

  /** True if a ring of the VM has an entry for a page that was pushed and is not reset yet, collected or not. */
  holds(vm: number, slot: number, offset: number): boolean {
    const w = this.w.a;
    for (let v = 0; v < this.meta.a[1]!; v++) {
      const at = v * WORDS;
      if (w[at + VM] !== vm + 1 || !this.has(v)) continue;
      for (let i = w[at + RESET_INDEX]!; i !== w[at + DIRTY_INDEX]!; i = (i + 1) | 0) {
        const e = w[at + OFFSET]! + (i & (w[at + ENTRIES]! - 1));
        if (this.entries.a[2 * e + 1] === slot && this.offsets.a[e] === offset) return true;
      }
    }
    return false;
  }

  /** kvm_dirty_ring_push. @param slot number of the ioctl @param offset page in the slot */
  push(v: number, slot: number, offset: number): void {
    const at = v * WORDS;
    const dirty = this.w.a[at + DIRTY_INDEX]!;
    const e = this.w.a[at + OFFSET]! + (dirty & (this.w.a[at + ENTRIES]! - 1));
    this.entries.set(2 * e + 1, slot);
    this.offsets.set(e, offset);
    this.entries.set(2 * e, KVM_DIRTY_GFN_F_DIRTY);
    this.w.set(at + DIRTY_INDEX, dirty + 1);
    this.sim.bus.emit(kvmDirtyRingPush, v, (dirty + 1) >>> 0, this.w.a[at + RESET_INDEX]! >>> 0, slot, offset);
    if (this.used(v) >= this.w.a[at + SOFT_LIMIT]!) this.w.set(at + SOFT_FULL, 1);
  }

  /** kvm_dirty_ring_check_request: before guest entry. @returns true if KVM_RUN must end with KVM_EXIT_DIRTY_RING_FULL */
  checkRequest(v: number): boolean {
    if (!this.has(v)) return false;
    const at = v * WORDS;
    if (this.w.a[at + SOFT_FULL] === 0) return false;
    if (this.used(v) < this.w.a[at + SOFT_LIMIT]!) {
      this.w.set(at + SOFT_FULL, 0);
      return false;
    }
    this.sim.bus.emit(kvmDirtyRingExit, v);
    return true;
  }

  /** The VMM collects a ring: reads the dirty entries and marks them for reset. @param limit at most so many */
  harvest(v: number, limit = Infinity): DirtyGfn[] {
    const out: DirtyGfn[] = [];
    const at = v * WORDS;
    const n = this.w.a[at + ENTRIES] ?? 0;
    const first = this.w.a[at + RESET_INDEX] ?? 0;
    for (let i = first; i - first < n && out.length < limit; i++) {
      const e = this.w.a[at + OFFSET]! + (i & (n - 1));
      const flags = this.entries.a[2 * e]!;
      if ((flags & KVM_DIRTY_GFN_F_RESET) !== 0) continue;
      if ((flags & KVM_DIRTY_GFN_F_DIRTY) === 0) break;
      out.push({ slot: this.entries.a[2 * e + 1]!, offset: this.offsets.a[e]! });
      this.entries.set(2 * e, KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET);
    }
    return out;
  }

  // ------------------------------------------------------------------------------ reset

  private start(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + F_VM]!;
    if (this.vms.ringSize(vm) === 0) return agents.ret(f, -EINVAL);
    if (!locks.write(this.vms.slotsLock(vm))) return BLOCKED;
    s.set(f + F_VCPU, 0);
    s.set(f + F_CLEARED, 0);
    return this.resetDirtyPages.first + 1;
  }

  /** kvm_dirty_ring_reset of one vCPU, under mmu_lock. */
  private resetRing(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + F_VM]!;
    const v = s.a[f + F_VCPU]!;
    if (v >= this.meta.a[1]!) return this.resetDirtyPages.first + 2;
    if (this.w.a[v * WORDS + VM] === vm + 1 && this.has(v)) {
      const lock = this.vms.mmuLock(vm);
      if (!this.sim.locks.write(lock)) return BLOCKED;
      const n = this.reset(vm, v);
      this.sim.locks.unlockWrite(lock);
      s.set(f + F_CLEARED, s.a[f + F_CLEARED]! + n);
    }
    s.set(f + F_VCPU, v + 1);
    return this.resetDirtyPages.first + 1;
  }

  private finish(f: number): number {
    const { agents, locks } = this.sim;
    const vm = agents.stack.a[f + F_VM]!;
    const cleared = agents.stack.a[f + F_CLEARED]!;
    locks.unlockWrite(this.vms.slotsLock(vm));
    if (cleared > 0) this.stage2.flushRemoteTlbs(vm);
    return agents.ret(f, cleared);
  }

  /** Walks the harvested entries; neighbours within 64 pages of one slot become one write-protection. */
  private reset(vm: number, v: number): number {
    const at = v * WORDS;
    const n = this.w.a[at + ENTRIES]!;
    let slot = -1;
    let offset = 0;
    // Bits of the mask as the lowest (0) and highest offset from `offset`; only those ends matter.
    let highest = 0;
    let count = 0;
    for (;;) {
      const index = this.w.a[at + RESET_INDEX]!;
      const e = this.w.a[at + OFFSET]! + (index & (n - 1));
      if ((this.entries.a[2 * e]! & KVM_DIRTY_GFN_F_RESET) === 0) break;
      const nextSlot = this.entries.a[2 * e + 1]!;
      const nextOffset = this.offsets.a[e]!;
      this.entries.set(2 * e, 0);
      this.w.set(at + RESET_INDEX, index + 1);
      count++;
      if (slot === nextSlot) {
        const delta = nextOffset - offset;
        if (delta >= 0 && delta < 64) {
          highest = Math.max(highest, delta);
          continue;
        }
        if (delta < 0 && delta > -64 && highest - delta < 64) {
          highest -= delta;
          offset = nextOffset;
          continue;
        }
      }
      if (slot >= 0) this.resetGfns(vm, slot, offset, highest);
      slot = nextSlot;
      offset = nextOffset;
      highest = 0;
    }
    if (slot >= 0) this.resetGfns(vm, slot, offset, highest);
    this.sim.bus.emit(kvmDirtyRingReset, v, this.w.a[at + DIRTY_INDEX]! >>> 0, this.w.a[at + RESET_INDEX]! >>> 0);
    return count;
  }

  /** kvm_reset_dirty_gfn: protects from the lowest to the highest collected page. */
  private resetGfns(vm: number, id: number, offset: number, highest: number): void {
    const slot = this.memslots.byId(vm, id);
    if (slot < 0 || offset + highest >= this.memslots.npages(slot)) return;
    this.stage2.wrprotectRange(vm, (this.memslots.baseGfn(slot) + offset) * 4096, (highest + 1) * 4096);
  }
}
