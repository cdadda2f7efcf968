/** ftruncate and fallocate of memory files (mm/shmem.c shmem_setattr, shmem_fallocate; fs/hugetlbfs/inode.c). */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EBADF, EINVAL, ENOMEM, EOPNOTSUPP } from "../sim/errno.js";
import { pageAlign, type MmContext } from "./context.js";
import { FILE_GUEST_MEMFD, FILE_HUGETLB, FILE_SHMEM } from "./files.js";
import { ORDER_PAGE } from "./frames.js";
import type { ShmemHuge } from "./shmemhuge.js";
import type { SplitFilePage } from "./splitfile.js";
import { TO_THE_END, type ZapVma } from "./zapvma.js";

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;

const FILE = ARG;
// ftruncate
const SIZE = ARG + 1;
const OLD_SIZE = ARG + 2;
// fallocate
const MODE = ARG + 1;
const OFFSET = ARG + 2;
const LEN = ARG + 3;
// truncateInodePages: page offsets; where it has come to
const FROM = ARG + 1;
const TO = ARG + 2;
const AT = ARG + 3;

export class Truncate {
  /** (file, size) -> R0 0 | -errno: the system call. */
  readonly ftruncate: Activity;
  /** (file, mode, offset, length) -> R0 0 | -errno: the system call. */
  readonly fallocate: Activity;
  /** (file, from, to) in pages -> R0 0: the mapped ones are unmapped one by one, then all leave the cache. Of files without huge pages. */
  readonly truncateInodePages: Activity;

  constructor(
    private readonly mm: MmContext,
    private readonly zapVma: ZapVma,
    private readonly splitFile: SplitFilePage,
    private readonly shmemHuge: ShmemHuge,
  ) {
    const { agents } = mm.sim;
    this.ftruncate = agents.activity("ftruncate", "mm/shmem.c shmem_setattr", 3, [
      ["unmap", (f) => this.setSize(f)],
      ["splitPartial", (f) => this.split(f, pageAlign(agents.stack.a[f + SIZE]!), this.ftruncate.first + 2)],
      ["dropPages", (f) => this.dropTail(f)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    this.fallocate = agents.activity("fallocate", "mm/shmem.c shmem_fallocate", 4, [
      ["unmap", (f) => this.begin(f)],
      ["splitFirst", (f) => this.split(f, agents.stack.a[f + OFFSET]!, this.fallocate.first + 2)],
      ["splitLast", (f) => this.split(f, agents.stack.a[f + OFFSET]! + agents.stack.a[f + LEN]!, this.fallocate.first + 3)],
      ["dropPages", (f) => this.dropHole(f)],
      ["guestMemfd", (f) => agents.ret(f, agents.stack.a[f + R0]!)],
    ]);
    this.truncateInodePages = agents.activity("truncateInodePages", "mm/truncate.c truncate_inode_pages_range", 4, [
      ["unmapFolio", (f) => this.unmapFolio(f)],
      ["deleteFromCache", (f) => this.deleteFromCache(f)],
    ]);
  }

  private setSize(f: number): number {
    const { sim, files } = this.mm;
    const s = sim.agents.stack;
    const file = s.a[f + FILE]!;
    const size = s.a[f + SIZE]!;
    sim.agents.charge(sim.costs.syscall);
    const kind = files.kindOfFd(file);
    if (kind === 0) return sim.agents.ret(f, -EBADF);
    if (size < 0 || (kind !== FILE_SHMEM && kind !== FILE_HUGETLB)) return sim.agents.ret(f, -EINVAL);
    if (kind === FILE_HUGETLB && size % files.hugetlbSize(file) !== 0) return sim.agents.ret(f, -EINVAL);
    const old = files.size(file);
    s.set(f + OLD_SIZE, old);
    files.setSize(file, size);
    // hugetlb_vmtruncate comes whichever size it had.
    if (size > old && kind !== FILE_HUGETLB) return sim.agents.ret(f, 0);
    return this.unmapTail(f, this.ftruncate.first + 1);
  }

  /** unmap_mapping_range from the new end on; private copies go too. */
  private unmapTail(f: number, resume: number): number {
    const { sim, files } = this.mm;
    const s = sim.agents.stack.a;
    const file = s[f + FILE]!;
    const hole = pageAlign(s[f + SIZE]!);
    if (s[f + OLD_SIZE]! <= hole && files.kind(file) !== FILE_HUGETLB) return resume;
    return sim.agents.call(f, resume, this.zapVma.unmapMappingRange, file, hole, TO_THE_END, 1);
  }

  private dropTail(f: number): number {
    const { sim, files } = this.mm;
    const s = sim.agents.stack.a;
    const file = s[f + FILE]!;
    const size = s[f + SIZE]!;
    const from = pageAlign(size) / 4096;
    const to = files.reach(file, s[f + OLD_SIZE]!);
    if (this.mm.pages.rangeLockedByOther(file, from, to)) return BLOCKED;
    this.zeroPart(file, size, pageAlign(size));
    this.drop(file, from, to);
    // Of a huge page that was not split what lies behind the end stays.
    const last = from - 1;
    files.setReach(file, from > 0 && this.splitFile.hugeAt(file, last) >= 0 ? last - (last % 512) + 512 : 0);
    if (files.kind(file) === FILE_HUGETLB) return sim.agents.ret(f, 0);
    // Once more, for pages that a private mapping has copied meanwhile.
    return this.unmapTail(f, this.ftruncate.first + 3);
  }

  /** A huge page that the edge of the hole or the new end cuts is split (truncate_inode_partial_folio). @param at bytes into the file */
  private split(f: number, at: number, then: number): number {
    const { agents } = this.mm.sim;
    const file = agents.stack.a[f + FILE]!;
    const pgoff = Math.floor(at / 4096);
    if (at % 0x200000 === 0 || !this.mm.d.fileHoleSplits || this.splitFile.hugeAt(file, pgoff) < 0) return then;
    return agents.call(f, then, this.splitFile.activity, file, pgoff, 0);
  }

  /** Resident pages with offsets in [from, to) leave the cache; of a huge page that could not be split they become zero. */
  private drop(file: number, from: number, to: number): void {
    const { files, frames } = this.mm;
    if (files.kind(file) !== FILE_SHMEM) return files.dropPages(file, from, to);
    const first = files.cache.next(file, from, to);
    if (first >= 0) frames.lru?.lruAddDrain(); // __pagevec_release, __folio_batch_release
    for (let p = first; p >= 0; p = files.cache.next(file, p + 1, to)) {
      const block = p - (p % 512);
      const huge = this.splitFile.hugeAt(file, p);
      if (huge >= 0 && (block < from || block + 512 > to)) frames.clear(huge, ORDER_PAGE);
      else frames.put(files.cache.remove(file, p));
    }
  }

  /** truncate_cleanup_folio: a folio that is mapped is unmapped by itself. */
  private unmapFolio(f: number): number {
    const { sim, files, frames } = this.mm;
    const s = sim.agents.stack;
    const file = s.a[f + FILE]!;
    const to = s.a[f + TO]!;
    for (let p = files.cache.next(file, Math.max(s.a[f + FROM]!, s.a[f + AT]!), to); p >= 0; p = files.cache.next(file, p + 1, to)) {
      if (frames.mapcount(files.cache.find(file, p)) === 0) continue;
      s.set(f + AT, p + 1);
      return sim.agents.call(f, this.truncateInodePages.first, this.zapVma.unmapMappingRange, file, p * 4096, (p + 1) * 4096, 0);
    }
    return this.truncateInodePages.first + 1;
  }
  private deleteFromCache(f: number): number {
    const { sim, files, frames } = this.mm;
    const s = sim.agents.stack.a;
    const file = s[f + FILE]!;
    if (this.mm.pages.rangeLockedByOther(file, s[f + FROM]!, s[f + TO]!)) return BLOCKED;
    if (files.cache.next(file, s[f + FROM]!, s[f + TO]!) >= 0) frames.lru?.lruAddDrain(); // __folio_batch_release
    files.dropPages(file, s[f + FROM]!, s[f + TO]!);
    return sim.agents.ret(f, 0);
  }

  /** The bytes [from, to) of one resident page become zero (shmem_truncate_range's partial pages). */
  private zeroPart(file: number, from: number, to: number): void {
    const { files, phys } = this.mm;
    if (from >= to) return;
    const pgoff = Math.floor(from / 4096);
    const pfn = files.cache.find(file, pgoff);
    if (pfn < 0) return;
    let at = from;
    for (; at < to && at % 8 !== 0; at++) phys.write(pfn * 4096 + (at - pgoff * 4096), 1, 0);
    for (; at + 8 <= to; at += 8) phys.write(pfn * 4096 + (at - pgoff * 4096), 8, 0, 0);
    for (; at < to; at++) phys.write(pfn * 4096 + (at - pgoff * 4096), 1, 0);
  }

  private begin(f: number): number {
    const { sim, files } = this.mm;
    const s = sim.agents.stack.a;
    const file = s[f + FILE]!;
    const mode = s[f + MODE]!;
    const offset = s[f + OFFSET]!;
    const len = s[f + LEN]!;
    sim.agents.charge(sim.costs.syscall);
    const kind = files.kindOfFd(file);
    if (offset < 0 || len <= 0) return sim.agents.ret(f, -EINVAL);
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0 || mode === FALLOC_FL_PUNCH_HOLE)
      return sim.agents.ret(f, -EOPNOTSUPP);
    if (kind === FILE_GUEST_MEMFD) return sim.agents.call(f, this.fallocate.first + 4, files.guestMemfd.fallocate, file, mode, offset, len);
    if (kind !== FILE_SHMEM && kind !== FILE_HUGETLB) return sim.agents.ret(f, kind === 0 ? -EBADF : -EOPNOTSUPP);
    if ((mode & FALLOC_FL_PUNCH_HOLE) === 0) return this.allocate(f, file, mode, offset, len);
    const granule = kind === FILE_HUGETLB ? files.hugetlbSize(file) : 4096;
    const start = Math.ceil(offset / granule) * granule;
    const end = Math.floor((offset + len) / granule) * granule;
    if (end <= start) return this.fallocate.first + 1;
    return sim.agents.call(f, this.fallocate.first + 1, this.zapVma.unmapMappingRange, file, start, end, 0);
  }

  private dropHole(f: number): number {
    const { sim, files } = this.mm;
    const s = sim.agents.stack.a;
    const file = s[f + FILE]!;
    const from = s[f + OFFSET]!;
    const to = from + s[f + LEN]!;
    const granule = files.kind(file) === FILE_HUGETLB ? files.hugetlbSize(file) : 4096;
    const first = Math.ceil(from / granule) * granule;
    const last = Math.floor(to / granule) * granule;
    if (last > first && this.mm.pages.rangeLockedByOther(file, first / 4096, last / 4096)) return BLOCKED;
    if (granule === 4096) {
      this.zeroPart(file, from, Math.min(to, first));
      if (last >= first) this.zeroPart(file, last, to);
    }
    if (last > first) this.drop(file, first / 4096, last / 4096);
    return sim.agents.ret(f, 0);
  }

  /** Pages are made resident; the file grows unless told to keep its size. */
  private allocate(f: number, file: number, mode: number, offset: number, len: number): number {
    const { sim, files, frames } = this.mm;
    const order = files.kind(file) === FILE_HUGETLB ? files.hugetlbOrder(file) : 0;
    const step = 2 ** order;
    const end = Math.ceil((offset + len) / 4096);
    for (let p = Math.floor(offset / 4096 / step) * step; p < end; p += step) {
      if (files.cache.find(file, p) >= 0 || this.shmemHuge.fallocate(file, p, offset + len) >= 0) continue;
      const pfn = order === 0 ? frames.alloc(0) : frames.hugetlbAlloc(order);
      if (pfn < 0) return sim.agents.ret(f, -ENOMEM);
      frames.clear(pfn, order);
      frames.setFile(pfn);
      if (order === 0) frames.lru?.lruCacheAdd(pfn);
      files.cache.put(file, p, pfn);
      files.setReach(file, files.reach(file, (p + 1) * 4096));
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && offset + len > files.size(file)) files.setSize(file, offset + len);
    return sim.agents.ret(f, 0);
  }
}
