/** Explores a script on a machine with a defect. */
import { observer, stage } from "../../src/explore/explore.js";
import type { Wrong } from "../../src/explore/invariants/index.js";
import { Search } from "../../src/explore/search.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import type { Machine } from "../../src/machine.js";

/** Every interleaving of its first variant. @param only invariants to ask; all if absent @returns "invariant: what it says", addresses as 0x…, or "clear" */
export function explored(source: string, plant: (m: Machine) => void, only?: readonly string[]): string {
  const program = compile("planted.guest", source, machineWorld);
  const s = stage(program, program.variants[0]!, only)!;
  plant(s.machine);
  const last: { wrong: Wrong | undefined } = { wrong: undefined };
  const found = new Search(s.system, observer(s, last), {}).run();
  if (found.ending === "complete") return "clear";
  return `${last.wrong!.invariant.name}: ${last.wrong!.what.replace(/0x[0-9a-f]+/g, "0x…")}`;
}
