/**
 * VFIO_DEVICE_IOEVENTFD: a write of fixed data to a BAR whenever an eventfd is signalled, without leaving the kernel
 * (vfio_pci_rdwr.c vfio_pci_ioeventfd, vfio_pci_ioeventfd_handler).
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import { EBUSY, EEXIST, EINVAL, ENODEV, ENOSPC, ENOTTY } from "../sim/errno.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { REGION_SPAN, type VfioDevices } from "./device.js";
import { barWrite } from "./hostbridge.js";
import { vfioIoeventfdWrite } from "./trace.js";

/** Most ioeventfds of one device. */
export const VFIO_PCI_IOEVENTFD_MAX = 1000;

const DEV = ARG;
const OFFSET = ARG + 1;
const FLAGS = ARG + 2;
const LO = ARG + 3;
const HI = ARG + 4;
const FD = ARG + 5;

/** Words of an entry: device + 1 (0 free), eventfd, size, data low and high; its position is in a pool of doubles. */
const E_DEV = 0;
const E_FD = 1;
const E_SIZE = 2;
const E_LO = 3;
const E_HI = 4;
const WORDS = 5;

export class Ioeventfds {
  /** The ioctl: (dev, offset in the file, size flag 1|2|4|8, data lo, hi, eventfd or -1 to remove) -> 0 | -errno. */
  readonly ioctl: Activity;
  /** eventfd_signal: (eventfd, the entry to go on with: 0). */
  readonly signal: Activity;
  private readonly entries: I32Pool;
  private readonly positions: F64Pool;
  /** [0] entries ever used. */
  private readonly used: I32Pool;

  constructor(
    private readonly v: VfioDevices,
    private readonly phys: PhysicalMemory,
  ) {
    this.entries = v.sim.state.i32("vfio.ioeventfds", 4 * WORDS);
    this.positions = v.sim.state.f64("vfio.ioeventfdPositions", 4);
    this.used = v.sim.state.i32("vfio.ioeventfdUsed", 1);
    const source = "drivers/vfio/pci/vfio_pci_rdwr.c";
    this.ioctl = v.sim.agents.activity("vfioPciIoeventfd", `${source} vfio_pci_ioeventfd`, 6, [["ioctl", (f) => this.add(f)]]);
    this.signal = v.sim.agents.activity("vfioPciIoeventfdHandler", `${source} vfio_pci_ioeventfd_handler`, 2, [
      ["write", (f) => this.handler(f)],
    ]);
  }

  private add(f: number): number {
    const { agents } = this.v.sim;
    const a = agents.stack.a;
    return agents.ret(f, this.change(a[f + DEV]!, a[f + OFFSET]!, a[f + FLAGS]!, a[f + LO]! | 0, a[f + HI]! | 0, a[f + FD]!));
  }

  private change(dev: number, position: number, size: number, lo: number, hi: number, fd: number): number {
    const { v } = this;
    if (v.d.vfioIoeventfd === "absent") return -ENOTTY;
    if ((size !== 1 && size !== 2 && size !== 4 && size !== 8) || fd < -1) return -EINVAL;
    const index = Math.floor(position / REGION_SPAN);
    const offset = position - index * REGION_SPAN;
    const f = v.function(dev);
    const bar = f.bars[index];
    if (bar === undefined || offset + size > bar.size) return -EINVAL;
    const msix = f.spec.msix;
    if (msix?.bar === index && offset + size > msix.offset && offset < msix.offset + 16 * msix.vectors) return -EINVAL;
    if (size > v.d.vfioIoeventfdWidth) return -EINVAL;
    if (!v.claim(dev, index)) return -EBUSY;
    let own = 0;
    let free = -1;
    for (let e = 0; e < this.used.a[0]!; e++) {
      const w = e * WORDS;
      const words = this.entries.a;
      if (words[w + E_DEV] === 0) free = e;
      if (words[w + E_DEV] !== dev + 1) continue;
      own++;
      if (this.positions.a[e] !== position || words[w + E_SIZE] !== size || words[w + E_LO] !== lo || words[w + E_HI] !== hi) continue;
      if (fd >= 0) return -EEXIST;
      this.entries.set(w + E_DEV, 0);
      return 0;
    }
    if (fd < 0) return -ENODEV;
    if (own >= VFIO_PCI_IOEVENTFD_MAX) return -ENOSPC;
    this.insert(free, dev, position, size, lo, hi, fd);
    return 0;
  }

  private insert(free: number, dev: number, position: number, size: number, lo: number, hi: number, fd: number): void {
    let e = free;
    if (e < 0) {
      e = this.used.a[0]!;
      this.used.set(0, e + 1);
      this.entries.ensure((e + 1) * WORDS);
      this.positions.ensure(e + 1);
    }
    this.positions.set(e, position);
    this.entries.set(e * WORDS + E_DEV, dev + 1);
    this.entries.set(e * WORDS + E_FD, fd);
    this.entries.set(e * WORDS + E_SIZE, size);
    this.entries.set(e * WORDS + E_LO, lo);
    this.entries.set(e * WORDS + E_HI, hi);
  }

  /** Removes every ioeventfd of a device that is closed. */
  removeAll(dev: number): void {
    for (let e = 0; e < this.used.a[0]!; e++) if (this.entries.a[e * WORDS + E_DEV] === dev + 1) this.entries.set(e * WORDS + E_DEV, 0);
  }

  /** One phase for each entry: the handler runs in eventfd_signal, or in a thread where memory_lock is taken. */
  private handler(f: number): number {
    const { agents, locks } = this.v.sim;
    const s = agents.stack;
    const fd = s.a[f + ARG]!;
    const words = this.entries.a;
    for (let e = s.a[f + ARG + 1]!; e < this.used.a[0]!; e++) {
      const w = e * WORDS;
      if (words[w + E_DEV] === 0 || words[w + E_FD] !== fd) continue;
      s.set(f + ARG + 1, e);
      const dev = words[w + E_DEV]! - 1;
      const tests = this.v.d.vfioIoeventfd === "dropped";
      if (tests && !locks.read(this.v.memoryLock[dev]!)) return BLOCKED;
      this.write(e, dev, tests && !this.v.memoryEnabled(dev));
      if (tests) locks.unlockRead(this.v.memoryLock[dev]!);
      s.set(f + ARG + 1, e + 1);
      return this.signal.first;
    }
    return agents.ret(f);
  }

  private write(e: number, dev: number, dropped: boolean): void {
    const f = this.v.function(dev);
    const position = this.positions.a[e]!;
    const index = Math.floor(position / REGION_SPAN);
    const offset = position - index * REGION_SPAN;
    this.v.sim.bus.emit(vfioIoeventfdWrite, f.name, offset, dropped ? 1 : 0);
    if (dropped) return;
    const bar = f.bars[index]!;
    const size = this.entries.a[e * WORDS + E_SIZE]!;
    const lo = this.entries.a[e * WORDS + E_LO]!;
    const hi = size === 8 ? this.entries.a[e * WORDS + E_HI]! : 0;
    if (bar.io) barWrite(this.v.sim, this.v.pci, bar, offset, size, lo, hi);
    else this.phys.write(bar.start + offset, size, lo, hi);
  }
}
