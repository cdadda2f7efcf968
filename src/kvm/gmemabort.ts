/**
 * gmem_abort (arch/arm64/kvm/mmu.c, v6.18 on): the fault on a memslot that is backed by a guest_memfd. There is no VMA and no
 * host address in it: the file gives the page, and a page is what is mapped.
 */
import type { CpuFeatures } from "../arch/features.js";
import { ARG, BLOCKED, FRAME, R0, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EAGAIN, ENOMEM } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { HostMm } from "../mmu/mm.js";
import type { kvmDecisions } from "./decisions.js";
import type { DirtyLog } from "./dirtylog.js";
import type { GuestMemfd } from "./guestmemfd.js";
import type { Memslots } from "./memslots.js";
import { KVM_MEM_READONLY } from "./ports.js";
import type { Stage2 } from "./stage2.js";
import { branchTaken, decisionTaken, internNames, mmuRetry, PROT_R, PROT_W, PROT_X, type Names } from "./trace.js";
import { FAULT_EXEC, FAULT_PERMISSION } from "./usermemabort.js";
import type { Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

const V = ARG;
const IPA = ARG + 1;
const SLOT = ARG + 2;
const KIND = ARG + 3;
/** The sequence count that the fault has read; the page. */
const SEQ = ARG + 4;
const PFN = ARG + 5;
const WORDS = 6;

const NAMES = [
  "gmem_abort",
  "the file gives no page",
  "invalidation raced",
  "mapped",
  "relaxed",
  "gmemPermissionFault",
  "map",
  "relax",
] as const;

export class GmemAbort {
  /** (v, ipa, slot, FAULT_*) -> R0 0 | -errno, with KVM_EXIT_MEMORY_FAULT. */
  readonly activity: Activity;
  private readonly first: number;
  private readonly n: Names<(typeof NAMES)[number]>;

  constructor(
    private readonly sim: Sim,
    private readonly features: CpuFeatures,
    private readonly mm: HostMm,
    private readonly vms: Vms,
    private readonly vcpus: Vcpus,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly dirtyLog: DirtyLog,
    private readonly files: GuestMemfd,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.n = internNames(sim.bus, NAMES);
    this.activity = sim.agents.activity("gmemAbort", "arch/arm64/kvm/mmu.c gmem_abort", WORDS, [
      ["getPfn", this.getPfn],
      ["install", this.install],
      ["installed", this.installed],
    ]);
    this.first = this.activity.first;
  }

  /** The table cache, the sequence, the page. */
  private readonly getPfn = (f: number): number => {
    f &= FRAME;
    const { sim, vms, vcpus } = this;
    const s = sim.agents.stack;
    const v = s.a[f + V]! | 0;
    const vm = vcpus.vm(v);
    const permission = (s.a[f + KIND]! & FAULT_PERMISSION) !== 0;
    if (!(permission && this.d.gmemPermissionFault === "relax"))
      if (this.stage2.caches.topup(vcpus.memcache(v), vms.cacheMinPages(vm)) !== 0) return sim.agents.ret(f, -ENOMEM);
    s.set(f + SEQ, vms.seq(vm));
    const ipa = s.a[f + IPA]!;
    const pfn = this.files.getPfn(s.a[f + SLOT]! | 0, ipa / 4096);
    if (pfn < 0) {
      this.branch(this.n["the file gives no page"]);
      vcpus.setMemoryFault(v, ipa);
      return sim.agents.ret(f, pfn);
    }
    s.set(f + PFN, pfn);
    return sim.agents.go(f, this.first + 1, this.install);
  };

  /** Under mmu_lock for reading: map, or from v7.1 on relax. */
  private readonly install = (f: number): number => {
    f &= FRAME;
    const { sim, vms, n, stage2 } = this;
    const s = sim.agents.stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    if (!sim.locks.read(vms.mmuLock(vm))) return BLOCKED;
    if ((vms.inProgress(vm) !== 0 || vms.seq(vm) !== s[f + SEQ]!) && this.d.invalidateRetry === "check") {
      sim.bus.emit(mmuRetry, vm, s[f + SEQ]!, vms.seq(vm), vms.inProgress(vm));
      this.branch(n["invalidation raced"]);
      return this.unlock(f, -EAGAIN);
    }
    const kind = s[f + KIND]! | 0;
    const ipa = s[f + IPA]!;
    const pfn = s[f + PFN]!;
    let prot = PROT_R;
    if (this.writable(s[f + SLOT]! | 0)) prot |= PROT_W;
    if ((kind & FAULT_EXEC) !== 0 || this.features.dic) prot |= PROT_X;
    const permission = (kind & FAULT_PERMISSION) !== 0;
    if (permission) sim.bus.emit(decisionTaken, n.gmemPermissionFault, n[this.d.gmemPermissionFault]);
    const relax = permission && this.d.gmemPermissionFault === "relax";
    this.branch(relax ? n.relaxed : n.mapped);
    const cache = this.vcpus.memcache(v);
    if (sim.agents.interleaving) {
      const walk = relax ? stage2.steps.relax : stage2.steps.map;
      return sim.agents.call(f, this.first + 2, walk, vm, cache, ipa, 4096, pfn * 4096, prot);
    }
    return this.unlock(f, relax ? stage2.relax(vm, ipa, prot) : stage2.install(vm, cache, ipa / 4096, 4096, pfn, prot));
  };

  /** The walk has ended that went step by step. */
  private readonly installed = (f: number): number => {
    return this.unlock(f, this.sim.agents.stack.a[f + R0]!);
  };

  private writable(slot: number): boolean {
    return (this.memslots.flags(slot) & KVM_MEM_READONLY) === 0;
  }

  /** kvm_release_faultin_page under the lock; the dirty log after it. -EAGAIN is a retry: 0. */
  private unlock(f: number, ret: number): number {
    const { sim, vms } = this;
    const { frames } = this.mm;
    const s = sim.agents.stack.a;
    const v = s[f + V]! | 0;
    const vm = this.vcpus.vm(v);
    const slot = s[f + SLOT]! | 0;
    const pfn = s[f + PFN]!;
    const writable = this.writable(slot);
    if (ret === 0 && writable) frames.setDirty(pfn);
    frames.put(pfn);
    sim.locks.unlockRead(vms.mmuLock(vm));
    if (ret === 0 && writable) this.dirtyLog.markPageDirty(vm, slot, s[f + IPA]! / 4096, v);
    return sim.agents.ret(f, ret === -EAGAIN ? 0 : ret);
  }

  private branch(name: number): void {
    this.sim.bus.emit(branchTaken, this.n.gmem_abort, name);
  }
}
