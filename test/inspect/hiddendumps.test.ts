/** Dumps of what no table shows: caches beside memory, and how far stores have got. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { dump } from "../../src/inspect/dump.js";
import { record, type Recorded } from "../../src/inspect/recorded.js";
import type { Machine } from "../../src/index.js";

const scenario = (name: string) => readFileSync(new URL(`../../scenarios/${name}.guest`, import.meta.url), "utf8");
function ran(source: string, variant?: string): Recorded {
  const program = compile("test.guest", source, machineWorld);
  return record(program, program.variants.find((v) => v.name === variant) ?? program.variants[0]!);
}
const section = (machine: Machine, what: "cache" | "buffers", title: string, long = false): string[] => {
  const { lines } = dump(machine, what, long);
  const from = lines.findIndex((l) => l.startsWith(`---[ ${title}`));
  const rest = lines.slice(from + 1);
  const to = rest.findIndex((l) => l.startsWith("---["));
  return to < 0 ? rest : rest.slice(0, to);
};

describe("dump cache", () => {
  const run = ran(scenario("2015-uncached-dma"), "emulated-not-described");

  test("has each line's state and value beside memory's, and says which of the two is stale and who wrote the other", () => {
    expect(section(run.machine, "cache", "data cache")).toEqual([
      "LINE        STATE  DIRTY  FILLED BY  AT     VALUE               MEMORY              NEWER COPY",
      "0x40002000  clean         kernel     +0x8   0x0000000040000705  same",
      "                                     +0x10  0x0000000080000701  same",
      "0x40003000  dirty  0-7    store      +0x0   0x0000000000000011  0x0000000000000000  STALE memory: the line is dirty, by vmm",
      "0x40003040  clean         load       +0x0   0x0000000000000022  0x0000000000000033  STALE line, by vcpu0",
    ]);
  });
  test("has the same as data, the whole line", () => {
    const zeros = Array.from({ length: 7 }, () => "0x0000000000000000");
    expect(dump(run.machine, "cache").rows.find((r) => (r as { stale?: string }).stale === "line")).toEqual({
      cache: "data",
      cpu: -1,
      address: 0x40003040,
      state: "clean",
      dirty: [],
      filled: "load",
      value: ["0x0000000000000022", ...zeros],
      memory: ["0x0000000000000033", ...zeros],
      stale: "line",
      writer: "vcpu0",
      poUStale: false,
    });
  });
  test("looking changes nothing", () => {
    const before = run.machine.sim.state.hash();
    dump(run.machine, "cache", true);
    expect(run.machine.sim.state.hash()).toBe(before);
  });

  // Code that the guest changed without IC IVAU: CTR_EL0.IDC and DIC are 0 on a Cortex-A72.
  const PATCHED = `
machine { cache modelled  kernel v6.12  cpu cortex-a72 }
let code = mmap(0, 2M, align=2M)
write32(code, 0xd65f03c0)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=2M, userspace_addr=code)
guest {
  mov x1, 0x30d01800;  msr sctlr_el1, x1
  isb
  mov x1, 0x80000000
  blr x1
}
write32(code, 0xd503201f)
`;
  test("instruction caches stand beside what a load would see: a line that IC IVAU forgot is stale", () => {
    const stale = dump(ran(PATCHED).machine, "cache").lines.filter((l) => l.includes("IC IVAU"));
    expect(stale.map((l) => l.replace(/ {2,}/g, " | "))).toEqual([
      expect.stringMatching(
        /^0x4\w+ \| clean \| fetch \| \+0x0 \| 0x00000000d65f03c0 \| 0x00000000d503201f \| STALE line: IC IVAU is missing, by vmm$/,
      ),
    ]);
  });
  test("lines alike that follow each other are one row", () => {
    const { machine } = ran(scenario("2015-uncached-framebuffer"), "before");
    expect(section(machine, "cache", "data cache")).toContain(
      "0x400030c0, 61 lines  dirty  0-63   kernel     all    0x0000000000000000  same",
    );
  });
});

describe("dump buffers follows a store of October 2023's reset race", () => {
  const run = ran(scenario("2023-nc-cpu0-writes-cpu1-resets"), "unmap-first-interconnect");
  const after = (event: string): Machine => run.timeline.visit(run.events.find([event], run.events.first, 1));
  const store = "2    0x8008000000  NC    32-35  0x00000077  0000:01:00.0 BAR 0 +0x20";

  test("first it is in its CPU's gathering buffer", () => {
    const machine = after("store_buffered");
    expect(section(machine, "buffers", "CPU 2")).toEqual([
      "CPU  LINE          TYPE  BYTES  VALUE       FOR                       NEXT STEP",
      `${store}  may go on`,
    ]);
    expect(section(machine, "buffers", "interconnect")).toEqual(["# empty"]);
  });
  test("the DVMSync pushes it into the interconnect, not further", () => {
    const machine = run.timeline.visit(run.events.find(["store_drained"], run.events.first, 1) + 1);
    expect(section(machine, "buffers", "CPU 2")).toEqual(["# empty"]);
    expect(section(machine, "buffers", "interconnect").slice(1)).toEqual([`${store}  may go on`]);
    expect(section(machine, "buffers", "root complex")[0]).toBe("# empty");
  });
  test("after the device's reset it would come late", () => {
    const machine = after("device_reclaim");
    expect(dump(machine, "buffers").rows).toEqual([
      expect.objectContaining({ place: "interconnect", cpu: 2, value: ["0x00000077"], free: true, late: true }),
    ]);
  });
  test("at the end it has arrived", () => {
    expect(dump(run.machine, "buffers").rows).toEqual([]);
    expect(dump(run.machine, "buffers").lines.at(-1)).toBe(
      "# the root complex has sent 1 memory writes and 1 memory reads; 1 writes came late",
    );
  });
});
