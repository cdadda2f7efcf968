/**
 * MMIO exits and their completion (arch/arm64/kvm/mmio.c; v5.4 virt/kvm/arm/mmio.c; v4.0
 * arch/arm/kvm/mmio.c): io_mem_abort hands an access to userspace, kvm_handle_mmio_return finishes it
 * at the next KVM_RUN.
 */
import { ESR_EL2, FAR_EL2, PC, X, type RegisterFile } from "../arch/registers.js";
import { ISS_CM, ISS_EA, ISS_FSC, ISS_ISV, ISS_S1PTW, ISS_WNR } from "../arch/syndrome.js";
import type { Row } from "../sim/decisions.js";
import { ENOSYS } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { faultPathDecisions } from "./decisions.js";
import type { Injector } from "./inject.js";
import { kvmMmio, kvmMmioNisv, MMIO_READ, MMIO_UNSATISFIED_READ, MMIO_WRITE } from "./trace.js";
import { KVM_EXIT_ARM_NISV, KVM_EXIT_MMIO, V_MMIO_NEEDED, type Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

const SSE = 1 << 21;
const SF = 1 << 15;

/** What userspace sees of a syndrome in a NISV exit: CM, WnR and FSC. */
const NISV_ISS = ISS_CM | ISS_WNR | ISS_FSC;

export class Mmio {
  constructor(
    private readonly sim: Sim,
    private readonly regs: RegisterFile,
    private readonly vcpus: Vcpus,
    private readonly vms: Vms,
    private readonly injector: Injector,
    private readonly d: Row<typeof faultPathDecisions>,
  ) {}

  /**
   * io_mem_abort.
   * @param ipa the full address, FAR[11:0] included
   * @returns 0: exit to userspace, 1: handled, -ENOSYS: no syndrome and nobody to ask
   */
  ioMemAbort(v: number, ipa: number): number {
    const { regs, vcpus, d } = this;
    const esr = regs.lo(v, ESR_EL2);
    if ((esr & ISS_ISV) === 0) return this.withoutSyndrome(v, ipa, esr);
    if (d.externalAbort === "mmio-decode" && (esr & ISS_EA) !== 0) {
      this.injector.abortAtFar(v, false);
      return 1;
    }
    // Up to v5.9 a stage-1 walk ends here; ISV is never set for one, so the branch is unreachable on hardware.
    if (d.s1ptwNoSlot === "mmio-decode" && (esr & ISS_S1PTW) !== 0) {
      this.injector.abortAtFar(v, false);
      return 1;
    }
    const write = (esr & ISS_WNR) !== 0;
    const len = 1 << ((esr >>> 22) & 3);
    const a = regs.pool.a;
    let lo = 0;
    let hi = 0;
    if (write) {
      const r = regs.base(v) + X + 2 * ((esr >>> 16) & 31);
      lo = cutLo(a[r]!, len);
      hi = len === 8 ? a[r + 1]! : 0;
      this.sim.bus.emit(kvmMmio, MMIO_WRITE, len, ipa, hi, lo);
    } else this.sim.bus.emit(kvmMmio, MMIO_UNSATISFIED_READ, len, ipa, 0, 0);
    vcpus.setMmio(v, ipa, len, write, hi, lo, esr);
    vcpus.setExitReason(v, KVM_EXIT_MMIO);
    vcpus.raise(v, V_MMIO_NEEDED);
    if (d.mmioPcAdvance === "decode") this.injector.incrementPc(v);
    return 0;
  }

  /** ISV = 0: the syndrome does not say what was accessed. */
  private withoutSyndrome(v: number, ipa: number, esr: number): number {
    const { regs, vcpus, d } = this;
    if (d.nisvTrace) {
      const pc = regs.base(v) + PC;
      const a = regs.pool.a;
      this.sim.bus.emit(kvmMmioNisv, a[pc + 1], a[pc], regs.hi(v, ESR_EL2), esr, regs.hi(v, FAR_EL2), regs.lo(v, FAR_EL2), ipa);
    }
    if (!d.nisvToUser || !this.vms.nisvToUser(vcpus.vm(v))) return -ENOSYS;
    this.exitNisv(v, ipa, esr);
    return 0;
  }

  /** KVM_EXIT_ARM_NISV. */
  exitNisv(v: number, ipa: number, esr: number): void {
    this.vcpus.setExitReason(v, KVM_EXIT_ARM_NISV);
    this.vcpus.setNisv(v, esr & NISV_ISS, ipa);
  }

  /** kvm_handle_mmio_return: the access of the last exit is finished with what userspace answered. */
  handleMmioReturn(v: number): void {
    const { regs, vcpus, d } = this;
    // Userspace aborted the access instead of answering it. mmio_needed stays: a KVM_RUN after immediate_exit completes it all the same.
    if (d.mmioPendingException === "skipped" && vcpus.pending(v) !== 0) return;
    if (vcpus.has(v, V_MMIO_NEEDED)) vcpus.drop(v, V_MMIO_NEEDED);
    else if (d.mmioReturn === "once") return;
    if (!vcpus.mmioIsWrite(v)) this.completeLoad(v, d.mmioDestination === "saved" ? vcpus.mmioEsr(v) : regs.lo(v, ESR_EL2));
    if (d.mmioPcAdvance === "completion") this.injector.incrementPc(v);
  }

  /** The register of a load: sign extension, cut and trace in the era's order. */
  private completeLoad(v: number, esr: number): void {
    const { regs, vcpus, d } = this;
    const len = vcpus.mmioLen(v);
    let lo = cutLo(vcpus.mmioLo(v), len);
    let hi = len === 8 ? vcpus.mmioHi(v) : 0;
    const rawLo = lo;
    const rawHi = hi;
    if ((esr & SSE) !== 0 && len < 8) {
      lo = extendLo(lo, len);
      hi = lo >> 31;
    }
    if (d.mmioTruncate && (esr & SF) === 0) hi = 0;
    if (d.mmioSignExtend === "lost") {
      // The trace shows the extended value; the guest's endianness step then masks it to the access size.
      this.sim.bus.emit(kvmMmio, MMIO_READ, len, vcpus.mmioAddress(v), hi, lo);
      lo = rawLo;
      hi = rawHi;
    } else this.sim.bus.emit(kvmMmio, MMIO_READ, len, vcpus.mmioAddress(v), rawHi, rawLo);
    const rt = (esr >>> 16) & 31;
    if (rt !== 31) regs.set64(v, X + 2 * rt, hi, lo);
  }
}

/** The low word of a value cut to 1, 2, 4 or 8 bytes. */
function cutLo(lo: number, len: number): number {
  return len === 1 ? lo & 0xff : len === 2 ? lo & 0xffff : lo;
}
/** Sign-extended to 32 bits from 1, 2 or 4 bytes. */
function extendLo(lo: number, len: number): number {
  return len === 1 ? (lo << 24) >> 24 : len === 2 ? (lo << 16) >> 16 : lo;
}
