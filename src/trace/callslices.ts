/** How a call of the VMM, or of a kernel thread, is named and described where it is a slice: its arguments as strace writes them. */
import type { Call } from "../api/calls.js";
import { errnoName } from "../sim/errno.js";

export type CallFields = Readonly<Record<string, number | string | boolean>>;

/** Numbers that are addresses or bits; the others are sizes, indices and counts. */
const HEX = new Set(
  "addr address oldAddress newAddress guestPhysAddr userspaceAddr start dst src other prot flags mode advice offset".split(" "),
);

/** The VMM's loads and stores are no system calls, and are not named like read(2) and write(2). */
const NAMES: Readonly<Record<string, string>> = { read: "load", write: "store" };

export function callName(call: Call): string {
  return NAMES[call.call] ?? call.call;
}

export function callFields(call: Call): CallFields {
  const out: Record<string, number | string | boolean> = {};
  for (const [name, v] of Object.entries(call) as [string, unknown][]) {
    if (name === "call" || v === undefined) continue;
    if (typeof v === "bigint") out[name] = `0x${BigInt.asUintN(64, v).toString(16)}`;
    else if (typeof v === "number") out[name] = HEX.has(name) && v >= 0 ? `0x${v.toString(16)}` : v;
    else if (typeof v === "string" || typeof v === "boolean") out[name] = v;
  }
  return out;
}

/** What a call returned: a number, an address, or an error by its name. */
export function returned(ret: number): CallFields {
  return { ret: ret < 0 ? `-${errnoName(ret)}` : ret >= 0x10000 ? `0x${ret.toString(16)}` : ret };
}
