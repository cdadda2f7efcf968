/**
 * Time travel: a second machine that is taken to any event of a recorded run. Backwards is a copy of the
 * state (made every so many events) plus deterministic re-execution of the tape from there.
 *
 * An event lies inside a phase. To stand exactly there, the phase is run to its end with a copy of the
 * state taken as the event is emitted; looking happens on that copy, so that it cannot disturb the run.
 */
import type { Machine } from "../machine.js";
import { FaultlineError } from "../sim/errors.js";
import type { Checkpoint } from "../sim/state.js";
import type { Input, Tape } from "./tape.js";

/** A place between two phases: the input that runs next, how many of its phases are done, and the state. */
interface Stop {
  readonly input: number;
  readonly done: number;
  /** Number of the next event. */
  readonly seq: number;
  readonly state: Checkpoint;
}

/** Events between two copies at first; it doubles whenever there are STOPS of them. */
const SPACING = 512;
const STOPS = 64;

export class Timeline {
  private readonly machine: Machine;
  private stops: Stop[];
  private spacing = SPACING;
  private input = 0;
  private done = 0;
  /** While the machine stands inside a phase: the place after that phase, where it goes on. */
  private after: Checkpoint | undefined;
  /** The event that the machine stands at, if it does. */
  private at = -1;

  /** @param make builds a machine like the recorded one, before anything was done to it; a sealed one cannot be run */
  constructor(
    private readonly tape: Tape,
    private readonly make: (sealed: boolean) => Machine,
  ) {
    this.machine = make(false);
    this.stops = [this.here()];
  }

  /** The number of the run's first event that can be visited: the machine's making emits those before it. */
  get first(): number {
    return this.stops[0]!.seq;
  }

  private here(): Stop {
    return { input: this.input, done: this.done, seq: this.machine.sim.bus.seq, state: this.machine.sim.state.checkpoint() };
  }

  /**
   * The machine as it stood when event `seq` had been emitted; Infinity: the end of the run. It is for looking,
   * and stands there until the next call. @throws FaultlineError if the run has no such event
   */
  visit(seq: number): Machine {
    if (typeof seq !== "number" || !(Number.isInteger(seq) || seq === Infinity))
      throw new FaultlineError(`${String(seq)} is no number of an event: expected a whole number, the seq of an event`);
    if (this.at === seq && seq !== Infinity) return this.machine;
    this.tape.play();
    if (this.after !== undefined) this.restore(this.after);
    this.after = undefined;
    this.at = -1;
    if (this.machine.sim.bus.seq > seq) this.backTo(seq);
    let found: Checkpoint | undefined;
    const { bus, state } = this.machine.sim;
    const stop = bus.when(seq, () => (found = state.checkpoint()));
    while (found === undefined && this.forward());
    stop();
    if (found === undefined && seq !== Infinity)
      throw new FaultlineError(`there is no event ${seq}: the run has the events ${this.first} to ${bus.seq - 1}`);
    if (found !== undefined) {
      this.after = state.checkpoint();
      this.restore(found);
    }
    this.at = seq;
    return this.machine;
  }

  /** A machine of its own that stands where `visit` would, with its tape sealed. */
  copy(seq: number): Machine {
    const from = this.visit(seq);
    const to = this.make(true);
    to.sim.bus.adoptNames(from.sim.bus);
    to.sim.agents.adoptNames(from.sim.agents);
    to.sim.state.restore(from.sim.state.checkpoint());
    return to;
  }

  private restore(state: Checkpoint): void {
    this.machine.sim.bus.flush();
    this.machine.sim.state.restore(state);
  }

  private backTo(seq: number): void {
    const from = this.stops.findLast((s) => s.seq <= seq);
    if (from === undefined) throw new FaultlineError(`the run's first event that can be visited is ${this.first}`);
    this.restore(from.state);
    this.input = from.input;
    this.done = from.done;
  }

  /** One phase, or one input without phases. @returns false at the end of the tape */
  private forward(): boolean {
    const next = this.tape.inputs[this.input];
    if (next === undefined) return false;
    if (!this.apply(next)) {
      this.input++;
      this.done = 0;
    }
    const last = this.stops[this.stops.length - 1]!;
    if (this.machine.sim.bus.seq >= last.seq + this.spacing) this.keep();
    return true;
  }

  private keep(): void {
    if (this.stops.length >= STOPS) {
      this.stops = this.stops.filter((_, n) => n % 2 === 0);
      this.spacing *= 2;
    }
    this.stops.push(this.here());
  }

  /** @returns true while the input has more phases to run */
  private apply(input: Input): boolean {
    const m = this.machine;
    switch (input.kind) {
      case "begin":
        m.begin(input.agent, input.call);
        return false;
      case "steps":
        m.kvm.interleave = input.interleave;
        m.step(input.agent);
        return ++this.done < input.count;
      case "run":
        return m.step(input.agent) && m.busy(input.agent);
      case "catchUp":
        m.sim.agents.catchUp(input.agent, input.time);
        return false;
      case "thread":
        m.addThread(input.name);
        return false;
      case "kthread":
        m.addKthread(input.name);
        return false;
      case "register":
        m.setRegister(input.vcpu, input.register, input.value);
        return false;
      case "breakpoint":
        m.setBreakpoint(input.vcpu, input.address);
        return false;
      case "answerMmio":
        m.answerMmio(input.vcpu, input.data);
        return false;
      case "cancelMmio":
        m.cancelMmio(input.vcpu);
        return false;
      case "harvest":
        m.harvestDirtyRing(input.vcpu, input.limit);
        return false;
    }
  }
}
