/**
 * Who goes next in a `par`: one phase of each in turn, at random by a seed, or as a schedule says.
 *
 * A schedule is a list of turns: an agent and how many steps it takes. The text form, one turn a line:
 *
 *   faultline schedule 2
 *   par 2
 *   vcpu0 12
 *   vmm 3
 *   end
 *
 * Without its `end` it is not whole. Version 1 has none.
 * `par N`: it is for the N-th `par` that the run comes to; for the first if absent. In the others agents go in turn.
 * With modelled buffers a turn may also be one of the hardware (src/vfio/hardwaresteps.ts): `cpu1.store0 1`.
 * `#` begins a comment. Behind the last turn every agent goes in turn, as without a schedule.
 */
import type { ParAgents } from "./paragents.js";

/** A strategy for one `par`. */
export interface Scheduler {
  /** The number of an agent that has not finished, or of a step of the hardware. */
  next(par: ParAgents): number;
  /** Steps of the hardware are still to come when every agent has ended. */
  more?(par: ParAgents): boolean;
}

/** One phase of each agent in turn, in the order of the script. */
export function roundRobin(count: number): Scheduler {
  let last = -1;
  return {
    next: (par) => {
      do last = (last + 1) % count;
      while (par.finished(last));
      return last;
    },
  };
}

/** Any agent that has not finished, each as likely, from a seed (xorshift32). */
export function randomScheduler(seed: number): Scheduler {
  let x = (seed ^ 0x9e3779b9) | 0 || 1;
  const draw = (below: number): number => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
  return {
    next: (par) => {
      const open: number[] = [];
      for (let i = 0; i < par.count; i++) if (!par.finished(i)) open.push(i);
      return open[draw(open.length)]!;
    },
  };
}

export interface Turn {
  readonly who: string;
  readonly steps: number;
}

/** Turns of the agents of one `par`. */
export interface Schedule {
  /** Which one of the run, from 0. */
  readonly par: number;
  readonly turns: readonly Turn[];
}

const HEAD = "faultline schedule 2";
const HEAD_1 = "faultline schedule 1";
const END = "end";

export function writeSchedule({ par, turns }: Schedule, comments: readonly string[] = []): string {
  const which = par === 0 ? [] : [`par ${par + 1}`];
  return [HEAD, ...comments.map((c) => `# ${c}`), ...which, ...turns.map((t) => `${t.who} ${t.steps}`), END, ""].join("\n");
}

/** @throws ScheduleError that names the line */
export function readSchedule(text: string): Schedule {
  const lines = text.split("\n").map((l) => l.replace(/#.*/, "").trim());
  const first = lines.findIndex((l) => l !== "");
  if (lines[first] !== HEAD && lines[first] !== HEAD_1) throw new ScheduleError(Math.max(1, first + 1), `expected "${HEAD}"`);
  const last = lines.findLastIndex((l) => l !== "");
  const end = lines[first] === HEAD_1 ? lines.length : last;
  if (lines[first] === HEAD && lines[last] !== END)
    throw new ScheduleError(last + 1, `the schedule is cut: expected "${END}" behind this line`);
  const turns: Turn[] = [];
  let par: number | undefined;
  for (const [n, line] of lines.entries()) {
    if (n <= first || n >= end || line === "") continue;
    const m = /^(\S+)\s+([0-9]{1,9})$/.exec(line);
    if (m === null || Number(m[2]) === 0) throw new ScheduleError(n + 1, `expected AGENT STEPS, such as "vcpu0 12", not "${line}"`);
    if (m[1] === "par" && par === undefined && turns.length === 0) par = Number(m[2]) - 1;
    else turns.push({ who: m[1]!, steps: Number(m[2]) });
  }
  return { par: par ?? 0, turns };
}

export class ScheduleError extends Error {
  override readonly name = "ScheduleError";
  constructor(
    readonly line: number,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Replays turns. An agent that waits for another loses the rest of its turn to nobody: it tries again.
 * @throws ScheduleError if a turn names no agent of this `par` or one that has finished
 */
export function replay(turns: readonly Turn[]): Scheduler {
  let turn = 0;
  let left = turns[0]?.steps ?? 0;
  let behind: Scheduler | undefined;
  const present = (): Turn | undefined => {
    while (turn < turns.length && left === 0) left = turns[++turn]?.steps ?? 0;
    return turns[turn];
  };
  return {
    more: () => present() !== undefined,
    next: (par) => {
      par.withHardware();
      const t = present();
      if (t === undefined) return (behind ??= roundRobin(par.count)).next(par);
      const i = par.find(t.who);
      if (i < 0)
        throw new ScheduleError(
          0,
          `no agent "${t.who}" in this par: there are ${Array.from({ length: par.actors }, (_, n) => par.who(n)).join(", ")}`,
        );
      if (!par.isHardware(i) && par.finished(i))
        throw new ScheduleError(0, `${t.who} has ended before its turn ${turn + 1}: is this the schedule of this script and era?`);
      left--;
      return i;
    },
  };
}
