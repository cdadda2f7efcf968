import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import "../../src/machine.js";
import { eventCatalogue } from "../../src/sim/events.js";
import { openTrace } from "../../src/trace/opentrace.js";
import { eventLayouts, formatText } from "../../src/trace/layout.js";
import { kernelFormats } from "../../src/trace/kernelformat.js";
import { folder, madeUp, META, RACE, report, text, traceCmd, traced, write, WITH_TRACE_CMD } from "./tracing.js";
import { Sim } from "../../src/sim/sim.js";

/** libtraceevent does not render the kernel's own print formats of these: %c, a condition in brackets, a negative int in a condition. */
const UNREADABLE = /: kvm_(wfx_arm64|irq_line|userspace_exit): /;

const kernelSide = test.skipIf(!traceCmd);

describe("the formats that trace.dat carries", () => {
  test("every trace point of system kvm has the kernel's own format, and no other event", () => {
    const kvm = eventCatalogue().filter((e) => e.system === "kvm");
    expect([...kernelFormats()].sort()).toEqual(kvm.map((e) => e.name).sort());
  });
  test("kvm_guest_fault is described as trace_arm.h describes it", () => {
    const l = eventLayouts().find((x) => x.event.name === "kvm_guest_fault")!;
    expect(formatText(l).split("\n").slice(8)).toEqual([
      "\tfield:unsigned long vcpu_pc;\toffset:8;\tsize:8;\tsigned:0;",
      "\tfield:unsigned long hsr;\toffset:16;\tsize:8;\tsigned:0;",
      "\tfield:unsigned long hxfar;\toffset:24;\tsize:8;\tsigned:0;",
      "\tfield:unsigned long long ipa;\toffset:32;\tsize:8;\tsigned:0;",
      "",
      'print fmt: "ipa %#llx, hsr %#08lx, hxfar %#08lx, pc %#016lx", REC->ipa, REC->hsr, REC->hxfar, REC->vcpu_pc',
      "",
    ]);
  });
  test("no field lies over another, and every one is aligned", () => {
    for (const l of eventLayouts()) {
      let end = 8;
      for (const { field, offset } of l.fields) {
        expect(offset, l.event.name).toBeGreaterThanOrEqual(end);
        expect(offset % field.size, l.event.name).toBe(0);
        end = offset + field.size;
      }
      expect(l.size, l.event.name).toBeGreaterThanOrEqual(end);
    }
  });
});

describe(`${WITH_TRACE_CMD}what it reads from our files`, () => {
  kernelSide("every event with any fields, from version 6 and 7, is the ftrace text", () => {
    const dir = folder();
    fc.assert(
      fc.property(madeUp(), (m) => {
        write(m, "trace.dat", join(dir, "6.dat"));
        write(m, "trace.dat-v7", join(dir, "7.dat"));
        write(m, "ftrace", join(dir, "t.txt"));
        const lines = text(join(dir, "t.txt")).trimEnd().split("\n");
        expect(lines).toHaveLength(m.records);
        const readable = (all: string[]): string[] => all.filter((l) => !UNREADABLE.test(l));
        const six = report(join(dir, "6.dat"));
        expect(readable(six)).toEqual(readable(lines));
        expect(report(join(dir, "7.dat"))).toEqual(six);
        expect(six).toHaveLength(m.records);
      }),
      { numRuns: 8, endOnFailure: true },
    );
  });

  kernelSide("a run with three agents: every event emitted, in order, with its fields", () => {
    const { events, files } = traced(RACE, ["trace.dat", "ftrace"]);
    const lines = report(files["trace.dat"]);
    expect(lines).toEqual(text(files.ftrace).trimEnd().split("\n"));
    const read = lines.map((l) => /^ *(.+)-([0-9]+) +\[([0-9]+)\] +[0-9.]+: ([a-z0-9_]+): +(.*)$/.exec(l)!);
    const task: Record<string, string> = { vmm: "vmm", vcpu0: "CPU 0/KVM", vcpu1: "CPU 1/KVM" };
    expect(read.map((m) => [m[1], m[4]])).toEqual(events.map((e) => [task[e.agent], e.event]));
    const faults = read.filter((m) => m[4] === "kvm_guest_fault").map((m) => /^ipa (0x[0-9a-f]+), hsr (0x[0-9a-f]+)/.exec(m[5]!)!.slice(1));
    expect(faults.map(([ipa, hsr]) => [Number(ipa), hsr])).toEqual(
      events.filter((e) => e.event === "kvm_guest_fault").map((e) => [e["ipa"], e["hsr"]]),
    );
    const entries = read.filter((m) => m[4] === "stage2_entry").map((m) => m[5]);
    expect(entries).toEqual(
      events
        .filter((e) => e.event === "stage2_entry")
        .map(
          (e) =>
            `table=0x${e["table"]!.toString(16)} index=${e["index"]!.toString()} level=${e["level"]!.toString()} ipa=0x${e["ipa"]!.toString(16)} old=${String(e["old"])} new=${String(e["new"])}`,
        ),
    );
  });

  kernelSide("filters on the kernel's fields and on ours select what they select in the run", () => {
    const { events, files } = traced(RACE, ["trace.dat"]);
    const wanted = events.filter((e) => e.event === "kvm_guest_fault" && Number(e["ipa"]) >= 0x80002000);
    expect(wanted.length).toBeGreaterThan(0);
    expect(report(files["trace.dat"], "-F", "kvm_guest_fault: ipa >= 0x80002000")).toHaveLength(wanted.length);
    const leaves = events.filter((e) => e.event === "stage2_entry" && e["level"] === 3);
    expect(report(files["trace.dat"], "-F", "stage2_entry: level == 3")).toHaveLength(leaves.length);
    const vcpu1 = events.filter((e) => e.agent === "vcpu1");
    expect(report(files["trace.dat"], "--cpu", "2")).toHaveLength(vcpu1.length);
  });

  kernelSide("another system for the kernel's trace points, where a reader's kvm plugin knows x86 only", () => {
    const file = join(folder(), "t.dat");
    const sim = new Sim();
    sim.agents.add("vcpu0", "vcpu", 0);
    const sink = openTrace(file, sim, META, { format: "trace.dat", kvmSystem: "kvm_arm64" });
    const off = sim.bus.stream(sink.take);
    sim.bus.emit(
      eventCatalogue().find((e) => e.name === "kvm_entry")!,
      0,
      0x1000,
    );
    off();
    sink.finish();
    expect(report(file, "-R")).toHaveLength(1);
    expect(readFileSync(file).includes("kvm_arm64\0")).toBe(true);
  });
});

describe("the files of a run", () => {
  const FORMATS = ["trace.dat", "trace.dat-v7", "ftrace", "chrome", "perfetto", "jsonl"] as const;
  test("the same run gives the same bytes, and no path or part of this machine is in them", () => {
    const [a, b] = [folder(), folder()];
    const one = traced(RACE, FORMATS, a).files;
    const two = traced(RACE, FORMATS, b).files;
    for (const f of FORMATS) {
      const bytes = readFileSync(one[f]);
      expect(bytes.equals(readFileSync(two[f])), f).toBe(true);
      for (const trace of [a, process.cwd(), process.version]) expect(bytes.includes(trace), `${f}: ${trace}`).toBe(false);
    }
    expect(readdirSync(a).sort()).toEqual(FORMATS.map((f) => `t.${f}`).sort());
  });
  test("a run that fails leaves nothing", () => {
    const dir = folder();
    const sim = new Sim();
    sim.agents.add("vcpu0", "vcpu", 0);
    for (const format of FORMATS) {
      const sink = openTrace(join(dir, "t"), sim, META, { format });
      const off = sim.bus.stream(sink.take);
      sim.bus.emit(eventCatalogue()[0]!, 1);
      off();
      sink.abandon();
    }
    expect(readdirSync(dir)).toEqual([]);
    expect(existsSync(join(dir, "t"))).toBe(false);
  });
});
