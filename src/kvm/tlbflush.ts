/**
 * TLB invalidation by the hypervisor (arch/arm64/kvm/hyp/{vhe,nvhe}/tlb.c): each primitive with the
 * instructions in the kernel's order. All of them act on the VMID of their VM: the kernel loads the
 * VM's VTTBR_EL2 first and puts the old one back after.
 *
 * Between the invalidation of stage 2 and that of stage 1 stands a DSB: another CPU's walk could
 * otherwise build a combined entry from the old stage-2 entry after the stage-1 invalidation.
 */
import { BY_KERNEL, type CacheMaintenance } from "../arch/cachemaintenance.js";
import type { CpuFeatures } from "../arch/features.js";
import {
  DSB_ISH,
  DSB_ISHST,
  DSB_NSH,
  DSB_NSHST,
  ipaOperandLo,
  rangeOperandHi,
  rangeOperandLo,
  TLBI_ALLE1,
  TLBI_IPAS2E1,
  TLBI_IS,
  TLBI_LOCAL,
  TLBI_RIPAS2E1,
  TLBI_VMALLS12E1,
  TlbiKind,
  type TlbMaintenance,
} from "../arch/tlbi.js";
import { SINGLE_PAGE, TlbiRangeOps } from "../arch/tlbirange.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import type { Vms } from "./vm.js";

/** "No level hint" (TLBI_TTL_UNKNOWN). */
export const TTL_UNKNOWN = -1;
/** Pages of the largest single range operation (MAX_TLBI_RANGE_PAGES). */
export const MAX_TLBI_RANGE_PAGES = 2 ** 21;
/** TTL granule code of 4 KiB pages, in bits 3:2 of the field. */
const TTL_4K = 1 << 2;

export class TlbFlush {
  private readonly ops: TlbiRangeOps;

  constructor(
    private readonly sim: Sim,
    private readonly maintenance: TlbMaintenance,
    private readonly cacheOps: CacheMaintenance,
    private readonly vms: Vms,
    private readonly features: CpuFeatures,
    private readonly d: Row<typeof kvmTableDecisions>,
    fallingScales: boolean,
  ) {
    this.ops = new TlbiRangeOps(fallingScales);
  }

  /** Bits 47:44 of an operand: the level hint, where era and CPU give one. */
  private ttl(level: number): number {
    if (!this.features.ttl) return 0;
    switch (this.d.tlbiLevelHint) {
      case "none":
        return 0;
      case "nonzero":
        return level > 0 ? TTL_4K | level : 0;
      case "zero-to-three":
        return level >= 0 && level <= 3 ? TTL_4K | level : 0;
    }
  }

  /** The level hint of a single page that a range leaves over. */
  private get leftoverLevel(): number {
    return this.d.rangeTlbiLeftover === "level-0" ? 0 : TTL_UNKNOWN;
  }

  /** One TLBI by the running CPU. */
  private tlbi(op: number, vmid: number, hi: number, lo: number): void {
    this.maintenance.issue(this.sim.agents.cpu, op, vmid, hi, lo);
  }
  private readonly dsb = (type: number): void => {
    this.maintenance.dsb(this.sim.agents.cpu, type);
  };
  private isb(): void {
    this.sim.agents.charge(this.sim.costs.isb);
  }
  /** IC IALLU or IC IALLUIS: size 0 stands for everything. */
  private icAll(): void {
    this.cacheOps.icache(0, 0, BY_KERNEL);
  }

  private ipas2e1(domain: number, vmid: number, ipa: number, level: number): void {
    this.tlbi(TLBI_IPAS2E1 | domain, vmid, ((ipa / 17592186044416) & 0xff) | (this.ttl(level) << 12), ipaOperandLo(ipa));
  }

  /** The barrier that makes table writes visible before the first TLBI; nVHE folds it into the context switch. */
  private leadingBarrier(broadcast: boolean): void {
    const switched = !this.features.vhe && this.d.nvheLeadingBarrier === "context-switch";
    if (switched) this.dsb(broadcast ? DSB_ISH : DSB_NSH);
    else this.dsb(broadcast ? DSB_ISHST : DSB_NSHST);
  }

  /** __kvm_tlb_flush_vmid_ipa. @param level of the entry, or TTL_UNKNOWN */
  flushIpa(vm: number, ipa: number, level: number): void {
    const vmid = this.vms.vmid(vm);
    this.leadingBarrier(true);
    this.ipas2e1(TLBI_IS, vmid, ipa, level);
    this.dsb(DSB_ISH);
    this.tlbi(TlbiKind.Vmalle1 | TLBI_IS, vmid, 0, 0);
    this.dsb(DSB_ISH);
    this.isb();
  }

  /** __kvm_tlb_flush_vmid_ipa_nsh: this CPU only (v6.5+). */
  flushIpaLocal(vm: number, ipa: number, level: number): void {
    const vmid = this.vms.vmid(vm);
    this.leadingBarrier(false);
    this.ipas2e1(TLBI_LOCAL, vmid, ipa, level);
    this.dsb(DSB_NSH);
    this.tlbi(TlbiKind.Vmalle1 | TLBI_LOCAL, vmid, 0, 0);
    this.dsb(DSB_NSH);
    this.isb();
  }

  /** kvm_tlb_flush_vmid_range: the range with FEAT_TLBIRANGE, else the whole VMID. */
  flushRange(vm: number, ipa: number, size: number): void {
    if (!this.features.tlbiRange) return this.flushVmid(vm);
    if (size === 4096) return this.flushIpa(vm, ipa, this.leftoverLevel);
    let at = ipa;
    for (let pages = Math.ceil(size / 4096); pages > 0;) {
      const n = Math.min(pages, MAX_TLBI_RANGE_PAGES);
      this.flushPages(vm, at, n);
      at += n * 4096;
      pages -= n;
    }
  }

  /** __kvm_tlb_flush_vmid_range: RIPAS2E1IS, and IPAS2E1IS for a page by itself (__flush_s2_tlb_range_op). */
  private flushPages(vm: number, ipa: number, count: number): void {
    const { ops } = this;
    const vmid = this.vms.vmid(vm);
    this.leadingBarrier(true);
    ops.start(ipa / 4096, count);
    while (ops.next()) {
      const { page, num } = ops;
      if (num === SINGLE_PAGE) this.ipas2e1(TLBI_IS, vmid, page * 4096, this.leftoverLevel);
      else this.tlbi(TLBI_RIPAS2E1 | TLBI_IS, vmid, rangeOperandHi(page, ops.scale, num, 0, 0), rangeOperandLo(page));
    }
    this.dsb(DSB_ISH);
    this.tlbi(TlbiKind.Vmalle1 | TLBI_IS, vmid, 0, 0);
    this.dsb(DSB_ISH);
    this.isb();
  }

  /** __kvm_tlb_flush_vmid (kvm_flush_remote_tlbs). */
  flushVmid(vm: number): void {
    this.leadingBarrier(true);
    this.tlbi(TLBI_VMALLS12E1 | TLBI_IS, this.vms.vmid(vm), 0, 0);
    this.dsb(DSB_ISH);
    this.isb();
  }

  /** kvm_flush_remote_tlbs_memslot: after write-protecting a slot or part of it. */
  flushMemslot(vm: number, ipa: number, size: number): void {
    if (this.d.memslotFlush === "range") this.flushRange(vm, ipa, size);
    else this.flushVmid(vm);
  }

  /** __kvm_flush_cpu_context / __kvm_tlb_flush_local_vmid: another vCPU of the VM ran here last. */
  flushCpuContext(vm: number): void {
    this.tlbi(TlbiKind.Vmalle1 | TLBI_LOCAL, this.vms.vmid(vm), 0, 0);
    if (this.d.contextFlushIcache) this.icAll();
    this.dsb(DSB_NSH);
    this.isb();
  }

  /** __kvm_flush_vm_context: the VMIDs rolled over. */
  flushAll(): void {
    this.dsb(DSB_ISHST);
    this.tlbi(TLBI_ALLE1 | TLBI_IS, 0, 0, 0);
    if (this.d.rolloverIcache) this.icAll();
    this.dsb(DSB_ISH);
  }

  /** DSB ISHST after table writes. */
  publishTables(): void {
    this.dsb(DSB_ISHST);
  }
}
