/**
 * One time line for the agents of a run. Each agent has a clock of its own; formats with one time line
 * need times that never contradict the order in which things happened. So an agent whose clock is behind
 * what was seen already is set forward, for good: as a Lamport clock does, its own durations stay exact.
 * Two events of different agents never have the same time. One cycle is written as one nanosecond.
 */
export class TraceTime {
  private offset = new Float64Array(16);
  /** By agent: the time of its last event. */
  private lasts = new Float64Array(16);
  private last = 0;
  private agent = -1;

  /** The time of the last event. */
  get now(): number {
    return this.last;
  }

  /** The trace's time of an event of this agent at this time of its clock. Call once per event, in order. */
  at(agent: number, time: number): number {
    if (agent >= this.offset.length) this.grow(agent);
    let t = time + this.offset[agent]!;
    const least = agent === this.agent ? this.last : this.last + 1;
    if (t < least) {
      this.offset[agent] = this.offset[agent]! + least - t;
      t = least;
    }
    this.agent = agent;
    this.last = t;
    this.lasts[agent] = t;
    return t;
  }

  /** The trace's time of something of this agent's that is no event, between its last event and its next. Moves nothing. */
  between(agent: number, time: number): number {
    if (agent >= this.offset.length) this.grow(agent);
    return Math.max(time + this.offset[agent]!, this.lasts[agent]!);
  }

  private grow(agent: number): void {
    const more = new Float64Array(2 * agent);
    more.set(this.offset);
    this.offset = more;
    const lasts = new Float64Array(2 * agent);
    lasts.set(this.lasts);
    this.lasts = lasts;
  }
}
