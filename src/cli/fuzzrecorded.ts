/** `faultline fuzz --record-qemu`: random scenarios recorded on a real kernel in QEMU, and compared on the spot. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { CPU_PROFILES } from "../arch/features.js";
import { carryOut } from "../campaign/campaigns.js";
import { Journal } from "../campaign/journal.js";
import { VERSION } from "../campaign/version.js";
import { qemuRecorder } from "../fuzz/recorded/recorder.js";
import { BACKINGS } from "../fuzz/recorded/scenario.js";
import { recordedWork, type Disagreement, type RecordedSpec, type RecordedState } from "../fuzz/recorded/work.js";
import { FaultlineError } from "../sim/errors.js";
import type { FuzzWords } from "./commands/fuzz.js";
import { eraNamed } from "./execute.js";
import { meansOf } from "./fuzz.js";
import { packageFolder } from "./load.js";
import { FAILED, INTERRUPTED, OK, unknownName, UsageError } from "./status.js";
import { count, palette, print } from "./terminal.js";
import { FilesBeside } from "./writefile.js";

const DEFAULT_RUNS = 200;
const MOST_BATCH = 1000;

export async function fuzzRecordedCommand(o: FuzzWords, kernel: string, json: boolean): Promise<number> {
  if (o.queue !== undefined) throw new UsageError("--record-qemu records on this machine: leave --queue out");
  const spec = specOf(o, kernel);
  const record = qemuRecorder({
    script: resolve(o.recorder ?? join(packageFolder(), "recorder/record.sh")),
    kernel: spec.kernel,
    modules: spec.modules,
    cpu: spec.cpu,
    build: process.env["FAULTLINE_RECORDER_BUILD"] ?? cacheFolder(),
  });
  const kept = o.corpus === undefined ? undefined : join(o.corpus, "recordings");
  if (kept !== undefined) mkdirSync(kept, { recursive: true });
  const beside = new FilesBeside();
  const keep = (name: string, text: string): void => {
    if (kept !== undefined) beside.write(join(kept, `${name}.rec`), text);
  };
  const { state, ended } = await carryOut(recordedWork(record, keep), spec, meansOf(o)).catch(wrongInput);
  const disagreements = [...state.found.values()].map((d) => ({
    ...d,
    times: state.counts.get(d.kind) ?? 0,
    file: save(o.corpus ?? ".", d, beside),
  }));
  // What is not written a resumed campaign writes.
  if (o.corpus !== undefined && ended === "complete" && beside.whole) beside.attempt(() => Journal.remove(o.corpus!));
  const report = {
    kernel: spec.kernel,
    eras: [...state.kernels].sort(),
    cpu: spec.cpu,
    seed: spec.seed,
    ended,
    scenarios: state.scenarios,
    agreed: state.agreed,
    lines: state.total,
    reproduced: state.matched,
    unrecorded: state.unrecorded,
    crashed: state.crashed,
    disagreements: disagreements.map(({ text, ...d }) => ({ ...d, ...(d.file === null ? { text } : {}) })),
    ...beside.error,
  };
  if (json) await print(JSON.stringify(report, undefined, 2));
  else await told(report, state);
  beside.throwIfAny();
  if (ended === "interrupted") return INTERRUPTED;
  return disagreements.length === 0 ? OK : FAILED;
}

/** A unit that could record nothing ends the campaign: what the recorder said is the error. */
function wrongInput(e: unknown): never {
  const cause = e instanceof Error ? e.cause : undefined;
  throw cause instanceof FaultlineError ? new UsageError(cause.message) : e;
}

function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "faultline", `recorder-${VERSION}`);
}

function specOf(o: FuzzWords, kernel: string): RecordedSpec {
  if (!existsSync(kernel) || !statSync(kernel).isFile())
    throw new UsageError(`${kernel} is no kernel image: recorder/kernel.sh fetches one of Debian's and prints where it is`);
  if (o.modules !== undefined && !existsSync(o.modules)) throw new UsageError(`${o.modules} is no folder of kernel modules`);
  if (o.batch < 1 || o.batch > MOST_BATCH) throw new UsageError(`--batch takes 1 to ${MOST_BATCH} scenarios`);
  if ((o.kernel?.length ?? 0) > 1) throw new UsageError("--record-qemu compares with one era: --kernel takes one name here");
  const cpu = o.cpu?.length === 1 ? o.cpu[0]! : o.cpu === undefined ? "max" : undefined;
  if (cpu === undefined) throw new UsageError("--record-qemu emulates one CPU: --cpu takes one name here");
  const profile = cpu.split(",")[0]!;
  if (!Object.hasOwn(CPU_PROFILES, profile)) throw unknownName("CPU", profile, Object.keys(CPU_PROFILES));
  const backing = BACKINGS.find((b) => b === o.backing);
  if (o.backing !== undefined && backing === undefined) throw unknownName("backing", o.backing, BACKINGS);
  return {
    seed: o.seed,
    runs: o.runs ?? (o.time === undefined ? DEFAULT_RUNS : 0),
    batch: o.batch,
    kernel: resolve(kernel),
    ...(o.modules === undefined ? {} : { modules: resolve(o.modules) }),
    cpu,
    ...(backing === undefined ? {} : { backing }),
    against: { cpu: profile, ...(o.kernel === undefined ? {} : { kernel: eraNamed(o.kernel[0]!) }) },
  };
}

function save(folder: string, d: Disagreement, beside: FilesBeside): string | null {
  const digest = createHash("sha256").update(d.text).digest("hex").slice(0, 12);
  return beside.write(join(folder === "." ? "." : join(folder, "disagreements"), `recorded-${digest}.rec`), d.text);
}

type Report = Readonly<Record<"kernel" | "cpu" | "ended", string>> & {
  readonly eras: readonly string[];
  readonly seed: number;
  readonly scenarios: number;
  readonly lines: number;
  readonly reproduced: number;
  readonly disagreements: readonly (Omit<Disagreement, "text"> & {
    readonly text?: string;
    readonly times: number;
    readonly file: string | null;
  })[];
};

async function told(r: Report, state: RecordedState): Promise<void> {
  const color = palette();
  const ended = r.ended === "complete" ? "" : `, ended by ${r.ended === "time" ? "time" : "an interrupt"}`;
  await print(`${r.eras.join(", ") || r.kernel} on ${r.cpu}, seed ${r.seed}${ended}`);
  await print(
    `${count(r.scenarios, "scenario")}, ${state.agreed} agree${state.agreed === 1 ? "s" : ""} wholly; ${r.reproduced} of ${count(r.lines, "line")} reproduced`,
  );
  if (state.crashed.length > 0) await print(`crashed the host: ${state.crashed.join(", ")}`);
  if (state.unrecorded.length > 0) await print(color.red(`not recorded: ${state.unrecorded.join(", ")}`));
  for (const d of r.disagreements) {
    const again = d.confirmed === 0 ? " (recorded again, it did not show)" : "";
    await print(
      `\n${color.bold(d.kind)}, ${count(d.times, "time")}, ${d.steps[0]} commands made ${d.steps[1]}${again}${d.file === null ? "" : `: ${d.file}`}`,
    );
    await print(`  > ${d.command}`);
    await print(`  recorded ${d.expected[d.at] ?? "nothing more"}`);
    await print(`  emulated ${d.got[d.at] ?? "nothing more"}`);
    // Not kept in a file: here it is.
    if (d.text !== undefined) await print(d.text.trimEnd().replace(/^/gm, "    "));
  }
  await print(
    r.disagreements.length === 0
      ? color.green("\nno disagreement")
      : color.red(`\n${count(r.disagreements.length, "class", "classes")} of disagreement`),
  );
}
