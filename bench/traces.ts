/**
 * What it costs to write a trace of everything: the demand faults of demand-fault-4k with a sink attached, all
 * events, into a file of the temporary folder.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TraceFormat } from "../src/trace/formats.js";
import { openTrace } from "../src/trace/opentrace.js";
import { anonymous, guest, MEMORY_IPA, memorySlot, runProgram, STORE_LOOP, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const PAGE = 4096;
const META = { variant: "bench", kernel: "v6.12", cpu: "max", set: {} };

interface Traced extends Workload {
  /** Events of the last run. */
  readonly events: number;
}

function traced(name: string, format: TraceFormat, pages: number, rest: Pick<Workload, "compares" | "unit" | "floor">): Traced {
  const folder = mkdtempSync(join(tmpdir(), "faultline-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "t");
  let g: Guest;
  let before = 0;
  let events = 0;
  return {
    name,
    ...rest,
    get events() {
      return events;
    },
    get ops() {
      return rest.unit === "faults" ? pages : Math.max(1, events);
    },
    prepare() {
      g = guest(STORE_LOOP);
      const hva = anonymous(g.machine, pages * PAGE, false);
      memorySlot(g, hva, pages * PAGE);
      before = g.machine.sim.bus.seq;
    },
    run() {
      const { sim } = g.machine;
      const sink = openTrace(file, sim, META, { format });
      const detach = sim.bus.stream(sink.take);
      runProgram(g, { x0: MEMORY_IPA, x1: 1, x2: pages, x3: PAGE });
      detach();
      sink.finish();
      events = sim.bus.seq - before;
    },
    check() {
      const leaves = g.machine.stage2Leaves(g.vm.id).filter((l) => l.ipa >= MEMORY_IPA).length;
      if (leaves !== pages) throw new Error(`${leaves} stage-2 leaves for ${pages} pages`);
      if (format === "jsonl" && countLines(file) !== events + 1) throw new Error(`${countLines(file)} lines for ${events} events`);
      if (format === "ftrace" && countLines(file) !== events) throw new Error(`${countLines(file)} lines for ${events} events`);
      if (statSync(file).size < events * 16) throw new Error(`${statSync(file).size} bytes for ${events} events`);
    },
    notes: () => [`${(events / pages).toFixed(1)} events and ${Math.round(statSync(file).size / pages)} bytes of file per fault`],
  };
}

function countLines(file: string): number {
  const fd = openSync(file, "r");
  const buffer = Buffer.alloc(1 << 20);
  let lines = 0;
  for (let n = readSync(fd, buffer); n > 0; n = readSync(fd, buffer)) for (let i = 0; i < n; i++) if (buffer[i] === 10) lines++;
  closeSync(fd);
  return lines;
}

export const demandFault4kJsonl = (quick: boolean): Workload =>
  traced("demand-fault-4k-jsonl", "jsonl", quick ? 2 ** 9 : 2 ** 16, {
    compares: "the faults of demand-fault-4k with the JSON-lines sink attached, every event written to a file; issue: 0.1 M/s, aim 0.3 M/s",
    unit: "faults",
    floor: 1e5,
  });

const events =
  (name: string, format: TraceFormat, compares: string) =>
  (quick: boolean): Workload =>
    traced(name, format, quick ? 2 ** 9 : 2 ** 16, { compares, unit: "events", floor: 1e6 });

export const traceDat = events("trace-dat", "trace.dat", "events of demand faults, emulated and written as trace.dat; issue: 1 M/s");
export const traceFtrace = events("trace-ftrace", "ftrace", "events of demand faults, emulated and written as ftrace text; aim 1 M/s");
export const traceChrome = events("trace-chrome", "chrome", "events of demand faults, emulated and written as Chrome JSON; aim 1 M/s");
export const tracePerfetto = events("trace-perfetto", "perfetto", "events of demand faults, emulated and written for Perfetto; aim 1 M/s");
