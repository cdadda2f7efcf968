/**
 * Ranges of a device's BARs that its user has asked to map write-combining (David Hildenbrand, Feb 2024: user space tells
 * VFIO which parts of a BAR it would like to have mapped differently). No release has it; the name of the call is ours.
 * A mapping that lies in such a range as a whole is Normal-NC, any other one as it always was.
 */
import { EINVAL, ENOSPC, ENOTTY } from "../sim/errno.js";
import type { I32Pool } from "../sim/state.js";
import { PAGE_SIZE, REGION_PAGES, ROM_REGION, type VfioDevices } from "./device.js";

/** Ranges of one device. */
const MOST = 8;
/** Per device: how many, then first page in the device file and pages of each. */
const WORDS = 1 + 2 * MOST;

export class MmapTypes {
  private readonly ranges: I32Pool;

  constructor(private readonly v: VfioDevices) {
    this.ranges = v.sim.state.i32("vfio.combining", Math.max(1, v.pci.functions.length) * WORDS);
  }

  /** The user asks for a range. @returns 0 or -errno: ENOTTY where the kernel has no such feature */
  ask(dev: number, index: number, offset: number, length: number): number {
    if (this.v.d.vfioMmapType !== "as-asked") return -ENOTTY;
    const bar = index < ROM_REGION ? this.v.function(dev).bars[index] : undefined;
    if (bar === undefined || bar.io || length <= 0 || (offset | length) % PAGE_SIZE !== 0 || offset + length > bar.size) return -EINVAL;
    const at = dev * WORDS;
    const n = this.ranges.a[at]!;
    if (n === MOST) return -ENOSPC;
    this.ranges.set(at + 1 + 2 * n, index * REGION_PAGES + offset / PAGE_SIZE);
    this.ranges.set(at + 2 + 2 * n, length / PAGE_SIZE);
    this.ranges.set(at, n + 1);
    return 0;
  }

  /** Does a mapping of so many pages from this page of the device file lie in a range that was asked for? */
  combines(dev: number, page: number, pages: number): boolean {
    const { a } = this.ranges;
    for (let n = 0, at = dev * WORDS + 1; n < a[dev * WORDS]!; n++, at += 2)
      if (page >= a[at]! && page + pages <= a[at]! + a[at + 1]!) return true;
    return false;
  }

  /** The device is closed: the next user has asked for nothing. */
  forget(dev: number): void {
    for (let w = dev * WORDS; w < (dev + 1) * WORDS; w++) this.ranges.set(w, 0);
  }
}
