/**
 * The host's memory management as one object: it builds the parts of this room and knits them together.
 * Address space 0 is the VMM's; forked children get the others.
 */
import type { CpuFeatures } from "../arch/features.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { TablePages } from "../arch/tables.js";
import type { Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { MmContext } from "./context.js";
import type { MmRow } from "./decisions.js";
import { HostFault, type FaultOptions } from "./fault.js";
import { CollapseFile } from "./collapsefile.js";
import { Files } from "./files.js";
import { Fork } from "./fork.js";
import { Frames } from "./frames.js";
import { Ghes } from "./ghes.js";
import { Gup } from "./gup.js";
import { HostTlbFlush, type HostPe } from "./hosttlb.js";
import { HugePages } from "./hugepages.js";
import { MemoryFailure } from "./hwpoison.js";
import { Madvise } from "./madvise.js";
import { MadvisePages } from "./madvisepages.js";
import { Mmap } from "./mmap.js";
import { Mprotect } from "./mprotect.js";
import { Mremap } from "./mremap.js";
import { Munmap } from "./munmap.js";
import { BreakKsm } from "./breakksm.js";
import { Ksm } from "./ksm.js";
import { KsmEntry } from "./ksmentry.js";
import { LruBatches } from "./lrubatch.js";
import { MigrationEntries } from "./migrationentries.js";
import { Migrate } from "./migrate.js";
import { MmuNotifiers } from "./notifiers.js";
import { HostPageTables } from "./pagetable.js";
import { PageLocks } from "./pagelock.js";
import { Reclaim } from "./reclaim.js";
import { PteMappedThp } from "./ptemappedthp.js";
import { RetractTable } from "./retracttable.js";
import { Rmap } from "./rmap.js";
import { SplitFilePage } from "./splitfile.js";
import { SplitHugePmd } from "./splithuge.js";
import type { ThpSettings } from "./thpsettings.js";
import { Truncate } from "./truncate.js";
import { UserAccess } from "./useraccess.js";
import { Userfaultfd } from "./userfaultfd.js";
import { VmaChange } from "./vmachange.js";
import { Vmas } from "./vmas.js";
import { vmFlagNames } from "./vmflags.js";
import { Zap } from "./zap.js";
import { ZapVma } from "./zapvma.js";

export interface HostMmOptions extends FaultOptions {
  /** Physical CPUs; one unless told otherwise. */
  readonly cpus?: number;
  /** Persistent 2 MiB hugetlb pages (vm.nr_hugepages); 16 unless told otherwise. */
  readonly hugetlbPages?: number;
  /** Persistent pages of the other sizes: log2 of 4 KiB pages -> count. */
  readonly hugetlb?: Readonly<Partial<Record<4 | 13 | 18, number>>>;
}

/** The system calls, as activities; their arguments stand with each. */
export interface Syscalls {
  /** (mm, addr, length, mmapMode, file or -1, offset) -> address | -errno. */
  readonly mmap: Activity;
  /** (mm, addr, length) -> 0 | -errno. */
  readonly munmap: Activity;
  /** (mm, addr, length, PROT_*) -> 0 | -errno. */
  readonly mprotect: Activity;
  /** (mm, addr, length, MADV_*) -> 0 | -errno. */
  readonly madvise: Activity;
  /** (mm, old address, old length, new length, MREMAP_*, new address) -> address | -errno. */
  readonly mremap: Activity;
  /** (file, length) -> 0 | -errno. */
  readonly ftruncate: Activity;
  /** (file, mode, offset, length) -> 0 | -errno. */
  readonly fallocate: Activity;
  /** (mm) -> the child's mm | -errno. */
  readonly fork: Activity;
  /** (mm) -> 0: the process ends. */
  readonly exitMm: Activity;
}

/** A line of /proc/PID/maps. */
export interface VmaView {
  readonly start: number;
  readonly end: number;
  readonly flags: readonly string[];
  /** Bytes into the file (vm_pgoff, except that anonymous memory shows 0). */
  readonly offset: number;
  readonly file: string;
  readonly fd: number;
  readonly pageProt: "normal" | "noncached" | "writecombine" | "tagged";
}

const PAGE_PROTS = ["normal", "noncached", "writecombine", "tagged"] as const;

/** Address spaces at the same time: the VMM and its children. */
const MM_LIMIT = 16;

export class HostMm implements MmContext {
  readonly mte: boolean;
  readonly mmLimit = MM_LIMIT;
  readonly frames: Frames;
  readonly files: Files;
  readonly vmas: Vmas;
  readonly notifiers: MmuNotifiers;
  readonly pt: HostPageTables;
  readonly pages: PageLocks;
  readonly rmap: Rmap;
  readonly zap: Zap;
  readonly split: SplitHugePmd;
  readonly fault: HostFault;
  readonly gup: Gup;
  readonly huge: HugePages;
  readonly userAccess: UserAccess;
  readonly ghes: Ghes;
  readonly vmaChange: VmaChange;
  readonly zapVma: ZapVma;
  readonly userfaultfd: Userfaultfd;
  readonly migrate: Migrate;
  readonly reclaim: Reclaim;
  readonly ksm: Ksm;
  readonly syscalls: Syscalls;
  /** (file, from, to) in pages: truncate_inode_pages_range. */
  readonly truncateInodePages: Activity;
  /** The mmap_lock of address space 0; those of the others follow it. */
  private readonly firstLock: number;
  /** Per address space: 1 while it lives. */
  private readonly live: I32Pool;

  /**
   * @param tables pages for the host's own page tables
   * @param pe the host CPU's own translation and TLB maintenance
   */
  constructor(
    readonly sim: Sim,
    readonly phys: PhysicalMemory,
    tables: TablePages,
    pe: HostPe,
    features: Pick<CpuFeatures, "tlbiRange" | "mte" | "hafdbs">,
    readonly d: MmRow,
    options: HostMmOptions = {},
  ) {
    this.mte = features.mte && d.userMte;
    this.live = sim.state.i32("mm.live", MM_LIMIT);
    this.firstLock = sim.locks.create("mmap_lock");
    for (let mm = 1; mm < MM_LIMIT; mm++) sim.locks.create(`mmap_lock.${mm}`);
    const pages = new PageLocks(sim);
    this.pages = pages;
    this.frames = new Frames(sim, phys, {
      basePfn: phys.ramBase / 4096,
      frames: phys.ramSize / 4096,
      hugetlb: { 9: options.hugetlbPages ?? 16, ...options.hugetlb },
    });
    if (d.lazyfreeBatch !== "none") this.frames.lru = new LruBatches(sim, this.frames, d, options.cpus ?? 1);
    if (this.frames.lru?.activity !== undefined) this.frames.accessed = this.frames.lru;
    this.files = new Files(sim, this.frames);
    this.vmas = new Vmas(sim);
    this.notifiers = new MmuNotifiers(sim);
    this.pt = new HostPageTables(sim, tables, new HostTlbFlush(pe, features.tlbiRange && d.hostTlbiRange, d.tlbiRangeScale === "falling"));
    this.zap = new Zap(sim, this.frames, this.pt, this.vmas, this.files, d);
    const rmap = new Rmap(this.frames, this.pt, this.vmas, this.files);
    this.rmap = rmap;
    const migration = new MigrationEntries(phys, this.frames, this.pt, this.vmas, this.zap.prot, rmap, d);
    this.split = new SplitHugePmd(sim, this.frames, this.pt, this.notifiers, this.zap, pages, this.vmas, rmap, migration, d);
    this.fault = new HostFault(sim, phys, this.frames, this.pt, this.vmas, this.files, this.notifiers, this.zap, this.split, pages, d, {
      ...options,
      hardwareAf: features.hafdbs,
    });
    this.gup = new Gup(sim, this.frames, this.pt, this.vmas, this.fault, this, d);
    this.huge = new HugePages(sim, this.frames, this.pt, this.vmas, this.notifiers, this.fault, this.split, this, pages, d);
    this.userAccess = new UserAccess(sim, phys, pe, this.pt, this.vmas, this.fault, this, d);
    const failure = new MemoryFailure(
      sim,
      this.frames,
      this.pt,
      this.notifiers,
      this.gup,
      this.split,
      pages,
      rmap,
      this.vmas,
      this.files,
      this.fault.hugetlb,
      d,
    );
    this.ghes = new Ghes(sim, phys, failure, d);
    this.userAccess.ghes = this.ghes;
    this.migrate = new Migrate(sim, this.frames, this.pt, this.notifiers, rmap, migration, pages, d);
    this.reclaim = new Reclaim(sim, this.frames, this.pt, this.notifiers, rmap, pages, d);
    const breakKsm = new BreakKsm(sim, this.frames, this.pt, this.fault, d);
    const ksmEntry = new KsmEntry(sim, this.frames, this.pt, this.vmas, this.notifiers, this.zap.prot, rmap, d);
    this.ksm = new Ksm(sim, phys, this.frames, this.pt, this.vmas, this, pages, rmap, this.split, ksmEntry, breakKsm, d);
    this.vmaChange = new VmaChange(this);
    this.zapVma = new ZapVma(this);
    this.userfaultfd = new Userfaultfd(this, this.vmaChange, this.fault, phys);
    const splitFile = new SplitFilePage(this);
    this.split.filePages = splitFile;
    const truncate = new Truncate(this, this.zapVma, splitFile, this.fault.fileFault.shmemHuge);
    this.truncateInodePages = truncate.truncateInodePages;
    const retract = new RetractTable(sim, this.frames, this.pt, this.notifiers, this, pages, d);
    const pteMapped = new PteMappedThp(sim, this.frames, this.files, this.pt, this.vmas, this.fault, retract, this, pages, d);
    const collapseFile = new CollapseFile(
      sim,
      this.frames,
      this.files,
      this.pt,
      this.vmas,
      this.notifiers,
      this.fault,
      retract,
      pteMapped,
      this,
      pages,
      d,
    );
    const munmap = new Munmap(this, this.vmaChange, this.zapVma);
    const fork = new Fork(this);
    const advised = new MadvisePages(this, rmap, this.reclaim.ageRange);
    this.syscalls = Object.freeze({
      mmap: new Mmap(this, this.vmaChange, munmap).mmap,
      munmap: munmap.munmap,
      mprotect: new Mprotect(this, this.vmaChange).mprotect,
      madvise: new Madvise(this, this.vmaChange, this.zapVma, truncate, failure, breakKsm, collapseFile.collapse, advised).madvise,
      mremap: new Mremap(this, this.vmaChange, munmap, breakKsm).mremap,
      ftruncate: truncate.ftruncate,
      fallocate: truncate.fallocate,
      fork: fork.fork,
      exitMm: fork.exitMmap,
    });
    this.createMm();
  }

  get thp(): ThpSettings {
    return this.fault.thp;
  }
  /** (mm, hva, size, write, lo, hi): the VMM's own load or store. */
  get hostAccess(): Activity {
    return this.userAccess.hostAccess;
  }
  /** (mm, start, end, type): start and end of a range in which no host entry changes. */
  get invalidateRange(): Activity {
    return this.notifiers.invalidateRange;
  }
  /** (mm, start, end): zap_vma_ptes. */
  get zapVmaPtes(): Activity {
    return this.zapVma.zapVmaPtes;
  }
  /** (file, first byte, end byte, evenCows): unmap_mapping_range. */
  get unmapMappingRange(): Activity {
    return this.zapVma.unmapMappingRange;
  }

  mmapLock(mm: number): number {
    return (this.firstLock + mm) | 0;
  }

  createMm(): number {
    let mm = 0;
    while (mm < MM_LIMIT && this.live.a[mm] !== 0) mm++;
    if (mm === MM_LIMIT) return -1;
    this.live.set(mm, 1);
    this.vmas.ensureMm(mm);
    this.pt.create(mm);
    return mm;
  }

  destroyMm(mm: number): void {
    this.pt.destroy(mm);
    this.live.set(mm, 0);
  }

  isLive(mm: number): boolean {
    return mm >= 0 && mm < MM_LIMIT && this.live.a[mm] !== 0;
  }

  /** An address space's VMAs in the order of their addresses, as /proc/PID/maps shows them: for people. */
  maps(mm: number): readonly VmaView[] {
    const out: VmaView[] = [];
    const { vmas, files } = this;
    for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) {
      const file = vmas.file(v);
      out.push(
        Object.freeze({
          start: vmas.start(v),
          end: vmas.end(v),
          flags: Object.freeze(vmFlagNames(vmas.flags(v))),
          offset: file < 0 ? 0 : vmas.pgoff(v) * 4096,
          file: files.kindName(file),
          fd: file,
          pageProt: PAGE_PROTS[vmas.pageProt(v)] ?? "normal",
        }),
      );
    }
    return Object.freeze(out);
  }
}
