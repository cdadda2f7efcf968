/**
 * Makes a scenario small by recording smaller ones. A boot costs more than a scenario, so a round asks for all its candidates at
 * once: the scenario without each of its pieces, of every size. The shortest that still shows the same goes on.
 */

/** Candidates of a round, at most. */
const MOST = 48;
const ROUNDS = 6;

/** What a recording of a candidate showed: its class of disagreement and the place of the command where it showed. */
export interface Showed {
  readonly kind: string;
  /** From 1. */
  readonly step: number;
  readonly text: string;
}

export class Smaller {
  /** The smallest so far. */
  best: readonly string[];
  /** The recording of `best`; undefined until it was recorded again. */
  text: string | undefined;
  /** How often the smallest was recorded with this disagreement. */
  confirmed = 0;
  done = false;
  private rounds = 0;
  private asked: readonly (readonly string[])[] = [];
  /** Commands that can each be missed, as last tried. */
  private single: readonly number[] = [];

  /** @param commands up to the one that disagrees, the rest cannot matter */
  constructor(
    readonly kind: string,
    commands: readonly string[],
    step: number,
  ) {
    this.best = commands.slice(0, step);
  }

  /** The candidates of the next round; the first is the smallest itself, once more. */
  round(): readonly (readonly string[])[] {
    const { best } = this;
    const without = (gone: ReadonlySet<number>): string[] => best.filter((_, i) => !gone.has(i));
    const all = new Map<string, readonly string[]>();
    const offer = (gone: readonly number[]): void => {
      const c = without(new Set(gone));
      if (gone.length > 0 && wellFormed(c) && all.size < MOST) all.set(c.join("\n"), c);
    };
    if (this.single.length > 1) {
      const half = this.single.length >> 1;
      offer(this.single);
      offer(this.single.slice(0, half));
      offer(this.single.slice(half));
    }
    for (let size = best.length >> 1; size >= 1; size >>= 1)
      for (let at = best.length - size; at > 0; at -= size) offer(Array.from({ length: size }, (_, i) => at + i));
    this.asked = [best, ...all.values()];
    return this.asked;
  }

  /** What the candidates of `round` showed, in its order; undefined for one that agreed or was not recorded. */
  took(showed: readonly (Showed | undefined)[]): void {
    const same = showed.map((s) => (s?.kind === this.kind ? s : undefined));
    if (same[0] !== undefined) {
      this.confirmed++;
      this.text = same[0].text;
    }
    const before = this.best;
    let shortest: { commands: readonly string[]; text: string } | undefined;
    for (const [i, s] of same.entries()) {
      if (i === 0 || s === undefined) continue;
      const commands = this.asked[i]!.slice(0, s.step);
      if (commands.length < (shortest?.commands.length ?? before.length)) shortest = { commands, text: s.text };
    }
    // It does not come again: chance had its part, and nothing smaller can be believed either.
    this.done = shortest === undefined || ++this.rounds >= ROUNDS;
    if (shortest === undefined) return;
    const gone = this.asked.flatMap((c, i) => (same[i] !== undefined && c.length === before.length - 1 ? [missing(before, c)] : []));
    this.single = gone.filter((i) => shortest.commands.includes(before[i]!)).map((i) => shortest.commands.indexOf(before[i]!));
    this.best = shortest.commands;
    this.text = shortest.text;
    this.confirmed = 1;
  }
}

/** The index of the command that `less` lacks. */
function missing(all: readonly string[], less: readonly string[]): number {
  const at = less.findIndex((c, i) => c !== all[i]);
  return at < 0 ? all.length - 1 : at;
}

/** True if a recorder can carry the commands out: what they name is there. */
export function wellFormed(commands: readonly string[]): boolean {
  const backings = new Set<string>();
  let vm = false;
  let device = false;
  for (const c of commands) {
    const [verb, a, , , d] = c.split(" ");
    switch (verb) {
      case "sysfs":
        break;
      case "vm":
        vm = true;
        break;
      case "vfio":
        if (a === "open") device = true;
        else if (!device) return false;
        break;
      case "back":
        if (c.split(" ")[2]!.startsWith("bar") && !device) return false;
        backings.add(a!);
        break;
      case "slot":
        if (!vm || !backings.has(d!)) return false;
        break;
      case "munmap":
      case "remap":
      case "mapanon":
      case "mprotect":
      case "madvise":
      case "ftruncate":
      case "fallocate":
      case "hw":
      case "hw32":
      case "hw8":
      case "hr":
      case "hr32":
      case "hr8":
        if (!backings.has(a!)) return false;
        break;
      default:
        if (!vm) return false;
    }
  }
  return true;
}
