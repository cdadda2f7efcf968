/** `litmus` as a campaign: a unit is one test. The text of its file goes with it, so that a worker needs no file. */
import type { Work } from "../campaign/work.js";
import { FaultlineError } from "../sim/errors.js";
import type { LitmusTest } from "./ast.js";
import { runLitmusWithPauses, type LitmusOptions, type LitmusResult } from "./check.js";
import { parseLitmus } from "./parser.js";

export interface LitmusFile {
  /** As messages name it. */
  readonly file: string;
  readonly text: string;
}
export interface LitmusSpec {
  /** Which test of which of the files, by number. */
  readonly tests: readonly { readonly file: number; readonly test: number }[];
  readonly options: LitmusOptions;
}
interface Input extends LitmusFile {
  readonly test: number;
}

/** The file that was parsed last: the next unit is mostly of the same. */
let last: { readonly input: LitmusFile; readonly tests: readonly LitmusTest[] } | undefined;

function testOf({ file, text, test }: Input): LitmusTest {
  if (last?.input.text !== text || last.input.file !== file) last = { input: { file, text }, tests: parseLitmus(file, text) };
  return last.tests[test]!;
}

/**
 * @param files what the specification's numbers mean: only the submitter has them
 * @param told gets each result, in the order of the tests; nothing else is shown then
 */
export const litmusWork = (
  files: readonly LitmusFile[] = [],
  told?: (r: LitmusResult) => void,
): Work<LitmusSpec, LitmusResult[], Input, LitmusResult> => ({
  kind: "litmus",
  window: () => 64,
  start: () => [],
  next: ({ tests }, _state, unit) => {
    const t = tests[unit];
    return t === undefined ? undefined : { ...files[t.file]!, test: t.test };
  },
  run: async ({ options }, input, pause) => {
    const test = testOf(input);
    try {
      return await runLitmusWithPauses(test, options, pause);
    } catch (e) {
      if (e instanceof FaultlineError) throw new FaultlineError(`${test.file}:${test.line}: ${e.message}`);
      throw e;
    }
  },
  merge: (_spec, state, _unit, r) => {
    state.push(r);
    told?.(r);
  },
  ...(told === undefined
    ? { progress: ({ tests }: LitmusSpec, _state: LitmusResult[], merged: number) => `${merged} of ${tests.length} tests` }
    : {}),
});
