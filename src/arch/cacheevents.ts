/**
 * The events of the modelled caches: what a logic analyser between a core's caches and memory would
 * show, and where a value came from that somebody had replaced already.
 */
import { declareEvent } from "../sim/events.js";

/** Why a line was allocated. */
export const FILL_LOAD = 0;
export const FILL_STORE = 1;
export const FILL_KERNEL = 2;
export const FILL_SPECULATION = 3;
export const FILL_FETCH = 4;
export const FILL_NAMES = ["load", "store", "kernel", "speculation", "fetch"] as const;

/** Why a line was written back. */
export const BACK_CAPACITY = 0;
export const BACK_SCRIPT = 1;
export const BACK_SEED = 2;
export const BACK_CLEAN = 3;
export const BACK_SNOOP = 4;
const BACKS = ["capacity", "script", "seed", "maintenance", "snoop"] as const;

/** Where a stale value was read. */
export const STALE_LINE = 0;
export const STALE_MEMORY = 1;
export const STALE_ICACHE = 2;

export const cacheFill = declareEvent("faultline", "cache_fill", "a line was read into a cache", [
  { name: "pa", kind: "hex" },
  { name: "why", kind: "enum", values: FILL_NAMES },
]);
export const cacheWriteback = declareEvent("faultline", "cache_writeback", "a dirty line was written to memory", [
  { name: "pa", kind: "hex" },
  { name: "why", kind: "enum", values: BACKS },
]);
/** arch-caches' case D: the write-back carries the whole line, also bytes that were newer in memory. */
export const writeLost = declareEvent(
  "faultline",
  "write_lost",
  "the write-back of a dirty line overwrote bytes in memory that were newer than the line",
  [
    { name: "pa", kind: "hex" },
    { name: "bytes", kind: "dec" },
    { name: "writer", kind: "name" },
    { name: "why", kind: "enum", values: BACKS },
  ],
);
export const dirtyLineDropped = declareEvent("faultline", "dirty_line_dropped", "a dirty line was invalidated without a write-back", [
  { name: "pa", kind: "hex" },
  { name: "writer", kind: "name" },
]);
export const staleRead = declareEvent("faultline", "stale_read", "an access read bytes that are newer in another copy of the location", [
  { name: "pa", kind: "hex" },
  { name: "size", kind: "dec" },
  { name: "value", kind: "hex64" },
  { name: "newest", kind: "hex64" },
  /** What answered: a clean or dirty line older than memory, memory behind a dirty line, an instruction cache. */
  { name: "from", kind: "enum", values: ["line", "memory", "icache"] },
  /** Who wrote the newer copy. */
  { name: "writer", kind: "name" },
  /** Why the line of the pair was allocated. */
  { name: "filled", kind: "enum", values: FILL_NAMES },
]);
