/**
 * get_user_mapping_size (arch/arm64/kvm/mmu.c) step by step, while agents are interleaved: KVM walks the user's page tables under
 * mmu_lock, without mmap_lock and without the locks of those tables. Between the entry that points to a table and the entry in it
 * another CPU can take the table away; whoever announces that waits for mmu_lock. With interrupts off (userTableWalk) the table is
 * not freed before the walk has ended: neither the IPI nor the grace period that its freeing waits for comes to an end.
 */
import { ARG, RETURN, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { HostMm } from "../mmu/mm.js";
import type { kvmDecisions } from "./decisions.js";
import { userMappingSize } from "./trace.js";

const MM = ARG;
const HVA = ARG + 1;
/** The last-level entry that the walk has come to. */
const AT = ARG + 2;

export class UserTableWalk {
  /** (mm, hva) -> R0 bytes of the valid leaf, 0 without one. The caller holds mmu_lock. */
  readonly activity: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly mm: HostMm,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    this.activity = sim.agents.activity("getUserMappingSize", "arch/arm64/kvm/mmu.c get_user_mapping_size", 3, [
      ["walk", (f) => this.walk(f)],
      ["leaf", (f) => this.leaf(f)],
    ]);
  }

  private walk(f: number): number {
    const { pt } = this.mm;
    const s = this.sim.agents.stack;
    pt.walk(s.a[f + MM]!, s.a[f + HVA]!);
    if (pt.level < 3) return this.end(f, pt.leafLevel >= 0 && pt.valid ? pt.leafSize : 0);
    if (this.d.userTableWalk === "irqs-off") this.sim.interrupts.save();
    s.set(f + AT, pt.entry);
    return this.activity.first + 1;
  }

  private leaf(f: number): number {
    const { pt } = this.mm;
    const at = this.sim.agents.stack.a[f + AT]!;
    if (pt.tables.refs.a[at >> 10] === 0) {
      this.sim.crash("kvm_pgtable_get_leaf", "a page table of the host was read after it was freed");
      return RETURN;
    }
    const size = pt.leafSizeAt(at);
    if (this.d.userTableWalk === "irqs-off") this.sim.interrupts.restore();
    return this.end(f, size);
  }

  private end(f: number, size: number): number {
    this.sim.bus.emit(userMappingSize, this.sim.agents.stack.a[f + HVA]!, size);
    return this.sim.agents.ret(f, size);
  }
}
