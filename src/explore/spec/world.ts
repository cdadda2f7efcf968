/**
 * The machine as the specification sees it. Of the model it takes what the VMM has asked for (VMAs, memslots), what
 * the hardware reads (the words of the tables, decoded here anew), which frames are what, and the log's bits.
 */
import type { Machine } from "../../machine.js";
import type { Area, GuestLeaf, Leaf, Slot, Type, World } from "./spec.js";
import { guestMemAttr, guestWrites, hostWrites, leavesOf, type TableMemory } from "./tables.js";

/** include/linux/mm.h, numbered as vmflags.ts has them. */
const VM_WRITE = 1 << 1;
const VM_SHARED = 1 << 3;
const VM_PFNMAP = 1 << 8;
const VM_MIXEDMAP = 1 << 10;
const VM_MTE_ALLOWED = 1 << 18;
const VM_ALLOW_ANY_UNCACHED = 1 << 19;
const VM_UFFD_WP = 1 << 28;
const VM_FORCE_CACHED = 1 << 30;
/** vm_page_prot: pgprot_writecombine. */
const WRITE_COMBINE = 2;
/** KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY (include/uapi/linux/kvm.h). */
const LOG_DIRTY = 1;
const READONLY = 2;
/** KVM_MEM_DMABUF, as proposed; the number is the model's. */
const DMABUF = 1 << 4;
/** KVM_MEM_GUEST_MEMFD */
const GUEST_MEMFD = 1 << 2;
/** The GICv2 CPU interface, which KVM maps by itself. */
const GICV_PAGE = 0x08040000 / 4096;

/** MemAttr[3:0] without and with FWB (Arm ARM D8.6.6). */
const TYPES: readonly ReadonlyMap<number, Type>[] = [
  new Map<number, Type>([
    [15, "write-back"],
    [5, "non-cacheable"],
    [1, "device"],
  ]),
  new Map<number, Type>([
    [6, "write-back"],
    [7, "write-back"],
    [5, "non-cacheable"],
    [1, "device"],
  ]),
];

const MEMORY_TYPES: Readonly<Record<string, readonly Type[]>> = {
  "write-back": ["write-back"],
  "non-cacheable": ["write-back", "non-cacheable"],
};

/** Types of device pages in an area, by the release's decisions. */
function deviceTypes(m: Machine, flags: number, pageProt: number): Type[] {
  const { d } = m.kvm;
  const plain = pageProt === 0 || pageProt === 3;
  const cached = d.cacheablePfnmap === "write-back" || (d.cacheablePfnmap === "write-back-if-flagged" && (flags & VM_FORCE_CACHED) !== 0);
  if (cached && plain) return ["write-back"];
  const uncached =
    d.deviceType === "nc-for-all" ||
    (d.deviceType === "nc-if-vma-allows" && (flags & VM_ALLOW_ANY_UNCACHED) !== 0) ||
    (d.deviceType === "pte-bit" && (flags & VM_UFFD_WP) !== 0) ||
    (d.deviceType === "follows-vma" && pageProt === WRITE_COMBINE);
  return [uncached ? "non-cacheable" : "device"];
}

function areasOf(m: Machine): Area[] {
  const { vmas, mmLimit } = m.mm;
  const out: Area[] = [];
  for (let mm = 0; mm < mmLimit; mm++) {
    if (!m.mm.isLive(mm)) continue;
    for (let v = vmas.first(mm); v >= 0; v = vmas.next(v)) {
      const flags = vmas.flags(v);
      out.push({
        mm,
        start: vmas.start(v),
        end: vmas.end(v),
        writes: (flags & VM_WRITE) !== 0,
        shared: (flags & VM_SHARED) !== 0,
        pfnmap: (flags & VM_PFNMAP) !== 0,
        special: (flags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0,
        tags: m.kvm.d.mteVma === "not-shared" ? (flags & VM_SHARED) === 0 : (flags & VM_MTE_ALLOWED) !== 0,
        firstPage: vmas.pgoff(v),
        deviceTypes: deviceTypes(m, flags, vmas.pageProt(v)),
      });
    }
  }
  return out;
}

function exportedBy(m: Machine, slot: number, flags: number): ((page: number) => number) | undefined {
  const { memslots, guestMemfd } = m.kvm;
  if ((flags & GUEST_MEMFD) !== 0) return (page) => guestMemfd.pfnNow(slot, memslots.baseGfn(slot) + page);
  if ((flags & DMABUF) !== 0) return (page) => m.vfioPci.dmabufs.importedPfn(memslots.userspaceAddr(slot) + page * 4096);
  return undefined;
}

function slotsOf(m: Machine, vm: number): Slot[] {
  const { memslots, dirtyLog, rings, vms } = m.kvm;
  const out: Slot[] = [];
  const mm = vms.mm(vm);
  const ringed = vms.ringSize(vm) !== 0;
  for (let at = memslots.nextInHvaRange(vm, -1, 0, Infinity); at >= 0; at = memslots.nextInHvaRange(vm, at, 0, Infinity)) {
    const slot = memslots.at(vm, at);
    const flags = memslots.flags(slot);
    const logged = (flags & LOG_DIRTY) !== 0 && (ringed || dirtyLog.hasBitmap(slot));
    const id = memslots.id(slot);
    out.push({
      id,
      mm,
      gfn: memslots.baseGfn(slot),
      pages: memslots.npages(slot),
      hva: memslots.userspaceAddr(slot),
      readonly: (flags & READONLY) !== 0,
      valid: memslots.valid(slot),
      dirty: logged ? (page) => dirtyLog.isDirty(slot, page) || (ringed && rings.holds(vm, id, page)) : undefined,
      exported: exportedBy(m, slot, flags),
      exporter: (flags & GUEST_MEMFD) !== 0 ? "its guest_memfd" : "the exporter of its dma-buf",
    });
  }
  return out;
}

/** What is there now. */
export function worldOf(m: Machine): World {
  const { d, vms } = m.kvm;
  const { frames, pt } = m.mm;
  const memory: TableMemory = { words: m.tables.words.a, base: m.tables.base };
  const types = TYPES[m.features.s2fwb && d.stage2Fwb ? 1 : 0]!;
  const areas = areasOf(m);
  const host: Leaf[][] = [];
  for (let mm = 0; mm < m.mm.mmLimit; mm++)
    host.push(
      m.mm.isLive(mm) ? leavesOf(memory, pt.root(mm), 0).map((l) => ({ at: l.at, size: l.size, page: l.page, writes: hostWrites(l) })) : [],
    );
  const guests: World["vms"][number][] = [];
  for (let vm = 0; vm < vms.count; vm++) {
    const level = vms.startLevel(vm);
    const entries = Math.min(vms.rootPages(vm) * 512, vms.ipaSize(vm) / [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12][level]!);
    const leaves = vms.alive(vm) ? leavesOf(memory, vms.root(vm), level, entries) : [];
    const guest: GuestLeaf[] = leaves.map((l) => ({
      at: l.at,
      size: l.size,
      page: l.page,
      writes: guestWrites(l),
      type: types.get(guestMemAttr(l)),
    }));
    guests.push({ mte: vms.mte(vm), slots: vms.alive(vm) ? slotsOf(m, vm) : [], guest });
  }
  return {
    areas,
    host,
    vms: guests,
    page: (pfn, area) => {
      const memory =
        d.deviceTest === "no-struct-page"
          ? frames.pfnValid(pfn)
          : frames.isMapMemory(pfn) || (d.deviceTest === "vma-and-not-linear-map" && area?.special === false);
      // Mapped at slot creation, a page is device memory whatever is behind it.
      const eager: readonly Type[] = d.eagerDeviceMapping && area?.pfnmap === true ? ["device"] : [];
      return {
        memory,
        zero: frames.isZeroPage(pfn) || frames.isHugeZeroPage(pfn),
        types: [...(memory ? MEMORY_TYPES[d.stage2Memory]! : (area?.deviceTypes ?? ["device", "non-cacheable"])), ...eager],
      };
    },
    own: (_ipaPage, page) => page === GICV_PAGE || page === GICV_PAGE + 1,
  };
}
