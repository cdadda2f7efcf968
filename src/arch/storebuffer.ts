/**
 * The store buffer and gathering buffer of every physical CPU (Arm ARM B2.7 and B2.10): stores that have left the
 * pipeline and that no other observer sees yet. One list per CPU, in program order.
 *
 * entry word | meaning
 * KIND       | memory type of the store: the KIND_ numbers below
 * PA_LO, HI  | physical address of its 64-byte line
 * MASK_LO, HI| bit n: byte n of the line is written
 * EPOCH      | barriers of the store kind executed before it: it may neither pass nor merge with an older epoch
 * INNER      | the same for barriers that order only inner shareable accesses: it holds back write-back stores
 * RELEASE    | 1: a store-release, which leaves after everything before it
 * STALE      | 1: the device that it goes to was reset since
 * MARKS      | C_FLAGS of its translation
 * DATA …     | 16 words
 *
 * Stores to Normal Non-cacheable and Device-GRE memory gather: same line, same type, no barrier between them. Device
 * stores without gathering are an entry each. Write-back stores are buffered in weak mode only.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { isDevice, ATTR_NC, canonicalAttr } from "./mair.js";
import type { PhysicalMemory } from "./phys.js";
import { joinWords, type Pa } from "./types.js";
import { storeBuffered, storeDrained } from "./orderingevents.js";

export const KIND_nGnRnE = 1;
export const KIND_nGnRE = 2;
export const KIND_nGRE = 3;
export const KIND_GRE = 4;
export const KIND_NC = 5;
export const KIND_WB = 6;
export const KIND_NAMES = ["-", "nGnRnE", "nGnRE", "nGRE", "GRE", "NC", "WB"] as const;

/** Kind of store by resulting attribute byte. */
export const KIND_OF = new Uint8Array(256);
for (let a = 0; a < 256; a++) {
  const attr = canonicalAttr(a);
  KIND_OF[a] = isDevice(attr) ? (attr >> 2) + 1 : attr === ATTR_NC ? KIND_NC : KIND_WB;
}

/** Why an entry left: values of the event's field. */
export const DRAIN_BARRIER = 0;
export const DRAIN_FULL = 1;
export const DRAIN_CAPACITY = 2;
export const DRAIN_LOAD = 3;
export const DRAIN_ORDER = 4;
export const DRAIN_DVM = 5;
export const DRAIN_OWN = 6;

const KIND = 0;
const PA_LO = 1;
const PA_HI = 2;
const MASK_LO = 3;
const MASK_HI = 4;
const EPOCH = 5;
const RELEASE = 6;
/** 1: the device behind this address was reset since the store. */
const STALE = 7;
/** C_FLAGS of the translation: what a data cache asks. */
const MARKS = 8;
const INNER = 9;
const DATA = 10;
const WORDS = DATA + 16;
/** Words of a CPU's head. */
const HEADS = 3;
/** Entries of one CPU. */
const CAPACITY = 24;
const SLICE = CAPACITY * WORDS;
export const LINE = 64;

/** Memory behind the buffers: the data cache where one is modelled, else RAM. Loads leave their data in the PhysicalMemory. */
export interface MemorySide {
  load(pa: Pa, size: number, marks: number): void;
  store(pa: Pa, size: number, marks: number, lo: number, hi: number, lo2: number, hi2: number): void;
}

/** What a load from a device comes to: an answer, an SError later, a synchronous external abort, an SError that says Uncontained. */
export const READ_OK = 0;
export const READ_SERROR = 1;
export const READ_SEA = 2;
export const READ_UNCONTAINED = 3;

/** Where drained stores to device windows go, and loads from there: the interconnect and what is behind it. */
export interface DevicePort {
  /** Bytes of one line leave a CPU: accepted at the point of serialisation. Data in `words` from index `at`. */
  post(cpu: number, kind: number, line: Pa, maskLo: number, maskHi: number, words: Int32Array, at: number, stale: boolean): void;
  /** A load of 1 to 16 bytes; the data is left in the PhysicalMemory's lo, hi, lo2, hi2. */
  /** @returns READ_OK, or how the CPU gets to know that the end point did not answer */
  read(kind: number, pa: Pa, size: number): number;
  /** A DSB of this CPU waits for what answers from the end of the path (nE). */
  complete(cpu: number): void;
  /** The n-th request on its way takes a step. @returns false if there is none that may */
  advance(n: number): boolean;
}

/** One buffered store, for people. */
export interface BufferedStore {
  readonly cpu: number;
  readonly type: string;
  readonly line: Pa;
  /** Bytes of the line that are written, as runs [first, length]. */
  readonly bytes: readonly (readonly [number, number])[];
  readonly epoch: number;
  readonly data: readonly number[];
  /** May it leave now? */
  readonly free: boolean;
  /** The device behind it was reset since. */
  readonly stale: boolean;
}

export class StoreBuffers {
  readonly entries: I32Pool;
  /** Per CPU: [0] entries, [1] epoch, [2] inner epoch. */
  private readonly heads: I32Pool;
  readonly memory: MemorySide;
  /** Where stores to devices go. */
  port: DevicePort;
  /** Bytes of the last overlay: what a load sees of the CPU's own stores. */
  d0 = 0;
  d1 = 0;
  d2 = 0;
  d3 = 0;

  /** @param weak write-back stores are buffered too, and nothing leaves before it must */
  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    readonly cpus: number,
    readonly weak: boolean,
    /** Undefined: RAM. */
    memory?: MemorySide,
    /** Bytes of a peripheral; everything behind one bridge if absent. */
    private readonly block = Infinity,
  ) {
    this.memory = memory ?? new PlainMemory(phys);
    this.entries = sim.state.i32("buffers.entries", cpus * SLICE);
    this.heads = sim.state.i32("buffers.heads", cpus * HEADS);
    this.port = new PlainPort(phys);
  }

  count(cpu: number): number {
    return this.heads.a[HEADS * cpu]!;
  }
  private at(cpu: number, n: number): number {
    return cpu * SLICE + n * WORDS;
  }
  kind(cpu: number, n: number): number {
    return this.entries.a[this.at(cpu, n) + KIND]!;
  }
  line(cpu: number, n: number): Pa {
    const e = this.at(cpu, n);
    return joinWords(this.entries.a[e + PA_HI]!, this.entries.a[e + PA_LO]!);
  }

  // ---- stores

  /** A store of 1 to 16 bytes leaves the pipeline. It may cross a line, not a page. */
  store(
    cpu: number,
    kind: number,
    marks: number,
    pa: Pa,
    size: number,
    d0: number,
    d1: number,
    d2: number,
    d3: number,
    release: boolean,
  ): void {
    const o = pa % LINE;
    const here = Math.min(size, LINE - o);
    this.put(cpu, kind, marks, pa - o, o, 0, here, d0, d1, d2, d3, release);
    if (here < size) this.put(cpu, kind, marks, pa - o + LINE, 0, here, size, d0, d1, d2, d3, release);
  }

  /** Bytes from..to of the data, to offset o of a line. */
  private put(
    cpu: number,
    kind: number,
    marks: number,
    line: Pa,
    o: number,
    from: number,
    to: number,
    d0: number,
    d1: number,
    d2: number,
    d3: number,
    release: boolean,
  ): void {
    const p = this.entries;
    let n = kind === KIND_NC || kind === KIND_GRE ? this.gatherable(cpu, kind, line) : -1;
    if (n < 0) {
      if (this.count(cpu) === CAPACITY) this.drain(cpu, 0, DRAIN_CAPACITY);
      n = this.count(cpu);
      const e = this.at(cpu, n);
      for (let i = 0; i < WORDS; i++) p.set(e + i, 0);
      p.set(e + KIND, kind);
      p.set(e + PA_LO, line | 0);
      p.set(e + PA_HI, (line / 4294967296) | 0);
      p.set(e + EPOCH, this.heads.a[HEADS * cpu + 1]!);
      p.set(e + RELEASE, release ? 1 : 0);
      p.set(e + INNER, this.heads.a[HEADS * cpu + 2]!);
      p.set(e + MARKS, marks);
      this.heads.set(HEADS * cpu, n + 1);
    }
    const e = this.at(cpu, n);
    for (let i = from; i < to; i++) {
      const w = i < 4 ? d0 : i < 8 ? d1 : i < 12 ? d2 : d3;
      const b = o + i - from;
      const s = (b & 3) * 8;
      const at = e + DATA + (b >> 2);
      p.set(at, (p.a[at]! & ~(0xff << s)) | (((w >>> ((i & 3) * 8)) & 0xff) << s));
      const mask = e + (b < 32 ? MASK_LO : MASK_HI);
      p.set(mask, p.a[mask]! | (1 << (b & 31)));
    }
    this.sim.bus.emit(storeBuffered, cpu, kind, line + o, to - from);
    if (this.weak) return;
    // What nothing holds back leaves at once; a gathering buffer waits for more until its line is full.
    if (kind <= KIND_nGRE) this.drainUpTo(cpu, n, DRAIN_ORDER);
    else if (p.a[e + MASK_LO] === -1 && p.a[e + MASK_HI] === -1) this.drainUpTo(cpu, n, DRAIN_FULL);
  }

  /** The youngest entry that a store to this line may join. */
  private gatherable(cpu: number, kind: number, line: Pa): number {
    const a = this.entries.a;
    for (let n = this.count(cpu) - 1; n >= 0; n--) {
      const e = this.at(cpu, n);
      if (a[e + EPOCH] !== this.heads.a[HEADS * cpu + 1]) return -1;
      if (this.line(cpu, n) === line) return a[e + KIND] === kind ? n : -1;
    }
    return -1;
  }

  // ---- loads

  /**
   * Puts the CPU's own buffered bytes over what a load has read (in d0..d3).
   * @returns true if all of the load's bytes came from the buffer
   */
  overlay(cpu: number, pa: Pa, size: number): boolean {
    const count = this.count(cpu);
    if (count === 0) return false;
    const a = this.entries.a;
    let covered = 0;
    for (let i = 0; i < size; i++) {
      const line = pa + i - ((pa + i) % LINE);
      const b = (pa + i) % LINE;
      for (let n = count - 1; n >= 0; n--) {
        const e = this.at(cpu, n);
        if (this.line(cpu, n) !== line || ((a[e + (b < 32 ? MASK_LO : MASK_HI)]! >>> (b & 31)) & 1) === 0) continue;
        this.setByte(i, (a[e + DATA + (b >> 2)]! >>> ((b & 3) * 8)) & 0xff);
        covered++;
        break;
      }
    }
    return covered === size;
  }
  private setByte(i: number, v: number): void {
    const s = (i & 3) * 8;
    if (i < 4) this.d0 = (this.d0 & ~(0xff << s)) | (v << s);
    else if (i < 8) this.d1 = (this.d1 & ~(0xff << s)) | (v << s);
    else if (i < 12) this.d2 = (this.d2 & ~(0xff << s)) | (v << s);
    else this.d3 = (this.d3 & ~(0xff << s)) | (v << s);
  }

  /**
   * Before a load from a device window: what the CPU has buffered for those bytes leaves, and, if the load is of
   * Device-nR type, its earlier nR stores to the same window (program order to one peripheral).
   */
  beforeDeviceLoad(cpu: number, kind: number, pa: Pa, size: number): void {
    for (let n = 0; n < this.count(cpu);) {
      const line = this.line(cpu, n);
      const overlaps = line < pa + size && line + LINE > pa;
      const ordered = kind <= KIND_nGnRE && this.kind(cpu, n) <= KIND_nGnRE && this.samePeripheral(line, pa);
      if (!overlaps && !ordered) {
        n++;
        continue;
      }
      this.drainUpTo(cpu, n, DRAIN_LOAD);
      n = 0;
    }
  }

  /** Are two addresses of one peripheral, to which nR accesses keep their order? How large a block that is, is the implementation's choice. */
  private samePeripheral(a: Pa, b: Pa): boolean {
    return this.phys.windowAt(a) === this.phys.windowAt(b) && Math.floor(a / this.block) === Math.floor(b / this.block);
  }

  // ---- leaving

  /** May entry n leave now? Not past an older epoch, the same line, the same peripheral (nR); a release not past anything. */
  mayLeave(cpu: number, n: number): boolean {
    return this.blocker(cpu, n) < 0;
  }

  /** The oldest entry that must leave before entry n, or -1. */
  private blocker(cpu: number, n: number): number {
    const a = this.entries.a;
    const e = this.at(cpu, n);
    const line = this.line(cpu, n);
    const inOrder = a[e + KIND]! <= KIND_nGnRE;
    for (let k = 0; k < n; k++) {
      const o = this.at(cpu, k);
      if (a[e + RELEASE] !== 0 || a[o + EPOCH]! < a[e + EPOCH]! || this.line(cpu, k) === line) return k;
      if (a[e + KIND] === KIND_WB && a[o + KIND] === KIND_WB && a[o + INNER]! < a[e + INNER]!) return k;
      if (inOrder && a[o + KIND]! <= KIND_nGnRE && this.samePeripheral(this.line(cpu, k), line)) return k;
    }
    return -1;
  }

  /** Entry n leaves, and before it whatever must. */
  private drainUpTo(cpu: number, n: number, why: number): void {
    for (let k = this.blocker(cpu, n); k >= 0; k = this.blocker(cpu, n)) {
      const before = this.count(cpu);
      this.drainUpTo(cpu, k, DRAIN_ORDER);
      n -= before - this.count(cpu);
    }
    this.drain(cpu, n, why);
  }

  /** Entry n leaves for memory or the interconnect; the list closes up. */
  drain(cpu: number, n: number, why: number): void {
    const p = this.entries;
    const a = p.a;
    const e = this.at(cpu, n);
    const line = this.line(cpu, n);
    this.sim.bus.emit(storeDrained, cpu, a[e + KIND]!, line, a[e + MASK_HI]!, a[e + MASK_LO]!, why);
    if (this.phys.isRam(line)) this.toMemory(line, a[e + MARKS]!, a[e + MASK_LO]!, a[e + MASK_HI]!, a, e + DATA);
    else this.port.post(cpu, a[e + KIND]!, line, a[e + MASK_LO]!, a[e + MASK_HI]!, a, e + DATA, a[e + STALE] !== 0);
    const count = this.count(cpu);
    p.move(e, e + WORDS, (count - 1 - n) * WORDS);
    const last = this.at(cpu, count - 1);
    for (let i = 0; i < WORDS; i++) p.set(last + i, 0);
    this.heads.set(HEADS * cpu, count - 1);
    // An empty buffer remembers no barrier.
    if (count === 1) this.heads.set2(HEADS * cpu + 1, 0, 0);
  }

  private toMemory(line: Pa, marks: number, maskLo: number, maskHi: number, words: Int32Array, at: number): void {
    writeRuns(line, maskLo, maskHi, words, at, (pa, size, lo, hi) => this.memory.store(pa, size, marks, lo, hi, 0, 0));
  }

  drainAll(cpu: number, why: number): void {
    while (this.count(cpu) > 0) this.drain(cpu, 0, why);
  }
  /** Write-back stores leave, others only before them: XS = 0, which a DVMSync without XS waits for; what inner shareable barriers order. */
  drainWriteBack(cpu: number, why: number): void {
    for (let n = 0; n < this.count(cpu);) {
      if (this.kind(cpu, n) === KIND_WB) this.drainUpTo(cpu, n, why);
      else n++;
    }
  }

  /** A barrier that orders stores before it with stores after it. @param inner write-back stores only */
  newEpoch(cpu: number, inner = false): void {
    const at = HEADS * cpu + (inner ? 2 : 1);
    if (this.count(cpu) > 0) this.heads.set(at, this.heads.a[at]! + 1);
  }
  /** Is a store-release among the buffered stores? A load-acquire waits for it. */
  holdsRelease(cpu: number): boolean {
    for (let n = 0; n < this.count(cpu); n++) if (this.entries.a[this.at(cpu, n) + RELEASE] !== 0) return true;
    return false;
  }

  /** What lies behind this range was reset: stores still buffered for it come too late. */
  markStale(base: Pa, size: number): void {
    for (let cpu = 0; cpu < this.cpus; cpu++)
      for (let n = 0; n < this.count(cpu); n++) {
        const line = this.line(cpu, n);
        if (line + LINE > base && line < base + size) this.entries.set(this.at(cpu, n) + STALE, 1);
      }
  }

  // ---- looking

  /** Does any CPU hold a store for this range? */
  holdsFor(base: Pa, size: number): boolean {
    for (let cpu = 0; cpu < this.cpus; cpu++)
      for (let n = 0; n < this.count(cpu); n++) if (this.line(cpu, n) + LINE > base && this.line(cpu, n) < base + size) return true;
    return false;
  }

  /** Does a CPU's buffer hold any byte of this range? */
  holdsAny(cpu: number, pa: Pa, size: number): boolean {
    for (let i = 0; i < size; i++) {
      const b = (pa + i) % LINE;
      for (let n = 0; n < this.count(cpu); n++) {
        const mask = this.entries.a[this.at(cpu, n) + (b < 32 ? MASK_LO : MASK_HI)]!;
        if (this.line(cpu, n) === pa + i - b && ((mask >>> (b & 31)) & 1) !== 0) return true;
      }
    }
    return false;
  }

  /** Everything buffered, by CPU and in program order. */
  list(): BufferedStore[] {
    const out: BufferedStore[] = [];
    for (let cpu = 0; cpu < this.cpus; cpu++)
      for (let n = 0; n < this.count(cpu); n++) {
        const e = this.at(cpu, n);
        const a = this.entries.a;
        out.push({
          cpu,
          type: KIND_NAMES[a[e + KIND]!]!,
          line: this.line(cpu, n),
          bytes: runsOf(a[e + MASK_LO]!, a[e + MASK_HI]!),
          epoch: a[e + EPOCH]!,
          data: Array.from(a.subarray(e + DATA, e + DATA + 16), (w) => w >>> 0),
          free: this.mayLeave(cpu, n),
          stale: a[e + STALE] !== 0,
        });
      }
    return out;
  }
}

const WHOLE_LINE: readonly (readonly [number, number])[] = [[0, LINE]];

/** Runs of set bits in a 64-bit mask, as [first, length]. */
export function runsOf(maskLo: number, maskHi: number): readonly (readonly [number, number])[] {
  if ((maskLo & maskHi) === -1) return WHOLE_LINE;
  const out: [number, number][] = [];
  const bit = (b: number): boolean => (((b < 32 ? maskLo : maskHi) >>> (b & 31)) & 1) !== 0;
  for (let b = 0; b < LINE; b++) {
    if (!bit(b)) continue;
    const first = b;
    while (b < LINE && bit(b)) b++;
    out.push([first, b - first]);
  }
  return out;
}

/** Writes the masked bytes of a line in naturally aligned pieces of 8, 4, 2 or 1 bytes, ascending. */
export function writeRuns(
  line: Pa,
  maskLo: number,
  maskHi: number,
  words: Int32Array,
  at: number,
  write: (pa: Pa, size: number, lo: number, hi: number) => void,
): void {
  for (const [first, length] of runsOf(maskLo, maskHi)) {
    for (let o = first; o < first + length;) {
      let size = 8;
      while ((o & (size - 1)) !== 0 || o + size > first + length) size >>= 1;
      const w = words[at + (o >> 2)]!;
      write(line + o, size, size === 8 ? w : w >>> ((o & 3) * 8), size === 8 ? words[at + (o >> 2) + 1]! : 0);
      o += size;
    }
  }
}

/** Memory without caches. */
class PlainMemory implements MemorySide {
  constructor(private readonly phys: PhysicalMemory) {}
  load(pa: Pa, size: number): void {
    this.phys.read(pa, size);
  }
  store(pa: Pa, size: number, _marks: number, lo: number, hi: number, lo2: number, hi2: number): void {
    this.phys.write(pa, size, lo, hi, lo2, hi2);
  }
}

/** The bus without a fabric: what leaves a CPU has arrived. */
class PlainPort implements DevicePort {
  constructor(private readonly phys: PhysicalMemory) {}
  post(_cpu: number, _kind: number, line: Pa, maskLo: number, maskHi: number, words: Int32Array, at: number): void {
    writeRuns(line, maskLo, maskHi, words, at, (pa, size, lo, hi) => this.phys.write(pa, size, lo, hi));
  }
  read(_kind: number, pa: Pa, size: number): number {
    this.phys.read(pa, size);
    return READ_OK;
  }
  complete(): void {}
  advance(): boolean {
    return false;
  }
}
