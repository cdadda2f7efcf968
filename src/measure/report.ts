/** Measurements as text, JSON and comma-separated values. */
import { CYCLES_PER_MICROSECOND } from "../sim/costs.js";
import { buckets } from "./latency.js";
import type { Measurement, Phase } from "./measure.js";

type Cell = string | number;

/** Columns aligned: text to the left, numbers to the right. */
function aligned(rows: readonly (readonly Cell[])[]): string[] {
  const text = rows.map((r) => r.map(String));
  const width = text[0]!.map((_, c) => Math.max(...text.map((r) => r[c]!.length)));
  const right = text[0]!.map((_, c) => rows.slice(1).some((r) => typeof r[c] === "number"));
  return text.map((r) =>
    r
      .map((cell, c) => (right[c] ? cell.padStart(width[c]!) : cell.padEnd(width[c]!)))
      .join("  ")
      .trimEnd(),
  );
}

const sizeName = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${bytes / 2 ** 30}G` : bytes >= 2 ** 20 ? `${bytes / 2 ** 20}M` : `${bytes / 1024}K`;
const leavesText = (m: Measurement): string => m.leaves.map(([size, n]) => `${n}x${sizeName(size)}`).join(" ") || "-";
const label = (m: Measurement): string => `${m.policy} ${m.kernel}`;
const ran = (m: Measurement): boolean => m.phases.length > 0;

/** The tables that people read. */
export function reportText(measurements: readonly Measurement[]): string[] {
  const out: string[] = [];
  const head = [
    "policy",
    "kernel",
    "cycles",
    "faults",
    "TLBI",
    "DSB",
    "traps",
    "exits",
    "accesses",
    "median",
    "p99",
    "max",
    "leaves",
    "result",
  ];
  const rows = measurements.map((m): Cell[] => {
    const { cycles, counts: c, latency: d } = m.total;
    return ran(m)
      ? [
          m.policy,
          m.kernel,
          cycles,
          c.faults,
          c.tlbis,
          c.dsbs,
          c.traps,
          c.exits,
          d.total,
          d.quantile(0.5),
          d.quantile(0.99),
          d.quantile(1),
          leavesText(m),
          m.result,
        ]
      : [m.policy, m.kernel, ...Array.from({ length: 11 }, () => "-"), m.result];
  });
  out.push(...aligned([head, ...rows]));
  out.push("", "cycles of each step that takes part in the difference or costs most:");
  out.push(...phaseTable(measurements));
  out.push("", "cycles of one guest access, how many took so long:");
  out.push(...latencyTable(measurements));
  if (measurements.some((m) => m.total.counts.barStores > 0)) out.push("", ...barTable(measurements));
  return out;
}

/** Steps by line, a column for each combination. Steps that cost the same everywhere and below 1 % are added up. */
function phaseTable(measurements: readonly Measurement[]): string[] {
  const shown = measurements.filter(ran);
  const keys = new Map<string, { readonly line: number; readonly text: string; readonly cycles: number[] }>();
  for (const [i, m] of shown.entries())
    for (const p of m.phases) {
      const key = `${p.line} ${p.agent} ${p.text}`;
      let row = keys.get(key);
      if (row === undefined) keys.set(key, (row = { line: p.line, text: `${p.agent}: ${p.text}`, cycles: shown.map(() => 0) }));
      row.cycles[i]! += p.cycles;
    }
  const totals = shown.map((m) => m.total.cycles);
  const small = (cycles: readonly number[]): boolean => cycles.every((c, i) => c < totals[i]! / 100 || c === 0);
  const rows = [...keys.values()].sort((a, b) => a.line - b.line);
  const rest = rows.filter((r) => small(r.cycles));
  const table: Cell[][] = rows.filter((r) => !small(r.cycles)).map((r) => [r.line, shorten(r.text, 44), ...r.cycles]);
  if (rest.length > 0) table.push(["", `${rest.length} other steps`, ...shown.map((_, i) => rest.reduce((n, r) => n + r.cycles[i]!, 0))]);
  return aligned([["line", "step", ...shown.map(label)], ...table]);
}

const shorten = (text: string, width: number): string => {
  const one = text.replace(/\s+/g, " ");
  return one.length <= width ? one : `${one.slice(0, width - 1)}…`;
};

function latencyTable(measurements: readonly Measurement[]): string[] {
  const shown = measurements.filter(ran);
  const all = shown.map((m) => new Map(buckets(m.total.latency).map((b) => [b.from, b.count])));
  const from = [...new Set(all.flatMap((b) => [...b.keys()]))].sort((a, b) => a - b);
  return aligned([
    ["cycles", ...shown.map(label)],
    ...from.map((f): Cell[] => [f === 0 ? "0" : `${f} to ${2 * f - 1}`, ...all.map((b) => b.get(f) ?? 0)]),
    ["mean", ...shown.map((m) => Number(m.total.latency.mean.toFixed(1)))],
  ]);
}

/**
 * What went to BARs. Where buffers are modelled, gathering is: Normal-NC memory lets a CPU gather the stores to one line into
 * one request, Device-nGnRE does not. Without buffers each store is a request of its own, and the right half says what gathering would come to.
 */
function barTable(measurements: readonly Measurement[]): string[] {
  const shown = measurements.filter((m) => m.total.counts.barStores > 0);
  const bound = shown.some((m) => !m.buffered);
  const rate = (bytes: number, cycles: number): number => Math.round((bytes / cycles) * CYCLES_PER_MICROSECOND);
  return [
    bound
      ? "stores to BARs, a request each; and with the requests for one 64-byte line gathered, which Normal-NC allows:"
      : "stores to BARs, and the memory write requests that carried them:",
    ...aligned([
      [
        "policy",
        "kernel",
        "stage 2",
        "stores",
        "requests",
        "cycles",
        "MB/s",
        ...(bound ? ["gathered", "cycles", "MB/s"] : ["bytes/request"]),
      ],
      ...shown.map((m): Cell[] => {
        const { barStores, barWrites, barLines, barBytes } = m.total.counts;
        const cycles = m.phases.filter((p) => p.counts.barWrites > 0).reduce((n, p) => n + p.cycles, 0);
        const less = cycles - (barWrites - barLines) * m.request;
        const may = m.deviceType === "Normal-NC" && !m.buffered;
        return [
          m.policy,
          m.kernel,
          m.deviceType,
          barStores,
          barWrites,
          cycles,
          rate(barBytes, cycles),
          ...(!bound ? [Number((barBytes / barWrites).toFixed(1))] : may ? [barLines, less, rate(barBytes, less)] : ["no", "-", "-"]),
        ];
      }),
    ]),
  ];
}

const phaseJson = (p: Phase) => ({
  cycles: p.cycles,
  ...p.counts,
  latency: {
    accesses: p.latency.total,
    mean: p.latency.mean,
    median: p.latency.quantile(0.5),
    p90: p.latency.quantile(0.9),
    p99: p.latency.quantile(0.99),
    max: p.latency.quantile(1),
    /** [cycles, how many accesses took so long]. */
    distribution: p.latency.entries(),
  },
});

export function reportJson(file: string, measurements: readonly Measurement[]): string {
  const runs = measurements.map((m) => ({
    policy: m.policy,
    kernel: m.kernel,
    cpu: m.cpu,
    result: m.result,
    ...(ran(m)
      ? {
          total: phaseJson(m.total),
          phases: m.phases.map((p) => ({ line: p.line, text: p.text, agent: p.agent, ...phaseJson(p) })),
          leaves: m.leaves.map(([size, count]) => ({ size, count })),
          deviceType: m.deviceType,
        }
      : {}),
  }));
  return JSON.stringify({ file, cyclesPerMicrosecond: CYCLES_PER_MICROSECOND, runs }, undefined, 2);
}

/** One line for each step, and one with line 0 for the whole run. RFC 4180. */
export function reportCsv(measurements: readonly Measurement[]): string[] {
  const quoted = (v: Cell): string => (/[",\n\r]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  const head =
    "policy,kernel,cpu,result,line,step,agent,cycles,faults,tlbis,dsbs,traps,exits,bar_stores,bar_writes,bar_lines,bar_bytes,accesses,latency_mean,latency_median,latency_p90,latency_p99,latency_max";
  const rows = measurements.flatMap((m) =>
    [m.total, ...m.phases].map((p): Cell[] => {
      const { counts: c, latency: d } = p;
      return [
        m.policy,
        m.kernel,
        m.cpu,
        m.result,
        p.line,
        p.text.replace(/\s+/g, " "),
        p.agent,
        p.cycles,
        c.faults,
        c.tlbis,
        c.dsbs,
        c.traps,
        c.exits,
        c.barStores,
        c.barWrites,
        c.barLines,
        c.barBytes,
        d.total,
        Number(d.mean.toFixed(3)),
        ...[0.5, 0.9, 0.99, 1].map((q) => d.quantile(q)),
      ];
    }),
  );
  return [head, ...rows.map((r) => r.map(quoted).join(","))];
}
