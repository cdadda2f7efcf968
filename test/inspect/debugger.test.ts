import fc from "fast-check";
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseBreakpoint } from "../../src/inspect/breakpoints.js";
import { openDebugger } from "../../src/index.js";

const folder = new URL("../../scenarios/", import.meta.url);
const source = (name: string) => readFileSync(new URL(`${name}.guest`, folder), "utf8");
const names = readdirSync(folder).map((f) => f.replace(/\.guest$/, ""));
const efault = () => openDebugger(source("2026-write-notify-efault"), { variant: "v6.18.2" });

describe("moving", () => {
  test("break, continue, back: the event before the fault", () => {
    const d = efault();
    expect(d.execute("break kvm_guest_fault")).toEqual(["breakpoint 1: kvm_guest_fault"]);
    d.execute("continue");
    expect(d.position).toBe(80);
    expect(d.execute("back").slice(0, 2)).toEqual([
      "line 25: guest vcpu0 { mov x1, 0x55; str x1, [GPU] }",
      "    79 vcpu0  kvm_exit             ret=2 esr_ec=0x20 vcpu_pc=0x40000800",
    ]);
    d.execute("continue");
    d.execute("continue");
    expect(d.position).toBe(110);
    d.execute("rcontinue");
    expect(d.position).toBe(80);
  });

  test("by fault and by access, in both directions", () => {
    const d = efault();
    const go = (line: string) => (d.execute(line), d.position);
    expect([
      go("step fault"),
      go("step fault 2"),
      go("back fault"),
      go("step access"),
      go("back access 2"),
      go("start"),
      go("end"),
    ]).toEqual([80, 142, 110, 138, 104, 19, 251]);
    expect(d.execute("step")).toEqual(["no event after this one: the end of the run"]);
    expect(d.execute("step fault")).toEqual(["no fault after this one: the end of the run"]);
  });

  test("what changed is said: registers, host entries, stage 2", () => {
    const d = efault();
    d.execute("goto 165");
    expect(d.execute("goto 170").slice(-2)).toEqual([
      "  stage 2 of VM 0",
      "    + 0x0000000080001000-0x0000000080002000           4K 3   R   NX AF      pa 0x40004000  MEM/NORMAL  SH inner  sw 0000",
    ]);
    expect(d.execute("goto 165").slice(-1)[0]).toBe(
      "    - 0x0000000080001000-0x0000000080002000           4K 3   R   NX AF      pa 0x40004000  MEM/NORMAL  SH inner  sw 0000",
    );
    d.execute("goto 107");
    expect(d.execute("step 3").slice(-4)).toEqual([
      "  vcpu0",
      "    esr_el2 0x82000005 -> 0x93c18045",
      "    far_el2 0x40000800 -> 0x80000000",
      "    hpfar_el2 0x8000000000400000 -> 0x8000000000800000",
    ]);
  });
});

test.each(names.filter((_, n) => n % 6 === 0))("%s: N steps forward and N back is the same state and the same dumps", (name) => {
  const d = openDebugger(source(name));
  const seen = (): string =>
    JSON.stringify([d.position, d.execute("hash"), d.execute("dump stage2 long"), d.execute("dump tlb"), d.execute("dump host long")]);
  fc.assert(
    fc.property(fc.nat(d.run.events.last - d.start), fc.integer({ min: 1, max: 300 }), (from, n) => {
      d.execute(`goto ${d.start + from}`);
      const before = seen();
      const steps = Math.min(n, d.run.events.last - d.position);
      if (steps === 0) return;
      d.execute(`step ${steps}`);
      d.execute(`back ${steps}`);
      expect(seen()).toBe(before);
    }),
    { numRuns: 4, seed: 7 },
  );
});

describe("breakpoints", () => {
  const stops = (text: string): number[] => {
    const d = efault();
    d.execute(`break ${text}`);
    const out: number[] = [];
    for (;;) {
      const [first = ""] = d.execute("continue");
      if (first.startsWith("no breakpoint")) return out;
      out.push(d.position);
    }
  };
  test("on an event with conditions over numbers, 64-bit words and names", () => {
    const { events } = efault().run;
    const scanned: number[] = [];
    for (let seq = 20; seq <= events.last; seq++) {
      const e = events.at(seq);
      if (e.event === "stage2_entry" && e["level"] === 3 && e["old"] === "0x0") scanned.push(seq);
    }
    expect(scanned.slice(0, 2)).toEqual([99, 170]);
    expect(stops("stage2_entry if level == 3 && old == 0")).toEqual(scanned);
    expect(stops("decision if name == pfnmapWriteRetry")).toHaveLength(2);
    expect(stops("kvm_guest_fault if hsr == 0x93c08005")).toEqual([142]);
    expect(stops("if agent == vcpu0 and table == 0xc00000a000")).toEqual([170, 243]);
  });
  test("on an address: every event that speaks of it, its page or a range around it", () => {
    const hits = stops("0x80001000");
    const d = efault();
    expect(hits.map((seq) => d.run.events.at(seq).event)).toEqual(
      expect.arrayContaining(["tlb_miss", "kvm_guest_fault", "memslot_lookup", "stage2_entry"]),
    );
    for (const seq of hits) expect(JSON.stringify(Object.values(d.run.events.at(seq)))).toMatch(/2147487744|524289|0x80001000/);
  });
  test("a wrong event, field, operator or address is refused with the nearest right one", () => {
    for (const [text, message] of [
      ["kvm_guest_faul", /no event "kvm_guest_faul": did you mean "kvm_guest_fault"\?/],
      ["stage2_entry if levl == 3", /stage2_entry has no field "levl": did you mean "level"\?/],
      ["stage2_entry if level", /"level" is no condition/],
      ["0xzz", /"0xzz" is no address/],
      ["", /break takes an event/],
    ] as const)
      expect(() => parseBreakpoint(text)).toThrow(message);
  });
});

test("commands that look: where, list, regs, explain, dump, events", () => {
  const d = efault();
  d.execute("goto 110");
  expect(d.execute("where").slice(-2)).toEqual(["vmm      idle", "vcpu0    kvmHandleGuestAbort:classify < kvmVcpuRun:handled"]);
  expect(d.execute("list 1").map((l) => l.slice(0, 2))).toEqual(["  ", "> ", "  "]);
  expect(d.execute("regs")).toContain("pc 0x40000808");
  expect(d.execute("explain").at(-1)).toBe("So KVM_RUN fails with EFAULT.");
  expect(d.execute("dump memslots").slice(-1)[0]).toContain("/dev/drm_shmem");
  expect(d.execute("events guest_f")[0]).toMatch(/^kvm_guest_fault/);
  expect(() => d.execute("brake kvm_exit")).toThrow(/no command "brake": did you mean "break"\?/);
  expect(() => d.execute("regs vcpu7")).toThrow(/no vCPU "vcpu7"/);
  expect(() => d.execute("goto 9999")).toThrow(/there is no event 9999: the run has 0 to 251/);
  expect(d.ended).toBe(false);
  d.execute("quit");
  expect(d.ended).toBe(true);
});
