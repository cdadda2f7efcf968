/**
 * The modelled caches beside memory: each line of the data cache with its state, which bytes are dirty, its value and
 * memory's, and which of the two copies is stale; the instruction caches beside what a load would see now.
 */
import type { Caches } from "../arch/cachemaintenance.js";
import { FILL_NAMES } from "../arch/cacheevents.js";
import { CLEAN, DIRTY, LINE, LINE_WORDS, M_DIRTY, M_OUTSIDE, M_OVERTAKEN, M_WHY, M_WRITER, META_SHIFT } from "../arch/cachelines.js";
import type { PhysicalMemory } from "../arch/phys.js";
import { runsOf } from "../arch/storebuffer.js";
import type { Machine } from "../machine.js";
import { table } from "./columns.js";

/** Which copy is older than the other, and where. */
export type Stale = "no" | "line" | "memory" | "both";

export interface CacheRow {
  readonly cache: "data" | "instruction";
  /** Of an instruction cache; -1 for the data cache, which all CPUs share as one coherent domain. */
  readonly cpu: number;
  readonly address: number;
  readonly state: "clean" | "dirty";
  /** Bytes stored through the cache and not yet in memory, as runs [first, length]. */
  readonly dirty: readonly (readonly [number, number])[];
  /** Why the line was filled. */
  readonly filled: string;
  /** Eight 8-byte words of the line, hexadecimal. */
  readonly value: readonly string[];
  /** The same of what it is compared with: memory, or for an instruction cache the data side; null of a device. */
  readonly memory: readonly string[] | null;
  readonly stale: Stale;
  /** Who wrote the newer copy, "" where none is stale. */
  readonly writer: string;
  /** The point of unification still has an older copy: fetches see that one until DC CVAU. */
  readonly poUStale: boolean;
}

/** @returns undefined where caches are not modelled */
export function cachesOf(machine: Machine): Caches | undefined {
  return machine.pe.cacheOps.caches;
}

export function cacheRows(machine: Machine): CacheRow[] {
  const caches = cachesOf(machine);
  if (caches === undefined) return [];
  const { phys } = machine;
  // What an access left for its reader stays.
  const { lo, hi, lo2, hi2 } = phys;
  const rows = [...dataRows(machine, caches, phys), ...instructionRows(machine, caches, phys)];
  Object.assign(phys, { lo, hi, lo2, hi2 });
  return rows;
}

function dataRows(machine: Machine, caches: Caches, phys: PhysicalMemory): CacheRow[] {
  const { lines } = caches.data;
  const out: CacheRow[] = [];
  for (let i = 0; i < lines.entries; i++) {
    const address = lines.address(i);
    const state = lines.state(i);
    if (address < 0 || (state !== CLEAN && state !== DIRTY)) continue;
    const meta = lines.meta.a.subarray(i << META_SHIFT, (i + 1) << META_SHIFT);
    const own = lines.data.a.slice(i * LINE_WORDS, (i + 1) * LINE_WORDS);
    const memory = memoryLine(phys, address);
    const [overLo, overHi] = [meta[M_OVERTAKEN]!, meta[M_OVERTAKEN + 1]!];
    let lineStale = false;
    let memoryStale = false;
    for (let b = 0; b < LINE && memory !== null; b++) {
      if (byteOf(own, b) === byteOf(memory, b)) continue;
      if ((((b < 32 ? overLo : overHi) >>> (b & 31)) & 1) !== 0) lineStale = true;
      else memoryStale = true;
    }
    const writer = lineStale ? meta[M_OUTSIDE]! : memoryStale ? meta[M_WRITER]! : 0;
    const pou = lines.pou?.a.subarray(i * LINE_WORDS, (i + 1) * LINE_WORDS);
    out.push({
      cache: "data",
      cpu: -1,
      address,
      state: state === DIRTY ? "dirty" : "clean",
      dirty: runsOf(meta[M_DIRTY]!, meta[M_DIRTY + 1]!),
      filled: FILL_NAMES[meta[M_WHY]!]!,
      value: words(own),
      memory: memory === null ? null : words(memory),
      stale: lineStale && memoryStale ? "both" : lineStale ? "line" : memoryStale ? "memory" : "no",
      writer: writer === 0 ? "" : machine.sim.agents.name(writer - 1),
      poUStale: pou !== undefined && own.some((w, n) => pou[n] !== w),
    });
  }
  return out.sort((a, b) => a.address - b.address);
}

function instructionRows(machine: Machine, { data, instr }: Caches, phys: PhysicalMemory): CacheRow[] {
  const out: CacheRow[] = [];
  for (let cpu = 0; cpu < machine.cpus; cpu++)
    for (const { address, words: own } of instr.list(cpu)) {
      const i = data.lines.find(address);
      const now = i < 0 ? memoryLine(phys, address) : data.lines.data.a.slice(i * LINE_WORDS, (i + 1) * LINE_WORDS);
      const stale = now !== null && own.some((w, n) => now[n] !== w);
      const writer = i < 0 ? 0 : data.lines.meta.a[(i << META_SHIFT) + M_WRITER]!;
      out.push({
        cache: "instruction",
        cpu,
        address,
        state: "clean",
        dirty: [],
        filled: "fetch",
        value: words(own),
        memory: now === null ? null : words(now),
        stale: stale ? "line" : "no",
        writer: stale && writer > 0 ? machine.sim.agents.name(writer - 1) : "",
        poUStale: false,
      });
    }
  return out.sort((a, b) => a.cpu - b.cpu || a.address - b.address);
}

/** Sixteen words of RAM; null of a device, which a read could change. */
function memoryLine(phys: PhysicalMemory, line: number): Int32Array | null {
  if (!phys.isRam(line)) return null;
  const out = new Int32Array(LINE_WORDS);
  for (let n = 0; n < LINE_WORDS; n++) {
    phys.readMemory(line + 4 * n, 4);
    out[n] = phys.lo;
  }
  return out;
}

const byteOf = (w: Int32Array, b: number): number => (w[b >> 2]! >>> ((b & 3) * 8)) & 0xff;

function words(w: Int32Array): string[] {
  return Array.from(
    { length: LINE / 8 },
    (_, n) => `0x${((BigInt(w[2 * n + 1]! >>> 0) << 32n) | BigInt(w[2 * n]! >>> 0)).toString(16).padStart(16, "0")}`,
  );
}

/** @param long every line with all its words; else only the words that say something, and alike lines together */
export function cacheText(machine: Machine, long: boolean): string[] {
  const rows = cacheRows(machine);
  const past = cachesOf(machine)!.data.coherent ? "non-cacheable accesses look it up" : "non-cacheable accesses go past it";
  const out = [`---[ data cache: 64-byte lines, write-back; ${past} ]---`, ...section(rows, -1, long)];
  for (let cpu = 0; cpu < machine.cpus; cpu++) out.push(`---[ CPU ${cpu}: instruction cache ]---`, ...section(rows, cpu, long));
  return out;
}

function section(rows: readonly CacheRow[], cpu: number, long: boolean): string[] {
  const mine = rows.filter((r) => r.cpu === cpu);
  if (mine.length === 0) return ["# empty"];
  const beside = cpu < 0 ? "MEMORY" : "DATA SIDE";
  const cells: string[][] = [["LINE", "STATE", "DIRTY", "FILLED BY", "AT", "VALUE", beside, "NEWER COPY"]];
  for (let n = 0; n < mine.length;) {
    const r = mine[n]!;
    let same = 1;
    while (!long && quiet(r) && n + same < mine.length && follows(r, mine[n + same]!, same)) same++;
    cells.push(...(same > 1 ? [together(r, same)] : linesOf(r, long)));
    n += same;
  }
  return table(cells);
}

/** Nothing to see: memory has the same. */
const quiet = (r: CacheRow): boolean => r.stale === "no" && !r.poUStale && r.memory !== null;

/** Is this the line `n` after a quiet one, alike, with the same value in every word? */
function follows(r: CacheRow, next: CacheRow, n: number): boolean {
  const alike = next.state === r.state && next.filled === r.filled && spans(next.dirty) === spans(r.dirty);
  return quiet(next) && next.address === r.address + n * LINE && alike && next.value.every((v) => v === r.value[0]);
}

const spans = (runs: CacheRow["dirty"]): string => runs.map(([f, l]) => (l === 1 ? String(f) : `${f}-${f + l - 1}`)).join(" ");
const hex = (n: number): string => `0x${n.toString(16)}`;

const together = (r: CacheRow, lines: number): string[] => [
  `${hex(r.address)}, ${lines} lines`,
  r.state,
  spans(r.dirty),
  r.filled,
  "all",
  r.value[0]!,
  "same",
  "",
];

function linesOf(r: CacheRow, long: boolean): string[][] {
  const differing = r.value.flatMap((v, n) => (r.memory !== null && r.memory[n] !== v ? [n] : []));
  const telling = differing.length > 0 ? differing : r.value.flatMap((v, n) => (BigInt(v) !== 0n ? [n] : []));
  if (!long && r.cache === "instruction" && quiet(r)) return [[hex(r.address), r.state, "", r.filled, "all", "…", "same", ""]];
  const shown = long ? r.value.map((_, n) => n) : telling.length > 0 ? telling : [0];
  return shown.map((n, at) => {
    const beside = r.memory === null ? "(device)" : r.memory[n] === r.value[n] ? "same" : r.memory[n]!;
    const head = at === 0 ? [hex(r.address), r.state, spans(r.dirty), r.filled] : ["", "", "", ""];
    return [...head, `+${hex(8 * n)}`, r.value[n]!, beside, at === 0 ? verdict(r) : ""];
  });
}

const STALE: Readonly<Record<Stale, string>> = {
  no: "",
  line: "STALE line",
  memory: "STALE memory: the line is dirty",
  both: "STALE line and memory: each has newer bytes",
};

function verdict(r: CacheRow): string {
  const what = r.cache === "instruction" && r.stale === "line" ? "STALE line: IC IVAU is missing" : STALE[r.stale];
  const who = what === "" || r.writer === "" ? "" : `, by ${r.writer}`;
  const pou = r.poUStale ? "fetches see an older copy until DC CVAU" : "";
  return [`${what}${who}`, pou].filter((t) => t !== "").join("; ");
}
