import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";

const folder = temporaryFolder();
const walk = join(folder, "walk.guest");

beforeAll(async () => {
  writeFileSync(
    walk,
    `title "A walk"
machine { devices ivshmem }
let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=4M, userspace_addr=bar)
guest { for page in 0x80000000 .. 0x80400000 step 4K { ldr x0, [page] } }
`,
  );
}, 60_000);

interface Run {
  readonly policy: string;
  readonly kernel: string;
  readonly result: string;
  readonly total?: { readonly faults: number; readonly latency: { readonly accesses: number; readonly distribution: [number, number][] } };
}

test("a walk over a BAR faults once for its code eagerly, for each page on demand, for each block from v5.14; v5.4 crashes on demand", async () => {
  const { status, out } = await faultline(["measure", walk, "--policies", "eager,demand,block", "--kernels", "v5.4,v5.5,v5.14", "--json"]);
  const { runs } = JSON.parse(out) as { runs: Run[] };
  expect(status).toBe(0);
  expect(runs.map((r) => [r.policy, r.kernel, r.result, r.total?.faults])).toEqual([
    ["eager", "v5.4", "completed", 1],
    ["eager", "v5.5", "completed", 1],
    ["eager", "v5.14", "completed", 1],
    ["demand", "v5.4", "host crash in transparent_hugepage_adjust: PFN without struct page", 2],
    ["demand", "v5.5", "completed", 1025],
    ["demand", "v5.14", "completed", 1025],
    ["block", "v5.4", "no block mappings of device memory in this kernel (from v5.14)", undefined],
    ["block", "v5.5", "no block mappings of device memory in this kernel (from v5.14)", undefined],
    ["block", "v5.14", "completed", 3],
  ]);
  // Every one of the guest's 1024 loads is in the distribution.
  for (const r of runs) if (r.result === "completed") expect(r.total!.latency.accesses).toBe(1024);
});

test("a cost replaced on the command line wins over its file, and moves every access that pays it", async () => {
  const file = join(folder, "costs");
  writeFileSync(file, "# made up\ndeviceAccess = 7 // cycles\nwalkStep = 0\n");
  const slowest = async (...more: string[]): Promise<number[][]> => {
    const { out } = await faultline(["measure", walk, "--policies", "eager", "--kernels", "v5.5", "--json", "--costs", file, ...more]);
    return (JSON.parse(out) as { runs: Run[] }).runs[0]!.total!.latency.distribution;
  };
  expect(await slowest()).toEqual([[7, 1024]]);
  expect(await slowest("--cost", "deviceAccess=11")).toEqual([[11, 1024]]);
});

test("a copy to a BAR is one memory write a line where stage 2 allows Normal-NC, and one a store where it does not; the link is paid for each request", async () => {
  const args = ["measure", "2024-bar-copy", "--policies", "nc,ngnre", "--kernels", "v6.12", "--let", "COPY=1M", "--json"];
  const run = async (...more: string[]) =>
    (JSON.parse((await faultline([...args, ...more])).out) as { runs: Run[] }).runs.map(
      (r) => r.total as unknown as Record<string, number>,
    );
  const [nc, ngnre] = await run();
  const counts = ["barStores", "barWrites", "barBytes"];
  expect(counts.map((c) => nc![c])).toEqual([65536, 16384, 1048576]);
  expect(counts.map((c) => ngnre![c])).toEqual([65536, 65536, 1048576]);
  const dearer = await run("--cost", "tlp=9"); // one cycle more than the default
  expect([nc, ngnre].map((r, n) => dearer[n]!.cycles! - r!.cycles!)).toEqual([16384, 65536]);
}, 60_000);

test("--let replaces the value of a script's own let, and nothing else", async () => {
  const script = join(folder, "let.guest");
  writeFileSync(script, `title "lets"\nlet N = 2\nlet M = N * 3\nguest { mov x0, N\n  mov x1, M }\nexpect x0 == N\nexpect x1 == 3 * N\n`);
  const of = async (...args: string[]) => {
    const { status, err } = await faultline(["run", script, ...args, "--quiet"]);
    return [status, status === 2 ? err : ""];
  };
  expect(await of()).toEqual([0, ""]);
  expect(await of("--let", "N=0x10")).toEqual([0, ""]);
  expect(await of("--let", "M=2K")).toEqual([1, ""]);
  expect(await of("--let", "M=2K", "--let", "N=5")).toEqual([1, ""]);
  expect(await of("--let", "K=1")).toEqual([2, 'error: no let of the script named "K": did you mean "N"?\n']);
  expect(await of("--let", "N=many")).toEqual([2, 'error: --let takes NAME=VALUE, a number such as 4096, 0x1000 or 2M, not "N=many"\n']);
});

test.each([
  [["--cost", "trapp=1"], /^error: --cost: no cost named "trapp": did you mean "trap"\?\n$/],
  [["--cost", "trap=fast"], /^error: --cost: trap takes a whole number of cycles up to 1000000000, not "fast"\n$/],
  [["--policies", "eagre"], /^error: no policy named "eagre": did you mean "eager"\?\n$/],
  [["--policy", "mine"], /^error: --policy takes name=decision=value,…, not "mine"\n$/],
  [["--policy", "mine=eagerDevice=true"], /^error: no decision named "eagerDevice"/],
  [["--kernels", "v5.9"], /^error: no era named "v5.9"/],
])("wrong input gets one error: %j", async (args, error) => {
  const { status, err } = await faultline(["measure", walk, ...args]);
  expect(err).toMatch(error);
  expect(status).toBe(2);
});

test("an error in a file of costs names file and line", async () => {
  const file = join(folder, "wrong");
  writeFileSync(file, "trap = 1\n\nerte = 2\n");
  const { status, err } = await faultline(["run", walk, "--costs", file]);
  expect(err).toBe(`error: ${file}:3: no cost named "erte": did you mean "eret"?\n`);
  expect(status).toBe(2);
});

test("CSV has a line for each step, SVG is a drawing with both charts", async () => {
  const args = ["measure", walk, "--policies", "eager", "--policy", "mine=eagerDeviceMapping=false", "--kernels", "v5.5"];
  const csv = (await faultline([...args, "--format", "csv"])).out.trimEnd().split("\n");
  expect(csv.map((l) => l.split(",")[0])).toEqual(["policy", ...Array<string>(5).fill("eager"), ...Array<string>(5).fill("mine")]);
  expect(new Set(csv.map((l) => l.match(/("[^"]*"|[^,]*)(,|$)/g)!.length)).size).toBe(1);
  const svg = (await faultline([...args, "--format", "svg"])).out;
  expect(svg).toMatch(/^<svg [^]*cycles of virtual time[^]*one guest access[^]*<\/svg>\s*$/);
});
