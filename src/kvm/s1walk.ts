/**
 * KVM's own walk of the guest's stage-1 tables (arch/arm64/kvm/at.c __kvm_find_s1_desc_level,
 * v6.18): at which level does the walk of FAR_EL2 read a descriptor in the faulting page? The tables
 * are read from guest memory through memslots and host page tables, not through stage 2.
 */
import { bitsAt, levelShift, startBits, startLevel, tg0Shift, tg1Shift } from "../arch/geometry.js";
import { DESC_TABLE, DESC_VALID, outputAddress } from "../arch/descriptors.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { FAR_EL2, HPFAR_EL2, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1, type RegisterFile } from "../arch/registers.js";
import { ipaOfHpfar } from "../arch/syndrome.js";
import type { MemslotsPort } from "./ports.js";
import { KVM_MEMSLOT_INVALID } from "./ports.js";
import type { Vcpus } from "./vcpus.js";
import type { Vms } from "./vm.js";

/** What the walk needs of the host's page tables. */
export interface HostWalk {
  walk(mm: number, addr: number): boolean;
  readonly leafPfn: number;
}

/** The walk does not meet the page, or a table is not readable. */
export const NOT_FOUND = -2;

export class S1Walk {
  constructor(
    private readonly regs: RegisterFile,
    private readonly vcpus: Vcpus,
    private readonly vms: Vms,
    private readonly memslots: MemslotsPort,
    private readonly pt: HostWalk,
    private readonly phys: PhysicalMemory,
  ) {}

  /** Level (0..3, -1 with LPA2) whose descriptor lies in the page of HPFAR_EL2, for the address in FAR_EL2; else NOT_FOUND. */
  levelOfFault(v: number): number {
    const { regs } = this;
    if ((regs.lo(v, SCTLR_EL1) & 1) === 0) return NOT_FOUND;
    const vaHi = regs.hi(v, FAR_EL2);
    const vaLo = regs.lo(v, FAR_EL2);
    const page = ipaOfHpfar(regs.hi(v, HPFAR_EL2), regs.lo(v, HPFAR_EL2));
    const upper = (vaHi & (1 << 23)) !== 0;
    const tcrLo = regs.lo(v, TCR_EL1);
    const tsz = upper ? (tcrLo >>> 16) & 0x3f : tcrLo & 0x3f;
    const shift = upper ? tg1Shift((tcrLo >>> 30) & 3) : tg0Shift((tcrLo >>> 14) & 3);
    const ttbr = upper ? TTBR1_EL1 : TTBR0_EL1;
    let table = outputAddress(regs.hi(v, ttbr), regs.lo(v, ttbr) & ~0xfff);
    const isize = 64 - tsz;
    const start = startLevel(isize, shift);
    for (let level = start; level <= 3; level++) {
      if (table === page) return level;
      const width = level === start ? startBits(isize, level, shift) : shift - 3;
      const index = bitsAt(vaHi, vaLo, levelShift(level, shift), width);
      if (!this.readDescriptor(v, table + 8 * index)) return NOT_FOUND;
      const lo = this.phys.lo;
      if ((lo & DESC_VALID) === 0 || (lo & DESC_TABLE) === 0 || level === 3) return NOT_FOUND;
      table = outputAddress(this.phys.hi, lo);
    }
    return NOT_FOUND;
  }

  /** kvm_read_guest of one descriptor into phys.lo, phys.hi. */
  private readDescriptor(v: number, ipa: number): boolean {
    const vm = this.vcpus.vm(v);
    const gfn = Math.floor(ipa / 4096);
    const slot = this.memslots.find(vm, gfn);
    if (slot < 0 || (this.memslots.flags(slot) & KVM_MEMSLOT_INVALID) !== 0) return false;
    const hva = this.memslots.userspaceAddr(slot) + (ipa - this.memslots.baseGfn(slot) * 4096);
    if (!this.pt.walk(this.vms.mm(vm), hva)) return false;
    this.phys.read(this.pt.leafPfn * 4096 + (ipa & 4095), 8);
    return true;
  }
}
