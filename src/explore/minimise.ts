/**
 * A violation's schedule made short: first the fewest preemptions, by searching again with a bound that rises from
 * none, then fewer turns and fewer steps, by leaving some out as long as the same invariant is still broken.
 */
import { observer, unmet, type Stage } from "./explore.js";
import { NO_DEADLOCK, NO_LIVELOCK, type Wrong } from "./invariants/index.js";
import { Search, type Path } from "./search.js";

export interface Shortest {
  readonly path: Path;
  readonly wrong: Wrong;
  /** Turns that ended although their agent could have gone on. */
  readonly preemptions?: number;
}

/** Steps that a search with a bound may take. */
const STEPS = 3_000_000;
/** Schedules that are tried with something left out. */
const TRIES = 2_000;

export function minimised(s: Stage, path: Path, wrong: Wrong): Shortest {
  const invariant = wrong.invariant.name;
  let best: Shortest = { path, wrong };
  const now = replayPath(s, path, invariant);
  for (let bound = 0; bound < (now?.preemptions ?? 0); bound++) {
    const last: { wrong: Wrong | undefined } = { wrong: undefined };
    const found = new Search(s.system, observer(s, last, invariant), { bound, maxSteps: STEPS }).run();
    if (found.violation !== undefined) {
      best = { path: found.violation.path, wrong: last.wrong! };
      break;
    }
    if (found.ending !== "complete") break;
  }
  best = shorter(s, best, invariant);
  return { ...best, preemptions: replayPath(s, best.path, invariant)?.preemptions ?? 0 };
}

function shorter(s: Stage, from: Shortest, invariant: string): Shortest {
  let best = from;
  let tries = 0;
  const attempt = (path: Path): boolean => {
    if (++tries > TRIES) return false;
    const found = replayPath(s, path, invariant);
    if (found?.wrong === undefined) return false;
    best = { path: path.slice(0, found.steps), wrong: found.wrong };
    return true;
  };
  for (let again = true; again;) {
    again = false;
    const turns = runs(best.path);
    // Whole turns, then the last steps of a turn, from the end of the schedule.
    for (let t = turns.length - 1; t >= 0 && !again; t--) {
      const { from: at, steps } = turns[t]!;
      for (let n = steps; n >= 1 && !again; n = n === 1 ? 0 : Math.ceil(n / 2))
        again = attempt([...best.path.slice(0, at + steps - n), ...best.path.slice(at + steps)]);
    }
    if (tries > TRIES) break;
  }
  return best;
}

/** Turns of a path: where each begins, how many steps it has. */
export function runs(path: Path): { readonly actor: number; readonly from: number; readonly steps: number }[] {
  const out: { actor: number; from: number; steps: number }[] = [];
  for (const [n, actor] of path.entries()) {
    const last = out[out.length - 1];
    if (last?.actor === actor) last.steps++;
    else out.push({ actor, from: n, steps: 1 });
  }
  return out;
}

/** Follows a path and takes it back. @returns undefined if it cannot be followed; what it broke, and after how many steps */
export function replayPath(
  s: Stage,
  path: Path,
  invariant: string,
): { readonly wrong: Wrong | undefined; readonly steps: number; readonly preemptions: number } | undefined {
  const { state } = s.system;
  const mark = state.mark();
  let wrong: Wrong | undefined;
  let steps = 0;
  let preemptions = 0;
  let followed = true;
  /** For a livelock: the digests of the states of the way. */
  const digests: string[] = [];
  const digest = (): string => {
    s.system.digest();
    return `${s.system.digestLow},${s.system.digestHigh}`;
  };
  const livelock = invariant === NO_LIVELOCK.name;
  if (livelock) digests.push(digest());
  s.checker.forget();
  let before = -1;
  for (const actor of path) {
    if (!s.par.isHardware(actor)) {
      if (before >= 0 && before !== actor && canGoOn(s, before)) preemptions++;
      before = actor;
    }
    if (s.system.finished(actor) || !s.system.step(actor)) {
      followed = false;
      break;
    }
    steps++;
    const found = s.checker.step(s.par.agentOf(actor));
    if (livelock && found === undefined) {
      const now = digest();
      const began = digests.indexOf(now);
      digests.push(now);
      const moved = path.slice(began, steps);
      if (began >= 0 && s.par.programs.every((_, i) => s.system.finished(i) || moved.includes(i))) {
        wrong = { invariant: NO_LIVELOCK, what: `the last ${moved.length} steps come back to where they began, and nobody gets on` };
        break;
      }
    }
    if (found !== undefined) {
      if (found.invariant.name === invariant) wrong = found;
      break;
    }
  }
  if (followed && wrong === undefined && allStopped(s)) {
    const found = invariant === NO_DEADLOCK.name ? undefined : (s.checker.end() ?? unmet(s));
    if (found?.invariant.name === invariant) wrong = found;
  }
  if (followed && wrong === undefined && invariant === NO_DEADLOCK.name && !s.par.allFinished) {
    if (s.par.programs.every((_, i) => s.system.finished(i) || !canGoOn(s, i)))
      wrong = { invariant: NO_DEADLOCK, what: "nobody can go on" };
  }
  s.checker.forget();
  state.rollback(mark);
  return followed || wrong !== undefined ? { wrong, steps, preemptions } : undefined;
}

function allStopped({ system }: Stage): boolean {
  for (let i = 0; i < system.actors; i++) if (!system.finished(i)) return false;
  return true;
}

function canGoOn(s: Stage, actor: number): boolean {
  if (s.system.finished(actor)) return false;
  const { state } = s.system;
  const mark = state.mark();
  const moved = s.system.step(actor);
  s.checker.forget();
  state.rollback(mark);
  return moved;
}
