/** The whole path on a bare machine: guest, stage 2, KVM, host mm, vfio-pci; without the public API. */
import { assemble } from "../../src/arch/assemble.js";
import { Cpu } from "../../src/arch/cpu.js";
import { cpuProfile, customProfile, type FeatureOverrides } from "../../src/arch/features.js";
import { Pe } from "../../src/arch/pe.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { ARCHITECTURAL, type MachineProfile } from "../../src/arch/profile.js";
import { PC, PSTATE, RegisterFile, VBAR_EL1, X } from "../../src/arch/registers.js";
import { TablePages } from "../../src/arch/tables.js";
import { eraRow } from "../../src/eras.js";
import { Kvm } from "../../src/kvm/kvm.js";
import { HostMm } from "../../src/mmu/mm.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import type { Activity } from "../../src/sim/agents.js";
import type { EventRecord } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";
import type { DeviceSpec } from "../../src/vfio/devicespec.js";
import { VfioPci } from "../../src/vfio/driver.js";

export const GIB = 2 ** 30;
export const MIB = 2 ** 20;
/** Where the guest's code lies, and its vectors at the start. */
export const CODE = 0x4000_0000;
export const ENTRY = CODE + 0x1000;
export const CODE_HVA = 0x7000_0000_0000;
export const R_HVA = 0x7100_0000_0000;
/** An IPA without a memslot, for the end of a program. */
export const DONE = 0x1000_0000;

export interface FaultFixtureOptions {
  readonly cpu?: string;
  readonly features?: FeatureOverrides;
  readonly set?: Readonly<Record<string, string>>;
  readonly profile?: MachineProfile;
  /** Persistent hugetlb pages: log2 of 4 KiB pages -> count. */
  readonly hugetlb?: Readonly<Partial<Record<4 | 13 | 18, number>>>;
  readonly devices?: readonly (string | DeviceSpec)[];
}

export class FaultFixture {
  readonly sim = new Sim();
  readonly features;
  readonly phys;
  readonly tables;
  readonly regs;
  readonly pe;
  readonly cpu;
  readonly mm;
  readonly vfio;
  readonly kvm;
  readonly vm: number;
  readonly v: number;
  readonly events: EventRecord[] = [];
  /** File of the opened device. */
  fd = -1;

  constructor(era: string, options: FaultFixtureOptions = {}) {
    const { sim } = this;
    const row = eraRow(era, options.set);
    const base = cpuProfile(options.cpu ?? "max");
    this.features = options.features === undefined ? base : customProfile(base, options.features);
    this.phys = new PhysicalMemory(sim, { ramBase: GIB, ramSize: 2 * GIB });
    this.tables = new TablePages(sim, this.phys, { base: 0xc0_0000_0000, size: GIB });
    this.regs = new RegisterFile(sim);
    this.pe = new Pe(sim, this.regs, this.phys, this.tables, this.features, { cpus: 2, profile: options.profile ?? ARCHITECTURAL });
    this.cpu = new Cpu(sim, this.regs, this.pe, this.features);
    sim.agents.add("vmm", "vmm", 0);
    this.mm = new HostMm(sim, this.phys, this.tables, this.pe, this.features, row.mm, { hugetlb: options.hugetlb ?? {} });
    this.vfio = new VfioPci(sim, this.phys, this.mm, row.vfio, options.devices ?? []);
    this.kvm = new Kvm(
      sim,
      this.phys,
      this.tables,
      this.pe,
      this.cpu,
      this.regs,
      this.features,
      this.mm,
      row.kvm,
      options.profile ?? ARCHITECTURAL,
    );
    sim.bus.on("*", (e) => this.events.push(e));
    this.vm = this.kvm.createVm(0);
    this.v = this.kvm.createVcpu(this.vm);
    this.map(CODE_HVA, 2 * MIB);
    this.slot(0, CODE, 2 * MIB, CODE_HVA);
    this.regs.setNum(this.v, VBAR_EL1, CODE);
  }

  /** Runs an activity to its end on an agent. @returns its first result */
  run(act: Activity, args: readonly number[], agent = 0): number {
    this.sim.agents.start(agent, act, ...args);
    if (!this.sim.agents.runToEnd(agent)) throw new Error(`blocked in ${this.sim.agents.backtrace(agent).join(" < ")}`);
    return this.sim.crashed === undefined ? this.sim.agents.result(agent) : NaN;
  }

  /** mmap MAP_FIXED, anonymous and private unless told otherwise; MADV_NOHUGEPAGE for anonymous memory. */
  map(hva: number, size: number, { prot = 3, shared = false, fd = -1, offset = 0, huge = false } = {}): number {
    const flags = (shared ? 1 : 2) | 0x10 | (fd < 0 ? 0x20 : 0);
    const r = this.run(this.mm.syscalls.mmap, [0, hva, size, mmapMode(prot, flags), fd, offset]);
    if (fd < 0 && r >= 0) this.run(this.mm.syscalls.madvise, [0, hva, size, huge ? 14 : 15]);
    return r;
  }
  munmap(hva: number, size: number): number {
    return this.run(this.mm.syscalls.munmap, [0, hva, size]);
  }
  slot(id: number, gpa: number, size: number, hva: number, flags = 0): number {
    return this.run(this.kvm.setUserMemoryRegion, [this.vm, id, flags, gpa, size, hva]);
  }
  poke(hva: number, word: number): void {
    this.run(this.mm.hostAccess, [0, hva, 4, 1, word, 0]);
  }
  /** Opens a device; `fd` maps it. */
  open(bdf: string): number {
    this.fd = this.run(this.vfio.open, [this.vfio.find(bdf)]);
    return this.fd;
  }

  /** Puts a program at ENTRY and sets x0.. and the PC. */
  load(text: string, ...x: number[]): void {
    const words = text.split("\n").flatMap((line) => assemble(line));
    for (const [i, w] of words.entries()) this.poke(CODE_HVA + 0x1000 + 4 * i, w);
    for (const [n, value] of x.entries()) this.regs.setNum(this.v, X + 2 * n, value);
    this.regs.setNum(this.v, PC, ENTRY);
    this.regs.set64(this.v, PSTATE, 0, 0x3c5);
  }
  /** KVM_RUN. @returns its result; the exit reason is kvm.vcpus.exitReason */
  enter(maxExits = 50, maxInstructions = 2000): number {
    return this.run(this.kvm.run, [this.v, maxInstructions, maxExits, 0], this.kvm.vcpuAgent(this.v));
  }
  /** KVM_RUN with kvm_run.immediate_exit. */
  immediateExit(): number {
    return this.run(this.kvm.run, [this.v, 2000, 50, 1], this.kvm.vcpuAgent(this.v));
  }
  /** load and enter. */
  exec(text: string, ...x: number[]): number {
    this.events.length = 0;
    this.load(`${text}\nb #0`, ...x);
    return this.enter();
  }
  get exit(): number {
    return this.kvm.vcpus.exitReason(this.v);
  }
  x(n: number): string {
    return `0x${this.regs.big(this.v, X + 2 * n).toString(16)}`;
  }
  reg(offset: number): string {
    return `0x${this.regs.big(this.v, offset).toString(16)}`;
  }
  /** Names of the events so far, those given only. */
  names(...only: string[]): string[] {
    return this.events.filter((e) => only.includes(e.event)).map((e) => e.event);
  }
  /** Events of one name. */
  all(name: string): EventRecord[] {
    return this.events.filter((e) => e.event === name);
  }
}
