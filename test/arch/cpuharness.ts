/** A bare machine for tests of the interpreter: one vCPU, stage 1 and stage 2 off, RAM at 1 GiB. */
import { assemble } from "../../src/arch/assemble.js";
import { Cpu } from "../../src/arch/cpu.js";
import { cpuProfile, type CpuFeatures } from "../../src/arch/features.js";
import { Pe } from "../../src/arch/pe.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { RECORDED } from "../../src/arch/profile.js";
import { MAIR_EL1, PC, RegisterFile, SCTLR_EL1, TCR_EL1, TTBR0_EL1, VBAR_EL1, xreg } from "../../src/arch/registers.js";
import { TablePages } from "../../src/arch/tables.js";
import { Sim } from "../../src/sim/sim.js";

export const CODE = 0x40000000;
export const DATA = 0x40100000;
export const VECTORS = 0x40200000;
const TABLE1 = CODE + 0x300000;
const TABLE2 = TABLE1 + 0x1000;
const TABLE3 = TABLE1 + 0x2000;

/** A leaf of `mapped`: Normal, inner shareable, accessed. @param kind 1 block, 3 page */
export const leaf = (pa: number, kind: number): bigint => BigInt(pa) | 0x700n | BigInt(kind);

export class Bare {
  readonly sim = new Sim();
  readonly phys: PhysicalMemory;
  readonly tables: TablePages;
  readonly regs: RegisterFile;
  readonly pe: Pe;
  readonly cpu: Cpu;
  readonly v: number;

  /** @param trips of a loop before it is compiled */
  constructor(
    readonly features: CpuFeatures = cpuProfile("max"),
    trips?: number,
  ) {
    this.sim.agents.add("vcpu0", "vcpu", 0);
    this.phys = new PhysicalMemory(this.sim, { ramBase: CODE, ramSize: 0x10000000 });
    this.tables = new TablePages(this.sim, this.phys, { base: CODE + 0x10000000, size: 0x1000000 });
    this.regs = new RegisterFile(this.sim);
    // Stage 1 is off: with the architectural profile every unaligned access would fault.
    this.pe = new Pe(this.sim, this.regs, this.phys, this.tables, features, { profile: RECORDED });
    this.cpu = new Cpu(this.sim, this.regs, this.pe, features, trips);
    this.v = this.regs.add(features);
    this.regs.setNum(this.v, VBAR_EL1, VECTORS);
    this.regs.setNum(this.v, PC, CODE);
  }

  /** Puts code at an address; labels are not known here, offsets are. @returns the address after it */
  code(lines: readonly string[], at = CODE): number {
    let pa = at;
    for (const line of lines) {
      for (const w of assemble(line, { pc: pa, features: this.features })) {
        this.phys.write(pa, 4, w, 0);
        pa += 4;
      }
    }
    return pa;
  }

  /** Runs code from CODE until a final `b .`. @returns the reason */
  run(lines: readonly string[], budget = 10000): number {
    this.code([...lines, "b ."]);
    this.regs.setNum(this.v, PC, CODE);
    return this.cpu.run(this.v, budget);
  }

  /** Stage 1 on: 2 MiB blocks one to one, but the data region in pages, the second one an alias of the code page. @param pages entries of that table that are otherwise */
  mapped(pages: Readonly<Record<number, bigint>> = {}): void {
    this.poke(TABLE1 + 8, BigInt(TABLE2) | 3n);
    for (let i = 0; i < 8; i++) this.poke(TABLE2 + 8 * i, leaf(CODE + i * 0x200000, 1));
    this.poke(TABLE2, BigInt(TABLE3) | 3n);
    for (let i = 0; i < 512; i++) this.poke(TABLE3 + 8 * i, leaf(CODE + i * 0x1000, 3));
    this.poke(TABLE3 + 8 * 0x101, leaf(CODE, 3));
    for (const [i, descriptor] of Object.entries(pages)) this.poke(TABLE3 + 8 * Number(i), descriptor);
    this.regs.setBig(this.v, TTBR0_EL1, BigInt(TABLE1));
    this.regs.setBig(this.v, MAIR_EL1, 0xffn);
    this.regs.setBig(this.v, TCR_EL1, 25n | (1n << 23n) | (2n << 32n));
    this.regs.setNum(this.v, SCTLR_EL1, 0x00c50079);
  }

  get(n: number): bigint {
    return this.regs.big(this.v, xreg(n));
  }
  set(n: number, value: bigint | number): void {
    this.regs.setBig(this.v, xreg(n), BigInt(value));
  }
  reg(offset: number): bigint {
    return this.regs.big(this.v, offset);
  }
  /** 64 bits of memory. */
  mem(pa: number): bigint {
    this.phys.read(pa, 8);
    return (BigInt(this.phys.hi >>> 0) << 32n) | BigInt(this.phys.lo >>> 0);
  }
  poke(pa: number, value: bigint): void {
    this.phys.write(pa, 8, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
  }
}
