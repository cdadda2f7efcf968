/** The calls of a run, at their places between its events, to be told to somebody later. */
import type { CallSink, EventBus } from "../sim/events.js";

interface Mark {
  /** The event before which it happened. */
  readonly seq: number;
  readonly agent: number;
  readonly time: number;
  /** What began; undefined: the agent's call returned. */
  readonly call?: unknown;
  readonly ret: number;
}

/** Calls of longer runs are not kept. */
const MOST_MARKS = 1 << 20;

export class CallLog {
  private readonly marks: Mark[] = [];
  private readonly detach: () => void;

  constructor(bus: EventBus) {
    const keep = (m: Mark): void => {
      if (this.marks.length < MOST_MARKS) this.marks.push(m);
    };
    this.detach = bus.stream(() => undefined, {
      began: (agent, time, call) => keep({ seq: bus.seq, agent, time, call, ret: 0 }),
      ended: (agent, time, ret) => keep({ seq: bus.seq, agent, time, ret }),
    });
  }
  stop(): void {
    this.detach();
  }

  /** A teller that tells a sink, each time it is asked, what happened before event `seq` and was not told yet; not what was before `first`. */
  teller(sink: CallSink, first: number): (seq: number) => void {
    let at = this.marks.findIndex((m) => m.seq >= first);
    if (at < 0) at = this.marks.length;
    return (seq) => {
      for (let m = this.marks[at]; m !== undefined && m.seq <= seq; m = this.marks[++at])
        if (m.call === undefined) sink.ended(m.agent, m.time, m.ret);
        else sink.began(m.agent, m.time, m.call);
    };
  }
}
