/** One outcome explained: the chain, the same in prose, what would answer otherwise. */
import { accessAt, accesses, isNotable, type Access } from "./accesses.js";
import { chainOf, type Link } from "./chain.js";
import { hintsFor } from "./hints.js";
import type { Recorded } from "./recorded.js";
import { whatIf, type WhatIf } from "./whatif.js";

export interface Explanation {
  readonly access: Access;
  readonly chain: readonly Link[];
  readonly prose: readonly string[];
  readonly whatIf: WhatIf | undefined;
  readonly hints: readonly string[];
}

export interface ExplainOptions {
  /** Run the script again under other releases and decisions. */
  readonly check: boolean;
  readonly tick?: (done: number, total: number) => void;
}

/** What can be explained: accesses that ended in something else than a mapping. */
export function notable(run: Recorded): Access[] {
  return accesses(run).filter(isNotable);
}

/** The access of an event, or undefined for an event of no access (the VMM's calls). */
export function accessOf(run: Recorded, seq: number): Access | undefined {
  return accessAt(run, accesses(run), seq);
}

export function explain(run: Recorded, access: Access, options: ExplainOptions): Explanation {
  const chain = chainOf(run, access);
  const asked = chain.filter((l) => l.what === "decision").map((l) => l.answer.split(" = ")[0]!);
  const repeats = access.fault >= 0 || access.kind === "guest-exception" || access.kind === "crash";
  return {
    access,
    chain,
    prose: proseOf(run, access, chain),
    whatIf: options.check && repeats ? whatIf(run, access, asked, options.tick) : undefined,
    hints: hintsFor(chain),
  };
}

/** The chain as sentences. Each comes from links; what the chain does not have is not said. */
function proseOf(run: Recorded, a: Access, chain: readonly Link[]): string[] {
  const of = (what: string): Link[] => chain.filter((l) => l.what === what);
  const out: string[] = [];
  const say = (text: string): void => void out.push(text);
  const [instruction] = of("instruction");
  say(`${a.agent}, line ${a.line}${instruction === undefined ? "" : `: ${instruction.answer}`}.`);
  const s1 = of("stage 1");
  if (s1.length > 0) say(s1[0]!.answer.startsWith("off") ? "Stage 1 is off." : `The stage-1 walk ends at ${s1.at(-1)!.answer}.`);
  const s2 = of("stage 2").filter((l) => l.seq < 0);
  if (s2.length > 0) say(`The stage-2 walk ends at ${s2.at(-1)!.answer}.`);
  const [syndrome] = of("syndrome");
  if (syndrome !== undefined) say(`The abort: ${syndrome.answer}.`);
  const [slot] = of("memslot");
  if (slot !== undefined) say(slot.answer.startsWith("none") ? `KVM finds no memslot: ${slot.answer}.` : `KVM finds ${slot.answer}.`);
  const [vma] = of("VMA");
  if (vma !== undefined) say(vma.answer.startsWith("none") ? `There is no VMA: ${vma.answer}.` : `Behind it is the VMA ${vma.answer}.`);
  const host = of("host entry");
  if (host.length > 0) {
    const walks = host.filter((l) => !l.answer.startsWith("written"));
    const first = walks[0]?.answer ?? "none";
    const last = walks.at(-1)?.answer ?? "none";
    say(first === last ? `The host's entry: ${first}.` : `The host's entry was ${first}, then ${last}.`);
  }
  for (const d of of("driver")) say(`${d.answer[0]!.toUpperCase()}${d.answer.slice(1)}.`);
  const decisions = of("decision");
  if (decisions.length > 0) say(`${run.machine.era.era} decides: ${[...new Set(decisions.map((l) => l.answer))].join(", ")}.`);
  const branch = of("branch").at(-1);
  if (branch !== undefined) say(`What answered: ${branch.source}, branch "${branch.answer}".`);
  say(`So ${a.outcome}.`);
  return out;
}
