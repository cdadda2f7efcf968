/**
 * How far each store has got: the store and gathering buffers of the CPUs, the interconnect, the root complex, in the
 * order of the way. What is listed no end point has seen yet.
 */
import type { Machine } from "../machine.js";
import { claimingBar } from "../vfio/hostbridge.js";
import { table } from "./columns.js";

export interface BufferRow {
  readonly place: "store buffer" | "gathering buffer" | "interconnect" | "root complex";
  /** The CPU that stored it. */
  readonly cpu: number;
  /** Resulting memory type: nGnRnE, nGnRE, nGRE, GRE, NC, WB. */
  readonly type: string;
  /** Of the 64-byte line. */
  readonly line: number;
  /** Bytes of the line that are written, as runs [first, length]. */
  readonly bytes: readonly (readonly [number, number])[];
  /** What each run writes, hexadecimal, the highest byte first. */
  readonly value: readonly string[];
  /** RAM, `0000:01:00.0 BAR 0 +0x20`, or a platform device. */
  readonly target: string;
  /** May it take its next step now, or is something older in front of it? */
  readonly free: boolean;
  /** The device was reset since the store: if it arrives it is a late write. */
  readonly late: boolean;
}

/** Gathering types: further stores to the line join the entry. */
const GATHERS = new Set(["NC", "GRE"]);

export function bufferRows(machine: Machine): BufferRow[] {
  const { ordering } = machine.pe;
  if (ordering === undefined) return [];
  const buffered = ordering.buffers.list().map((e): BufferRow => ({
    place: GATHERS.has(e.type) ? "gathering buffer" : "store buffer",
    cpu: e.cpu,
    type: e.type,
    line: e.line,
    bytes: e.bytes,
    value: e.bytes.map(([first, length]) => valueOf(e.data, first, length)),
    target: targetOf(machine, e.line + e.bytes[0]![0]),
    free: e.free,
    late: e.stale,
  }));
  const under = (machine.fabric?.list() ?? []).map((e): BufferRow => ({
    place: e.place === "interconnect" ? "interconnect" : "root complex",
    cpu: e.cpu,
    type: e.type,
    line: e.line,
    bytes: e.runs,
    value: e.runs.map(([first, length]) => valueOf(e.data, first, length)),
    target: targetOf(machine, e.address),
    free: e.free,
    late: e.stale,
  }));
  return [...buffered, ...under];
}

function valueOf(words: readonly number[], first: number, length: number): string {
  let out = "";
  for (let b = first; b < first + length; b++) out = ((words[b >> 2]! >>> ((b & 3) * 8)) & 0xff).toString(16).padStart(2, "0") + out;
  return `0x${out}`;
}

function targetOf(machine: Machine, pa: number): string {
  if (machine.phys.isRam(pa)) return "RAM";
  const bar = claimingBar(machine.vfioPci.pci, pa, 1);
  if (bar === undefined) return "no function claims it";
  return `${machine.sim.bus.nameOf(machine.vfioPci.pci.functions[bar.fn]!.name)} BAR ${bar.index} +0x${(pa - bar.start).toString(16)}`;
}

const span = ([first, length]: readonly [number, number]): string => (length === 1 ? String(first) : `${first}-${first + length - 1}`);

function section(title: string, rows: readonly BufferRow[]): string[] {
  if (rows.length === 0) return [`---[ ${title} ]---`, "# empty"];
  const cells = rows.flatMap((r) =>
    r.bytes.map((run, n) => [
      ...(n === 0 ? [String(r.cpu), `0x${r.line.toString(16)}`, r.type] : ["", "", ""]),
      span(run),
      r.value[n]!,
      n === 0 ? r.target : "",
      n > 0 ? "" : [r.free ? "may go on" : "behind an older store", ...(r.late ? ["LATE: the device was reset since"] : [])].join("; "),
    ]),
  );
  return [`---[ ${title} ]---`, ...table([["CPU", "LINE", "TYPE", "BYTES", "VALUE", "FOR", "NEXT STEP"], ...cells])];
}

export function bufferText(machine: Machine): string[] {
  const rows = bufferRows(machine);
  const out: string[] = [];
  for (let cpu = 0; cpu < machine.cpus; cpu++)
    out.push(
      ...section(
        `CPU ${cpu}: store and gathering buffers`,
        rows.filter((r) => r.cpu === cpu && r.place.endsWith("buffer")),
      ),
    );
  for (const place of ["interconnect", "root complex"] as const)
    out.push(
      ...section(
        place,
        rows.filter((r) => r.place === place),
      ),
    );
  const { fabric } = machine;
  if (fabric !== undefined)
    out.push(`# the root complex has sent ${fabric.sent} memory writes and ${fabric.reads} memory reads; ${fabric.late} writes came late`);
  return out;
}
