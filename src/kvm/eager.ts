/**
 * Eager mapping of device memory at memslot creation (kvm_phys_addr_ioremap, v4.0 - v5.12): a PFNMAP
 * VMA in a new slot is mapped into stage 2 page by page, Device-nGnRE, before the guest touches it.
 *
 * The page is found by arithmetic on vm_pgoff; the host page tables are not consulted.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { HostMm } from "../mmu/mm.js";
import type { kvmDecisions } from "./decisions.js";
import { STAGE2_CRASHED, type Stage2 } from "./stage2.js";
import { eagerMap, PROT_DEVICE, PROT_IOMAP, PROT_R, PROT_W } from "./trace.js";
import type { Vms } from "./vm.js";

const PAGE = 4096;

const VM = ARG;
const IPA = ARG + 1;
const SIZE = ARG + 2;
/** vm_pgoff and the offset in the VMA, as an address. */
const PA = ARG + 3;
const WRITABLE = ARG + 4;
const HVA = ARG + 5;
const CACHE = ARG + 6;
/** Bytes done. */
const DONE = ARG + 7;
const WORDS = 8;

export class EagerMapping {
  /** (vm, ipa, size, pa by arithmetic, writable 0|1, hva) -> R0 0 | -errno: one PFNMAP VMA, or its part in the slot. */
  readonly activity: Activity;
  private readonly first: number;
  /** The cache that every call uses and leaves empty, made at the first call. [0] its number + 1. */
  private readonly cacheOf: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly mm: HostMm,
    private readonly vms: Vms,
    private readonly stage2: Stage2,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.cacheOf = sim.state.i32("kvm.eager", 1);
    this.activity = sim.agents.activity("kvmPhysAddrIoremap", "virt/kvm/arm/mmu.c kvm_phys_addr_ioremap", WORDS, [
      ["begin", (f) => this.begin(f)],
      ["page", (f) => this.page(f)],
    ]);
    this.first = this.activity.first;
  }

  private begin(f: number): number {
    const stack = this.sim.agents.stack;
    const s = stack.a;
    this.sim.bus.emit(eagerMap, s[f + IPA], s[f + SIZE], s[f + PA], s[f + WRITABLE]);
    if (this.cacheOf.a[0] === 0) this.cacheOf.set(0, this.stage2.caches.create() + 1);
    stack.set(f + CACHE, this.cacheOf.a[0]! - 1);
    return this.first + 1;
  }

  /** vm_pgoff + offset, or (proposed in Dec 2019) what the host page table holds: -1 for nothing there. */
  private physical(f: number): number {
    const s = this.sim.agents.stack.a;
    // Without a host address it is KVM's own mapping (GICv2 CPU interface): there is nothing to look up.
    if (this.d.eagerTranslation === "vm-pgoff" || s[f + HVA] === 0) return s[f + PA]! + s[f + DONE]!;
    const pfn = this.mm.gup.followPfnmap(this.vms.mm(s[f + VM]!), s[f + HVA]! + s[f + DONE]!);
    return pfn < 0 ? -1 : pfn * PAGE;
  }

  /** One page: the cache is filled, mmu_lock taken for this page alone. */
  private page(f: number): number {
    const { sim, vms, stage2, d } = this;
    const stack = sim.agents.stack;
    const s = stack.a;
    const vm = s[f + VM]!;
    const cache = s[f + CACHE]!;
    const lock = vms.mmuLock(vm);
    let prot = PROT_R | PROT_DEVICE;
    if (s[f + WRITABLE] !== 0) prot |= PROT_W;
    if (d.mapCode === "set") prot |= PROT_IOMAP;
    while (s[f + DONE]! < s[f + SIZE]!) {
      stage2.caches.topup(cache, vms.cacheMinPages(vm));
      if (!sim.locks.write(lock)) return BLOCKED;
      const pa = this.physical(f);
      const r = pa < 0 ? 0 : stage2.install(vm, cache, (s[f + IPA]! + s[f + DONE]!) / PAGE, PAGE, pa / PAGE, prot);
      sim.locks.unlockWrite(lock);
      if (r === STAGE2_CRASHED) return -1;
      if (r !== 0) return this.finish(f, r);
      stack.set(f + DONE, s[f + DONE]! + PAGE);
      // Others may run between two pages.
      if (sim.agents.interleaving) return this.first + 1;
    }
    return this.finish(f, 0);
  }

  private finish(f: number, r: number): number {
    this.stage2.caches.free(this.sim.agents.stack.a[f + CACHE]!);
    return this.sim.agents.ret(f, r);
  }
}
