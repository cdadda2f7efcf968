/**
 * KVM: the parts of src/kvm wired together, and its ioctls.
 *
 * vm.ts, memslots.ts, stage2.ts, dirtylog.ts … hold the tables; vcpurun.ts, guestabort.ts,
 * usermemabort.ts, gfntopfn.ts are the way of an abort through the kernel; notifier.ts answers the
 * host's memory management.
 */
import type { Cpu } from "../arch/cpu.js";
import type { CpuFeatures } from "../arch/features.js";
import type { Pe } from "../arch/pe.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { MachineProfile } from "../arch/profile.js";
import {
  HCR_AMO,
  HCR_EL2,
  HCR_FB,
  HCR_FMO,
  HCR_FWB_HI,
  HCR_IMO,
  HCR_PTW,
  HCR_TEA_HI,
  HCR_RW,
  HCR_SWIO,
  HCR_TSC,
  HCR_TSW,
  HCR_TVM,
  HCR_TWI,
  HCR_VM,
  VTCR_EL2,
  type RegisterFile,
} from "../arch/registers.js";
import type { TablePages } from "../arch/tables.js";
import type { HostMm } from "../mmu/mm.js";
import { ARG, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EINVAL } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { CacheToggle } from "./cachetoggle.js";
import { Caps } from "./caps.js";
import type { kvmDecisions } from "./decisions.js";
import { DirtyLog } from "./dirtylog.js";
import { DirtyRings } from "./dirtyring.js";
import { EagerMapping } from "./eager.js";
import { GfnToPfn } from "./gfntopfn.js";
import { GmemAbort } from "./gmemabort.js";
import { GuestMemfd } from "./guestmemfd.js";
import { GuestAbort } from "./guestabort.js";
import { Injector } from "./inject.js";
import { Memslots } from "./memslots.js";
import { Mmio } from "./mmio.js";
import { KvmNotifier } from "./notifier.js";
import { S1Walk } from "./s1walk.js";
import { SetMemoryRegion } from "./setmemoryregion.js";
import { Stage2Dump } from "./ptdump.js";
import { Stage2 } from "./stage2.js";
import { UserMemAbort } from "./usermemabort.js";
import { UserTableWalk } from "./usertablewalk.js";
import { VmTeardown } from "./vmteardown.js";
import { VcpuRun } from "./vcpurun.js";
import { V_MMIO_NEEDED, Vcpus } from "./vcpus.js";
import { Vmids } from "./vmid.js";
import { VgicV2 } from "./vgicv2.js";
import { Vms } from "./vm.js";

/** No address space of the model's. */
const OTHER_PROCESS = -1;

export class Kvm {
  readonly vms: Vms;
  readonly vcpus: Vcpus;
  readonly memslots: Memslots;
  readonly stage2: Stage2;
  readonly dirtyLog: DirtyLog;
  readonly rings: DirtyRings;
  readonly caps: Caps;
  readonly injector: Injector;
  readonly mmio: Mmio;
  readonly pfns: GfnToPfn;
  readonly guestMemfd: GuestMemfd;
  readonly userMemAbort: UserMemAbort;
  readonly guestAbort: GuestAbort;
  readonly notifier: KvmNotifier;
  readonly eager: EagerMapping;
  /** The GICv2 CPU interface. */
  readonly vgic: VgicV2;
  readonly vmids: Vmids;
  /** What debugfs shows, and more. */
  readonly dump: Stage2Dump;
  private readonly regions: SetMemoryRegion;
  private readonly runs: VcpuRun;
  /** (count) -> R0 0: so many VMs of other processes come and go. */
  readonly otherVms: Activity;
  private readonly teardown: VmTeardown;
  /** [0] the VM that stands for those of other processes + 1. */
  private readonly other: I32Pool;
  private readonly cpus: number;

  constructor(
    private readonly sim: Sim,
    phys: PhysicalMemory,
    tables: TablePages,
    pe: Pe,
    cpu: Cpu,
    private readonly regs: RegisterFile,
    private readonly features: CpuFeatures,
    private readonly mm: HostMm,
    readonly d: Row<typeof kvmDecisions>,
    profile: MachineProfile,
  ) {
    this.cpus = pe.tlbs.cpus;
    this.vms = new Vms(sim, tables, features, d);
    this.vcpus = new Vcpus(sim, regs, features);
    this.memslots = new Memslots(sim, this.vms, d);
    const falling = mm.d.tlbiRangeScale === "falling";
    this.stage2 = new Stage2(sim, tables, this.vms, pe.maintenance, features, d, mm.frames, pe.cacheOps, falling);
    this.vmids = new Vmids(sim, this.vms, tables, this.stage2.tlb, features, d, this.cpus);
    this.vmids.forceVmExit = () => this.vcpus.kickAll();
    this.dump = new Stage2Dump(this.stage2.entries, tables, this.vms, d);
    this.rings = new DirtyRings(sim, this.vms, this.memslots, this.stage2);
    this.dirtyLog = new DirtyLog(sim, this.vms, this.memslots, this.stage2, this.rings, d);
    this.guestMemfd = new GuestMemfd(sim, this.vms, this.memslots, this.stage2, mm, d);
    this.regions = new SetMemoryRegion(sim, this.vms, this.memslots, this.dirtyLog, this.stage2, mm, features, this.guestMemfd, d);
    this.eager = new EagerMapping(sim, mm, this.vms, this.stage2, d);
    this.regions.eagerMap = this.eager.activity;
    this.caps = new Caps(
      sim,
      this.vms,
      features,
      {
        enableDirtyRing: (vm, bytes) => this.rings.enable(vm, bytes),
        enableRingBitmap: (vm) => this.rings.enableWithBitmap(vm),
        setSplitChunk: (vm, bytes) => this.regions.setSplitChunk(vm, bytes),
      },
      d,
    );
    const s1walk = new S1Walk(regs, this.vcpus, this.vms, this.memslots, mm.pt, phys);
    this.injector = new Injector(sim, regs, features, this.vcpus, this.vms, s1walk, d);
    this.mmio = new Mmio(sim, regs, this.vcpus, this.vms, this.injector, d);
    this.pfns = new GfnToPfn(sim, mm, d);
    this.userMemAbort = new UserMemAbort(
      sim,
      regs,
      features,
      profile,
      mm,
      this.vms,
      this.vcpus,
      this.memslots,
      this.stage2,
      this.dirtyLog,
      this.pfns,
      new UserTableWalk(sim, mm, d),
      d,
    );
    this.guestAbort = new GuestAbort(
      sim,
      regs,
      this.vms,
      this.vcpus,
      this.memslots,
      this.stage2,
      this.injector,
      this.mmio,
      this.userMemAbort,
      new GmemAbort(sim, features, mm, this.vms, this.vcpus, this.memslots, this.stage2, this.dirtyLog, this.guestMemfd, d),
      this.caps,
      mm.ghes,
      d,
    );
    this.notifier = new KvmNotifier(sim, this.vms, this.memslots, this.stage2, features, d);
    this.teardown = new VmTeardown(sim, this.vms, this.memslots, this.dirtyLog, this.stage2, mm.notifiers, this.notifier);
    this.other = sim.state.i32("kvm.vms.other", 1);
    this.otherVms = sim.agents.activity("otherVms", "virt/kvm/kvm_main.c VMs of other processes", 1, [["enter", (f) => this.otherVm(f)]]);
    this.vgic = new VgicV2(sim, phys, this.vms);
    this.runs = new VcpuRun(
      sim,
      regs,
      this.vms,
      this.vcpus,
      cpu,
      pe,
      this.injector,
      this.mmio,
      this.guestAbort,
      new CacheToggle(sim, regs, this.vms, this.vcpus, this.memslots, this.stage2, this.injector, d),
      this.vmids,
      this.rings,
      this.vgic,
      this.eager.activity,
      d,
    );
  }

  // ---------------------------------------------------------------------------------- activities

  /** KVM_SET_USER_MEMORY_REGION: (vm, slot, flags, guest_phys_addr, memory_size, userspace_addr) -> R0 0 | -errno. */
  get setUserMemoryRegion(): Activity {
    return this.regions.setUserMemoryRegion;
  }
  /** What KVM_SET_USER_MEMORY_REGION2 has beyond those arguments: for the next call of `setUserMemoryRegion` on an agent. */
  guestMemfdRegion(agent: number, fd: number, offset: number): void {
    this.regions.guestMemfdRegion(agent, fd, offset);
  }
  /** KVM_RUN: (vcpu, most guest instructions or 0, most exits or 0) -> R0 0 | -errno, R1 exit reason. On the vCPU's own agent. */
  get run(): Activity {
    return this.runs.activity;
  }
  /** KVM_GET_DIRTY_LOG: (vm, slot) -> R0 0 | -errno; then `dirtyPages`. */
  get getDirtyLog(): Activity {
    return this.dirtyLog.getDirtyLog;
  }
  /** KVM_CLEAR_DIRTY_LOG: (vm, slot, first page, pages, masked) -> R0 0 | -errno. */
  get clearDirtyLog(): Activity {
    return this.dirtyLog.clearDirtyLog;
  }
  /** KVM_RESET_DIRTY_RINGS: (vm) -> R0 entries reset | -errno. */
  get resetDirtyRings(): Activity {
    return this.rings.resetDirtyPages;
  }

  /** kvm_destroy_vm: (vm) -> R0 0. Nobody has a file of the VM or of its vCPUs any more. */
  get destroyVm(): Activity {
    return this.teardown.destroyVm;
  }

  /**
   * kvm_phys_addr_ioremap: (vm, ipa, size, pa, writable 0|1) -> R0 0 | -errno. Device memory that KVM itself puts into
   * stage 2, with no memslot and no VMA, such as the GICv2 CPU interface. Present in every era.
   */
  get physAddrIoremap(): Activity {
    return this.eager.activity;
  }

  /** Agents take turns: see Agents.interleaving. Each guest instruction is a phase of its own then. */
  get interleave(): boolean {
    return this.sim.agents.interleaving;
  }
  set interleave(on: boolean) {
    this.sim.agents.interleaving = on;
  }

  // ----------------------------------------------------------------------------------- plain calls

  /** KVM_CREATE_VM. @param mm the caller's address space @param type IPA size in bits, 0 for 40 @returns the VM or -errno */
  createVm(mm: number, type = 0): number {
    const vm = this.vms.create(mm, type);
    if (vm >= 0) this.notifier.register(this.mm.notifiers, vm);
    return vm;
  }

  /** True if the thread of one of a VM's vCPUs is in KVM_RUN, which holds a reference. */
  running(vm: number): boolean {
    for (let v = 0; v < this.vcpus.count; v++) if (this.vcpus.vm(v) === vm && this.sim.agents.busy(this.vcpus.agent(v))) return true;
    return false;
  }

  /**
   * A VM of another process comes and goes on the running CPU: it enters its guest once. What stays is the VMID that it took, so
   * one record stands for all of them.
   */
  private otherVm(f: number): number {
    const { agents } = this.sim;
    const left = agents.stack.a[f + ARG]!;
    if (left <= 0) return agents.ret(f, 0);
    agents.stack.set(f + ARG, left - 1);
    let vm = this.other.a[0]! - 1;
    if (vm < 0) {
      vm = this.vms.create(OTHER_PROCESS);
      this.stage2.teardown(vm);
      this.vms.destroyed(vm);
      this.other.set(0, vm + 1);
    }
    this.vms.setVmid(vm, 0, 0);
    this.vmids.update(vm);
    this.vmids.clearActive();
    return this.otherVms.first;
  }

  /** KVM_CREATE_VCPU and KVM_ARM_VCPU_INIT. The vCPU gets an agent of its own. @returns its number or -errno */
  createVcpu(vm: number): number {
    if (!this.vms.open(vm)) return -EINVAL;
    const { regs, sim, vms, d } = this;
    const v = regs.count;
    const agent = sim.agents.add(`vcpu${v}`, "vcpu", v % this.cpus);
    this.vcpus.add(vm, vms.addVcpu(vm), agent, this.stage2.caches.create(), d.guestCtr === "sanitised");
    this.rings.createForVcpu(vm, v);
    let hcr = HCR_VM | HCR_SWIO | HCR_FMO | HCR_IMO | HCR_AMO | HCR_FB | HCR_TWI | HCR_TSC | HCR_TSW | HCR_RW;
    if (d.hcrPtw) hcr |= HCR_PTW;
    if (d.trapVmRegisters === "always" || !this.stage2.fwb || d.guestMair === "write-back") hcr |= HCR_TVM;
    const hi = (this.stage2.fwb ? HCR_FWB_HI : 0) | (d.hcrTea && this.features.ras ? HCR_TEA_HI : 0);
    regs.set64(v, HCR_EL2, hi, hcr);
    regs.set64(v, VTCR_EL2, vms.vtcrHi(vm), vms.vtcrLo(vm));
    return v;
  }

  /** The agent that runs a vCPU. */
  vcpuAgent(v: number): number {
    return this.vcpus.agent(v);
  }

  /** KVM_CHECK_EXTENSION on a VM. */
  checkExtension(_vm: number, cap: number): number {
    return this.caps.checkExtension(cap);
  }
  /** KVM_ENABLE_CAP on a VM. */
  enableCap(vm: number, cap: number, arg: number): number {
    return this.caps.enableCap(vm, cap, arg);
  }
  /** What the last KVM_GET_DIRTY_LOG of a slot copied: page numbers in the slot. */
  dirtyPages(vm: number, slot: number): number[] {
    return this.dirtyLog.pages(vm, slot);
  }

  /**
   * KVM_SET_VCPU_EVENTS (__kvm_arm_vcpu_set_events): an SError, or an external data abort at FAR_EL2.
   * @returns 0, or -EINVAL for an external abort where the kernel does not know it (before v5.5)
   */
  setVcpuEvents(v: number, externalDataAbort: boolean, serror: boolean): number {
    const { d, injector } = this;
    if (externalDataAbort && !d.injectDabtCap) return -EINVAL;
    if (d.vcpuEvents === "pended") {
      if (serror) injector.serror(v);
      if (externalDataAbort) injector.abortAtFar(v, false);
      return 0;
    }
    if (externalDataAbort) injector.abortAtFar(v, false);
    this.commitPendingEvents(v);
    if (serror) injector.serror(v);
    this.commitPendingEvents(v);
    return 0;
  }
  /** commit_pending_events. */
  private commitPendingEvents(v: number): void {
    if (this.vcpus.pending(v) === 0) return;
    this.vcpus.drop(v, V_MMIO_NEEDED);
    this.injector.adjustPc(v);
  }

  /** debugfs stage2_page_tables of a VM; empty where the kernel has none. */
  ptdump(vm: number): string {
    return this.dump.ptdump(vm).join("\n");
  }
  /** The memslots, under the name that the snapshot uses. */
  get slots(): Memslots {
    return this.memslots;
  }
}
