/** Every command's JSON against its schema in schemas/. Each command of the program stands in the table, or the first test fails. */
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { faultline, temporaryFolder, type Ended } from "./command.js";
import { schemaNames, wrong } from "./jsonschema.js";

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const FAILING = `title "wrong"\nvariant v6.12\nvariant v5.4\nguest { mov x0, 1 }\nreport "x0" x0\nexpect x0 == 2\nexpect no event host_crash\n`;
const STRACE = `7 ioctl(3</dev/kvm>, KVM_CREATE_VM, 0) = 12
7 mmap(NULL, 2097152, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=2097152, userspace_addr=0x7f0000000000}) = 0
7 ioctl(12, SOMETHING_ELSE, 0) = 0
`;

/** The schema of what a command line prints, one document or one for each line; and the exit status. */
type Row = readonly [
  schema: string,
  args: readonly string[],
  more?: { readonly lines?: true; readonly status?: number | "any"; readonly input?: string },
];
const ROWS: readonly Row[] = [
  ["run", ["run", "2019-munmap-remap"]],
  ["run", ["run", "2012-demand-fault", "--quiet", "--stat"]],
  ["run", ["run", at("failing.guest"), "--explain"], { status: 1 }],
  ["run", ["run", "2015-uncached-dma", "--table"]],
  ["runs", ["run", "2012-copy-on-write", at("failing.guest"), "--quiet"], { status: 1 }],
  ["compare", ["compare", "2019-munmap-remap"]],
  ["diff", ["diff", at("a.jsonl"), at("b.jsonl")], { status: 1 }],
  ["diff", ["diff", at("a.jsonl"), at("a.jsonl")]],
  ["measure", ["measure", "2012-demand-fault", "--policies", "eager,demand", "--kernels", "v5.4"]],
  ["explain", ["explain", "2026-write-notify-efault"]],
  ["explain", ["explain", "2026-write-notify-efault", "--no-check"]],
  ["explain-list", ["explain", "2026-write-notify-efault", "--list"]],
  ["explain-event", ["explain", "2012-copy-on-write", "--step", "30"]],
  ["debug-line", ["debug", "2012-copy-on-write"], { lines: true, status: 2, input: "break kvm_guest_fault\ncontinue\nback\nfoo\nquit\n" }],
  ...["stage2", "host", "guest", "tlb", "vmas", "memslots"].map((w): Row => ["dump", ["dump", "2015-s1ptw", "--at", "100", "--what", w]]),
  ["dump", ["dump", "2015-uncached-dma", "--what", "cache"]],
  ["dump", ["dump", "2023-nc-cpu0-writes-cpu1-resets", "--at", "90", "--what", "buffers"]],
  ["report", ["report", "2012-copy-on-write", "-o", at("r.html")]],
  ["explore", ["explore", "2020-concurrent-vfio-faults", "--kernel", "v5.12", "--output", at("x.schedule")], { status: 1 }],
  ["run", ["run", "2020-concurrent-vfio-faults", "--kernel", "v5.12", "--quiet", "--schedule", at("found.schedule")], { status: 1 }],
  ["explore-invariants", ["explore", "--list-invariants"]],
  ["kernels", ["kernels"]],
  ["kernels-era", ["kernels", "v5.4"]],
  ["kernels-diff", ["kernels", "--diff", "v5.4", "v5.5"]],
  ["kernels-feature", ["kernels", "--feature", "eagerDeviceMapping"]],
  ["scenarios", ["scenarios"]],
  ["scenarios", ["scenarios", "2019-munmap-remap", "--show"]],
  ["new", ["new", at("new.guest")]],
  ["import", ["import", "strace", at("vmm.strace")]],
  ["demo", ["demo"]],
  ["conform", ["conform", "recordings/v5.5/max/a2_exec_anon.rec"]],
  ["litmus", ["litmus", "--test", "A12", "--outcomes"]],
  ["fuzz", ["fuzz", "--runs", "60", "--set", "dirtyMark=pages-before-set", "--corpus", at("corpus")], { status: 1 }],
  ["fuzz-compare", ["fuzz", "--compare", "v6.8,v6.9", "--runs", "20", "--corpus", at("corpus2")]],
  ["fuzz-hostile", ["fuzz", "--hostile", "--runs", "20", "--corpus", at("corpus3")]],
  // Slower than the baseline allows is status 1, and no matter here.
  ["bench", ["bench", "mmio-exit", "--quick"], { status: "any" }],
  ["attrs", ["attrs", "--s1", "0xff", "--s2", "0x5"]],
  ["attrs-table", ["attrs", "--table"]],
  ["esr", ["esr", "0x93c48005", "--hpfar", "0x800000", "--far", "0xc0000000"]],
  ["selftest", ["selftest", "mmu_stress_test"]],
  ["selftest-list", ["selftest", "--list"]],
  ["completion", ["completion", "bash"]],
];
/** Tested in test/campaign/queue.test.ts, which has a Redis, and in test/fuzz/recorded.test.ts, which has a recorder. */
const ELSEWHERE: Readonly<Record<string, string>> = { worker: "worker", fuzz: "fuzz-recorded" };

/** What speaks a protocol of its own on standard output: the Language Server Protocol. */
const PROTOCOLS = ["lsp"];

let ended: Map<Row, Ended>;
let commands: string[];

beforeAll(async () => {
  writeFileSync(at("failing.guest"), FAILING);
  writeFileSync(at("vmm.strace"), STRACE);
  for (const [file, era] of [
    ["a", "v5.4"],
    ["b", "v6.12"],
  ] as const)
    await faultline(["run", "2012-copy-on-write", "--kernel", era, "--quiet", "--trace", at(`${file}.jsonl`)]);
  await faultline(["explore", "2020-concurrent-vfio-faults", "--kernel", "v5.12", "--output", at("found.schedule")]);
  commands = (JSON.parse((await faultline(["completion", "bash", "--json"])).out) as { commands: { path: string }[] }).commands
    .map((c) => c.path)
    .filter((p) => p !== "" && p !== "help");
  ended = new Map();
  const waiting = [...ROWS];
  const next = async (): Promise<void> => {
    for (let row = waiting.shift(); row !== undefined; row = waiting.shift()) {
      const [, args, more] = row;
      ended.set(row, await faultline([...args, "--format", "json"], more?.input === undefined ? {} : { input: more.input }));
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, next));
}, 240_000);

test("every command of the program has a row here, and every schema a use", () => {
  const tested = new Set([...ROWS.map(([, args]) => args[0]!), ...Object.keys(ELSEWHERE), ...PROTOCOLS]);
  expect(commands.filter((c) => !tested.has(c.split(" ")[0]!))).toEqual([]);
  const used = new Set([...ROWS.map(([schema]) => schema), ...Object.values(ELSEWHERE), "common", "error", "run-line", "trace-line"]);
  expect(schemaNames.filter((n) => !used.has(n))).toEqual([]);
});

describe("--format json is as schemas/ says", () => {
  test.each(ROWS.map((row) => [`${row[1].join(" ").replaceAll(`${folder}/`, "")} (${row[0]})`, row] as const))("%s", (_name, row) => {
    const [schema, , more] = row;
    const { status, out } = ended.get(row)!;
    const documents = more?.lines === true ? out.trim().split("\n") : [out];
    expect([more?.status === "any" ? "any" : status, ...documents.map((d) => wrong(schema, JSON.parse(d)))]).toEqual([
      more?.status ?? 0,
      ...documents.map(() => ""),
    ]);
  });
});

test("each line of run --format jsonl is an event or a variant's result", async () => {
  const { out } = await faultline(["run", at("failing.guest"), "2012-copy-on-write", "--format", "jsonl"]);
  const lines = out
    .trim()
    .split("\n")
    .map((l) => JSON.parse(l) as { variant?: string; file?: string });
  expect(lines.map((l) => wrong("run-line", l)).filter((w) => w !== "")).toEqual([]);
  const results = lines.filter((l) => l.variant === undefined);
  expect(results.length).toBeGreaterThan(2);
  expect(results.map((l) => l.file)).toEqual([
    at("failing.guest"),
    at("failing.guest"),
    ...results.slice(2).map(() => "scenarios/2012-copy-on-write.guest"),
  ]);
});

test("each line of a JSON lines trace is the run or an event", () => {
  const lines = readFileSync(at("a.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((l) => JSON.parse(l) as object);
  expect(lines.map((l) => wrong("trace-line", l)).filter((w) => w !== "")).toEqual([]);
});

test("a schema refuses a document without a field, with another type, and with a field that it does not know", () => {
  const good = { file: "x.guest", script: "guest { }" };
  const cases = [good, { file: "x.guest" }, { ...good, script: 1 }, { ...good, more: 1 }];
  expect(cases.map((c) => wrong("new", c) === "")).toEqual([true, false, false, false]);
});
