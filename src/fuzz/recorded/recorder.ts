/** Has scenarios recorded: by recorder/record.sh on a kernel in QEMU, or by what stands for it in a test. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FaultlineError } from "../../sim/errors.js";
import { scenarioText } from "./scenario.js";

/** @param scenarios commands by name. @returns by name the recording's text; what could not be recorded has none */
export type Recorder = (scenarios: ReadonlyMap<string, readonly string[]>) => Promise<ReadonlyMap<string, string>>;

export interface QemuRecorder {
  /** recorder/record.sh. */
  readonly script: string;
  readonly kernel: string;
  /** The kernel's modules, for vfio-pci. */
  readonly modules?: string | undefined;
  /** QEMU's name of the CPU. */
  readonly cpu: string;
  /** The era's name in the recordings, if not the kernel's own. */
  readonly era?: string | undefined;
  /** Where the recorder is built. */
  readonly build: string;
}

/** Seconds that a boot may take, and each scenario in it. */
const BOOT = 120;
const SCENARIO = 4;

/** One boot, or more after a crash of the host. @throws FaultlineError if nothing could be recorded: what record.sh says */
export function qemuRecorder(q: QemuRecorder): Recorder {
  return async (scenarios) => {
    const folder = mkdtempSync(join(tmpdir(), "faultline-record-"));
    try {
      const files = [...scenarios].map(([name, commands]) => {
        const file = join(folder, `${name}.rec`);
        writeFileSync(file, scenarioText(commands));
        return file;
      });
      const out = join(folder, "out");
      mkdirSync(out);
      const time = String(BOOT + SCENARIO * scenarios.size);
      const args = ["--qemu", q.kernel, ...(q.modules === undefined ? [] : [q.modules]), "--out", out, "--cpu", q.cpu, "--time", time];
      const { status, said } = await run(q, [...args, ...(q.era === undefined ? [] : ["--kernel", q.era]), "--", ...files]);
      const recorded = new Map<string, string>();
      for (const name of scenarios.keys()) {
        const file = join(out, `${name}.rec`);
        if (existsSync(file)) recorded.set(name, readFileSync(file, "utf8"));
      }
      if (status !== 0 && recorded.size === 0) throw new FaultlineError(said.trim() || `${q.script} ended with status ${status}`);
      return recorded;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** The script and all that it starts, in a process group of their own, which ends with this process. */
function run(q: QemuRecorder, args: readonly string[]): Promise<{ readonly status: number; readonly said: string }> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, FAULTLINE_RECORDER_BUILD: q.build };
    const p = spawn(q.script, args, { stdio: ["ignore", "ignore", "pipe"], env, detached: true });
    const stop = (): void => {
      if (p.pid !== undefined && p.exitCode === null) process.kill(-p.pid, "SIGTERM");
    };
    process.on("exit", stop).on("SIGINT", stop).on("SIGTERM", stop);
    let said = "";
    p.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
    p.on("error", (e) => reject(new FaultlineError(`${q.script} cannot be run: ${e.message}`)));
    p.on("close", (status) => {
      process.off("exit", stop).off("SIGINT", stop).off("SIGTERM", stop);
      resolve({ status: status ?? 2, said });
    });
  });
}
