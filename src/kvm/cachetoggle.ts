/**
 * Trapped system instructions (arch/arm64/kvm/sys_regs.c access_vm_reg, access_dcsw; mmu.c
 * kvm_toggle_cache, kvm_set_way_flush): how KVM keeps memory coherent with a guest that runs with its
 * caches off. While the guest's MMU or data cache is off its translation registers are trapped
 * (HCR_EL2.TVM); the write that switches both on, or one off, cleans and invalidates all its memory.
 */
import { EC_SYS64 } from "../arch/exception.js";
import { ESR_EL2, HCR_EL2, HCR_TVM, MAIR_EL1, PC, SCTLR_EL1, X, type RegisterFile } from "../arch/registers.js";
import { sysregByKey, sysregKey, SYSREGS } from "../arch/sysregs.js";
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { kvmDecisions } from "./decisions.js";
import type { Injector } from "./inject.js";
import type { Memslots } from "./memslots.js";
import type { Stage2 } from "./stage2.js";
import { kvmSetWayFlush, kvmToggleCache } from "./trace.js";
import type { Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

export { EC_SYS64 };

const V = ARG;
/** SCTLR_EL1.M and C. */
const CACHE_ENABLED = 5;
/** op0 of DC, IC, AT and TLBI. */
const OP0_SYS = 1;

export class CacheToggle {
  /** (v): emulates the instruction of ESR_EL2. R0: 1. */
  readonly activity: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly vms: Vms,
    private readonly vcpus: Vcpus,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly injector: Injector,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.activity = sim.agents.activity("kvmHandleSysReg", "arch/arm64/kvm/sys_regs.c kvm_handle_sys_reg", 1, [
      ["emulate", (f) => this.emulate(f)],
      ["flush", (f) => this.flush(f)],
    ]);
  }

  private enabled(v: number): boolean {
    return (this.regs.lo(v, SCTLR_EL1) & CACHE_ENABLED) === CACHE_ENABLED;
  }
  private trap(v: number, on: boolean): void {
    const lo = this.regs.lo(v, HCR_EL2);
    this.regs.set64(v, HCR_EL2, this.regs.hi(v, HCR_EL2), on ? lo | HCR_TVM : lo & ~HCR_TVM);
  }

  private emulate(f: number): number {
    const { sim, regs, injector } = this;
    const v = sim.agents.stack.a[f + V]! | 0;
    const iss = regs.lo(v, ESR_EL2) & 0x1ffffff;
    const op0 = (iss >> 20) & 3;
    const read = (iss & 1) !== 0;
    if (op0 === OP0_SYS && !read) {
      // DC ISW, CSW, CISW: access_dcsw.
      injector.incrementPc(v);
      return this.setWayFlush(f, v);
    }
    const n = sysregByKey(sysregKey(op0, (iss >> 14) & 7, (iss >> 10) & 15, (iss >> 1) & 15, (iss >> 17) & 7));
    const reg = n < 0 ? undefined : SYSREGS[n];
    if (reg === undefined || reg.slot < 0 || read) {
      injector.undefined(v);
      return sim.agents.ret(f, 1);
    }
    // access_vm_reg
    const was = this.enabled(v);
    const t = X + 2 * ((iss >> 5) & 31);
    // The RFC's mangling: whatever type the guest asks for, it gets Normal write-back. The trap stays.
    const mangle = this.d.guestMair === "write-back";
    if (mangle && reg.slot === MAIR_EL1) regs.set64(v, reg.slot, -1, -1);
    else regs.set64(v, reg.slot, regs.hi(v, t), regs.lo(v, t));
    const now = this.enabled(v);
    if (now && !mangle) this.trap(v, false);
    const pc = regs.base(v) + PC;
    sim.bus.emit(kvmToggleCache, regs.pool.a[pc + 1], regs.pool.a[pc], was ? 1 : 0, now ? 1 : 0);
    injector.incrementPc(v);
    return was === now ? sim.agents.ret(f, 1) : this.activity.first + 1;
  }

  /** The first set/way operation flushes everything and traps the registers; the later ones rely on that trap. Nothing with S2FWB. */
  private setWayFlush(f: number, v: number): number {
    const { sim, regs } = this;
    if (this.stage2.fwb || (regs.lo(v, HCR_EL2) & HCR_TVM) !== 0) return sim.agents.ret(f, 1);
    const pc = regs.base(v) + PC;
    sim.bus.emit(kvmSetWayFlush, regs.pool.a[pc + 1], regs.pool.a[pc], this.enabled(v) ? 1 : 0);
    this.trap(v, true);
    return this.activity.first + 1;
  }

  /** stage2_flush_vm: every memslot, under mmu_lock. */
  private flush(f: number): number {
    const { sim, vms, memslots } = this;
    const vm = this.vcpus.vm(sim.agents.stack.a[f + V]! | 0);
    const lock = vms.mmuLock(vm);
    if (!sim.locks.write(lock)) return BLOCKED;
    sim.locks.assertHeld(lock);
    for (let i = 0; i < memslots.count(vm); i++) {
      const slot = memslots.byGfnOrder(vm, i);
      this.stage2.flushRange(vm, memslots.baseGfn(slot) * 4096, memslots.npages(slot) * 4096);
    }
    sim.locks.unlockWrite(lock);
    return sim.agents.ret(f, 1);
  }
}
