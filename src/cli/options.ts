/**
 * What the commands' options share: numbers with units, output formats, the choice of era, CPU and decisions.
 */
import { Command, InvalidArgumentError, Option } from "commander";
import type { Means as CampaignMeans } from "../campaign/campaigns.js";
import type { RunArguments } from "./run.js";

/** A command says its exit status here when it has ended. */
export type Done = (status: number) => void;

export type Format = "text" | "json" | "jsonl";

export function whole(text: string): number {
  if (/^0x[0-9a-f][0-9a-f_]*$/i.test(text) && Number.isSafeInteger(Number(text.replaceAll("_", ""))))
    return Number(text.replaceAll("_", ""));
  const m = /^([0-9][0-9_]*)([KMGT]?)$/i.exec(text);
  const value = m === null ? NaN : Number(m[1]!.replaceAll("_", "")) * 1024 ** " KMGT".indexOf(m[2]!.toUpperCase() || " ");
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected a whole number such as 4096, 512M or 2G, not "${text}".`);
  return value;
}
export const count = (text: string): number => {
  const m = /^([0-9][0-9_]*)([KMG]?)$/i.exec(text);
  const value = m === null ? NaN : Number(m[1]!.replaceAll("_", "")) * 1000 ** " KMG".indexOf(m[2]!.toUpperCase() || " ");
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected a whole number such as 500, 20k or 1M, not "${text}".`);
  return value;
};
/** A count that nothing can be done with if it is zero. */
export const atLeastOne = (text: string): number => {
  const value = count(text);
  if (value === 0) throw new InvalidArgumentError("expected at least 1.");
  return value;
};
/** STEP: the number in front of an event in a trace. */
export const step = (text: string): number => {
  const value = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected the number of an event, not "${text}".`);
  return value;
};
/** `--jobs`: worker threads, 1 to 256. */
export const jobs = (text: string): number => {
  const n = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  if (!(n >= 1 && n <= 256)) throw new InvalidArgumentError(`expected a number of jobs from 1 to 256, not "${text}".`);
  return n;
};
/** `--jobs` and `--queue` of every command whose work is a campaign. */
export const meansOptions = (c: Command): Command =>
  c
    .option("--jobs <n>", "worker threads: the result is the same for any number", jobs, 1)
    .option("--queue <url>", "Redis, redis://host:port/: the work is done by faultline worker");
export type Means = Pick<CampaignMeans, "jobs" | "queue">;
export const meansIn = (o: Means): Means => ({ jobs: o.jobs, ...(o.queue === undefined ? {} : { queue: o.queue }) });

/** `--time`: 90s, 10m, 1h; milliseconds. */
export const duration = (text: string): number => {
  const m = /^([0-9]+)(s|m|h|)$/.exec(text);
  const value = m === null ? NaN : Number(m[1]!) * { s: 1, m: 60, h: 3600, "": 1 }[m[2]! as "s" | "m" | "h" | ""] * 1000;
  if (!(value > 0)) throw new InvalidArgumentError(`expected a time such as 90s, 10m or 1h, not "${text}".`);
  return value;
};
/** Blanks around a comma are nobody's; nothing between two is nothing. */
export const commaSeparated = (text: string): string[] =>
  text
    .split(",")
    .map((w) => w.trim())
    .filter((w) => w !== "");
export const list = (text: string, before: string[] = []): string[] => [...before, ...commaSeparated(text)];
export const format = (...choices: Format[]): Option => new Option("--format <format>", "output format").choices(choices).default("text");
export const json = (): Option => new Option("--json", "the same as --format json");
export const events = (): Option =>
  new Option("--events <which>", "events that the trace shows").choices(["none", "story", "explain", "all"]);

/** An option that may be given several times. */
export const several = (text: string, before: string[] = []): string[] => [...before, text];

/** Cycles of named steps, replaced: docs/cost-model.md. */
export interface Costs {
  cost?: string[];
  costs?: string;
}
export function costOptions(c: Command): Command {
  return c
    .option("--cost <name=cycles>", "replace one number of the cost model (repeatable)", several)
    .option("--costs <file>", "replace the numbers that a file gives: lines name = cycles");
}

/** For commands that run a script as it stands, but for its sizes and counts. */
export const letOption = (c: Command): Command =>
  c.option("--let <name=value>", "replace the value of one of the script's own lets (repeatable)", several);

export interface Common extends Costs {
  format: Format;
  json?: boolean;
  kernel?: string;
  cpu?: string;
  set?: string[];
  let?: string[];
  seed?: number;
  maxSteps?: number;
  maxMemory?: number;
  events?: "none" | "story" | "explain" | "all";
}

/** Options under their names in the commands; absent ones stay absent. */
export async function selection(o: Common): Promise<Omit<RunArguments, "format" | "quiet" | "explain" | "table">> {
  const { letsOf, settingOf } = await import("./execute.js");
  return {
    ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
    ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
    ...(o.set === undefined ? {} : { set: Object.fromEntries(o.set.map(settingOf)) }),
    ...(o.let === undefined ? {} : { lets: letsOf(o.let) }),
    ...(o.seed === undefined ? {} : { seed: o.seed }),
    ...(o.maxSteps === undefined ? {} : { maxSteps: o.maxSteps }),
    ...(o.maxMemory === undefined ? {} : { maxMemory: o.maxMemory }),
    ...(o.events === undefined ? {} : { events: o.events }),
    ...(o.cost === undefined && o.costs === undefined ? {} : { costs: (await import("./costs.js")).costOverrides(o.cost, o.costs) }),
  };
}

export function withMachineOptions(c: Command): Command {
  return costOptions(c)
    .option("--cpu <name>", "the script's variants of this CPU, or its first variant on this CPU: a profile, or BASE,+feature,-feature")
    .option("--set <decision=value>", "replace one decision of the era (repeatable)", several)
    .option("--seed <n>", "seed of the run; if it is not 0 the agents of a par take turns at random", whole)
    .option("--max-steps <n>", "phases and guest instructions that a run may take", count)
    .option("--max-memory <size>", "memory that a run may use: 512M, 2G", whole)
    .addOption(events());
}

/** Whether the result is to be JSON: --format json, or --json. */
export const wantsJson = (o: { format: string; json?: boolean }): boolean => o.json === true || o.format === "json";
