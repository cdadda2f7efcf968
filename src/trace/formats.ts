/** The formats of traces: their names, and the extensions that mean them. opentrace.ts has who writes each. */

export const TRACE_FORMATS = ["trace.dat", "trace.dat-v7", "ftrace", "chrome", "perfetto", "jsonl"] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

const EXTENSIONS: readonly (readonly [string, TraceFormat])[] = [
  [".dat", "trace.dat"],
  [".ftrace", "ftrace"],
  [".txt", "ftrace"],
  [".json", "chrome"],
  [".jsonl", "jsonl"],
  [".pftrace", "perfetto"],
  [".perfetto-trace", "perfetto"],
];
export const TRACE_EXTENSIONS = EXTENSIONS.map(([e]) => e);

/** The format that a file's name means; undefined if it means none. */
export function formatOfName(path: string): TraceFormat | undefined {
  return EXTENSIONS.find(([e]) => path.endsWith(e))?.[1];
}

/** `out.dat` and "v5.5" -> `out.v5.5.dat`: where several runs would share a name. */
export function withName(path: string, name: string): string {
  const safe = name.replace(/[^A-Za-z0-9._-]/g, "_");
  const slash = path.lastIndexOf("/");
  const known = TRACE_EXTENSIONS.find((e) => path.endsWith(e));
  const dot = known !== undefined ? path.length - known.length : path.lastIndexOf(".");
  return dot <= slash + 1 ? `${path}.${safe}` : `${path.slice(0, dot)}.${safe}${path.slice(dot)}`;
}
