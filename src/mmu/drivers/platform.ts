/**
 * Character devices that map page frames without being vfio-pci: the other owners of PFNMAP and
 * MIXEDMAP mappings that a VMM can put behind a memslot. Each stands for a kind of real driver, and
 * differs from the others in what KVM can tell of it: the VMA's flags and memory type, whether there
 * is a struct page, a linear-map address, a reference count, and who writes the host entries.
 *
 * name            | stands for                                   | flags        | memory type | struct page
 * /dev/mem        | drivers/char/mem.c with STRICT_DEVMEM        | PFNMAP       | noncached   | no
 * /dev/remap_ram  | kernel pages given out by remap_pfn_range    | PFNMAP       | cached      | yes, counted
 * /dev/high_order | pages of one large allocation, not compound  | PFNMAP       | cached      | yes, only the first counted
 * /dev/drm_shmem  | drm_gem_shmem_helper.c with pfn_mkwrite      | PFNMAP       | write-comb. | yes, counted
 * /dev/vgpu       | a mediated GPU with a fault handler          | PFNMAP       | noncached   | no
 * /dev/gpu_memory | coherent GPU memory (nvgrace-gpu's usemem)   | PFNMAP       | cached      | no
 * /dev/dax        | persistent memory (fs/dax.c, ZONE_DEVICE)    | MIXEDMAP     | cached      | yes, not in the linear map
 * /dev/insert_page| vm_insert_page of pages without __GFP_COMP     | MIXEDMAP     | cached      | yes, only the first counted
 * /dev/uncached   | the driver proposed in Mar 2015     | PFNMAP       | write-comb. | yes, counted, locked
 * /dev/ttm        | VRAM by vmf_insert_mixed (ttm_bo_vm.c, v5.4) | MIXEDMAP, IO | noncached   | no
 */
import type { PhysicalMemory } from "../../arch/phys.js";
import { ARG, BLOCKED, type Activity } from "../../sim/agents.js";
import { EINVAL, ENOENT, ENOMEM, EPERM } from "../../sim/errno.js";
import type { Sim } from "../../sim/sim.js";
import type { F64Pool, I32Pool } from "../../sim/state.js";
import type { VmOperations } from "../files.js";
import { ORDER_PAGE, ORDER_PMD } from "../frames.js";
import type { HostMm } from "../mm.js";
import { VM_FAULT_NOPAGE, VM_FAULT_RETRY, VM_FAULT_SIGBUS } from "../vmfault.js";
import { TO_THE_END } from "../zapvma.js";
import {
  isCowMapping,
  PAGE_PROT_NONCACHED,
  PAGE_PROT_NORMAL,
  PAGE_PROT_WRITECOMBINE,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_FORCE_CACHED,
  VM_IO,
  VM_MIXEDMAP,
  VM_PFNMAP,
} from "../vmflags.js";
import { DeviceMemory } from "./devicememory.js";

const MM = ARG;
const VMA = ARG + 1;
const ADDR = ARG + 2;
// ttmBoEvict
const FILE = ARG;

/** Device memory of each kind: above the BARs and the window of translation tables. */
const DEVICE_BASE = 0xe000000000;
const DEVICE_SIZE = 0x1000000;
/** What remap_pfn_range adds to a VMA. */
const REMAPPED = VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP;

/** Where a driver's pages come from. */
type Backing =
  /** Memory of the device, outside RAM. */
  | "device"
  /** One block of RAM, each page with a reference of its own. */
  | "pages"
  /** The same without references, except on the first page. */
  | "uncounted"
  /** Single pages of RAM, wherever they lie. */
  | "scattered"
  /** Whatever the offset says. */
  | "physical";

interface Kind {
  readonly name: string;
  readonly backing: Backing;
  readonly flags: number;
  readonly pageProt: number;
  /** remap_pfn_range at mmap time; else the fault handler inserts one page at a time. */
  readonly atMmap: boolean;
  /** vm_pgoff becomes the pfn of the first page. */
  readonly pgoff: boolean;
  /** The fault handler gives the pages in reverse order: they do not follow vm_pgoff. */
  readonly reversed?: boolean;
  readonly writeNotify?: boolean;
  /** Entries of pages with a struct page and a reference (vm_insert_page). */
  readonly insertsPages?: boolean;
  readonly structPage?: boolean;
  /** A buffer object that the driver moves: faults come under its reservation (dma_resv). */
  readonly moves?: boolean;
}

const KINDS: readonly Kind[] = [
  { name: "/dev/mem", backing: "physical", flags: REMAPPED, pageProt: PAGE_PROT_NONCACHED, atMmap: true, pgoff: true },
  { name: "/dev/remap_ram", backing: "pages", flags: REMAPPED, pageProt: PAGE_PROT_NORMAL, atMmap: true, pgoff: true },
  { name: "/dev/high_order", backing: "uncounted", flags: REMAPPED, pageProt: PAGE_PROT_NORMAL, atMmap: true, pgoff: true },
  {
    name: "/dev/drm_shmem",
    backing: "scattered",
    flags: REMAPPED,
    pageProt: PAGE_PROT_WRITECOMBINE,
    atMmap: false,
    pgoff: false,
    writeNotify: true,
  },
  { name: "/dev/vgpu", backing: "device", flags: REMAPPED, pageProt: PAGE_PROT_NONCACHED, atMmap: false, pgoff: true, reversed: true },
  { name: "/dev/gpu_memory", backing: "device", flags: REMAPPED, pageProt: PAGE_PROT_NORMAL, atMmap: true, pgoff: true },
  {
    name: "/dev/dax",
    backing: "device",
    flags: VM_MIXEDMAP,
    pageProt: PAGE_PROT_NORMAL,
    atMmap: false,
    pgoff: false,
    insertsPages: true,
    structPage: true,
  },
  // Pages allocated, flushed, locked and given out with remap_pfn_range as non-cacheable memory.
  { name: "/dev/uncached", backing: "pages", flags: REMAPPED, pageProt: PAGE_PROT_WRITECOMBINE, atMmap: true, pgoff: true },
  {
    name: "/dev/ttm",
    backing: "device",
    flags: VM_MIXEDMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP,
    pageProt: PAGE_PROT_NONCACHED,
    atMmap: false,
    pgoff: false,
    moves: true,
  },
  // A driver that forgot __GFP_COMP or split_page: of what it allocated in one piece only the first page can be inserted.
  {
    name: "/dev/insert_page",
    backing: "uncounted",
    flags: VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP,
    pageProt: PAGE_PROT_NORMAL,
    atMmap: true,
    pgoff: false,
    insertsPages: true,
  },
];

/** The names that `open` knows. */
export const PLATFORM_DEVICES: readonly string[] = KINDS.map((k) => k.name);

/** One driver: its callbacks, and the device's memory if it has any. */
class PlatformDriver {
  readonly ops: VmOperations;
  readonly memory: DeviceMemory | undefined;
  /** The phase in which a fault waits for a reservation. */
  readonly waiting: number;

  constructor(
    drivers: PlatformDrivers,
    sim: Sim,
    phys: PhysicalMemory,
    readonly kind: Kind,
    index: number,
  ) {
    const short = kind.name.slice(5);
    const source = `a driver like ${kind.name}`;
    const { agents } = sim;
    this.memory =
      kind.backing === "device"
        ? new DeviceMemory(sim, phys, `drivers.${short}`, DEVICE_BASE + index * 0x100000000, DEVICE_SIZE)
        : undefined;
    const mmap: Activity = agents.activity(`${short}.mmap`, source, 2, [["mmap", (f) => drivers.mmap(f, this)]]);
    const fault: Activity = agents.activity(`${short}.fault`, source, 4, [
      ["fault", (f) => drivers.fault(f, this)],
      ["reserved", (f) => drivers.waitReserved(f)],
    ]);
    this.waiting = fault.first + 1;
    this.ops = { mmap, fault, writeNotify: kind.writeNotify === true };
  }
}

export class PlatformDrivers {
  private readonly drivers: readonly PlatformDriver[];
  /** (file) -> R0 0 | -errno: the buffer behind a file of /dev/ttm is moved: reserved, its mappings taken away, its pages others. */
  readonly ttmBoEvict: Activity;
  /** The reservation object of TTM's buffers. */
  private readonly reservation: number;
  /** Per file: the number of its first page in `pages`. */
  private readonly first: I32Pool;
  /** Page frames of all open files, in the order of their offsets. [used] in `count`. */
  private readonly pages: F64Pool;
  private readonly count: I32Pool;

  constructor(
    sim: Sim,
    phys: PhysicalMemory,
    private readonly mm: HostMm,
  ) {
    this.first = sim.state.i32("drivers.first", 4);
    this.pages = sim.state.f64("drivers.pages", 16);
    this.count = sim.state.i32("drivers.count", 1);
    this.reservation = sim.locks.create("dma_resv");
    this.ttmBoEvict = sim.agents.activity("ttmBoEvict", "drivers/gpu/drm/ttm/ttm_bo.c ttm_bo_evict", 1, [
      ["reserve", (f) => this.evict(f)],
      ["move", (f) => this.moved(f)],
    ]);
    this.drivers = KINDS.map((k, i) => new PlatformDriver(this, sim, phys, k, i));
    for (const { ops } of this.drivers) mm.files.declareDriver(ops);
    for (const { kind, memory } of this.drivers)
      if (memory !== undefined && kind.structPage === true)
        mm.frames.addRange({ pfn: memory.pfn, frames: DEVICE_SIZE / 4096, structPage: true, linear: false });
  }

  /** Opens a device by name. @param size bytes of its memory that the file shows @returns file descriptor or -errno */
  open(name: string, size: number): number {
    const driver = this.drivers.find((d) => d.kind.name === name);
    if (driver === undefined) return -ENOENT;
    const { files, phys } = this.mm;
    const npages = Math.ceil(size / 4096);
    if (size < 0) return -EINVAL;
    if (driver.kind.backing !== "physical" && npages * 4096 > phys.ramSize) return -ENOMEM;
    if (driver.memory !== undefined && npages * 4096 > DEVICE_SIZE) return -EINVAL;
    const at = this.count.a[0]!;
    if (driver.kind.backing !== "physical") {
      this.pages.ensure(at + npages);
      if (!this.allocate(driver, at, npages)) return -ENOMEM;
      this.count.set(0, at + npages);
    }
    const file = files.openDevice(driver.ops);
    files.setSize(file, npages * 4096);
    this.first.ensure(file + 1);
    this.first.set(file, at);
    return file;
  }

  private driverOf(file: number): PlatformDriver | undefined {
    const ops = this.mm.files.vmOps(file);
    return this.drivers.find((d) => d.ops === ops);
  }
  /** The name of the device that a file was opened as, or undefined. */
  nameOf(file: number): string | undefined {
    return this.driverOf(file)?.kind.name;
  }

  /** The device resets: its memory is as it was at first. @returns its name and place, undefined for one without memory */
  reset(file: number): { readonly name: string; readonly base: number; readonly size: number } | undefined {
    const driver = this.driverOf(file);
    if (driver?.memory === undefined) return undefined;
    driver.memory.reset();
    return { name: driver.kind.name.slice(5), base: driver.memory.base, size: DEVICE_SIZE };
  }

  private allocate(driver: PlatformDriver, at: number, npages: number): boolean {
    const { frames } = this.mm;
    const { backing } = driver.kind;
    for (let i = 0, head = -1; i < npages; i++) {
      let pfn: number;
      if (driver.memory !== undefined) pfn = driver.memory.pfn + (driver.kind.reversed === true ? npages - 1 - i : i);
      else if (backing === "scattered") {
        pfn = frames.alloc(ORDER_PAGE);
        if (pfn >= 0) frames.clear(pfn, ORDER_PAGE);
        // Every second page goes to another buffer of the driver's.
        if (frames.alloc(ORDER_PAGE) < 0) return false;
      } else {
        if (i % 512 === 0) head = this.allocateBlock(backing === "pages", driver.kind.pageProt !== PAGE_PROT_NORMAL);
        pfn = head < 0 ? -1 : head + (i % 512);
      }
      if (pfn < 0) return false;
      this.pages.set(at + i, pfn);
    }
    return true;
  }

  /** alloc_pages of 2 MiB without __GFP_COMP: only the first page has a reference, unless the driver splits it. */
  private allocateBlock(counted: boolean, uncached: boolean): number {
    const { frames } = this.mm;
    const head = frames.alloc(ORDER_PMD);
    if (head < 0) return -1;
    frames.clear(head, ORDER_PMD);
    if (uncached) for (let i = 0; i < 512; i++) frames.flushDcache(head + i);
    frames.splitCompound(head);
    for (let i = 0; i < 512; i++) if (counted || i === 0) frames.setCounts(head + i, 1, 0);
    return head;
  }

  /** f_op->mmap. */
  mmap(f: number, driver: PlatformDriver): number {
    const { sim, vmas, zap } = this.mm;
    const s = sim.agents.stack.a;
    const vma = s[f + VMA]!;
    if (zap.contended(s[f + MM]!, vmas.start(vma), vmas.end(vma))) return BLOCKED;
    return sim.agents.ret(f, this.map(driver, s[f + MM]!, vma));
  }

  /** vm_ops->fault. A buffer that is reserved by somebody else is waited for without mmap_lock (ttm_bo_vm_reserve). */
  fault(f: number, driver: PlatformDriver): number {
    const { sim, zap } = this.mm;
    const s = sim.agents.stack.a;
    if (zap.contended(s[f + MM]!, s[f + ADDR]!, s[f + ADDR]! + 1)) return BLOCKED;
    if (driver.kind.moves !== true) return sim.agents.ret(f, this.insert(driver, s[f + MM]!, s[f + VMA]!, s[f + ADDR]!));
    if (!sim.locks.tryWrite(this.reservation)) {
      sim.locks.unlockRead(this.mm.mmapLock(s[f + MM]!));
      return driver.waiting;
    }
    sim.locks.assertHeld(this.reservation); // dma_resv_assert_held
    const ret = this.insert(driver, s[f + MM]!, s[f + VMA]!, s[f + ADDR]!);
    sim.locks.unlockWrite(this.reservation);
    return sim.agents.ret(f, ret);
  }

  waitReserved(f: number): number {
    const { locks, agents } = this.mm.sim;
    return locks.heldByWriter(this.reservation) ? BLOCKED : agents.ret(f, VM_FAULT_RETRY);
  }

  private evict(f: number): number {
    const { sim } = this.mm;
    const file = sim.agents.stack.a[f + FILE]!;
    const driver = this.driverOf(file);
    if (driver?.kind.moves !== true) return sim.agents.ret(f, -EINVAL);
    if (!sim.locks.write(this.reservation)) return BLOCKED;
    return sim.agents.call(f, this.ttmBoEvict.first + 1, this.mm.unmapMappingRange, file, 0, TO_THE_END, 1);
  }

  /** The buffer's pages are others of the device now; what was stored in them goes with them. */
  private moved(f: number): number {
    const { sim, files } = this.mm;
    const file = sim.agents.stack.a[f + FILE]!;
    const { memory } = this.driverOf(file)!;
    const npages = files.size(file) / 4096;
    const first = this.first.a[file]!;
    const from = this.pages.a[first]! - memory!.pfn;
    const to = from + 2 * npages <= DEVICE_SIZE / 4096 ? from + npages : 0;
    sim.locks.assertHeld(this.reservation);
    if (Math.abs(to - from) >= npages) {
      memory!.move(from, to, npages);
      for (let i = 0; i < npages; i++) this.pages.set(first + i, memory!.pfn + to + i);
    }
    sim.locks.unlockWrite(this.reservation);
    return sim.agents.ret(f, 0);
  }

  /** @returns 0 or -errno */
  private map(driver: PlatformDriver, mm: number, vma: number): number {
    const { vmas, zap, files, frames } = this.mm;
    const { kind } = driver;
    const size = vmas.end(vma) - vmas.start(vma);
    const file = vmas.file(vma);
    const offset = vmas.pgoff(vma);
    if (kind.backing === "physical") {
      // STRICT_DEVMEM: RAM is not given out.
      for (let i = 0; i < size / 4096; i++) if (frames.isMapMemory(offset + i)) return -EPERM;
    } else {
      if (offset * 4096 + size > files.size(file)) return -EINVAL;
      if (isCowMapping(vmas.flags(vma))) return -EINVAL;
    }
    vmas.setFlags(vma, vmas.flags(vma) | kind.flags);
    vmas.setPageProt(vma, kind.pageProt);
    if (this.mm.d.vmForceCached && kind.name === "/dev/gpu_memory") vmas.setFlags(vma, vmas.flags(vma) | VM_FORCE_CACHED);
    if (kind.backing === "physical") return zap.remapPfnRange(mm, vma, vmas.start(vma), offset, size);
    const at = this.first.a[file]! + offset;
    if (kind.atMmap) {
      // A block at a time: page frames follow each other within 2 MiB at least.
      for (let i = 0; i < size / 4096; i++) {
        const page = vmas.start(vma) + i * 4096;
        const pfn = this.pages.a[at + i]!;
        if (kind.insertsPages === true && frames.refcount(pfn) === 0) return -EINVAL; // vm_insert_page: no page of its own
        const error =
          kind.insertsPages === true ? zap.insert.vmInsertPage(mm, vma, page, pfn) : zap.remapPfnRange(mm, vma, page, pfn, 4096);
        if (error !== 0) return error;
      }
    }
    // The pages of a reversed device do not follow the aperture that it names.
    if (kind.pgoff) vmas.setPgoff(vma, kind.reversed === true ? driver.memory!.pfn + offset : this.pages.a[at]!);
    return 0;
  }

  /** The page of one address. @returns VM_FAULT_* */
  private insert(driver: PlatformDriver, mm: number, vma: number, addr: number): number {
    const { vmas, zap } = this.mm;
    const { kind } = driver;
    const page = Math.floor((addr - vmas.start(vma)) / 4096);
    const offset = kind.pgoff && driver.memory !== undefined ? vmas.pgoff(vma) - driver.memory.pfn : vmas.pgoff(vma);
    const index = offset + page;
    const file = vmas.file(vma);
    if (kind.atMmap || index < 0 || index * 4096 >= this.mm.files.size(file)) return VM_FAULT_SIGBUS;
    const pfn = this.pages.a[this.first.a[file]! + index]!;
    const at = vmas.start(vma) + page * 4096;
    if (kind.insertsPages !== true) return zap.vmfInsertPfn(mm, vma, at, pfn);
    zap.insert.vmInsertPage(mm, vma, at, pfn);
    return VM_FAULT_NOPAGE;
  }
}
