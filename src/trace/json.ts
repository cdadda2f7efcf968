/** The JSON sinks: an event is its record, with the variant in front; one line each for jsonl. */

/** One line of JSON; BigInts (register values) as hex strings. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value, (_key, v: unknown) => (typeof v === "bigint" ? `0x${BigInt.asUintN(64, v).toString(16)}` : v));
}
