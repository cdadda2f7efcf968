/**
 * userfaultfd as a naive list: of each page what it holds, whether an entry is there, whether it is write-protected or poisoned, and which
 * userfaultfd wants to know of it; of each thread what it waits for. Written from ioctl_userfaultfd(2), fs/userfaultfd.c and mm/userfaultfd.c.
 */
import { expect } from "vitest";
import { FOLL_HWPOISON, FOLL_WRITE } from "../../src/mmu/gup.js";
import { HOST_SIGBUS_ADRERR, HOST_SIGBUS_MCEERR_AR, HOST_SIGSEGV } from "../../src/mmu/useraccess.js";
import { PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { EAGAIN, EBUSY, EEXIST, EFAULT, EHWPOISON, EINVAL, ENOENT } from "../../src/sim/errno.js";
import { Host, PAGE, PLACES, type Process, type Slot, type Words } from "./naivememory.js";

export const MISSING = 1;
export const WP = 2;
export const MINOR = 4;
/** Around a read fault so many pages of a file are mapped. */
const AROUND = 16;
const DONTWAKE = 1;

/** What is at a page, and what a userfaultfd has to do with it. */
export interface Page extends Slot {
  prot: number;
  /** An entry names a page, in memory or in swap. */
  mapped: boolean;
  /** Write-protected; of a file's page also where nothing is mapped. */
  wp: boolean;
  poison: boolean;
  /** The userfaultfd, -1 without, and the modes it is registered with. */
  ctx: number;
  modes: number;
}

interface Message {
  readonly ctx: number;
  readonly addr: number;
  readonly flags: number;
}
export type Access = "load" | "store" | "gup" | "gupWrite";
interface Thread {
  readonly how: Access;
  readonly page: number;
  readonly place: number;
  readonly value: number;
  waits: Message;
  read: boolean;
  woken: boolean;
}
type Outcome = "ok" | "segv" | "bus" | "poison" | Message;

export class NaiveUserfault {
  readonly pages = new Map<number, Page>();
  readonly threads: (Thread | undefined)[] = [undefined, undefined];
  /** Who waits, in the order in which they came. */
  private readonly queue: Thread[] = [];
  readonly ctx: number[] = [];
  private readonly agents: number[];

  constructor(readonly h: Host) {
    this.agents = [h.sim.agents.add("thread0", "vcpu", 0), h.sim.agents.add("thread1", "vcpu", 0)];
  }

  get process(): Process {
    return this.pages;
  }

  // ---- VMAs: where they are cut is the kernel's affair

  vma(page: number): { start: number; end: number } | undefined {
    const { vmas } = this.h.mm;
    const v = vmas.findVma(0, page * PAGE);
    if (v < 0) return undefined;
    return { start: vmas.start(v) / PAGE, end: vmas.end(v) / PAGE };
  }
  private vmasOf(start: number, end: number): { start: number; end: number; first: Page }[] {
    const out = [];
    for (let v = this.vma(start); v !== undefined && v.start < end; v = this.vma(v.end))
      out.push({ ...v, first: this.pages.get(v.start)! });
    return out;
  }

  private span(s: Page): number {
    return s.file?.span ?? 1;
  }
  private whole(page: number, s: Page): Page[] {
    const first = page - (page % this.span(s));
    return Array.from({ length: this.span(s) }, (_, i) => this.pages.get(first + i)!);
  }
  private cached(s: Page): boolean {
    return s.file !== undefined && s.file.pages.has(s.pgoff);
  }
  private beyond(s: Page): boolean {
    return s.file !== undefined && s.pgoff * PAGE >= s.file.size;
  }
  contents(s: Page): Words {
    return s.own ?? s.file?.pages.get(s.pgoff) ?? [0, 0];
  }

  // ---- faults

  private message(s: Page, page: number, reason: number, write: boolean): Message {
    return { ctx: s.ctx, addr: (page - (page % this.span(s))) * PAGE, flags: reason | (write ? 1 : 0) };
  }

  /** What an access comes to. */
  fault(page: number, write: boolean): Outcome {
    const s = this.pages.get(page);
    if (s === undefined || (s.prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE)) === 0) return "segv";
    if (s.poison) return "poison";
    if (!s.mapped) {
      const stop = this.populate(s, page, write);
      if (stop !== undefined) return stop;
    }
    if (!write) return "ok";
    if (s.wp && (s.modes & WP) !== 0) return this.message(s, page, 2, true);
    if (!s.shared) for (const q of this.whole(page, s)) q.own ??= [...this.contents(q)];
    return "ok";
  }

  private populate(s: Page, page: number, write: boolean): Outcome | undefined {
    const { file } = s;
    if (file === undefined) {
      if ((s.modes & MISSING) !== 0) return this.message(s, page, 0, write);
      s.mapped = true;
      return undefined;
    }
    if (file.span === 1) {
      if (this.beyond(s)) return "bus";
      if (!write && (s.modes & (WP | MINOR)) === 0) this.around(page);
      if (s.mapped) return undefined;
    } else if (!this.cached(s) && this.beyond(s)) return "bus";
    if (!this.cached(s) && (s.modes & MISSING) !== 0) return this.message(s, page, 0, write);
    if (this.cached(s) && (s.modes & MINOR) !== 0) return this.message(s, page, 4, write);
    const all = this.whole(page, s);
    for (const q of all) {
      q.mapped = true;
      if (this.cached(q)) continue;
      // A private mapping of hugetlb does not put into the file what it faults in.
      if (file.span > 1 && !s.shared) q.own = [0, 0];
      else file.pages.set(q.pgoff, [0, 0]);
    }
    return undefined;
  }

  /** do_fault_around. */
  private around(page: number): void {
    const v = this.vma(page)!;
    const start = Math.max(page - (page % AROUND), v.start);
    for (let p = start; p < Math.min(start + AROUND, v.end); p++) {
      const s = this.pages.get(p)!;
      if (Math.floor(p / 512) === Math.floor(page / 512) && !s.poison && !this.beyond(s) && this.cached(s)) s.mapped = true;
    }
  }

  access(t: number, how: Access, page: number, place: number, value: number): void {
    if (this.threads[t] !== undefined) return;
    const { mm, sim } = this.h;
    const write = how === "store" || how === "gupWrite";
    const agent = this.agents[t]!;
    if (how === "load" || how === "store")
      sim.agents.start(agent, mm.hostAccess, 0, page * PAGE + PLACES[place]!, 4, write ? 1 : 0, value, 0);
    else sim.agents.start(agent, mm.gup.getUserPagesUnlocked, 0, page * PAGE, FOLL_HWPOISON | (write ? FOLL_WRITE : 0));
    this.go(t, { how, page, place, value, waits: { ctx: -1, addr: 0, flags: 0 }, read: false, woken: false }, false);
  }

  /** The thread runs until it has its answer, or waits. @param again its fault has slept before */
  private go(t: number, thread: Thread, again: boolean): void {
    const { h } = this;
    const { how, page, place, value } = thread;
    const s = this.pages.get(page);
    const breaks = how === "gup" && h.d.gupReadBreaksCow && s !== undefined && !s.shared && (s.prot & PROT_WRITE) !== 0;
    const write = how === "store" || how === "gupWrite" || breaks;
    let want = this.fault(page, write);
    if (typeof want === "object" && again && h.d.userfaultfdRetries === "once") want = "bus";
    const ended = h.sim.agents.runToEnd(this.agents[t]!);
    const what = `${how} of page ${page.toString(16)}`;
    if (typeof want === "object") {
      expect(ended, `${what} waits`).toBe(false);
      this.threads[t] = thread;
      thread.waits = want;
      thread.read = thread.woken = false;
      this.queue.push(thread);
      return;
    }
    expect(ended, `${what} ends`).toBe(true);
    this.threads[t] = undefined;
    const r = h.sim.agents.result(this.agents[t]!);
    if (how === "load" || how === "store") {
      const signals = { ok: 0, segv: HOST_SIGSEGV, bus: HOST_SIGBUS_ADRERR, poison: HOST_SIGBUS_MCEERR_AR };
      expect(r, what).toBe(signals[want]);
    } else if (want === "ok") {
      expect(r, what).toBeGreaterThan(0);
      h.mm.frames.put(r);
    } else expect(r, what).toBe(want === "poison" ? -EHWPOISON : -EFAULT);
    if (want !== "ok") return;
    if (how === "load") expect(h.sim.agents.result(this.agents[t]!, 1), what).toBe(this.contents(s!)[place]);
    if (how === "store") {
      const words = s!.shared ? s!.file!.pages.get(s!.pgoff)! : s!.own!;
      words[place] = value;
    }
  }

  /** Who was woken goes on; the others must not. */
  resume(): void {
    for (const [t, thread] of this.threads.entries()) {
      if (thread === undefined) continue;
      if (thread.woken) {
        this.threads[t] = undefined;
        this.go(t, thread, true);
      } else expect(this.h.sim.agents.runToEnd(this.agents[t]!), `thread ${t} sleeps`).toBe(false);
    }
  }

  private awake(ctx: number, start: number, end: number): void {
    for (const thread of this.threads) {
      if (thread === undefined || thread.waits.ctx !== ctx || thread.waits.addr < start * PAGE || thread.waits.addr >= end * PAGE) continue;
      thread.woken = true;
      this.queue.splice(0, this.queue.length, ...this.queue.filter((q) => q !== thread));
    }
  }

  // ---- the ioctls

  private call(act: Parameters<Host["run"]>[0], ctx: number, ...args: number[]): number {
    return this.h.run(act, this.ctx[ctx]!, ...args);
  }

  read(ctx: number): void {
    const first = this.queue.find((q) => !q.read && q.waits.ctx === ctx);
    const r = this.call(this.h.mm.userfaultfd.read, ctx, 0);
    expect(r, "read").toBe(first === undefined ? -EAGAIN : 1);
    if (first === undefined) return;
    first.read = true;
    expect([this.h.sim.agents.result(0, 1), this.h.sim.agents.result(0, 2)], "message").toEqual([first.waits.addr, first.waits.flags]);
  }

  wake(ctx: number, start: number, n: number): void {
    expect(this.call(this.h.mm.userfaultfd.wake, ctx, start * PAGE, n * PAGE)).toBe(0);
    this.awake(ctx, start, start + n);
  }

  /** vma_can_userfault. */
  private able(s: Page, modes: number): boolean {
    if (s.file === undefined) return (modes & MINOR) === 0;
    return this.h.d.userfaultfdFiles && (s.file.kind === "shmem" || s.file.kind === "hugetlb");
  }

  register(ctx: number, start: number, n: number, mode: number): void {
    const { d } = this.h;
    const end = start + n;
    const vmas = this.vmasOf(start, end);
    // What a page that stays protected does where nobody is told of writes any more is not in this list.
    if (vmas.some((v) => (v.first.modes & WP) !== 0 && (mode & WP) === 0)) return;
    const refused = (): number => {
      if (mode === 0 || ((mode & WP) !== 0 && !d.userfaultfdWp) || ((mode & MINOR) !== 0 && !d.userfaultfdMinor)) return -EINVAL;
      if (vmas.length === 0 || start % this.span(vmas[0]!.first) !== 0) return -EINVAL;
      for (const v of vmas) {
        if (!this.able(v.first, mode)) return -EINVAL;
        if (end <= v.end && end % this.span(v.first) !== 0) return -EINVAL;
        if (v.first.ctx >= 0 && v.first.ctx !== ctx) return -EBUSY;
      }
      return 0;
    };
    const want = refused();
    expect(this.call(this.h.mm.userfaultfd.register, ctx, start * PAGE, n * PAGE, mode), "register").toBe(want);
    if (want < 0) return;
    for (const v of vmas) {
      // Registered with these modes and others: nothing to do.
      if (v.first.ctx === ctx && (v.first.modes & mode) === mode) continue;
      for (let p = Math.max(start, v.start); p < Math.min(end, v.end); p++) Object.assign(this.pages.get(p)!, { ctx, modes: mode });
    }
  }

  unregister(ctx: number, start: number, n: number): void {
    const { d } = this.h;
    const end = start + n;
    const vmas = this.vmasOf(start, end);
    if (vmas.some((v) => end < v.end && end % this.span(v.first) !== 0)) return; // half a huge page cannot be cut off
    const refused = (): boolean => {
      if (vmas.length === 0 || start % this.span(vmas[0]!.first) !== 0) return true;
      return vmas.some(
        (v) => !this.able(v.first, v.first.modes) || (d.userfaultfdUnregisterOther === "EINVAL" && v.first.ctx >= 0 && v.first.ctx !== ctx),
      );
    };
    const want = refused() ? -EINVAL : 0;
    expect(this.call(this.h.mm.userfaultfd.unregister, ctx, start * PAGE, n * PAGE), "unregister").toBe(want);
    if (want < 0) return;
    for (const v of vmas) {
      const [from, to] = [Math.max(start, v.start), Math.min(end, v.end)];
      if ((v.first.modes & MISSING) !== 0) this.awake(v.first.ctx, from, to);
      for (let p = from; p < to; p++) {
        const s = this.pages.get(p)!;
        if ((s.modes & WP) !== 0) s.wp = false;
        Object.assign(s, { ctx: -1, modes: 0 });
      }
    }
  }

  /** One VMA that holds the range and is registered with somebody. */
  private destination(start: number, n: number): Page | undefined {
    const s = this.pages.get(start);
    return s !== undefined && s.ctx >= 0 && this.vma(start)!.end >= start + n ? s : undefined;
  }

  /**
   * COPY, ZEROPAGE, CONTINUE, POISON: page by page until one is refused.
   * @param one fills the page, or says why not
   */
  private fill(
    name: string,
    r: number,
    start: number,
    n: number,
    mode: number,
    ctx: number,
    step: number,
    one: (page: number) => number,
  ): void {
    let done = 0;
    let error = 0;
    while (done < n && error === 0) {
      error = one(start + done);
      if (error === 0) done += step;
    }
    expect(r, name).toBe(done > 0 ? done * PAGE : error);
    if (done > 0 && (mode & DONTWAKE) === 0) this.awake(ctx, start, start + done);
  }

  /** @returns -errno before anything is filled, or the VMA's page */
  private target(start: number, n: number, mode: number, known: number): number | Page {
    const { d } = this.h;
    if ((mode & ~known) !== 0) return -EINVAL;
    const s = this.destination(start, n);
    if (s === undefined) return d.userfaultfdNoVma === "EINVAL" ? -EINVAL : -ENOENT;
    if ((mode & 2) !== 0 && (s.modes & WP) === 0) return -EINVAL;
    return s;
  }

  copy(ctx: number, start: number, n: number, from: number, off: number, mode: number): void {
    const { d } = this.h;
    const r0 = this.target(start, n, mode, d.userfaultfdWriteprotect ? 3 : 1);
    const bad = typeof r0 === "object" && (start % this.span(r0) !== 0 || n % this.span(r0) !== 0);
    const plan = typeof r0 === "number" ? r0 : bad ? -EINVAL : r0;
    const huge = new Set<number>();
    for (let p = start; p < start + n; p++) if (this.isHuge(p)) huge.add(p);
    const r = this.call(this.h.mm.userfaultfd.copy, ctx, start * PAGE, from * PAGE + off, n * PAGE, mode);
    if (typeof plan === "number") {
      expect(r, "UFFDIO_COPY").toBe(plan);
      return;
    }
    const span = this.span(plan);
    this.fill("UFFDIO_COPY", r, start, n, mode, ctx, span, (page) => {
      const s = this.pages.get(page)!;
      const occupied = s.mapped || s.poison;
      if (huge.has(page)) return -EEXIST;
      if (span > 1 && (occupied || (s.shared && this.cached(s)))) return -EEXIST;
      for (let i = 0; i < span + (off > 0 ? 1 : 0); i++) {
        const source = this.pages.get(from + page - start + i);
        if (source === undefined || (source.prot & PROT_READ) === 0) return -EFAULT;
      }
      if (this.beyond(s) && (span === 1 || s.shared)) return -EFAULT;
      if (s.shared && this.cached(s)) return -EEXIST;
      if (occupied) return -EEXIST;
      for (const [i, q] of this.whole(page, s).entries()) {
        const source = this.contents(this.pages.get(from + page - start + i)!);
        const words: Words = off === 0 ? [...source] : [source[1], 0];
        if (s.shared) s.file!.pages.set(q.pgoff, words);
        else q.own = words;
        Object.assign(q, { mapped: true, wp: (mode & 2) !== 0 });
      }
      return 0;
    });
  }

  zeropage(ctx: number, start: number, n: number, mode: number): void {
    const plan = this.target(start, n, mode, 1);
    const r = this.call(this.h.mm.userfaultfd.zeropage, ctx, start * PAGE, n * PAGE, mode);
    if (typeof plan === "number" || this.span(plan) > 1) {
      expect(r, "UFFDIO_ZEROPAGE").toBe(typeof plan === "number" ? plan : -EINVAL);
      return;
    }
    this.fill("UFFDIO_ZEROPAGE", r, start, n, mode, ctx, 1, (page) => {
      const s = this.pages.get(page)!;
      if (!s.shared) {
        if (s.file !== undefined && this.beyond(s)) return -EFAULT;
        // The zero page replaces nothing, not even the mark of a protected page.
        if (s.mapped || s.poison || (s.file !== undefined && s.wp)) return -EEXIST;
        if (s.file !== undefined) s.own = [0, 0];
      } else {
        if (this.beyond(s)) return -EFAULT;
        if (this.cached(s) || s.mapped || s.poison) return -EEXIST;
        s.file!.pages.set(s.pgoff, [0, 0]);
      }
      Object.assign(s, { mapped: true, wp: false });
      return 0;
    });
  }

  continue(ctx: number, start: number, n: number, mode: number): void {
    const { d } = this.h;
    let plan = d.userfaultfdMinor ? this.target(start, n, mode, d.userfaultfdContinueWp ? 3 : 1) : -EINVAL;
    if (typeof plan === "object" && (plan.file === undefined || start % this.span(plan) !== 0 || n % this.span(plan) !== 0)) plan = -EINVAL;
    const r = this.call(this.h.mm.userfaultfd.continue, ctx, start * PAGE, n * PAGE, mode);
    if (typeof plan === "number") {
      expect(r, "UFFDIO_CONTINUE").toBe(plan);
      return;
    }
    const span = this.span(plan);
    this.fill("UFFDIO_CONTINUE", r, start, n, mode, ctx, span, (page) => {
      const s = this.pages.get(page)!;
      if (span === 1 && this.beyond(s)) return -EINVAL;
      if (!this.cached(s)) return -EFAULT;
      if (s.mapped || s.poison) return -EEXIST;
      for (const q of this.whole(page, s)) Object.assign(q, { mapped: true, wp: (mode & 2) !== 0 });
      return 0;
    });
  }

  poison(ctx: number, start: number, n: number, mode: number): void {
    const { d } = this.h;
    let plan = d.userfaultfdPoison ? this.target(start, n, mode, 1) : -EINVAL;
    if (typeof plan === "object" && (start % this.span(plan) !== 0 || n % this.span(plan) !== 0)) plan = -EINVAL;
    const r = this.call(this.h.mm.userfaultfd.poison, ctx, start * PAGE, n * PAGE, mode);
    if (typeof plan === "number") {
      expect(r, "UFFDIO_POISON").toBe(plan);
      return;
    }
    const span = this.span(plan);
    this.fill("UFFDIO_POISON", r, start, n, mode, ctx, span, (page) => {
      const s = this.pages.get(page)!;
      if (span === 1 && this.beyond(s)) return -EFAULT;
      if (s.mapped || s.poison || (s.file !== undefined && s.wp)) return -EEXIST;
      for (const q of this.whole(page, s)) q.poison = true;
      return 0;
    });
  }

  writeprotect(ctx: number, start: number, n: number, mode: number): void {
    const { d } = this.h;
    const end = start + n;
    const protect = (mode & 1) !== 0;
    const vmas = this.vmasOf(start, end);
    let want = 0;
    const parts: [number, number, Page][] = [];
    if (!d.userfaultfdWriteprotect || mode > 2) want = -EINVAL;
    else {
      if (vmas.length === 0) want = -ENOENT;
      for (const v of vmas) {
        if ((v.first.modes & WP) === 0) want = -ENOENT;
        else if (start % this.span(v.first) !== 0 || n % this.span(v.first) !== 0) want = -EINVAL;
        if (want < 0) break;
        parts.push([Math.max(start, v.start), Math.min(end, v.end), v.first]);
      }
    }
    expect(this.call(this.h.mm.userfaultfd.writeprotect, ctx, start * PAGE, n * PAGE, mode), "UFFDIO_WRITEPROTECT").toBe(want);
    for (const [from, to] of parts)
      for (let p = from; p < to; p++) {
        const s = this.pages.get(p)!;
        if (s.poison) continue;
        if (protect) s.wp ||= s.mapped || s.file !== undefined;
        else s.wp = false;
      }
    if (want === 0 && mode === 0) this.awake(ctx, start, end);
  }

  // ---- what is there

  isHuge(page: number): boolean {
    const { pt } = this.h.mm;
    return pt.walk(0, page * PAGE) && pt.leafLevel === 2;
  }

  /** Where the kernel has taken a 2 MiB page all of it is mapped: that is its choice. */
  seeHuge(block: number): void {
    if (!this.isHuge(block)) return;
    for (let p = block; p < block + 512; p++) this.pages.get(p)!.mapped = true;
  }
}
