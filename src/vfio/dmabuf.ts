/**
 * A range of a BAR handed out as a dma-buf instead of by mmap (as proposed in Oct 2023, so that an importer gets page
 * frames and nobody in the hypervisor maps them): KVM asks here for the frame behind a memslot, and is told before the
 * exporter takes the frames away (struct dma_buf_attach_ops move_notify).
 *
 * There is no VMA and no host address. What names a place in a dma-buf is a number beyond every user address: DMABUF_BASE
 * and the physical address. The revocation is delivered as a range of those, by the way of the MMU notifiers.
 *
 * As in the series "vfio/pci: Allow MMIO regions to be exported through dma-buf", vfio_pci_dma_buf_move: what is revoked
 * under memory_lock gives no frames until the lock is dropped with the memory enabled.
 */
import { MMU_NOTIFY_CLEAR } from "../mmu/notifiers.js";
import { ARG, type Activity } from "../sim/agents.js";
import { EINVAL } from "../sim/errno.js";
import type { I32Pool } from "../sim/state.js";
import { PAGE_SIZE, ROM_REGION, type VfioDevices } from "./device.js";

/** Above TASK_SIZE of every VMM. */
export const DMABUF_BASE = 2 ** 50;
/** The VMM's address space: the one whose subscribers import. */
const VMM_MM = 0;

/** Of a device's exports: its frames are given out; importers are being told to let go; they have. */
const GIVEN = 0;
const MOVING = 1;
const REVOKED = 2;

const DEV = ARG;
/** The BAR whose importers are told. */
const BAR = ARG + 1;

export class DmaBufs {
  /** move_notify for everything that a device has exported: (dev). One phase and no event without exports. */
  readonly moveNotify: Activity;
  /** Per device: bits of the BARs of which a dma-buf exists. */
  private readonly exported: I32Pool;
  /** Per device: GIVEN, MOVING, REVOKED. */
  private readonly state: I32Pool;

  constructor(private readonly v: VfioDevices) {
    const { agents, state } = v.sim;
    this.exported = state.i32("vfio.dmabufs", Math.max(1, v.pci.functions.length));
    this.state = state.i32("vfio.dmabufsMoved", Math.max(1, v.pci.functions.length));
    this.moveNotify = agents.activity("vfioPciDmaBufMove", "drivers/vfio/pci: dma_buf_move_notify of what was exported", 2, [
      ["next", (f) => this.tell(f, true)],
      ["told", (f) => this.tell(f, false)],
    ]);
  }

  /** VFIO_DEVICE_FEATURE_DMA_BUF. @param position in the device file @returns what names its first byte, or -errno */
  export(dev: number, index: number, offset: number, length: number): number {
    const bar = index < ROM_REGION ? this.v.function(dev).bars[index] : undefined;
    if (bar === undefined || bar.io || length <= 0 || (offset | length) % PAGE_SIZE !== 0 || offset + length > bar.size) return -EINVAL;
    if (!this.any(dev)) this.state.set(dev, this.v.faultable(dev) ? GIVEN : REVOKED);
    this.exported.set(dev, this.exported.a[dev]! | (1 << index));
    return DMABUF_BASE + bar.start + offset;
  }

  /** The page frame that a name stands for, or -1: revoked, or no such place. */
  pfnAt(name: number): number {
    return this.frame(name, GIVEN);
  }
  /** The page frame that an importer may have mapped: it may keep what is being revoked until it was told. */
  importedPfn(name: number): number {
    return this.frame(name, MOVING);
  }

  private frame(name: number, most: number): number {
    const pa = name - DMABUF_BASE;
    for (const [dev, f] of this.v.pci.functions.entries())
      for (const bar of f.bars)
        if (bar !== undefined && !bar.io && pa >= bar.start && pa < bar.start + bar.size)
          return (this.exported.a[dev]! & (1 << bar.index)) !== 0 && this.state.a[dev]! <= most ? pa / PAGE_SIZE : -1;
    return -1;
  }

  any(dev: number): boolean {
    return this.exported.a[dev] !== 0;
  }

  /** memory_lock is about to be dropped: what was revoked is there again if the memory is. */
  settle(dev: number): void {
    if (this.any(dev) && this.v.faultable(dev)) this.state.set(dev, GIVEN);
  }

  /** One BAR after the other: its importers let go. */
  private tell(f: number, start: boolean): number {
    const { agents } = this.v.sim;
    const s = agents.stack;
    const dev = s.a[f + DEV]!;
    if (start) this.state.set(dev, MOVING);
    else s.set(f + BAR, s.a[f + BAR]! + 1);
    const { bars } = this.v.function(dev);
    for (let n = s.a[f + BAR]!; n < bars.length; n++) {
      const bar = bars[n];
      if (bar === undefined || (this.exported.a[dev]! & (1 << n)) === 0) continue;
      s.set(f + BAR, n);
      const from = DMABUF_BASE + bar.start;
      return agents.call(f, this.moveNotify.first + 1, this.v.mm.invalidateRange, VMM_MM, from, from + bar.size, MMU_NOTIFY_CLEAR);
    }
    this.state.set(dev, REVOKED);
    return agents.ret(f);
  }
}
