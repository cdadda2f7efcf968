/**
 * The PCI host bridge as physical memory sees it: two windows, in which the function whose BAR decodes the address
 * answers. Where none does (decode off, power state, no BAR), a read gives all-ones and a write is lost, with an event.
 */
import type { BusDevice, PhysicalMemory } from "../arch/phys.js";
import type { Sim } from "../sim/sim.js";
import { APERTURE_32, APERTURE_64 } from "./barplacement.js";
import { type Bar, type PciFunctions } from "./pci.js";
import { barReadEvent, barWriteEvent, pciUnclaimed } from "./trace.js";

/** Reasons of the event pci_unclaimed. */
const NO_BAR = 0;

class HostBridge {
  /** The memory BARs of all functions. */
  private readonly bars: readonly Bar[];

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly pci: PciFunctions,
  ) {
    this.bars = pci.bars.filter((b) => !b.io);
  }

  read(pa: number, size: number): void {
    const { pci, phys } = this;
    const id = pci.claiming(pa, size);
    if (id < 0) {
      this.unclaimed(pa, size, 0);
      phys.lo = -1;
      phys.hi = -1;
      return;
    }
    const bar = pci.bars[id]!;
    barRead(this.sim, pci, bar, pa - pci.decodes(id), size);
    phys.lo = bar.model.lo;
    phys.hi = bar.model.hi;
  }

  readonly write = (pa: number, size: number, lo: number, hi: number): void => {
    const { pci } = this;
    const id = pci.claiming(pa, size);
    if (id < 0) this.unclaimed(pa, size, 1);
    else barWrite(this.sim, pci, pci.bars[id]!, pa - pci.decodes(id), size, lo, hi);
  };

  /** Says whose address it would be, and why nobody answers. */
  private unclaimed(pa: number, size: number, write: number): void {
    const { bus } = this.sim;
    for (const bar of this.bars) {
      const base = this.pci.decodes(bar.id);
      if (base >= 0 || pa < bar.start || pa >= bar.start + bar.size) continue;
      bus.emit(pciUnclaimed, pa, size, write, this.pci.functions[bar.fn]!.name, -1 - base);
      return;
    }
    bus.emit(pciUnclaimed, pa, size, write, bus.name("-"), NO_BAR);
  }
}

/** One window of the bridge. */
class BridgeWindow implements BusDevice {
  constructor(
    private readonly bridge: HostBridge,
    private readonly base: number,
  ) {}

  read(offset: number, size: number): void {
    this.bridge.read(this.base + offset, size);
  }

  write(offset: number, size: number, lo: number, hi: number): void {
    this.bridge.write(this.base + offset, size, lo, hi);
  }
}

/** The memory BAR of any function that decodes a physical address now, or undefined. */
export function claimingBar(pci: PciFunctions, pa: number, size: number): Bar | undefined {
  const id = pci.claiming(pa, size);
  return id < 0 ? undefined : pci.bars[id];
}

/** A read arrives at a function's BAR; the value is left in the model's lo, hi. */
export function barRead(sim: Sim, pci: PciFunctions, bar: Bar, offset: number, size: number): void {
  bar.model.read(offset, size);
  sim.bus.emit(barReadEvent, pci.functions[bar.fn]!.name, bar.index, offset, size, bar.model.hi, bar.model.lo);
}

/** A write arrives at a function's BAR. */
export function barWrite(sim: Sim, pci: PciFunctions, bar: Bar, offset: number, size: number, lo: number, hi: number): void {
  bar.model.write(offset, size, lo, hi);
  if (!sim.bus.unheard()) sim.bus.emit(barWriteEvent, pci.functions[bar.fn]!.name, bar.index, offset, size, hi, lo);
}

/** Puts the bridge on the physical bus. */
export function addHostBridge(sim: Sim, phys: PhysicalMemory, pci: PciFunctions): void {
  const bridge = new HostBridge(sim, phys, pci);
  for (const { base, size } of [APERTURE_32, APERTURE_64]) phys.addWindow(base, size, new BridgeWindow(bridge, base));
}
