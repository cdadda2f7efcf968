/**
 * References that a fault takes are given back: when every agent has ended, a page has as many references as its
 * mappings account for. What the run began with (page cache, pinned pages) is known from before.
 */
import { FRAME_ANON, FRAME_HWPOISON, FRAME_KSM, FRAME_SWAPCACHE } from "../../mmu/frames.js";
import type { Machine } from "../../machine.js";
import { hex, type Invariant } from "./invariant.js";

const baselines = new WeakMap<Machine, ReadonlyMap<number, number>>();

/** References beyond mappings of every page that the VMM's tables map, by page number. */
function excess(m: Machine): Map<number, number> {
  const out = new Map<number, number>();
  const { vmas, pt, frames } = m.mm;
  for (let v = vmas.first(0); v >= 0; v = vmas.next(v)) {
    for (let hva = vmas.start(v); hva < vmas.end(v);) {
      const present = pt.walk(0, hva);
      const step = pt.level === 3 ? 4096 : pt.level === 2 ? 2 ** 21 : pt.level === 1 ? 2 ** 30 : 2 ** 39;
      if (present && frames.pfnValid(pt.leafPfn)) {
        const head = frames.isRam(pt.leafPfn) ? frames.head(pt.leafPfn) : pt.leafPfn;
        out.set(head, frames.refcount(head) - frames.mapcount(head));
      }
      hva += step - (hva % step);
    }
  }
  return out;
}

/** Who else holds references of anonymous pages: swap entries, KSM's tree, who took a broken page away. */
const ELSEWHERE = FRAME_SWAPCACHE | FRAME_KSM | FRAME_HWPOISON;

export const references: Invariant = {
  name: "references-given-back",
  statement: "When all is over, no page has more references than before beyond those of its mappings.",
  source: "KVM: arm64: Fix page leak in user_mem_abort() (v6.18); kvm_release_faultin_page",
  end: (w) => {
    const before = baselines.get(w.machine);
    if (before === undefined) return undefined;
    const { frames } = w.machine.mm;
    const after = excess(w.machine);
    for (const pfn of new Set([...after.keys(), ...before.keys()])) {
      const mapped = before.has(pfn) && after.has(pfn);
      // An anonymous one that was not mapped before is fresh and had none; one that no longer is has none.
      if (!mapped && (frames.flags(pfn) & (FRAME_ANON | ELSEWHERE)) !== FRAME_ANON) continue;
      const then = before.get(pfn) ?? 0;
      const now = after.get(pfn) ?? frames.refcount(pfn) - frames.mapcount(pfn);
      if (now > then) return `page ${hex(pfn * 4096)} has ${now - then} references more than before`;
    }
    return undefined;
  },
};

/** Notes what pages hold before agents run. */
export function noteReferences(m: Machine): void {
  baselines.set(m, excess(m));
}
