/** What runs in a worker thread: one unit at a time. An entry point of its own in the bundle. */
import { inlineMore } from "../cli/v8flags.js";
import { workNamed } from "./kinds.js";
import type { PoolTask } from "./pool.js";
import { doUnit } from "./unit.js";

inlineMore();

export default async function unit({ kind, spec, input }: PoolTask): Promise<string> {
  return doUnit(await workNamed(kind), spec, input);
}
