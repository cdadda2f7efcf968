/** `run --stat`: the statistics of a run in the shapes of `perf kvm stat report`, `kvm_stat` and debugfs. */
import type { RunStatistics } from "../trace/statistics.js";

const us = (ns: number): string => (ns / 1000).toFixed(2);
const percent = (part: number, whole: number): string => (whole === 0 ? 0 : (100 * part) / whole).toFixed(2);

/** Width of perf's column of reasons, and of its times. */
const REASON_WIDTH = 20;

/** Lines as the tools print them; times are virtual: one cycle is one nanosecond. */
export function statText(s: RunStatistics): string[] {
  const lines = [
    "Analyze events for all VMs, all VCPUs:",
    "",
    `${"VM-EXIT".padStart(REASON_WIDTH)} ${"Samples".padStart(10)} ${"Samples%".padStart(9)} ${"Time%".padStart(9)} ${"Min Time".padStart(11)} ${"Max Time".padStart(11)} ${"Avg time".padStart(16)}`,
    "",
    ...s.exits.map(
      (e) =>
        `${e.reason.padStart(REASON_WIDTH)} ${String(e.samples).padStart(10)} ${percent(e.samples, s.samples).padStart(8)}% ` +
        `${percent(e.total, s.time).padStart(8)}% ${us(e.min).padStart(9)}us ${us(e.max).padStart(9)}us ` +
        `${us(e.mean).padStart(9)}us ( +-${e.relativeStddev.toFixed(2).padStart(7)}% )`,
    ),
    "",
    `Total Samples:${s.samples}, Total events handled time:${us(s.time)}us.`,
    "",
  ];
  const events = Object.entries(s.tracepoints).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const all = events.reduce((n, [, v]) => n + v, 0);
  lines.push(
    ` ${"Event".padEnd(40)} ${"Total".padStart(10)} ${"%Total".padStart(7)}`,
    ...events.map(([name, n]) => ` ${name.padEnd(40)} ${String(n).padStart(10)} ${((100 * n) / all).toFixed(1).padStart(7)}`),
    "",
    ...[...Object.entries(s.debugfs), ...Object.entries(s.faultline)].map(([name, n]) => ` ${name.padEnd(40)} ${String(n).padStart(10)}`),
  );
  return lines;
}
