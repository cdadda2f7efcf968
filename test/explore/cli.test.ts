import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AT_TERMINAL, CLI, faultline, said } from "../cli/command.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-explore-"));
const PREFIX = `variant v6.12
let RAM = 0x80000000
let mem = mmap(0, 64K)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=64K, userspace_addr=mem)
`;
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
  expect(readFileSync(schedule, "utf8")).toMatch(/^faultline schedule 2\n(# .*\n)+(vcpu0|vmm) \d+\n/);
  const what = /^ {2}(stage 2 maps .*)$/m.exec(found.out)![1]!;
  const replayed = await faultline(["run", script, "--kernel", "v6.1", "--schedule", schedule, "--quiet"]);
  expect(replayed.status).toBe(1);
  expect(replayed.out).toContain(`: ${what}`);
}, 60_000);

test("each violation has a schedule of its own, and its replay is told with the decisions that it needs", async () => {
  const planted = ["--set", "seqSnapshot=after-unlock"];
  const { out } = await faultline(["explore", script, ...planted, "--output", join(folder, "planted.schedule")]);
  const replays = [...out.matchAll(/^ {2}Replay: faultline (.*)$/gm)].map((m) => m[1]!);
  expect(replays).toEqual(
    ["v6.1", "v6.8"].map((v) => `run ${script} --kernel ${v} ${planted.join(" ")} --schedule ${join(folder, `planted.${v}.schedule`)}`),
  );
  for (const words of replays) expect((await faultline([...words.split(" "), "--quiet"])).status).toBe(1);
}, 60_000);

test("what was found is told also where its schedule cannot be written: status 2", async () => {
  const args = ["explore", script, "--output", join(folder, "none/x.schedule")];
  const text = await faultline(args);
  expect(text.out).toContain("v6.1: stage2-agrees-with-host is violated");
  expect(text.err).toMatch(/^error: the folder of .*none\/x\.schedule does not exist\n$/);
  expect(text.status).toBe(2);
  const { variants } = JSON.parse((await faultline([...args, "--json"])).out) as {
    variants: { violation: { schedule: unknown } | null }[];
  };
  expect(variants[0]!.violation!.schedule).toBe(null);
}, 60_000);

test("verdict, schedule and counts are the same for one worker and for three, also of a tree that is cut into parts", async () => {
  const run = async (jobs: string, of: readonly string[]): Promise<{ parts: number[]; rest: unknown; schedule: string }> => {
    const schedule = join(folder, `jobs${jobs}.schedule`);
    writeFileSync(schedule, "");
    const { out } = await faultline(["explore", ...of, "--jobs", jobs, "--json", "--output", schedule]);
    const { seconds, ...rest } = JSON.parse(out.replaceAll(`jobs${jobs}`, "jobs")) as { seconds: number; variants: { parts: number }[] };
    expect(seconds).toBeGreaterThan(0);
    return { parts: rest.variants.map((v) => v.parts), rest, schedule: readFileSync(schedule, "utf8") };
  };
  const race = await run("3", [script]);
  expect(race).toEqual(await run("1", [script]));
  expect(race.schedule).not.toBe("");
  const parts = await run("3", [script, "--cut-after", "30"]);
  expect(parts).toEqual(await run("1", [script, "--cut-after", "30"]));
  expect(parts.parts[1]).toBeGreaterThan(1);
}, 120_000);

test("every par of a script is explored, and the schedule of a later one replays", async () => {
  const file = join(folder, "two.guest");
  const harmless = "par {\n  guest { ldr x0, [RAM] }\n  vmm { madvise(mem, 4K, MADV_DONTNEED) }\n}\n";
  writeFileSync(
    file,
    `variant unchecked { kernel v6.12  set invalidateRetry = skip }\n${PREFIX.replace("variant v6.12\n", "")}par {\n  guest { mov x1, 1 }\n  vmm { madvise(mem, 4K, MADV_DONTNEED) }\n}\n${harmless}`,
  );
  const schedule = join(folder, "two.schedule");
  const { status, out } = await faultline(["explore", file, "--output", schedule]);
  expect(status).toBe(1);
  expect(out).toContain("unchecked, the par in line 5: no violation within any number of preemptions, complete");
  expect(out).toContain("unchecked, the par in line 9: invalidated-range-unusable is violated");
  expect(readFileSync(schedule, "utf8")).toMatch(/^faultline schedule 2\n(# .*\n)+par 2\n/);
  const replayed = await faultline(["run", file, "--schedule", schedule, "--quiet"]);
  expect([replayed.status, replayed.out]).toEqual([1, expect.stringContaining("invalidated-range-unusable is violated")]);
}, 60_000);

test("Ctrl-C prints what is known so far, with exit status 130", async () => {
  const file = join(folder, "endless.guest");
  const threads = [0, 1, 2, 3, 4]
    .map((i) => `  vmm t${i} { madvise(mem + ${i * 4}K, 4K, MADV_DONTNEED)\n munmap(mem + ${i * 4}K, 4K) }\n`)
    .join("");
  writeFileSync(file, `${PREFIX}par {\n  guest { mov x1, RAM; str x1, [x1]; ldr x2, [x1] }\n${threads}}\n`);
  // Not cut into parts, the one tree is under way from where it is named on, for millions of steps.
  const p = spawn(process.execPath, [...AT_TERMINAL, CLI, "explore", file, "--cut-after", "1000000000"]);
  let out = "";
  p.stdout.setEncoding("utf8").on("data", (d: string) => (out += d));
  const ended = new Promise<number | null>((resolve) => p.on("close", (status) => resolve(status)));
  await said(p.stderr, "v6.12: ");
  p.kill("SIGINT");
  expect(await ended).toBe(130);
  expect(out).toMatch(/^v6.12: interrupted after [\d,]+ schedules, [\d,]+ states, [\d,]+ steps: no violation so far$/m);
  expect(out).toContain("interrupted: what is above is what is known");
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
  ["its end cut off", "faultline schedule 2\nvmm 3\n", 'bad.schedule:2: the schedule is cut: expected "end" behind this line'],
  ["more behind its end", "faultline schedule 2\nvmm 3\nend\nvmm 1\n", "bad.schedule:4: the schedule is cut"],
  ["no such agent", "faultline schedule 1\nvcpu7 3\n", 'no agent "vcpu7" in this par: there are vcpu0, vmm'],
] as const)("a schedule with %s is refused", async (_n, text, said) => {
  const file = join(folder, "bad.schedule");
  writeFileSync(file, text);
  const r = await faultline(["run", script, "--kernel", "v6.8", "--schedule", file]);
  expect([r.status, r.err]).toEqual([2, expect.stringContaining(said)]);
});

test("the story of each release names the files that it has", async () => {
  const { out } = await faultline(["explore", "2019-device-page-race", "--output", join(folder, "device.schedule"), "--json"]);
  const { variants } = JSON.parse(out) as {
    variants: { kernel: string; violation: { story: { passages: { source: string }[]; stops?: { source: string } }[] } | null }[];
  };
  const files = variants.flatMap(({ kernel, violation }) =>
    (violation?.story ?? []).flatMap((c) => [...c.passages, ...(c.stops === undefined ? [] : [c.stops])].map((p) => [kernel, p.source])),
  );
  const kvm = files
    .map(([kernel, source]) => `${kernel} ${/^(\S+)\/(?:mmu|arm)\.c /.exec(source!)?.[1]}`)
    .filter((f) => !f.endsWith("undefined"));
  expect([...new Set(kvm)].sort()).toEqual(["v5.4 virt/kvm/arm", "v5.5 virt/kvm/arm", "v5.8 arch/arm64/kvm"]);
});
