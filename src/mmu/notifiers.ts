/**
 * MMU notifiers (mm/mmu_notifier.c): who is told before and after host page-table entries change.
 *
 * A range_start is delivered to every subscriber in turn, then the host entries change, then a
 * range_end is delivered. KVM subscribes once per VM. The first mapping of a page tells nobody.
 */
import type { Activity } from "../sim/agents.js";
import { ARG, PHASE, PREV, R0 } from "../sim/agents.js";
import { declareEvent } from "../sim/events.js";
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

/** Event types of a range (enum mmu_notifier_event). KVM ignores them. */
export const MMU_NOTIFY_UNMAP = 0;
export const MMU_NOTIFY_CLEAR = 1;
export const MMU_NOTIFY_PROTECTION_VMA = 2;
export const MMU_NOTIFY_PROTECTION_PAGE = 3;
export const MMU_NOTIFY_SOFT_DIRTY = 4;
export const MMU_NOTIFY_RELEASE = 5;
export const MMU_NOTIFY_MIGRATE = 6;

const TYPES = ["UNMAP", "CLEAR", "PROTECTION_VMA", "PROTECTION_PAGE", "SOFT_DIRTY", "RELEASE", "MIGRATE"] as const;

export const rangeStartEvent = declareEvent(
  "faultline",
  "mmu_notifier_invalidate_range_start",
  "host page-table entries of [start, end) are about to change; every subscriber is told now",
  [
    { name: "mm", kind: "dec" },
    { name: "start", kind: "hex" },
    { name: "end", kind: "hex" },
    { name: "type", kind: "enum", values: TYPES },
  ],
);
export const rangeEndEvent = declareEvent(
  "faultline",
  "mmu_notifier_invalidate_range_end",
  "the host page-table entries of [start, end) have changed; every subscriber is told now",
  [
    { name: "mm", kind: "dec" },
    { name: "start", kind: "hex" },
    { name: "end", kind: "hex" },
    { name: "type", kind: "enum", values: TYPES },
  ],
);
export const changePteEvent = declareEvent("faultline", "mmu_notifier_change_pte", "a page is replaced by another between start and end", [
  { name: "mm", kind: "dec" },
  { name: "address", kind: "hex" },
  { name: "pfn", kind: "hex" },
]);
export const releaseEvent = declareEvent(
  "faultline",
  "mmu_notifier_release",
  "the address space goes away; every subscriber lets go of it",
  [{ name: "mm", kind: "dec" }],
);

/** What a subscriber answers with (struct mmu_notifier_ops). Each is an activity. */
export interface MmuSubscriber {
  /** Arguments (mm, start, end, type, blockable, token); R0: 0, or -EAGAIN when not blockable. */
  readonly rangeStart: Activity;
  /** Arguments as rangeStart. */
  readonly rangeEnd: Activity;
  /** Arguments (mm, addr, pfn, token). */
  readonly changePte?: Activity;
  /** Arguments (mm, token). */
  readonly release?: Activity;
  /** Arguments (mm, start, end, token); R0: 1 if any page was young. */
  readonly clearFlushYoung?: Activity;
  readonly clearYoung?: Activity;
  readonly testYoung?: Activity;
  /** rangeStart and rangeEnd without frames. */
  readonly now?: SubscriberNow;
}

/** What a subscriber does where it need not wait, in one step: exactly what its activities do. */
export interface SubscriberNow {
  /** Neither of the two would have to wait now. Reads only. */
  ready(token: number): boolean;
  rangeStart(token: number, start: number, end: number): void;
  rangeEnd(token: number, start: number, end: number): void;
}

/** Which optional callback `callEach` delivers. */
const CHANGE_PTE = 0;
const RELEASE = 1;
const CLEAR_FLUSH_YOUNG = 2;
const CLEAR_YOUNG = 3;
const TEST_YOUNG = 4;

/** Words of one subscription: mm + 1 (0: dropped), kind (index of the subscriber's callbacks), token. */
const SUB_WORDS = 3;
const SUB_MM = 0;
const SUB_KIND = 1;
const SUB_TOKEN = 2;

const MM = ARG;
const START = ARG + 1;
const END = ARG + 2;
const TYPE = ARG + 3;
const BLOCKABLE = ARG + 4;
/** The next subscription to tell. */
const NEXT = ARG + 5;
const RESULT = ARG + 6;

export class MmuNotifiers {
  /** mm, start, end, type, blockable -> R0: 0 or -EAGAIN. */
  readonly invalidateRangeStart: Activity;
  /** mm, start, end, type. */
  readonly invalidateRangeEnd: Activity;
  /** mm, start, end, type, blockable, subscription: the two from their second phase on, for those from this one on. */
  readonly startRest: Activity;
  readonly endRest: Activity;
  /** mm, start, end, type: start and end of a range in which the caller changes no host entry. */
  readonly invalidateRange: Activity;
  /** mm, addr, pfn: only where somebody registered it. */
  readonly changePte: Activity;
  /** mm: tells every subscriber of the mm and drops the subscriptions. */
  readonly release: Activity;
  /** mm, start, end -> R0: 1 if young. */
  readonly clearFlushYoung: Activity;
  readonly clearYoung: Activity;
  readonly testYoung: Activity;

  private readonly subs: I32Pool;
  /** [0] number of subscription records ever used. */
  private readonly count: I32Pool;
  /** Kinds of subscribers: static configuration, one per class that registers. */
  private readonly kinds: MmuSubscriber[] = [];
  private readonly nows: (SubscriberNow | undefined)[] = [];
  /** The phases in which a walk of the subscriptions is under way. */
  private readonly walking: readonly number[];

  constructor(private readonly sim: Sim) {
    this.subs = sim.state.i32("notifiers.subs", 16 * SUB_WORDS);
    this.count = sim.state.i32("notifiers.count", 1);
    const { agents } = sim;
    const source = "mm/mmu_notifier.c";
    const start = agents.activity("invalidateRangeStart", `${source} __mmu_notifier_invalidate_range_start`, 7, [
      ["announce", (f) => this.announceStart(f)],
      ["tell", this.tellStart],
    ]);
    this.invalidateRangeStart = start;
    this.invalidateRangeEnd = agents.activity("invalidateRangeEnd", `${source} __mmu_notifier_invalidate_range_end`, 7, [
      ["announce", (f) => this.announceEnd(f)],
      ["tell", this.tellEnd],
    ]);
    this.startRest = agents.from(start, 1);
    this.endRest = agents.from(this.invalidateRangeEnd, 1);
    this.invalidateRange = agents.activity("invalidateRange", `${source} start and end`, 4, [
      ["start", (f) => this.range(f, 1, start)],
      ["end", (f) => this.range(f, 2, this.invalidateRangeEnd)],
      ["done", (f) => agents.ret(f)],
    ]);
    this.changePte = this.optional("changePte", `${source} __mmu_notifier_change_pte`, CHANGE_PTE);
    this.release = this.optional("mmuNotifierRelease", `${source} __mmu_notifier_release`, RELEASE);
    this.clearFlushYoung = this.optional("clearFlushYoung", `${source} __mmu_notifier_clear_flush_young`, CLEAR_FLUSH_YOUNG);
    this.clearYoung = this.optional("clearYoung", `${source} __mmu_notifier_clear_young`, CLEAR_YOUNG);
    this.testYoung = this.optional("testYoung", `${source} __mmu_notifier_test_young`, TEST_YOUNG);
    const walks = [start, this.invalidateRangeEnd, this.changePte, this.release, this.clearFlushYoung, this.clearYoung, this.testYoung];
    this.walking = walks.map((a) => a.first + 1);
  }

  /**
   * mmu_notifier_register: from now on the mm's events are delivered.
   * @param subscriber one constant object per class that subscribes
   * @param token passed back as the last argument of every callback (KVM: the VM)
   * @returns the subscription, for `unregister`
   */
  register(mm: number, subscriber: MmuSubscriber, token = 0): number {
    let kind = this.kinds.indexOf(subscriber);
    if (kind < 0) {
      kind = this.kinds.push(subscriber) - 1;
      this.nows.push(subscriber.now);
    }
    const n = this.count.a[0]!;
    let s = 0;
    while (s < n && this.subs.a[Math.imul(s, SUB_WORDS) + SUB_MM] !== 0) s++;
    if (s === n) {
      this.subs.ensure((n + 1) * SUB_WORDS);
      this.count.set(0, n + 1);
    }
    this.subs.set(Math.imul(s, SUB_WORDS) + SUB_MM, mm + 1);
    this.subs.set(Math.imul(s, SUB_WORDS) + SUB_KIND, kind);
    this.subs.set(Math.imul(s, SUB_WORDS) + SUB_TOKEN, token);
    return s;
  }

  private range(f: number, next: number, what: Activity): number {
    const { agents } = this.sim;
    const a = agents.stack.a;
    return agents.call(f, this.invalidateRange.first + next, what, a[f + MM]!, a[f + START]!, a[f + END]!, a[f + TYPE]!, 1);
  }

  /** The subscription of a subscriber by its token, -1 when the address space has dropped it (hlist_unhashed). */
  find(mm: number, subscriber: MmuSubscriber, token: number): number {
    const kind = this.kinds.indexOf(subscriber);
    const a = this.subs.a;
    for (let s = this.next(0, mm); s >= 0; s = this.next(s + 1, mm))
      if (a[Math.imul(s, SUB_WORDS) + SUB_KIND] === kind && a[Math.imul(s, SUB_WORDS) + SUB_TOKEN] === token) return s;
    return -1;
  }

  /** synchronize_srcu must wait: another agent is telling subscribers, which it found before one was taken off the list. */
  get walked(): boolean {
    const { agents } = this.sim;
    const s = agents.stack.a;
    for (let agent = 0; agent < agents.count; agent++) {
      if (agent === agents.current) continue;
      for (let f = agents.frame(agent); f >= 0; f = s[f + PREV]!) if (this.walking.includes(s[f + PHASE]!)) return true;
    }
    return false;
  }

  /** The first half of mmu_notifier_unregister: off the list; `walked` says when nobody can still come by it. */
  unregister(subscription: number): void {
    for (let w = 0; w < SUB_WORDS; w++) this.subs.set(Math.imul(subscription, SUB_WORDS) + w, 0);
  }

  /** True if anybody listens to the mm (mm_has_notifiers). */
  hasNotifiers(mm: number): boolean {
    return this.next(0, mm) >= 0;
  }

  /** The first live subscription of the mm at or after s, or -1. */
  private next(s: number, mm: number): number {
    const a = this.subs.a;
    const n = this.count.a[0]!;
    for (; s < n; s++) if (a[Math.imul(s, SUB_WORDS) + SUB_MM] === mm + 1) return s;
    return -1;
  }

  /** A straight run of which nobody hears, who would ask in the middle where the agent is: `startNow` and `endNow` may be used. */
  get direct(): boolean {
    return this.sim.agents.straight && !this.sim.bus.listening;
  }
  /**
   * invalidateRangeStart without frames of its own, as far as nobody has to wait.
   * @param f a frame whose first arguments are mm, start, end @returns -1: all were told; else `startRest`'s last argument:
   *   the subscription from which that has to go on
   */
  startNow(f: number, type: number): number {
    return this.eachNow(f, type, true);
  }
  /** The same for invalidateRangeEnd and `endRest`. */
  endNow(f: number, type: number): number {
    return this.eachNow(f, type, false);
  }
  /** Takes the frame, as doubles that V8 hands to a function become objects on its heap. */
  private readonly eachNow = (f: number, type: number, begins: boolean): number => {
    const s = this.sim.agents.stack.a;
    const mm = s[f + MM]! | 0;
    const start = s[f + START]!;
    const end = s[f + END]!;
    if (!this.sim.bus.unheard()) this.sim.bus.emit(begins ? rangeStartEvent : rangeEndEvent, mm, start, end, type);
    const a = this.subs.a;
    const words = Math.imul(this.count.a[0]!, SUB_WORDS);
    for (let i = 0; i < words; i += SUB_WORDS) {
      if (a[i + SUB_MM] !== ((mm + 1) | 0)) continue;
      const now = this.nows[a[i + SUB_KIND]!];
      const token = a[i + SUB_TOKEN]!;
      if (now === undefined || !now.ready(token)) return i / SUB_WORDS;
      this.sim.agents.charge(this.sim.costs.notifier);
      if (begins) now.rangeStart(token, start, end);
      else now.rangeEnd(token, start, end);
    }
    return -1;
  };

  private announceStart(f: number): number {
    const a = this.sim.agents.stack.a;
    this.sim.bus.emit(rangeStartEvent, a[f + MM], a[f + START], a[f + END], a[f + TYPE]);
    return this.tell(f, true);
  }

  private announceEnd(f: number): number {
    const a = this.sim.agents.stack.a;
    this.sim.bus.emit(rangeEndEvent, a[f + MM], a[f + START], a[f + END], a[f + TYPE]);
    return this.tell(f, false);
  }

  private readonly tellStart = (f: number): number => this.tell(f, true);
  private readonly tellEnd = (f: number): number => this.tell(f, false);

  private tell(f: number, start: boolean): number {
    const { agents } = this.sim;
    const stack = agents.stack;
    const first = stack.a[f + NEXT] === 0;
    if (stack.a[f + NEXT]! > 0 && stack.a[f + R0]! < 0) stack.set(f + RESULT, stack.a[f + R0]!);
    const mm = stack.a[f + MM]! | 0;
    const s = this.next(stack.a[f + NEXT]!, mm);
    if (s < 0) return agents.ret(f, stack.a[f + RESULT]!);
    stack.set(f + NEXT, s + 1);
    agents.charge(this.sim.costs.notifier);
    const kind = this.kinds[this.subs.a[Math.imul(s, SUB_WORDS) + SUB_KIND]!]!;
    const act = start ? this.invalidateRangeStart : this.invalidateRangeEnd;
    const token = this.subs.a[Math.imul(s, SUB_WORDS) + SUB_TOKEN]!;
    const to = start ? kind.rangeStart : kind.rangeEnd;
    const from = stack.a[f + START]!;
    const end = stack.a[f + END]!;
    const type = stack.a[f + TYPE]! | 0;
    const blockable = stack.a[f + BLOCKABLE]! | 0;
    // The loop of the agents takes up all but the first: the JavaScript stack does not grow with their number.
    if (!first) return agents.call(f, act.first + 1, to, mm, from, end, type, blockable, token);
    return agents.callStraight(f, act.first + 1, start ? this.tellStart : this.tellEnd, to, mm, from, end, type, blockable, token);
  }

  /** An activity (mm, a, b) that delivers an optional callback to everyone who has it; R0: the or of their answers. */
  private optional(name: string, source: string, which: number): Activity {
    const { agents } = this.sim;
    const act: Activity = agents.activity(name, source, 7, [
      ["announce", (f) => this.announceOptional(f, which, act)],
      ["tell", (f) => this.tellOptional(f, which, act)],
    ]);
    return act;
  }

  private announceOptional(f: number, which: number, act: Activity): number {
    const a = this.sim.agents.stack.a;
    if (which === CHANGE_PTE) this.sim.bus.emit(changePteEvent, a[f + MM], a[f + START], a[f + END]);
    else if (which === RELEASE) this.sim.bus.emit(releaseEvent, a[f + MM]);
    return this.tellOptional(f, which, act);
  }

  private tellOptional(f: number, which: number, act: Activity): number {
    const { agents } = this.sim;
    const stack = agents.stack;
    if (stack.a[f + NEXT]! > 0 && stack.a[f + R0] !== 0) stack.set(f + RESULT, 1);
    const mm = stack.a[f + MM]! | 0;
    for (let s = this.next(stack.a[f + NEXT]!, mm); s >= 0; s = this.next(s + 1, mm)) {
      const kind = this.kinds[this.subs.a[Math.imul(s, SUB_WORDS) + SUB_KIND]!]!;
      const token = this.subs.a[Math.imul(s, SUB_WORDS) + SUB_TOKEN]!;
      const to = callbackOf(kind, which);
      if (which === RELEASE) this.unregister(s);
      if (to === undefined) continue;
      stack.set(f + NEXT, s + 1);
      agents.charge(this.sim.costs.notifier);
      if (which === RELEASE) return agents.call(f, act.first + 1, to, mm, token);
      return agents.call(f, act.first + 1, to, mm, stack.a[f + START]!, stack.a[f + END]!, token);
    }
    return agents.ret(f, stack.a[f + RESULT]!);
  }
}

function callbackOf(kind: MmuSubscriber, which: number): Activity | undefined {
  switch (which) {
    case CHANGE_PTE:
      return kind.changePte;
    case RELEASE:
      return kind.release;
    case CLEAR_FLUSH_YOUNG:
      return kind.clearFlushYoung;
    case CLEAR_YOUNG:
      return kind.clearYoung;
    default:
      return kind.testYoung;
  }
}
