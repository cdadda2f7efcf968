/** What the dumps share: ranges and sizes as the kernel's page-table dumps write them (mm/ptdump.c note_page), and columns. */

const UNITS = "KMGTPE";

/** 16 hexadecimal digits with 0x. */
export function hex16(n: number): string {
  return `0x${n.toString(16).padStart(16, "0")}`;
}

/** `0x…-0x…        64K`: a range and its size in the largest exact unit. */
export function rangeText(start: number, end: number): string {
  let size = (end - start) / 1024;
  let unit = 0;
  while (size % 1024 === 0 && size > 0 && unit < UNITS.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${hex16(start)}-${hex16(end)}   ${String(size).padStart(9)}${UNITS[unit]!}`;
}

/** 64-bit hexadecimal from two words, without leading zeros. */
export function words64(hi: number, lo: number): string {
  const h = hi >>> 0;
  return h === 0 ? `0x${(lo >>> 0).toString(16)}` : `0x${h.toString(16)}${(lo >>> 0).toString(16).padStart(8, "0")}`;
}

/** Rows of cells as lines, each column as wide as its widest cell. The first row may be a heading. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [n, cell] of row.entries()) widths[n] = Math.max(widths[n] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, n) => cell.padEnd(widths[n]!))
      .join("  ")
      .trimEnd(),
  );
}
