/**
 * Dirty logging (virt/kvm/kvm_main.c kvm_get_dirty_log_protect, kvm_clear_dirty_log_protect,
 * mark_page_dirty_in_slot; arch/arm64/kvm/mmu.c kvm_arch_mmu_enable_log_dirty_pt_masked).
 *
 * Order that must hold: bit cleared, entry protected, TLB flushed, bits copied to the VMM. A write
 * between the first two is caught because the protection follows; one before the flush has its bit reported.
 *
 * A bitmap is two halves in `bits`: the live bits, then the buffer that GET fills and the VMM reads.
 * Sizes are rounded up to 64 pages, as the kernel does; freed bitmaps wait on lists by size.
 */
import { ARG, BLOCKED, type Activity } from "../sim/agents.js";
import type { Row } from "../sim/decisions.js";
import { EINVAL, ENOENT, ENXIO } from "../sim/errno.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";
import type { kvmTableDecisions } from "./decisions-tables.js";
import type { DirtyRings } from "./dirtyring.js";
import { KVM_MEM_LOG_DIRTY_PAGES, type Memslots } from "./memslots.js";
import { KVM_MEM_INCOHERENT } from "./ports.js";
import type { Stage2 } from "./stage2.js";
import type { Vms } from "./vm.js";

export const markPageDirty = declareEvent("faultline", "mark_page_dirty", "a guest page was marked dirty (mark_page_dirty_in_slot)", [
  { name: "slot", kind: "dec" },
  { name: "rel_gfn", kind: "hex", unit: "page in the slot" },
  { name: "ring", kind: "bool" },
]);
export const dirtyLogCopied = declareEvent("faultline", "dirty_log_copied", "dirty bits were copied to the VMM", [
  { name: "slot", kind: "dec" },
  { name: "pages", kind: "dec", unit: "set bits" },
]);

/** Frames: VM, slot number, first page, pages, use the VMM's mask; then record, next word, flush needed. */
const VM = ARG;
const ID = ARG + 1;
const FIRST = ARG + 2;
const NUM = ARG + 3;
const MASKED = ARG + 4;
const SLOT = ARG + 5;
const WORD = ARG + 6;
const FLUSH = ARG + 7;

/** Free lists by log2 of the words. */
const CLASSES = 32;

export class DirtyLog {
  private readonly bits: I32Pool;
  /** [0] words in use, [1 + class] first free bitmap of the class + 1. */
  private readonly meta: I32Pool;
  /** The bitmap that the VMM passes to KVM_CLEAR_DIRTY_LOG: bit 0 is its first page. */
  private readonly userMask: I32Pool;

  /** KVM_GET_DIRTY_LOG(vm, slot). R0: 0, -EINVAL bad slot, -ENOENT no bitmap, -ENXIO ring without bitmap. Then `pages`. */
  readonly getDirtyLog: Activity;
  /**
   * KVM_CLEAR_DIRTY_LOG(vm, slot, first, n, masked): masked 0 clears all set bits of the range, 1 those in
   * `setUserMask`. R0: 0, -EINVAL, -ENOENT, -ENXIO.
   */
  readonly clearDirtyLog: Activity;

  constructor(
    private readonly sim: Sim,
    private readonly vms: Vms,
    private readonly memslots: Memslots,
    private readonly stage2: Stage2,
    private readonly rings: DirtyRings,
    private readonly d: Row<typeof kvmTableDecisions>,
  ) {
    this.bits = sim.state.i32("kvm.dirty", 64);
    this.meta = sim.state.i32("kvm.dirty.meta", 1 + CLASSES);
    this.userMask = sim.state.i32("kvm.dirty.usermask", 2);
    const act = sim.agents;
    this.getDirtyLog = act.activity("kvmVmIoctlGetDirtyLog", "virt/kvm/kvm_main.c kvm_get_dirty_log_protect", 8, [
      ["lock", (f) => this.getStart(f)],
      ["protect", (f) => this.getProtect(f)],
      ["flush", (f) => this.getFlush(f)],
      ["copy", (f) => this.getCopy(f)],
    ]);
    this.clearDirtyLog = act.activity("kvmVmIoctlClearDirtyLog", "virt/kvm/kvm_main.c kvm_clear_dirty_log_protect", 8, [
      ["lock", (f) => this.clearStart(f)],
      ["mmu-lock", (f) => this.clearLock(f)],
      ["word", (f) => this.clearWords(f)],
      ["flush", (f) => this.clearFlush(f)],
    ]);
  }

  // ------------------------------------------------------------------------------ bitmaps

  /** 32-bit words of one half. */
  private halfWords(npages: number): number {
    return Math.ceil(npages / 64) * 2;
  }

  /** kvm_alloc_dirty_bitmap. @param ones initially-all-set @returns the bitmap's number */
  alloc(npages: number, ones: boolean): number {
    const half = this.halfWords(npages);
    const cls = 32 - Math.clz32(2 * half - 1);
    const head = this.meta.a[1 + cls]!;
    let bitmap: number;
    if (head !== 0) {
      bitmap = head - 1;
      this.meta.set(1 + cls, this.bits.a[bitmap]!);
    } else {
      bitmap = this.meta.a[0]!;
      this.meta.set(0, bitmap + 2 ** cls);
      this.bits.ensure(bitmap + 2 ** cls);
    }
    for (let i = 0; i < 2 * half; i++) if (this.bits.a[bitmap + i] !== 0) this.bits.set(bitmap + i, 0);
    if (ones) {
      for (let i = 0; i < Math.floor(npages / 32); i++) this.bits.set(bitmap + i, -1);
      if (npages % 32 !== 0) this.bits.set(bitmap + Math.floor(npages / 32), 2 ** (npages % 32) - 1);
    }
    return bitmap;
  }

  /** kvm_destroy_dirty_bitmap. */
  free(bitmap: number, npages: number): void {
    const cls = 32 - Math.clz32(2 * this.halfWords(npages) - 1);
    this.bits.set(bitmap, this.meta.a[1 + cls]!);
    this.meta.set(1 + cls, bitmap + 1);
  }

  hasBitmap(slot: number): boolean {
    return this.memslots.bitmap(slot) >= 0;
  }
  /** True if the live bit of a page of the slot is set. */
  isDirty(slot: number, relGfn: number): boolean {
    const bitmap = this.memslots.bitmap(slot);
    return bitmap >= 0 && (this.bits.a[bitmap + (relGfn >>> 5)]! & (1 << (relGfn & 31))) !== 0;
  }

  /**
   * mark_page_dirty_in_slot.
   * @param slot record, as the fault holds it @param v the vCPU that writes, or -1: then the bitmap, also with rings
   */
  markPageDirty(vm: number, slot: number, gfn: number, v = -1): void {
    if (this.tracks(slot)) this.markTracked(vm, slot, gfn, v);
  }
  /** Is it kept which pages of the slot were written (kvm_slot_dirty_track_enabled)? */
  tracks(slot: number): boolean {
    return this.memslots.bitmap(slot) >= 0 || (this.memslots.flags(slot) & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
  }
  /** `markPageDirty` in a slot of which that is known. */
  markTracked(vm: number, slot: number, gfn: number, v: number): void {
    const bitmap = this.memslots.bitmap(slot);
    const rel = gfn - this.memslots.baseGfn(slot);
    const ring = v >= 0 && this.vms.ringSize(vm) !== 0 && this.rings.has(v);
    if (!this.sim.bus.unheard()) this.sim.bus.emit(markPageDirty, this.memslots.id(slot), rel, ring ? 1 : 0);
    if (ring) this.rings.push(v, this.memslots.id(slot), rel);
    else if (bitmap >= 0) {
      const word = (bitmap + (rel >>> 5)) | 0;
      this.bits.set(word, this.bits.a[word]! | (1 << (rel & 31)));
    }
  }

  /** The pages that the VMM found in its buffer after the last KVM_GET_DIRTY_LOG of a slot. */
  pages(vm: number, id: number): number[] {
    const slot = this.memslots.byId(vm, id);
    if (slot < 0 || !this.hasBitmap(slot)) return [];
    const half = this.halfWords(this.memslots.npages(slot));
    const from = this.memslots.bitmap(slot) + half;
    const out: number[] = [];
    for (let i = 0; i < half; i++) for (let b = this.bits.a[from + i]!; b !== 0; b &= b - 1) out.push(i * 32 + 31 - Math.clz32(b & -b));
    return out;
  }

  /** Set bits of the buffer that the VMM reads. */
  private countCopied(slot: number): number {
    const half = this.halfWords(this.memslots.npages(slot));
    const from = this.memslots.bitmap(slot) + half;
    let n = 0;
    for (let i = from; i < from + half; i++) for (let b = this.bits.a[i]!; b !== 0; b &= b - 1) n++;
    return n;
  }

  /** The bitmap of the next KVM_CLEAR_DIRTY_LOG with masked = 1. @param pages relative to its first page */
  setUserMask(pages: readonly number[]): void {
    const words = Math.ceil((Math.max(-1, ...pages) + 1) / 64) * 2;
    this.userMask.ensure(words + 1);
    for (let i = 0; i < this.userMask.a.length; i++) this.userMask.set(i, 0);
    for (const p of pages) this.userMask.set(p >>> 5, this.userMask.a[p >>> 5]! | (1 << (p & 31)));
  }

  // ------------------------------------------------------------------------------ protect

  /** kvm_arch_mmu_enable_log_dirty_pt_masked: protects from the lowest to the highest set bit, the pages between too. */
  private protectMasked(vm: number, slot: number, relGfn: number, hi: number, lo: number): void {
    const low = lowestBit(hi, lo);
    const high = highestBit(hi, lo);
    this.stage2.wrprotectRange(vm, (this.memslots.baseGfn(slot) + relGfn + low) * 4096, (high - low + 1) * 4096);
  }

  /** The slot's flag of 2015: what the VMM is about to read comes from memory. */
  private cleanIncoherent(vm: number, slot: number, relGfn: number, hi: number, lo: number): void {
    if ((this.memslots.flags(slot) & KVM_MEM_INCOHERENT) === 0) return;
    for (let b = 0; b < 64; b++) {
      if ((((b < 32 ? lo : hi) >>> (b & 31)) & 1) === 0) continue;
      const ipa = (this.memslots.baseGfn(slot) + relGfn + b) * 4096;
      const level = this.stage2.leaf(vm, ipa);
      if (level < 0) continue;
      const size = level === 3 ? 4096 : level === 2 ? 0x200000 : 0x40000000;
      const pa = this.stage2.entries.outputAddress(this.stage2.leafHi, this.stage2.leafLo) + (level === 3 ? 0 : ipa % size);
      this.stage2.entries.cleanDcache(pa, 4096);
    }
  }

  private flushSlot(vm: number, slot: number): void {
    if (this.d.dirtyLogFlush === "flush")
      this.stage2.tlb.flushMemslot(vm, this.memslots.baseGfn(slot) * 4096, this.memslots.npages(slot) * 4096);
  }

  /** Common start: slots_lock, the slot. @returns 0, or a phase's result that ends the call */
  private begin(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]! | 0;
    if (!this.vms.usesBitmap(vm)) return -ENXIO;
    const id = s.a[f + ID]! | 0;
    if (id < 0 || id >= this.d.userMemslots) return -EINVAL;
    return 0;
  }

  private end(f: number, ret: number): number {
    this.sim.locks.unlockWrite(this.vms.slotsLock(this.sim.agents.stack.a[f + VM]! | 0));
    return this.sim.agents.ret(f, ret);
  }

  // -------------------------------------------------------------------------------- GET

  private getStart(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]! | 0;
    if (!locks.write(this.vms.slotsLock(vm))) return BLOCKED;
    const ret = this.begin(f);
    if (ret !== 0) return this.end(f, ret);
    const slot = this.memslots.byId(vm, s.a[f + ID]! | 0);
    if (slot < 0 || !this.hasBitmap(slot)) return this.end(f, -ENOENT);
    s.set(f + SLOT, slot);
    s.set(f + FLUSH, 0);
    return this.getDirtyLog.first + 1;
  }

  private getProtect(f: number): number {
    const s = this.sim.agents.stack;
    const vm = s.a[f + VM]! | 0;
    const slot = s.a[f + SLOT]! | 0;
    const bitmap = this.memslots.bitmap(slot);
    const half = this.halfWords(this.memslots.npages(slot));
    if (this.vms.manualProtect(vm) !== 0) {
      // "Unlike kvm_get_dirty_log, we always return false in *flush": a plain copy.
      for (let i = 0; i < half; i++) this.bits.set(bitmap + half + i, this.bits.a[bitmap + i]!);
      return this.getDirtyLog.first + 3;
    }
    const lock = this.vms.mmuLock(vm);
    if (!this.sim.locks.write(lock)) return BLOCKED;
    for (let i = 0; i < half; i += 2) {
      const lo = this.bits.a[bitmap + i]!;
      const hi = this.bits.a[bitmap + i + 1]!;
      this.bits.set(bitmap + half + i, lo);
      this.bits.set(bitmap + half + i + 1, hi);
      if ((lo | hi) === 0) continue;
      s.set(f + FLUSH, 1);
      this.bits.set(bitmap + i, 0);
      this.bits.set(bitmap + i + 1, 0);
      this.cleanIncoherent(vm, slot, i * 32, hi, lo);
      this.protectMasked(vm, slot, i * 32, hi, lo);
    }
    this.sim.locks.unlockWrite(lock);
    return this.getDirtyLog.first + 2;
  }

  private getFlush(f: number): number {
    const s = this.sim.agents.stack.a;
    if (s[f + FLUSH] !== 0) this.flushSlot(s[f + VM]! | 0, s[f + SLOT]! | 0);
    return this.getDirtyLog.first + 3;
  }

  private getCopy(f: number): number {
    const s = this.sim.agents.stack.a;
    const id = s[f + ID]! | 0;
    this.sim.bus.emit(dirtyLogCopied, id, this.countCopied(s[f + SLOT]! | 0));
    return this.end(f, 0);
  }

  // ------------------------------------------------------------------------------ CLEAR

  private clearStart(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]! | 0;
    if (!locks.write(this.vms.slotsLock(vm))) return BLOCKED;
    const ret = this.begin(f);
    if (ret !== 0) return this.end(f, ret);
    const first = s.a[f + FIRST]!;
    const num = s.a[f + NUM]!;
    if (first % 64 !== 0) return this.end(f, -EINVAL);
    const slot = this.memslots.byId(vm, s.a[f + ID]! | 0);
    if (slot < 0 || !this.hasBitmap(slot)) return this.end(f, -ENOENT);
    const npages = this.memslots.npages(slot);
    if (first > npages || num > npages - first || (num < npages - first && num % 64 !== 0)) return this.end(f, -EINVAL);
    s.set(f + SLOT, slot);
    s.set(f + WORD, 0);
    s.set(f + FLUSH, 0);
    return this.clearDirtyLog.first + 1;
  }

  private clearLock(f: number): number {
    const vm = this.sim.agents.stack.a[f + VM]! | 0;
    // The memslots are looked at without SRCU: __kvm_memslots asks for slots_lock then.
    this.sim.locks.assertHeld(this.vms.slotsLock(vm));
    if (!this.sim.locks.write(this.vms.mmuLock(vm))) return BLOCKED;
    return this.clearDirtyLog.first + 2;
  }

  /** Clears and protects word by word; with initially-all-set each range is split eagerly too, which may drop the lock. */
  private clearWords(f: number): number {
    const { agents, locks } = this.sim;
    const s = agents.stack;
    const vm = s.a[f + VM]! | 0;
    const slot = s.a[f + SLOT]! | 0;
    const first = s.a[f + FIRST]!;
    const bitmap = this.memslots.bitmap(slot);
    const words = Math.ceil(s.a[f + NUM]! / 64) * 2;
    const split = this.d.eagerSplit && this.vms.initiallySet(vm) && this.vms.splitChunk(vm) !== 0;
    for (let i = s.a[f + WORD]!; i < words; i += 2) {
      const at = bitmap + (first >>> 5) + i;
      const lo = this.bits.a[at]! & this.maskWord(f, i);
      const hi = this.bits.a[at + 1]! & this.maskWord(f, i + 1);
      if ((lo | hi) === 0) continue;
      this.bits.set(at, this.bits.a[at]! & ~lo);
      this.bits.set(at + 1, this.bits.a[at + 1]! & ~hi);
      s.set(f + FLUSH, 1);
      const rel = first + i * 32;
      this.protectMasked(vm, slot, rel, hi, lo);
      if (split) {
        s.set(f + WORD, i + 2);
        const base = (this.memslots.baseGfn(slot) + rel) * 4096;
        return agents.call(
          f,
          this.clearDirtyLog.first + 2,
          this.stage2.splitter.splitHugePages,
          vm,
          base + lowestBit(hi, lo) * 4096,
          base + (highestBit(hi, lo) + 1) * 4096,
        );
      }
    }
    locks.unlockWrite(this.vms.mmuLock(vm));
    return this.clearDirtyLog.first + 3;
  }

  private maskWord(f: number, i: number): number {
    if (this.sim.agents.stack.a[f + MASKED] === 0) return -1;
    return this.userMask.a[i] ?? 0;
  }

  private clearFlush(f: number): number {
    const s = this.sim.agents.stack.a;
    if (s[f + FLUSH] !== 0) this.flushSlot(s[f + VM]! | 0, s[f + SLOT]! | 0);
    return this.end(f, 0);
  }
}

/** __ffs of a 64-bit mask that is not 0. */
function lowestBit(hi: number, lo: number): number {
  return lo !== 0 ? 31 - Math.clz32(lo & -lo) : 63 - Math.clz32(hi & -hi);
}
/** __fls of a 64-bit mask that is not 0. */
function highestBit(hi: number, lo: number): number {
  return hi !== 0 ? 63 - Math.clz32(hi) : 31 - Math.clz32(lo);
}
