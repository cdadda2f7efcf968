/** Where a mapping without a fixed address goes: top-down, always the highest gap that fits (mm/mmap.c arch_get_unmapped_area_topdown). */
import { ENOMEM } from "../sim/errno.js";
import { MMAP_BASE, MMAP_MIN_ADDR, pageAlign } from "./context.js";
import { TASK_SIZE } from "./pagetable.js";
import type { Vmas } from "./vmas.js";

const BLOCK = 0x200000;

/**
 * The highest free range of `len` bytes below mmap_base whose start is a multiple of `align`.
 * @param hint taken if it is free, 0 for none @returns address or -ENOMEM
 */
export function unmappedArea(vmas: Vmas, mm: number, hint: number, len: number, align: number): number {
  if (len > TASK_SIZE - MMAP_MIN_ADDR) return -ENOMEM;
  if (hint !== 0) {
    const addr = pageAlign(hint);
    const fits = addr >= MMAP_MIN_ADDR && addr + len <= TASK_SIZE && addr % align === 0;
    if (fits && !vmas.overlaps(mm, addr, addr + len)) return addr;
  }
  let high = vmas.fullAbove(mm, MMAP_BASE);
  const above = vmas.findVma(mm, high);
  let v = above >= 0 ? (vmas.start(above) < high ? above : vmas.prev(above)) : vmas.last(mm);
  // Mappings that follow one another without a gap need not be looked at again.
  for (; v >= 0 && vmas.end(v) >= high && high > MMAP_MIN_ADDR; v = vmas.prev(v)) high = Math.min(high, vmas.start(v));
  vmas.setFullAbove(mm, high);
  for (; high > MMAP_MIN_ADDR; v = vmas.prev(v)) {
    const low = Math.max(MMAP_MIN_ADDR, v >= 0 ? vmas.end(v) : 0);
    const addr = Math.floor((high - len) / align) * align;
    if (addr >= low) return addr;
    if (v < 0) break;
    high = vmas.start(v);
  }
  return -ENOMEM;
}

/**
 * thp_get_unmapped_area: room for one more block is looked for, and the mapping put where its start is aligned.
 * @returns address, or 0 if the mapping is too small or nothing fits
 */
export function thpUnmappedArea(vmas: Vmas, mm: number, hint: number, len: number): number {
  if (len < BLOCK) return 0;
  const at = unmappedArea(vmas, mm, hint, len + BLOCK, 4096);
  if (at < 0) return 0;
  if (at === hint) return at;
  const offset = (BLOCK - (at % BLOCK)) % BLOCK;
  return offset === 0 ? at + BLOCK : at + offset;
}

/**
 * shmem_get_unmapped_area: where one more block is free, a mapping of a memory file lies so that its blocks are the file's.
 * @param addr found for it as for any mapping @param offset bytes into the file @returns address, `addr` if it is too small or nothing fits
 */
export function shmemUnmappedArea(vmas: Vmas, mm: number, addr: number, len: number, hint: number, offset: number): number {
  const within = offset % BLOCK;
  if (len < BLOCK || (within !== 0 && within + len < 2 * BLOCK) || addr % BLOCK === within) return addr;
  const inflated = unmappedArea(vmas, mm, hint, len + BLOCK - 4096, 4096);
  return inflated < 0 ? addr : inflated + ((within - (inflated % BLOCK) + BLOCK) % BLOCK);
}
