/**
 * What answers behind a BAR. A model gets offsets within its BAR and sizes of 1 to 8 bytes; it leaves
 * what it read in `lo`, `hi`. All its state lies in pools.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { BarStorage } from "./barstorage.js";
import type { ModelName } from "./devicespec.js";

export interface DeviceModel {
  /** Result of the last read. */
  readonly lo: number;
  readonly hi: number;
  read(offset: number, size: number): void;
  write(offset: number, size: number, lo: number, hi: number): void;
  /** A function reset: registers get their initial values. */
  reset(): void;
}

/** Memory: ivshmem's and pci-testdev's BAR 2. Its contents survive a reset of the function. */
export class MemoryModel implements DeviceModel {
  private readonly bar: number;
  constructor(
    private readonly storage: BarStorage,
    size: number,
  ) {
    this.bar = storage.add(size);
  }
  get lo(): number {
    return this.storage.lo;
  }
  get hi(): number {
    return this.storage.hi;
  }
  read(offset: number, size: number): void {
    this.storage.read(this.bar, offset, size);
  }
  write(offset: number, size: number, lo: number, hi: number): void {
    this.storage.write(this.bar, offset, size, lo, hi);
  }
  reset(): void {}
}

/** What register models share: a few words of state in a pool. */
abstract class RegisterModel implements DeviceModel {
  lo = 0;
  hi = 0;
  protected readonly regs: I32Pool;
  constructor(sim: Sim, name: string, words: number) {
    this.regs = sim.state.i32(`device.${name}`, words);
  }
  abstract read(offset: number, size: number): void;
  abstract write(offset: number, size: number, lo: number, hi: number): void;
  reset(): void {
    for (let i = 0; i < this.regs.a.length; i++) this.regs.set(i, 0);
  }
  protected give(lo: number, size: number): void {
    this.lo = size >= 4 ? lo | 0 : lo & ((1 << (8 * size)) - 1);
    this.hi = 0;
  }
  protected allOnes(size: number): void {
    this.give(-1, size);
    this.hi = size > 4 ? -1 : 0;
  }
}

const EDU_LIVENESS = 0;
const EDU_FACTORIAL = 1;
const EDU_STATUS = 2;
const EDU_INTR = 3;
/** DMA source, destination, count, command: low and high words. */
const EDU_DMA = 4;
const EDU_STATUS_IRQ = 0x80;

/**
 * QEMU's educational device (docs/specs/edu.rst). 0x00 identification, 0x04 liveness check (reads give the inverse),
 * 0x08 factorial, 0x20 status, 0x24 interrupt status, 0x60 raise, 0x64 acknowledge, 0x80… the DMA registers. Below 0x80
 * only 4-byte accesses count; other offsets read all-ones. A factorial is ready at once; DMA transfers are not modelled.
 */
export class EduModel extends RegisterModel {
  constructor(sim: Sim, name: string) {
    super(sim, name, 12);
  }

  read(offset: number, size: number): void {
    if (offset < 0x80 ? size !== 4 : size !== 4 && size !== 8) return this.allOnes(size);
    const r = this.regs.a;
    switch (offset) {
      case 0x00:
        return this.give(0x010000ed, size);
      case 0x04:
        return this.give(r[EDU_LIVENESS]!, size);
      case 0x08:
        return this.give(r[EDU_FACTORIAL]!, size);
      case 0x20:
        return this.give(r[EDU_STATUS]!, size);
      case 0x24:
        return this.give(r[EDU_INTR]!, size);
      case 0x80:
      case 0x88:
      case 0x90:
      case 0x98:
        this.give(r[EDU_DMA + (offset - 0x80) / 4]!, 4);
        this.hi = size === 8 ? r[EDU_DMA + (offset - 0x80) / 4 + 1]! : 0;
        return;
      default:
        return this.allOnes(size);
    }
  }

  write(offset: number, size: number, lo: number, hi: number): void {
    if (offset < 0x80 ? size !== 4 : size !== 4 && size !== 8) return;
    const r = this.regs;
    switch (offset) {
      case 0x04:
        return r.set(EDU_LIVENESS, ~lo);
      case 0x08:
        r.set(EDU_FACTORIAL, factorial(lo));
        if ((r.a[EDU_STATUS]! & EDU_STATUS_IRQ) !== 0) r.set(EDU_INTR, r.a[EDU_INTR]! | 1);
        return;
      case 0x20:
        return r.set(EDU_STATUS, lo & EDU_STATUS_IRQ);
      case 0x60:
        return r.set(EDU_INTR, r.a[EDU_INTR]! | lo);
      case 0x64:
        return r.set(EDU_INTR, r.a[EDU_INTR]! & ~lo);
      case 0x80:
      case 0x88:
      case 0x90:
        r.set(EDU_DMA + (offset - 0x80) / 4, lo);
        r.set(EDU_DMA + (offset - 0x80) / 4 + 1, size === 8 ? hi : 0);
    }
  }
}

/** n! modulo 2^32, as an int32. From 34! on it is 0, so large values end early. */
function factorial(n: number): number {
  let ret = 1;
  for (let i = n >>> 0; i > 1 && ret !== 0; i--) ret = Math.imul(ret, i);
  return ret;
}

/** Inter-VM shared memory, BAR 0 (docs/specs/ivshmem-spec.rst): interrupt mask and status, own position, doorbell. */
export class IvshmemModel extends RegisterModel {
  constructor(sim: Sim, name: string) {
    super(sim, name, 4);
  }
  read(offset: number, size: number): void {
    const r = this.regs;
    const reg = (offset & 0xff) >> 2;
    const shift = (offset & 3) * 8;
    const value = reg < 2 ? r.a[reg]! : 0;
    this.give(value >>> shift, size);
    // Reading the interrupt status clears it.
    if (reg === 1) r.set(1, 0);
  }
  write(offset: number, size: number, lo: number): void {
    if (size < 4 || (offset & 3) !== 0) return;
    if (offset < 8) this.regs.set(offset >> 2, lo);
  }
}

const TESTDEV_TESTS = 3;

/**
 * pci-testdev (docs/specs/pci-testdev.rst): byte 0 selects a test; while one is selected, reads give the bytes of its
 * header (test, width, offset, data, count) and a write to the header's offset counts.
 */
export class TestdevModel extends RegisterModel {
  constructor(
    sim: Sim,
    name: string,
    /** Where the tests' target bytes start: 2048 for memory, 128 for I/O. */
    private readonly target: number,
  ) {
    super(sim, name, 1 + TESTDEV_TESTS);
  }
  private header(test: number, byte: number): number {
    if (byte === 0) return test;
    if (byte === 1) return 1;
    if (byte >= 4 && byte < 8) return ((this.target + test) >>> (8 * (byte - 4))) & 0xff;
    if (byte === 8) return test === 1 ? 0xce : 0xfa;
    if (byte >= 12 && byte < 16) return (this.regs.a[1 + test]! >>> (8 * (byte - 12))) & 0xff;
    return 0;
  }
  read(offset: number, size: number): void {
    const test = this.regs.a[0]! - 1;
    this.give(test < 0 ? 0 : this.header(test, offset), size);
  }
  write(offset: number, size: number, lo: number): void {
    const r = this.regs;
    const value = lo & 0xff;
    if (offset === 0) {
      if (value >= TESTDEV_TESTS) return;
      r.set(0, value + 1);
      r.set(1 + value, 0);
      return;
    }
    const test = r.a[0]! - 1;
    if (test < 0 || offset !== this.target + test) return;
    if (test !== 1 && (size !== 1 || value !== 0xfa)) return;
    r.set(1 + test, r.a[1 + test]! + 1);
  }
}

/**
 * A register block for scripts, with side effects in both directions (word offsets, repeated every 64 bytes):
 * 0x00 identification 0x464c5452, 0x04 scratch, 0x08 counts the reads of itself, 0x0c counts all writes to the block,
 * 0x10 write 1 to clear, 0x14 a FIFO of one word that a read empties, others scratch.
 */
export class RegistersModel extends RegisterModel {
  constructor(sim: Sim, name: string) {
    super(sim, name, 16);
    this.reset();
  }
  override reset(): void {
    super.reset();
    this.regs.set(0, 0x464c5452);
    this.regs.set(4, -1);
  }
  read(offset: number, size: number): void {
    const r = this.regs;
    const reg = (offset >> 2) & 15;
    if (reg === 2) r.set(2, r.a[2]! + 1);
    this.give(r.a[reg]! >>> ((offset & 3) * 8), size);
    if (size === 8) this.hi = r.a[(reg + 1) & 15]!;
    if (reg === 5) r.set(5, 0);
  }
  write(offset: number, size: number, lo: number, hi: number): void {
    const r = this.regs;
    const reg = (offset >> 2) & 15;
    r.set(3, r.a[3]! + 1);
    const shift = (offset & 3) * 8;
    const mask = (size >= 4 ? -1 : (1 << (8 * size)) - 1) << shift;
    if (reg === 4) r.set(4, r.a[4]! & ~((lo << shift) & mask));
    else if (reg !== 0 && reg !== 2 && reg !== 3) r.set(reg, (r.a[reg]! & ~mask) | ((lo << shift) & mask));
    if (size === 8) this.write(offset + 4, 4, hi, 0);
  }
}

/** Builds the model of a BAR. @param name unique, for its pool */
export function deviceModel(sim: Sim, storage: BarStorage, model: ModelName, name: string, size: number, io: boolean): DeviceModel {
  switch (model) {
    case "memory":
      return new MemoryModel(storage, size);
    case "edu":
      return new EduModel(sim, name);
    case "ivshmem":
      return new IvshmemModel(sim, name);
    case "testdev":
      return new TestdevModel(sim, name, io ? 128 : 2048);
    case "registers":
      return new RegistersModel(sim, name);
  }
}
