/**
 * Does the fuzzer find what is wrong? Twelve defects are planted one at a time: decisions of the kernel set to what no such kernel
 * did, and lines of the model changed while it is bundled. `npm run test:fuzz` plants all of them, `npm test` three.
 */
import { readFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, test, vi } from "vitest";
import { temporaryFolder } from "../cli/command.js";

vi.setConfig({ testTimeout: 600_000 });
const root = fileURLToPath(new URL("../../", import.meta.url));
const everything = process.env["FAULTLINE_FUZZ"] === "all";

interface Defect {
  readonly name: string;
  /** A decision, or a line of a file of src/ and what stands there instead. */
  readonly set?: string;
  readonly line?: readonly [file: string, was: string, is: string];
  readonly cpu?: string;
  /** Programs within which it must be found: far less than two minutes of one core. */
  readonly runs: number;
  /** Also in `npm test`. */
  readonly quick?: boolean;
}

const DEFECTS: readonly Defect[] = [
  { name: "the dirty bit is set for page mappings only", set: "dirtyMark=pages-before-set", runs: 400, quick: true },
  { name: "no TLB flush before the dirty log is reported", set: "dirtyLogFlush=skip", runs: 4000 },
  { name: "only page entries of the host are found behind PFNMAP memory", set: "followPfn=pageOnly", runs: 1000 },
  { name: "every PFNMAP entry is taken for writable", set: "pfnmapWritable=always", runs: 4000 },
  { name: "the PFN of a BAR page is calculated from the VMA", set: "pfnmapLookup=arithmetic", runs: 1000 },
  { name: "memory of devices is mapped when the slot is made", set: "eagerDeviceMapping=true", runs: 1000 },
  { name: "hugetlb pages are always mapped as 2 MiB", set: "hugetlbBlock=pmd", runs: 2000 },
  { name: "huge pages are looked for behind the PFN", set: "thpAdjust=compound", runs: 1000 },
  {
    name: "an invalidated range ends a page too early in stage 2",
    line: [
      "src/kvm/notifier.ts",
      'if (this.d.invalidateUnit === "slot") this.stage2.unmapRange(vm, ipa, size);',
      'if (this.d.invalidateUnit === "slot") this.stage2.unmapRange(vm, ipa, size - 4096);',
    ],
    runs: 400,
    quick: true,
  },
  {
    name: "the last page of a dirty log's word is not protected again",
    line: ["src/kvm/dirtylog.ts", "(high - low + 1) * 4096);", "(high - low) * 4096);"],
    runs: 2000,
  },
  {
    name: "a fresh page is not cleared",
    line: ["src/mmu/frames.ts", "    this.data.clearPage(pfn);\n", "\n"],
    runs: 4000,
  },
  {
    name: "a TLBI by range leaves its last page out",
    line: [
      "src/kvm/tlbflush.ts",
      "for (let pages = Math.ceil(size / 4096); pages > 0;)",
      "for (let pages = Math.ceil(size / 4096) - 1; pages > 0;)",
    ],
    runs: 1000,
    quick: true,
  },
];

/** Bundles the command with one line changed. @returns its path */
async function bundled(d: Defect): Promise<string> {
  const outdir = join(root, "node_modules/.cache", `faultline-planted-${process.env["VITEST_POOL_ID"] ?? "0"}`);
  let planted = 0;
  await build({
    entryPoints: [{ in: join(root, "src/cli.ts"), out: "cli" }],
    bundle: true,
    external: ["tinypool", "bullmq", "ioredis"],
    platform: "node",
    format: "esm",
    target: "node20",
    splitting: true,
    outdir,
    logLevel: "warning",
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
    plugins: [
      {
        name: "plant",
        setup: ({ onLoad }) => {
          if (d.line === undefined) return;
          const [file, was, is] = d.line;
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            if (path !== join(root, file)) return undefined;
            const parts = readFileSync(path, "utf8").split(was);
            planted += parts.length - 1;
            return { contents: [parts[0]!, ...parts.slice(1)].join(is), loader: "ts" };
          });
        },
      },
    ],
  });
  if (d.line !== undefined && planted !== 1)
    throw new Error(`the line to be changed stands ${planted} times in ${d.line[0]}: plant another`);
  return join(outdir, "cli.js");
}

function run(cli: string, args: readonly string[]): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const p = spawn(process.execPath, [cli, ...args], { cwd: temporaryFolder() });
    let [out, err] = ["", ""];
    p.stdout.on("data", (x: Buffer) => (out += x.toString()));
    p.stderr.on("data", (x: Buffer) => (err += x.toString()));
    p.on("close", (status) => resolve({ status, out, err }));
  });
}

test.each(DEFECTS.filter((d) => everything || d.quick === true))("found: $name", async (d) => {
  const args = [
    "fuzz",
    "--kernel",
    "v7.2.12",
    "--cpu",
    d.cpu ?? "max",
    "--runs",
    String(d.runs),
    "--json",
    ...(d.set === undefined ? [] : ["--set", d.set]),
  ];
  const r = await run(await bundled(d), args);
  expect(r.err).toBe("");
  expect((JSON.parse(r.out) as { failures: { kind: string }[] }).failures.map((f) => f.kind)).not.toEqual([]);
  expect(r.status).toBe(1);
});
