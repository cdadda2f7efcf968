/**
 * The end of a VM (virt/kvm/kvm_main.c kvm_destroy_vm): stage 2 goes (kvm_arch_flush_shadow_all), then
 * the memslots with their bitmaps. The MMU notifier is unregistered by its owner before.
 *
 * Up to v5.9 stage 2 is emptied with TLBIs; later the tables are freed without, and translations with the
 * VM's VMID stay in the TLBs until the VMID is used again or rolls over.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { DirtyLog } from "./dirtylog.js";
import type { Memslots } from "./memslots.js";
import type { Stage2 } from "./stage2.js";
import type { Vms } from "./vm.js";

const VM = ARG;

export class VmTeardown {
  /** kvm_destroy_vm(vm). R0: 0. */
  readonly destroyVm: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly dirtyLog: DirtyLog,
    private readonly stage2: Stage2,
  ) {
    this.destroyVm = sim.agents.activity("kvmDestroyVm", "virt/kvm/kvm_main.c kvm_destroy_vm", 1, [
      ["flush-shadow-all", (f) => this.flushShadowAll(f)],
      ["free-memslots", (f) => this.freeMemslots(f)],
    ]);
  }

  private flushShadowAll(f: number): number {
    const vm = this.sim.agents.stack.a[f + VM]!;
    const lock = this.vms.mmuLock(vm);
    if (!this.sim.locks.write(lock)) return BLOCKED;
    this.stage2.teardown(vm);
    this.sim.locks.unlockWrite(lock);
    return this.destroyVm.first + 1;
  }

  private freeMemslots(f: number): number {
    const vm = this.sim.agents.stack.a[f + VM]!;
    const m = this.memslots;
    for (let i = 0; i < m.count(vm); i++) {
      const slot = m.byGfnOrder(vm, i);
      if (m.bitmap(slot) >= 0) this.dirtyLog.free(m.bitmap(slot), m.npages(slot));
    }
    m.freeAll(vm);
    this.vms.destroyed(vm);
    return this.sim.agents.ret(f, 0);
  }
}
