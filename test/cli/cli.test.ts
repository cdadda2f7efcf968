import { spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CLI, faultline, temporaryFolder } from "./command.js";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
const OK_SCRIPT = "guest { mov x0, 1 }\nexpect x0 == 1\n";

describe("faultline run", () => {
  test("runs a bundled scenario by name, ends with one verdict per variant, and succeeds", async () => {
    const r = await faultline(["run", "2019-munmap-remap"]);
    expect(r.err).toBe("");
    expect(r.status).toBe(0);
    expect(r.out.trimEnd().split("\n").slice(-2)).toEqual([
      "v5.4: host crash in transparent_hugepage_adjust: PFN without struct page",
      "v5.5: prefetch abort injected into the guest at ipa 0x80000000",
    ]);
  });
  test("reads a script from standard input", async () => {
    expect(await faultline(["run", "-", "--quiet"], { input: OK_SCRIPT })).toEqual({
      status: 0,
      out: "v6.12: ran to its end, 1 expectation met, 1 guest fault\n",
      err: "",
    });
  });
  test("ends with 1 and says what was expected, what happened, the line and the events", async () => {
    const r = await faultline(["run", "-"], { input: "guest { mov x0, 1 }\nexpect x0 == 2\n" });
    expect(r.status).toBe(1);
    expect(r.out).toContain("<stdin>:2:1: failed on v6.12: expect x0 == 2");
    expect(r.out).toContain("    2 | expect x0 == 2");
    expect(r.out).toContain("  expected: x0 == 2");
    expect(r.out).toContain("  happened: 1 == 2 does not hold");
    expect(r.out).toMatch(/events that led to it:\n +\d+ vcpu0 +kvm_guest_fault/);
  });
  test("fails on a host crash that no expectation names", async () => {
    const r = await faultline(["run", "-", "--quiet"], {
      input: `machine { devices ivshmem }
variant v5.4
let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=4M, userspace_addr=bar)
munmap(bar, 4M)
mmap(bar, 4M, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, dev, bar2)
guest { ldr x0, [0x80000000] }
`,
    });
    expect(r.status).toBe(1);
    expect(r.out).toContain("happened: the host crashed in transparent_hugepage_adjust: PFN without struct page");
  });
  test("ends with 2 and all errors of the file, with caret and nearest name", async () => {
    const r = await faultline(["run", "-"], { input: "munmpa(1, 2)\nguest { ldrr x0, [x1] }\n" });
    expect(r).toEqual({
      status: 2,
      out: "",
      err: `<stdin>:1:1: error: no system call or ioctl named "munmpa"
    1 | munmpa(1, 2)
      | ^^^^^^ did you mean "munmap"?
<stdin>:2:9: error: no instruction "ldrr"
    2 | guest { ldrr x0, [x1] }
      |         ^^^^ did you mean "ldr"?
`,
    });
  });
  test("ends with 3 when a budget is used up, and names the option that raises it", async () => {
    const r = await faultline(["run", "-", "--max-steps", "1K"], { input: "guest { a: nop; b a }\n" });
    expect(r.status).toBe(3);
    expect(r.err).toBe("error: the run took more than 1000 steps; --max-steps raises it\n");
    const m = await faultline(["run", "-", "--max-memory", "1M"], {
      input: "let a = mmap(0, 64M)\nfor p in a..a+64M step 4K { write8(p, 1) }\n",
    });
    expect(m.status).toBe(3);
    expect(m.err).toMatch(/more than 1048576 bytes; --max-memory raises it/);
    // A run too short to be looked at on its way is looked at when it ends.
    expect((await faultline(["run", "-", "--max-memory", "1K"], { input: "guest { nop }\n" })).status).toBe(3);
  });
  test("a loop that fails in each turn is told a hundred times, and how often more", async () => {
    const r = await faultline(["run", "-", "--quiet"], { input: "for i in 0..130 { munmap(1, 4K) }\n" });
    expect(r.out.match(/failed on v6\.12/g)).toHaveLength(101);
    expect(r.out).toMatch(/\n… and 30 more failed on v6\.12; --format json has them all\nv6\.12: 130 of 130 expectations failed\n$/);
    expect(r.status).toBe(1);
  });
  test("--kernel selects the script's variants of that era, or replaces the kernel of its first", async () => {
    expect((await faultline(["run", "2019-munmap-remap", "--quiet", "--kernel", "v5.5"])).out).toMatch(/^v5\.5: [^\n]*\n$/);
    expect((await faultline(["run", "-", "--quiet", "--kernel", "v6.18"], { input: OK_SCRIPT })).out).toMatch(/^v6\.18\.2: /);
  });
  test("--cpu and --set replace", async () => {
    const script = "guest { mrs x0, midr_el1 }\nexpect x0 == 0x414fd0b1\n";
    expect((await faultline(["run", "-", "--quiet", "--cpu", "cortex-a76"], { input: script })).status).toBe(0);
    const set = await faultline(["run", "-", "--format", "json", "--set", "eagerDeviceMapping=true"], { input: OK_SCRIPT });
    expect(JSON.parse(set.out).variants[0].set).toEqual({ eagerDeviceMapping: "true" });
  });
  test.each([
    [["--kernel", "v5.9"], /no era named "v5\.9": it lies between the eras v5\.8 and v5\.10/],
    [["--kernel", "v6.122"], /no era named "v6\.122": it lies between|no era named/],
    [["--cpu", "cortex_a76"], /no CPU named "cortex_a76": did you mean "cortex-a76"\?/],
    [["--set", "eagerDeviceMaping=true"], /no decision named "eagerDeviceMaping": did you mean "eagerDeviceMapping"\?/],
    [["--set", "eagerDeviceMapping=perhaps"], /eagerDeviceMapping takes .*true.*not perhaps/],
    [["--max-steps", "many"], /expected a whole number/],
    [["--format", "xml"], /Allowed choices are text, json, jsonl/],
    [["--kernell", "v5.4"], /unknown option '--kernell'[\s\S]*Did you mean --kernel/],
  ])("%j is told with the nearest right name", async (args, message) => {
    const r = await faultline(["run", "2012-demand-fault", ...args]);
    expect(r.status).toBe(2);
    expect(r.err).toMatch(message);
    expect(r.err).not.toMatch(/^ +at /m);
  });
  test("of a name that is nothing tells the nearest scenario", async () => {
    const r = await faultline(["run", "2019-munmap-remp"]);
    expect(r).toEqual({
      status: 2,
      out: "",
      err: 'error: there is no file and no scenario named "2019-munmap-remp": did you mean "2019-munmap-remap"?\n',
    });
  });
  test("--format json is one value with verdicts, expectations and the trace", async () => {
    const r = await faultline(["run", "2012-demand-fault", "--format", "json"]);
    const value = JSON.parse(r.out);
    expect(value.passed).toBe(true);
    expect(value.variants.map((v: { variant: string }) => v.variant)).toEqual(["v4.0", "v5.4", "v6.12"]);
    expect(value.variants[0].expectations[0]).toMatchObject({ status: "met", text: "expect 1 fault ipa=RAM" });
    expect(value.variants[0].trace.some((s: { events: { event: string }[] }) => s.events.some((e) => e.event === "kvm_guest_fault"))).toBe(
      true,
    );
    expect((await faultline(["run", "2012-demand-fault", "--json"])).out).toBe(r.out);
  });
  test("--format jsonl is one event per line with ascending seq, then the result of each variant", async () => {
    const r = await faultline(["run", "2012-demand-fault", "--kernel", "v6.12", "--format", "jsonl"]);
    const lines = r.out
      .trimEnd()
      .split("\n")
      .map((l) => JSON.parse(l));
    const seqs = lines.slice(0, -1).map((l) => l.seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
    expect(lines.at(-1).result).toMatchObject({ variant: "v6.12", passed: true });
  });
  test("--explain shows what was asked on the way", async () => {
    const r = await faultline(["run", "2012-demand-fault", "--kernel", "v6.12", "--explain"]);
    expect(r.out).toMatch(/memslot_lookup/);
    expect(r.out).toMatch(/branch|decision/);
  });
  test("gives the same bytes every time", async () => {
    const run = () => faultline(["run", "2015-dirty-log", "--events", "all"]);
    expect((await run()).out).toBe((await run()).out);
  });
});

describe("a malformed file ends with status 2, a message and no stack trace:", () => {
  const nested = "for a in 0..1 {\n".repeat(10_000);
  const scenario = readFileSync(new URL("../../scenarios/2019-munmap-remap.guest", import.meta.url));
  test.each<[string, Uint8Array]>([
    ["binary", Uint8Array.from({ length: 4096 }, (_, i) => (i * 37) & 255)],
    ["ten megabytes", new Uint8Array(10 * 1024 ** 2).fill(0x61)],
    ["wrong UTF-8", Uint8Array.of(0x67, 0x0a, 0xc3, 0x28)],
    ["deep nesting", new TextEncoder().encode(nested)],
    ["deep parentheses", new TextEncoder().encode(`let a = ${"(".repeat(100_000)}`)],
    ["truncated in a call", new Uint8Array(scenario.subarray(0, scenario.indexOf("PROT_READ") + 4))],
    ["truncated in a block", new Uint8Array(scenario.subarray(0, scenario.lastIndexOf("br  x1")))],
    ["an ELF header", Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0)],
  ])("%s", async (_name, bytes) => {
    const file = join(temporaryFolder(), "bad.guest");
    writeFileSync(file, bytes);
    const r = await faultline(["run", file]);
    expect(r.status).toBe(2);
    expect(r.err).toMatch(/error: /);
    expect(r.err).not.toMatch(/^ +at |node:internal/m);
    expect(r.err.length).toBeLessThan(20_000);
  });
});

describe("faultline compare", () => {
  test("shows what is the same once and marks the first difference", async () => {
    const r = await faultline(["compare", "2019-munmap-remap", "--kernels", "v5.4,v5.5"]);
    expect(r.status).toBe(0);
    expect(r.out.match(/eager_map/g)).toHaveLength(1);
    const [before, after] = r.out.split(">>> the first difference\n") as [string, string];
    expect(before).toContain("munmap(bar, SIZE)");
    expect(after.split("\n")[0]).toContain("guest vcpu0 { ldr x0, [BAR] }");
    expect(after).toMatch(/v5\.4 +vcpu0 host_crash/);
    expect(after).toMatch(/v5\.5 +vcpu0 stage2_set/);
  });
  test("as JSON names the step and the line of the first difference", async () => {
    const value = JSON.parse((await faultline(["compare", "2019-munmap-remap", "--kernels", "v5.4,v5.5", "--json"])).out);
    expect(value.same).toBe(false);
    expect(value.firstDifference.line).toBe(37);
    expect(value.runs).toHaveLength(2);
  });
  test("says so when there is no difference", async () => {
    const r = await faultline(["compare", "2019-exec-no-slot", "--kernels", "v5.5,v5.5"]);
    expect(r.out).toContain("no difference between v5.5 and v5.5");
  });
  test("of one run alone is wrong input", async () => {
    expect((await faultline(["compare", "-", "--kernels", "v5.4"], { input: OK_SCRIPT })).status).toBe(2);
  });
});

describe("faultline kernels", () => {
  test("lists the eras", async () => {
    const r = await faultline(["kernels"]);
    for (const era of ["v4.0", "v5.4", "v5.5", "v5.14", "v6.1", "v6.8", "v6.9", "v6.12", "v6.17"])
      expect(r.out).toMatch(new RegExp(`^${era.replace(".", "\\.")} `, "m"));
  });
  test("lists an era's decisions with their sources", async () => {
    const value = JSON.parse((await faultline(["kernels", "v5.4", "--format", "json"])).out);
    const d = value.decisions.find((x: { decision: string }) => x.decision === "eagerDeviceMapping");
    expect(d.value).toBe("true");
    expect(d.source).not.toBe("");
  });
  test("--diff tells what the Dec 2019 fix changed, and nothing else", async () => {
    const value = JSON.parse((await faultline(["kernels", "--diff", "v5.4", "v5.5", "--format", "json"])).out);
    expect(value.decisions.length).toBeGreaterThan(0);
    expect(value.decisions.length).toBeLessThan(8);
  });
  test("--feature tells which release does what", async () => {
    const r = await faultline(["kernels", "--feature", "eagerDeviceMapping"]);
    expect(r.out).toMatch(/^v5\.12 +true/m);
    expect(r.out).toMatch(/^v5\.14 +false/m);
  });
  test("names the rows around an era that is no row", async () => {
    const hint = async (era: string) => {
      const r = await faultline(["kernels", era]);
      expect([r.status, r.out]).toEqual([2, ""]);
      return /^error: no era named "[^"]*"(?:: )?(.*)\n$/.exec(r.err)?.[1];
    };
    expect(await hint("v6.7")).toBe(
      "it lies between the eras v6.6 and v6.8; faultline kernels --diff v6.6 v6.8 shows what changed on the way",
    );
    expect(await hint("v6.1.100")).toMatch(/^it lies between the eras v6\.1 and v6\.1\.192; /);
    expect(await hint("v3.1")).toBe("the oldest era is v4.0");
    expect(await hint("v99")).toBe("the newest era is v7.3.4");
    expect(await hint("5.4.0")).toBe('did you mean "v5.4"?');
    expect(await hint("v5.4,v6.12")).toBe("");
  });
});

describe("faultline scenarios", () => {
  test("--show without a name says what it takes", async () => {
    expect(await faultline(["scenarios", "--show"])).toMatchObject({ status: 2, out: "", err: expect.stringContaining("takes the name") });
  });
  test("lists names and titles, shows one", async () => {
    const r = await faultline(["scenarios"]);
    expect(r.out).toMatch(/^2019-munmap-remap +A device mapping is unmapped/m);
    expect((await faultline(["scenarios", "2019-munmap-remap", "--show"])).out).toBe(
      readFileSync(new URL("../../scenarios/2019-munmap-remap.guest", import.meta.url), "utf8"),
    );
  });
  test("tells the nearest name", async () => {
    expect((await faultline(["scenarios", "2019-munmap"])).status).toBe(2);
  });
});

describe("faultline new", () => {
  test("writes ten lines that run, and never overwrites", async () => {
    const cwd = temporaryFolder();
    expect((await faultline(["new", "my.guest"], { cwd })).status).toBe(0);
    const text = readFileSync(join(cwd, "my.guest"), "utf8");
    expect(text.trimEnd().split("\n")).toHaveLength(10);
    expect((await faultline(["run", "my.guest", "--quiet"], { cwd })).status).toBe(0);
    writeFileSync(join(cwd, "my.guest"), "mine");
    const again = await faultline(["new", "my.guest"], { cwd });
    expect(again.status).toBe(2);
    expect(again.err).toContain("never overwrites");
    expect(readFileSync(join(cwd, "my.guest"), "utf8")).toBe("mine");
  });
  test("into a folder that is not there says so", async () => {
    const r = await faultline(["new", "nowhere/at/all.guest"], { cwd: temporaryFolder() });
    expect(r.status).toBe(2);
    expect(r.err).toMatch(/cannot be written/);
  });
});

const STRACE = `mmap(NULL, 2097152, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7fe000000000
ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=2097152, userspace_addr=0x7fe000000000}) = 0
`;

describe("a file to write that is a folder", () => {
  test.each([
    ["report", ["report", "2012-demand-fault", "-o"], "--output: "],
    ["run --trace", ["run", "2012-demand-fault", "--kernel", "v5.5", "--trace-format", "jsonl", "--trace"], "--trace: "],
    ["import -o", ["import", "strace", "-", "-o"], ""],
  ])("is one clear error of %s", async (_name, args, option) => {
    const folder = temporaryFolder();
    const r = await faultline([...args, folder], { input: STRACE });
    expect([r.status, r.err]).toEqual([2, `error: ${option}${folder} is a folder: name a file in it\n`]);
    expect(readdirSync(folder)).toEqual([]);
  });
});

test("a defect is told with its place, not with the bundle's source line", async () => {
  const hook = join(temporaryFolder(), "hook.cjs");
  const broken =
    "(p, ...a) => { if (String(p).endsWith('a_demand_fault.rec')) throw new RangeError('broken on purpose'); return read(p, ...a); }";
  writeFileSync(hook, `const fs = require("node:fs"); const read = fs.readFileSync; fs.readFileSync = ${broken};`);
  const r = await faultline(["conform", "recordings/v5.5/max/a_demand_fault.rec"], { env: { NODE_OPTIONS: `--require ${hook}` } });
  expect(r.err).toMatch(/^this is a defect of Faultline, please report it: .*broken on purpose\n( {4}at .*\n){1,4}$/);
  expect([r.status, r.out]).toEqual([1, ""]);
});

describe("faultline demo", () => {
  test("fits 60 lines of 100 columns, tells both endings, and ends with three commands", async () => {
    const r = await faultline(["demo"]);
    expect(r.status).toBe(0);
    const lines = r.out.trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(60);
    for (const l of lines) expect(l.length, l).toBeLessThanOrEqual(100);
    expect(r.out).toContain("v5.4: host crash in transparent_hugepage_adjust: PFN without struct page");
    expect(r.out).toContain("4 KiB Device-nGnRE");
    expect(lines.slice(-4)[0]).toBe("Try next:");
    const next = lines.slice(-3).map((l) =>
      l
        .trim()
        .replace(/^npx faultline /, "")
        .split(" "),
    );
    for (const args of next) expect((await faultline(args)).status, args.join(" ")).toBe(0);
  });
});

describe("the command", () => {
  test("has help with examples for each command, and a version", async () => {
    for (const c of ["run", "compare", "kernels", "scenarios", "new", "conform"]) {
      const r = await faultline([c, "--help"]);
      expect(r.status).toBe(0);
      expect(r.out).toContain("Examples:");
    }
    expect(await faultline(["--version"])).toEqual({ status: 0, out: `${version}\n`, err: "" });
    expect((await faultline([])).out).toContain("Usage: faultline");
  });
  test("of a suite of benchmarks names the nearest, and ends with 2", async () => {
    const { status, out, err } = await faultline(["bench", "mmio-exi"]);
    expect({ status, out, err }).toEqual({ status: 2, out: "", err: 'error: no suite named "mmio-exi": did you mean "mmio-exit"?\n' });
  });
  test("names the nearest right command", async () => {
    expect(await faultline(["rnu"])).toMatchObject({ status: 2, err: 'error: no command "rnu": did you mean "run"?\n' });
  });
  test("writes no colours into a pipe, whatever FORCE_COLOR says of NO_COLOR", async () => {
    const r = await faultline(["run", "2012-demand-fault"], { env: { NO_COLOR: "1" } });
    expect(r.out).not.toContain("\u001b[");
  });
  test("survives a reader that goes away", async () => {
    const status = await new Promise((resolve) => {
      const p = spawn(process.execPath, [CLI, "run", "2012-demand-fault", "--format", "jsonl"]);
      p.stdout.once("data", () => p.stdout.destroy());
      let err = "";
      p.stderr.on("data", (d: Buffer) => (err += d.toString()));
      p.on("close", (code) => resolve({ code, err }));
    });
    expect(status).toMatchObject({ err: "" });
  });
  test("ends with 130 when it is interrupted", async () => {
    const script = join(temporaryFolder(), "long.guest");
    writeFileSync(script, "let a = mmap(0, 1G)\nfor p in a..a+1G step 4K { write8(p, 1) }\n");
    const status = await new Promise((resolve) => {
      const p = spawn(process.execPath, [CLI, "run", script, "--format", "jsonl"]);
      p.stdout.once("data", () => p.kill("SIGINT"));
      p.on("close", (code, signal) => resolve(code ?? signal));
    });
    expect([130, "SIGINT"]).toContain(status);
  });
});
