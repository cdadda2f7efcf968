/**
 * The specification: what guest and host mappings may be, as plain sets and plain rules. Nothing here knows how
 * the model keeps or changes them; who asks reads the machine (world.ts) and compares.
 *
 * State     | meaning
 * areas     | the address spaces as the VMM has asked for them: ranges with permissions
 * slots     | which guest pages lie at which host addresses
 * host      | host address -> page, writable
 * guest     | guest page (IPA) -> page, writable, type
 * dirty     | pages that the dirty log names
 *
 * Rules, each for every page of every leaf:
 * guest page | its slot's host address has that page, or is to have it by arithmetic; or the exporter of the slot's dma-buf gives it
 *            | writable only if the host's entry or area is, and the slot is not read-only
 *            | in a VM with memory tags only from an area that allows them
            | of the type that the release gives to that kind of page
 *            | writable and logged only if it is in the dirty set
 * host page  | lies in an area, writable only if the area is
 *            | in a private area: writable only if no one else maps the page
 */
export interface Area {
  readonly mm: number;
  readonly start: number;
  readonly end: number;
  readonly writes: boolean;
  readonly shared: boolean;
  /** VM_PFNMAP. */
  readonly pfnmap: boolean;
  /** VM_PFNMAP or VM_MIXEDMAP. */
  readonly special: boolean;
  /** Of a linear PFNMAP area: the page of its first address. */
  readonly firstPage: number;
  /** A VM with memory tagging may map it. */
  readonly tags: boolean;
  /** Types that the release may give to device pages of it. */
  readonly deviceTypes: readonly Type[];
}

export type Type = "write-back" | "non-cacheable" | "device";

export interface Slot {
  readonly id: number;
  readonly mm: number;
  readonly gfn: number;
  readonly pages: number;
  readonly hva: number;
  readonly readonly: boolean;
  /** Published, and not on its way out. */
  readonly valid: boolean;
  readonly dirty: ((page: number) => boolean) | undefined;
  /** Of a slot without host addresses: the page that the exporter of its dma-buf, or its guest_memfd, gives, -1 none. */
  readonly exported: ((page: number) => number) | undefined;
  /** Who that is. */
  readonly exporter: string;
}

/** A leaf of a table. */
export interface Leaf {
  readonly at: number;
  readonly size: number;
  readonly page: number;
  readonly writes: boolean;
}
export interface GuestLeaf extends Leaf {
  readonly type: Type | undefined;
}

export interface Page {
  /** Memory of the machine, as the release tests it; device memory otherwise. */
  readonly memory: boolean;
  /** The page of zeroes, which any number of areas share. */
  readonly zero: boolean;
  /** The types that the release gives to it. */
  readonly types: readonly Type[];
}

export interface World {
  readonly areas: readonly Area[];
  /** Per address space. */
  readonly host: readonly (readonly Leaf[])[];
  /** Per VM. */
  readonly vms: readonly { readonly mte: boolean; readonly slots: readonly Slot[]; readonly guest: readonly GuestLeaf[] }[];
  page(pfn: number, area: Area | undefined): Page;
  /** Pages that belong to KVM itself and have no slot. */
  own(ipaPage: number, page: number): boolean;
}

const BYTES = 4096;
const hex = (n: number): string => `0x${n.toString(16)}`;

/** The leaf of an ordered list that holds an address. */
function leafAt(leaves: readonly Leaf[], at: number): Leaf | undefined {
  return leaves.find((l) => l.at <= at && at < l.at + l.size);
}
const areaAt = (w: World, mm: number, at: number): Area | undefined => w.areas.find((a) => a.mm === mm && a.start <= at && at < a.end);

/** @returns the first thing in a VM's guest mapping that the specification does not allow */
export function wrongGuest(w: World, quiet: () => boolean): string | undefined {
  for (const { mte, slots, guest } of w.vms)
    for (const leaf of guest)
      for (let off = 0; off < leaf.size; off += BYTES) {
        const wrong = wrongGuestPage(w, slots, leaf, off, quiet, mte);
        if (wrong !== undefined) return `guest page ${hex(leaf.at + off)} -> ${hex((leaf.page + off / BYTES) * BYTES)}: ${wrong}`;
      }
  return undefined;
}

function wrongGuestPage(
  w: World,
  slots: readonly Slot[],
  leaf: GuestLeaf,
  off: number,
  quiet: () => boolean,
  mte: boolean,
): string | undefined {
  const gfn = (leaf.at + off) / BYTES;
  const page = leaf.page + off / BYTES;
  const slot = slots.find((s) => s.gfn <= gfn && gfn < s.gfn + s.pages);
  if (slot === undefined) return w.own(gfn, page) ? undefined : "it is in no memslot";
  if (!slot.valid) return undefined;
  const hva = slot.hva + (gfn - slot.gfn) * BYTES;
  const area = slot.exported === undefined ? areaAt(w, slot.mm, hva) : undefined;
  const host = leafAt(w.host[slot.mm] ?? [], hva);
  const expected = slot.exported?.(gfn - slot.gfn) ?? hostPage(host, area, hva);
  const by = slot.exported === undefined ? `host address ${hex(hva)}` : slot.exporter;
  if (expected !== page) return expected < 0 ? `${by} is not mapped` : `${by} has ${hex(expected * BYTES)}`;
  if (leaf.writes && slot.readonly) return "writable in a read-only slot";
  if (leaf.writes && slot.exported === undefined && !(host?.writes ?? area!.writes)) return `writable, and host address ${hex(hva)} is not`;
  const kind = w.page(page, area);
  if (leaf.type === undefined || !kind.types.includes(leaf.type))
    return `its type is ${leaf.type ?? "none that KVM uses"}, not ${kind.types.join(" or ")}`;
  if (mte && kind.memory && area?.tags === false) return "the VM has memory tags, and the area does not allow them";
  if (leaf.writes && kind.memory && slot.dirty?.(gfn - slot.gfn) === false && quiet()) return "writable, logged, and not in the dirty set";
  return undefined;
}

/** The page of a host address, by its entry or by arithmetic; -1 none. */
function hostPage(host: Leaf | undefined, area: Area | undefined, hva: number): number {
  if (host !== undefined) return host.page + (hva - host.at) / BYTES;
  return area?.pfnmap === true ? area.firstPage + (hva - area.start) / BYTES : -1;
}

/** @returns the first thing in a host mapping that the specification does not allow */
export function wrongHost(w: World): string | undefined {
  const mapped = new Map<number, number>();
  for (const leaves of w.host)
    for (const l of leaves) for (let n = 0; n < l.size / BYTES; n++) mapped.set(l.page + n, (mapped.get(l.page + n) ?? 0) + 1);
  for (const [mm, leaves] of w.host.entries())
    for (const leaf of leaves) {
      const area = areaAt(w, mm, leaf.at);
      const said = `host address ${hex(leaf.at)} -> ${hex(leaf.page * BYTES)}`;
      if (area === undefined) return `${said}: no area is there`;
      if (leaf.at + leaf.size > area.end) return `${said}: its ${leaf.size / BYTES} pages reach beyond the area`;
      if (leaf.writes && !area.writes) return `${said}: writable, and its area is not`;
      const kind = w.page(leaf.page, area);
      if (!leaf.writes || area.shared || area.pfnmap) continue;
      if (kind.zero) return `${said}: the page of zeroes is writable`;
      for (let n = 0; n < leaf.size / BYTES; n++)
        if (mapped.get(leaf.page + n)! > 1) return `${said}: writable in a private area, and mapped ${mapped.get(leaf.page + n)} times`;
    }
  return undefined;
}
