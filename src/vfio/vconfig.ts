/**
 * Config space as vfio-pci shows it to its user (drivers/vfio/pci/vfio_pci_config.c): a shadow, vconfig, whose
 * virtual bits hide the hardware's, and masks of what the user may write. The BARs are wholly virtual (sizing them
 * never touches the hardware); of the command register only INTx disable is, but the memory and I/O enables are
 * kept there as well, to know what the user believes.
 *
 * This file is the data and the default handlers; what a write sets off (zap, reset) is in configwrite.ts.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import * as C from "./configspace.js";
import type { PciFunction, PciFunctions } from "./pci.js";

const CONFIG_WORDS = C.PCI_CFG_SPACE_EXP_SIZE / 4;

/** What owns a config byte (pci_config_map). */
export const MAP_UNASSIGNED = -1;
export const MAP_BASIC = 0;

export class VirtualConfig {
  /** vconfig of every device, CONFIG_WORDS each. */
  private readonly vconfig: I32Pool;
  /** Per device: the BARs and the ROM register as they were at open (rbar), and [7] bardirty. */
  private readonly saved: I32Pool;
  /** Constant: which bits are virtual and which the user may write. */
  private readonly virt: Int32Array;
  private readonly writable: Int32Array;

  constructor(
    sim: Sim,
    private readonly pci: PciFunctions,
  ) {
    const n = Math.max(1, pci.functions.length);
    this.vconfig = sim.state.i32("vfio.vconfig", n * CONFIG_WORDS);
    this.saved = sim.state.i32("vfio.rbar", n * 8);
    this.virt = new Int32Array(n * CONFIG_WORDS);
    this.writable = new Int32Array(n * CONFIG_WORDS);
    for (const f of pci.functions) this.permissions(f);
  }

  private perm(fn: number, offset: number, bytes: number, virt: number, write: number): void {
    const w = fn * CONFIG_WORDS + (offset >> 2);
    const shift = 8 * (offset & 3);
    const mask = C.byteMask(bytes) << shift;
    this.virt[w] = (this.virt[w]! & ~mask) | ((virt << shift) & mask);
    this.writable[w] = (this.writable[w]! & ~mask) | ((write << shift) & mask);
  }

  /** init_pci_cap_basic_perm, init_pci_cap_pm_perm, init_pci_cap_exp_perm, init_pci_cap_af_perm. */
  private permissions(f: PciFunction): void {
    const { fn } = f;
    this.perm(fn, C.PCI_VENDOR_ID, 2, -1, 0);
    this.perm(fn, C.PCI_DEVICE_ID, 2, -1, 0);
    this.perm(fn, C.PCI_COMMAND, 2, C.PCI_COMMAND_INTX_DISABLE, 0xffff);
    this.perm(fn, C.PCI_STATUS, 2, C.PCI_STATUS_CAP_LIST, 0);
    this.perm(fn, C.PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
    this.perm(fn, C.PCI_LATENCY_TIMER, 1, 0, 0xff);
    this.perm(fn, C.PCI_BIST, 1, 0, 0xff);
    for (let bar = 0; bar < 6; bar++) this.perm(fn, C.PCI_BASE_ADDRESS_0 + 4 * bar, 4, -1, -1);
    this.perm(fn, C.PCI_ROM_ADDRESS, 4, -1, -1);
    this.perm(fn, C.PCI_CAPABILITY_LIST, 1, -1, 0);
    this.perm(fn, C.PCI_INTERRUPT_LINE, 1, -1, 0xff);
    this.perm(fn, C.PCI_INTERRUPT_PIN, 1, -1, 0);
    for (const cap of [f.pm, f.msix, f.af, f.exp]) if (cap !== 0) this.perm(fn, cap + 1, 1, -1, 0);
    if (f.pm !== 0)
      this.perm(fn, f.pm + C.PCI_PM_CTRL, 4, 0, ~(C.PCI_PM_CTRL_STATE_MASK | C.PCI_PM_CTRL_PME_ENABLE | C.PCI_PM_CTRL_PME_STATUS));
    if (f.exp !== 0) {
      const virt = C.PCI_EXP_DEVCTL_BCR_FLR | C.PCI_EXP_DEVCTL_PAYLOAD | C.PCI_EXP_DEVCTL_READRQ;
      this.perm(fn, f.exp + C.PCI_EXP_DEVCTL, 2, virt, ~C.PCI_EXP_DEVCTL_PHANTOM);
      this.perm(fn, f.exp + C.PCI_EXP_DEVCTL2, 2, 0, ~C.PCI_EXP_DEVCTL2_ARI);
    }
    if (f.af !== 0) this.perm(fn, f.af + C.PCI_AF_CTRL, 1, C.PCI_AF_CTRL_FLR, C.PCI_AF_CTRL_FLR);
  }

  /** pci_config_map: the capability that an offset belongs to, as its offset; MAP_BASIC or MAP_UNASSIGNED. */
  owner(f: PciFunction, offset: number): number {
    if (offset < C.PCI_STD_HEADER_SIZEOF) return MAP_BASIC;
    if (f.pm !== 0 && offset >= f.pm && offset < f.pm + C.CAP_SIZE_PM) return f.pm;
    if (f.msix !== 0 && offset >= f.msix && offset < f.msix + C.CAP_SIZE_MSIX) return f.msix;
    if (f.af !== 0 && offset >= f.af && offset < f.af + C.CAP_SIZE_AF) return f.af;
    if (f.exp !== 0 && offset >= f.exp && offset < f.exp + C.CAP_SIZE_EXP) return f.exp;
    return MAP_UNASSIGNED;
  }

  /** vfio_config_init: the shadow starts as the hardware is; the BARs are remembered. */
  init(f: PciFunction): void {
    for (let w = 0; w < CONFIG_WORDS; w++)
      this.vconfig.set(f.fn * CONFIG_WORDS + w, w * 4 < f.configSize ? this.pci.read(f.fn, 4 * w, 4) | 0 : 0);
    for (let bar = 0; bar < 6; bar++) this.saved.set(f.fn * 8 + bar, this.pci.read(f.fn, C.PCI_BASE_ADDRESS_0 + 4 * bar, 4) | 0);
    this.saved.set(f.fn * 8 + 6, this.pci.read(f.fn, C.PCI_ROM_ADDRESS, 4) | 0);
    this.saved.set(f.fn * 8 + 7, 0);
    // A virtual function has no memory enable of its own: it is shown as on.
    if (f.spec.vf === true) this.set(f.fn, C.PCI_COMMAND, 2, this.get(f.fn, C.PCI_COMMAND, 2) | C.PCI_COMMAND_MEMORY);
  }

  /** A field of the shadow, unsigned. */
  get(fn: number, offset: number, size: number): number {
    return ((this.vconfig.a[fn * CONFIG_WORDS + (offset >> 2)]! >>> (8 * (offset & 3))) & C.byteMask(size)) >>> 0;
  }

  set(fn: number, offset: number, size: number, value: number): void {
    const w = fn * CONFIG_WORDS + (offset >> 2);
    const shift = 8 * (offset & 3);
    const mask = C.byteMask(size) << shift;
    this.vconfig.set(w, (this.vconfig.a[w]! & ~mask) | ((value << shift) & mask));
  }

  /** Bit 1 of the command register that the user believes in. */
  memoryBit(fn: number): boolean {
    return (this.get(fn, C.PCI_COMMAND, 2) & C.PCI_COMMAND_MEMORY) !== 0;
  }

  /** A read of 1, 2 or 4 aligned bytes by the user: vfio_default_config_read, vfio_bar_fixup, vfio_raw_config_read. */
  read(f: PciFunction, offset: number, size: number): number {
    const physical = this.pci.read(f.fn, offset, size);
    if (this.owner(f, offset) === MAP_UNASSIGNED) return physical;
    if (offset < C.PCI_BASE_ADDRESS_0 + 24 && offset >= C.PCI_BASE_ADDRESS_0) this.fixBars(f);
    const virt = this.masked(this.virt, f.fn, offset, size);
    let value = ((physical & ~virt) | (this.get(f.fn, offset, size) & virt)) >>> 0;
    if (offset === C.PCI_COMMAND && f.spec.vf === true) value |= this.get(f.fn, C.PCI_COMMAND, 2) & C.PCI_COMMAND_MEMORY;
    return value;
  }

  private masked(masks: Int32Array, fn: number, offset: number, size: number): number {
    return (masks[fn * CONFIG_WORDS + (offset >> 2)]! >>> (8 * (offset & 3))) & C.byteMask(size);
  }

  /** vfio_default_config_write: virtual bits to the shadow, the others to the hardware. */
  defaultWrite(f: PciFunction, offset: number, size: number, value: number): void {
    const { fn } = f;
    const write = this.masked(this.writable, fn, offset, size);
    if (write === 0) return;
    const virt = this.masked(this.virt, fn, offset, size);
    if ((write & virt) !== 0) this.set(fn, offset, size, (this.get(fn, offset, size) & ~(write & virt)) | (value & write & virt));
    const direct = write & ~virt;
    if (direct !== 0) this.pci.write(fn, offset, size, (this.pci.read(fn, offset, size) & ~direct) | (value & direct));
    if (offset >= C.PCI_BASE_ADDRESS_0 && offset < C.PCI_BASE_ADDRESS_0 + 24) this.saved.set(fn * 8 + 7, 1);
  }

  /** vfio_bar_fixup: what the user wrote into a BAR reads back with the bits that a BAR of its size has. */
  private fixBars(f: PciFunction): void {
    if (this.saved.a[f.fn * 8 + 7] === 0) return;
    for (let i = 0; i < 6; i++) {
      const at = C.PCI_BASE_ADDRESS_0 + 4 * i;
      const bar = f.bars[i];
      if (bar === undefined) {
        if (f.bars[i - 1]?.wide !== true) this.set(f.fn, at, 4, 0);
        continue;
      }
      const type = this.pci.read(f.fn, at, 4) & (bar.io ? 3 : 15);
      const below = bar.size - 1;
      this.set(f.fn, at, 4, (this.get(f.fn, at, 4) & (bar.size > 0x80000000 ? 0 : ~(below | 0))) | type);
      if (bar.wide) this.set(f.fn, at + 4, 4, this.get(f.fn, at + 4, 4) & ~Math.floor(below / 4294967296));
    }
    this.saved.set(f.fn * 8 + 7, 0);
  }

  /** vfio_need_bar_restore: the hardware's BARs are no longer what they were at open. */
  needsBarRestore(f: PciFunction): boolean {
    for (let bar = 0; bar < 6; bar++) {
      const rbar = this.saved.a[f.fn * 8 + bar]!;
      if (rbar !== 0 && (this.pci.read(f.fn, C.PCI_BASE_ADDRESS_0 + 4 * bar, 4) | 0) !== rbar) return true;
    }
    return false;
  }

  /** vfio_bar_restore: after a backdoor reset the BAR registers are written back. */
  restoreBars(f: PciFunction): void {
    if (f.spec.vf === true) return;
    for (let bar = 0; bar < 6; bar++) this.pci.write(f.fn, C.PCI_BASE_ADDRESS_0 + 4 * bar, 4, this.saved.a[f.fn * 8 + bar]!);
    this.pci.write(f.fn, C.PCI_ROM_ADDRESS, 4, this.saved.a[f.fn * 8 + 6]!);
  }
}
