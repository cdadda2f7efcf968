/**
 * The machine's tables through a run: VMAs, memslots, stage 2 and the TLBs at the places where they can have
 * changed, read by going there (src/inspect/timeline.ts). A place where nothing differs from the last is left out.
 */
import { slotRows } from "../inspect/mtree.js";
import { liveMms } from "../inspect/livemm.js";
import type { Recorded } from "../inspect/recorded.js";
import { stage2Ranges } from "../inspect/stage2dump.js";
import { tlbRows } from "../inspect/tlbdump.js";
import { backingOf, vmaRows } from "../inspect/vmadump.js";
import type { Machine } from "../machine.js";
import { eventCatalogue } from "../sim/events.js";
import type { Moments, SlotState, Stage2State, TlbState, Track, VmaState } from "./data.js";
import { Interned, internedRows } from "./interning.js";

/** Places that are visited, at most. */
export const MOST_MOMENTS = 240;
/** Rows of one table that are kept of one place. */
const MOST_ROWS = 2000;

/** Ends of something a person looks for; the more, the likelier it is shown where not all can be. */
const TURNS: Readonly<Record<string, number>> = {
  kvm_guest_fault: 2,
  guest_abort: 3,
  mmu_retry: 3,
  stale_translation: 3,
  host_crash: 3,
  mmu_notifier_invalidate_range_start: 3,
  mmu_notifier_invalidate_range_end: 3,
  memslots_published: 3,
  vfio_mmap: 2,
  vfio_zap: 3,
  stage2_unmap: 2,
  stage2_map: 2,
  stage2_set: 1,
  stage2_set_huge: 2,
  stage2_relax: 2,
  stage2_wrprotect: 2,
  stage2_split: 2,
  kvm_exit: 2,
  tlbi: 1,
  dsb: 1,
  stage2_entry: 1,
};
/** The end of a statement. */
const STATEMENT = 4;

/** Which events to stand after, in order: all that can be, or the weightiest and of the rest every so many. */
export function places(run: Recorded, most = MOST_MOMENTS): { readonly seqs: readonly number[]; readonly skipped: number } {
  const { events, result, timeline } = run;
  const weight = new Map<number, number>();
  const names = eventCatalogue().map((e) => e.name);
  const first = Math.max(result.begins, timeline.first, events.first);
  for (let seq = first; seq <= events.last; seq++) {
    const w = TURNS[names[events.kind(seq)]!];
    if (w !== undefined) weight.set(seq, w);
  }
  for (const s of result.steps) if (s.to - 1 >= first) weight.set(Math.min(s.to - 1, events.last), STATEMENT);
  if (first <= events.last) weight.set(events.last, STATEMENT);
  const chosen: number[] = [];
  for (let w = STATEMENT; w > 0; w--) {
    const room = most - chosen.length;
    const of = [...weight].filter(([, x]) => x === w).map(([seq]) => seq);
    if (of.length <= room) chosen.push(...of);
    else for (let i = 0; i < room; i++) chosen.push(of[Math.floor((i * of.length) / room)]!);
  }
  return { seqs: chosen.sort((a, b) => a - b), skipped: weight.size - chosen.length };
}

class Recording<R> {
  private readonly rows = internedRows<R>();
  private readonly states = new Interned<readonly number[]>((s) => s.join());
  private readonly at: number[] = [];

  take(rows: readonly R[]): number {
    return this.states.of(rows.slice(0, MOST_ROWS).map((r) => this.rows.of(r)));
  }
  keep(state: number): void {
    this.at.push(state);
  }
  get track(): Track<R> {
    return { rows: this.rows.list, states: this.states.list, at: this.at };
  }
}

export function momentsOf(run: Recorded, most = MOST_MOMENTS): Moments {
  const { seqs, skipped } = places(run, most);
  const vmas = new Recording<VmaState>();
  const slots = new Recording<SlotState>();
  const stage2 = new Recording<Stage2State>();
  const tlb = new Recording<TlbState>();
  const kept: number[] = [];
  let last = "";
  for (const seq of seqs) {
    const m = run.timeline.visit(seq);
    const states = [vmas.take(vmaStates(m)), slots.take(slotStates(m)), stage2.take(stage2States(m)), tlb.take(tlbStates(m))] as const;
    if (states.join() === last) continue;
    last = states.join();
    kept.push(seq);
    for (const [n, r] of [vmas, slots, stage2, tlb].entries()) r.keep(states[n as 0]);
  }
  return { seq: kept, skipped, vmas: vmas.track, slots: slots.track, stage2: stage2.track, tlb: tlb.track };
}

const vmsOf = (m: Machine): number[] => Array.from({ length: m.kvm.vms.count }, (_, vm) => vm);

function vmaStates(m: Machine): VmaState[] {
  return liveMms(m).flatMap((mm) =>
    vmaRows(m, mm).map((v) => {
      const bar = backingOf(m, v);
      const what = bar !== "" ? bar : v.path === "" ? "anonymous" : v.path;
      return { mm, start: v.start, end: v.end, perms: v.perms, what, flags: v.vmFlags.join(" ") };
    }),
  );
}

function slotStates(m: Machine): SlotState[] {
  return vmsOf(m).flatMap((vm) =>
    slotRows(m, vm).map((s) => ({
      vm,
      slot: s.slot,
      gpa: s.gpa,
      size: s.last + 1 - s.gpa,
      hva: s.hva,
      type: s.type,
      flags: s.flags.join(" "),
    })),
  );
}

function stage2States(m: Machine): Stage2State[] {
  return vmsOf(m).flatMap((vm) =>
    stage2Ranges(m, vm).map((r) => ({
      vm,
      ipa: r.ipa,
      end: r.end,
      level: r.level,
      pa: r.pa,
      valid: r.valid,
      type: r.valid ? r.type : "invalid",
      perms: r.valid ? `${r.s2ap & 1 ? "r" : "-"}${r.s2ap & 2 ? "w" : "-"}${executable(r.xn)}` : "---",
      cont: r.cont,
      descriptor: r.descriptor,
    })),
  );
}

/** XN[1:0] with FEAT_XNX: x for both, or for EL1 (px) or EL0 (ux) alone. */
function executable(xn: number): string {
  return ["x", "-, ux", "-", "-, px"][xn & 3]!;
}

function tlbStates(m: Machine): TlbState[] {
  return tlbRows(m).map((r) => ({
    cpu: r.cpu,
    kind: r.kind,
    context: r.regime === "host" ? "host" : `VMID ${r.vmid}${r.asid === "" ? "" : `, ASID ${r.asid}`}`,
    va: r.va,
    ipa: r.ipa,
    pa: r.pa,
    size: r.size,
    what: r.what,
    now: r.now,
    stale: r.stale,
  }));
}
