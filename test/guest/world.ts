/** A world for tests of the language alone: the real assembler and event declarations, a few names, no machine. */
import { MNEMONICS } from "../../src/arch/a64forms.js";
import { assemble } from "../../src/arch/assemble.js";
import { compile, type Program } from "../../src/guest/compile.js";
import { ScriptError } from "../../src/guest/diagnostics.js";
import type { World } from "../../src/guest/world.js";
import "../../src/kvm/trace.js";
import { eventCatalogue, findEvent } from "../../src/sim/events.js";

export const testWorld: World = {
  eras: ["v5.4", "v5.5", "v6.12"],
  eraHint: (name) => (name === "v5.9" ? "it lies between the eras v5.5 and v6.12" : ""),
  cpus: ["max", "cortex-a76"],
  devices: ["ivshmem", "edu"],
  cpuProblem: () => "",
  atomics: ["work", "fault35"],
  caches: ["modelled", "coherent", "off"],
  apeis: ["einj", "ghes", "none"],
  profiles: ["architectural", "recorded"],
  costs: ["trap"],
  decisions: ["eagerDeviceMapping"],
  decisionValues: () => ["yes", "no"],
  events: eventCatalogue().map((e) => e.name),
  eventFields: (name) => findEvent(name)?.fields,
  assembler: { assemble, mnemonics: MNEMONICS },
  registers: ["x0", "x1", "x2", "x3", "pc", "sp_el1", "esr_el1", "far_el1", "sctlr_el1"],
};

export function compileTest(source: string): Program {
  return compile("t.guest", source, testWorld);
}

/** `line:column message | hint` of every error of a source; empty if it has none. */
export function errorsOf(source: string): string[] {
  try {
    compileTest(source);
  } catch (e) {
    if (!(e instanceof ScriptError)) throw e;
    return e.diagnostics.map((d) => `${d.line}:${d.column} ${d.message}${d.hint === "" ? "" : ` | ${d.hint}`}`);
  }
  return [];
}
