/**
 * The debugger: stands at an event of a run, goes forwards and backwards, and says what changed on the way. One
 * command in, lines out; it neither reads nor writes a terminal.
 */
import { didYouMean } from "../guest/diagnostics.js";
import { FaultlineError } from "../sim/errors.js";
import { eventCatalogue, type EventRecord } from "../sim/events.js";
import type { Machine } from "../machine.js";
import { eventLine } from "../trace/text.js";
import { fieldsText } from "../trace/fields.js";
import { parseBreakpoint, type Breakpoint } from "./breakpoints.js";
import { changes, viewOf, type View } from "./changes.js";
import { dump, DUMPS, type DumpName } from "./dump.js";
import { accessOf, explain } from "./explain.js";
import { stepOf, type Recorded } from "./recorded.js";

/** The beginnings and ends of guest accesses that leave a trace. */
const ACCESS = ["tlb_miss", "device_read", "device_write", "bus_unclaimed", "pci_unclaimed"];
const FAULT = ["kvm_guest_fault"];

interface Command {
  readonly words: readonly string[];
  readonly usage: string;
  readonly doc: string;
  run(d: Debugger, rest: string): string[];
}

const count = (text: string): number => {
  if (text === "") return 1;
  if (!/^[0-9]+$/.test(text) || Number(text) < 1) throw new FaultlineError(`"${text}" is no number of steps`);
  return Number(text);
};

/** `step 3`, `step fault 2`: how far and by what. */
function stride(d: Debugger, rest: string, direction: 1 | -1): string[] {
  const [first = "", second = ""] = rest.split(/\s+/);
  if (/^(fault|access|event)s?$/.test(first)) {
    const names = first.startsWith("fault") ? FAULT : first.startsWith("access") ? ACCESS : undefined;
    return d.move(direction, count(second), names, first.replace(/s$/, ""));
  }
  if (first !== "" && !/^[0-9]+$/.test(first)) throw new FaultlineError(`step by what? ${didYouMean(first, ["event", "access", "fault"])}`);
  return d.move(direction, count(first), undefined, "event");
}

const COMMANDS: readonly Command[] = [
  {
    words: ["step", "s"],
    usage: "step [event|access|fault] [N]",
    doc: "N events (guest accesses, guest faults) forwards",
    run: (d, r) => stride(d, r, 1),
  },
  { words: ["back", "rs"], usage: "back [event|access|fault] [N]", doc: "the same backwards", run: (d, r) => stride(d, r, -1) },
  { words: ["continue", "c"], usage: "continue", doc: "forwards to the next breakpoint, or to the end", run: (d) => d.toBreakpoint(1) },
  {
    words: ["rcontinue", "rc"],
    usage: "rcontinue",
    doc: "backwards to the breakpoint before, or to the beginning",
    run: (d) => d.toBreakpoint(-1),
  },
  { words: ["goto"], usage: "goto STEP", doc: "to an event by its number", run: (d, r) => d.goto(r) },
  { words: ["start"], usage: "start", doc: "to the first event of the script", run: (d) => d.goto(String(d.start)) },
  { words: ["end"], usage: "end", doc: "to the last event", run: (d) => d.goto(String(d.run.events.last)) },
  {
    words: ["break", "b"],
    usage: "break EVENT | ADDRESS [if FIELD == VALUE [&& …]]",
    doc: "break kvm_guest_fault; break 0x80000000+64K; break stage2_entry if level == 3; break if agent == vcpu1",
    run: (d, r) => d.addBreakpoint(r),
  },
  { words: ["delete"], usage: "delete [N]", doc: "removes a breakpoint, or all of them", run: (d, r) => d.deleteBreakpoint(r) },
  { words: ["breakpoints"], usage: "breakpoints", doc: "lists the breakpoints", run: (d) => d.breakpointList() },
  {
    words: ["where", "w"],
    usage: "where",
    doc: "the event, its script line, the agents and the phases that they are in",
    run: (d) => d.where(),
  },
  { words: ["list", "l"], usage: "list [N]", doc: "the N events before and after (5)", run: (d, r) => d.list(r === "" ? 5 : count(r)) },
  { words: ["dump", "print", "p"], usage: `dump ${DUMPS.join("|")} [long]`, doc: "a table as it stands here", run: (d, r) => d.dump(r) },
  { words: ["explain", "why"], usage: "explain", doc: "the access that this event belongs to", run: (d) => d.explain() },
  { words: ["regs"], usage: "regs [vcpuN]", doc: "the registers of a vCPU", run: (d, r) => d.registers(r) },
  {
    words: ["hash"],
    usage: "hash",
    doc: "the hash of the whole state: equal states have equal hashes",
    run: (d) => [d.machine.sim.state.hash()],
  },
  { words: ["events"], usage: "events [PART]", doc: "the names of events that contain PART", run: (_, r) => names(r) },
  { words: ["help", "h", "?"], usage: "help", doc: "this", run: () => help() },
  { words: ["quit", "q", "exit"], usage: "quit", doc: "ends", run: (d) => ((d.ended = true), []) },
];

function names(part: string): string[] {
  return eventCatalogue()
    .filter((e) => e.name.includes(part))
    .map((e) => `${e.name.padEnd(28)} ${e.doc}`);
}

function help(): string[] {
  const width = 34;
  return COMMANDS.map((c) =>
    c.usage.length > width ? `${c.usage}\n${"".padEnd(width)} ${c.doc}` : `${c.usage.padEnd(width)} ${c.doc}`,
  ).flatMap((l) => l.split("\n"));
}

export class Debugger {
  /** `quit` was said. */
  ended = false;
  /** The first event behind the machine's set-up: where the script begins. */
  readonly start: number;
  private seq: number;
  private view: View;
  private readonly breakpoints: (Breakpoint | undefined)[] = [];

  constructor(readonly run: Recorded) {
    const { events } = run;
    this.start = Math.max(events.first, Math.min(run.result.begins, events.last));
    this.seq = this.start;
    this.view = viewOf(this.machine);
  }

  /** The number of the event it stands at. */
  get position(): number {
    return this.seq;
  }
  /** The machine as it stands here: for looking, until the next move. */
  get machine(): Machine {
    return this.run.timeline.visit(this.seq);
  }

  /** One command. @throws FaultlineError for a wrong one, with the nearest right one */
  execute(line: string): string[] {
    const trimmed = line.replace(/#.*$/, "").trim();
    if (trimmed === "") return [];
    const space = trimmed.search(/\s/);
    const word = space < 0 ? trimmed : trimmed.slice(0, space);
    const command = COMMANDS.find((c) => c.words.includes(word));
    if (command === undefined) {
      const near = didYouMean(
        word,
        COMMANDS.map((c) => c.words[0]!),
      );
      throw new FaultlineError(`no command "${word}"${near === "" ? "; help lists them" : `: ${near}`}`);
    }
    return command.run(this, space < 0 ? "" : trimmed.slice(space).trim());
  }

  /** Goes n of these events on (all events if undefined). */
  move(direction: 1 | -1, n: number, wanted: readonly string[] | undefined, what: string): string[] {
    const { events } = this.run;
    let at = this.seq;
    for (let i = 0; i < n; i++) {
      const next = wanted === undefined ? at + direction : events.find(wanted, at + direction, direction);
      if (!events.has(next)) {
        const where = direction > 0 ? "end" : "beginning";
        if (i === 0) return [`no ${what} ${direction > 0 ? "after" : "before"} this one: the ${where} of the run`];
        break;
      }
      at = next;
    }
    return this.arrive(at);
  }

  toBreakpoint(direction: 1 | -1): string[] {
    const { events } = this.run;
    const set = this.breakpoints.filter((b) => b !== undefined);
    const wanted = set.every((b) => b.events !== undefined) ? set.flatMap((b) => b.events!) : undefined;
    const hit = (e: EventRecord) => set.some((b) => (b.events === undefined || b.events.includes(e.event)) && b.test(e));
    const next = set.length === 0 ? -1 : events.find(wanted, this.seq + direction, direction, hit);
    if (next >= 0) return this.arrive(next);
    const edge = direction > 0 ? events.last : events.first;
    return [
      `no breakpoint is hit ${direction > 0 ? "after" : "before"} this: the ${direction > 0 ? "end" : "beginning"} of the run`,
      ...this.arrive(edge),
    ];
  }

  goto(text: string): string[] {
    const { events } = this.run;
    const seq = /^[0-9]+$/.test(text) ? Number(text) : NaN;
    if (!events.has(seq))
      throw new FaultlineError(
        `there is no event ${text === "" ? "(goto takes a number)" : text}: the run has ${events.first} to ${events.last}`,
      );
    return this.arrive(seq);
  }

  /** Stands at an event: the event, and what changed since the last place. */
  private arrive(seq: number): string[] {
    if (seq === this.seq) return this.here();
    this.seq = seq;
    const before = this.view;
    this.view = viewOf(this.machine);
    return [...this.here(), ...changes(before, this.view).map((l) => `  ${l}`)];
  }

  /** The event in a story's words, and all of its fields. */
  private here(): string[] {
    const e = this.run.events.at(this.seq);
    const step = stepOf(this.run.result, e.agent, this.seq);
    const fields = fieldsText(e);
    return [
      ...(step === undefined ? [] : [`line ${step.line}: ${step.text}`]),
      eventLine(e, { width: 0, annotate: true }),
      ...(fields === "" ? [] : [`${"".padEnd(14)}${fields}`]),
    ];
  }

  addBreakpoint(text: string): string[] {
    const b = parseBreakpoint(text);
    this.breakpoints.push(b);
    return [`breakpoint ${this.breakpoints.length}: ${b.text}`];
  }
  deleteBreakpoint(text: string): string[] {
    if (text === "") {
      this.breakpoints.fill(undefined);
      return ["all breakpoints deleted"];
    }
    const n = /^[0-9]+$/.test(text) ? Number(text) : 0;
    if (this.breakpoints[n - 1] === undefined) throw new FaultlineError(`there is no breakpoint ${text}`);
    this.breakpoints[n - 1] = undefined;
    return [`breakpoint ${n} deleted`];
  }
  breakpointList(): string[] {
    const out = this.breakpoints.flatMap((b, n) => (b === undefined ? [] : [`${n + 1}  ${b.text}`]));
    return out.length === 0 ? ["no breakpoints"] : out;
  }

  where(): string[] {
    const { agents } = this.machine.sim;
    const out = this.here();
    for (let a = 0; a < agents.count; a++) {
      const trace = agents.backtrace(a);
      out.push(`${agents.name(a).padEnd(8)} ${trace.length === 0 ? "idle" : trace.join(" < ")}`);
    }
    return out;
  }

  list(n: number): string[] {
    const { events } = this.run;
    const out: string[] = [];
    for (let seq = Math.max(events.first, this.seq - n); seq <= Math.min(events.last, this.seq + n); seq++)
      out.push(`${seq === this.seq ? ">" : " "} ${eventLine(events.at(seq), { width: 0, annotate: true })}`);
    return out;
  }

  dump(text: string): string[] {
    const [what = "", how = ""] = text.split(/\s+/);
    if (!(DUMPS as readonly string[]).includes(what))
      throw new FaultlineError(`dump what? ${didYouMean(what, DUMPS) || `one of: ${DUMPS.join(", ")}`}`);
    return [...dump(this.machine, what as DumpName, how === "long" || how === "--long").lines];
  }

  explain(): string[] {
    const access = accessOf(this.run, this.seq);
    if (access === undefined) return ["this event belongs to no guest access"];
    return [...explain(this.run, access, { check: false }).prose];
  }

  registers(text: string): string[] {
    const m = /^(?:vcpu)?([0-9]+)$/.exec(text === "" ? "0" : text);
    const { machine } = this;
    const v = m === null ? -1 : Number(m[1]);
    if (v < 0 || v >= machine.registers.count) throw new FaultlineError(`no vCPU "${text}": there are ${machine.registers.count}`);
    return viewOf(machine).get(`vcpu${v}`)!.slice();
  }
}
