/** Runs a litmus test: every interleaving of its actors, the outcomes that were seen, and what that says about its questions. */
import { Search, type Ending } from "../explore/search.js";
import type { LitmusTest, Question } from "./ast.js";
import { holds, terms, termText } from "./condition.js";
import { LitmusSystem } from "./system.js";

/**
 * agrees   | forbidden and never seen in a complete search; allowed or required, and seen (required: nothing else)
 * unseen   | allowed, but the model is stronger than the architecture and never shows it
 * differs  | forbidden and seen; required and something else seen; marked as central and not seen
 * undecided| a budget ended the search
 * missing  | not run: the mechanism is not modelled
 */
export type Answer = "agrees" | "unseen" | "differs" | "undecided" | "missing";

export interface Answered {
  readonly verdict: Question["verdict"];
  readonly central: boolean;
  readonly outcome: string;
  /** Final states in which it holds. */
  readonly seen: number;
  readonly answer: Answer;
}

export interface LitmusResult {
  readonly id: string;
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly answer: Answer;
  readonly questions: readonly Answered[];
  /** Outcome -> number of different final states. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly states: number;
  readonly finals: number;
  readonly ending: Ending | "not-run";
  readonly missing: string | undefined;
}

export interface LitmusOptions {
  /** States after which the search of a test ends. */
  readonly maxStates?: number;
}

export const DEFAULT_MAX_STATES = 400_000;

export function runLitmus(test: LitmusTest, options: LitmusOptions = {}): LitmusResult {
  const { search, result } = begun(test, options);
  search?.run();
  return result();
}

/** Steps between two pauses. */
const STRETCH = 2000;

/** The same, with pauses: a search can take minutes. */
export async function runLitmusWithPauses(test: LitmusTest, options: LitmusOptions, pause: () => Promise<void>): Promise<LitmusResult> {
  const { search, result } = begun(test, options);
  search?.begin();
  while (search?.advance(STRETCH) === false) await pause();
  return result();
}

/** A test's search, unless it is not run, and what it has come to. */
function begun(test: LitmusTest, options: LitmusOptions): { readonly search?: Search; readonly result: () => LitmusResult } {
  const { missing } = test;
  const head = { id: test.id, name: test.name, file: test.file, line: test.line, missing };
  if (missing !== undefined)
    return { result: () => ({ ...head, answer: "missing", questions: [], outcomes: {}, states: 0, finals: 0, ending: "not-run" }) };
  const system = new LitmusSystem(test);
  system.state.startRecording();
  const asked = test.questions
    .flatMap((q) => terms(q.condition))
    .filter((t, i, all) => all.findIndex((o) => termText(o) === termText(t)) === i);
  const outcomes = new Map<string, number>();
  const seen = test.questions.map(() => 0);
  const value = system.value.bind(system);
  const search = new Search(
    system,
    {
      end: () => {
        const text = asked.map((t) => `${termText(t)}=${value(t)}`).join(" ");
        outcomes.set(text, (outcomes.get(text) ?? 0) + 1);
        test.questions.forEach((q, i) => {
          if (holds(q.condition, value)) seen[i]!++;
        });
        return undefined;
      },
      stuck: () => undefined,
    },
    { reduction: false, maxStates: options.maxStates ?? DEFAULT_MAX_STATES },
  );
  const result = (): LitmusResult => {
    const found = search.result();
    const complete = found.ending === "complete";
    const questions = test.questions.map((q, i) => ({
      verdict: q.verdict,
      central: q.central,
      outcome: q.text,
      seen: seen[i]!,
      answer: answerOf(q, seen[i]!, found.terminals, complete),
    }));
    return {
      ...head,
      answer: worst(questions.map((q) => q.answer)),
      questions,
      outcomes: Object.fromEntries([...outcomes].sort(([a], [b]) => (a < b ? -1 : 1))),
      states: found.states,
      finals: found.terminals,
      ending: found.ending,
    };
  };
  return { search, result };
}

function answerOf(q: Question, seen: number, finals: number, complete: boolean): Answer {
  if (q.verdict === "forbidden") return seen > 0 ? "differs" : complete && finals > 0 ? "agrees" : "undecided";
  if (q.verdict === "required")
    return !complete || finals === 0 ? (seen < finals ? "differs" : "undecided") : seen === finals ? "agrees" : "differs";
  if (seen > 0) return "agrees";
  if (!complete) return "undecided";
  return q.central ? "differs" : "unseen";
}

const ORDER: readonly Answer[] = ["differs", "undecided", "missing", "unseen", "agrees"];
/** The answer of several: the least good one. */
export function worst(answers: readonly Answer[]): Answer {
  return ORDER.find((a) => answers.includes(a)) ?? "agrees";
}
