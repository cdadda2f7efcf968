/**
 * What changes with nearly every step of the running agent: its clock, its innermost frame, the number of events. Counted
 * here and brought into the state's pools before anybody looks at them (StateRegistry.tally); in one object, whose
 * address the code of a step then holds once.
 */
export class Running {
  /** The agent whose phase runs now. */
  agent = 0;
  /** The physical CPU it runs on. */
  cpu = 0;
  /** Its innermost frame, -1 while it is idle. */
  top = 0;
  /** Its clock, in cycles. */
  time = 0;
  /**
   * Events since the last `carry`, below 2^31: a sum that is told to be 32 bits wide (`| 0`) is half the code of one that
   * may outgrow them. No two returns to the loop over phases are 2^30 events apart.
   */
  events = 0;
  /** Events up to the last `carry`. */
  private earlier = 0;

  /** Events ever: the number of the next one. */
  get seq(): number {
    return this.earlier + this.events;
  }
  set seq(seq: number) {
    this.earlier = seq;
    this.events = 0;
  }
  /** Between phases: room for more events. */
  carry(): void {
    this.seq = this.earlier + this.events;
  }
}

/** `Running.events` from which on the loops over phases `carry`. */
export const CARRY = 1 << 30;
