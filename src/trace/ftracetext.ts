/**
 * ftrace text: the lines that `trace-cmd report -t -N` prints of the same run's trace.dat. `-t` is the full
 * time stamp: virtual time has no use for rounding.
 */
import { RECORD_WORDS } from "../sim/events.js";
import { eventLayouts, type Layout } from "./layout.js";
import type { ByteOutput } from "./jsonlines.js";
import { FIRST_PID, taskName, type TraceMeta, type TraceSink, type TraceSource } from "./sink.js";
import { TraceTime } from "./tracetime.js";

const FLUSH_LINES = 2048;
/** trace-cmd pads task names and event names to these widths. */
const TASK_WIDTH = 16;
const EVENT_WIDTH = 20;
const BILLION = 1e9;

export class FtraceText implements TraceSink {
  private lines: string[] = [];
  private readonly time = new TraceTime();
  private readonly layouts = eventLayouts();
  private readonly heads: string[] = [];
  private readonly printers: (((ring: Float64Array, at: number) => string) | undefined)[] = [];
  readonly take: TraceSink["take"];

  constructor(
    private readonly out: ByteOutput,
    private readonly source: TraceSource,
    meta: TraceMeta,
  ) {
    void meta;
    this.take = (ring, from, to) => {
      for (let at = from * RECORD_WORDS; at < to * RECORD_WORDS; at += RECORD_WORDS) this.record(ring, at);
    };
  }

  private record(ring: Float64Array, at: number): void {
    const agent = ring[at + 2]!;
    const id = ring[at + 3]!;
    const l = this.layouts[id]!;
    const t = this.time.at(agent, ring[at + 1]!);
    const head = (this.heads[agent] ??= this.head(agent));
    const stamp = `${String(Math.floor(t / BILLION)).padStart(5)}.${String(t % BILLION).padStart(9, "0")}`;
    const print = (this.printers[id] ??= this.printer(l));
    this.lines.push(`${head} ${stamp}: ${`${l.event.name}:`.padEnd(EVENT_WIDTH + 1)} ${print(ring, at + 4)}`);
    if (this.lines.length >= FLUSH_LINES) this.flush();
  }

  private head(agent: number): string {
    return `${taskName(this.source.agents, agent).padStart(TASK_WIDTH)}-${String(FIRST_PID + agent).padEnd(5)} [${String(agent).padStart(3, "0")}]`;
  }

  /** The text of an event from its words. */
  private printer(l: Layout): (ring: Float64Array, at: number) => string {
    const words = new Map<string, { readonly word: number; readonly pair: boolean }>();
    const kinds = new Map(l.event.fields.map((f) => [f.name, f.kind]));
    let word = 0;
    for (const f of l.event.fields) {
      words.set(f.name, { word, pair: f.kind === "hex64" });
      word += f.kind === "hex64" ? 2 : 1;
    }
    return (ring, at) => {
      const get = (field: string): { hi: number; lo: number } => {
        const w = words.get(field)!;
        const v = ring[at + w.word]!;
        return w.pair ? { hi: v | 0, lo: ring[at + w.word + 1]! | 0 } : { hi: Math.floor(v / 2 ** 32) | 0, lo: v | 0 };
      };
      let text = "";
      for (const p of l.print) {
        const name = /^__get_str\((\w+)\)$/.exec(p.c)?.[1];
        text += name !== undefined && kinds.get(name) === "name" ? this.source.bus.nameOf(ring[at + words.get(name)!.word]!) : p.text(get);
      }
      return text;
    };
  }

  private flush(): void {
    if (this.lines.length === 0) return;
    const bytes = Buffer.from(`${this.lines.join("\n")}\n`);
    this.out.write(bytes, bytes.length);
    this.lines = [];
  }
  finish(): void {
    this.flush();
    this.out.commit();
  }
  abandon(): void {
    this.out.abandon();
  }
}
