/**
 * KVM_RUN (arch/arm64/kvm/arm.c kvm_arch_vcpu_ioctl_run, handle_exit.c, hyp/include/hyp/switch.h):
 * finish a pending MMIO access, enter the guest, take the exit apart, handle it, until something is
 * left for userspace.
 *
 * A phase ends where the kernel can be preempted: around the guest, and around every handler. While
 * agents are interleaved, each guest instruction is a phase of its own.
 */
import { READ_UNCONTAINED } from "../arch/storebuffer.js";
import { ESR_EL2, FAR_EL2, HPFAR_EL2, PC, VTTBR_EL2, X, type RegisterFile } from "../arch/registers.js";
import { RUN_BREAKPOINT, RUN_BUDGET, RUN_EL2, RUN_SELF_BRANCH, RUN_WFI } from "../arch/cpu.js";
import { isExternalAbort, ISS_FNV, ISS_FSC, ISS_S1PTW } from "../arch/syndrome.js";
import { ARG, FRAME, PHASE, R0, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EINTR, EIO, ENXIO } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import { EC_SYS64, type CacheToggle } from "./cachetoggle.js";
import type { kvmDecisions } from "./decisions.js";
import type { GuestAbort } from "./guestabort.js";
import type { Injector } from "./inject.js";
import type { Mmio } from "./mmio.js";
import type { GuestCpu, GuestPe } from "./ports.js";
import { EXIT_IRQ, EXIT_SERROR, EXIT_TRAP, exitAbandoned, kvmEntry, kvmExit, kvmHvcArm64, kvmUserspaceExit, kvmWfxArm64 } from "./trace.js";
import {
  EXIT_BUDGET,
  EXIT_SELF_BRANCH,
  EXIT_WFI,
  KVM_EXIT_DEBUG,
  KVM_EXIT_DIRTY_RING_FULL,
  KVM_EXIT_INTR,
  KVM_EXIT_MMIO,
  KVM_EXIT_SYSTEM_EVENT,
  KVM_EXIT_UNKNOWN,
  V_BUGGED,
  V_POWER_OFF,
  type Vcpus,
} from "./vcpus.js";
import type { DirtyRings } from "./dirtyring.js";
import type { Vmids } from "./vmid.js";
import { GICV_BASE, VGIC_V2_CPU_SIZE, type VgicV2 } from "./vgicv2.js";
import type { Vms } from "./vm.js";

const EC_WFX = 0x01;
const EC_HVC64 = 0x16;
const EC_SMC64 = 0x17;
const EC_IABT_LOW = 0x20;
const EC_DABT_LOW = 0x24;
const EC_BREAKPT_LOW = 0x30;

const PSCI_VERSION = 0x84000000 | 0;
const PSCI_CPU_OFF = 0x84000002 | 0;
const PSCI_SYSTEM_OFF = 0x84000008 | 0;
const PSCI_SYSTEM_RESET = 0x84000009 | 0;
const PSCI_FEATURES = 0x8400000a | 0;
const SMCCC_VERSION = 0x80000000 | 0;
const SYSTEM_EVENT_SHUTDOWN = 1;
const SYSTEM_EVENT_RESET = 2;

/** Guest instructions in one phase while nothing else can run. */
const SLICE = 65536;

const V = ARG;
/** Guest instructions and exits that may still happen. */
const INSTRUCTIONS = ARG + 1;
const EXITS = ARG + 2;
/** kvm_run.immediate_exit. */
const IMMEDIATE = ARG + 3;
const WORDS = 4;

export class VcpuRun {
  /** (v, most guest instructions or 0, most exits or 0, immediate_exit) -> R0 0 | -errno, R1 exit reason. */
  readonly activity: Activity;
  private readonly first: number;

  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly vms: Vms,
    private readonly vcpus: Vcpus,
    private readonly cpu: GuestCpu,
    private readonly pe: GuestPe,
    private readonly injector: Injector,
    private readonly mmio: Mmio,
    private readonly guestAbort: GuestAbort,
    private readonly sysregs: CacheToggle,
    private readonly vmids: Vmids,
    private readonly rings: DirtyRings,
    private readonly vgic: VgicV2,
    /** kvm_phys_addr_ioremap. */
    private readonly mapDevice: Activity,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.activity = sim.agents.activity("kvmVcpuRun", "arch/arm64/kvm/arm.c kvm_arch_vcpu_ioctl_run", WORDS, [
      ["begin", this.begin],
      ["enter", this.enter],
      ["guest", this.guest],
      ["handled", this.handled],
      ["vgicMapped", (f) => this.vgicMapped(f)],
    ]);
    this.first = this.activity.first;
  }

  /** The ioctl starts: a pending MMIO access is completed. */
  private readonly begin = (f: number): number => {
    const { sim, vcpus } = this;
    const stack = sim.agents.stack;
    const v = stack.a[f + V]! | 0;
    sim.agents.charge(sim.costs.syscall);
    if (vcpus.has(v, V_BUGGED)) return sim.agents.ret(f, -EIO, KVM_EXIT_UNKNOWN);
    const vm = vcpus.vm(v);
    if (this.vgic.unmapped(vm)) return this.mapVgic(f, vm);
    if (stack.a[f + INSTRUCTIONS] === 0) stack.set(f + INSTRUCTIONS, Infinity);
    if (stack.a[f + EXITS] === 0) stack.set(f + EXITS, Infinity);
    if (vcpus.exitReason(v) === KVM_EXIT_MMIO) this.mmio.handleMmioReturn(v);
    vcpus.setSignal(v, 0, 0, 0, 0);
    if (stack.a[f + IMMEDIATE] !== 0 && this.d.immediateExit !== "ignored") return this.immediateExit(f, v);
    vcpus.setExitReason(v, KVM_EXIT_UNKNOWN);
    return this.enter(f);
  };

  /** run->immediate_exit: the guest is not entered, and the exit reason stays what it was. */
  private immediateExit(f: number, v: number): number {
    const { vcpus } = this;
    // Where the emulator ended the last run, a signal would have.
    if (vcpus.exitReason(v) >= EXIT_BUDGET) vcpus.setExitReason(v, KVM_EXIT_INTR);
    if (this.d.immediateExit === "after-load") this.load(v);
    return this.leave(f, v, -EINTR);
  }

  /** kvm_vcpu_first_run_init, kvm_vgic_map_resources: the GICv2 CPU interface, by KVM alone. */
  private mapVgic(f: number, vm: number): number {
    const ipa = this.vgic.cpuInterface(vm);
    if (ipa < 0) return this.sim.agents.ret(f, -ENXIO, KVM_EXIT_UNKNOWN);
    return this.sim.agents.call(f, this.first + 4, this.mapDevice, vm, ipa, VGIC_V2_CPU_SIZE, GICV_BASE, 1, 0);
  }
  private vgicMapped(f: number): number {
    const s = this.sim.agents.stack.a;
    const r = s[f + R0]!;
    if (r !== 0) return this.sim.agents.ret(f, r, KVM_EXIT_UNKNOWN);
    this.vgic.setMapped(this.vcpus.vm(s[f + V]!));
    return this.begin(f);
  }

  /** The top of the loop: requests, signals, VMID; then the guest. */
  private readonly enter = (f: number): number => {
    f &= FRAME;
    const { sim, vcpus, regs } = this;
    const s = sim.agents.stack.a;
    const v = s[f + V]! | 0;
    if (vcpus.signal(v) !== 0) {
      vcpus.setExitReason(v, KVM_EXIT_INTR);
      return this.leave(f, v, -EINTR);
    }
    if (this.rings.checkRequest(v)) {
      vcpus.setExitReason(v, KVM_EXIT_DIRTY_RING_FULL);
      return this.leave(f, v, 0);
    }
    if (vcpus.has(v, V_POWER_OFF)) {
      vcpus.setExitReason(v, EXIT_WFI);
      return this.leave(f, v, 0);
    }
    if (s[f + EXITS]! <= 0) {
      vcpus.setExitReason(v, EXIT_BUDGET);
      return this.leave(f, v, 0);
    }
    this.prepare(v);
    const pc = regs.base(v) + PC;
    if (!sim.bus.unheard()) sim.bus.emit(kvmEntry, regs.pool.a[pc + 1], regs.pool.a[pc]);
    if (vcpus.needsAdjust(v)) this.injector.adjustPc(v);
    sim.agents.charge(sim.costs.eret);
    // By the loop or at once, the frame is left the same: what is left of it on the stack counts for a state's hash.
    sim.agents.stack.set(f + PHASE, this.first + 2);
    return sim.agents.straight === true ? this.first + 2 : this.guest(f);
  };

  /** The VMID update and VTTBR_EL2, after kvm_arch_vcpu_load. */
  private prepare(v: number): void {
    const { vms, vcpus, regs } = this;
    vcpus.unkick(v);
    this.load(v);
    const vm = vcpus.vm(v);
    this.vmids.update(vm);
    const at = regs.base(v) + VTTBR_EL2;
    const a = regs.pool.a;
    if (a[at] !== vms.vttbrLo(vm) || a[at + 1] !== vms.vttbrHi(vm)) regs.set64(v, VTTBR_EL2, vms.vttbrHi(vm), vms.vttbrLo(vm));
  }

  /** kvm_arch_vcpu_load when the thread arrives on a CPU or comes back to it after another vCPU's (kvm_sched_in). */
  private load(v: number): void {
    const { vcpus } = this;
    const cpu = this.sim.agents.cpu;
    if (vcpus.loadedOn(v) === cpu) return;
    if (this.sim.agents.interleaving) vcpus.schedOut(cpu);
    this.vmids.vcpuLoad(vcpus.vm(v), vcpus.index(v));
    vcpus.setLoadedOn(v, cpu);
  }

  /** Guest code runs until it needs EL2, or its slice is over. */
  private readonly guest = (f: number): number => {
    f &= FRAME;
    const { sim, vcpus } = this;
    const stack = sim.agents.stack;
    const v = stack.a[f + V]! | 0;
    const left = stack.a[f + INSTRUCTIONS]!;
    if (sim.agents.interleaving && vcpus.kicked(v)) {
      this.traceExit(v, EXIT_IRQ, 0);
      return this.enter(f);
    }
    const { hardware } = this.pe;
    if (hardware !== undefined) hardware.act(v);
    const slice = sim.agents.interleaving || hardware !== undefined ? 1 : left < SLICE ? left | 0 : SLICE;
    const reason = this.cpu.run(v, slice);
    // handle_exit_early, kvm_handle_guest_serror: what no RAS record says of the guest gets; Uncontained is the host's end.
    const serror = this.pe.takeSerror();
    if (serror !== 0) {
      this.traceExit(v, EXIT_SERROR, 0);
      if (serror === READ_UNCONTAINED) return sim.crash("arm64_serror_panic", "Asynchronous SError Interrupt");
      this.injector.serror(v);
    }
    // An exit counts too where nothing was executed before it (the fetch aborted).
    const rest = left - Math.max(this.cpu.executed, 1);
    stack.set(f + INSTRUCTIONS, rest);
    if (reason === RUN_EL2) return rest <= 0 ? this.stopped(f, v, EXIT_BUDGET) : this.exit(f, v);
    switch (reason) {
      case RUN_BUDGET:
        if (left > slice) return this.first + 2;
        return this.stopped(f, v, EXIT_BUDGET);
      case RUN_BREAKPOINT:
        this.traceExit(v, EXIT_TRAP, EC_BREAKPT_LOW);
        vcpus.setExitReason(v, KVM_EXIT_DEBUG);
        return this.leave(f, v, 0);
      case RUN_WFI:
        this.traceExit(v, EXIT_TRAP, EC_WFX);
        this.traceWfx(v, false);
        vcpus.setExitReason(v, EXIT_WFI);
        return this.leave(f, v, 0);
      case RUN_SELF_BRANCH:
        return this.stopped(f, v, EXIT_SELF_BRANCH);
      default:
        throw new Error(`the CPU stopped for an unknown reason ${reason}`);
    }
  };

  /** The run ends although the guest could go on: as if an interrupt had taken it out. */
  private stopped(f: number, v: number, reason: number): number {
    this.traceExit(v, EXIT_IRQ, 0);
    this.vcpus.setExitReason(v, reason);
    return this.leave(f, v, 0);
  }

  private traceExit(v: number, ret: number, ec: number): void {
    if (this.sim.bus.unheard()) return;
    const pc = this.regs.base(v) + PC;
    const a = this.regs.pool.a;
    this.sim.bus.emit(kvmExit, ret, ec, a[pc + 1], a[pc]);
  }

  /** fixup_guest_exit and handle_exit: an abort or trap. */
  private readonly exit = (f: number, v: number): number => {
    const { sim, regs } = this;
    const esr = regs.lo(v, ESR_EL2);
    const ec = esr >>> 26;
    sim.agents.charge(sim.costs.trap);
    if (ec === EC_DABT_LOW || ec === EC_IABT_LOW) {
      if (!this.populateFaultInfo(v, esr)) return this.first + 2;
      this.countExit(f, v, ec);
      return sim.agents.callStraight(f, this.first + 3, this.handled, this.guestAbort.activity, v);
    }
    this.countExit(f, v, ec);
    if (ec === EC_SYS64) return sim.agents.call(f, this.first + 3, this.sysregs.activity, v);
    sim.agents.stack.set(f + R0, this.handleTrap(v, ec, esr));
    return this.first + 3;
  };

  private countExit(f: number, v: number, ec: number): void {
    this.traceExit(v, EXIT_TRAP, ec);
    this.vcpus.countExit(v);
    const stack = this.sim.agents.stack;
    stack.set(f + EXITS, stack.a[f + EXITS]! - 1);
  }

  /**
   * __populate_fault_info: where the architecture leaves HPFAR_EL2 unknown the IPA is found by
   * translating FAR_EL2 again. @returns false if that fails: the guest simply re-executes
   */
  private populateFaultInfo(v: number, esr: number): boolean {
    const { regs, d } = this;
    const fsc = esr & ISS_FSC;
    const at = (regs.base(v) + HPFAR_EL2) | 0;
    const pool = regs.pool;
    // A permission fault that is not of a walk.
    if ((esr & (ISS_S1PTW | 0x3c)) === 0x0c) {
      if (!this.translateFar(v)) return false;
    } else if (d.hpfarRecompute === "when-invalid" && isExternalAbort(fsc)) {
      // __fault_safe_to_translate: after the abort of a walk, or without FAR, the IPA stays unknown.
      if ((fsc !== 0x10 && fsc !== 0x18) || (fsc === 0x10 && (esr & ISS_FNV) !== 0)) {
        pool.set(at + 1, pool.a[at + 1]! & 0x7fffffff);
        return true;
      }
      if (!this.translateFar(v)) return false;
    }
    // HPFAR_EL2.NS in the saved copy: the value is valid (v6.15+).
    if (d.hpfarRecompute === "when-invalid") pool.set(at + 1, pool.a[at + 1]! | (1 << 31));
    return true;
  }

  /** __translate_far_to_hpfar: AT S1E1R of FAR_EL2, with the guest's PAR_EL1 as it was. */
  private translateFar(v: number): boolean {
    const { regs } = this;
    const farHi = regs.hi(v, FAR_EL2);
    const farLo = regs.lo(v, FAR_EL2);
    const ipa = this.pe.translateIpa(v, farHi, farLo);
    if (ipa < 0) {
      this.sim.bus.emit(exitAbandoned, farHi, farLo);
      return false;
    }
    // PAR_TO_HPFAR: PA bits 47:12 to FIPA in bits 43:4.
    const hpfar = Math.floor(ipa / 4096) * 16;
    regs.set64(v, HPFAR_EL2, (hpfar / 4294967296) | 0, hpfar | 0);
    return true;
  }

  private traceWfx(v: number, wfe: boolean): void {
    const pc = this.regs.base(v) + PC;
    const a = this.regs.pool.a;
    this.sim.bus.emit(kvmWfxArm64, a[pc + 1], a[pc], wfe ? 1 : 0);
  }

  /** handle_trap_exceptions for what is no abort. @returns 1 or 0 */
  private handleTrap(v: number, ec: number, esr: number): number {
    switch (ec) {
      case EC_HVC64:
        return this.handleHvc(v, esr);
      case EC_SMC64:
        // SMC traps with the PC on it.
        this.regs.set64(v, X, -1, -1);
        this.injector.incrementPc(v);
        return 1;
      case EC_WFX:
        this.traceWfx(v, (esr & 1) !== 0);
        this.injector.incrementPc(v);
        if ((esr & 1) !== 0) return 1;
        this.vcpus.setExitReason(v, EXIT_WFI);
        return 0;
      default:
        // handle_unknown / kvm_handle_unknown_ec
        this.injector.undefined(v);
        return 1;
    }
  }

  /** handle_hvc: SMCCC and PSCI as far as a fault-path guest needs them; anything else is not supported. */
  private handleHvc(v: number, esr: number): number {
    const { regs, vcpus } = this;
    const pc = regs.base(v) + PC;
    const a = regs.pool.a;
    const fn = a[regs.base(v) + X]!;
    this.sim.bus.emit(kvmHvcArm64, a[pc + 1], a[pc], a[regs.base(v) + X + 1], fn, esr & 0xffff);
    switch (fn) {
      case PSCI_VERSION:
        regs.set64(v, X, 0, 0x00010001);
        return 1;
      case SMCCC_VERSION:
        regs.set64(v, X, 0, 0x00010001);
        return 1;
      case PSCI_FEATURES: {
        const asked = a[regs.base(v) + X + 2]!;
        const known = asked === PSCI_VERSION || asked === PSCI_CPU_OFF || asked === PSCI_SYSTEM_OFF || asked === PSCI_SYSTEM_RESET;
        regs.set64(v, X, known ? 0 : -1, known ? 0 : -1);
        return 1;
      }
      case PSCI_CPU_OFF:
        vcpus.raise(v, V_POWER_OFF);
        return 1;
      case PSCI_SYSTEM_OFF:
      case PSCI_SYSTEM_RESET:
        vcpus.setExitReason(v, KVM_EXIT_SYSTEM_EVENT);
        vcpus.setSystemEvent(v, fn === PSCI_SYSTEM_OFF ? SYSTEM_EVENT_SHUTDOWN : SYSTEM_EVENT_RESET);
        return 0;
      default:
        // SMCCC_RET_NOT_SUPPORTED
        regs.set64(v, X, -1, -1);
        return 1;
    }
  }

  /** A handler returned: 1 goes on, 0 and errors go to userspace. */
  private readonly handled = (f: number): number => {
    f &= FRAME;
    const s = this.sim.agents.stack.a;
    const r = s[f + R0]!;
    if (r > 0) return this.enter(f);
    return this.leave(f, s[f + V]! | 0, r);
  };

  /** KVM_RUN returns. */
  private leave(f: number, v: number, ret: number): number {
    const { sim, vcpus } = this;
    if (this.d.injectWhen === "before-exit" && vcpus.needsAdjust(v)) this.injector.adjustPc(v);
    const reason = vcpus.exitReason(v);
    if (reason < EXIT_BUDGET) sim.bus.emit(kvmUserspaceExit, reason, ret);
    // kvm_arch_vcpu_put
    this.vmids.clearActive();
    vcpus.setLoadedOn(v, -1);
    sim.agents.charge(sim.costs.userExit);
    return sim.agents.ret(f, ret, reason);
  }
}
