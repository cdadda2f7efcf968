/**
 * `faultline demo`, which `npm start` runs: the Dec 2019 munmap and remap of a BAR under v5.4 and v5.5,
 * side by side, in at most 60 lines of at most 100 columns.
 */
import { compileScript, execute, selectVariants } from "./execute.js";
import { align, type DiffStep } from "./difference.js";
import { loadScript } from "./load.js";
import { paint, resultJson, verdictLine, type RenderOptions } from "./render.js";
import { FAILED, OK } from "./status.js";
import { palette, print } from "./terminal.js";
import { fit } from "../trace/text.js";

const SCENARIO = "2019-munmap-remap";
const WIDTH = 100;
const HEIGHT = 60;
const COLUMN = (WIDTH - 3) / 2;

export const NEXT = [
  `faultline run ${SCENARIO} --kernel v6.12`,
  `faultline compare ${SCENARIO} --kernels v5.5,v5.14`,
  "faultline run 2019-exec-on-device --explain",
] as const;

export async function demoCommand(asJson: boolean): Promise<number> {
  const program = compileScript(loadScript(SCENARIO));
  const color = palette();
  const options: RenderOptions = { detail: "story", annotate: true, compact: true, width: WIDTH, color };
  const results = selectVariants(program, {}).map((v) => execute(program, v, { detail: "story" }));
  const names = results.map((r) => r.variant.name);
  const steps = align(results, options);
  const status = results.every((r) => r.passed) ? OK : FAILED;
  if (asJson) {
    const { title } = program.script;
    const hexadecimal = (_k: string, v: unknown): unknown => (typeof v === "bigint" ? `0x${v.toString(16)}` : v);
    await print(JSON.stringify({ scenario: SCENARIO, title, runs: results.map(resultJson), next: NEXT }, hexadecimal, 2));
    return status;
  }
  const head = [
    color.bold(fit(`${program.script.title}`, WIDTH)),
    color.dim(fit(`scenarios/${SCENARIO}.guest under ${names.join(" and ")}`, WIDTH)),
    "",
  ];
  const tail = ["", ...results.map((r) => fit(verdictLine(r, color), WIDTH + 20)), "", "Try next:", ...NEXT.map((c) => `  npx ${c}`)];
  const body: string[] = [];
  let split = false;
  for (const s of steps) {
    const lines = stepText(s, names, split);
    if (!s.same) split = true;
    body.push(...lines);
  }
  const room = HEIGHT - head.length - tail.length;
  const cut = body.length > room ? [...body.slice(0, room - 1), "  \u2026"] : body;
  await print([...head, ...cut.map((l) => paint(l, color)), ...tail].join("\n"));
  return status;
}

/** One step: its statement, then its events once where they agree, in two columns where they do not. */
function stepText(s: DiffStep, names: readonly string[], split: boolean): string[] {
  const any = s.steps.find((x) => x !== undefined)!;
  const out = [fit(`${String(any.line).padStart(3)}  ${any.text}`, WIDTH)];
  if (s.lines.length === 0 && s.same) return out;
  if (s.same) return [...out, ...s.lines.map((l) => fit(`    ${l.text}`, WIDTH))];
  const common: string[] = [];
  let i = 0;
  while (i < s.lines.length && s.lines[i]!.which < 0) common.push(fit(`    ${s.lines[i++]!.text}`, WIDTH));
  const rest = s.lines.slice(i);
  const column = (which: number): string[] => {
    const step = s.steps[which];
    if (step === undefined) return ["(the host is down)"];
    const lines = rest.filter((l) => l.which < 0 || l.which === which).flatMap((l) => stacked(l.text));
    if (step.result !== "" && lines.length === 0) lines.push(step.result);
    return lines;
  };
  const [left, right] = [column(0), column(1)];
  const rows = Math.max(left.length, right.length);
  const line = (a: string, b: string): string => `${fit(a, COLUMN).padEnd(COLUMN)} \u2502 ${fit(b, COLUMN)}`.trimEnd();
  if (!split) out.push(...common, line(`  ${names[0] ?? ""}`, names[1] ?? ""));
  else out.push(...common);
  for (let r = 0; r < rows; r++) out.push(line(left[r] === undefined ? "" : `  ${left[r]!}`, right[r] ?? ""));
  return out;
}

/** An annotated line in a narrow column: the event, and its remark below where both do not fit. */
function stacked(text: string): string[] {
  const plain = text.replace(/^\S+\s+/, "");
  const squeezed = plain.replace(/ {2,}/g, " ");
  if (squeezed.length <= COLUMN - 2) return [squeezed];
  const m = /^(\S+ +(?:\S+=\S* ?)*)(.*)$/.exec(squeezed);
  if (m === null || m[2] === "") return [squeezed];
  return [m[1]!.trimEnd(), `  ${m[2]!}`];
}
