/**
 * VMIDs: the tag of a VM's translations in the TLBs.
 *
 * Up to v5.17 (virt/kvm/arm/arm.c update_vmid, arch/arm64/kvm/arm.c): VMIDs are handed out in turn,
 * with a generation; when they run out everybody starts a new generation. From v5.18
 * (arch/arm64/kvm/vmid.c): a bitmap like that of the ASIDs, where VMIDs that are active on a CPU
 * survive a rollover.
 */
import type { CpuFeatures } from "../arch/features.js";
import type { TablePages } from "../arch/tables.js";
import type { Row } from "../sim/decisions.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import type { TlbFlush } from "./tlbflush.js";
import type { Vms } from "./vm.js";

export const vmidAllocated = declareEvent("faultline", "vmid_allocated", "a VM got a VMID", [
  { name: "vm", kind: "dec" },
  { name: "vmid", kind: "dec" },
  { name: "generation", kind: "dec" },
]);
export const vmidRollover = declareEvent("faultline", "vmid_rollover", "the VMIDs ran out: a new generation, all translations go", [
  { name: "generation", kind: "dec" },
]);

/** meta: the next VMID (generation allocator, 0: none left) or cur_idx (ASID style). */
const NEXT = 0;

export class Vmids {
  private readonly meta: I32Pool;
  /** [0] the current generation. */
  private readonly generations: F64Pool;
  /** ASID style: one bit per VMID in use in this generation. */
  private readonly map: I32Pool;
  /** Per CPU: active VMID and its generation, reserved VMID. */
  private readonly active: I32Pool;
  private readonly activeGeneration: F64Pool;
  private readonly reserved: I32Pool;
  /** Per VM and CPU: index + 1 of the vCPU that ran there last. */
  private readonly lastRan: I32Pool;
  /** Takes every vCPU out of its guest. */
  forceVmExit: (() => void) | undefined;
  private readonly total: number;
  private readonly asidStyle: boolean;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly tables: TablePages,
    private readonly tlb: TlbFlush,
    features: CpuFeatures,
    private readonly d: Row<typeof kvmTableDecisions>,
    private readonly cpus: number,
  ) {
    this.total = 2 ** features.vmidBits;
    this.asidStyle = d.vmidAllocator === "asid-style";
    this.meta = sim.state.i32("kvm.vmid.meta", 1);
    this.generations = sim.state.f64("kvm.vmid.generation", 1);
    this.map = sim.state.i32("kvm.vmid.map", this.asidStyle ? this.total / 32 : 1);
    this.active = sim.state.i32("kvm.vmid.active", cpus);
    this.activeGeneration = sim.state.f64("kvm.vmid.active.generation", cpus);
    this.reserved = sim.state.i32("kvm.vmid.reserved", cpus);
    this.lastRan = sim.state.i32("kvm.vmid.lastran", cpus);
    this.generations.set(0, 1);
    this.meta.set(NEXT, 1);
    // VMID 0 belongs to the host.
    if (this.asidStyle) this.map.set(0, 1);
  }

  /** update_vmid / kvm_arm_vmid_update: before guest entry. @returns true if the VM's VMID changed: load VTTBR_EL2 again */
  update(vm: number): boolean {
    const current = this.vms.vmid(vm) !== 0 && this.vms.vmidGeneration(vm) === this.generations.a[0];
    if (!this.asidStyle) {
      if (current) return false;
      this.next(vm);
      return true;
    }
    const cpu = this.sim.agents.cpu;
    if (current) {
      if (this.active.a[cpu] !== this.vms.vmid(vm)) this.activate(cpu, vm);
      return false;
    }
    const before = this.vms.vmid(vm);
    this.allocate(vm);
    this.activate(cpu, vm);
    return this.vms.vmid(vm) !== before;
  }

  private activate(cpu: number, vm: number): void {
    this.active.set(cpu, this.vms.vmid(vm));
    this.activeGeneration.set(cpu, this.vms.vmidGeneration(vm));
  }

  private give(vm: number, vmid: number): void {
    const generation = this.generations.a[0]!;
    this.vms.setVmid(vm, vmid, generation);
    // What a TLB holds under the number is another VM's, if anything.
    this.tables.suspect();
    this.sim.bus.emit(vmidAllocated, vm, vmid, generation);
  }

  /** The generation allocator: in turn; at the end every CPU leaves its guest and all translations go. */
  private next(vm: number): void {
    if (this.meta.a[NEXT] === 0) {
      this.rollover();
      this.meta.set(NEXT, 1);
    }
    const vmid = this.meta.a[NEXT]!;
    this.give(vm, vmid);
    this.meta.set(NEXT, (vmid + 1) % this.total);
  }

  private rollover(): void {
    const generation = this.generations.a[0]! + 1;
    this.generations.set(0, generation);
    this.sim.bus.emit(vmidRollover, generation);
    // force_vm_exit: no guest of the old generation goes on. The ASID-style allocator sends no interrupt: what is active is reserved.
    if (!this.asidStyle) this.forceVmExit?.();
    this.tlb.flushAll();
  }

  private used(vmid: number): boolean {
    return (this.map.a[vmid >>> 5]! & (1 << (vmid & 31))) !== 0;
  }
  private use(vmid: number): void {
    this.map.set(vmid >>> 5, this.map.a[vmid >>> 5]! | (1 << (vmid & 31)));
  }

  /** new_vmid(): the old number again if it was reserved or is still free, else the next free one. */
  private allocate(vm: number): void {
    const old = this.vms.vmid(vm);
    if (old !== 0 && this.takeReserved(old)) return this.give(vm, old);
    if (old !== 0 && !this.used(old)) {
      this.use(old);
      return this.give(vm, old);
    }
    let vmid = this.findFree(Math.max(1, this.meta.a[NEXT]!));
    if (vmid === this.total) {
      this.flushContext();
      vmid = this.findFree(1);
    }
    this.use(vmid);
    this.meta.set(NEXT, vmid);
    this.give(vm, vmid);
  }

  /** check_update_reserved_vmid */
  private takeReserved(vmid: number): boolean {
    for (let cpu = 0; cpu < this.cpus; cpu++) if (this.reserved.a[cpu] === vmid) return true;
    return false;
  }

  private findFree(from: number): number {
    let vmid = from;
    while (vmid < this.total && this.used(vmid)) vmid++;
    return vmid;
  }

  /** flush_context(): a new generation in which the VMIDs active on a CPU stay reserved. */
  private flushContext(): void {
    for (let i = 0; i < this.map.a.length; i++) if (this.map.a[i] !== 0) this.map.set(i, 0);
    this.use(0);
    for (let cpu = 0; cpu < this.cpus; cpu++) {
      const vmid = this.active.a[cpu] !== 0 ? this.active.a[cpu]! : this.reserved.a[cpu]!;
      this.active.set(cpu, 0);
      if (vmid > 0) this.use(vmid);
      this.reserved.set(cpu, vmid);
    }
    this.rollover();
  }

  /** kvm_arm_vmid_clear_active: the vCPU leaves this CPU, its VMID need not be reserved. */
  clearActive(): void {
    if (this.asidStyle) this.active.set(this.sim.agents.cpu, -1);
  }

  /**
   * kvm_arch_vcpu_load: if another vCPU of the VM ran on this CPU last, the CPU's private translations go
   * (both share the VMID, but not their stage-1 tables).
   * @param index the vCPU's index in its VM
   */
  vcpuLoad(vm: number, index: number): void {
    if (!this.d.contextFlush) return;
    const at = vm * this.cpus + this.sim.agents.cpu;
    this.lastRan.ensure(at + 1);
    const last = this.lastRan.a[at]! - 1;
    if (last === index) return;
    if (last >= 0) this.tlb.flushCpuContext(vm);
    this.lastRan.set(at, index + 1);
  }

  get generation(): number {
    return this.generations.a[0]!;
  }
}
