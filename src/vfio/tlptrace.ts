/** The events of the PCIe fabric: TLPs as an analyser on the link shows them, errors, and what goes wrong at a reclaim. */
import { declareEvent } from "../sim/events.js";

export const tlpMemoryWrite = declareEvent("faultline", "tlp_memory_write", "a memory write request (posted) left the root complex", [
  { name: "address", kind: "hex" },
  { name: "length", kind: "dec", unit: "bytes of payload, whole DW" },
  { name: "bytes", kind: "dec", unit: "bytes enabled" },
  { name: "first_be", kind: "hex" },
  { name: "last_be", kind: "hex" },
  { name: "relaxed", kind: "bool" },
  { name: "no_snoop", kind: "bool" },
]);
export const tlpMemoryRead = declareEvent("faultline", "tlp_memory_read", "a memory read request (non-posted) left the root complex", [
  { name: "address", kind: "hex" },
  { name: "length", kind: "dec", unit: "bytes" },
]);
export const tlpConfigWrite = declareEvent(
  "faultline",
  "tlp_config_write",
  "a configuration write request (non-posted) left the root complex",
  [
    { name: "device", kind: "name" },
    { name: "offset", kind: "hex" },
    { name: "value", kind: "hex" },
  ],
);
export const tlpConfigRead = declareEvent("faultline", "tlp_config_read", "a configuration read request left the root complex", [
  { name: "device", kind: "name" },
  { name: "offset", kind: "hex" },
]);
export const tlpCompletion = declareEvent("faultline", "tlp_completion", "a completion came back to the root complex", [
  { name: "request", kind: "enum", values: ["memory-read", "config-read", "config-write"] },
  { name: "status", kind: "enum", values: ["SC", "UR", "RRS", "?", "CA"] },
  { name: "length", kind: "dec", unit: "bytes of data" },
]);
export const aerEvent = declareEvent("faultline", "aer_event", "an error was logged by Advanced Error Reporting", [
  { name: "severity", kind: "enum", values: ["corrected", "uncorrected-nonfatal", "uncorrected-fatal"] },
  { name: "error", kind: "enum", values: ["unsupported-request", "completer-abort", "completion-timeout"] },
  { name: "address", kind: "hex" },
  { name: "write", kind: "bool" },
]);
export const lateWrite = declareEvent(
  "faultline",
  "late_write",
  "a write that a CPU made before the device was reset arrived after the reset",
  [
    { name: "device", kind: "name" },
    { name: "address", kind: "hex" },
    { name: "bytes", kind: "dec" },
    { name: "cpu", kind: "dec" },
  ],
);
export const deviceReclaim = declareEvent(
  "faultline",
  "device_reclaim",
  "a device was reset to be given to another user: do the four conditions hold at this moment?",
  [
    { name: "device", kind: "name" },
    { name: "no_page_table_reference", kind: "bool" },
    { name: "no_buffered_write", kind: "bool" },
    { name: "no_transaction_in_flight", kind: "bool" },
    { name: "clean_post_reset_state", kind: "bool" },
  ],
);
