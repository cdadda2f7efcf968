/** Stage 2, memslots and dirty logging on a bare machine: no guest, no processing element, no host mm. */
import { cpuProfile, customProfile, type FeatureOverrides } from "../../src/arch/features.js";
import { CacheMaintenance } from "../../src/arch/cachemaintenance.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { TablePages } from "../../src/arch/tables.js";
import { Tlbs } from "../../src/arch/tlb.js";
import { TlbMaintenance } from "../../src/arch/tlbi.js";
import { eraRow } from "../../src/eras.js";
import { DirtyLog } from "../../src/kvm/dirtylog.js";
import { DirtyRings } from "../../src/kvm/dirtyring.js";
import { Memslots } from "../../src/kvm/memslots.js";
import { Stage2Dump } from "../../src/kvm/ptdump.js";
import { SetMemoryRegion, type SlotHost } from "../../src/kvm/setmemoryregion.js";
import { Stage2 } from "../../src/kvm/stage2.js";
import { Vms } from "../../src/kvm/vm.js";
import { KvmNotifier } from "../../src/kvm/notifier.js";
import { MmuNotifiers } from "../../src/mmu/notifiers.js";
import { VmTeardown } from "../../src/kvm/vmteardown.js";
import { Vmids } from "../../src/kvm/vmid.js";
import type { Activity } from "../../src/sim/agents.js";
import type { EventRecord } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";

/** RAM of the fixture; page frames outside have no struct page. */
export const RAM = 0x4000_0000;
export const RAM_SIZE = 0x8000_0000;
/** A BAR outside RAM. */
export const BAR = 0x80_0000_0000;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

export interface FixtureVma {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
  readonly pageProt?: number;
}

export interface FixtureOptions {
  readonly cpu?: string;
  readonly features?: FeatureOverrides;
  readonly set?: Readonly<Record<string, string>>;
  readonly type?: number;
}

/** No guest_memfd is there: EBADF. */
const NO_FILES = { bind: () => -9, gmemOnly: () => false };

export class Fixture {
  readonly sim = new Sim();
  readonly features;
  readonly row;
  readonly phys;
  readonly tables;
  readonly tlbs;
  readonly vms;
  readonly stage2;
  readonly memslots;
  readonly rings;
  readonly dirtyLog;
  readonly regions;
  readonly vmids;
  readonly teardown;
  readonly dump;
  readonly vm: number;
  readonly cache: number;
  readonly vmas: FixtureVma[] = [];
  readonly mmapLock: number;
  readonly events: EventRecord[] = [];

  constructor(
    readonly era: string,
    options: FixtureOptions = {},
  ) {
    const base = cpuProfile(options.cpu ?? "max");
    this.features = options.features === undefined ? base : customProfile(base, options.features);
    this.row = eraRow(era, options.set ?? {});
    const d = this.row.kvm;
    const { sim, features } = this;
    sim.agents.add("vmm", "vmm", 0);
    sim.agents.add("other", "vmm", 1);
    this.phys = new PhysicalMemory(sim, { ramBase: RAM, ramSize: RAM_SIZE });
    this.tables = new TablePages(sim, this.phys, { base: RAM + RAM_SIZE, size: 0x1000_0000 });
    this.tlbs = new Tlbs(sim, 2);
    const maintenance = new TlbMaintenance(sim, this.tlbs, features);
    this.vms = new Vms(sim, this.tables, features, d);
    const frames = { pfnValid: (pfn: number) => pfn * 4096 >= RAM && pfn * 4096 < RAM + RAM_SIZE };
    this.stage2 = new Stage2(
      sim,
      this.tables,
      this.vms,
      maintenance,
      features,
      d,
      frames,
      new CacheMaintenance(sim, this.phys, features),
      this.row.mm.tlbiRangeScale === "falling",
    );
    this.memslots = new Memslots(sim, this.vms, d);
    this.rings = new DirtyRings(sim, this.vms, this.memslots, this.stage2);
    this.dirtyLog = new DirtyLog(sim, this.vms, this.memslots, this.stage2, this.rings, d);
    this.mmapLock = sim.locks.create("mmap_lock");
    this.regions = new SetMemoryRegion(sim, this.vms, this.memslots, this.dirtyLog, this.stage2, this.host(), features, NO_FILES, d);
    const notifiers = new MmuNotifiers(sim);
    const notifier = new KvmNotifier(sim, this.vms, this.memslots, this.stage2, features, d);
    this.teardown = new VmTeardown(sim, this.vms, this.memslots, this.dirtyLog, this.stage2, notifiers, notifier);
    this.vmids = new Vmids(sim, this.vms, this.tables, this.stage2.tlb, features, d, 2);
    this.dump = new Stage2Dump(this.stage2.entries, this.tables, this.vms, d);
    this.vm = this.vms.create(0, options.type ?? 0);
    notifier.register(notifiers, this.vm);
    this.cache = this.stage2.caches.create();
    this.vmids.update(this.vm);
  }

  private host(): SlotHost {
    const at = (v: number) => this.vmas[v]!;
    return {
      vmas: {
        findVma: (_mm, addr) => this.vmas.findIndex((v) => v.end > addr),
        start: (v) => at(v).start,
        end: (v) => at(v).end,
        flags: (v) => at(v).flags,
        pageProt: (v) => at(v).pageProt ?? 0,
        pgoff: () => 0,
      },
      mmapLock: () => this.mmapLock,
    };
  }

  /** Maps with a full cache. */
  install(ipa: number, size: number, pa: number, prot: number, flags = 0): number {
    this.stage2.caches.topup(this.cache, this.vms.cacheMinPages(this.vm));
    return this.stage2.install(this.vm, this.cache, ipa / 4096, size, pa / 4096, prot, flags);
  }

  /** Runs an activity to its end. @returns R0 */
  run(act: Activity, ...args: number[]): number {
    this.sim.agents.start(0, act, ...(args as [number, number, number, number, number, number]));
    if (!this.sim.agents.runToEnd(0)) throw new Error(`blocked in ${this.sim.agents.backtrace(0).join(" < ")}`);
    return this.sim.agents.result(0);
  }

  /** KVM_SET_USER_MEMORY_REGION */
  slot(id: number, gpa: number, size: number, hva: number, flags = 0): number {
    return this.run(this.regions.setUserMemoryRegion, this.vm, id, flags, gpa, size, hva);
  }

  /** Collects events from here on. */
  record(): EventRecord[] {
    this.events.length = 0;
    this.sim.bus.on("*", (e) => this.events.push(e));
    return this.events;
  }

  /** The TLB maintenance and barriers among the recorded events, as one string. */
  maintenance(): string {
    return this.events
      .filter((e) => e.event === "tlbi" || e.event === "dsb")
      .map((e) => (e.event === "tlbi" ? String(e["op"]) : `dsb:${String(e["type"])}`))
      .join(" ");
  }

  /** The leaves as short text: "ipa+size->pa rwx attr". */
  leaves(): string[] {
    return this.dump.leaves(this.vm).map((l) => {
      const perms = `${(l.s2ap & 1) !== 0 ? "r" : "-"}${(l.s2ap & 2) !== 0 ? "w" : "-"}${l.xn === 0 ? "x" : "-"}`;
      return `${l.ipa.toString(16)}+${l.size.toString(16)}->${l.pa.toString(16)} ${perms} ${l.memattr.toString(16)}${l.af === 0 ? " old" : ""}`;
    });
  }

  /** The whole tree as text; throws where a page count is not 1 + its non-zero entries. */
  tree(): string[] {
    return this.dump.tree(this.vm).map((t) => {
      if (t.refs !== t.entries + 1) throw new Error(`table ${t.pa.toString(16)} counts ${t.refs} with ${t.entries} entries`);
      return `L${t.level} ${t.ipa.toString(16)}: ${t.entries}`;
    });
  }
}
