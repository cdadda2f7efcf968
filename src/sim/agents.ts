/**
 * Agents, activities, phases and frames: how a kernel operation runs so that it can be stopped,
 * saved, hashed, printed and resumed at every point where the real kernel could be preempted.
 *
 * An activity is a list of named phases in the kernel's order. A phase is a plain function of its
 * frame; it returns the next phase, or calls, returns or blocks. A frame is a slice of one flat
 * array, on the stack of its agent. Nothing lives on the JavaScript stack between two phases.
 *
 * frame word | meaning
 * 0 PHASE    | global number of the phase to run next
 * 1 PREV     | frame of the caller, or -1
 * 2..4 R0..R2| what the last called activity returned
 * 5.. ARG    | arguments, then locals
 */
import { CARRY, type Running } from "./running.js";
import type { F64Pool, I32Pool, StateRegistry } from "./state.js";
import { Texts } from "./texts.js";

export const PHASE = 0;
export const PREV = 1;
export const R0 = 2;
export const R1 = 3;
export const R2 = 4;
export const ARG = 5;
/** `f &= FRAME` changes no frame: V8 learns that the sums for its words do not overflow, and leaves the test out at each. */
export const FRAME = 0x3fffffff;
/** Every frame has room for so many arguments. */
const ARGUMENTS = 6;

/** A phase returned: its frame was popped. */
export const RETURN = -1;
/** A phase called: a child frame was pushed, the caller resumes at the phase it named. */
export const CALLED = -2;
/** The phase cannot go on (a lock is taken, a wait is not over): it runs again later, unchanged. */
export const BLOCKED = -3;

/** Words of stack for each agent; deep enough for fault, GUP, fault handler, notifier, unmap. */
const STACK_WORDS = 512;
/** Phases of all activities of a machine. */
const MOST_PHASES = 1024;

export type PhaseFn = (f: number) => number;
export type AgentKind = "vcpu" | "vmm" | "kthread" | "device";

/** A registered activity: its first phase and the names of all. */
export interface Activity {
  readonly name: string;
  readonly first: number;
  /** The function of the first phase. */
  readonly begin: PhaseFn;
  readonly words: number;
  readonly source: string;
}

/** A phase that `goApart` goes on to. */
export class ApartPhase {
  /** Written twice: V8 takes what was written once for a constant, and would put that phase into the one before. */
  fn: PhaseFn = () => RETURN;
  constructor(
    readonly phase: number,
    fn: PhaseFn,
  ) {
    this.fn = fn;
  }
}

/** Everything that runs: vCPUs, VMM threads, kernel threads, devices. */
export class Agents {
  /** All frames of all agents. */
  readonly stack: F64Pool;
  /** Per agent: the frame on top (-1 idle); of the running one as it stood at the last `settle`: who looks at the state settles first. */
  private readonly top: I32Pool;
  /** Per agent: the physical CPU it runs on. */
  private readonly cpuOf: I32Pool;
  /** Per agent: its clock in cycles; of the running one as `top`. */
  private readonly clock: F64Pool;
  /** Per agent: three result words of the last finished top-level activity. */
  private readonly results: F64Pool;
  /** [0] the agent that runs now. */
  private readonly running: I32Pool;
  private readonly texts = new Texts();
  /** [0] agents, [1 + 2 id] name, [2 + 2 id] kind, as numbers of `texts`. */
  private readonly who: I32Pool;
  private readonly phaseFns: PhaseFn[] = [];
  private readonly phaseNames: string[] = [];
  /** Per phase: words of its activity's frames. */
  private readonly frameWords = new Int32Array(MOST_PHASES);
  /**
   * Several agents take turns phase by phase: an activity also ends a phase where a straight run goes on
   * because nobody else could tell. Events and results of a straight run are the same either way.
   */
  interleaving = false;
  /** An activity runs to its end (`runToEnd`): its phases need not come back to the loop. Written where it changes alone: V8 takes it for constant until then. */
  straight = true;
  /** A phase that returned BLOCKED changed something all the same: it queued for a lock. */
  private queued = false;
  /** The running agent holds a spinlock: its step goes on. Never set between two steps. */
  private section = false;
  private readonly phaseSources: string[] = [];

  constructor(
    private readonly state: StateRegistry,
    private readonly run: Running,
  ) {
    this.who = state.i32("agents.who", 16);
    this.stack = state.f64("agents.stack", STACK_WORDS * 4);
    this.top = state.i32("agents.top", 4);
    this.cpuOf = state.i32("agents.cpu", 4);
    this.clock = state.f64("agents.clock", 4);
    this.results = state.f64("agents.results", 12);
    this.running = state.i32("agents.running", 1);
    state.tally({
      store: () => this.settle(),
      load: () => {
        this.take();
      },
    });
  }

  /** Adds an agent. @param cpu the physical CPU it is placed on. @returns its id, from 0. */
  add(name: string, kind: AgentKind, cpu: number): number {
    const id = this.who.a[0]!;
    this.who.ensure(3 + 2 * id);
    this.who.set(0, id + 1);
    this.who.set(1 + 2 * id, this.texts.id(name));
    this.who.set(2 + 2 * id, this.texts.id(kind));
    this.stack.ensure((id + 1) * STACK_WORDS);
    for (const pool of [this.top, this.cpuOf, this.clock]) pool.ensure(id + 1);
    this.results.ensure(3 * (id + 1));
    this.setTop(id, -1);
    this.cpuOf.set(id, cpu);
    this.place();
    return id;
  }

  get count(): number {
    return this.who.a[0]!;
  }
  name(agent: number): string {
    return this.texts.text(this.who.a[1 + 2 * agent]!);
  }
  kind(agent: number): AgentKind {
    return this.texts.text(this.who.a[2 + 2 * agent]!) as AgentKind;
  }
  /** Takes over the names of others, whose state is about to be copied here. */
  adoptNames(from: Agents): void {
    this.texts.adopt(from.texts);
  }
  /** The agent of this name, -1 if there is none. */
  find(name: string): number {
    for (let a = 0; a < this.count; a++) if (this.name(a) === name) return a;
    return -1;
  }
  /** The agent whose phase runs now. */
  get current(): number {
    return this.run.agent;
  }
  /** The physical CPU of the running agent. */
  get cpu(): number {
    return this.run.cpu;
  }
  /** The physical CPU of an agent. */
  cpuOfAgent(agent: number): number {
    return this.cpuOf.a[agent]!;
  }
  moveTo(agent: number, cpu: number): void {
    this.cpuOf.set(agent, cpu);
    this.place();
  }
  /** After a change of who runs, or of where. */
  private place(): void {
    this.run.cpu = this.cpuOf.a[this.run.agent]!;
  }
  /** Who runs, with what clock, frame and place, as the state has it. */
  private take(): void {
    const { run } = this;
    run.agent = this.running.a[0]!;
    run.time = this.clock.a[run.agent]!;
    run.top = this.top.a[run.agent]!;
    this.place();
  }
  /** Another agent runs, or the same again, of which all is known. */
  private switchTo(agent: number): void {
    if (agent === this.run.agent) return;
    this.settle();
    this.running.set(0, agent);
    this.take();
  }
  /** Advances the running agent's clock by a cost. */
  charge(cycles: number): void {
    this.run.time += cycles;
  }
  /** The running agent's clock. */
  get now(): number {
    return this.run.time;
  }
  /** An agent's clock, in cycles. */
  clockOf(agent: number): number {
    return agent === this.run.agent ? this.run.time : this.clock.a[agent]!;
  }
  /** The running agent waits until then, if that is not past. */
  waitUntil(time: number): void {
    if (time > this.run.time) this.run.time = time;
  }
  /** The clock of the agent that is furthest. */
  get latest(): number {
    this.settle();
    let latest = 0;
    for (let a = 0; a < this.count; a++) latest = Math.max(latest, this.clock.a[a]!);
    return latest;
  }
  /** What an agent does next happens after that time. */
  catchUp(agent: number, time: number): void {
    this.settle();
    if (this.clock.a[agent]! >= time) return;
    this.clock.set(agent, time);
    if (agent === this.run.agent) this.run.time = time;
    this.onCatchUp?.(agent, time);
  }
  /** Told of every `catchUp` that moved a clock: it comes from outside of the machine, and a repetition needs it. */
  onCatchUp: ((agent: number, time: number) => void) | undefined;
  /** Brings the running agent's clock and frame into the state. */
  private settle(): void {
    const { agent, time, top } = this.run;
    if (this.clock.a[agent] !== time) this.clock.set(agent, time);
    if (this.top.a[agent] !== top) this.top.set(agent, top);
  }
  /** An agent's innermost frame is another one, or none. */
  private setTop(agent: number, f: number): void {
    if (agent === this.run.agent) this.run.top = f;
    else this.top.set(agent, f);
  }

  /**
   * Registers an activity.
   * @param phases names and functions, in the kernel's order; the first is where it starts
   * @param words frame size beyond the header: arguments plus locals
   * @param source file and function of the mirrored kernel step
   */
  activity(name: string, source: string, words: number, phases: readonly (readonly [string, PhaseFn])[]): Activity {
    const first = this.phaseFns.length;
    if (first + phases.length > MOST_PHASES) throw new Error("too many phases");
    const room = Math.max(words, ARGUMENTS);
    for (const [phase, fn] of phases) {
      this.frameWords[this.phaseFns.length] = ARG + room;
      this.phaseFns.push(fn);
      this.phaseNames.push(`${name}:${phase}`);
      this.phaseSources.push(source);
    }
    return { name, first, begin: phases[0]![1], words: room, source };
  }
  /** The same activity from its n-th phase on. @param begin what a straight run begins with instead of that phase's function */
  from(act: Activity, n: number, begin = this.phaseFns[act.first + n]!): Activity {
    // Written out: all activities have the same hidden class.
    return { name: act.name, first: act.first + n, begin, words: act.words, source: act.source };
  }

  /** Phases of all activities. */
  get phases(): number {
    return this.phaseFns.length;
  }

  /** The global number of an activity's n-th phase, as returned by phase functions. */
  phaseName(phase: number): string {
    return this.phaseNames[phase] ?? "?";
  }

  /** File and function of the kernel that a phase mirrors. */
  phaseSource(phase: number): string {
    return this.phaseSources[phase] ?? "?";
  }

  /** Writes a frame's header and arguments; locals start as zero. */
  private readonly push = (
    agent: number,
    prev: number,
    at: number,
    act: Activity,
    a0: number,
    a1: number,
    a2: number,
    a3: number,
    a4: number,
    a5: number,
  ): void => {
    at &= FRAME;
    const words = act.words;
    if (at + ARG + words > Math.imul(agent + 1, STACK_WORDS)) throw new Error(`stack of agent ${this.name(agent)} is full in ${act.name}`);
    const s = this.stack;
    if (!this.state.recording) {
      const a = s.a;
      // In parentheses, as a phase's names for its words are: V8 does not look again for a place that it has just checked.
      a[at + PHASE] = act.first;
      a[at + PREV] = prev;
      a[at + R0] = 0;
      a[at + R1] = 0;
      a[at + R2] = 0;
      a[at + ARG] = a0;
      a[at + (ARG + 1)] = a1;
      a[at + (ARG + 2)] = a2;
      a[at + (ARG + 3)] = a3;
      a[at + (ARG + 4)] = a4;
      a[at + (ARG + 5)] = a5;
      // One by one as far as most frames reach: around a loop V8 puts 50 bytes that do nothing.
      if (words > ARGUMENTS) a[at + (ARG + ARGUMENTS)] = 0;
      if (words > ARGUMENTS + 1) a[at + (ARG + ARGUMENTS + 1)] = 0;
      if (words > ARGUMENTS + 2) a[at + (ARG + ARGUMENTS + 2)] = 0;
      if (words > ARGUMENTS + 3) a[at + (ARG + ARGUMENTS + 3)] = 0;
      if (words > ARGUMENTS + 4) a[at + (ARG + ARGUMENTS + 4)] = 0;
      for (let i = ARGUMENTS + 5; i < words; i++) a[at + ARG + i] = 0;
      return;
    }
    this.pushRecorded(at, prev, act, a0, a1, a2, a3, a4, a5);
  };

  /** The same writes with the journal. */
  private pushRecorded(
    at: number,
    prev: number,
    act: Activity,
    a0: number,
    a1: number,
    a2: number,
    a3: number,
    a4: number,
    a5: number,
  ): void {
    const s = this.stack;
    s.set(at + PHASE, act.first);
    s.set(at + PREV, prev);
    s.set3(at + R0, 0, 0, 0);
    s.set3(at + ARG, a0, a1, a2);
    s.set3(at + ARG + 3, a3, a4, a5);
    for (let i = ARGUMENTS; i < act.words; i++) s.set(at + ARG + i, 0);
  }

  /**
   * Calls an activity from a phase: `return agents.call(f, resumePhase, activity, a0, …)`.
   * The caller runs again at `resume` with the child's results in its R0..R2.
   */
  readonly call = (f: number, resume: number, act: Activity, a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0): number => {
    const g = (f + this.frameWords[resume]!) & FRAME;
    this.stack.set(f + PHASE, resume);
    this.push(this.run.agent, f, g, act, a0, a1, a2, a3, a4, a5);
    this.run.top = g;
    return CALLED;
  };

  /**
   * As `call`, and a run to the end goes on at once: through the activity, and when that has returned, to `then`, which is
   * the phase `resume`. Where the activity waits or calls another it is taken up by the loop, as any.
   */
  readonly callStraight = (
    f: number,
    resume: number,
    then: PhaseFn,
    act: Activity,
    a0 = 0,
    a1 = 0,
    a2 = 0,
    a3 = 0,
    a4 = 0,
    a5 = 0,
  ): number => {
    const { run, stack: s } = this;
    const g = (f + this.frameWords[resume]!) & FRAME;
    s.set(f + PHASE, resume);
    this.push(run.agent, f, g, act, a0, a1, a2, a3, a4, a5);
    run.top = g;
    // Compared with a constant: what else the field might hold V8 would ask one by one.
    if (this.straight !== true) return CALLED;
    let next = act.begin(g);
    while (next >= 0) {
      s.set(g + PHASE, next);
      if (run.events >= CARRY) run.carry();
      next = this.runPhase(next, g);
    }
    // A crash returns too, and leaves no frame.
    return next === RETURN && run.top === f ? then(f) : next;
  };

  /** On to another phase of the same activity: `return agents.go(f, phase, fn)`. A run to the end does that at once. */
  go(f: number, phase: number, fn: PhaseFn): number {
    if (this.straight !== true) return phase;
    this.stack.set(f + PHASE, phase);
    return fn(f);
  }

  /**
   * As `go`, but V8 does not know where that leads and compiles the phase by itself. For one that would be too much in
   * the caller (V8 would leave out whatever comes last), or is in use elsewhere.
   */
  goApart(f: number, to: ApartPhase): number {
    if (this.straight !== true) return to.phase;
    this.stack.set(f + PHASE, to.phase);
    return this.callPhase(to.fn, f);
  }
  /** An activity's n-th phase, for `goApart`. */
  apart(act: Activity, n: number): ApartPhase {
    return new ApartPhase(act.first + n, this.phaseFns[act.first + n]!);
  }

  private runPhase(phase: number, f: number): number {
    return this.callPhase(this.phaseFns[phase]!, f);
  }
  /** One place for the calls of all phases: V8 never takes one of them for the only one and puts it into what runs them all. */
  private callPhase(fn: PhaseFn, f: number): number {
    return fn(f);
  }

  /** Ends an activity: `return agents.ret(f, r0, …)`. The results go to the caller's R0..R2. */
  ret(f: number, r0 = 0, r1 = 0, r2 = 0): number {
    f &= FRAME;
    const { run, stack: s } = this;
    const prev = s.a[f + PREV]! | 0;
    run.top = prev;
    if (this.state.recording) this.wipe(f);
    if (prev >= 0) s.set3((prev & FRAME) + R0, r0, r1, r2);
    else this.results.set3(Math.imul(run.agent, 3), r0, r1, r2);
    return RETURN;
  }

  /** A frame that nobody will read again must not make two states differ. */
  private wipe(f: number): void {
    const s = this.stack;
    for (let n = this.frameWords[s.a[f]! | 0]! - 1; n >= 0; n--) s.set(f + n, 0);
  }

  /** Starts a top-level activity on an idle agent. */
  start(agent: number, act: Activity, a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0): void {
    if (this.busy(agent)) throw new Error(`agent ${this.name(agent)} is busy`);
    const f = Math.imul(agent, STACK_WORDS);
    this.push(agent, -1, f, act, a0, a1, a2, a3, a4, a5);
    this.setTop(agent, f);
  }

  /** True while the agent has a frame. */
  busy(agent: number): boolean {
    return this.frame(agent) !== -1;
  }

  /** Drops all frames of an agent (a host crash ends every activity where it stands). */
  abandon(agent: number): void {
    this.setTop(agent, -1);
  }

  /** Runs one phase. @returns false if the phase blocked or the agent is idle. */
  step(agent: number): boolean {
    const { run } = this;
    const f = this.frame(agent);
    if (f < 0) return false;
    this.switchTo(agent);
    if (this.straight) this.straight = false;
    if (run.events >= CARRY) run.carry();
    this.queued = false;
    let next = this.runPhase(this.stack.a[f]! | 0, f);
    if (next >= 0) this.stack.set(f + PHASE, next);
    while (this.section && next !== BLOCKED) {
      const g = run.top;
      next = this.runPhase(this.stack.a[g]! | 0, g);
      if (next >= 0) this.stack.set(g + PHASE, next);
      // It waits in the middle for a lock, and is met there with what it holds.
      else if (next === BLOCKED) this.queued = true;
    }
    this.section = false;
    this.settle();
    return next !== BLOCKED || this.queued;
  }
  /**
   * From here to \`leave\`, in a later phase, the running agent's phases are one step: what they do is done under a
   * spinlock. Only where one of them has to wait for another lock does the step end, and the agent is met holding the first.
   */
  enter(): void {
    this.section = this.interleaving;
  }
  leave(): void {
    this.section = false;
  }
  /** The running phase will return BLOCKED, yet its step counts: others see that the agent waits. */
  moved(): void {
    this.queued = true;
  }

  /** Runs an agent's phases until it is idle. @returns false if it blocked. */
  readonly runToEnd = (agent: number): boolean => {
    const { run, stack } = this;
    this.switchTo(agent);
    if (this.straight === this.interleaving) this.straight = !this.interleaving;
    let f = run.top;
    while (f >= 0) {
      if (run.events >= CARRY) run.carry();
      let next = this.runPhase(stack.a[f]! | 0, f);
      while (next >= 0) {
        stack.set(f + PHASE, next);
        if (run.events >= CARRY) run.carry();
        next = this.runPhase(next, f);
      }
      if (next === BLOCKED) break;
      f = run.top;
    }
    return f < 0;
  };

  /** A result word (0..2) of the agent's last finished top-level activity. */
  result(agent: number, word = 0): number {
    return this.results.a[agent * 3 + word]!;
  }

  /** The agent's innermost frame, -1 while it is idle. */
  frame(agent: number): number {
    return agent === this.run.agent ? this.run.top : this.top.a[agent]!;
  }
  /** The phase that the agent runs next, -1 while it is idle. */
  innermost(agent: number): number {
    const f = this.frame(agent);
    return f < 0 ? -1 : this.stack.a[f]!;
  }

  /** The agent's frames, innermost first, as phase names: for stories and tests. */
  backtrace(agent: number): string[] {
    const out: string[] = [];
    for (let f = this.frame(agent); f >= 0; f = this.stack.a[f + PREV]!) out.push(this.phaseName(this.stack.a[f]!));
    return out;
  }
}
