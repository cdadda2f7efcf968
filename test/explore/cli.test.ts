import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildCommand, faultline } from "../cli/command.js";

beforeAll(buildCommand, 60_000);

const folder = mkdtempSync(join(tmpdir(), "faultline-explore-"));
const script = join(folder, "race.guest");
writeFileSync(
  script,
  `variant v6.1
variant v6.8
let RAM = 0x80000000
let mem = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=mem)
par {
  guest vcpu0 { ldr x0, [RAM] }
  vmm {
    munmap(mem, 2M)
    mmap(mem, 4K, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
  }
}
`,
);

test("explore convicts the faulty era with a story and a schedule, clears the fixed one, and run replays the schedule to the same violation", async () => {
  const schedule = join(folder, "race.schedule");
  const found = await faultline(["explore", script, "--output", schedule]);
  expect(found.status).toBe(1);
  expect(found.out).toContain("v6.1: stage2-agrees-with-host is violated");
  expect(found.out).toMatch(/1\. vcpu0, line 7: guest vcpu0 \{ ldr x0, \[RAM\] \}/);
  expect(found.out).toMatch(/is stopped before userMemAbort:snapshot \(arch\/arm64\/kvm\/mmu\.c user_mem_abort\)/);
  expect(found.out).toContain("v6.8: no violation within any number of preemptions, complete");
  expect(readFileSync(schedule, "utf8")).toMatch(/^faultline schedule 1\n(# .*\n)+(vcpu0|vmm) \d+\n/);
  const what = /^ {2}(stage 2 maps .*)$/m.exec(found.out)![1]!;
  const replayed = await faultline(["run", script, "--kernel", "v6.1", "--schedule", schedule, "--quiet"]);
  expect(replayed.status).toBe(1);
  expect(replayed.out).toContain(`: ${what}`);
}, 60_000);

test("verdict, schedule and counts are the same for one worker and for two", async () => {
  const run = async (jobs: string): Promise<unknown> => {
    const schedule = join(folder, `jobs${jobs}.schedule`);
    const { out } = await faultline(["explore", script, "--jobs", jobs, "--json", "--output", schedule]);
    const { seconds, ...rest } = JSON.parse(out.replaceAll(`jobs${jobs}`, "jobs")) as { seconds: number };
    expect(seconds).toBeGreaterThan(0);
    return { rest, schedule: readFileSync(schedule, "utf8") };
  };
  expect(await run("2")).toEqual(await run("1"));
}, 60_000);

test.each([
  ["no par", "guest { mov x0, 1 }", [], 2, "has no par { … } block"],
  ["an unknown invariant", undefined, ["--invariants", "host-alife"], 2, 'did you mean "host-alive"?'],
  [
    "a budget",
    undefined,
    ["--kernel", "v6.8", "--max-states", "20"],
    3,
    "not complete: the budget of states is used up; --max-states raises it",
  ],
] as const)("%s is said, with its exit status", async (_n, text, args, status, said) => {
  const file = text === undefined ? script : join(folder, "other.guest");
  if (text !== undefined) writeFileSync(file, text);
  const r = await faultline(["explore", file, ...args]);
  expect([r.status, r.out + r.err]).toEqual([status, expect.stringContaining(said)]);
});

test.each([
  ["no head", "vcpu0 3\n", "bad.schedule:1: expected"],
  ["no number", "faultline schedule 1\nvcpu0 many\n", "bad.schedule:2: expected AGENT STEPS"],
  ["no such agent", "faultline schedule 1\nvcpu7 3\n", 'no agent "vcpu7" in this par: there are vcpu0, vmm'],
] as const)("a schedule with %s is refused", async (_n, text, said) => {
  const file = join(folder, "bad.schedule");
  writeFileSync(file, text);
  const r = await faultline(["run", script, "--kernel", "v6.8", "--schedule", file]);
  expect([r.status, r.err]).toEqual([2, expect.stringContaining(said)]);
});
