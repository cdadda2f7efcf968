/**
 * What memory must hold and which pages must be dirty, as naively as it can be said: one object per page of the VMM's address
 * space, bytes in plain maps. Nothing here knows of tables, faults, huge pages or TLBs, nor shares code with the model.
 */
import {
  ADVICE,
  ALIAS_BYTES,
  ALIASES,
  CODE,
  CODE_BYTES,
  DEVICES,
  isDevice,
  LOG,
  RO,
  S1_GIB,
  S1_TABLE,
  type DeviceName,
  type Op,
} from "./program.js";
import type { Backing, Outcome, Slot } from "./vmm.js";

const PAGE = 4096;
const BLOCK = 2 << 20;
const READ = 1;
const WRITE = 2;

/** Contents of one page: of a file, of a device, or of nobody else. */
export class Page {
  /** Bytes that are known; the others are `fill`, or, where that is undefined, whatever is seen first. Most pages have none. */
  private bytes: Map<number, number> | undefined;
  /** Nothing can be said of it: poisoned, or behind something half done. */
  wild = false;
  constructor(
    /** 0 in fresh memory; undefined where the contents were there before. */
    public fill: number | undefined,
    /** What a private copy was made of. */
    private readonly base?: Page,
    readonly device?: DeviceName,
  ) {}
  get(at: number): number | undefined {
    return this.bytes?.get(at) ?? (this.base === undefined ? this.fill : this.base.get(at));
  }
  learn(at: number, value: number): void {
    if (this.base !== undefined) this.base.learn(at, value);
    else this.put(at, value);
  }
  put(at: number, value: number): void {
    (this.bytes ??= new Map()).set(at, value);
  }
  /** Every byte is zero. */
  clear(): void {
    this.bytes = undefined;
    this.fill = 0;
  }
  /** Of the bytes that are known those of a range are zero. */
  zero(from: number, to: number): void {
    for (const at of this.bytes?.keys() ?? []) if (at >= from && at < to) this.put(at, 0);
  }
  /** From now on every byte is whatever is seen. */
  forget(): void {
    this.bytes = undefined;
    this.fill = undefined;
  }
}

/** One page of the VMM's address space. */
export interface Mapping {
  page: Page;
  /** undefined: an mprotect that failed half way may have changed it. */
  prot: number | undefined;
  readonly private: boolean;
  readonly hugetlb: boolean;
  readonly file: File | undefined;
  readonly index: number;
}

class File {
  readonly pages = new Map<number, Page>();
  constructor(
    public size: number,
    private readonly fill: number | undefined,
    readonly device?: DeviceName,
  ) {}
  page(index: number): Page {
    let p = this.pages.get(index);
    if (p === undefined) this.pages.set(index, (p = new Page(this.fill, undefined, this.device)));
    return p;
  }
}

export interface ShadowSlot extends Slot {
  /** Pages that a completed store has written since they were last asked for. */
  readonly dirty: Set<number>;
  /** Pages that anything has tried to write since: no other may be reported. */
  readonly tried: Set<number>;
}

export class Shadow {
  /** By number of the page from BASE, in one map for each backing. */
  private readonly maps: Map<number, Mapping>[] = [];
  readonly slots = new Map<number, ShadowSlot>();
  private readonly files = new Map<number, File>();
  private readonly devices = new Map<DeviceName, File>();
  /** Memory Space Enable; undefined after a reset. */
  private readonly enabled = new Map<DeviceName, boolean | undefined>();
  mmu = false;
  forked = false;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 0, 1, or 3 where a new bitmap is all ones. */
  manual = 0;

  /** Takes up one step and what came of it. */
  apply(op: Op, out: Outcome, backings: ReadonlyMap<number, Backing>, slots: ReadonlyMap<number, Slot>): void {
    if (out.how === "skipped" || out.how === "crash") return;
    const ok = out.how === "ok";
    const b = "b" in op ? backings.get(op.b) : undefined;
    switch (op.op) {
      case "back":
        this.back(op.b, b);
        return;
      case "remap":
        if (b !== undefined) this.remap(b, op.b, op.off, op.len, ok);
        return;
      case "mapanon":
        if (b !== undefined && ok) this.each(b.base + op.off, op.len, (p, map) => map.set(p, anonymous(false)));
        return;
      case "munmap":
        if (b !== undefined && ok) this.each(b.base + op.off, op.len, (p, map) => map.delete(p));
        return;
      case "mprotect":
        // EINVAL has changed nothing, except VMAs before one of hugetlb in which the range ends within a huge page.
        if (b !== undefined && (out.how !== "EINVAL" || b.kind === "hugetlb")) {
          this.each(b.base + op.off, op.len, (p, map) => {
            const m = map.get(p);
            if (m !== undefined) m.prot = ok ? op.prot : undefined;
          });
        }
        return;
      case "madvise":
        if (b !== undefined) this.advise(b.base + op.off, op.len, op.advice, out.how);
        return;
      case "ftruncate":
        if (ok) this.truncate(op.b, op.len);
        return;
      case "punch":
        if (ok) this.punch(op.b, op.off, op.len);
        return;
      case "fork":
        this.forked = true;
        return;
      case "hw":
        if (b !== undefined && ok) for (let i = 0; i < op.size; i++) this.put(b.base + op.off + i, byteOf(BigInt(op.value), i));
        return;
      case "slot":
      case "slotflags":
      case "slotmove":
      case "slotdel":
        if (ok) this.slot(op.id, slots.get(op.id));
        return;
      case "cap":
        if (ok && op.cap === 168) this.manual = op.value;
        return;
      case "memory":
        this.enabled.set(op.device, ok ? op.on : undefined);
        return;
      case "reset":
        this.enabled.set(op.device, undefined);
        return;
      case "mmu":
        if (out.how === "done") this.mmu = op.on;
        return;
    }
  }

  /** The pages of a range, which lies in one backing's area, each by its number and with the map that it is in. */
  private each(hva: number, length: number, f: (page: number, map: Map<number, Mapping>) => void): void {
    const end = Math.ceil((hva + length - BASE) / PAGE);
    const map = this.mapOf(pageOf(hva));
    for (let p = pageOf(hva); p < end; p++) f(p, map);
  }
  private mapOf(page: number): Map<number, Mapping> {
    return (this.maps[Math.floor(page / AREA_PAGES)] ??= new Map());
  }

  // ---- mappings ----

  private back(b: number, backing: Backing | undefined): void {
    // What was there before went with the old backing, whatever became of the new one.
    this.maps[b] = new Map();
    if (backing === undefined) return;
    if (backing.kind === "memfd") this.files.set(b, new File(backing.size, 0));
    if (backing.kind === "filero") this.files.set(b, new File(backing.size, undefined));
    this.remap(backing, b, 0, backing.size, true);
  }

  private remap(backing: Backing, b: number, off: number, length: number, ok: boolean): void {
    const { kind } = backing;
    const file = isDevice(kind) ? this.device(kind) : this.files.get(b);
    const named = kind === "memfd" || kind === "filero" || isDevice(kind);
    let index = Math.floor(off / PAGE);
    // mmap of hugetlb memory rounds the length up to its page size.
    const len = kind === "hugetlb" ? Math.ceil(length / BLOCK) * BLOCK : length;
    this.each(backing.base + off, len, (p, map) => {
      if (!ok) {
        // MAP_FIXED takes away before it fails.
        const m = map.get(p);
        if (m !== undefined) m.page.wild = true;
        return;
      }
      const prot = kind === "filero" ? READ : READ | WRITE;
      const i = index++;
      if (!named) map.set(p, anonymous(kind === "hugetlb"));
      else {
        const page = file!.page(i);
        const mine = kind === "filero" ? new Page(undefined, page) : page;
        map.set(p, { page: mine, prot, private: kind === "filero", hugetlb: false, file: file!, index: i });
      }
    });
  }

  private device(name: DeviceName): File {
    let f = this.devices.get(name);
    if (f === undefined) this.devices.set(name, (f = new File(DEVICES[name].size, undefined, name)));
    return f;
  }

  private advise(hva: number, length: number, advice: keyof typeof ADVICE, how: string): void {
    // What is not mapped is passed over, and said at the end with ENOMEM; what stands before a VMA that refuses has been done.
    const refused = how !== "ok" && how !== "ENOMEM" && how !== "EAGAIN" && advice !== "MADV_HWPOISON";
    const destroys = advice === "MADV_DONTNEED" || advice === "MADV_FREE" || advice === "MADV_REMOVE";
    if (refused && !destroys) return;
    this.each(hva, length, (p, map) => {
      const m = map.get(p);
      if (m === undefined) return;
      if (refused) m.page.wild = true;
      // A huge page of which the range covers a part only stays.
      else if (advice === "MADV_DONTNEED" && m.hugetlb && BASE + (p - (p % 512) + 512) * PAGE > hva + length) return;
      else if (advice === "MADV_DONTNEED" && m.private)
        m.page = m.file === undefined ? new Page(0) : new Page(undefined, m.file.page(m.index));
      else if (advice === "MADV_FREE" && m.private && m.file === undefined) m.page.forget();
      else if (advice === "MADV_REMOVE" && m.file !== undefined) {
        if (how === "ok") this.zero(m.file, m.index * PAGE, PAGE);
        else m.page.wild = true;
      } else if (advice === "MADV_HWPOISON" && how !== "EINVAL") {
        // A huge page dies as a whole.
        if (m.hugetlb) for (let q = p - (p % 512); q < p - (p % 512) + 512; q++) this.poison(q);
        else this.poison(p);
      }
    });
  }
  private poison(page: number): void {
    const m = this.mapOf(page).get(page);
    if (m === undefined) return;
    m.page.wild = true;
    // A private mapping may still show the page of its file.
    if (m.file !== undefined) m.file.page(m.index).wild = true;
  }

  private truncate(b: number, length: number): void {
    const f = this.files.get(b);
    if (f === undefined) return;
    if (length < f.size) this.zero(f, length, f.size - length);
    f.size = length;
  }
  private punch(b: number, off: number, length: number): void {
    const f = this.files.get(b);
    if (f !== undefined) this.zero(f, off, length);
  }
  /** A range of a file reads as zero. The pages stay the same objects: mappings see it. */
  private zero(f: File, off: number, length: number): void {
    for (const [i, p] of f.pages) {
      const from = Math.max(0, off - i * PAGE);
      const to = Math.min(PAGE, off + length - i * PAGE);
      if (from === 0 && to === PAGE) p.clear();
      else p.zero(from, to);
    }
  }

  // ---- slots ----

  private slot(id: number, now: Slot | undefined): void {
    const was = this.slots.get(id);
    if (now === undefined) this.slots.delete(id);
    else {
      // A bitmap lives from the flag to the flag, through a move.
      const kept = was !== undefined && (was.flags & LOG) !== 0 && (now.flags & LOG) !== 0 && was.size === now.size;
      // KVM_DIRTY_LOG_INITIALLY_SET: every page of a new bitmap.
      const first = this.manual === 3 ? Array.from({ length: now.size / PAGE }, (_, p) => p) : [];
      this.slots.set(id, { ...now, dirty: kept ? was.dirty : new Set(), tried: kept ? was.tried : new Set(first) });
    }
  }

  /** The slot of a guest physical address. */
  slotAt(ipa: number): ShadowSlot | undefined {
    for (const s of this.slots.values()) if (ipa >= s.gpa && ipa < s.gpa + s.size) return s;
    return undefined;
  }

  // ---- bytes ----

  /** Stage 1, naively. undefined: not mapped. */
  ipaOf(va: number): { readonly ipa: number; readonly readOnly: boolean } | undefined {
    if (!this.mmu) return { ipa: va, readOnly: false };
    const alias = ALIASES[Math.floor(va / ALIAS_BYTES)];
    const ipa = va % ALIAS_BYTES;
    if (alias === undefined || !alias.valid || ipa >= S1_GIB.length * 2 ** 30) return undefined;
    return { ipa, readOnly: alias.ro };
  }

  /** The guest's code and its stage-1 table, which no program writes. */
  isCode(ipa: number): boolean {
    return (ipa >= CODE && ipa < CODE + CODE_BYTES) || Math.floor(ipa / PAGE) === S1_TABLE / PAGE;
  }

  mappingAt(hva: number): Mapping | undefined {
    const page = pageOf(hva);
    return this.maps[Math.floor(page / AREA_PAGES)]?.get(page);
  }

  /** Whether the contents behind a mapping can be told now: not of registers, nor of a device that does not answer. */
  tells(m: Mapping): boolean {
    const { device, wild } = m.page;
    if (wild || m.file?.page(m.index).wild === true) return false;
    if (device === undefined) return m.file === undefined || m.index * PAGE < m.file.size;
    return (
      device === "ivshmem" && this.enabled.get(device) !== false && !(this.enabled.has(device) && this.enabled.get(device) === undefined)
    );
  }

  /** May the VMM or a guest through it do this here, with nothing in the way? */
  permits(m: Mapping, write: boolean): boolean {
    if (!this.tells(m) || m.prot === undefined) return false;
    if (m.hugetlb && this.forked) return false;
    return (m.prot & (write ? WRITE : READ)) !== 0;
  }

  byte(hva: number): number | undefined {
    const m = this.mappingAt(hva);
    return m === undefined || !this.tells(m) ? undefined : m.page.get(hva % PAGE);
  }

  put(hva: number, value: number | undefined): void {
    const m = this.mappingAt(hva);
    if (m === undefined) return;
    if (value === undefined || !this.tells(m)) {
      if (m.file !== undefined && m.private) m.page.wild = true;
      else m.page.forget();
    } else m.page.put(hva % PAGE, value);
  }

  /** A byte was seen that nothing was known of. */
  learn(hva: number, value: number): void {
    const m = this.mappingAt(hva);
    if (m !== undefined && this.tells(m) && m.page.get(hva % PAGE) === undefined) m.page.learn(hva % PAGE, value);
  }

  /** A page of a slot with a dirty log was written, or somebody tried to. */
  wrote(ipa: number, completed: boolean): void {
    const s = this.slotAt(ipa);
    if (s === undefined || (s.flags & LOG) === 0 || (s.flags & RO) !== 0) return;
    const page = Math.floor((ipa - s.gpa) / PAGE);
    s.tried.add(page);
    if (completed) s.dirty.add(page);
  }
}

/** Where backing 0 lies, and how far apart the backings are. */
const BASE = 0x7e0000000000;
const AREA_PAGES = 0x10000000 / PAGE;
const pageOf = (hva: number): number => Math.floor((hva - BASE) / PAGE);
export const byteOf = (value: bigint, i: number): number => Number((value >> BigInt(8 * i)) & 0xffn);

function anonymous(hugetlb: boolean): Mapping {
  return { page: new Page(0), prot: READ | WRITE, private: true, hugetlb, file: undefined, index: 0 };
}
