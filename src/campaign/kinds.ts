/** The kinds of work by name, each loaded when it is asked for: what a worker is told is the name. */
import type { AnyWork } from "./work.js";

const KINDS: Readonly<Record<string, () => Promise<AnyWork>>> = {
  conform: async () => (await import("../conform/work.js")).conformWork as unknown as AnyWork,
  fuzz: async () => (await import("../fuzz/work.js")).fuzzWork as unknown as AnyWork,
  "fuzz-compare": async () => (await import("../fuzz/compare.js")).compareWork as unknown as AnyWork,
  // Only the submitter reads files.
  "fuzz-hostile": async () => (await import("../fuzz/hostile.js")).hostileWork("") as unknown as AnyWork,
  litmus: async () => (await import("../litmus/work.js")).litmusWork() as unknown as AnyWork,
  measure: async () => (await import("../measure/work.js")).measureWork as unknown as AnyWork,
  explore: async () => (await import("../explore/work.js")).exploreWork as unknown as AnyWork,
};

/** @throws Error for a name that is no kind of work: worker and submitter are of different releases */
export async function workNamed(kind: string): Promise<AnyWork> {
  const load = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (load === undefined) throw new Error(`no kind of work named "${kind}": ${Object.keys(KINDS).join(", ")}`);
  return load();
}
