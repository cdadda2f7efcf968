/**
 * The agents of one `par`, as state: where each stands in its program, what its calls have returned, the
 * values of its names. All of it lies in one pool, so that a scheduler may mark, step, and roll back.
 *
 * A step of an agent is one phase of the kernel operation or one guest instruction that it is in. What lies
 * between two calls (values, loops) belongs to the step before.
 *
 * words of an agent: PC (operation), INSIDE (1 while in a call of the machine), CALLS (calls of the machine that
 * this operation has made), RESULTS (what they returned), HISTORY (a digest of all results so far), LAST (the
 * last result), then its slots. Results and values are numbers of an interned text: equal texts, equal numbers.
 */
import type { Call as HostCall, CallResult } from "../api/calls.js";
import type { I32Pool, StateRegistry } from "../sim/state.js";
import type { HardwareSteps } from "../vfio/hardwaresteps.js";
import { Texts } from "../sim/texts.js";
import type { Call, Expr, GuestBlock, ParThread } from "./ast.js";
import type { Span } from "./diagnostics.js";
import { evaluate, EvaluationError } from "./evaluate.js";
import { flatten, type AgentProgram, type CallOp, type Names, type Op } from "./parprogram.js";

const PC = 0;
const INSIDE = 1;
const CALLS = 2;
const RESULTS = 3;
/** Calls of the machine that one call of the script makes at most. */
const MOST = 6;
const HISTORY = RESULTS + MOST;
const LAST = HISTORY + 1;
const SLOTS = LAST + 1;

export type RunOp = Extract<Op, { kind: "run" }>;
export type Arguments = ReadonlyMap<string, bigint | Expr>;

/** A call of the script on its way: the next call of the machine that it makes, or its value. */
export type Progress = { readonly next: HostCall } | { readonly next?: undefined; readonly value: bigint; readonly result: CallResult };

/** What the agents need of the machine and of the script around the `par`. */
export interface ParWorld {
  readonly state: StateRegistry;
  begin(agent: number, call: HostCall): void;
  busy(agent: number): boolean;
  /** Runs one phase. @returns false if it blocked */
  step(agent: number): boolean;
  finish(agent: number): CallResult;
  readonly crashed: boolean;
  vcpuAgent(vcpu: number): number;
  threadAgent(name: string): number;
  isThis(name: string): boolean;
  /** The value of a name that is not the agent's own. */
  lookup(name: string, span: Span): bigint;
  /** A call of the script whose calls of the machine have given `results` so far. */
  progress(name: string, args: Arguments, agent: number, results: readonly CallResult[]): Progress;
  startGuest(block: GuestBlock): void;
  runCall(vcpu: number, immediateExit: boolean): HostCall;
  /** A call of the script has ended. */
  called(who: string, op: CallOp, value: bigint, result: CallResult): void;
  /** KVM_RUN has returned. @returns true to enter the guest again */
  ran(who: string, op: RunOp, result: CallResult): boolean;
  /** The steps of the hardware between those of these agents; undefined: it has no choice. */
  hardware(vcpus: readonly number[], others: readonly number[], room: number): HardwareSteps | undefined;
}

/** A search knows so many actors. */
export const MOST_ACTORS = 30;

export class ParAgents {
  // An array from `map` is packed or holey by how hot V8 found `map` when it was made: what each step reads has one kind.
  readonly programs: readonly AgentProgram[];
  /** The machine's agent of each. */
  readonly agents: Int32Array;
  private readonly base: Int32Array;
  private readonly pool: I32Pool;
  /** The steps of the hardware as further actors, behind the agents; by `withHardware`. */
  private hardware: HardwareSteps | undefined;

  constructor(
    private readonly world: ParWorld,
    bodies: readonly (GuestBlock | ParThread)[],
  ) {
    const { state } = world;
    this.pool = (state.pools.find((p) => p.name === "script.agents") as I32Pool | undefined) ?? state.i32("script.agents", 16);
    const programs: AgentProgram[] = [];
    for (const b of bodies) programs.push(flatten(b, (n) => world.isThis(n)));
    this.programs = programs;
    this.agents = new Int32Array(programs.length);
    this.base = new Int32Array(programs.length);
    let at = 0;
    for (const [i, p] of programs.entries()) {
      this.agents[i] = p.vcpu >= 0 ? world.vcpuAgent(p.vcpu) : world.threadAgent(p.who);
      this.base[i] = at;
      at += SLOTS + p.slots;
    }
    this.pool.ensure(at);
    for (let w = 0; w < at; w++) this.pool.set(w, 0);
    for (let i = 0; i < this.count; i++) this.advance(i);
  }

  get count(): number {
    return this.programs.length;
  }
  /** From here on the hardware's own steps can be taken too: actors behind the agents. */
  withHardware(): void {
    const vcpus = this.programs.flatMap((p) => (p.vcpu >= 0 ? [p.vcpu] : []));
    const others = this.programs.flatMap((p, i) => (p.vcpu < 0 ? [this.agents[i]!] : []));
    this.hardware ??= this.world.hardware(vcpus, others, MOST_ACTORS - this.count);
  }
  /** Agents and steps of the hardware. */
  get actors(): number {
    return this.count + (this.hardware?.count ?? 0);
  }
  isHardware(i: number): boolean {
    return i >= this.count;
  }
  /** Is this agent of the machine one that hardware's steps run on? */
  isHardwareAgent(agent: number): boolean {
    return this.hardware?.isAgent(agent) === true;
  }
  /** An actor's name in schedules and stories. */
  who(i: number): string {
    return i < this.count ? this.programs[i]!.who : this.hardware!.names[i - this.count]!;
  }
  /** The actor of a name, -1 without. */
  find(who: string): number {
    for (let i = 0; i < this.actors; i++) if (this.who(i) === who) return i;
    return -1;
  }
  /** What a step of the hardware is. */
  hardwareText(i: number): string {
    return this.hardware!.text(i - this.count);
  }
  /** The agent of the machine that an actor's last step ran on, or runs on. */
  agentOf(i: number): number {
    return i < this.count ? this.agents[i]! : this.hardwareAgent;
  }
  private hardwareAgent = 0;
  /** The operation that an agent is in or begins next; the number of its operations when it has ended. */
  position(i: number): number {
    return i < this.count ? this.pool.a[this.base[i]! + PC]! : 0;
  }
  /** An agent has come to its end; of hardware: and has nothing left to do. */
  finished(i: number): boolean {
    if (i >= this.count) return this.hardware!.finished(i - this.count, this.allFinished || this.world.crashed);
    return this.position(i) >= this.programs[i]!.ops.length;
  }
  get allFinished(): boolean {
    for (let i = 0; i < this.count; i++) if (!this.finished(i)) return false;
    return true;
  }
  /** The agent whose words these are. */
  ownerOfWord(word: number): number {
    for (let i = this.count - 1; i > 0; i--) if (word >= this.base[i]!) return i;
    return 0;
  }
  /** Where an agent stands in the script. */
  span(i: number): Span | undefined {
    const op = this.programs[i]!.ops[this.position(i)];
    return op === undefined || op.kind === "next" ? undefined : op.span;
  }

  /** Runs one step of an agent that has not finished. @returns false if it waits for another */
  step(i: number): boolean {
    if (i >= this.count) {
      this.hardwareAgent = this.hardware!.begin(i - this.count);
      this.world.step(this.hardwareAgent);
      return this.hardware!.moved;
    }
    const at = this.base[i]!;
    const agent = this.agents[i]!;
    const { world, pool } = this;
    if (pool.a[at + INSIDE] === 0) {
      this.begin(i);
      if (pool.a[at + INSIDE] === 0) return true;
    }
    const moved = world.step(agent);
    if (!world.busy(agent)) {
      pool.set(at + INSIDE, 0);
      this.returned(i, world.finish(agent));
    }
    return moved;
  }

  /** The operation at PC makes its first call of the machine, or its next one. */
  private begin(i: number): void {
    const { world, pool } = this;
    const at = this.base[i]!;
    const op = this.programs[i]!.ops[pool.a[at + PC]!]!;
    if (op.kind === "run") {
      if (pool.a[at + CALLS] === 0 && op.block !== undefined) world.startGuest(op.block);
      const immediateExit = op.immediateExit !== undefined && this.value(i, op.immediateExit, op.names) !== 0n;
      world.begin(this.agents[i]!, world.runCall(op.vcpu, immediateExit));
    } else if (op.kind === "call") {
      const p = world.progress(op.call.name, this.arguments(i, op), this.agents[i]!, this.resultsOf(i));
      if (p.next === undefined) return this.ended(i, op, p.value, p.result);
      world.begin(this.agents[i]!, p.next);
    }
    pool.set(at + INSIDE, 1);
  }

  /** A call of the machine has returned: the operation goes on, or has ended. */
  private returned(i: number, result: CallResult): void {
    const { world, pool } = this;
    const at = this.base[i]!;
    const program = this.programs[i]!;
    const op = program.ops[pool.a[at + PC]!]!;
    const id = results.id(result);
    pool.set(at + HISTORY, Math.imul(pool.a[at + HISTORY]! ^ id, 0x01000193));
    pool.set(at + LAST, id);
    if (op.kind === "run") {
      pool.set(at + CALLS, 1);
      if (world.ran(program.who, op, result) && !world.crashed) return;
      return this.done(i);
    }
    if (op.kind !== "call") throw new Error("a value made a call of the machine");
    const calls = pool.a[at + CALLS]!;
    if (calls >= MOST) throw new Error(`${op.call.name} makes more than ${MOST} calls`);
    pool.set(at + RESULTS + calls, id);
    pool.set(at + CALLS, calls + 1);
    if (world.crashed) return this.ended(i, op, BigInt(result.ret), result);
    const p = world.progress(op.call.name, this.arguments(i, op), this.agents[i]!, this.resultsOf(i));
    if (p.next === undefined) this.ended(i, op, p.value, p.result);
  }

  private ended(i: number, op: CallOp, value: bigint, result: CallResult): void {
    this.pool.set(this.base[i]! + SLOTS + op.slot, values.id(value));
    this.world.called(this.programs[i]!.who, op, value, result);
    this.done(i);
  }

  private done(i: number): void {
    const { pool } = this;
    const at = this.base[i]!;
    for (let n = 0; n < MOST; n++) pool.set(at + RESULTS + n, 0);
    pool.set(at + CALLS, 0);
    pool.set(at + PC, pool.a[at + PC]! + 1);
    this.advance(i);
  }

  /** Values and loops, up to the next call. */
  private advance(i: number): void {
    const { pool } = this;
    const at = this.base[i]!;
    const { ops } = this.programs[i]!;
    const get = (slot: number): bigint => values.value(pool.a[at + SLOTS + slot]!);
    for (let turns = 0; ; turns++) {
      const op = ops[pool.a[at + PC]!];
      if (op === undefined || op.kind === "call" || op.kind === "run") return;
      if (turns > 1_000_000) throw new Error("a loop of values without end");
      let next = pool.a[at + PC]! + 1;
      if (op.kind === "set") pool.set(at + SLOTS + op.slot, values.id(this.value(i, op.value, op.names)));
      else if (op.kind === "loop") {
        if (get(op.step) <= 0n) throw new EvaluationError(op.span, `a loop's step is at least 1, not ${get(op.step)}`);
        if (get(op.i) >= get(op.to)) next = op.exit;
      } else {
        pool.set(at + SLOTS + op.i, values.id(get(op.i) + get(op.step)));
        next = op.target;
      }
      pool.set(at + PC, next);
    }
  }

  private value(i: number, e: Expr, names: Names): bigint {
    if (e.kind === "number") return e.value;
    const at = this.base[i]! + SLOTS;
    const { pool, world } = this;
    return evaluate(e, {
      name: (name, span) => {
        const slot = names.get(name);
        if (slot !== undefined) return values.value(pool.a[at + slot]!);
        if (name === "ret" && pool.a[at - SLOTS + LAST] !== 0) return BigInt(results.value(pool.a[at - SLOTS + LAST]!).ret);
        return world.lookup(name, span);
      },
      call: (c: Call) => values.value(pool.a[at + this.programs[i]!.callSlots.get(c)!]!),
    });
  }

  private arguments(i: number, op: CallOp): Arguments {
    const out = new Map<string, bigint | Expr>(op.fallbacks);
    for (const { name, isNumber, value } of op.given) out.set(name, isNumber ? this.value(i, value, op.names) : value);
    return out;
  }

  private resultsOf(i: number): CallResult[] {
    const at = this.base[i]!;
    const out: CallResult[] = [];
    for (let n = 0; n < this.pool.a[at + CALLS]!; n++) out.push(results.value(this.pool.a[at + RESULTS + n]!));
    return out;
  }
}

/** Immutable values as numbers that follow from their text alone; the same in every process. */
class Interned<T> {
  private readonly texts = new Texts();
  private readonly byId = new Map<number, T>();
  private readonly plain = new Map<unknown, number>();
  constructor(
    private readonly text: (v: T) => string,
    private readonly key: (v: T) => unknown,
  ) {}
  id(v: T): number {
    const key = this.key(v);
    const known = key === undefined ? undefined : this.plain.get(key);
    if (known !== undefined) return known;
    const id = this.texts.id(this.text(v));
    this.byId.set(id, v);
    if (key !== undefined) this.plain.set(key, id);
    return id;
  }
  value(id: number): T {
    const v = this.byId.get(id);
    if (v === undefined) throw new Error(`no value has the number ${id}`);
    return v;
  }
}

/** The most distinct plain values that are remembered by themselves. */
const onlyRet = (r: CallResult): unknown => (Object.keys(r).length === 1 ? r.ret : undefined);
const results = new Interned<CallResult>((r) => JSON.stringify(r, (_k, v: unknown) => (typeof v === "bigint" ? `${v}n` : v)), onlyRet);
const values = new Interned<bigint>(String, (v) => v);
