/**
 * The end of a VM (virt/kvm/kvm_main.c kvm_destroy_vm), when its file and those of its vCPUs are closed: the MMU notifier is
 * unregistered (mm/mmu_notifier.c mmu_notifier_unregister: its release callback, which frees stage 2, then nobody may be telling it
 * any more); in v4.0 kvm_arch_destroy_vm frees stage 2; the memslots go with their bitmaps.
 *
 * Up to v5.9 stage 2 is emptied with TLBIs; later the tables are freed without, and translations with the
 * VM's VMID stay in the TLBs until the VMID is used again or rolls over.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { MmuNotifiers } from "../mmu/notifiers.js";
import type { DirtyLog } from "./dirtylog.js";
import type { Memslots } from "./memslots.js";
import type { KvmNotifier } from "./notifier.js";
import type { Stage2 } from "./stage2.js";
import type { Vms } from "./vm.js";

const VM = ARG;

const UNHASH = 1;
const SYNCHRONIZE = 2;
const DESTROY = 3;

export class VmTeardown {
  /** kvm_destroy_vm(vm). R0: 0. */
  readonly destroyVm: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly dirtyLog: DirtyLog,
    private readonly stage2: Stage2,
    private readonly notifiers: MmuNotifiers,
    private readonly notifier: KvmNotifier,
  ) {
    this.destroyVm = sim.agents.activity("kvmDestroyVm", "virt/kvm/kvm_main.c kvm_destroy_vm", 1, [
      ["unregister", (f) => this.unregister(f)],
      ["unhash", (f) => this.unhash(f)],
      ["synchronize-srcu", () => this.synchronizeSrcu()],
      ["destroy", (f) => this.destroy(f)],
    ]);
  }

  private unregister(f: number): number {
    const { agents } = this.sim;
    const vm = agents.stack.a[f + VM]!;
    this.vms.close(vm);
    // Its address space has ended and dropped the subscription.
    if (this.notifier.subscription(this.notifiers, vm) < 0) return this.destroyVm.first + SYNCHRONIZE;
    return agents.call(f, this.destroyVm.first + UNHASH, this.notifier.release, this.vms.mm(vm), vm);
  }

  private unhash(f: number): number {
    const subscription = this.notifier.subscription(this.notifiers, this.sim.agents.stack.a[f + VM]!);
    if (subscription >= 0) this.notifiers.unregister(subscription);
    return this.destroyVm.first + SYNCHRONIZE;
  }

  private synchronizeSrcu(): number {
    return this.notifiers.walked ? BLOCKED : this.destroyVm.first + DESTROY;
  }

  /** kvm_arch_destroy_vm, kvm_free_memslots. */
  private destroy(f: number): number {
    const vm = this.sim.agents.stack.a[f + VM]!;
    const m = this.memslots;
    this.stage2.teardown(vm);
    for (let i = 0; i < m.count(vm); i++) {
      const slot = m.byGfnOrder(vm, i);
      if (m.bitmap(slot) >= 0) this.dirtyLog.free(m.bitmap(slot), m.npages(slot));
    }
    m.freeAll(vm);
    this.vms.destroyed(vm);
    return this.sim.agents.ret(f, 0);
  }
}
