/** Runs the built command as a user does: a process of its own, with its own standard streams. */
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../../", import.meta.url));
/** Of this worker alone: files of tests that run side by side do not write each other's. */
const outdir = join(root, `node_modules/.cache/faultline-test-${process.env.VITEST_POOL_ID ?? "0"}`);
export const CLI = join(outdir, "cli.js");

/** Bundles the command as tools/build.mjs does, into a folder of the tests' own. It takes nothing: a hook of vitest's is called with more. */
export function buildCommand(): Promise<void> {
  return buildCommandAnd([]);
}

/** @param more entry points beside the command */
export async function buildCommandAnd(more: readonly { readonly in: string; readonly out: string }[]): Promise<void> {
  await build({
    entryPoints: [
      { in: join(root, "src/cli.ts"), out: "cli" },
      { in: join(root, "src/campaign/poolworker.ts"), out: "poolworker" },
      ...more.map((m) => ({ ...m, in: join(root, m.in) })),
    ],
    bundle: true,
    external: ["tinypool", "bullmq", "ioredis"],
    platform: "node",
    format: "esm",
    target: "node20",
    splitting: true,
    outdir,
    logLevel: "warning",
    define: { __FAULTLINE_VERSION__: '"9.9.9"' },
    banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
  });
}

export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export function faultline(
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const p = spawn(process.execPath, [CLI, ...args], { cwd: options.cwd ?? root, env: { ...process.env, ...options.env } });
    let out = "";
    let err = "";
    p.stdout.setEncoding("utf8").on("data", (d: string) => (out += d));
    p.stderr.setEncoding("utf8").on("data", (d: string) => (err += d));
    p.on("close", (status) => resolve({ status, out, err }));
    p.stdin.on("error", () => undefined);
    p.stdin.end(options.input ?? "");
  });
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "faultline-test-"));
}
