/**
 * Memslots (struct kvm_memory_slot, struct kvm_memslots; virt/kvm/kvm_main.c): which guest frames lie
 * at which host addresses.
 *
 * A slot record is never changed once published, as readers under SRCU may still hold it: an update
 * makes a new record, publishes it in the place of the old one, and frees that after the grace
 * period. Per VM two ordered lists of records are kept, by guest frame and by host address.
 *
 * word          | meaning                        double      | meaning
 * 0 VM          | owner + 1, 0 free record       0 BASE_GFN  |
 * 1 ID          | slot number of the ioctl       1 NPAGES    |
 * 2 FLAGS       | KVM_MEM_*, KVM_MEMSLOT_INVALID 2 USERSPACE_ADDR
 * 3 BITMAP      | dirty bitmap + 1, 0 none       3 MAX_END   | largest host end of the slots up to here by hva
 * 4 NEXT_FREE   | free list, record + 1
 * 5 GMEM_FILE   | guest_memfd + 1, 0 none      4 GMEM_PGOFF | its page behind the first frame
 */
import type { Row } from "../sim/decisions.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MEMSLOT_INVALID } from "./ports.js";
import type { Vms } from "./vm.js";

export { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MEMSLOT_INVALID };

export const memslotsPublished = declareEvent("faultline", "memslots_published", "a new set of memslots became visible to faults", [
  { name: "vm", kind: "dec" },
  { name: "generation", kind: "dec" },
  { name: "slot", kind: "dec" },
  { name: "base_gfn", kind: "hex" },
  { name: "npages", kind: "hex" },
  { name: "flags", kind: "hex" },
]);

const VM = 0;
const ID = 1;
const FLAGS = 2;
const BITMAP = 3;
const NEXT_FREE = 4;
const GMEM_FILE = 5;
const WORDS = 6;

const BASE_GFN = 0;
const NPAGES = 1;
const USERSPACE_ADDR = 2;
const MAX_END = 3;
const GMEM_PGOFF = 4;
const DOUBLES = 5;

/**
 * Per VM: offset of its two ordered lists in `order`, their capacity, their length; offset and size of
 * its table from slot number to record + 1.
 */
const L_OFFSET = 0;
const L_CAPACITY = 1;
const L_LENGTH = 2;
const L_IDS = 3;
const L_ID_COUNT = 4;
const L_WORDS = 6;

/** No slot. */
export const NO_SLOT = -1;
/** KVM_HVA_ERR_BAD: no slot, or a write to a read-only one. */
export const HVA_ERR = -1;

export class Memslots {
  private readonly w: I32Pool;
  private readonly f: F64Pool;
  private readonly lists: I32Pool;
  /** Ordered records: a VM's list by gfn, then its list by hva, each `capacity` long. */
  private readonly order: I32Pool;
  /** [0] records ever used, [1] first free record + 1, [2] words of `order` in use. */
  private readonly meta: I32Pool;
  private readonly byTree: boolean;
  /** Per record: the VM + 1 in whose lists it stands, 0 none. */
  private readonly published: I32Pool;
  /** The record that was found last: a guess, whichever VM is asked about (lru_slot, last_used_slot). */
  private lastUsed = 0;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    d: Row<typeof kvmTableDecisions>,
  ) {
    this.w = sim.state.i32("kvm.memslots", WORDS * 4);
    this.f = sim.state.f64("kvm.memslots.wide", DOUBLES * 4);
    this.lists = sim.state.i32("kvm.memslots.lists", L_WORDS);
    this.order = sim.state.i32("kvm.memslots.order", 64);
    this.meta = sim.state.i32("kvm.memslots.meta", 3);
    this.published = sim.state.i32("kvm.memslots.published", 4);
    this.byTree = d.memslotHvaOrder === "hva-tree";
  }

  // ------------------------------------------------------------------------------ lookups

  /** Slots of a VM, those being deleted or moved included. */
  count(vm: number): number {
    return this.lists.a[Math.imul(vm, L_WORDS) + L_LENGTH] ?? 0;
  }

  /** gfn_to_memslot: the slot that contains gfn, invalid or not, as the last one if that does. @returns record or -1 */
  find(vm: number, gfn: number): number {
    const slot = this.lastUsed | 0;
    if (this.published.a[slot] === ((vm + 1) | 0)) {
      const f = this.f.a;
      const at = Math.imul(slot, DOUBLES);
      const base = f[at + BASE_GFN]!;
      if (gfn >= base && gfn < base + f[at + NPAGES]!) return slot;
    }
    return this.search(vm, gfn) | 0;
  }
  /** search_memslots. */
  private search(vm: number, gfn: number): number {
    const l = Math.imul(vm, L_WORDS);
    const offset = this.lists.a[l + L_OFFSET]!;
    const count = this.lists.a[l + L_LENGTH] ?? 0;
    const order = this.order.a;
    const f = this.f.a;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (f[Math.imul(order[offset + middle]!, DOUBLES) + BASE_GFN]! <= gfn) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return NO_SLOT;
    const slot = order[offset + low - 1]!;
    const at = Math.imul(slot, DOUBLES);
    if (gfn >= f[at + BASE_GFN]! + f[at + NPAGES]!) return NO_SLOT;
    this.lastUsed = slot;
    return slot;
  }

  /** id_to_memslot: the published record of a slot number. @returns record or -1 */
  byId(vm: number, id: number): number {
    const l = Math.imul(vm, L_WORDS);
    if (id < 0 || id >= (this.lists.a[l + L_ID_COUNT] ?? 0)) return NO_SLOT;
    return this.order.a[this.lists.a[l + L_IDS]! + id]! - 1;
  }

  id(slot: number): number {
    return this.w.a[Math.imul(slot, WORDS) + ID]!;
  }
  flags(slot: number): number {
    return this.w.a[Math.imul(slot, WORDS) + FLAGS]!;
  }
  baseGfn(slot: number): number {
    return this.f.a[Math.imul(slot, DOUBLES) + BASE_GFN]!;
  }
  npages(slot: number): number {
    return this.f.a[Math.imul(slot, DOUBLES) + NPAGES]!;
  }
  userspaceAddr(slot: number): number {
    return this.f.a[Math.imul(slot, DOUBLES) + USERSPACE_ADDR]!;
  }
  /** First host address after the slot. */
  userspaceEnd(slot: number): number {
    const at = Math.imul(slot, DOUBLES);
    return this.f.a[at + USERSPACE_ADDR]! + this.f.a[at + NPAGES]! * 4096;
  }
  /** The dirty bitmap's number (dirtylog.ts), or -1. */
  bitmap(slot: number): number {
    return (this.w.a[Math.imul(slot, WORDS) + BITMAP]! - 1) | 0;
  }
  readonly(slot: number): boolean {
    return (this.w.a[Math.imul(slot, WORDS) + FLAGS]! & KVM_MEM_READONLY) !== 0;
  }
  /** slot->gmem.file, or -1: there is none, or it was closed. */
  gmemFile(slot: number): number {
    return this.w.a[Math.imul(slot, WORDS) + GMEM_FILE]! - 1;
  }
  /** slot->gmem.pgoff: the page of the file that the slot begins with. */
  gmemPgoff(slot: number): number {
    return this.f.a[Math.imul(slot, DOUBLES) + GMEM_PGOFF]!;
  }
  setGmem(slot: number, file: number, pgoff: number): void {
    this.w.set(Math.imul(slot, WORDS) + GMEM_FILE, file + 1);
    this.f.set(Math.imul(slot, DOUBLES) + GMEM_PGOFF, pgoff);
  }
  /** memslot_is_visible: not being deleted or moved. */
  valid(slot: number): boolean {
    return slot >= 0 && (this.w.a[Math.imul(slot, WORDS) + FLAGS]! & KVM_MEMSLOT_INVALID) === 0;
  }

  /**
   * gfn_to_hva_memslot_prot: the host address of a guest frame.
   * @param slot a record or -1 @param write a write: a read-only slot answers HVA_ERR
   */
  gfnToHva(slot: number, gfn: number, write = false): number {
    if (!this.valid(slot) || (write && this.readonly(slot))) return HVA_ERR;
    const at = Math.imul(slot, DOUBLES);
    return this.f.a[at + USERSPACE_ADDR]! + (gfn - this.f.a[at + BASE_GFN]!) * 4096;
  }
  /** hva_to_gfn_memslot. */
  hvaToGfn(slot: number, hva: number): number {
    const at = Math.imul(slot, DOUBLES);
    return this.f.a[at + BASE_GFN]! + Math.floor((hva - this.f.a[at + USERSPACE_ADDR]!) / 4096);
  }

  // ---------------------------------------------------------------- slots of a host range

  /**
   * The next position whose slot meets [start, end), in the era's order (kvm_for_each_memslot, by
   * falling gfn; kvm_for_each_memslot_in_hva_range, by host address). Invalid slots are among them.
   * @param after the last position, -1 to begin @returns a position for `at`, or -1
   */
  nextInHvaRange(vm: number, after: number, start: number, end: number): number {
    const l = Math.imul(vm, L_WORDS);
    const n = this.lists.a[l + L_LENGTH] ?? 0;
    const offset = this.lists.a[l + L_OFFSET]!;
    return this.byTree
      ? this.nextByHva(offset + this.lists.a[l + L_CAPACITY]!, n, after, start, end)
      : this.nextByGfn(offset, n, after, start, end);
  }

  /** Whether any slot meets [start, end): as often as not the one that was found last. */
  meetsHvaRange(vm: number, start: number, end: number): boolean {
    const slot = this.lastUsed | 0;
    if (this.published.a[slot] === ((vm + 1) | 0) && this.userspaceAddr(slot) < end && this.userspaceEnd(slot) > start) return true;
    return this.nextInHvaRange(vm, -1, start, end) >= 0;
  }

  private nextByHva(list: number, n: number, after: number, start: number, end: number): number {
    let i = after < 0 ? this.firstEndingAfter(list, n, start) : after + 1;
    for (; i < n; i++) {
      const slot = this.order.a[list + i]!;
      if (this.userspaceAddr(slot) >= end) return -1;
      if (this.userspaceEnd(slot) > start) return i;
    }
    return -1;
  }

  /** The first position at which some slot so far ends after `start`: MAX_END rises along the list. */
  private firstEndingAfter(list: number, n: number, start: number): number {
    let low = 0;
    let high = n;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.f.a[this.order.a[list + middle]! * DOUBLES + MAX_END]! <= start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Positions count from the top: 0 is the slot with the highest gfn. */
  private nextByGfn(list: number, n: number, after: number, start: number, end: number): number {
    for (let i = after + 1; i < n; i++) {
      const slot = this.order.a[list + n - 1 - i]!;
      if (this.userspaceAddr(slot) < end && this.userspaceEnd(slot) > start) return i;
    }
    return -1;
  }

  /** The record at a position of `nextInHvaRange`. */
  at(vm: number, position: number): number {
    const l = Math.imul(vm, L_WORDS);
    const offset = this.lists.a[l + L_OFFSET]!;
    if (this.byTree) return this.order.a[offset + this.lists.a[l + L_CAPACITY]! + position]!;
    return this.order.a[offset + this.lists.a[l + L_LENGTH]! - 1 - position]!;
  }

  /** The record at place `i` by rising gfn: for listings. */
  byGfnOrder(vm: number, i: number): number {
    return this.order.a[this.lists.a[Math.imul(vm, L_WORDS) + L_OFFSET]! + i]!;
  }

  /** True if [base, base + npages) meets a slot other than `id` (kvm_check_memslot_overlap). */
  overlaps(vm: number, id: number, base: number, npages: number): boolean {
    const l = Math.imul(vm, L_WORDS);
    const list = this.lists.a[l + L_OFFSET] ?? 0;
    // Published slots do not overlap, so their ends rise with their beginnings.
    for (let i = this.lowerBound(list, this.count(vm), BASE_GFN, base + npages) - 1; i >= 0; i--) {
      const slot = this.order.a[list + i]!;
      if (this.baseGfn(slot) + this.npages(slot) <= base) return false;
      if (this.id(slot) !== id) return true;
    }
    return false;
  }

  /** The first place of an ordered list whose key is not below `key`. */
  private lowerBound(list: number, n: number, field: number, key: number): number {
    let low = 0;
    let high = n;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.f.a[this.order.a[list + middle]! * DOUBLES + field]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // ------------------------------------------------------------------------------ records

  /** A new, unpublished record. @param bitmap number of a dirty bitmap, -1 none */
  make(vm: number, id: number, flags: number, baseGfn: number, npages: number, userspaceAddr: number, bitmap: number): number {
    const slot = this.record();
    const w = Math.imul(slot, WORDS);
    const f = Math.imul(slot, DOUBLES);
    this.w.set(w + VM, vm + 1);
    this.w.set(w + ID, id);
    this.w.set(w + FLAGS, flags);
    this.w.set(w + BITMAP, bitmap + 1);
    this.f.set(f + BASE_GFN, baseGfn);
    this.f.set(f + NPAGES, npages);
    this.f.set(f + USERSPACE_ADDR, userspaceAddr);
    return slot;
  }

  private record(): number {
    const head = this.meta.a[1]!;
    if (head !== 0) {
      this.meta.set(1, this.w.a[(head - 1) * WORDS + NEXT_FREE]!);
      return head - 1;
    }
    const slot = this.meta.a[0]!;
    this.meta.set(0, slot + 1);
    this.w.ensure((slot + 1) * WORDS);
    this.f.ensure((slot + 1) * DOUBLES);
    this.published.ensure(slot + 1);
    return slot;
  }

  /** Frees a record that no reader can hold any more. */
  free(slot: number): void {
    const w = Math.imul(slot, WORDS);
    this.w.set(w + VM, 0);
    this.w.set(w + FLAGS, 0);
    this.w.set(w + BITMAP, 0);
    this.w.set(w + GMEM_FILE, 0);
    this.f.set(Math.imul(slot, DOUBLES) + GMEM_PGOFF, 0);
    this.w.set(w + NEXT_FREE, this.meta.a[1]!);
    this.meta.set(1, slot + 1);
  }

  /** kvm_free_memslots at the end of a VM: all records go, without a new generation. */
  freeAll(vm: number): void {
    for (let n = this.count(vm); n > 0; n--) {
      const slot = this.byGfnOrder(vm, n - 1);
      this.remove(vm, slot);
      this.free(slot);
    }
  }

  /**
   * rcu_assign_pointer of the new memslots: `fresh` appears, `old` vanishes (either may be -1).
   * The generation goes up; `old` stays readable until it is freed.
   */
  publish(vm: number, old: number, fresh: number): void {
    if (old >= 0) this.remove(vm, old);
    if (fresh >= 0) this.insert(vm, fresh);
    const generation = this.vms.generation(vm) + 1;
    this.vms.setGeneration(vm, generation);
    const shown = fresh >= 0 ? fresh : old;
    const npages = fresh >= 0 ? this.npages(fresh) : 0;
    this.sim.bus.emit(memslotsPublished, vm, generation, this.id(shown), this.baseGfn(shown), npages, this.flags(shown));
  }

  private remove(vm: number, slot: number): void {
    this.published.set(slot, 0);
    const l = Math.imul(vm, L_WORDS);
    const n = this.lists.a[l + L_LENGTH]!;
    const offset = this.lists.a[l + L_OFFSET]!;
    const capacity = this.lists.a[l + L_CAPACITY]!;
    for (let i = 0; i < 2; i++) {
      const list = offset + i * capacity;
      const field = i === 0 ? BASE_GFN : USERSPACE_ADDR;
      let at = this.lowerBound(list, n, field, this.f.a[Math.imul(slot, DOUBLES) + field]!);
      while (this.order.a[list + at] !== slot) at++;
      for (let k = at; k + 1 < n; k++) this.order.set(list + k, this.order.a[list + k + 1]!);
      this.order.set(list + n - 1, 0);
      if (i === 1) this.updateEnds(list, at, n - 1);
    }
    this.lists.set(l + L_LENGTH, n - 1);
    this.order.set(this.lists.a[l + L_IDS]! + this.id(slot), 0);
  }

  private insert(vm: number, slot: number): void {
    this.reserve(vm, this.id(slot));
    this.published.set(slot, vm + 1);
    const l = Math.imul(vm, L_WORDS);
    const n = this.lists.a[l + L_LENGTH]!;
    const offset = this.lists.a[l + L_OFFSET]!;
    const capacity = this.lists.a[l + L_CAPACITY]!;
    for (let i = 0; i < 2; i++) {
      const list = offset + i * capacity;
      const field = i === 0 ? BASE_GFN : USERSPACE_ADDR;
      const mine = this.f.a[Math.imul(slot, DOUBLES) + field]!;
      let at = n;
      // Equal host addresses stand in the order of their insertion, as in the interval tree.
      for (; at > 0 && this.f.a[this.order.a[list + at - 1]! * DOUBLES + field]! > mine; at--) {
        this.order.set(list + at, this.order.a[list + at - 1]!);
      }
      this.order.set(list + at, slot);
      if (i === 1) this.updateEnds(list, at, n + 1);
    }
    this.lists.set(l + L_LENGTH, n + 1);
    this.order.set(this.lists.a[l + L_IDS]! + this.id(slot), slot + 1);
  }

  /** MAX_END of the slots from a place on. */
  private updateEnds(list: number, from: number, n: number): void {
    let end = from === 0 ? 0 : this.f.a[this.order.a[list + from - 1]! * DOUBLES + MAX_END]!;
    for (let i = from; i < n; i++) {
      const slot = this.order.a[list + i]!;
      end = Math.max(end, this.userspaceEnd(slot));
      this.f.set(Math.imul(slot, DOUBLES) + MAX_END, end);
    }
  }

  /** Room for one more slot with this number; a full list or table moves to a place twice as large. */
  private reserve(vm: number, id: number): void {
    this.lists.ensure((vm + 1) * L_WORDS);
    const l = Math.imul(vm, L_WORDS);
    const n = this.lists.a[l + L_LENGTH]!;
    const capacity = this.lists.a[l + L_CAPACITY]!;
    if (n === capacity) {
      const offset = this.lists.a[l + L_OFFSET]!;
      const grown = Math.max(8, capacity * 2);
      const to = this.space(2 * grown);
      for (let i = 0; i < n; i++) {
        this.order.set(to + i, this.order.a[offset + i]!);
        this.order.set(to + grown + i, this.order.a[offset + capacity + i]!);
      }
      this.lists.set(l + L_OFFSET, to);
      this.lists.set(l + L_CAPACITY, grown);
    }
    const ids = this.lists.a[l + L_ID_COUNT]!;
    if (id < ids) return;
    const table = this.lists.a[l + L_IDS]!;
    let grown = Math.max(8, ids * 2);
    while (grown <= id) grown *= 2;
    const to = this.space(grown);
    for (let i = 0; i < ids; i++) this.order.set(to + i, this.order.a[table + i]!);
    for (let i = ids; i < grown; i++) this.order.set(to + i, 0);
    this.lists.set(l + L_IDS, to);
    this.lists.set(l + L_ID_COUNT, grown);
  }

  /** Unused words of `order`; places that a VM has outgrown are not used again. */
  private space(words: number): number {
    const at = this.meta.a[2]!;
    this.meta.set(2, at + words);
    this.order.ensure(at + words);
    return at;
  }
}
