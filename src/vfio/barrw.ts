/** read() and write() of a device file (vfio_pci_core.c vfio_pci_rw, vfio_pci_rdwr.c vfio_pci_bar_rw, do_io_rw). */
import { ARG, BLOCKED, R0, R1, R2, type Activity } from "../sim/agents.js";
import { EBUSY, EFAULT, EINVAL, EIO } from "../sim/errno.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { CONFIG_REGION, REGION_SPAN, type VfioDevices } from "./device.js";
import { barRead, barWrite } from "./hostbridge.js";
import type { Bar } from "./pci.js";
import { vfioRw } from "./trace.js";

const DEV = ARG;
/** Offset in the device file. */
const POSITION = ARG + 1;
const COUNT = ARG + 2;
const WRITE = ARG + 3;
const LO = ARG + 4;
const HI = ARG + 5;
const DONE = ARG + 6;
/** Of a read: where in the VMM's memory the bytes go, 0: the caller of this activity takes them. It comes in LO. */
const BUFFER = ARG + 7;

/** Of the VMM's buffer. */
const BUFFER_BYTES = 8;

const ACCESS = 1;
const FINISH = 2;
const COPIED = 3;

export class VfioRegionRw {
  /**
   * pread and pwrite: (dev, position, count, write 0|1, lo or the buffer of a read, hi) -> R0 bytes | -errno, R1 lo, R2 hi.
   * The VMM's own buffer has 8 bytes, and nothing is mapped behind it: EFAULT after those.
   */
  readonly rw: Activity;

  constructor(
    private readonly v: VfioDevices,
    private readonly phys: PhysicalMemory,
    private readonly configRw: Activity,
  ) {
    this.rw = v.sim.agents.activity("vfioPciRw", "drivers/vfio/pci/vfio_pci_core.c vfio_pci_rw", 8, [
      ["dispatch", (f) => this.dispatch(f)],
      ["access", (f) => this.access(f)],
      ["finish", (f) => this.finishConfig(f)],
      ["copied", (f) => this.copied(f)],
    ]);
  }

  private dispatch(f: number): number {
    const { agents } = this.v.sim;
    const s = agents.stack;
    const dev = s.a[f + DEV]!;
    if (s.a[f + WRITE] === 0) {
      s.set(f + BUFFER, s.a[f + LO]!);
      s.set(f + LO, 0);
    }
    const count = s.a[f + COUNT]!;
    // rw_verify_area; vfio_pci_core_read and vfio_pci_core_write
    if (count <= 0) return this.finish(f, count < 0 ? -EINVAL : 0);
    const position = s.a[f + POSITION]!;
    const index = Math.floor(position / REGION_SPAN);
    const offset = position - index * REGION_SPAN;
    if (index === CONFIG_REGION) {
      const a = s.a;
      return agents.call(f, this.rw.first + FINISH, this.configRw, dev, offset, a[f + COUNT], a[f + WRITE], a[f + LO], a[f + HI]);
    }
    // ROM, VGA and regions that the device does not have.
    const bar = this.v.function(dev).bars[index];
    if (bar === undefined || offset >= bar.size) return this.finish(f, -EINVAL);
    if (offset + count > bar.size) s.set(f + COUNT, bar.size - offset);
    if (!this.v.claim(dev, index)) return this.finish(f, -EBUSY);
    s.set(f + DONE, 0);
    return this.rw.first + ACCESS;
  }

  /** One access, or the whole copy, by the era's locking. */
  private access(f: number): number {
    const { agents, locks } = this.v.sim;
    const a = agents.stack.a;
    const dev = a[f + DEV]!;
    const position = a[f + POSITION]!;
    const bar = this.v.function(dev).bars[Math.floor(position / REGION_SPAN)]!;
    const policy = bar.io ? "reachesHardware" : this.v.d.vfioRegionRw;
    if (policy !== "reachesHardware" && !locks.read(this.v.memoryLock[dev]!)) return BLOCKED;
    // __vfio_pci_memory_enabled: "Caller should hold memory_lock semaphore".
    if (policy !== "reachesHardware") locks.assertHeld(this.v.memoryLock[dev]!);
    const ok = policy === "reachesHardware" || this.v.memoryEnabled(dev);
    const start = position % REGION_SPAN;
    if (ok) this.chunk(f, dev, bar, start);
    const end = Math.min(a[f + COUNT]!, BUFFER_BYTES);
    while (ok && policy !== "eioLockedPerAccess" && a[f + DONE]! < end) this.chunk(f, dev, bar, start);
    const fits = a[f + COUNT]! <= BUFFER_BYTES;
    const copies = ok && fits && a[f + BUFFER] !== 0 && a[f + DONE]! >= end;
    // Up to v5.10 copy_to_user comes with the lock held, and may fault.
    if (copies && policy === "eioLockedWhole") return this.copyToUser(f);
    if (policy !== "reachesHardware") locks.unlockRead(this.v.memoryLock[dev]!);
    if (!ok) return this.finish(f, -EIO);
    if (copies) return this.copyToUser(f);
    if (a[f + DONE]! < end) return this.rw.first + ACCESS;
    return this.finish(f, fits ? a[f + DONE]! : -EFAULT);
  }

  private copyToUser(f: number): number {
    const { agents } = this.v.sim;
    const a = agents.stack.a;
    return agents.call(f, this.rw.first + COPIED, this.v.mm.hostAccess, 0, a[f + BUFFER], a[f + COUNT], 1, a[f + LO]! | 0, a[f + HI]! | 0);
  }

  private copied(f: number): number {
    const { agents, locks } = this.v.sim;
    const a = agents.stack.a;
    const dev = a[f + DEV]!;
    const bar = this.v.function(dev).bars[Math.floor(a[f + POSITION]! / REGION_SPAN)]!;
    if (!bar.io && this.v.d.vfioRegionRw === "eioLockedWhole") locks.unlockRead(this.v.memoryLock[dev]!);
    return this.finish(f, a[f + R0]! < 0 ? -EFAULT : a[f + DONE]!);
  }

  /** The widest aligned access that fits: do_io_rw. */
  private chunk(f: number, dev: number, bar: Bar, start: number): void {
    const s = this.v.sim.agents.stack;
    const done = s.a[f + DONE]!;
    const offset = start + done;
    const left = Math.min(s.a[f + COUNT]!, BUFFER_BYTES) - done;
    let size: number = this.v.d.vfioRegionRwWidth;
    while (size > left || offset % size !== 0) size >>= 1;
    const write = s.a[f + WRITE] !== 0;
    const msix = this.v.function(dev).spec.msix;
    const table = msix !== undefined && msix.bar === bar.index && offset + size > msix.offset && offset < msix.offset + 16 * msix.vectors;
    if (write) {
      // At most 4 bytes unless the whole 8 are written at once.
      const lo = size === 8 ? s.a[f + LO]! | 0 : this.bytes(f, done, size);
      if (!table) this.put(bar, offset, size, lo, size === 8 ? s.a[f + HI]! | 0 : 0);
    } else {
      if (table) this.phys.lo = this.phys.hi = -1;
      else this.get(bar, offset, size);
      this.keep(f, done, size, this.phys.lo, this.phys.hi);
    }
    s.set(f + DONE, done + size);
  }

  private get(bar: Bar, offset: number, size: number): void {
    const { fabric } = this.v.pci;
    if (!bar.io) return fabric === undefined ? this.phys.read(bar.start + offset, size) : fabric.driverRead(bar.start + offset, size);
    barRead(this.v.sim, this.v.pci, bar, offset, size);
    this.phys.lo = bar.model.lo;
    this.phys.hi = bar.model.hi;
  }

  private put(bar: Bar, offset: number, size: number, lo: number, hi: number): void {
    const { fabric } = this.v.pci;
    if (bar.io) barWrite(this.v.sim, this.v.pci, bar, offset, size, lo, hi);
    else if (fabric !== undefined) fabric.driverWrite(bar.start + offset, size, lo, hi);
    else this.phys.write(bar.start + offset, size, lo, hi);
  }

  private bytes(f: number, at: number, size: number): number {
    const a = this.v.sim.agents.stack.a;
    let v = 0;
    for (let i = 0; i < size; i++) v |= (((a[f + (at + i < 4 ? LO : HI)]! | 0) >>> (8 * ((at + i) & 3))) & 0xff) << (8 * i);
    return v;
  }

  private keep(f: number, at: number, size: number, lo: number, hi: number): void {
    const s = this.v.sim.agents.stack;
    for (let i = 0; i < size; i++) {
      const word = f + (at + i < 4 ? LO : HI);
      const shift = 8 * ((at + i) & 3);
      const byte = ((i < 4 ? lo : hi) >>> (8 * (i & 3))) & 0xff;
      s.set(word, ((s.a[word]! | 0) & ~(0xff << shift)) | (byte << shift));
    }
  }

  private finishConfig(f: number): number {
    const s = this.v.sim.agents.stack;
    s.set(f + LO, s.a[f + R1]!);
    s.set(f + HI, s.a[f + R2]!);
    return this.finish(f, s.a[f + R0]!);
  }

  private finish(f: number, ret: number): number {
    const { agents, bus } = this.v.sim;
    const a = agents.stack.a;
    const position = a[f + POSITION]!;
    const region = Math.floor(position / REGION_SPAN);
    bus.emit(vfioRw, ret, this.v.function(a[f + DEV]!).name, region, position - region * REGION_SPAN, a[f + WRITE]);
    return agents.ret(f, ret, a[f + LO]! | 0, a[f + HI]! | 0);
  }
}
