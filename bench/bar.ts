/**
 * What the workloads of a BAR share: a VFIO device whose BAR 0 is mapped and in a slot, to be faulted in page by page.
 *
 * The slot's guest and host addresses differ modulo 2 MiB, so KVM can make no block; the guest walks downwards, so the
 * first touch of 2 MiB is not their first page, and v6.12's vfio-pci makes no block either.
 */
import { guest, MEMORY_IPA, must, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { VfioDevice } from "../src/machine.js";

const PAGE = 4096;
const BDF = "0000:00:07.0";
export const BAR_ADDRESS = 0xa0_0000_0000;
const FIRST_IPA = MEMORY_IPA + PAGE;

export class FaultedBar {
  readonly g: Guest;
  private readonly device: VfioDevice;
  private readonly length: number;
  private hva = 0;

  constructor(pages: number) {
    this.length = pages * PAGE;
    this.g = guest(STORE_LOOP, {
      devices: [{ bdf: BDF, bars: [{ index: 0, size: this.length, bits: 64, prefetch: true, model: "memory", at: BAR_ADDRESS }] }],
    });
    this.device = this.g.machine.vfio.open(BDF);
    this.map();
  }

  /** A new mapping and slot: nothing of the BAR is mapped in the host, or in stage 2. */
  remap(): void {
    this.slot(0);
    must(this.g.machine.host.munmap(this.hva, this.length), "munmap");
    this.map();
  }
  private map(): void {
    this.hva = must(this.device.mmap({ region: 0, length: this.length, align: 0x200000 }), "mmap of the BAR");
    this.slot(this.length);
  }
  private slot(memorySize: number): void {
    must(this.g.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: FIRST_IPA, memorySize, userspaceAddr: this.hva }), "BAR slot");
  }
  /** The guest stores `value` and what follows to so many pages, from the last one down. */
  touch(value: number, pages: number): void {
    runProgram(this.g, { x0: FIRST_IPA + this.length - PAGE, x1: value, x2: pages, x3: -PAGE });
  }
}
