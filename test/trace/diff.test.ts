import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { diffTraces } from "../../src/trace/differ.js";
import { readTrace } from "../../src/cli/diff.js";
import type { MeantEvent, ReadTrace } from "../../src/trace/meaning.js";
import { folder, RACE, report, traceCmd, traced, text } from "./tracing.js";

const FORMATS = ["trace.dat", "trace.dat-v7", "ftrace", "chrome", "jsonl"] as const;
let files: Record<(typeof FORMATS)[number], string>;
beforeAll(() => {
  files = traced(RACE, FORMATS).files;
});
const NOTHING = { ignore: [] };

describe("one run in every readable format", () => {
  test.each(FORMATS.flatMap((a) => FORMATS.map((b) => [a, b] as const)))("%s is the same as %s", (a, b) => {
    const d = diffTraces(readTrace(files[a]), readTrace(files[b]), NOTHING);
    expect(d.first).toBeUndefined();
    expect(d.compared.a).toBe(d.compared.b);
    expect(d.compared.a).toBeGreaterThan(100);
    if (a !== "chrome" && b !== "chrome") expect(d.leftOut).toEqual({ a: 0, b: 0 });
  });
  test("the events read are those of the run, with agent, name and fields", () => {
    const { events, files: f } = traced(RACE, ["trace.dat"]);
    const read = readTrace(f["trace.dat"]).events;
    expect(read.map((e) => `${e.agent} ${e.event}`)).toEqual(events.map((e) => `${e.agent} ${e.event}`));
    const faults = read.filter((e) => e.event === "kvm_guest_fault").map((e) => e.fields["ipa"]);
    expect(faults).toEqual(events.filter((e) => e.event === "kvm_guest_fault").map((e) => String(e["ipa"])));
  });
});

describe("what trace-cmd reports of a host", () => {
  // As trace-cmd report prints an arm64 recording, with the complaints of libtraceevent's x86 plugin.
  const HOST = `cpus=2
 qemu-system-aar-4242  [001]  1000.000100: kvm_unmap_hva_range:  mmu notifier unmap range: 0xffff80000000 -- 0xffff80200000
       CPU 0/KVM-4250  [000]  1000.000200: kvm_entry:            CAN'T FIND FIELD "vcpu_id"PC: 0xffff800010081000
       CPU 0/KVM-4250  [000]  1000.000300: kvm_exit:             TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800010081000
       CPU 0/KVM-4250  [000]  1000.000301: kvm_guest_fault:      ipa 0x80000000, hsr 0x93c48005, hxfar 0xffff800011000000, pc 0xffff800010081000
       CPU 0/KVM-4250  [000]  1000.000310: kvm_userspace_exit:   reason error (14)
`;
  const write = (content: string, name = "host.txt"): string => {
    const file = join(folder(), name);
    writeFileSync(file, content);
    return file;
  };
  test("is read with the kernel's fields", () => {
    const t = readTrace(write(HOST));
    expect(t.ours).toBe(false);
    expect(t.events.map(({ agent, event, fields }) => ({ agent, event, fields }))).toEqual([
      { agent: "vmm", event: "kvm_unmap_hva_range", fields: { start: "281472829227008", end: "281472831324160" } },
      { agent: "vcpu0", event: "kvm_entry", fields: { vcpu_pc: String(0xffff800010081000n) } },
      { agent: "vcpu0", event: "kvm_exit", fields: { ret: "2", esr_ec: "36", vcpu_pc: String(0xffff800010081000n) } },
      {
        agent: "vcpu0",
        event: "kvm_guest_fault",
        fields: { ipa: "2147483648", hsr: "2479128581", hxfar: String(0xffff800011000000n), vcpu_pc: String(0xffff800010081000n) },
      },
      { agent: "vcpu0", event: "kvm_userspace_exit", fields: { errno: "-14" } },
    ]);
  });
  test("as tracefs and perf script print it too", () => {
    const line = "ipa 0x80000000, hsr 0x93c48005, hxfar 0xffff800011000000, pc 0xffff800010081000";
    const tracefs = `# tracer: nop\n#\n CPU 0/KVM-4250    [000] ..... 1000.000301: kvm_guest_fault: ${line}\n`;
    const perf = `CPU 0/KVM  4250 [000]  1000.000301: kvm:kvm_guest_fault: ${line}\n`;
    const [a, b] = [readTrace(write(tracefs)), readTrace(write(perf))];
    expect(a.events[0]).toMatchObject({ agent: "vcpu0", event: "kvm_guest_fault", fields: { ipa: "2147483648", hsr: "2479128581" } });
    expect(b.events[0]).toMatchObject({ agent: "vcpu0", event: "kvm_guest_fault", fields: { ipa: "2147483648", hsr: "2479128581" } });
  });
  test("is compared per vCPU and only in what both have; the first difference is the host's other syndrome", () => {
    const ours = readTrace(files.jsonl);
    const faults = ours.events.filter((e) => e.event === "kvm_guest_fault");
    const say = (e: MeantEvent, hsr = e.fields["hsr"]!): string =>
      `  CPU ${e.agent.slice(4)}/KVM-1 [000] 1.0: kvm_guest_fault: ipa 0x${BigInt(e.fields["ipa"]!).toString(16)}, hsr 0x${BigInt(hsr).toString(16)}, hxfar 0x1, pc 0x2`;
    // Another order between vCPUs is none within them.
    const inOrder = ["vcpu1", "vcpu0"].flatMap((v) => faults.filter((e) => e.agent === v).map((e) => say(e)));
    const ignore = { ignore: ["hxfar", "vcpu_pc"] };
    expect(diffTraces(ours, readTrace(write(inOrder.join("\n"))), ignore).same).toBe(true);
    inOrder[inOrder.length - 1] = say(faults.filter((e) => e.agent === "vcpu0").at(-1)!, String(0x93c4800f));
    const d = diffTraces(ours, readTrace(write(inOrder.join("\n"))), ignore);
    expect(d.first).toMatchObject({ agent: "vcpu0", after: faults.filter((e) => e.agent === "vcpu0").length - 1, fields: ["hsr"] });
    expect(d.leftOut.a).toBe(ours.events.length - faults.length);
  });
  test("threads that enter the guest are vCPUs whatever they are called, the others are the VMM", () => {
    const fault = "kvm_guest_fault: ipa 0x1000, hsr 0x93c48005, hxfar 0x1000, pc 0x2000";
    const of = (task: string, said: string): string => ` ${task} [000] 1.000001: ${said}`;
    const unmap = "kvm_unmap_hva_range: mmu notifier unmap range: 0x0000ffff80000000 -- 0x0000ffff80001000";
    const lines = [
      of("crosvm-10", unmap),
      of("crosvm_vcpu1-12", fault),
      of("crosvm_vcpu1-11", fault),
      of("CPU 0/KVM-13", fault),
      of("ksmd-50", unmap),
      of("crosvm_vcpu1-12", unmap),
    ];
    expect(readTrace(write(lines.join("\n"))).events.map((e) => e.agent)).toEqual(["vmm", "vcpu1", "vcpu2", "vcpu0", "ksmd", "vcpu1"]);
  });
  test("a probe of the host's that has the name of one of our events does not make the trace ours", () => {
    const probe = " init-126 [000] d.... 13.258321: guest_abort: (handle_exit+0x68/0x168 <- kvm_handle_guest_abort) ret=1";
    expect(readTrace(write(probe)).ours).toBe(false);
  });
  test("interrupts of the host, signals, and the register of a load are no difference; where the code lies is none either", () => {
    const host = [
      "kvm_entry: PC: 0x0000000000001000",
      "kvm_exit: IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0x0000000000001004",
      "kvm_userspace_exit: reason restart (4)",
      "kvm_entry: PC: 0x0000000000001004",
      "kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0x0000000000001008",
      "kvm_guest_fault: ipa 0x80000000, hsr 0x93c48005, hxfar 0x80000000, pc 0x00000000001008",
    ];
    const quiet = [host[0], host[4], host[5]!.replace("0x93c48005", "0x93c08005").replace("001008", "005000")];
    const file = (lines: readonly (string | undefined)[]): string => write(lines.map((l) => ` CPU 0/KVM-1 [000] 1.0: ${l!}`).join("\n"));
    expect(diffTraces(readTrace(file(host)), readTrace(file(quiet)), NOTHING)).toMatchObject({ same: true, compared: { a: 3, b: 3 } });
    const store = [...quiet.slice(0, 2), host[5]!.replace("0x93c48005", "0x93c48045")];
    expect(diffTraces(readTrace(file(host)), readTrace(file(store)), NOTHING).first).toMatchObject({ after: 2, fields: ["hsr"] });
  });
  describe("of Debian's 6.12.117, whose VMM is the recorder: the same calls as a script", () => {
    const host = readTrace(join(import.meta.dirname, "data/host-6.12.117.txt"));
    const ours = (): ReadTrace => readTrace(traced(text(join(import.meta.dirname, "data/host.guest")), ["jsonl"]).files.jsonl);
    test("part where the recorder's guest first reports through a device", () => {
      const d = diffTraces(ours(), host, NOTHING);
      expect(d.first).toMatchObject({ agent: "vcpu0", after: 8, fields: ["hsr", "ipa"] });
      expect(d.first!.b!.fields["ipa"]).toBe(String(0x10000000));
    });
    test("are the same in the memslot's addresses", () => {
      const d = diffTraces(ours(), host, { ignore: [], ipa: [0x80000000, 0x80400000] });
      expect(d).toMatchObject({ same: true, compared: { a: 2, b: 2 } });
    });
    test("have the same sequence of notifiers if one asks for them, but the host's for the rest of its memory", () => {
      const d = diffTraces(ours(), host, { ignore: [], events: ["kvm_unmap_hva_range"] });
      expect(d.only).toEqual({ kvm_unmap_hva_range: { a: 2, b: 9 } });
    });
  });
  test.skipIf(!traceCmd)("our trace.dat through the real trace-cmd report is the same as the file", () => {
    const kvm = report(files["trace.dat"]).filter((l) => !/kvm_userspace_exit/.test(l));
    const d = diffTraces(readTrace(files["trace.dat"]), readTrace(write(kvm.join("\n"))), NOTHING);
    expect(d.only).toEqual({ kvm_userspace_exit: { a: text(files.ftrace).split("kvm_userspace_exit").length - 1, b: 0 } });
  });
  test.skipIf(!traceCmd)("a version 7 file that trace-cmd converted is read", () => {
    const out = join(folder(), "c.dat");
    const r = spawnSync("trace-cmd", ["convert", "--file-version", "7", "--compression", "none", "-i", files["trace.dat"], "-o", out]);
    expect(r.status).toBe(0);
    const d = diffTraces(readTrace(files["trace.dat"]), readTrace(out), NOTHING);
    expect(d.same).toBe(true);
  });
});

test("the first divergence is where two lists of events first differ, against a plain loop", () => {
  const event = fc.record({ agent: fc.constantFrom("vcpu0", "vmm"), event: fc.constantFrom("kvm_entry", "tlbi"), x: fc.nat(2) });
  const trace = (list: readonly { agent: string; event: string; x: number }[]) => ({
    format: "JSON lines",
    ours: true,
    events: list.map(({ agent, event: name, x }, i) => ({ agent, event: name, fields: { x: String(x) }, place: i + 1, time: "0" })),
  });
  fc.assert(
    fc.property(fc.array(event), fc.array(event), fc.array(event), (before, a, b) => {
      const [x, y] = [
        [...before, ...a],
        [...before, ...b],
      ];
      let n = 0;
      while (n < x.length && n < y.length && JSON.stringify(x[n]) === JSON.stringify(y[n])) n++;
      const d = diffTraces(trace(x), trace(y), NOTHING);
      if (n === x.length && n === y.length) expect(d.first).toBeUndefined();
      else expect(d.first!.after).toBe(n);
      const total = Object.values(d.only ?? {}).reduce((s, c) => s + c.a - c.b, 0);
      expect(total).toBe(x.length - y.length);
    }),
    { endOnFailure: true },
  );
});
