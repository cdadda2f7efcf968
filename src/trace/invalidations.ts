/**
 * Which invalidation made a fault start again: mmu_invalidate_retry_gfn finds one in progress over the page, or one
 * that began and ended since the fault took its copy of mmu_invalidate_seq.
 */
export interface Invalidation {
  readonly agent: number;
  /** When invalidate_range_start was called. */
  readonly time: number;
  /** Host addresses. */
  readonly from: number;
  readonly to: number;
}

interface Known extends Invalidation {
  /** Number of the event that ended it; Infinity while it is in progress. */
  ended: number;
}

/** Ended ones that are remembered. */
const REMEMBERED = 64;

export class Invalidations {
  private known: Known[] = [];

  started(i: Invalidation): void {
    if (this.known.length >= REMEMBERED) this.known = this.known.filter((k, n) => k.ended === Infinity || n >= REMEMBERED / 2);
    this.known.push({ ...i, ended: Infinity });
  }
  /** The agent's last one has ended with this event. */
  ended(agent: number, seq: number): void {
    const last = this.known.findLast((k) => k.agent === agent && k.ended === Infinity);
    if (last !== undefined) last.ended = seq;
  }

  /**
   * The one that a fault lost against: the last that covers its address, else the last of all: up to v5.12 any range counts.
   * @param since number of the fault's first event @param hva of the fault, -1 if unknown
   */
  causeOf(since: number, hva: number): Invalidation | undefined {
    const could = this.known.filter((k) => k.ended > since);
    return could.findLast((k) => k.from <= hva && hva < k.to) ?? could.at(-1);
  }
}
