/** `report`, `expect cache`, and the row that a run has in the table. */
import { expect, it } from "vitest";
import { resultTable } from "../../src/cli/render.js";
import { runAll as run } from "./run.js";

const SCRIPT = `
machine { cache modelled  cpu cortex-a76 }
variant stale
variant coherent { cache coherent }
let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
madvise(ram, 2M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
guest { mov x1, 0x1000; str x1, [RAM] }
expect cache ram invalid
let first = read64(ram)
expect cache ram clean
guest { mov x1, 0x2000; str x1, [RAM] }
let second = read64(ram)
report "second" second
report "faults in RAM" count fault ipa>=RAM
report "bytes mapped" sum stage2_map size
report "EINVAL" ret - 22
write64(ram, 1)
expect cache ram dirty
`;

it("a run's row has its reports in their order, then counts that are not zero, then the cycles", () => {
  const results = run(SCRIPT);
  const labels = results.map((r) => r.row.map((c) => c.label));
  expect(labels[0]).toEqual([
    "second",
    "faults in RAM",
    "bytes mapped",
    "EINVAL",
    "guest faults",
    "D-cache lines by KVM",
    "I-cache operations",
    "stale reads",
    "cycles",
  ]);
  const values = (n: number) => results[n]!.row.slice(0, 6).map((c) => c.text);
  expect(values(0)).toEqual(["0x1000", "1", "8192", "EINVAL", "2", "128"]);
  expect(values(1)).toEqual(["0x2000", "1", "8192", "EINVAL", "2", "128"]);
  expect(results.map((r) => r.row.find((c) => c.label === "stale reads")?.value)).toEqual([1, undefined]);
});

it("the table of two variants has quantities down and variants across, a zero where nothing was counted", () => {
  const lines = resultTable(run(SCRIPT));
  expect(lines[0]).toMatch(/^ +stale +coherent$/);
  expect(lines.find((l) => l.startsWith("stale reads"))).toMatch(/^stale reads +1 +0$/);
  expect(lines.every((l) => l.length <= 76)).toBe(true);
});

it("a line in the wrong state fails with the state that it has", () => {
  const [r] = run(SCRIPT.replace("expect cache ram dirty", "expect cache ram clean"));
  expect(r!.outcomes.filter((o) => o.status === "failed").map((o) => o.actual)).toEqual([
    expect.stringMatching(/^the line of 0x[0-9a-f]+ is dirty$/),
  ]);
});

it("the last line counts all faults, also where a step has more events than are kept", () => {
  const [r] = run(`
let ram = mmap(0, 16M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS)
madvise(ram, 16M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=16M, userspace_addr=ram)
guest { for page in 0x80000000 .. 0x81000000 step 4K { str x1, [page] } }
`);
  expect(r!.verdict).toBe("v6.12: ran to its end, 0 expectations met, 4097 guest faults");
});
