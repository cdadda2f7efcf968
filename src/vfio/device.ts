/**
 * struct vfio_pci_core_device: what the driver keeps for each function, its locks, and the tests that
 * every path makes (drivers/vfio/pci/vfio_pci_core.c, vfio_pci_priv.h).
 *
 * word      | meaning
 * FILE      | the open device file + 1, 0 while closed
 * REFS      | file descriptors and VMAs that keep it open
 * RESETS    | reset_works
 * LOW_POWER | pm_runtime_engaged
 * CLAIMED   | bit n: BAR n is requested and iomapped
 * BUSY      | bit n: another driver of the host owns BAR n's resource
 * NO_MMAP   | the user of the host said that this device's BARs are not mappable
 */
import type { Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { Files } from "../mmu/files.js";
import type { Vmas } from "../mmu/vmas.js";
import type { Zap } from "../mmu/zap.js";
import { PCI_D3HOT } from "./configspace.js";
import type { vfioDecisions } from "./decisions.js";
import type { Bar, PciFunction, PciFunctions } from "./pci.js";
import { VirtualConfig } from "./vconfig.js";

/** What this room asks of the host's memory management; HostMm has it. */
export interface VfioMm {
  readonly vmas: Vmas;
  /** Whether mm.h has VM_FORCE_CACHED; whether arm64 entries have a uffd-wp bit. */
  readonly d: { readonly vmForceCached: boolean; readonly userfaultfdWp: boolean };
  readonly files: Files;
  readonly zap: Pick<Zap, "contended" | "remapPfnRange" | "vmfInsertPfn" | "vmfInsertPfnPmd" | "zapRange">;
  /** (mm, start, end): S(CLEAR), entries cleared, E; the caller holds the mmap_lock. */
  readonly zapVmaPtes: Activity;
  /** (file, first byte, end byte, evenCows): the same for every VMA of the file that meets the range. */
  readonly unmapMappingRange: Activity;
  /** (mm, start, end, type): the MMU notifiers' start and end of a range at which no host entry changes. */
  readonly invalidateRange: Activity;
  /** (mm, hva, size, write, lo, hi): copy_to_user. */
  readonly hostAccess: Activity;
  /** The lock number of an address space's mmap_lock. */
  mmapLock(mm: number): number;
}

export type VfioRow = Row<typeof vfioDecisions>;

export const PAGE_SIZE = 4096;
/** A region's offset in the device file is its index times this. */
export const REGION_SPAN = 2 ** 40;
/** The same in pages (vm_pgoff). */
export const REGION_PAGES = 2 ** 28;

export const BAR0_REGION = 0;
export const ROM_REGION = 6;
export const CONFIG_REGION = 7;
export const VGA_REGION = 8;
export const NUM_REGIONS = 9;

const FILE = 0;
const REFS = 1;
const RESETS = 2;
const LOW_POWER = 3;
const CLAIMED = 4;
const BUSY = 5;
const NO_MMAP = 6;
const WORDS = 8;

export class VfioDevices {
  readonly vconfig: VirtualConfig;
  /** Lock numbers by device. */
  readonly memoryLock: readonly number[];
  readonly vmaLock: readonly number[];
  /** The driver core's lock of the function, which a reset takes. */
  readonly deviceLock: readonly number[];
  private readonly w: I32Pool;
  /** Device file -> function + 1. */
  private readonly files: I32Pool;

  constructor(
    readonly sim: Sim,
    readonly pci: PciFunctions,
    readonly mm: VfioMm,
    readonly d: VfioRow,
  ) {
    const n = pci.functions.length;
    this.w = sim.state.i32("vfio.devices", Math.max(1, n) * WORDS);
    this.files = sim.state.i32("vfio.files", 16);
    this.vconfig = new VirtualConfig(sim, pci);
    this.memoryLock = pci.functions.map((f) => sim.locks.create(`memory_lock ${f.bdf}`));
    this.vmaLock = pci.functions.map((f) => sim.locks.create(`vma_lock ${f.bdf}`));
    this.deviceLock = pci.functions.map((f) => sim.locks.create(`device_lock ${f.bdf}`));
  }

  function(dev: number): PciFunction {
    return this.pci.functions[dev]!;
  }
  /** The device whose file this is, or -1. */
  ofFile(file: number): number {
    return file >= 0 && file < this.files.needed ? this.files.a[file]! - 1 : -1;
  }
  /** The device that a VMA maps. */
  ofVma(vma: number): number {
    return this.ofFile(this.mm.vmas.file(vma));
  }

  /** The open device file, or -1. */
  file(dev: number): number {
    return this.w.a[Math.imul(dev, WORDS) + FILE]! - 1;
  }
  setFile(dev: number, file: number): void {
    this.w.set(Math.imul(dev, WORDS) + FILE, file + 1);
    if (file < 0) return;
    this.files.ensure(file + 1);
    this.files.set(file, dev + 1);
  }
  isOpen(dev: number): boolean {
    return this.w.a[Math.imul(dev, WORDS) + FILE] !== 0;
  }
  /** Adds or drops a reference. @returns those left */
  ref(dev: number, by: number): number {
    const refs = this.w.a[Math.imul(dev, WORDS) + REFS]! + by;
    this.w.set(Math.imul(dev, WORDS) + REFS, refs);
    return refs;
  }
  resetWorks(dev: number): boolean {
    return this.w.a[Math.imul(dev, WORDS) + RESETS] !== 0;
  }
  setResetWorks(dev: number, works: boolean): void {
    this.w.set(Math.imul(dev, WORDS) + RESETS, works ? 1 : 0);
  }
  lowPower(dev: number): boolean {
    return this.w.a[Math.imul(dev, WORDS) + LOW_POWER] !== 0;
  }
  setLowPower(dev: number, engaged: boolean): void {
    this.w.set(Math.imul(dev, WORDS) + LOW_POWER, engaged ? 1 : 0);
  }

  /** Another host driver owns (or gives back) the resource of a BAR: requesting it then fails with EBUSY. */
  setBusy(dev: number, bar: number, busy: boolean): void {
    const at = Math.imul(dev, WORDS) + BUSY;
    this.w.set(at, busy ? this.w.a[at]! | (1 << bar) : this.w.a[at]! & ~(1 << bar));
  }
  /** vfio_pci_core_setup_barmap: requests and iomaps a BAR once. @returns false if the resource is taken: EBUSY */
  claim(dev: number, bar: number): boolean {
    const w = this.w;
    const at = Math.imul(dev, WORDS) + CLAIMED;
    if ((w.a[at]! & (1 << bar)) !== 0) return true;
    if (this.d.vfioBarClaim === "atOpen") return false;
    return this.tryClaim(dev, bar);
  }
  /** Requests one BAR now. */
  tryClaim(dev: number, bar: number): boolean {
    const w = this.w;
    if ((w.a[Math.imul(dev, WORDS) + BUSY]! & (1 << bar)) !== 0) return false;
    w.set(Math.imul(dev, WORDS) + CLAIMED, w.a[Math.imul(dev, WORDS) + CLAIMED]! | (1 << bar));
    return true;
  }
  dropClaims(dev: number): void {
    this.w.set(Math.imul(dev, WORDS) + CLAIMED, 0);
  }
  /** pdev->non_mappable_bars. */
  setNonMappable(dev: number, nonMappable: boolean): void {
    this.w.set(Math.imul(dev, WORDS) + NO_MMAP, nonMappable ? 1 : 0);
  }

  /** vfio_pci_probe_mmaps: may this BAR be mmapped at all? */
  mappable(dev: number, bar: Bar | undefined): boolean {
    if (bar === undefined || bar.io || this.w.a[Math.imul(dev, WORDS) + NO_MMAP] !== 0) return false;
    if (bar.size >= PAGE_SIZE) return true;
    if (!this.d.vfioSubPageBar || bar.start % PAGE_SIZE !== 0) return false;
    // The rest of its page is reserved for it, which fails where another BAR lies there.
    return !this.pci.bars.some((b) => b !== bar && !b.io && b.start >= bar.start && b.start < bar.start + PAGE_SIZE);
  }

  /** Page range [first, end) of a BAR that holds its MSI-X table, in pages of the BAR; end 0 if none. */
  msixEnd(dev: number, bar: number): number {
    const msix = this.function(dev).spec.msix;
    return msix === undefined || msix.bar !== bar ? 0 : Math.ceil((msix.offset + 16 * msix.vectors) / PAGE_SIZE);
  }
  msixFirst(dev: number): number {
    return Math.floor(this.function(dev).spec.msix!.offset / PAGE_SIZE);
  }

  /** __vfio_pci_memory_enabled: what the *user* believes, and in eras that test it the power state. */
  memoryEnabled(dev: number): boolean {
    if (this.d.vfioPowerState === "tested" && this.pci.powerState(dev) >= PCI_D3HOT) return false;
    return this.function(dev).spec.vf === true || this.vconfig.memoryBit(dev);
  }

  /** What the fault handlers test: memory enabled and no low-power state. */
  faultable(dev: number): boolean {
    return !this.lowPower(dev) && this.memoryEnabled(dev);
  }
}
