/** The entries of all TLBs that can be hit, as invariants see them. */
import { joinWords } from "../../arch/types.js";
import type { Machine } from "../../machine.js";
import type { I32Pool } from "../../sim/state.js";
import { liveEntries } from "../tlbdigest.js";
import { byContent } from "./bycontent.js";

export interface TlbEntry {
  /** Where it lies: its words are as they are in the present state. */
  readonly pool: I32Pool;
  readonly at: number;
  readonly cpu: number;
  /** CTX_*, and VMID << 16 | ASID. */
  readonly kind: number;
  readonly ids: number;
}

/** @returns every one, CPU by CPU */
export const tlbEntries: (m: Machine) => readonly TlbEntry[] = byContent(["tlb"], (m) => {
  const out: TlbEntry[] = [];
  liveEntries(m.pe.tlbs, (pool, at, _words, cpu, kind, ids) => out.push({ pool, at, cpu, kind, ids }));
  return out;
});

/** The page's address in two words, whose low 12 bits are something else. */
export const pageAddress = (hi: number, lo: number): number => joinWords(hi, lo & ~0xfff);
