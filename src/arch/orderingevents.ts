/** The events of store and gathering buffers, and of accesses satisfied early. */
import { declareEvent } from "../sim/events.js";

const TYPES = ["-", "nGnRnE", "nGnRE", "nGRE", "GRE", "NC", "WB"] as const;

export const storeBuffered = declareEvent("faultline", "store_buffered", "a store entered its CPU's store or gathering buffer", [
  { name: "cpu", kind: "dec" },
  { name: "type", kind: "enum", values: TYPES },
  { name: "pa", kind: "hex" },
  { name: "size", kind: "dec", unit: "bytes" },
]);
export const storeDrained = declareEvent("faultline", "store_drained", "an entry left a CPU's store or gathering buffer", [
  { name: "cpu", kind: "dec" },
  { name: "type", kind: "enum", values: TYPES },
  { name: "pa", kind: "hex" },
  { name: "mask", kind: "hex64" },
  { name: "why", kind: "enum", values: ["barrier", "line-full", "capacity", "load", "order", "dvm-sync", "own-accord"] },
]);
export const accessEarly = declareEvent(
  "faultline",
  "access_early",
  "a CPU performed an access, or the walk of one, before accesses that stand before it in program order",
  [
    { name: "cpu", kind: "dec" },
    { name: "pc", kind: "hex64" },
    { name: "va", kind: "hex64" },
    { name: "what", kind: "enum", values: ["load", "fault", "walk-fault"] },
  ],
);
