/** The mappings of a file in the order of its interval tree (mm/interval_tree.c, address_space i_mmap): by offset, older ones first. */
import type { Vmas } from "./vmas.js";

/** The mapping with the lowest (pgoff, record) above the given pair that overlaps the pages [from, to) of the file, or -1. */
export function mappingAfter(vmas: Vmas, file: number, lastPgoff: number, lastVma: number, from: number, to: number): number {
  let best = -1;
  for (let v = vmas.firstOfFile(file); v >= 0; v = vmas.nextOfFile(v)) {
    const pgoff = vmas.pgoff(v);
    if (pgoff >= to || pgoff + (vmas.end(v) - vmas.start(v)) / 4096 <= from) continue;
    if (pgoff < lastPgoff || (pgoff === lastPgoff && v <= lastVma)) continue;
    if (best < 0 || pgoff < vmas.pgoff(best) || (pgoff === vmas.pgoff(best) && v < best)) best = v;
  }
  return best;
}

/** The n-th mapping of the pages [from, to) of a file, or -1. */
export function nthMapping(vmas: Vmas, file: number, from: number, to: number, n: number): number {
  let v = mappingAfter(vmas, file, -1, -1, from, to);
  while (v >= 0 && n-- > 0) v = mappingAfter(vmas, file, vmas.pgoff(v), v, from, to);
  return v;
}
