/**
 * guest_memfd (virt/kvm/guest_memfd.c; on arm64 from v6.18 on): a file of one VM whose pages back memslots, without a host address.
 * Holes and broken pages are taken out of stage 2 by way of the memslots that are bound to the range, as the MMU notifiers do
 * it for host addresses: what is in progress is counted, stage 2 is emptied, and the sequence rises at the end.
 *
 * A file is bound where a memslot names it: the bindings are the memslots' own words (memslots.ts).
 */
import type { HostMm } from "../mmu/mm.js";
import { FILE_GUEST_MEMFD } from "../mmu/files.js";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../mmu/truncate.js";
import { gmemGetFolio, GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP } from "../mmu/guestmemfd.js";
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EBADF, EEXIST, EFAULT, EHWPOISON, EINVAL, ENOMEM, ENOTTY, EOPNOTSUPP } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { kvmDecisions } from "./decisions.js";
import { entriesMet } from "./gmembindings.js";
import type { Memslots } from "./memslots.js";
import type { Stage2 } from "./stage2.js";
import { pfnLookup, pfnSource } from "./trace.js";
import type { Vms } from "./vm.js";

/** kvm_gmem_get_supported_flags */
export const GUEST_MEMFD_FLAGS = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

const FILE = ARG;
// fallocate
const MODE = ARG + 1;
const OFFSET = ARG + 2;
const LEN = ARG + 3;
// invalidate: page offsets, and what comes between its two halves
const FROM = ARG + 1;
const TO = ARG + 2;
const TRUNCATES = ARG + 3;
const COUNTED = ARG + 4;

/** Beyond the last page of any file. */
const LAST_PAGE = 2 ** 51;
const SOURCE_GUEST_MEMFD = pfnSource.indexOf("guest-memfd");

export class GuestMemfd {
  /** (file, from, to, truncate 0|1) in pages -> R0 0: stage 2 loses the range, and the file if asked to. */
  private readonly invalidate: Activity;
  /** close(2): (file) -> R0 0. Where nothing maps the file it goes, and guests lose it. */
  readonly release: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly mm: HostMm,
    private readonly d: Row<typeof kvmDecisions>,
  ) {
    const { agents } = sim;
    const source = "virt/kvm/guest_memfd.c";
    this.invalidate = agents.activity("kvmGmemInvalidate", `${source} kvm_gmem_punch_hole, kvm_gmem_error_folio`, 5, [
      ["invalidateBegin", (f) => this.invalidateBegin(f)],
      ["truncate", (f) => this.truncate(f)],
      ["invalidateEnd", (f) => this.invalidateEnd(f)],
    ]);
    this.release = agents.activity("kvmGmemRelease", `${source} kvm_gmem_release`, 1, [
      ["invalidate", (f) => this.beginRelease(f)],
      ["put", (f) => this.endRelease(f)],
    ]);
    const fallocate = agents.activity("kvmGmemFallocate", `${source} kvm_gmem_fallocate`, 4, [
      ["check", (f) => this.fallocateFile(f, fallocate.first + 1)],
      ["punched", (f) => agents.ret(f, 0)],
    ]);
    const errorRemoveFolio = agents.activity("kvmGmemErrorFolio", `${source} kvm_gmem_error_folio`, 2, [
      ["invalidate", (f) => this.errorFolio(f, errorRemoveFolio.first + 1)],
      ["done", (f) => agents.ret(f, 0)],
    ]);
    mm.files.guestMemfd = { fallocate, errorRemoveFolio, release: (file) => this.released(file) };
  }

  private errorFolio(f: number, then: number): number {
    const { agents } = this.sim;
    const page = agents.stack.a[f + FROM]!;
    return agents.call(f, then, this.invalidate, agents.stack.a[f + FILE]!, page, page + 1, 0);
  }

  // ------------------------------------------------------------------------------------ ioctls

  /** KVM_CREATE_GUEST_MEMFD. @returns the file, or -errno */
  create(vm: number, size: number, flags: number): number {
    if (this.d.capGuestMemfd !== "always") return -ENOTTY;
    // Not "& ~": of 64 bits that asks for the low half alone.
    if (flags !== (flags & GUEST_MEMFD_FLAGS)) return -EINVAL;
    // loff_t is signed.
    if (size <= 0 || size >= 2 ** 63 || size % 4096 !== 0) return -EINVAL;
    return this.mm.files.createGuestMemfd(vm, size, flags);
  }

  /** True while a guest_memfd of the VM is open or mapped: it holds the VM. */
  anyOf(vm: number): boolean {
    const { files } = this.mm;
    for (let file = 0; file < files.count; file++)
      if (files.kind(file) === FILE_GUEST_MEMFD && files.guestMemfdVm(file) === vm) return true;
    return false;
  }
  /** The first open guest_memfd from a file on; -1: none. */
  nextOpen(from: number): number {
    const { files } = this.mm;
    for (let file = from; file < files.count; file++) if (files.kindOfFd(file) === FILE_GUEST_MEMFD) return file;
    return -1;
  }

  /** kvm_gmem_bind: a new memslot, not yet visible, gets its part of a file. @returns 0 or -errno */
  bind(vm: number, slot: number, fd: number, offset: number): number {
    const { files } = this.mm;
    const kind = files.kindOfFd(fd);
    if (kind === 0) return -EBADF;
    if (kind !== FILE_GUEST_MEMFD || files.guestMemfdVm(fd) !== vm) return -EINVAL;
    if (offset < 0 || offset % 4096 !== 0 || offset + this.memslots.npages(slot) * 4096 > files.size(fd)) return -EINVAL;
    const first = offset / 4096;
    if (this.nextBound(vm, fd, -1, first, first + this.memslots.npages(slot)) >= 0)
      return this.d.gmemBindOverlap === "EEXIST" ? -EEXIST : -EINVAL;
    this.memslots.setGmem(slot, fd, first);
    return 0;
  }
  /** KVM_MEMSLOT_GMEM_ONLY: what the guest and the host see is the file's. */
  gmemOnly(slot: number): boolean {
    return (this.mm.files.guestMemfdFlags(this.memslots.gmemFile(slot)) & GUEST_MEMFD_FLAG_MMAP) !== 0;
  }

  // ------------------------------------------------------------------------------------ faults

  /** kvm_gmem_get_pfn: the page behind a guest frame, with a reference. @returns pfn, -EFAULT, -ENOMEM or -EHWPOISON */
  getPfn(slot: number, gfn: number): number {
    const pfn = this.lookup(slot, gfn);
    if (pfn < 0) this.sim.bus.emit(pfnLookup, 0, 1, -pfn, 0, SOURCE_GUEST_MEMFD);
    else this.sim.bus.emit(pfnLookup, pfn, 0, 0, 1, SOURCE_GUEST_MEMFD);
    return pfn;
  }
  private lookup(slot: number, gfn: number): number {
    const { files, frames } = this.mm;
    const file = this.memslots.gmemFile(slot);
    if (file < 0 || files.guestMemfdGoing(file)) return -EFAULT;
    const pfn = gmemGetFolio(files, file, gfn - this.memslots.baseGfn(slot) + this.memslots.gmemPgoff(slot));
    if (pfn < 0) return -ENOMEM;
    if (frames.isHwpoison(pfn)) return -EHWPOISON;
    frames.get(pfn);
    return pfn;
  }
  /** The page that a guest frame has now, without making one: -1 none. For those who look on. */
  pfnNow(slot: number, gfn: number): number {
    const file = this.memslots.gmemFile(slot);
    if (file < 0) return -1;
    return this.mm.files.cache.find(file, gfn - this.memslots.baseGfn(slot) + this.memslots.gmemPgoff(slot));
  }

  // ------------------------------------------------------------------------------ invalidation

  /** The binding of a file that follows one by its page offset, where it meets [from, to). @returns the memslot, or -1 */
  private nextBound(vm: number, file: number, after: number, from: number, to: number): number {
    const m = this.memslots;
    let best = -1;
    for (let i = 0; i < m.count(vm); i++) {
      const slot = m.byGfnOrder(vm, i);
      const pgoff = m.gmemPgoff(slot);
      if (m.gmemFile(slot) !== file || pgoff >= to || pgoff + m.npages(slot) <= from) continue;
      if ((after < 0 || pgoff > m.gmemPgoff(after)) && (best < 0 || pgoff < m.gmemPgoff(best))) best = slot;
    }
    return best;
  }

  /** kvm_gmem_invalidate_begin */
  private invalidateBegin(f: number): number {
    const { sim, vms } = this;
    const s = sim.agents.stack;
    const file = s.a[f + FILE]!;
    const vm = this.mm.files.guestMemfdVm(file);
    if (this.nextBound(vm, file, -1, s.a[f + FROM]!, s.a[f + TO]!) >= 0) {
      if (!sim.locks.write(vms.mmuLock(vm))) return BLOCKED;
      vms.addInProgress(vm, 1);
      s.set(f + COUNTED, 1);
      this.unmap(vm, file, s.a[f + FROM]!, s.a[f + TO]!);
      sim.locks.unlockWrite(vms.mmuLock(vm));
    }
    return this.invalidate.first + 1;
  }
  private unmap(vm: number, file: number, from: number, to: number): void {
    const m = this.memslots;
    if (this.vms.root(vm) === 0) return;
    for (let slot = this.nextBound(vm, file, -1, from, to); slot >= 0; slot = this.nextBound(vm, file, slot, from, to)) {
      const pgoff = m.gmemPgoff(slot);
      const end = pgoff + m.npages(slot);
      const first = Math.max(pgoff, from);
      const pages = Math.min(end, to) - first;
      // The slot's part of the whole range, each time.
      for (let met = entriesMet(pgoff, end - 1, from, to); met > 0; met--)
        this.stage2.unmapRange(vm, (m.baseGfn(slot) + first - pgoff) * 4096, pages * 4096);
    }
  }

  private truncate(f: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    const end = this.invalidate.first + 2;
    return s[f + TRUNCATES] === 0 ? end : agents.call(f, end, this.mm.truncateInodePages, s[f + FILE]!, s[f + FROM]!, s[f + TO]!);
  }

  /** kvm_gmem_invalidate_end */
  private invalidateEnd(f: number): number {
    const { sim, vms } = this;
    const s = sim.agents.stack.a;
    if (s[f + COUNTED] !== 0) {
      const vm = this.mm.files.guestMemfdVm(s[f + FILE]!);
      if (!sim.locks.write(vms.mmuLock(vm))) return BLOCKED;
      sim.locks.assertHeld(vms.mmuLock(vm)); // as kvm_mmu_invalidate_end does
      vms.bumpSeq(vm);
      vms.addInProgress(vm, -1);
      sim.locks.unlockWrite(vms.mmuLock(vm));
    }
    return sim.agents.ret(f, 0);
  }

  // -------------------------------------------------------------------------- file operations

  /** kvm_gmem_fallocate: a hole, or pages made resident; the size never changes. */
  private fallocateFile(f: number, punched: number): number {
    const { agents } = this.sim;
    const s = agents.stack.a;
    const [mode, offset, len] = [s[f + MODE]!, s[f + OFFSET]!, s[f + LEN]!];
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) return agents.ret(f, -EOPNOTSUPP);
    if (offset % 4096 !== 0 || len % 4096 !== 0) return agents.ret(f, -EINVAL);
    const from = offset / 4096;
    const to = (offset + len) / 4096;
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) return agents.call(f, punched, this.invalidate, s[f + FILE]!, from, to, 1);
    if (offset + len > this.mm.files.size(s[f + FILE]!)) return agents.ret(f, -EINVAL);
    for (let p = from; p < to; p++) if (gmemGetFolio(this.mm.files, s[f + FILE]!, p) < 0) return agents.ret(f, -ENOMEM);
    return agents.ret(f, 0);
  }

  private beginRelease(f: number): number {
    const { agents } = this.sim;
    const file = agents.stack.a[f + FILE]!;
    if (!this.mm.files.closeGuestMemfd(file)) return this.release.first + 1;
    return agents.call(f, this.release.first + 1, this.invalidate, file, 0, LAST_PAGE, 0);
  }
  private endRelease(f: number): number {
    const { files } = this.mm;
    const file = this.sim.agents.stack.a[f + FILE]!;
    if (files.guestMemfdGoing(file)) this.unbind(file);
    files.put(file);
    return this.sim.agents.ret(f, 0);
  }

  /** kvm_gmem_release where the last VMA drops the file: one step, whoever holds mmu_lock. */
  private released(file: number): void {
    const vm = this.mm.files.guestMemfdVm(file);
    if (this.nextBound(vm, file, -1, 0, LAST_PAGE) < 0) return;
    this.unmap(vm, file, 0, LAST_PAGE);
    this.vms.bumpSeq(vm);
    this.unbind(file);
  }
  /** No memslot names the file any more. */
  private unbind(file: number): void {
    const m = this.memslots;
    const vm = this.mm.files.guestMemfdVm(file);
    for (let i = 0; i < m.count(vm); i++) if (m.gmemFile(m.byGfnOrder(vm, i)) === file) m.setGmem(m.byGfnOrder(vm, i), -1, 0);
  }
}
