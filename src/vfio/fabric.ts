/**
 * What lies between the CPUs' buffers and the end points: the interconnect, the root complex with its ordered queue of
 * posted requests, and the paths of platform devices (PCI Express base specification 2.4; Arm ARM B2.7 on where an
 * early write acknowledgement may come from). A posted write stays on its way until something pushes it: hardware may
 * keep it there for so long, and that is what makes late writes visible.
 *
 * queue word | meaning
 * STAGE      | 1 in the interconnect, before the root complex; 2 in the root complex
 * TYPE       | KIND_ of the store
 * CPU        | which CPU stored it
 * PATH       | 0 the PCI host bridge, 1 + n the device window n of a platform device
 * ATTR       | 1 Relaxed Ordering, 2 No Snoop
 * STALE      | 1: its function was reset since it was stored
 * LINE_LO … | address of its line, mask, 16 words of data
 *
 * pushed by                    | what arrives first
 * memory read of the same path | everything on the path, in order
 * configuration request        | everything in the root complex; not what is still in the interconnect
 * DSB after nGnRnE stores      | PCI: they are in the root complex; platform: they have arrived
 */
import type { PhysicalMemory } from "../arch/phys.js";
import {
  KIND_GRE,
  KIND_nGnRE,
  KIND_nGnRnE,
  KIND_NAMES,
  LINE,
  READ_OK,
  runsOf,
  writeRuns,
  type DevicePort,
  type StoreBuffers,
} from "../arch/storebuffer.js";
import { joinWords, type Pa } from "../arch/types.js";
import type { TablePages } from "../arch/tables.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import { APERTURE_32, APERTURE_64 } from "./barplacement.js";
import { claimingBar } from "./hostbridge.js";
import type { PciFabric, PciFunction, PciFunctions } from "./pci.js";
import { mayPass, memoryWrites, POSTED } from "./tlp.js";
import {
  aerEvent,
  deviceReclaim,
  lateWrite,
  tlpCompletion,
  tlpConfigRead,
  tlpConfigWrite,
  tlpMemoryRead,
  tlpMemoryWrite,
} from "./tlptrace.js";

export const IN_INTERCONNECT = 1;
export const IN_ROOT_COMPLEX = 2;

const STAGE = 0;
const TYPE = 1;
const CPU = 2;
const PATH = 3;
const ATTR = 4;
const STALE = 5;
const LINE_LO = 6;
const LINE_HI = 7;
const MASK_LO = 8;
const MASK_HI = 9;
const DATA = 10;
const WORDS = DATA + 16;
const CAPACITY = 64;
/** meta: entries in the queue; 1 + read status of the last memory read (0 SC, 1 UR, 4 CA). */
const COUNT = 0;
const STATUS = 1;
/** Late writes so far. */
const LATE = 2;
/** Memory write and memory read requests that left the root complex. */
const SENT = 3;
const READS = 4;

export const STATUS_SC = 0;
export const STATUS_UR = 1;

/** Where the interconnect takes responsibility for the order of writes: the open question of October 2023. */
export const SERIALISATION_POINTS = ["root-complex", "interconnect"] as const;
export type SerialisationPoint = (typeof SERIALISATION_POINTS)[number];

/** What a read that is answered UR or CA becomes for the CPU, in the order of READ_OK, READ_SERROR, READ_SEA, READ_UNCONTAINED. */
export const FAILED_READS = ["all-ones", "serror", "sea", "uncontained"] as const;
export type FailedRead = (typeof FAILED_READS)[number];

/** How far a host bridge combines write-combining stores. */
export const COMBININGS = ["line", "payload"] as const;
export type Combining = (typeof COMBININGS)[number];

export interface FabricOptions {
  readonly failedRead: FailedRead;
  readonly serialisation: SerialisationPoint;
  /** Max_Payload_Size of the path in bytes. */
  readonly maxPayload: number;
  /** The most that the host bridge makes one memory write of: a line, or neighbouring full lines up to Max_Payload_Size. */
  readonly combining: Combining;
  /** Attributes that the root complex sets on memory writes of the CPUs. No Snoop means nothing to a device. */
  readonly relaxedOrdering: boolean;
  readonly noSnoop: boolean;
}
/** Legal values of Max_Payload_Size, in bytes. */
export const PAYLOADS: readonly number[] = [128, 256, 512, 1024, 2048, 4096];
export const DEFAULT_FABRIC: FabricOptions = {
  failedRead: "serror",
  serialisation: "root-complex",
  maxPayload: 128,
  combining: "line",
  relaxedOrdering: false,
  noSnoop: false,
};

/** One request on its way, for people. */
export interface InFlight {
  readonly place: "interconnect" | "root-complex";
  readonly type: string;
  readonly cpu: number;
  readonly path: "pci" | "platform";
  readonly address: Pa;
  /** Address of the 64-byte line, the bytes of it that are written as runs [first, length], and their data. */
  readonly line: Pa;
  readonly runs: readonly (readonly [number, number])[];
  readonly data: readonly number[];
  readonly bytes: number;
  /** May it take its next step now? */
  readonly free: boolean;
  readonly stale: boolean;
}

export class Fabric implements DevicePort, PciFabric {
  private readonly queue: I32Pool;
  private readonly meta: I32Pool;
  /** The memory write that the host bridge still adds full lines to: [0] its bytes, 0: none; [1] its CPU; [2], [3] its first address. */
  private readonly open: I32Pool;
  /** Per function, and for all platform devices together: late writes since the last reset. */
  private readonly dirty: I32Pool;

  constructor(
    private readonly sim: Sim,
    private readonly phys: PhysicalMemory,
    private readonly pci: PciFunctions,
    private readonly buffers: StoreBuffers,
    private readonly tables: TablePages,
    readonly options: FabricOptions,
  ) {
    this.queue = sim.state.i32("fabric.queue", CAPACITY * WORDS);
    this.meta = sim.state.i32("fabric.meta", 5);
    this.open = sim.state.i32("fabric.open", 4);
    this.dirty = sim.state.i32("fabric.dirty", pci.functions.length + 1);
    buffers.port = this;
    pci.fabric = this;
  }

  get count(): number {
    return this.meta.a[COUNT]!;
  }
  /** Status of the last memory read: STATUS_SC or STATUS_UR. */
  get status(): number {
    return this.meta.a[STATUS]!;
  }
  get late(): number {
    return this.meta.a[LATE]!;
  }
  get reads(): number {
    return this.meta.a[READS]!;
  }
  get sent(): number {
    return this.meta.a[SENT]!;
  }
  /** The ATTR word of a CPU's memory writes. */
  private get attributes(): number {
    return (this.options.relaxedOrdering ? 1 : 0) | (this.options.noSnoop ? 2 : 0);
  }
  private lineOf(n: number): Pa {
    const a = this.queue.a;
    return joinWords(a[n * WORDS + LINE_HI]!, a[n * WORDS + LINE_LO]!);
  }

  // ---- from the CPUs

  post(cpu: number, kind: number, line: Pa, maskLo: number, maskHi: number, words: Int32Array, at: number, stale: boolean): void {
    const path = onBridge(line) ? 0 : 1 + this.phys.windowAt(line);
    if (path === 0)
      for (const w of memoryWrites(maskLo, maskHi, this.options.maxPayload)) this.accept(cpu, kind, path, line, w, words, at, stale);
    else this.accept(cpu, kind, path, line, { maskLo, maskHi }, words, at, stale);
  }

  private accept(
    cpu: number,
    kind: number,
    path: number,
    line: Pa,
    w: { readonly maskLo: number; readonly maskHi: number },
    words: Int32Array,
    at: number,
    stale: boolean,
  ): void {
    if (this.count === CAPACITY) this.arrive(0);
    const n = this.count;
    const q = this.queue;
    const e = n * WORDS;
    q.set(e + STAGE, IN_INTERCONNECT);
    q.set(e + TYPE, kind);
    q.set(e + CPU, cpu);
    q.set(e + PATH, path);
    q.set(e + ATTR, path !== 0 ? 0 : this.attributes);
    q.set(e + STALE, stale ? 1 : 0);
    q.set(e + LINE_LO, line | 0);
    q.set(e + LINE_HI, (line / 4294967296) | 0);
    q.set(e + MASK_LO, w.maskLo);
    q.set(e + MASK_HI, w.maskHi);
    for (let i = 0; i < 16; i++) q.set(e + DATA + i, words[at + i]!);
    this.meta.set(COUNT, n + 1);
    this.sim.agents.charge(this.sim.costs.deviceWrite);
    if (path === 0 && this.options.serialisation === "root-complex") this.enterRootComplex(n);
  }

  private enterRootComplex(n: number): void {
    this.queue.set(n * WORDS + STAGE, IN_ROOT_COMPLEX);
    const a = this.queue.a;
    const e = n * WORDS;
    const full = (a[e + MASK_LO]! & a[e + MASK_HI]!) === -1;
    if (full && this.options.combining === "payload" && a[e + TYPE]! >= KIND_GRE) {
      this.combine(this.lineOf(n), a[e + CPU]!);
      return;
    }
    this.closeOpen();
    const [w] = memoryWrites(a[e + MASK_LO]!, a[e + MASK_HI]!, 4096);
    const bytes = bytesOf(a[e + MASK_LO]!, a[e + MASK_HI]!);
    this.send(this.lineOf(n) + w!.first, 4 * w!.dwords, bytes, w!.firstBe, w!.lastBe, a[e + ATTR]!);
  }

  /** A memory write leaves the root complex: the link carries it once, whatever it holds. */
  private send(address: Pa, length: number, bytes: number, firstBe: number, lastBe: number, attr: number): void {
    const { tlp, tlpDword } = this.sim.costs;
    this.meta.set(SENT, this.sent + 1);
    this.sim.agents.charge(tlp + tlpDword * (length >> 2));
    this.sim.bus.emit(tlpMemoryWrite, address, length, bytes, firstBe, lastBe, attr & 1, (attr >> 1) & 1);
  }

  /** A full line joins the request that is still open, or opens another: neighbours, of one CPU, within 4 KiB and Max_Payload_Size. */
  private combine(line: Pa, cpu: number): void {
    const o = this.open;
    const start = joinWords(o.a[3]!, o.a[2]!);
    const bytes = o.a[0]!;
    if (bytes > 0 && o.a[1] === cpu && line === start + bytes && bytes < this.options.maxPayload && line % 4096 !== 0) {
      o.set(0, bytes + LINE);
      return;
    }
    this.closeOpen();
    o.set(0, LINE);
    o.set(1, cpu);
    o.set(2, line | 0);
    o.set(3, (line / 4294967296) | 0);
  }
  /** The open request leaves the root complex as it is. */
  private closeOpen(): void {
    const o = this.open;
    const bytes = o.a[0]!;
    if (bytes === 0) return;
    o.set(0, 0);
    this.send(joinWords(o.a[3]!, o.a[2]!), bytes, bytes, 15, 15, this.attributes);
  }

  read(_kind: number, pa: Pa, size: number): number {
    if (!onBridge(pa)) {
      this.push(1 + this.phys.windowAt(pa));
      this.phys.read(pa, size);
      return READ_OK;
    }
    this.push(0);
    this.closeOpen();
    this.meta.set(READS, this.reads + 1);
    this.sim.bus.emit(tlpMemoryRead, pa, size);
    const claimed = claimingBar(this.pci, pa, size) !== undefined;
    this.meta.set(STATUS, claimed ? STATUS_SC : STATUS_UR);
    this.phys.read(pa, size);
    this.sim.bus.emit(tlpCompletion, 0, claimed ? STATUS_SC : STATUS_UR, claimed ? size : 0);
    if (claimed) return READ_OK;
    this.sim.bus.emit(aerEvent, 1, 0, pa, 0);
    return FAILED_READS.indexOf(this.options.failedRead);
  }

  /** A DSB waits for the answers of the CPU's nGnRnE stores. */
  complete(cpu: number): void {
    for (let n = 0; n < this.count;) {
      const e = n * WORDS;
      const a = this.queue.a;
      if (a[e + CPU] !== cpu || a[e + TYPE] !== KIND_nGnRnE) n++;
      else if (a[e + PATH] !== 0) this.arriveInOrder(n);
      else {
        if (a[e + STAGE] === IN_INTERCONNECT) this.enterRootComplex(n);
        n++;
      }
    }
  }

  /** A configuration request of a driver passes the root complex: behind what was posted there, never past it. */
  config(device: number, offset: number, value: number, write: boolean): void {
    this.closeOpen();
    for (let n = 0; n < this.count;) {
      if (this.queue.a[n * WORDS + STAGE] === IN_ROOT_COMPLEX) this.arrive(n);
      else n++;
    }
    if (write) this.sim.bus.emit(tlpConfigWrite, device, offset, value >>> 0);
    else this.sim.bus.emit(tlpConfigRead, device, offset);
    this.sim.bus.emit(tlpCompletion, write ? 2 : 1, STATUS_SC, write ? 0 : 4);
  }

  // ---- on the way

  /** Everything on a path arrives, in order. */
  push(path: number): void {
    for (let n = 0; n < this.count;) {
      if (this.queue.a[n * WORDS + PATH] === path) this.arrive(n);
      else n++;
    }
  }
  /** Everything arrives. */
  pushAll(): void {
    while (this.count > 0) this.arrive(0);
  }

  /** May entry n take its next step now? In the root complex the ordering table says so; before it, program order of nR and of bytes. */
  mayAdvance(n: number): boolean {
    const a = this.queue.a;
    const e = n * WORDS;
    for (let k = 0; k < n; k++) {
      const o = k * WORDS;
      if (a[o + PATH] !== a[e + PATH]) continue;
      if (a[e + STAGE] === IN_ROOT_COMPLEX) {
        // What is earlier in the queue but not yet in the root complex is not before it there.
        if (a[o + STAGE] === IN_ROOT_COMPLEX && mayPass(POSTED, POSTED, (a[e + ATTR]! & 1) !== 0) === "no") return false;
        continue;
      }
      if (this.lineOf(k) === this.lineOf(n)) return false;
      if (a[o + CPU] === a[e + CPU] && a[o + TYPE]! <= KIND_nGnRE && a[e + TYPE]! <= KIND_nGnRE) return false;
    }
    return true;
  }
  /** Entry n takes its next step: into the root complex, or to the end point. @returns false if it may not */
  advance(n: number): boolean {
    if (n >= this.count || !this.mayAdvance(n)) return false;
    const e = n * WORDS;
    if (this.queue.a[e + PATH] === 0 && this.queue.a[e + STAGE] === IN_INTERCONNECT) {
      this.enterRootComplex(n);
      // It is the youngest there: its place in the queue is behind the others.
      this.moveToEnd(n);
    } else this.arrive(n);
    return true;
  }

  private moveToEnd(n: number): void {
    const q = this.queue;
    const entry = q.a.slice(n * WORDS, (n + 1) * WORDS);
    this.close(n);
    for (let i = 0; i < WORDS; i++) q.set((this.count - 1) * WORDS + i, entry[i]!);
  }
  /** Moves the entries behind n one place forward; the last place keeps its words. */
  private close(n: number): void {
    this.queue.move(n * WORDS, (n + 1) * WORDS, (this.count - 1 - n) * WORDS);
  }

  /** Entry n with whatever must arrive before it. */
  private arriveInOrder(n: number): void {
    for (let k = 0; k < n;) {
      const a = this.queue.a;
      const before =
        a[k * WORDS + PATH] === a[n * WORDS + PATH] && (this.lineOf(k) === this.lineOf(n) || a[k * WORDS + TYPE]! <= KIND_nGnRE);
      if (before && a[k * WORDS + CPU] === a[n * WORDS + CPU]) {
        this.arrive(k);
        n--;
      } else k++;
    }
    this.arrive(n);
  }

  /** Entry n reaches its end point. */
  private arrive(n: number): void {
    const q = this.queue;
    const e = n * WORDS;
    if (q.a[e + PATH] === 0 && q.a[e + STAGE] === IN_INTERCONNECT) this.enterRootComplex(n);
    if (q.a[e + PATH] === 0 && this.inOpen(this.lineOf(n))) this.closeOpen();
    const entry = q.a.slice(e, e + WORDS);
    this.close(n);
    const last = (this.count - 1) * WORDS;
    for (let i = 0; i < WORDS; i++) q.set(last + i, 0);
    this.meta.set(COUNT, this.count - 1);
    const line = joinWords(entry[LINE_HI]!, entry[LINE_LO]!);
    const maskLo = entry[MASK_LO]!;
    const maskHi = entry[MASK_HI]!;
    const [first] = runsOf(maskLo, maskHi);
    const pa = line + first![0];
    const bar = entry[PATH] === 0 ? claimingBar(this.pci, pa, 1) : undefined;
    if (entry[STALE] !== 0) {
      this.meta.set(LATE, this.late + 1);
      const device = bar === undefined ? this.sim.bus.name("platform device") : this.pci.functions[bar.fn]!.name;
      const at = bar?.fn ?? this.pci.functions.length;
      this.dirty.set(at, this.dirty.a[at]! + 1);
      this.sim.bus.emit(lateWrite, device, pa, bytesOf(maskLo, maskHi), entry[CPU]!);
    }
    // A posted request that nobody takes comes back as an error message, not to the store.
    if (entry[PATH] === 0 && bar === undefined) this.sim.bus.emit(aerEvent, 1, 0, pa, 1);
    writeRuns(line, maskLo, maskHi, entry, DATA, (at, size, lo, hi) => this.phys.deliver(at, size, lo, hi));
  }

  private inOpen(line: Pa): boolean {
    const o = this.open.a;
    const start = joinWords(o[3]!, o[2]!);
    return o[0] !== 0 && line >= start && line < start + o[0]!;
  }

  // ---- reset and reclaim

  /** A device range was reset: what is on its way to it, or in a CPU's buffer, comes too late from now on. */
  wasReset(base: Pa, size: number): void {
    for (let n = 0; n < this.count; n++) {
      const line = this.lineOf(n);
      if (line + LINE > base && line < base + size) this.queue.set(n * WORDS + STALE, 1);
    }
    this.buffers.markStale(base, size);
  }
  functionWasReset(f: PciFunction): void {
    this.dirty.set(f.fn, 0);
    for (const bar of f.bars) if (bar !== undefined && !bar.io) this.wasReset(bar.start, bar.size);
  }

  /** The four conditions of a device that is taken back, as they stand now: an event, and true if all hold. */
  reclaimed(f: PciFunction): boolean {
    return this.conditions(
      f.name,
      f.bars.filter((b) => b !== undefined && !b.io).map((b) => [b!.start, b!.size]),
      f.fn,
    );
  }
  /** The same for a platform device: its reset register lies in another block, and nothing orders the two. */
  platformReset(name: string, base: Pa, size: number): boolean {
    this.dirty.set(this.pci.functions.length, 0);
    this.wasReset(base, size);
    return this.conditions(this.sim.bus.name(name), [[base, size]], this.pci.functions.length);
  }

  private conditions(name: number, ranges: readonly (readonly [Pa, number])[], device: number): boolean {
    const unreferenced = !ranges.some(([base, size]) => this.tables.references(base, size));
    const unbuffered = !ranges.some(([base, size]) => this.buffers.holdsFor(base, size));
    const landed = !ranges.some(([base, size]) => this.inFlight(base, size));
    const clean = this.dirty.a[device] === 0;
    this.sim.bus.emit(deviceReclaim, name, unreferenced ? 1 : 0, unbuffered ? 1 : 0, landed ? 1 : 0, clean ? 1 : 0);
    return unreferenced && unbuffered && landed && clean;
  }

  /** readl, ioread: a Device-nGnRE load of a driver, in the PhysicalMemory's lo and hi. */
  driverRead(pa: Pa, size: number): void {
    this.buffers.beforeDeviceLoad(this.sim.agents.cpu, KIND_nGnRE, pa, size);
    this.read(KIND_nGnRE, pa, size);
  }
  /** writel, iowrite: DMB OSHST, then a Device-nGnRE store. */
  driverWrite(pa: Pa, size: number, lo: number, hi: number): void {
    this.buffers.newEpoch(this.sim.agents.cpu);
    this.buffers.store(this.sim.agents.cpu, KIND_nGnRE, 0, pa, size, lo, hi, 0, 0, false);
  }

  /** Is a request for this range on its way? */
  inFlight(base: Pa, size: number): boolean {
    for (let n = 0; n < this.count; n++) if (this.lineOf(n) + LINE > base && this.lineOf(n) < base + size) return true;
    return false;
  }

  /** Where bytes of this range are now on their way: IN_INTERCONNECT, IN_ROOT_COMPLEX, or 0. The least advanced counts. */
  placeOf(pa: Pa, size: number): number {
    let place = 0;
    for (let n = 0; n < this.count; n++) {
      const a = this.queue.a;
      const e = n * WORDS;
      const line = this.lineOf(n);
      const touches = runsOf(a[e + MASK_LO]!, a[e + MASK_HI]!).some(([f, l]) => line + f < pa + size && line + f + l > pa);
      if (touches && (place === 0 || a[e + STAGE]! < place)) place = a[e + STAGE]!;
    }
    return place;
  }

  list(): InFlight[] {
    return Array.from({ length: this.count }, (_, n) => {
      const a = this.queue.a;
      const e = n * WORDS;
      const runs = runsOf(a[e + MASK_LO]!, a[e + MASK_HI]!);
      return {
        place: a[e + STAGE] === IN_INTERCONNECT ? ("interconnect" as const) : ("root-complex" as const),
        type: KIND_NAMES[a[e + TYPE]!]!,
        cpu: a[e + CPU]!,
        path: a[e + PATH] === 0 ? ("pci" as const) : ("platform" as const),
        address: this.lineOf(n) + runs[0]![0],
        line: this.lineOf(n),
        runs,
        data: Array.from(a.subarray(e + DATA, e + DATA + 16), (w) => w >>> 0),
        free: this.mayAdvance(n),
        bytes: bytesOf(a[e + MASK_LO]!, a[e + MASK_HI]!),
        stale: a[e + STALE] !== 0,
      };
    });
  }
}

/** Behind the PCI host bridge? */
function onBridge(pa: Pa): boolean {
  return (
    (pa >= APERTURE_32.base && pa < APERTURE_32.base + APERTURE_32.size) ||
    (pa >= APERTURE_64.base && pa < APERTURE_64.base + APERTURE_64.size)
  );
}

function bytesOf(maskLo: number, maskHi: number): number {
  return runsOf(maskLo, maskHi).reduce((n, [, length]) => n + length, 0);
}
