/** Measurements drawn by Vega, without a browser: the cost of each step as stacked bars, latencies as circles by count. */
import { parse, View, type Spec } from "vega";
import type { Measurement } from "./measure.js";
import { buckets } from "./latency.js";

const WIDTH = 640;

/** @returns an SVG document */
export async function chart(title: string, measurements: readonly Measurement[]): Promise<string> {
  const shown = measurements.filter((m) => m.phases.length > 0);
  const label = (m: Measurement): string => `${m.policy} ${m.kernel}`;
  const crashed = shown.filter((m) => m.result !== "completed").map((m) => ({ run: label(m), result: m.result }));
  const steps = shown.flatMap((m) =>
    m.phases
      .filter((p) => p.cycles >= m.total.cycles / 100)
      .map((p) => ({ run: label(m), step: `line ${p.line} (${p.agent})`, line: p.line, cycles: p.cycles })),
  );
  const latencies = shown.flatMap((m) =>
    buckets(m.total.latency).map((b) => ({ run: label(m), cycles: Math.max(1, b.from), count: b.count })),
  );
  const height = 28 * Math.max(1, shown.length);
  const runs = { type: "band", domain: shown.map(label), range: "height", padding: 0.2 } as const;
  const spec: Spec = {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    background: "white",
    padding: 10,
    title: { text: title, anchor: "start" },
    layout: { columns: 1, padding: 40 },
    data: [
      { name: "steps", values: steps, transform: [{ type: "stack", groupby: ["run"], field: "cycles", sort: { field: "line" } }] },
      { name: "latencies", values: latencies },
      { name: "ends", values: crashed },
    ],
    scales: [{ name: "color", type: "ordinal", domain: { data: "steps", field: "step" }, range: "category" }],
    legends: [{ fill: "color", title: "step of the script" }],
    marks: [
      {
        type: "group",
        encode: { enter: { width: { value: WIDTH }, height: { value: height } } },
        signals: [
          { name: "height", value: height },
          { name: "width", value: WIDTH },
        ],
        scales: [
          { name: "y", ...runs },
          { name: "x", type: "linear", domain: { data: "steps", field: "y1" }, range: "width", nice: true, zero: true },
        ],
        axes: [
          { orient: "left", scale: "y" },
          { orient: "bottom", scale: "x", title: "cycles of virtual time, by step", format: "~s", grid: true },
        ],
        marks: [
          {
            type: "rect",
            from: { data: "steps" },
            encode: {
              enter: {
                y: { scale: "y", field: "run" },
                height: { scale: "y", band: 1 },
                x: { scale: "x", field: "y0" },
                x2: { scale: "x", field: "y1" },
                fill: { scale: "color", field: "step" },
              },
            },
          },
          {
            type: "text",
            from: { data: "ends" },
            encode: {
              enter: {
                y: { scale: "y", field: "run", band: 0.5 },
                x: { value: 6 },
                text: { field: "result" },
                baseline: { value: "middle" },
                fontSize: { value: 10 },
                limit: { value: WIDTH - 12 },
              },
            },
          },
        ],
      },
      {
        type: "group",
        encode: { enter: { width: { value: WIDTH }, height: { value: height } } },
        signals: [
          { name: "height", value: height },
          { name: "width", value: WIDTH },
        ],
        scales: [
          { name: "y", ...runs },
          { name: "x", type: "log", base: 2, domain: { data: "latencies", field: "cycles" }, range: "width", nice: true },
          { name: "size", type: "sqrt", domain: { data: "latencies", field: "count" }, range: [12, 400] },
        ],
        axes: [
          { orient: "left", scale: "y" },
          { orient: "bottom", scale: "x", title: "cycles of one guest access (powers of two; area: how many)", format: "~s", grid: true },
        ],
        marks: [
          {
            type: "symbol",
            from: { data: "latencies" },
            encode: {
              enter: {
                y: { scale: "y", field: "run", band: 0.5 },
                x: { scale: "x", field: "cycles" },
                size: { scale: "size", field: "count" },
                fill: { value: "#4c78a8" },
                fillOpacity: { value: 0.7 },
              },
            },
          },
        ],
      },
    ],
  };
  return new View(parse(spec), { renderer: "none" }).toSVG();
}
