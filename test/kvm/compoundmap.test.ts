/** PageTransCompoundMap: which huge pages of the host's become a 2 MiB block at stage 2 before v5.15, when KVM asks the page and not the table. */
import { describe, expect, it } from "vitest";
import { assemble } from "../../src/arch/assemble.js";
import { Machine } from "../../src/machine.js";
import { MADV_HUGEPAGE } from "../../src/mmu/madvise.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";

const PAGE = 0x1000;
const MIB = 0x10_0000;
const RW = PROT_READ | PROT_WRITE;
const CODE = 0x1000_0000;
const MEMORY = 0x4000_0000;
const EXIT = 0x900_0000n;

class Guest {
  readonly machine: Machine;
  private readonly vm;
  private readonly vcpu;
  constructor(era: string) {
    this.machine = new Machine({ kernel: era, shmem: "force" });
    const { host } = this.machine;
    this.vm = this.machine.createVm();
    const code = host.mmap({ length: PAGE });
    ["ldr x1, [x0]", "str x1, [x9]"].forEach((text, i) => host.write(code + 4 * i, 4, BigInt(assemble(text)[0]! >>> 0)));
    this.vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: CODE, memorySize: PAGE, userspaceAddr: code });
    this.vcpu = this.vm.createVcpu();
  }
  /** Memory on a memory file, its first block touched. */
  file(): { readonly fd: number; readonly hva: number } {
    const { host } = this.machine;
    const fd = host.memfdCreate(4 * MIB);
    const hva = host.mmap({ length: 4 * MIB, prot: RW, flags: MAP_SHARED, fd, align: 2 * MIB });
    host.write(hva, 8, 1n);
    return { fd, hva };
  }
  /** Level of the host's entry at an address of the VMM's. */
  hostLevel(hva: number): number {
    this.machine.mm.pt.walk(0, hva);
    return this.machine.mm.pt.leafLevel;
  }
  /** Two blocks of host memory become the guest's. */
  slot(hva: number): void {
    const region = { slot: 1, flags: 0, guestPhysAddr: MEMORY, memorySize: 4 * MIB, userspaceAddr: hva };
    expect(this.vm.setUserMemoryRegion(region)).toBe(0);
  }
  /** The guest loads from a page. @returns the level of its stage-2 entry */
  load(page: number): number {
    for (const [name, value] of Object.entries({ x0: BigInt(MEMORY + page * PAGE), x9: EXIT, pc: BigInt(CODE) }))
      this.vcpu.set(name, value);
    this.vcpu.cancelMmio();
    const { exit } = this.vcpu.run();
    expect([exit.reason, "physAddr" in exit && exit.physAddr]).toEqual(["MMIO", Number(EXIT)]);
    const ipa = MEMORY + page * PAGE;
    const leaf = this.vm.stage2Leaves().find((l) => l.ipa === ipa || l.ipa === ipa - (ipa % (2 * MIB)));
    return leaf!.level;
  }
}

describe("a huge page that the host maps as a block", () => {
  it("of a memory file is one at stage 2 from v5.4 on", () => {
    const level = (era: string) => {
      const g = new Guest(era);
      const { hva } = g.file();
      expect(g.hostLevel(hva)).toBe(2);
      g.slot(hva);
      return g.load(1);
    };
    expect(["v4.10", "v4.20", "v5.4", "v5.14", "v5.15", "v6.12"].map(level)).toEqual([3, 3, 2, 2, 2, 2]);
  });

  it("of a memory file is none for a page that another mapping has by an entry of its own, up to v5.14", () => {
    const levels = (era: string) => {
      const g = new Guest(era);
      const { host } = g.machine;
      const { fd, hva } = g.file();
      const other = host.mmap({ length: PAGE, prot: RW, flags: MAP_SHARED, fd, offset: 5 * PAGE });
      host.write(other, 8, 2n);
      g.slot(hva);
      return [g.load(5), g.load(6)];
    };
    expect(levels("v5.4")).toEqual([3, 2]);
    expect(levels("v5.15")).toEqual([2, 2]);
  });

  it("anonymous, split in the table but not in memory, gives small entries from v4.6 on", () => {
    const level = (era: string) => {
      const g = new Guest(era);
      const { host } = g.machine;
      const hva = host.mmap({ length: 4 * MIB, prot: RW, flags: MAP_PRIVATE | MAP_ANONYMOUS, align: 2 * MIB });
      host.madvise(hva, 4 * MIB, MADV_HUGEPAGE);
      host.write(hva, 8, 1n);
      g.slot(hva);
      host.mprotect(hva + MIB, PAGE, PROT_READ);
      expect(g.hostLevel(hva)).toBe(3);
      return g.load(1);
    };
    expect(["v4.10", "v4.20", "v5.4", "v5.14", "v5.15"].map(level)).toEqual([3, 3, 3, 3, 3]);
  });
});
