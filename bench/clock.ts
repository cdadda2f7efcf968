/**
 * A clock that can be stopped. The timer under benny (benchmark.js) takes `process.hrtime`; it gets this one, so that preparing a run and checking its result are outside what is timed, while benny's
 * sampling and statistics stay as they are.
 */
let excluded = 0n;
let stoppedAt = 0n;

function stoppableHrtime(since?: [number, number]): [number, number] {
  const now = process.hrtime.bigint() - excluded;
  const s = Number(now / 1000000000n);
  const ns = Number(now % 1000000000n);
  if (since === undefined) return [s, ns];
  const d = (s - since[0]) * 1000000000 + (ns - since[1]);
  return [Math.floor(d / 1000000000), d % 1000000000];
}

/** Until `start`, time does not count. */
export function stop(): void {
  stoppedAt = process.hrtime.bigint();
}
export function start(): void {
  excluded += process.hrtime.bigint() - stoppedAt;
}

/**
 * Loads benny with this clock under it. benchmark.js looks for its timer at its first run, so `process.hrtime` stays
 * replaced while the benchmarks run; `process.hrtime.bigint` is always the real clock.
 */
export async function loadBenny(): Promise<typeof import("benny")> {
  process.hrtime = Object.assign(stoppableHrtime, { bigint: process.hrtime.bigint }) as typeof process.hrtime;
  const module = (await import("benny")) as unknown as { default: typeof import("benny") };
  return module.default;
}
