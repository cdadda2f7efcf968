/**
 * The window of a run: what happened since the last expectations, judged by those that stand behind it. What went wrong
 * there and no expectation names fails the run.
 */
import type { ExitInfo } from "../api/calls.js";
import type { Stage2Leaf } from "../api/nouns.js";
import type { EventBus } from "../sim/events.js";
import { lockdepReport } from "../sim/lockdep.js";
import type { Statement } from "./ast.js";
import { BudgetError, type Span } from "./diagnostics.js";
import type { Scope } from "./evaluate.js";
import { judge, type Exception, type Problem, type Result, type Window } from "./expectations.js";
import { LIMITS } from "./limits.js";
import type { Recorder } from "./recorder.js";
import type { Outcome } from "./result.js";

/** What expectations ask of a machine. */
export interface JudgedMachine {
  readonly sim: { readonly bus: EventBus };
  readonly crashed: { readonly function: string; readonly reason: string } | undefined;
  stage2Leaves(vm: number): readonly Stage2Leaf[];
  /** State of the data cache line of a host address: invalid, clean, dirty; undefined where caches are not modelled. */
  cacheState?(hva: number): string | undefined;
}

/** Events that led to a failure and are shown with it. */
const LED_TO = 12;
/** Behind so many outcomes a failure comes without them. */
const MOST_LED_TO = 10_000;

export class RunWindow implements Window {
  results: Result[] = [];
  exits: ExitInfo[] = [];
  exceptions: Exception[] = [];
  problems: Problem[] = [];
  livelock = false;
  /** Pages of the last KVM_GET_DIRTY_LOG; stays from window to window. */
  dirty: readonly number[] | undefined;
  /** Of the whole run. */
  readonly outcomes: Outcome[] = [];
  /** After the window in which the host crashed nothing runs. */
  over = false;
  /** The run ended before its end, and why what follows is not reached. */
  halted = false;
  private reason = "the host had crashed";
  /** Expectations have been judged: the next action opens a new window. */
  private closed = false;
  /** An expectation of this window counts what lockdep reports. */
  private lockdepAsked = false;

  /**
   * @param vm the VM that the script has made
   * @param isThis is that one of the names of the variant that runs?
   */
  constructor(
    private readonly machine: JudgedMachine,
    readonly recorder: Recorder,
    readonly scope: Scope,
    private readonly vm: () => number,
    private readonly isThis: (name: string) => boolean,
  ) {}

  get crash(): { readonly function: string; readonly reason: string } | undefined {
    return this.machine.crashed;
  }
  leaves(): readonly Stage2Leaf[] {
    return this.machine.stage2Leaves(this.vm());
  }
  cacheState(hva: number): string {
    return this.machine.cacheState?.(hva) ?? "not modelled: the machine has no `cache modelled`";
  }

  /** The host is down, or a call waits for ever: what has been judged was the last, and so is what acts. */
  down(acts: boolean): void {
    this.over ||= this.closed || acts;
  }

  /** What no statement behind it can go on from: the run is over, as after a crash. */
  halt(kind: "stuck" | "errno", span: Span, text: string): void {
    this.halted = true;
    this.problem(kind, span, text);
    this.reason = kind === "stuck" ? "a call waits for ever" : "there is no vCPU";
  }

  /** An action after expectations begins a new window. */
  open(): void {
    if (!this.closed) return;
    this.close();
    this.closed = false;
    this.recorder.window();
    this.results = [];
    this.exits = [];
    this.exceptions = [];
    this.livelock = false;
  }

  /** What went wrong in this window and no expectation named fails the run. */
  close(): void {
    if (!this.lockdepAsked) this.reportLockdep();
    this.lockdepAsked = false;
    for (const p of this.problems) if (!p.expected) this.fail(p.line, p.column, "nothing unexpected", p.text);
    this.problems = [];
  }

  /** What lockdep would have written into the kernel log fails the run, once for each pair of locks. */
  private reportLockdep(): void {
    const said = new Set<string>();
    this.recorder.each(lockdepReport.name, (e) => {
      const actual = `${String(e["kind"])} of ${String(e["lock"])} while ${e.agent} holds ${String(e["held"])}`;
      if (said.has(actual)) return;
      said.add(actual);
      this.fail(0, 0, "no report of lockdep", actual);
    });
  }
  private fail(line: number, column: number, expected: string, actual: string): void {
    this.judge(line);
    const events = this.outcomes.length < MOST_LED_TO ? this.recorder.last(LED_TO) : [];
    this.outcomes.push({ status: "failed", line, column, text: "", expected, actual, events });
  }
  /** One more outcome. @throws BudgetError */
  private judge(line: number): void {
    if (this.outcomes.length >= LIMITS.expectations)
      throw new BudgetError(`line ${line}: the run judged more than ${LIMITS.expectations} expectations`, "");
  }

  /** Something that fails the run unless an expectation names it. */
  problem(kind: Problem["kind"], span: Span, text: string): void {
    this.problems.push({ kind, line: span.line, column: span.column, text, expected: false });
  }
  noteCrash(span: Span): void {
    const c = this.crash!;
    if (!this.problems.some((p) => p.kind === "crash")) this.problem("crash", span, `the host crashed in ${c.function}: ${c.reason}`);
  }

  expectation(s: Extract<Statement, { kind: "expect" }>): void {
    this.closed = true;
    const here = s.on.length === 0 || s.on.some((n) => this.isThis(n.name));
    if (!here) return;
    if (s.condition.kind === "event" && s.condition.event === lockdepReport.name) this.lockdepAsked = true;
    this.judge(s.span.line);
    const outcome = (status: Outcome["status"], actual: string): void => {
      this.outcomes.push({
        status,
        line: s.span.line,
        column: s.span.column,
        text: s.text,
        expected: s.text.replace(/^expect (on \S+(?:, *\S+)* )?/, ""),
        actual,
        events: status === "failed" && this.outcomes.length < MOST_LED_TO ? this.recorder.last(LED_TO) : [],
      });
    };
    if (this.over) {
      // The host is down. Whoever names this variant means it; others are spared.
      if (s.on.length > 0) outcome("failed", `never reached: ${this.reason}`);
      else outcome("skipped", this.reason);
      return;
    }
    if (
      this.crash !== undefined &&
      s.condition.kind !== "crash" &&
      s.condition.kind !== "event" &&
      s.condition.kind !== "inject" &&
      s.on.length === 0
    ) {
      outcome("skipped", "the host had crashed");
      return;
    }
    const actual = judge(s.condition, this);
    if (actual === undefined) outcome("met", "");
    else if (this.crash !== undefined && s.on.length === 0 && s.condition.kind !== "crash") outcome("skipped", "the host had crashed");
    else outcome("failed", actual);
  }
}
