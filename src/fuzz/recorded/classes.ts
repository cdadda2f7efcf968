/** What kind of disagreement two scenarios have in common: the command, and the lines that differ without their addresses and data. */
import type { Difference } from "../../conform/conform.js";

/** Words whose values are the scenario's, not the kernel's. */
const VALUES =
  /\b(ipa|far|pa|start|end|size|x0|x4|val|data|pages|hva|fault_ipa|esr_iss)=\S+|\b(pfn) (?!error)\S+|\b(unmap_hva_range|set_spte_hva|hostread|hostwrite) \S+/g;

const shape = (line: string | undefined): string =>
  line === undefined
    ? "nothing"
    : line.replace(VALUES, (_all: string, key?: string, pfn?: string, range?: string) =>
        key === undefined ? `${pfn ?? range!} …` : `${key}=…`,
      );

/** The words that differ in two lines of one shape. */
function differingWords(a: string, b: string): string {
  const [x, y] = [a.split(" "), b.split(" ")];
  return x
    .filter((w, i) => w !== y[i])
    .map((w) => w.replace(/=.*/, ""))
    .join(" ");
}

/** The name of a disagreement's class: "op str64: ~ s2map … prot=RW | nothing", recorded first. */
export function classOf(d: Difference): string {
  const [expected, got] = [d.expected[d.at], d.got[d.at]];
  const [verb, what] = d.command.split(" ");
  const command = verb === "op" && what === "br" ? "op br" : verb === "madvise" ? `madvise ${d.command.split(" ").at(-1)!}` : verb!;
  const [a, b] = [shape(expected), shape(got)];
  return a === b ? `${command}: ${a}, differing in ${differingWords(expected!, got!)}` : `${command}: ${a} | ${b}`;
}
