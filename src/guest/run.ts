/**
 * Runs a program on one machine: the VMM's statements as calls, guest blocks through KVM_RUN, `par` by
 * deterministic round-robin over phases, expectations where they stand.
 *
 * The interpreter is a generator that yields after every phase of the machine; nothing of the machine
 * lives in it, so the machine can be stopped and rolled back between any two phases.
 */
import type { Call as HostCall, CallResult, ExitInfo } from "../api/calls.js";
import { errnoName } from "../sim/errno.js";
import type { EventBus, EventRecord } from "../sim/events.js";
import { lockdepReport } from "../sim/lockdep.js";
import type { StateRegistry } from "../sim/state.js";
import type { Detail } from "../trace/story.js";
import type { HardwareSteps } from "../vfio/hardwaresteps.js";
import type { Call, Expr, GuestBlock, ParThread, Report, Statement } from "./ast.js";
import { ParAgents, type Arguments, type ParWorld, type Progress } from "./paragents.js";
import { blockText, callsIn } from "./parprogram.js";
import { roundRobin, type Scheduler } from "./schedule.js";
import { findCall, parameterOf } from "./calls.js";
import { registerName, type Program, type VariantConfig } from "./compile.js";
import { CONSTANTS } from "./constants.js";
import { BudgetError, ScriptError, Diagnostics, type Span } from "./diagnostics.js";
import { evaluate, EvaluationError, type Scope } from "./evaluate.js";
import { eventsOf, judge, mentions, typeName, type Exception } from "./expectations.js";
import { CallArguments, CONFIG_REGION, hostCall, showsValue, valueOfCall } from "./hostcalls.js";
import { LIMITS, type Budget } from "./limits.js";
import { Recorder } from "./recorder.js";
import { Step, type VariantResult } from "./result.js";
import { RunWindow, type JudgedMachine } from "./runwindow.js";
import { Tally, type Cell } from "./tally.js";
import { verdictOf } from "./verdict.js";

/** What a run needs of a machine; `Machine` of src/machine.ts has it. */
export interface ScriptMachine extends JudgedMachine {
  readonly sim: {
    readonly bus: EventBus;
    readonly state: StateRegistry;
    /** Clocks: a statement happens after the one before it. */
    readonly agents?: {
      readonly count: number;
      clockOf(agent: number): number;
      readonly latest: number;
      catchUp(agent: number, time: number): void;
    };
  };
  begin(agent: number, call: HostCall): void;
  step(agent: number): boolean;
  busy(agent: number): boolean;
  finish(agent: number): CallResult;
  vcpuAgent(vcpu: number): number;
  /** What hardware may do of its own accord between the steps of agents. */
  hardwareSteps?(vcpus: readonly number[], others: readonly number[], room: number): HardwareSteps | undefined;
  /** Another thread of the VMM. @returns its agent */
  addThread(name: string): number;
  /** A thread of the kernel. @returns its agent */
  addKthread(name: string): number;
  getRegister(vcpu: number, register: string): bigint;
  setRegister(vcpu: number, register: string, value: bigint): void;
  /** KVM_RUN of this vCPU ends with exit DEBUG when its PC comes here. */
  setBreakpoint(vcpu: number, address: bigint): void;
  answerMmio(vcpu: number, data: bigint): void;
  cancelMmio(vcpu: number): void;
  /** While agents are interleaved, each guest instruction is a phase of its own. */
  readonly kvm?: { interleave: boolean };
  /** Names of decisions that have no source in this era and were asked. */
  readonly unknownDecisions?: readonly string[];
}

export interface RunOptions {
  readonly budget: Budget;
  readonly detail: Detail;
  /** Gets every event that `detail` shows, as it comes. */
  readonly onEvent?: (e: EventRecord) => void;
  /** Attaches streaming sinks when the VM stands and the script begins; what it returns detaches them. */
  readonly attach?: () => () => void;
  /** Told when the VM stands and the script's first statement comes. */
  readonly onStart?: () => void;
  /** Told of every step when it has ended. */
  readonly onStep?: (step: Step) => void;
  /** Runs one phase of an agent in place of `machine.step`: rollback tests and explorers. */
  readonly stepper?: (machine: ScriptMachine, agent: number) => boolean;
  /** Who goes next in a `par`; one phase of each in turn if absent. A new one for every `par`. */
  readonly scheduler?: () => Scheduler;
  /** Gets the agents of every `par` before they run. @returns true to end the run there */
  readonly onPar?: (par: ParAgents, run: ParRun) => boolean;
}

/** What an explorer may ask of a run that stands before a `par`. */
export interface ParRun {
  readonly line: number;
  /** What the reports that follow the `par` at once say of the machine as it stands: `label=value` of each. */
  outcome(): string;
  /** The first expectation on values or on stage 2 that follows it at once and is not met, and why; undefined: none. */
  unmet(): string | undefined;
  /** While it is set nothing is noted of what the agents' calls return. */
  muted: boolean;
}

const VMM = 0;
const PSTATE_EL1H_DAIF = 0x3c5n;
const CPACR_FPEN = 0x300000n;
/** PSTATE.M of the guest: exceptions are taken to EL1. */
const CODE_PROT = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_NOHUGEPAGE = 15;
/** Phases between two looks at the memory. */
const LOOK_EVERY = 4096;
/** Bytes of a cache line and of a page, and pages of a word of a dirty log: what one step of a long call is. */
const LINE = 64;
const PAGE = 4096;
const PAGES_PER_WORD = 64;
/** What a step that is kept takes, and an event of it: measured on Node 20. */
const STEP_BYTES = 512;
const EVENT_BYTES = 512;
/** Guest instructions that one KVM_RUN may execute before the budget is asked. */
const INSTRUCTIONS_PER_RUN = 1 << 20;

/** Steps of the longest turn of a guest that is looked at: its handler and the way back. */
const LONGEST_TURN = 128;
/** What a guest's next instruction depends on, memory aside. */
const TURN_REGISTERS = [
  ...Array.from({ length: 31 }, (_, n) => `x${n}`),
  ...["pc", "pstate", "elr_el1", "spsr_el1", "esr_el1", "far_el1", "sctlr_el1", "ttbr0_el1", "vbar_el1"],
];

/** A call of the script run again: what its calls of the machine returned, and the one it makes next. */
interface Replay {
  readonly results: readonly CallResult[];
  at: number;
  next: HostCall | undefined;
}

/** Steps without progress after which a call waits for ever: nobody is there who could end it. */
const WAITS_FOR_EVER = 1000;
/** What ends a run, and fails it unless an expectation names it: a call that no step of anybody ends, a guest without a vCPU. */
class HaltError extends Error {
  constructor(
    readonly kind: "stuck" | "errno",
    message: string,
  ) {
    super(message);
  }
}
const STILL_WAITS = "is still in a call of an earlier par, which waits for ever";

/** Interpreters yield true after a phase that did something, false after one that blocked. */
type Running<T> = Generator<boolean, T, void>;

/** Runs one variant of a program on a fresh machine. */
export function runProgram(program: Program, variant: VariantConfig, machine: ScriptMachine, options: RunOptions): VariantResult {
  try {
    return new Interpreter(program, variant, machine, options).run();
  } catch (e) {
    if (e instanceof BudgetError) e.file ??= program.script.file;
    throw e;
  }
}

class Interpreter {
  private readonly scope: Scope;
  private readonly recorder: Recorder;
  /** What happened since the last expectations, and what they said. */
  private readonly window: RunWindow;
  private readonly tally: Tally;
  private readonly steps: Step[] = [];
  private scopes: Map<string, bigint>[] = [new Map()];
  private readonly ecams: { base: bigint; fd: number }[] = [];
  /** Addresses at which an MMIO exit ends the guest's block. */
  private readonly leaves = new Set<bigint>();
  private readonly answers: { from: bigint; value: bigint }[] = [];
  private readonly threads = new Map<string, number>();
  /** Names of the script's kernel threads. */
  private readonly kthreads = new Set<string>();
  private vm = 0;
  /** vCPUs of all VMs so far. */
  private vcpus = 0;
  /** The statements behind the last `par` in its block. */
  private following: readonly Statement[] = [];
  private phases = 0;
  private untilLook = LOOK_EVERY;
  /** Bytes of the memslots that were asked for, of all VMs: how long their dirty logs are. */
  private readonly slotSizes = new Map<number, number>();
  private iterations = 0;
  /** Statements that were carried out, loops counted out. */
  private executed = 0;
  /** Bytes of what is told of the steps, about. */
  private told = 0;
  private setup = true;
  /** Set while a call of the script is asked for the next call of the machine. */
  private replay: Replay | undefined;
  private begins = 0;

  constructor(
    private readonly program: Program,
    private readonly variant: VariantConfig,
    private readonly machine: ScriptMachine,
    private readonly options: RunOptions,
  ) {
    const asked = new Set<string>([lockdepReport.name]);
    const reports: Report[] = [];
    const visit = (body: readonly Statement[]): void => {
      for (const s of body) {
        for (const t of s.kind === "par" ? s.agents : [s]) if (t.kind === "thread" && t.kernel) this.kthreads.add(t.name);
        if (s.kind === "report") reports.push(s);
        else if (s.kind === "expect") for (const e of eventsOf(s.condition)) asked.add(e);
        else if (s.kind === "for" || s.kind === "vmm" || s.kind === "on" || s.kind === "thread") visit(s.body);
      }
    };
    visit(program.script.body);
    const detail = options.detail === "none" ? "story" : options.detail;
    const { onEvent } = options;
    const listener = (e: EventRecord): void => {
      if (!this.setup) onEvent!(e);
    };
    this.recorder = new Recorder(machine.sim.bus, asked, detail, onEvent === undefined || options.detail === "none" ? undefined : listener);
    this.scope = { name: (name, span) => this.valueOf(name, span), call: (c) => this.called.get(c) ?? 0n };
    this.tally = new Tally(machine.sim.bus, reports, this.scope);
    this.window = new RunWindow(
      machine,
      this.recorder,
      this.scope,
      () => this.vm,
      (name) => this.isThis(name),
    );
  }

  private get crash(): { readonly function: string; readonly reason: string } | undefined {
    return this.machine.crashed;
  }

  /** The latest of all agents' clocks. */
  private cycles(): number {
    const { agents } = this.machine.sim;
    let most = 0;
    for (let a = 0; a < (agents?.count ?? 0); a++) most = Math.max(most, agents!.clockOf(a));
    return most;
  }

  run(): VariantResult {
    let detach: (() => void) | undefined;
    let row: readonly Cell[] = [];
    try {
      if (!this.program.createsVm) this.drive(this.createVm(0));
      this.recorder.window();
      this.setup = false;
      detach = this.options.attach?.();
      this.begins = this.machine.sim.bus.seq;
      this.options.onStart?.();
      this.drive(this.statements(this.program.script.body));
      this.window.close();
      this.look();
      row = this.tally.row(this.cycles());
    } catch (e) {
      if (e instanceof EvaluationError) throw this.scriptError(e);
      throw e;
    } finally {
      detach?.();
      this.recorder.stop();
      this.tally.stop();
    }
    const unknown = this.machine.unknownDecisions ?? [];
    const failed = this.window.outcomes.some((o) => o.status === "failed");
    return {
      variant: this.variant,
      passed: !failed,
      verdict: verdictOf(this.variant.name, this.crash, this.steps, this.window.outcomes, row),
      steps: this.steps,
      outcomes: this.window.outcomes,
      crash: this.crash,
      leaves: this.crash === undefined ? this.window.leaves() : [],
      begins: this.begins,
      row,
      seq: this.machine.sim.bus.seq,
      phases: this.phases,
      unknown,
    };
  }

  private scriptError(e: EvaluationError): ScriptError {
    const d = new Diagnostics(this.program.script.file, this.program.source);
    d.add(e.span, e.message, e.hint);
    return new ScriptError(d.list);
  }

  // --- the machine ------------------------------------------------------------------

  /** Runs one interpreter to its end; there is nobody to wait for. */
  private drive<T>(g: Running<T>): T {
    let blocked = 0;
    for (let r = g.next(); ;) {
      if (r.done === true) return r.value;
      blocked = r.value ? 0 : blocked + 1;
      r = blocked > WAITS_FOR_EVER ? g.throw(new HaltError("stuck", "this call waits for ever: nobody else runs")) : g.next();
    }
  }

  private tick(): void {
    this.spend(1);
    if (--this.untilLook <= 0) {
      this.untilLook = LOOK_EVERY;
      this.look();
    }
  }

  /** Is the run still within its memory? What is told of its steps counts too. */
  private look(): void {
    const { memory } = this.options.budget;
    if (this.machine.sim.state.bytes() + this.told > memory)
      throw new BudgetError(`the run needs more than ${memory} bytes`, "--max-memory");
  }

  private spend(steps: number): void {
    this.phases += steps;
    if (this.phases > this.options.budget.steps) this.overrun();
  }

  /** Steps of what a call does in one phase, line by line or page by page, as many as its arguments say. */
  private work(call: HostCall): number {
    switch (call.call) {
      case "cache_line":
        return Math.max(0, Math.floor(call.length / LINE));
      case "other_vms":
        return Math.max(0, call.count);
      case "uffd_copy":
      case "uffd_zeropage":
      case "uffd_continue":
      case "uffd_poison":
        return Math.max(0, Math.floor(call.len / PAGE));
      case "KVM_SET_USER_MEMORY_REGION":
      case "KVM_SET_USER_MEMORY_REGION2":
        this.slotSizes.set(call.slot, call.memorySize);
        return 0;
      case "KVM_GET_DIRTY_LOG":
        return Math.floor((this.slotSizes.get(call.slot) ?? 0) / (PAGES_PER_WORD * PAGE));
      case "KVM_CLEAR_DIRTY_LOG":
        return Math.max(0, Math.floor(call.numPages / PAGES_PER_WORD));
      default:
        return 0;
    }
  }

  private overrun(): never {
    throw new BudgetError(`the run took more than ${this.options.budget.steps} steps`, "--max-steps");
  }

  /** Makes one call on an agent, phase by phase. */
  private *host(agent: number, call: HostCall): Running<CallResult> {
    const m = this.machine;
    if (this.replay !== undefined) {
      const known = this.replay.results[this.replay.at++];
      if (known !== undefined) return known;
      this.replay.next = call;
      yield true;
    }
    const { agents } = m.sim;
    agents?.catchUp(agent, agents.latest);
    if (m.busy(agent)) throw new HaltError("stuck", `this thread ${STILL_WAITS}`);
    this.spend(this.work(call));
    m.begin(agent, call);
    while (m.busy(agent)) {
      const moved = this.options.stepper === undefined ? m.step(agent) : this.options.stepper(m, agent);
      this.tick();
      yield moved;
    }
    return m.finish(agent);
  }

  /** The VM with its code slot, guest code written by the VMM, vCPUs at reset with VBAR at the vectors. */
  private *createVm(ipaBits: number, mte = false, eagerSplit = 0n, dirtyRing = 0n, vcpus = 0): Running<CallResult> {
    const m = this.machine;
    const { image } = this.program;
    const made = yield* this.host(VMM, ipaBits === 0 ? { call: "KVM_CREATE_VM" } : { call: "KVM_CREATE_VM", ipaBits });
    if (made.ret < 0) return made;
    this.vm = made.ret;
    if (mte) {
      const tagged = yield* this.host(VMM, { call: "KVM_ENABLE_CAP", vm: this.vm, cap: KVM_CAP_ARM_MTE, value: 1 });
      if (tagged.ret < 0) return tagged;
    }
    if (eagerSplit !== 0n) {
      const cap = KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE;
      // A kernel without it says EINVAL, and the VM goes on without.
      yield* this.host(VMM, { call: "KVM_ENABLE_CAP", vm: this.vm, cap, value: Number(eagerSplit) });
    }
    if (dirtyRing !== 0n) {
      const cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
      const ringed = yield* this.host(VMM, { call: "KVM_ENABLE_CAP", vm: this.vm, cap, value: Number(dirtyRing) });
      if (ringed.ret < 0) return ringed;
    }
    const { ret: hva } = yield* this.host(VMM, {
      call: "mmap",
      length: LIMITS.codeBytes,
      prot: CODE_PROT,
      flags: MAP_PRIVATE_ANONYMOUS,
      align: LIMITS.codeBytes,
    });
    yield* this.host(VMM, { call: "madvise", addr: hva, length: LIMITS.codeBytes, advice: MADV_NOHUGEPAGE });
    for (let i = 0; i < image.words.length; i += 2) {
      const value = (BigInt((image.words[i + 1] ?? 0) >>> 0) << 32n) | BigInt(image.words[i]! >>> 0);
      yield* this.host(VMM, { call: "write", addr: hva + 4 * i, size: 8, value });
    }
    const slot = yield* this.host(VMM, {
      call: "KVM_SET_USER_MEMORY_REGION",
      vm: this.vm,
      slot: CODE_SLOT,
      flags: 0,
      guestPhysAddr: image.base,
      memorySize: LIMITS.codeBytes,
      userspaceAddr: hva,
    });
    if (slot.ret < 0) throw new Error(`the code slot cannot be created: ${errnoName(slot.ret)}`);
    const last = vcpus > 0 ? this.vcpus + vcpus : Math.max(this.vcpus, this.program.vcpus);
    if (last > LIMITS.vcpus) throw new HaltError("errno", `a script has at most ${LIMITS.vcpus} vCPUs, vcpu0 to vcpu${LIMITS.vcpus - 1}`);
    for (let v = this.vcpus; v < last; v++) {
      const { ret } = yield* this.host(VMM, { call: "KVM_CREATE_VCPU", vm: this.vm });
      if (ret !== v) throw new Error(`vCPU ${v} cannot be created: ${ret}`);
      m.setRegister(v, "vbar_el1", BigInt(image.base));
      m.setRegister(v, "cpacr_el1", CPACR_FPEN);
    }
    this.vcpus = last;
    return made;
  }

  // --- statements ---------------------------------------------------------------------

  private *statements(body: readonly Statement[]): Running<void> {
    for (const [n, s] of body.entries()) {
      if (++this.executed > this.options.budget.steps) this.overrun();
      if (s.kind === "par") this.following = body.slice(n + 1);
      try {
        yield* this.statement(s);
      } catch (e) {
        if (!(e instanceof HaltError)) throw e;
        this.window.halt(e.kind, s.span, e.message);
      }
    }
  }

  private *scoped(body: readonly Statement[], name?: string, value?: bigint): Running<void> {
    this.scopes.push(new Map(name === undefined ? [] : [[name, value!]]));
    try {
      yield* this.statements(body);
    } finally {
      this.scopes.pop();
    }
  }

  private *statement(s: Statement): Running<void> {
    if (s.kind === "expect") {
      this.window.expectation(s);
      return;
    }
    if (s.kind === "on") {
      if (s.on.some((n) => this.isThis(n.name))) yield* this.scoped(s.body);
      return;
    }
    if (s.kind === "report") {
      if (!this.window.over) this.report(s);
      return;
    }
    if (s.kind === "vmm") {
      yield* this.scoped(s.body);
      return;
    }
    if (this.crash !== undefined || this.window.halted) this.window.down(s.kind !== "let");
    if (this.window.over) return;
    switch (s.kind) {
      case "let":
        if (hasCall(s.value)) this.window.open();
        this.scopes[this.scopes.length - 1]!.set(s.name, yield* this.value(s.value, VMM, "vmm", s.text, s.span));
        return;
      case "call":
        this.window.open();
        yield* this.action(s, VMM, "vmm", s.text, s.span);
        return;
      case "for": {
        const from = yield* this.value(s.from, VMM, "vmm", "", s.span);
        const to = yield* this.value(s.to, VMM, "vmm", "", s.span);
        const step = s.step === undefined ? 1n : yield* this.value(s.step, VMM, "vmm", "", s.span);
        if (step <= 0n) throw new EvaluationError(s.span, `a loop's step is at least 1, not ${step}`);
        for (let i = from; i < to && !this.window.over; i += step) {
          this.iterate(s.span);
          yield* this.scoped(s.body, s.name, i);
        }
        return;
      }
      case "guest":
        this.window.open();
        yield* this.guest(s);
        return;
      case "thread":
        this.window.open();
        yield* this.par([s], s.span);
        return;
      case "par":
        this.window.open();
        yield* this.par(s.agents, s.span);
        return;
      case "ecam":
        this.ecams.push({
          base: yield* this.value(s.base, VMM, "vmm", "", s.span),
          fd: Number(yield* this.value(s.device, VMM, "vmm", "", s.span)),
        });
        return;
      case "leave":
        this.leaves.add(yield* this.value(s.address, VMM, "vmm", "", s.span));
        return;
      case "answer":
        this.answers.push({
          from: yield* this.value(s.address, VMM, "vmm", "", s.span),
          value: yield* this.value(s.value, VMM, "vmm", "", s.span),
        });
    }
  }

  private report(s: Report): void {
    const { what } = s;
    if (what.kind === "stage2") this.tally.reportText(s, this.typeAt(what.expr));
    else if (what.kind === "place") {
      const place = evaluate(what.expr, this.scope);
      this.tally.reportText(s, PLACES[Number(place)] ?? String(place));
    } else this.tally.report(s, what.kind === "value" ? evaluate(what.expr, this.scope) : undefined);
  }

  /** The memory type of the leaf that maps an IPA. */
  private typeAt(address: Expr): string {
    const ipa = Number(evaluate(address, this.scope));
    const leaf = this.window.leaves().find((l) => ipa >= l.ipa && ipa < l.ipa + l.size);
    return leaf === undefined ? "none" : typeName(leaf);
  }

  private iterate(span: Span): void {
    if (++this.iterations > LIMITS.iterations)
      throw new BudgetError(`line ${span.line}: the VMM's loops took more than ${LIMITS.iterations} turns`, "");
  }

  private isThis(name: string): boolean {
    // A name of one of the script's variants means that variant; any other name is an era.
    if (name === this.variant.name) return true;
    return !this.program.variants.some((v) => v.name === name) && name === this.variant.kernel;
  }

  // --- values ---------------------------------------------------------------------------

  private readonly called = new Map<Call, bigint>();

  private valueOf(name: string, span: Span): bigint {
    const constant = CONSTANTS.get(name);
    if (constant !== undefined) return constant;
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const v = this.scopes[i]!.get(name);
      if (v !== undefined) return v;
    }
    if (name === "ret") return this.window.results[this.window.results.length - 1]?.ret ?? 0n;
    const r = registerName(name);
    if (r !== undefined) return this.machine.getRegister(r.vcpu, r.register);
    throw new EvaluationError(span, `"${name}" has no value yet`, "the statement that gives it one did not run");
  }

  /** An expression's value; its calls are made first, from left to right. */
  private *value(e: Expr, agent: number, who: string, text: string, span: Span): Running<bigint> {
    for (const c of callsIn(e)) this.called.set(c, yield* this.action(c, agent, who, text === "" ? c.text : text, span));
    return evaluate(e, this.scope);
  }

  // --- calls -----------------------------------------------------------------------------

  /** Makes one call of the script and notes what came of it. @returns its value */
  private *action(c: Call, agent: number, who: string, text: string, span: Span): Running<bigint> {
    const args = yield* this.arguments(c, agent, who);
    const align = c.name === "mmap" ? (args.get("align") as bigint) : 0n;
    if (align !== 0n && !(align >= 4096n && align <= 1n << 46n && (align & (align - 1n)) === 0n))
      throw new EvaluationError(span, `an alignment is a power of two from 4K to 64T, not ${align}`);
    if (c.name === "KVM_RUN") {
      const given = new CallArguments(args);
      yield* this.enter(given.vcpu, text, span, given.number("immediate_exit") !== 0);
      return 0n;
    }
    const { value, result } = yield* this.perform(c.name, args, agent);
    this.noteCall(c.name, who, text, span, value, result);
    return value;
  }

  /** What came of a call of the script. */
  private noteCall(name: string, who: string, text: string, span: Span, value: bigint, result: CallResult): void {
    if (this.crash !== undefined) {
      this.window.noteCrash(span);
      this.step(who, text, span.line, "");
      return;
    }
    const errno = result.signal !== undefined ? result.signal.name : result.ret < 0 ? errnoName(result.ret) : undefined;
    this.window.results.push({ agent: who, line: span.line, column: span.column, text, ret: BigInt(result.ret), errno });
    if (errno !== undefined && findCall(name)?.kernel !== true) this.window.problem("errno", span, `${name} gave ${errno}`);
    this.step(
      who,
      text,
      span.line,
      errno !== undefined ? `-> ${errno}` : showsValue(name) ? `= 0x${BigInt.asUintN(64, value).toString(16)}` : "",
    );
  }

  /** The call of the machine that a call of the script makes next, given what the ones before it returned. */
  private progress(name: string, args: Arguments, agent: number, results: readonly CallResult[]): Progress {
    const replay: Replay = { results, at: 0, next: undefined };
    this.replay = replay;
    try {
      const g = this.perform(name, args, agent);
      const r = g.next();
      if (r.done === true) return r.value;
      g.return(undefined as never);
      return { next: replay.next! };
    } finally {
      this.replay = undefined;
    }
  }

  private *arguments(c: Call, agent: number, who: string): Running<Map<string, bigint | Expr>> {
    const decl = findCall(c.name)!;
    const out = new Map<string, bigint | Expr>();
    for (const p of decl.parameters) if (p.fallback !== undefined) out.set(p.name, p.fallback);
    for (const [n, a] of c.args.entries()) {
      const p = parameterOf(decl, a.name, n)!;
      out.set(p.name, p.kind === "number" ? yield* this.value(a.value, agent, who, "", a.span) : a.value);
    }
    return out;
  }

  /** Carries out a call of the script: one call of the machine for most (hostcalls.ts), here those that take several or none. */
  private *perform(name: string, args: Arguments, agent: number): Running<{ value: bigint; result: CallResult }> {
    const given = new CallArguments(args);
    const one = hostCall(name, given, this.vm);
    if (one !== undefined) {
      const result = yield* this.host(agent, one);
      if (name === "KVM_GET_DIRTY_LOG") this.window.dirty = result.pages ?? [];
      return { value: valueOfCall(name, result), result };
    }
    const n = (key: string): number => given.number(key);
    const plain = (result: CallResult) => ({ value: BigInt(result.ret), result });
    switch (name) {
      case "userfaultfd": {
        const made = yield* this.host(agent, { call: "userfaultfd", flags: n("flags") });
        if (made.ret >= 0) yield* this.host(agent, { call: "uffd_api", uffd: made.ret });
        return plain(made);
      }
      case "KVM_CREATE_VM":
        return plain(yield* this.createVm(n("ipa_bits"), n("mte") !== 0, given.big("eager_split"), given.big("dirty_ring"), n("vcpus")));
      case "KVM_GET_ONE_REG":
      case "KVM_SET_ONE_REG": {
        const r = registerName(given.name("reg"))!;
        if (name === "KVM_SET_ONE_REG") this.machine.setRegister(r.vcpu, r.register, BigInt.asUintN(64, given.big("value")));
        return { value: this.machine.getRegister(r.vcpu, r.register), result: { ret: 0 } };
      }
      case "pci_memory_enable": {
        const where = { fd: n("fd"), index: CONFIG_REGION, offset: PCI_COMMAND, size: 2 };
        const old = yield* this.host(agent, { call: "vfio_read", ...where });
        if (old.ret < 0) return plain(old);
        const value = given.big("on") === 0n ? (old.value ?? 0n) & ~2n : (old.value ?? 0n) | 2n;
        return plain(yield* this.host(agent, { call: "vfio_write", ...where, value }));
      }
      default:
        throw new Error(`call ${name} has no implementation`);
    }
  }

  // --- the guest ----------------------------------------------------------------------------

  private *guest(b: GuestBlock): Running<void> {
    this.needVcpu(b.vcpu);
    yield* this.handOver();
    this.startGuest(b);
    yield* this.enter(b.vcpu, blockText(b), b.span);
  }

  private needVcpu(vcpu: number): void {
    if (vcpu < this.vcpus) return;
    const why = this.vcpus === 0 ? "KVM_CREATE_VM failed, and no vCPU was created" : `no KVM_CREATE_VM has created vcpu${vcpu}`;
    throw new HaltError("errno", `KVM_RUN gives EBADF: ${why}`);
  }

  /** The VMM's thread wakes others: they see what it stored. Only in weak mode do its stores wait. */
  private *handOver(): Running<void> {
    if (this.variant.buffers === "weak") yield* this.host(VMM, { call: "ordering", op: "hand_over" });
  }

  private startGuest(b: GuestBlock): void {
    const range = this.program.image.blocks.get(b)!;
    const m = this.machine;
    m.cancelMmio(b.vcpu);
    m.setRegister(b.vcpu, "pc", BigInt(range.entry));
    m.setRegister(b.vcpu, "pstate", PSTATE_EL1H_DAIF);
    m.setBreakpoint(b.vcpu, BigInt(range.stop));
  }

  /** KVM_RUN until the block ends, with immediate_exit once; the VMM answers MMIO in between. */
  private *enter(vcpu: number, text: string, span: Span, immediateExit = false): Running<void> {
    this.needVcpu(vcpu);
    for (;;) {
      const call = this.runCall(vcpu, immediateExit);
      const faults = this.recorder.faults;
      const r = yield* this.host(this.machine.vcpuAgent(vcpu), call);
      if (yield* this.configAccess(vcpu, r)) continue;
      const outOfTurns = r.exit?.reason === "BUDGET" || r.exit?.reason === "NO_PROGRESS";
      if (outOfTurns && (yield* this.recurs(vcpu))) {
        this.window.livelock = true;
        this.window.problem("livelock", span, `vcpu${vcpu} makes no progress: it takes the same abort for ever`);
        this.step(`vcpu${vcpu}`, text, span.line, "-> no progress");
        return;
      }
      if (!this.afterRun(vcpu, text, span, r, faults)) return;
    }
  }

  /**
   * A guest's access to a configuration space that the VMM emulates: trapped, and carried out by the vCPU's own thread in
   * the device's. A guest never reaches ECAM itself. @returns true if it was one
   */
  private *configAccess(vcpu: number, r: CallResult): Running<boolean> {
    const { exit } = r;
    if (r.ret < 0 || exit?.reason !== "MMIO") return false;
    const at = BigInt(exit.physAddr);
    const ecam = this.ecams.find((e) => at >= e.base && at < e.base + 4096n);
    if (ecam === undefined) return false;
    this.window.exits.push(exit);
    const agent = this.machine.vcpuAgent(vcpu);
    const where = { fd: ecam.fd, index: CONFIG_REGION, offset: Number(at - ecam.base), size: exit.len };
    if (exit.isWrite) yield* this.host(agent, { call: "vfio_write", ...where, value: exit.data });
    else {
      const read = yield* this.host(agent, { call: "vfio_read", ...where });
      this.machine.answerMmio(vcpu, read.ret < 0 ? BigInt.asUintN(8 * exit.len, -1n) : (read.value ?? 0n));
    }
    return true;
  }

  /**
   * A guest that has the same abort again and again (its own handler comes back to the instruction, or KVM does after an
   * external abort): are its registers, step by step, those that they were a turn ago? Then no turn will be another. A step
   * is two instructions: one that faults and what is run when that has been handled.
   */
  private *recurs(vcpu: number): Running<boolean> {
    const m = this.machine;
    if (this.crash !== undefined) return false;
    m.sim.bus.flush();
    if (this.recorder.sameAbort(m.vcpuAgent(vcpu)) < this.program.machine.livelock) return false;
    const seen: string[] = [];
    for (let period = 0; seen.length < 2 * LONGEST_TURN;) {
      seen.push(TURN_REGISTERS.map((r) => m.getRegister(vcpu, r)).join());
      if (period === 0 && seen.length > 1 && seen[seen.length - 1] === seen[0]) period = seen.length - 1;
      // The second turn is compared to its end.
      if (period > 0 && seen.length > period && seen[seen.length - 1] !== seen[seen.length - 1 - period]) return false;
      if (period > 0 && seen.length > 2 * period) return true;
      const r = yield* this.host(m.vcpuAgent(vcpu), { call: "KVM_RUN", vcpu, maxInstructions: 2 });
      if (r.exit?.reason !== "BUDGET") return false;
    }
    return false;
  }

  private runCall(vcpu: number, immediateExit: boolean): HostCall {
    return { call: "KVM_RUN", vcpu, maxExits: this.program.machine.livelock, maxInstructions: this.maxInstructions, immediateExit };
  }
  private get maxInstructions(): number {
    return Math.max(1, Math.min(INSTRUCTIONS_PER_RUN, this.options.budget.steps - this.phases));
  }

  /** What the VMM does when KVM_RUN has returned. @param faults guest faults before it @returns true to enter again */
  private afterRun(vcpu: number, text: string, span: Span, r: CallResult, faults: number): boolean {
    const m = this.machine;
    const who = `vcpu${vcpu}`;
    const note = (ret: number, errno: string | undefined, said: string): false => {
      this.window.results.push({ agent: who, line: span.line, column: span.column, text, ret: BigInt(ret), errno });
      this.step(who, text, span.line, said);
      return false;
    };
    if (this.crash !== undefined) {
      this.window.noteCrash(span);
      this.step(who, text, span.line, "-> host crash");
      return false;
    }
    const exit: ExitInfo = r.exit ?? { reason: "UNKNOWN" };
    if (r.ret < 0 && exit.reason !== "NO_PROGRESS") {
      const errno = errnoName(r.ret);
      this.window.exits.push(exit);
      this.window.problem("errno", span, `KVM_RUN of ${who} gave ${errno}`);
      return note(r.ret, errno, `-> ${errno}`);
    }
    switch (exit.reason) {
      case "MMIO":
        this.window.exits.push(exit);
        if (!exit.isWrite) m.answerMmio(vcpu, this.answer(BigInt(exit.physAddr), exit.len));
        if (this.leaves.has(BigInt(exit.physAddr))) return note(0, undefined, "-> exit MMIO");
        return true;
      case "DEBUG":
        return note(0, undefined, "");
      case "SELF_BRANCH":
        this.spinning(vcpu, span, note);
        return false;
      case "BUDGET":
      case "NO_PROGRESS": {
        // So many exits, or so many instructions, without coming back: has the guest moved at all?
        const { livelock } = this.program.machine;
        this.machine.sim.bus.flush();
        if (this.recorder.sameFault(m.vcpuAgent(vcpu)) >= livelock) {
          this.window.livelock = true;
          this.window.problem("livelock", span, `${who} makes no progress: the same fault ${livelock} times`);
          return note(r.ret, undefined, "-> no progress");
        }
        if (this.recorder.faults - faults < livelock) this.spend(this.maxInstructions);
        return true;
      }
      default:
        this.window.exits.push(exit);
        this.window.problem("exit", span, `KVM_RUN of ${who} returned with exit ${exit.reason}, which this VMM does not handle`);
        return note(0, undefined, `-> exit ${exit.reason}`);
    }
  }

  /** A guest in `b .`: at a vector (nobody handles the exception), behind the handler, or in its own code. */
  private spinning(vcpu: number, span: Span, note: (ret: number, errno: string | undefined, said: string) => false): void {
    const m = this.machine;
    const { image } = this.program;
    const pc = m.getRegister(vcpu, "pc");
    const offset = pc - BigInt(image.base);
    const atVector = !image.hasHandler && offset >= 0n && offset < 0x800n && offset % 0x80n === 0n;
    const handled = image.hasHandler && pc === BigInt(image.handlerEnd);
    if (!atVector && !handled) {
      this.window.livelock = true;
      this.window.problem("livelock", span, `vcpu${vcpu} spins in a branch to itself at 0x${pc.toString(16)}`);
      note(0, undefined, "-> spins");
      return;
    }
    const reg = (name: string): bigint => m.getRegister(vcpu, name);
    const x: Exception = {
      vcpu,
      vector: atVector ? offset : VECTOR_UNKNOWN,
      esr: reg("esr_el1"),
      far: reg("far_el1"),
      elr: reg("elr_el1"),
      spsr: reg("spsr_el1"),
    };
    this.window.exceptions.push(x);
    const said = `exception at vector 0x${offset.toString(16)}: esr=0x${x.esr.toString(16)} far=0x${x.far.toString(16)} elr=0x${x.elr.toString(16)}`;
    if (atVector) this.window.problem("exception", span, `vcpu${vcpu} took an ${said}`);
    note(0, undefined, atVector ? `-> ${said}` : "-> exception handled");
  }

  private answer(address: bigint, bytes: number): bigint {
    const found = this.answers.findLast((a) => a.from === address);
    return BigInt.asUintN(8 * bytes, found?.value ?? 0n);
  }

  // --- par ------------------------------------------------------------------------------------

  /** The agents of a `par` interleaved, by the scheduler of the run. */
  private *par(bodies: readonly (GuestBlock | ParThread)[], span: Span): Running<void> {
    yield* this.handOver();
    const { kvm } = this.machine;
    const run: ParRun = { line: span.line, muted: this.options.onPar !== undefined, ...this.endings() };
    const par = new ParAgents(this.parWorld(run), bodies);
    for (const p of par.programs) if (p.vcpu >= 0) this.needVcpu(p.vcpu);
    const stuck = par.agents.findIndex((agent) => this.machine.busy(agent));
    if (stuck >= 0) throw new HaltError("stuck", `${par.who(stuck)} ${STILL_WAITS}`);
    if (kvm !== undefined) kvm.interleave = true;
    try {
      if (this.options.onPar !== undefined) {
        this.recorder.stop();
        if (this.options.onPar(par, run)) {
          this.window.over = true;
          return;
        }
        this.recorder.resume();
        run.muted = false;
      }
      yield* this.schedule(par, span);
    } finally {
      if (kvm !== undefined) kvm.interleave = false;
    }
  }

  /** What may be asked of every way that a `par` can end: the reports and expectations that follow it at once. */
  private endings(): Pick<ParRun, "outcome" | "unmet"> {
    const scopes = [...this.scopes];
    const behind: (Report | Extract<Statement, { kind: "expect" }>)[] = [];
    for (const s of this.following) {
      if (s.kind !== "report" && s.kind !== "expect") break;
      behind.push(s);
    }
    const within = <T>(of: () => T): T => {
      const outer = this.scopes;
      this.scopes = scopes;
      try {
        return of();
      } finally {
        this.scopes = outer;
      }
    };
    return {
      outcome: () =>
        within(() =>
          behind
            .flatMap((s) => {
              if (s.kind !== "report" || (s.what.kind !== "value" && s.what.kind !== "stage2")) return [];
              if (s.what.kind === "value") return [`${s.label}=${valueText(evaluate(s.what.expr, this.scope))}`];
              return [`${s.label}=${this.typeAt(s.what.expr)}`];
            })
            .join(", "),
        ),
      unmet: () =>
        within(() => {
          for (const s of behind) {
            if (s.kind !== "expect" || (s.on.length > 0 && !s.on.some((n) => this.isThis(n.name)))) continue;
            const { condition: c } = s;
            if (c.kind !== "stage2" && (c.kind !== "value" || mentions(c.expr, "ret"))) continue;
            const actual = judge(c, this.window);
            if (actual !== undefined) return `line ${s.span.line}: ${s.text}: ${actual}`;
          }
          return undefined;
        }),
    };
  }

  private *schedule(par: ParAgents, span: Span): Running<void> {
    const scheduler = this.options.scheduler?.() ?? roundRobin(par.count);
    let idle = 0;
    while (!par.allFinished || scheduler.more?.(par) === true) {
      const moved = par.step(scheduler.next(par));
      this.tick();
      yield moved;
      if (this.crash !== undefined) return;
      idle = moved ? 0 : idle + 1;
      if (idle > 100 * par.count) {
        this.window.problem("stuck", span, "every agent waits for another: deadlock");
        return;
      }
    }
  }

  /** What the agents of a `par` need of this run. */
  private parWorld(run: ParRun): ParWorld {
    const m = this.machine;
    const crashed = (): boolean => this.crash !== undefined;
    const faults: number[] = [];
    const { agents } = m.sim;
    // All start when the statement before has ended.
    const since = agents?.latest ?? 0;
    return {
      state: m.sim.state,
      begin: (agent, call) => {
        agents?.catchUp(agent, since);
        // Of each call by itself: an exploration makes the same calls again and again.
        if (this.work(call) > this.options.budget.steps) this.overrun();
        m.begin(agent, call);
      },
      busy: (agent) => m.busy(agent),
      step: (agent) => (this.options.stepper === undefined ? m.step(agent) : this.options.stepper(m, agent)),
      finish: (agent) => m.finish(agent),
      get crashed() {
        return crashed();
      },
      vcpuAgent: (vcpu) => m.vcpuAgent(vcpu),
      threadAgent: (name) => this.threadAgent(name),
      isThis: (name) => this.isThis(name),
      lookup: (name, span) => this.valueOf(name, span),
      progress: (name, args, agent, results) => this.progress(name, args, agent, results),
      startGuest: (block) => this.startGuest(block),
      hardware: (vcpus, others, room) => m.hardwareSteps?.(vcpus, others, room),
      runCall: (vcpu, immediateExit) => {
        if (run.muted) return { call: "KVM_RUN", vcpu, immediateExit };
        faults[vcpu] = this.recorder.faults;
        return this.runCall(vcpu, immediateExit);
      },
      called: (who, op, value, result) => {
        if (!run.muted) this.noteCall(op.call.name, who, op.text, op.span, value, result);
      },
      ran: (_who, op, result) => {
        if (!run.muted) return this.afterRun(op.vcpu, op.text, op.span, result, faults[op.vcpu] ?? 0);
        if (result.ret < 0 || result.exit?.reason !== "MMIO") return false;
        if (!result.exit.isWrite) m.answerMmio(op.vcpu, this.answer(BigInt(result.exit.physAddr), result.exit.len));
        return !this.leaves.has(BigInt(result.exit.physAddr));
      },
    };
  }

  private threadAgent(name: string): number {
    if (name === "vmm") return VMM;
    let agent = this.threads.get(name);
    if (agent === undefined) {
      agent = this.kthreads.has(name) ? this.machine.addKthread(name) : this.machine.addThread(name);
      this.threads.set(name, agent);
    }
    return agent;
  }

  // --- steps ----------------------------------------------------------------

  private step(agent: string, text: string, line: number, result: string): void {
    const { events, dropped } = this.recorder.step();
    const step = new Step(line, text, agent, result, this.machine.sim.bus.seq, events, dropped);
    this.steps.push(step);
    this.told += STEP_BYTES + EVENT_BYTES * events.length;
    this.options.onStep?.(step);
  }
}

/** Values of write_place in words: CPU buffer, interconnect, root complex, end point. */
const PLACES = ["end point", "CPU buffer", "interconnect", "root complex"] as const;
/** Slot number of the guest's code: the highest that every era has. */
export const CODE_SLOT = 31;
const KVM_CAP_ARM_MTE = 205;
const KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223;
const KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE = 228;
const PCI_COMMAND = 4;
/** A handler was entered through one of the vectors; which one it does not say. */
const VECTOR_UNKNOWN = -1n;

function hasCall(e: Expr): boolean {
  return e.kind === "call" || (e.kind === "unary" && hasCall(e.of)) || (e.kind === "binary" && (hasCall(e.left) || hasCall(e.right)));
}

const valueText = (v: bigint): string => (v < 10n ? String(v) : `0x${v.toString(16)}`);
