/** Random scenarios of the recorded language: what a VMM, the host and the guest do to one backing and one slot. */
import { Rng } from "../rng.js";

const GPA = 0x80000000;
/** No slot is here: the VMM answers. */
const UNBACKED = 0x20000000;
const PAGE = 0x1000;
const BLOCK = 0x200000;
/** `ret; ret`: what `br` finds where the guest stored it. */
const RETURNS = "0xd65f03c0d65f03c0";

const LOADS = ["ldr64", "ldr32", "ldr16", "ldr8", "ldrsb", "ldrsw", "ldar", "ldxr", "ldp", "ldr_post", "ldrq", "prfm", "ats1r"] as const;
const STORES = ["str64", "str32", "str16", "str8", "strz", "stlr", "stp", "str_post", "strq", "ldadd", "swp", "cas", "zva"] as const;
const ADVICE = ["dontneed", "dontneed", "populate_w", "populate_r", "nohugepage", "hugepage"] as const;

const hex = (v: number): string => `0x${v.toString(16)}`;

/** The commands of scenario `n` under a seed. */
export function randomScenario(seed: number, n: number): string[] {
  const rng = new Rng(seed, n);
  const kind = rng.pick(["nohuge", "nohuge", "thp", "memfd", "hugetlb", "anon"] as const);
  const huge = kind === "hugetlb";
  const gpa = GPA + rng.pick([0, 0, PAGE, BLOCK - PAGE]);
  const offset = rng.pick([0, 0, PAGE, BLOCK]);
  const size = rng.pick([PAGE, 4 * PAGE, BLOCK, BLOCK + PAGE]);
  const flags = rng.pick(["-", "-", "-", "log", "ro"] as const);
  const lines = ["vm", `back V ${kind} ${hex(huge ? 2 * BLOCK : 4 * BLOCK)}`, `slot 1 ${hex(gpa)} ${hex(size)} V ${hex(offset)} ${flags}`];
  const page = (): number => PAGE * rng.below(Math.min(4, size / PAGE));
  const number = (): string => hex(rng.word());
  /** Part of the backing near what the guest touches, in whole huge pages where the kind asks for them. */
  const range = (): string => {
    if (huge) return `V ${hex(rng.pick([0, BLOCK]))} ${hex(BLOCK)}`;
    if (rng.once(6)) return `V ${hex(offset - (offset % BLOCK))} ${hex(BLOCK)}`;
    return `V ${hex(offset + page())} ${hex(PAGE * (1 + rng.below(2)))}`;
  };
  const steps = 12 + rng.below(20);
  for (let i = 0; i < steps; i++) {
    const at = hex(rng.once(8) ? UNBACKED + 16 * rng.below(64) : gpa + page() + 16 * rng.below(64));
    switch (rng.weighted({ load: 8, store: 8, exec: 2, munmap: 2, protect: 2, advise: 2, flags: 1, dirty: 1, host: 2 })) {
      case "load":
        lines.push(`op ${rng.pick(LOADS)} ${at}`);
        break;
      case "store":
        lines.push(`op ${rng.pick(STORES)} ${at} ${number()} ${number()}`);
        break;
      case "exec": {
        const to = hex(gpa + page());
        lines.push(`op str64 ${to} ${RETURNS}`, `op br ${to}`);
        break;
      }
      case "munmap": {
        const where = range();
        lines.push(`munmap ${where}`);
        if (rng.once(2)) lines.push(`op ${rng.pick(["ldr64", "str64"] as const)} ${hex(gpa + page())} 1`);
        lines.push(`remap ${where}`);
        if (rng.once(2)) lines.push("resume");
        break;
      }
      case "protect": {
        const where = range();
        lines.push(
          `mprotect ${where} ${rng.pick(["r", "-"] as const)}`,
          `op ${rng.pick(["ldr64", "str64"] as const)} ${hex(gpa + page())} 1`,
        );
        lines.push(`mprotect ${where} rw`);
        break;
      }
      case "advise": {
        const what = rng.pick(ADVICE);
        if (!huge && (what !== "hugepage" || kind === "thp")) lines.push(`madvise ${range()} ${what}`);
        break;
      }
      case "flags":
        if (flags !== "ro") lines.push(`slotflags 1 ${rng.pick(["log", "-"] as const)}`);
        break;
      case "dirty":
        lines.push("dirty 1");
        break;
      case "host":
        lines.push(rng.once(2) ? `hw V ${hex(offset + page() + 8)} ${number()}` : `hr V ${hex(offset + page() + 8)}`);
        break;
    }
  }
  return lines;
}

/** As a file that the recorder takes. */
export const scenarioText = (commands: readonly string[]): string => commands.map((c) => `> ${c}\n`).join("");
