/** A small machine for tests of the processing element: RAM, tables, one guest with its stage 2 built by hand. */
import { leafHi, leafLo, outputAddress, stage2Lo, stage2Xn, tableLo } from "../../src/arch/descriptors.js";
import { cpuProfile, type CpuFeatures } from "../../src/arch/features.js";
import { levelShift, stage2Geometry, vtcrWord } from "../../src/arch/geometry.js";
import { Pe } from "../../src/arch/pe.js";
import { PhysicalMemory, type BusDevice } from "../../src/arch/phys.js";
import type { MachineProfile } from "../../src/arch/profile.js";
import * as R from "../../src/arch/registers.js";
import { TablePages } from "../../src/arch/tables.js";
import type { EventRecord } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";

export const RAM = 0x40000000;
export const RAM_SIZE = 0x40000000;
export const BAR = 0x8000000000;

/** A device that is 64 KiB of memory, and remembers the accesses it saw. */
export class MemoryDevice implements BusDevice {
  readonly bytes = new Uint8Array(65536);
  readonly seen: string[] = [];
  constructor(private readonly phys: PhysicalMemory) {}
  read(offset: number, size: number): void {
    this.seen.push(`r${size}@${offset.toString(16)}`);
    let lo = 0;
    let hi = 0;
    for (let i = 0; i < size; i++) {
      if (i < 4) lo |= this.bytes[offset + i]! << (8 * i);
      else hi |= this.bytes[offset + i]! << (8 * (i - 4));
    }
    this.phys.lo = lo;
    this.phys.hi = hi;
  }
  write(offset: number, size: number, lo: number, hi: number): void {
    this.seen.push(`w${size}@${offset.toString(16)}`);
    for (let i = 0; i < size; i++) this.bytes[offset + i] = (i < 4 ? lo >>> (8 * i) : hi >>> (8 * (i - 4))) & 0xff;
  }
}

export interface RigOptions {
  cpu?: CpuFeatures;
  profile?: MachineProfile;
  cpus?: number;
  ipaBits?: number;
  /** VTCR_EL2.HA. */
  ha?: boolean;
  fwb?: boolean;
}

export class Rig {
  readonly sim = new Sim();
  readonly features: CpuFeatures;
  readonly phys: PhysicalMemory;
  readonly tables: TablePages;
  readonly regs: R.RegisterFile;
  readonly pe: Pe;
  readonly device: MemoryDevice;
  readonly root: number;
  readonly events: EventRecord[] = [];
  readonly v: number;
  readonly start: number;
  private nextPage = RAM + 0x1000000;

  constructor(readonly o: RigOptions = {}) {
    this.features = o.cpu ?? cpuProfile("max");
    this.phys = new PhysicalMemory(this.sim, { ramBase: RAM, ramSize: RAM_SIZE });
    this.tables = new TablePages(this.sim, this.phys, { base: RAM + RAM_SIZE, size: 0x4000000 });
    this.regs = new R.RegisterFile(this.sim);
    this.pe = new Pe(this.sim, this.regs, this.phys, this.tables, this.features, {
      cpus: o.cpus ?? 2,
      ...(o.profile === undefined ? {} : { profile: o.profile }),
    });
    this.device = new MemoryDevice(this.phys);
    this.phys.addWindow(BAR, 65536, this.device);
    const g = stage2Geometry(o.ipaBits ?? 40);
    this.start = g.startLevel;
    this.root = this.tables.allocContiguous(g.rootPages);
    this.sim.agents.add("vcpu0", "vcpu", 0);
    this.sim.agents.add("vcpu1", "vcpu", 1);
    this.v = this.addVcpu(1);
  }

  /** A vCPU of a VM with this VMID, on the one stage 2 of the rig. */
  addVcpu(vmid: number): number {
    const v = this.regs.add(this.features);
    const g = stage2Geometry(this.o.ipaBits ?? 40);
    this.regs.set64(v, R.VTCR_EL2, 0, vtcrWord(g, 5, this.features.vmidBits === 16, this.o.ha ?? true));
    this.regs.set64(v, R.VTTBR_EL2, (this.root / 4294967296) | 0 | (vmid << 16), this.root | 0);
    this.regs.set64(v, R.HCR_EL2, (this.o.fwb ?? this.features.s2fwb) ? R.HCR_FWB_HI : 0, R.HCR_VM | R.HCR_PTW | R.HCR_FB | R.HCR_RW);
    this.regs.set64(v, R.VBAR_EL1, 0, 0x40000000);
    return v;
  }

  /** Runs what follows as an agent on a physical CPU. */
  onCpu(cpu: number): void {
    this.sim.agents.moveTo(0, cpu);
  }

  listen(...names: string[]): void {
    for (const n of names) this.sim.bus.on(n, (e) => this.events.push(e));
  }

  page(): number {
    const p = this.nextPage;
    this.nextPage += 4096;
    return p;
  }

  /** Word index of the stage-2 entry of an IPA at a level, tables made on the way. */
  entry(ipa: number, level: number): number {
    let table = this.root;
    for (let l = this.start; ; l++) {
      const size = 2 ** levelShift(l);
      const index = l === this.start ? Math.floor(ipa / size) : Math.floor(ipa / size) % 512;
      const word = this.tables.word(table) + index * 2;
      if (l === level) return word;
      const a = this.tables.words.a;
      if ((a[word]! & 1) === 0) {
        const t = this.tables.alloc();
        this.tables.write(word, l, leafHi(t, 0), tableLo(t));
      }
      table = outputAddress(this.tables.words.a[word + 1]!, this.tables.words.a[word]!);
    }
  }

  /** Maps an IPA at stage 2. @param s2ap 1 read, 2 write, 3 both */
  map(ipa: number, pa: number, o: { level?: number; attr?: number; s2ap?: number; xn?: number; af?: boolean; sh?: number } = {}): void {
    const level = o.level ?? 3;
    const attr = o.attr ?? ((this.o.fwb ?? this.features.s2fwb) ? 6 : 15);
    this.tables.write(
      this.entry(ipa, level),
      level,
      leafHi(pa, stage2Xn(o.xn ?? 0)),
      leafLo(pa, level, stage2Lo(attr, o.s2ap ?? 3, o.sh ?? 3, o.af ?? true)),
    );
  }
  /** PA of the page that stage 2 maps an IPA to by a level-3 entry, or undefined. */
  entryOf(ipa: number): number | undefined {
    const w = this.entry(ipa, 3);
    const lo = this.tables.words.a[w]!;
    return (lo & 1) === 0 ? undefined : outputAddress(this.tables.words.a[w + 1]!, lo);
  }
  unmap(ipa: number, level = 3): void {
    this.tables.write(this.entry(ipa, level), level, 0, 0);
  }
  /** Maps an IPA to a fresh RAM page and gives its PA. */
  ram(ipa: number, o: { s2ap?: number; xn?: number; attr?: number; af?: boolean } = {}): number {
    const pa = this.page();
    this.map(ipa, pa, o);
    return pa;
  }

  get esr2(): string {
    return hex(this.regs.lo(this.v, R.ESR_EL2));
  }
  get esr1(): string {
    return hex(this.regs.lo(this.v, R.ESR_EL1));
  }
  get far1(): number {
    return this.regs.num(this.v, R.FAR_EL1);
  }
  get far2(): number {
    return this.regs.num(this.v, R.FAR_EL2);
  }
  /** IPA of HPFAR_EL2. */
  get hpfarIpa(): number {
    return Math.floor(this.regs.num(this.v, R.HPFAR_EL2) / 16) * 4096;
  }

  read(va: number, size = 8, iss = 0): number {
    return this.pe.read(this.v, (va / 4294967296) | 0, va | 0, size, iss);
  }
  write(va: number, value: number, size = 8, iss = 0): number {
    this.pe.d0 = value | 0;
    this.pe.d1 = (value / 4294967296) | 0;
    return this.pe.write(this.v, (va / 4294967296) | 0, va | 0, size, iss);
  }
  fetch(va: number): number {
    return this.pe.fetch(this.v, (va / 4294967296) | 0, va | 0);
  }

  /** The guest of the recordings: TTBR0, MAIR 0xff00, TCR 0x200803519 (39 bits, EPD1), SCTLR 0x30d0199d. */
  mmuOn(ttbr0: number, o: { tcrHi?: number; tcrLo?: number; sctlr?: number; ttbr1?: number } = {}): void {
    const { regs, v } = this;
    regs.setNum(v, R.TTBR0_EL1, ttbr0);
    regs.setNum(v, R.TTBR1_EL1, o.ttbr1 ?? 0);
    regs.set64(v, R.MAIR_EL1, 0, 0x44_0c_ff_00);
    regs.set64(v, R.TCR_EL1, o.tcrHi ?? 2, o.tcrLo ?? 0x00803519);
    regs.set64(v, R.SCTLR_EL1, 0, o.sctlr ?? 0x30d0199d);
  }
}

export function hex(n: number): string {
  return `0x${(n >>> 0).toString(16)}`;
}
