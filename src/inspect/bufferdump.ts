/** What each CPU's store and gathering buffers hold: stores that no other observer sees yet, oldest first. */
import type { Machine } from "../machine.js";
import { table } from "./columns.js";

export function bufferText(machine: Machine): string[] {
  const rows = machine.pe.ordering?.buffers.list() ?? [];
  const out: string[] = [];
  for (let cpu = 0; cpu < machine.cpus; cpu++) {
    const mine = rows.filter((r) => r.cpu === cpu);
    out.push(`---[ CPU ${cpu} ]---`);
    if (mine.length === 0) out.push("# empty");
    else
      out.push(
        ...table([
          ["LINE", "TYPE", "BYTES"],
          ...mine.map((r) => [
            `0x${r.line.toString(16)}`,
            r.type,
            r.bytes.map(([first, length]) => (length === 1 ? String(first) : `${first}-${first + length - 1}`)).join(" "),
          ]),
        ]),
      );
  }
  return out;
}
