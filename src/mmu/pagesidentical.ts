/** Pages compared as the kernel reads them (mm/util.c memcmp_pages, include/linux/mm.h pages_identical). */
import type { PhysicalMemory } from "../arch/phys.js";

/** @param a, b page frame numbers of RAM */
export function pagesIdentical(phys: PhysicalMemory, a: number, b: number): boolean {
  if (phys.isClear(a) && phys.isClear(b)) return true;
  for (let o = 0; o < 4096; o += 8) {
    phys.read(a * 4096 + o, 8);
    const { lo, hi } = phys;
    phys.read(b * 4096 + o, 8);
    if (phys.lo !== lo || phys.hi !== hi) return false;
  }
  return true;
}
