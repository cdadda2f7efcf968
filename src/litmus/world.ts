/**
 * The machine of a litmus test: processing elements, memory, tables and, where the test maps a device, PCI functions
 * behind the fabric. No kernel: guest code runs at EL1 on tables that the test sets up, the host's operations are
 * written out in the test.
 */
import { Cpu } from "../arch/cpu.js";
import { leafHi, leafLo, stage2Lo, stage2Xn, tableLo } from "../arch/descriptors.js";
import { cpuProfile, type CpuFeatures } from "../arch/features.js";
import { levelShift, stage2Geometry, vtcrWord } from "../arch/geometry.js";
import { LookAhead } from "../arch/orderingahead.js";
import { Pe } from "../arch/pe.js";
import { PhysicalMemory, type BusDevice } from "../arch/phys.js";
import { ARCHITECTURAL } from "../arch/profile.js";
import * as R from "../arch/registers.js";
import { TablePages } from "../arch/tables.js";
import { COSTS } from "../sim/costs.js";
import { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { DEFAULT_FABRIC, Fabric } from "../vfio/fabric.js";
import { addHostBridge } from "../vfio/hostbridge.js";
import { PciFunctions } from "../vfio/pci.js";
import { PCI_COMMAND } from "../vfio/configspace.js";
import type { LitmusTest } from "./ast.js";
import {
  CODE_MIDDLE_PA,
  CODE_PA,
  DATA_PA,
  LEAF_PA,
  leafValue,
  LEAF_TABLE_VA,
  MAIR,
  MIDDLE_PA,
  MIDDLE_TABLE_VA,
  OTHER,
  OTHER_PA,
  OTHER_TABLE_VA,
  paOf,
  ptePa,
  RAM,
  ROOT_PA,
  SYMBOLS,
  symbolIndex,
} from "./layout.js";

const PLATFORM = 0x9000000;
const TABLE_WINDOW = { base: 0xc000000000, size: 0x4000000 };
const FREE = Object.fromEntries(Object.keys(COSTS).map((c) => [c, 0]));
/** The vector table and handler of the guest language lie at the start of the code. */
const PSTATE_EL1H = 0x3c5;
/** Bytes of code that are mapped. */
const CODE_BYTES = 0x10000;

/** 4 KiB of a platform device, with a reset register behind another bridge: `reset` of the host. */
class PlatformDevice implements BusDevice {
  readonly words: I32Pool;
  constructor(
    sim: Sim,
    private readonly phys: PhysicalMemory,
  ) {
    this.words = sim.state.i32("litmus.platform", 1024);
  }
  read(offset: number, size: number): void {
    this.phys.lo = this.words.a[offset >> 2]!;
    this.phys.hi = size === 8 ? this.words.a[(offset >> 2) + 1]! : 0;
  }
  write(offset: number, size: number, lo: number, hi: number): void {
    this.words.set(offset >> 2, lo);
    if (size === 8) this.words.set((offset >> 2) + 1, hi);
  }
  reset(): void {
    for (let i = 0; i < 1024; i++) this.words.set(i, 0);
  }
}

export class LitmusWorld {
  readonly sim: Sim;
  readonly features: CpuFeatures;
  readonly phys: PhysicalMemory;
  readonly tables: TablePages;
  readonly regs: R.RegisterFile;
  readonly pe: Pe;
  readonly cpu: Cpu;
  readonly ahead: LookAhead;
  readonly fabric: Fabric;
  readonly pci: PciFunctions;
  readonly platform: PlatformDevice;
  /** Physical address of each symbol: RAM, or where the test maps it. */
  private readonly pa: number[] = [];
  private readonly root: number;
  private readonly start: number;

  constructor(readonly test: LitmusTest) {
    const { machine } = test;
    const sim = (this.sim = new Sim(FREE));
    this.features = cpuProfile(machine.cpu);
    this.phys = new PhysicalMemory(sim, { ramBase: RAM, ramSize: 0x1000000 });
    this.tables = new TablePages(sim, this.phys, TABLE_WINDOW);
    this.regs = new R.RegisterFile(sim);
    this.pe = new Pe(sim, this.regs, this.phys, this.tables, this.features, {
      cpus: machine.cpus,
      profile: { ...ARCHITECTURAL, ets: machine.ets },
      buffers: "weak",
      ...(machine.cache ? { cache: "modelled" as const } : {}),
    });
    this.cpu = new Cpu(sim, this.regs, this.pe, this.features);
    this.ahead = new LookAhead(sim, this.regs, this.pe, this.features);
    this.pci = new PciFunctions(sim, [
      { bdf: "0000:01:00.0", reset: "flr", bars: [0, 2].map((index) => ({ index, size: 0x10000, bits: 64 as const, prefetch: true })) },
      { bdf: "0000:02:00.0", reset: "flr", bars: [{ index: 0, size: 0x10000, bits: 64 as const, prefetch: true }] },
    ]);
    addHostBridge(sim, this.phys, this.pci);
    for (const f of this.pci.functions) this.pci.write(f.fn, PCI_COMMAND, 2, 2);
    this.platform = new PlatformDevice(sim, this.phys);
    this.phys.addWindow(PLATFORM, 4096, this.platform);
    this.fabric = new Fabric(sim, this.phys, this.pci, this.pe.ordering!.buffers, this.tables, {
      ...DEFAULT_FABRIC,
      serialisation: machine.serialization,
      relaxedOrdering: machine.relaxedOrdering,
    });
    for (let n = 0; n < machine.cpus; n++) sim.agents.add(`cpu${n}`, "vcpu", n);
    this.place();
    const g = stage2Geometry(40);
    this.root = this.tables.allocContiguous(g.rootPages);
    this.start = g.startLevel;
    this.memory();
    if (machine.stage2) this.stage2();
    for (let v = 0; v < test.program.vcpus; v++) this.vcpu(v);
  }

  private place(): void {
    for (const name of [...SYMBOLS, OTHER]) this.pa[symbolIndex(name)] = paOf(name);
    for (const m of this.test.maps) {
      const fn = m.where === "other" ? 1 : 0;
      const base = m.where === "platform" ? PLATFORM : this.pci.functions[fn]!.bars[m.where === "bar2" ? 2 : 0]!.start;
      this.pa[symbolIndex(m.symbol)] = base + m.offset;
    }
  }

  /** Where a symbol lies physically. */
  paOf(symbol: string): number {
    return this.pa[symbolIndex(symbol)]!;
  }

  private write64(pa: number, value: bigint): void {
    this.phys.writeMemory(pa, 8, Number(value & 0xffffffffn) | 0, Number(value >> 32n) | 0);
  }

  /** Stage-1 tables, pages and code. */
  private memory(): void {
    const { image } = this.test.program;
    const page = (table: number, index: number, pa: number, low: number, high = 0): void => {
      this.phys.writeMemory(table + 8 * index, 8, leafLo(pa, 3, low), leafHi(pa, high));
    };
    const table = (at: number, pa: number): void => this.phys.writeMemory(at, 8, tableLo(pa), leafHi(pa, 0));
    const normal = (1 << 2) | (3 << 8) | (1 << 10);
    table(ROOT_PA, MIDDLE_PA);
    // VA 0x40000000 is the second GiB of the 39-bit space.
    table(ROOT_PA + 8, CODE_MIDDLE_PA);
    this.phys.writeMemory(CODE_MIDDLE_PA, 8, leafLo(CODE_PA, 2, normal | (1 << 7)), 0);
    table(MIDDLE_PA + 128 * 8, LEAF_PA);
    table(MIDDLE_PA + 129 * 8, OTHER_PA);
    for (const [va, pa] of [
      [LEAF_TABLE_VA, LEAF_PA],
      [MIDDLE_TABLE_VA, MIDDLE_PA],
      [OTHER_TABLE_VA, OTHER_PA],
    ] as const)
      page(LEAF_PA, (va >>> 12) & 511, pa, normal, 3 << 21);
    for (const name of [...SYMBOLS, OTHER])
      this.write64(
        ptePa(name),
        leafValue(name, (s) => this.page(s))!,
      );
    for (const m of this.test.maps) {
      const type = m.type === "GRE" ? "gre" : m.type === "NC" ? "nc" : m.type;
      this.write64(
        ptePa(m.symbol),
        leafValue(`${m.symbol}_${type}`, (s) => this.page(s))!,
      );
    }
    for (const p of this.test.pages) {
      if (p.leaf !== undefined)
        this.write64(
          ptePa(p.symbol),
          leafValue(p.leaf, (s) => this.page(s))!,
        );
      else p.values.forEach((value, n) => this.phys.writeMemory(this.paOf(p.symbol) + 4 * n, 4, value));
    }
    for (let i = 0; i < image.words.length && i * 4 < CODE_BYTES; i++) this.phys.writeMemory(CODE_PA + 4 * i, 4, image.words[i]!);
  }
  private page(symbol: string): number {
    const pa = this.paOf(symbol);
    return pa - (pa % 4096);
  }

  /** Stage 2: everything at its own address, by 4 KiB pages where symbols lie. */
  private stage2(): void {
    for (let pa = RAM; pa < RAM + 0x1000000; pa += 0x200000) {
      if (pa !== DATA_PA) this.tables.write(this.entry(pa, 2), 2, leafHi(pa, 0), leafLo(pa, 2, stage2Lo(this.memAttr("rw"), 3, 3, true)));
    }
    for (const name of [...SYMBOLS, OTHER]) this.setStage2(name, this.paOf(name) >= RAM && this.paOf(name) < RAM + 0x1000000 ? "rw" : "nc");
  }
  private memAttr(value: string): number {
    return value === "nc" ? 5 : value === "nGnRE" ? 1 : this.features.s2fwb ? 6 : 15;
  }
  private entry(ipa: number, level: number): number {
    let table = this.root;
    for (let l = this.start; ; l++) {
      const size = 2 ** levelShift(l);
      const word = this.tables.word(table) + 2 * (l === this.start ? Math.floor(ipa / size) : Math.floor(ipa / size) % 512);
      if (l === level) return word;
      const a = this.tables.words.a;
      if ((a[word]! & 1) === 0) {
        const t = this.tables.alloc();
        this.tables.write(word, l, leafHi(t, 0), tableLo(t));
      }
      table = ((this.tables.words.a[word + 1]! & 0xffff) >>> 0) * 4294967296 + ((this.tables.words.a[word]! & ~0xfff) >>> 0);
    }
  }
  /** Writes the stage-2 entry of a symbol's page. @param value invalid, ro, rw, nc, nGnRE, or another symbol's page */
  setStage2(symbol: string, value: string): void {
    const ipa = this.page(symbol);
    const word = this.entry(ipa, 3);
    if (value === "invalid") {
      this.tables.write(word, 3, 0, 0);
      return;
    }
    const pa = symbolIndex(value) >= 0 ? this.page(value) : ipa;
    const attrs = stage2Lo(this.memAttr(value), value === "ro" ? 1 : 3, 3, true);
    this.tables.write(word, 3, leafHi(pa, stage2Xn(0)), leafLo(pa, 3, attrs));
  }

  private vcpu(v: number): void {
    const { regs } = this;
    const { machine, program } = this.test;
    regs.add(this.features);
    const g = stage2Geometry(40);
    regs.set64(v, R.VTCR_EL2, 0, vtcrWord(g, 5, this.features.vmidBits === 16, false));
    regs.set64(v, R.VTTBR_EL2, (this.root / 4294967296) | 0 | (1 << 16), this.root | 0);
    const fwb = machine.stage2 && this.features.s2fwb ? R.HCR_FWB_HI : 0;
    regs.set64(v, R.HCR_EL2, fwb, R.HCR_RW | (machine.stage2 ? R.HCR_VM | R.HCR_PTW : 0));
    regs.setNum(v, R.VBAR_EL1, program.image.base);
    regs.setNum(v, R.TTBR0_EL1, ROOT_PA);
    let hi = 0;
    let lo = 0;
    MAIR.forEach((byte, n) => (n < 4 ? (lo |= byte << (8 * n)) : (hi |= byte << (8 * (n - 4)))));
    regs.set64(v, R.MAIR_EL1, hi, lo);
    regs.set64(v, R.TCR_EL1, 2 | (machine.hardwareUpdate ? 0x180 : 0), 0x00803519);
    regs.set64(v, R.SCTLR_EL1, 0, 0x30d0199d);
    regs.set64(v, R.CPACR_EL1, 0, 0x300000);
    regs.pool.set(regs.base(v) + R.PSTATE, PSTATE_EL1H);
    const block = [...program.image.blocks].find(([b]) => b.vcpu === v);
    if (block === undefined) return;
    regs.setNum(v, R.PC, block[1].entry);
    regs.set64(v, R.STOP_PC, 0, block[1].stop);
    regs.pool.set(regs.base(v) + R.STOP_ENABLED, 1);
  }
}
