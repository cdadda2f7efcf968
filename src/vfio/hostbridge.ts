/**
 * The PCI host bridge as physical memory sees it: two windows, in which the function whose BAR decodes the address
 * answers. Where none does (decode off, power state, no BAR), a read gives all-ones and a write is lost, with an event.
 */
import type { BusDevice, PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import { APERTURE_32, APERTURE_64, type Aperture } from "./barplacement.js";
import { type Bar, type PciFunctions } from "./pci.js";
import { barReadEvent, barWriteEvent, pciUnclaimed } from "./trace.js";

/** Reasons of the event pci_unclaimed. */
const NO_BAR = 0;

/** One window of the bridge. */
export class BridgeWindow implements BusDevice {
  /** The memory BARs that firmware placed in this window. */
  private readonly bars: readonly Bar[];

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly pci: PciFunctions,
    private readonly aperture: Aperture,
  ) {
    this.bars = pci.bars.filter((b) => !b.io);
  }

  /** The BAR that decodes a physical address now, or undefined. */
  private claims(pa: number, size: number): Bar | undefined {
    for (const bar of this.bars) {
      const base = this.pci.decodes(bar);
      if (pa >= base && pa + size <= base + bar.size && base >= 0) return bar;
    }
    return undefined;
  }

  read(offset: number, size: number): void {
    const pa = this.aperture.base + offset;
    const bar = this.claims(pa, size);
    if (bar === undefined) {
      this.unclaimed(pa, size, 0);
      this.phys.lo = -1;
      this.phys.hi = -1;
      return;
    }
    barRead(this.sim, this.pci, bar, pa - this.pci.decodes(bar), size);
    this.phys.lo = bar.model.lo;
    this.phys.hi = bar.model.hi;
  }

  write(offset: number, size: number, lo: number, hi: number): void {
    const pa = this.aperture.base + offset;
    const bar = this.claims(pa, size);
    if (bar === undefined) this.unclaimed(pa, size, 1);
    else barWrite(this.sim, this.pci, bar, pa - this.pci.decodes(bar), size, lo, hi);
  }

  /** Says whose address it would be, and why nobody answers. */
  private unclaimed(pa: number, size: number, write: number): void {
    const { bus } = this.sim;
    for (const bar of this.bars) {
      const base = this.pci.decodes(bar);
      if (base >= 0 || pa < bar.start || pa >= bar.start + bar.size) continue;
      bus.emit(pciUnclaimed, pa, size, write, this.pci.functions[bar.fn]!.name, -1 - base);
      return;
    }
    bus.emit(pciUnclaimed, pa, size, write, bus.name("-"), NO_BAR);
  }
}

/** The memory BAR of any function that decodes a physical address now, or undefined. */
export function claimingBar(pci: PciFunctions, pa: number, size: number): Bar | undefined {
  for (const bar of pci.bars) {
    if (bar.io) continue;
    const base = pci.decodes(bar);
    if (base >= 0 && pa >= base && pa + size <= base + bar.size) return bar;
  }
  return undefined;
}

/** A read arrives at a function's BAR; the value is left in the model's lo, hi. */
export function barRead(sim: Sim, pci: PciFunctions, bar: Bar, offset: number, size: number): void {
  bar.model.read(offset, size);
  sim.bus.emit(barReadEvent, pci.functions[bar.fn]!.name, bar.index, offset, size, bar.model.hi, bar.model.lo);
}

/** A write arrives at a function's BAR. */
export function barWrite(sim: Sim, pci: PciFunctions, bar: Bar, offset: number, size: number, lo: number, hi: number): void {
  bar.model.write(offset, size, lo, hi);
  sim.bus.emit(barWriteEvent, pci.functions[bar.fn]!.name, bar.index, offset, size, hi, lo);
}

/** Puts the bridge on the physical bus. */
export function addHostBridge(sim: Sim, phys: PhysicalMemory, pci: PciFunctions): void {
  for (const aperture of [APERTURE_32, APERTURE_64])
    phys.addWindow(aperture.base, aperture.size, new BridgeWindow(sim, phys, pci, aperture));
}
