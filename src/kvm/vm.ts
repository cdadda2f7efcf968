/**
 * VMs (struct kvm, struct kvm_arch, struct kvm_s2_mmu): identity, address space, geometry and root of
 * stage 2, locks, the MMU-notifier counts, SRCU readers and the switches that ioctls set.
 *
 * One record per VM in two pools:
 *
 * word             | meaning                       double  | meaning
 * 0 STATE          | 0 free, 1 alive, 2 gone, 3 closed 0 ROOT  | PA of the entry level, 0 torn down
 * 1 MM             | the VMM's address space       1 SEQ   | mmu_notifier_seq / mmu_invalidate_seq
 * 2 IPA_BITS       |                               2 RING  | dirty ring size in bytes, 0 off
 * 3, 4 VTCR        | VTCR_EL2 low, high            3 CHUNK | eager split chunk in bytes, 0 off
 * 5 START_LEVEL    |                               4 GENERATION | memslot generation
 * 6 ROOT_PAGES     | concatenated pages            5 VMID_GENERATION
 * 7 VMID           | hardware VMID, 0 none yet     6 IPA_SIZE | bytes: 2^IPA_BITS
 * 8 IN_PROGRESS    | mmu_notifier_count / mmu_invalidate_in_progress
 * 9 MN_ACTIVE      | mn_active_invalidate_count
 * 10 SRCU_INDEX    | index that new SRCU readers take
 * 11, 12 SRCU_READERS | readers of each index
 * 13 MMU_LOCK, 14 SLOTS_LOCK | lock numbers
 * 15 MANUAL_PROTECT | KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE 1, KVM_DIRTY_LOG_INITIALLY_SET 2
 * 16 NISV_TO_USER, 17 MTE, 18 RING_BITMAP, 19 CREATED_VCPUS, 20 SPLIT_CACHE (pages in the eager split cache)
 *
 * and VTTBR_EL2, low and high, in a third, which every guest entry compares.
 */
import type { CpuFeatures } from "../arch/features.js";
import type { TablePages } from "../arch/tables.js";
import type { Row } from "../sim/decisions.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import { ipaBitsOfType, ipaLimit, stage2Geometry, vtcr, type Stage2Geometry } from "./stage2geometry.js";

export const vmCreated = declareEvent("faultline", "vm_created", "KVM_CREATE_VM made a VM", [
  { name: "vm", kind: "dec" },
  { name: "ipa_bits", kind: "dec" },
  { name: "vtcr", kind: "hex64" },
  { name: "root", kind: "hex" },
]);
export const vmDestroyed = declareEvent("faultline", "vm_destroyed", "the last reference to a VM is gone", [{ name: "vm", kind: "dec" }]);

const STATE = 0;
const ALIVE = 1;
const DESTROYED = 2;
const CLOSED = 3;
const MM = 1;
const IPA_BITS = 2;
const VTCR_LO = 3;
const VTCR_HI = 4;
const START_LEVEL = 5;
const ROOT_PAGES = 6;
const VMID = 7;
const IN_PROGRESS = 8;
const MN_ACTIVE = 9;
const SRCU_INDEX = 10;
const SRCU_READERS = 11;
const MMU_LOCK = 13;
const SLOTS_LOCK = 14;
const MANUAL_PROTECT = 15;
const NISV_TO_USER = 16;
const MTE = 17;
const RING_BITMAP = 18;
const CREATED_VCPUS = 19;
const SPLIT_CACHE = 20;
const WORDS = 24;

const ROOT = 0;
const SEQ = 1;
const RING = 2;
const CHUNK = 3;
const GENERATION = 4;
const VMID_GENERATION = 5;
const IPA_SIZE = 6;
const DOUBLES = 8;

export class Vms {
  private readonly w: I32Pool;
  private readonly f: F64Pool;
  /** Per VM: VTTBR_EL2, low and high word: of ROOT and VMID. */
  private readonly vttbr: I32Pool;
  /** [0] VMs ever created. */
  private readonly total: I32Pool;
  /** Locks by VM number, made once: a VM that is created again after a rollback gets the same ones. */
  private readonly mmuLocks: number[] = [];
  private readonly slotsLocks: number[] = [];
  /** Bits; the host's limit of IPA sizes: kvm_ipa_limit. */
  readonly ipaLimit: number;

  constructor(
    private readonly sim: Sim,
    private readonly tables: TablePages,
    private readonly features: CpuFeatures,
    private readonly d: Row<typeof kvmTableDecisions>,
  ) {
    this.w = sim.state.i32("kvm.vms", WORDS);
    this.f = sim.state.f64("kvm.vms.wide", DOUBLES);
    this.total = sim.state.i32("kvm.vms.count", 1);
    this.vttbr = sim.state.i32("kvm.vms.vttbr", 2);
    this.ipaLimit = ipaLimit(features, d.stage2Lpa2);
  }

  /**
   * KVM_CREATE_VM.
   * @param mm the address space of the caller
   * @param type the ioctl's argument: low 8 bits the IPA size, 0 for 40 bits
   * @returns the VM's number, or -EINVAL (see ipaBitsOfType)
   */
  create(mm: number, type = 0): number {
    const bits = ipaBitsOfType(type, this.ipaLimit, {
      fromArgument: this.d.ipaSize === "type-argument",
      defaultMustFit: this.d.ipaDefaultBelowLimit === "einval",
    });
    if (bits < 0) return bits;
    const geometry = stage2Geometry(bits);
    const vm = this.total.a[0]!;
    this.total.set(0, vm + 1);
    this.w.ensure((vm + 1) * WORDS);
    this.f.ensure((vm + 1) * DOUBLES);
    this.vttbr.ensure((vm + 1) * 2);
    const [hi, lo] = vtcr(geometry, {
      paBits: this.features.paBits,
      hardwareAccessFlag: this.hardwareAccessFlag(),
      lpa2: this.d.stage2Lpa2 && this.features.lpa2,
      vmid16: this.features.vmidBits === 16,
    });
    const w = Math.imul(vm, WORDS);
    this.w.set(w + STATE, ALIVE);
    this.w.set(w + MM, mm);
    this.w.set(w + IPA_BITS, bits);
    this.w.set(w + VTCR_LO, lo);
    this.w.set(w + VTCR_HI, hi);
    this.w.set(w + START_LEVEL, geometry.startLevel);
    this.w.set(w + ROOT_PAGES, geometry.rootPages);
    this.w.set(w + MMU_LOCK, lockOf(this.sim, this.mmuLocks, vm, "mmu_lock"));
    this.w.set(w + SLOTS_LOCK, lockOf(this.sim, this.slotsLocks, vm, "slots_lock"));
    this.f.set(Math.imul(vm, DOUBLES) + IPA_SIZE, 2 ** bits);
    this.setRoot(vm, this.tables.allocContiguous(geometry.rootPages));
    this.sim.bus.emit(vmCreated, vm, bits, hi, lo, this.root(vm));
    return vm;
  }

  private hardwareAccessFlag(): boolean {
    const rule = this.d.vtcrHardwareAccessFlag;
    return rule !== "never" && (rule !== "if-implemented" || this.features.hafdbs);
  }

  get count(): number {
    return this.total.a[0]!;
  }
  /** There is such a VM, also one whose end is under way. */
  alive(vm: number): boolean {
    const state = this.w.a[Math.imul(vm, WORDS) + STATE]!;
    return state === ALIVE || state === CLOSED;
  }
  /** There is a file of it: ioctls reach it. @param vm any number */
  open(vm: number): boolean {
    return vm >= 0 && vm < this.count && this.w.a[Math.imul(vm, WORDS) + STATE] === ALIVE;
  }
  /** The last file of it is closed. */
  close(vm: number): void {
    this.w.set(Math.imul(vm, WORDS) + STATE, CLOSED);
  }
  mm(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + MM]!;
  }
  ipaBits(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + IPA_BITS]!;
  }
  /** kvm_phys_size() */
  ipaSize(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + IPA_SIZE]!;
  }
  vtcrLo(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + VTCR_LO]!;
  }
  vtcrHi(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + VTCR_HI]!;
  }
  startLevel(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + START_LEVEL]!;
  }
  rootPages(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + ROOT_PAGES]!;
  }
  /** Table pages that one fault can need below the entry level: kvm_mmu_cache_min_pages. */
  cacheMinPages(vm: number): number {
    return (3 - this.w.a[Math.imul(vm, WORDS) + START_LEVEL]!) | 0;
  }
  geometry(vm: number): Stage2Geometry {
    return stage2Geometry(this.ipaBits(vm));
  }
  /** PA of the entry level; 0 after it was torn down (kvm->arch.pgd == NULL). */
  root(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + ROOT]!;
  }
  /** The entry level is gone: stage2.teardown alone calls this. */
  dropRoot(vm: number): void {
    this.setRoot(vm, 0);
  }
  private setRoot(vm: number, root: number): void {
    this.f.set(Math.imul(vm, DOUBLES) + ROOT, root);
    this.setVttbr(vm);
  }
  mmuLock(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + MMU_LOCK]!;
  }
  slotsLock(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + SLOTS_LOCK]!;
  }

  // VTTBR_EL2 and VMID

  vmid(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + VMID]!;
  }
  vmidGeneration(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + VMID_GENERATION]!;
  }
  /** Written by vmid.ts alone. */
  setVmid(vm: number, vmid: number, generation: number): void {
    this.w.set(Math.imul(vm, WORDS) + VMID, vmid);
    this.f.set(Math.imul(vm, DOUBLES) + VMID_GENERATION, generation);
    this.setVttbr(vm);
  }
  /** The VMID in bits 63:48, the root's address below. */
  private setVttbr(vm: number): void {
    const root = this.root(vm);
    this.vttbr.set2(vm * 2, root | 0, (this.vmid(vm) << 16) | ((root / 4294967296) | 0));
  }
  vttbrHi(vm: number): number {
    return this.vttbr.a[(vm << 1) + 1]!;
  }
  vttbrLo(vm: number): number {
    return this.vttbr.a[vm << 1]!;
  }

  // MMU-notifier counts

  /** Where the sequence count of a VM lies in the pool kvm.vms.wide: only whether it is what a fault has read matters, not how often it moved. */
  seqWord(vm: number): number {
    return Math.imul(vm, DOUBLES) + SEQ;
  }
  /** mmu_notifier_seq (up to v5.19) / mmu_invalidate_seq. */
  seq(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + SEQ]!;
  }
  bumpSeq(vm: number): void {
    this.f.set(Math.imul(vm, DOUBLES) + SEQ, this.f.a[Math.imul(vm, DOUBLES) + SEQ]! + 1);
  }
  /** mmu_notifier_count / mmu_invalidate_in_progress. */
  inProgress(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + IN_PROGRESS]!;
  }
  addInProgress(vm: number, n: number): void {
    this.w.set(Math.imul(vm, WORDS) + IN_PROGRESS, this.w.a[Math.imul(vm, WORDS) + IN_PROGRESS]! + n);
  }
  /** mn_active_invalidate_count (v5.15+): between range_start and range_end of any invalidation. */
  mnActive(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + MN_ACTIVE]!;
  }
  addMnActive(vm: number, n: number): void {
    this.w.set(Math.imul(vm, WORDS) + MN_ACTIVE, this.w.a[Math.imul(vm, WORDS) + MN_ACTIVE]! + n);
  }

  // SRCU of the memslots (kvm->srcu)

  /** srcu_read_lock(): returns the index to give back. */
  srcuReadLock(vm: number): number {
    const w = Math.imul(vm, WORDS);
    const index = this.w.a[w + SRCU_INDEX]!;
    const at = (w + SRCU_READERS + index) | 0;
    this.w.set(at, (this.w.a[at]! + 1) | 0);
    return index;
  }
  srcuReadUnlock(vm: number, index: number): void {
    const at = (Math.imul(vm, WORDS) + SRCU_READERS + index) | 0;
    this.w.set(at, (this.w.a[at]! - 1) | 0);
  }
  /** First half of synchronize_srcu(): later readers take the other index. @returns the index to wait for. */
  srcuFlip(vm: number): number {
    const at = Math.imul(vm, WORDS) + SRCU_INDEX;
    const old = this.w.a[at]!;
    this.w.set(at, old ^ 1);
    return old;
  }
  /** Readers of an index that are still inside. */
  srcuReaders(vm: number, index: number): number {
    return this.w.a[Math.imul(vm, WORDS) + SRCU_READERS + index]!;
  }

  // memslot generation

  generation(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + GENERATION]!;
  }
  /** Written by memslots.ts alone. */
  setGeneration(vm: number, generation: number): void {
    this.f.set(Math.imul(vm, DOUBLES) + GENERATION, generation);
  }

  // switches

  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: bit 0 enable, bit 1 initially-all-set. */
  manualProtect(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + MANUAL_PROTECT]!;
  }
  setManualProtect(vm: number, flags: number): void {
    this.w.set(Math.imul(vm, WORDS) + MANUAL_PROTECT, flags);
  }
  /** kvm_dirty_log_manual_protect_and_init_set() */
  initiallySet(vm: number): boolean {
    return this.d.dirtyInitiallySet && this.manualProtect(vm) === 3;
  }
  nisvToUser(vm: number): boolean {
    return this.w.a[Math.imul(vm, WORDS) + NISV_TO_USER] !== 0;
  }
  setNisvToUser(vm: number, on: boolean): void {
    this.w.set(Math.imul(vm, WORDS) + NISV_TO_USER, on ? 1 : 0);
  }
  mte(vm: number): boolean {
    return this.w.a[Math.imul(vm, WORDS) + MTE] !== 0;
  }
  setMte(vm: number, on: boolean): void {
    this.w.set(Math.imul(vm, WORDS) + MTE, on ? 1 : 0);
  }
  createdVcpus(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + CREATED_VCPUS]!;
  }
  /** A vCPU was created. @returns its index in the VM. */
  addVcpu(vm: number): number {
    const n = this.createdVcpus(vm);
    this.w.set(Math.imul(vm, WORDS) + CREATED_VCPUS, n + 1);
    return n;
  }
  /** Bytes of each vCPU's dirty ring, 0 off. */
  ringSize(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + RING]!;
  }
  ringWithBitmap(vm: number): boolean {
    return this.w.a[Math.imul(vm, WORDS) + RING_BITMAP] !== 0;
  }
  /** Written by dirtyring.ts alone. */
  setRing(vm: number, bytes: number, withBitmap: boolean): void {
    this.f.set(Math.imul(vm, DOUBLES) + RING, bytes);
    this.w.set(Math.imul(vm, WORDS) + RING_BITMAP, withBitmap ? 1 : 0);
  }
  /** kvm_use_dirty_bitmap() */
  usesBitmap(vm: number): boolean {
    return this.ringSize(vm) === 0 || this.ringWithBitmap(vm);
  }
  /** mmu.split_page_chunk_size in bytes. */
  splitChunk(vm: number): number {
    return this.f.a[Math.imul(vm, DOUBLES) + CHUNK]!;
  }
  setSplitChunk(vm: number, bytes: number): void {
    this.f.set(Math.imul(vm, DOUBLES) + CHUNK, bytes);
  }
  /** Pages in mmu.split_page_cache. */
  splitCache(vm: number): number {
    return this.w.a[Math.imul(vm, WORDS) + SPLIT_CACHE]!;
  }
  setSplitCache(vm: number, pages: number): void {
    this.w.set(Math.imul(vm, WORDS) + SPLIT_CACHE, pages);
  }

  /** kvm_destroy_vm, after stage 2 and the memslots were freed. @throws Error if the VM is not alive. */
  destroyed(vm: number): void {
    if (!this.alive(vm)) throw new Error(`VM ${vm} is not alive`);
    this.w.set(Math.imul(vm, WORDS) + STATE, DESTROYED);
    this.sim.bus.emit(vmDestroyed, vm);
  }
}

/** The lock of a VM, created at its first use. */
function lockOf(sim: Sim, locks: number[], vm: number, name: string): number {
  return (locks[vm] ??= sim.locks.create(vm === 0 ? name : `${name}:${vm}`));
}
