/** One program on one machine: carried out step by step, each step judged. */
import type { Stage2Leaf } from "../machine.js";
import { errorText } from "./errors.js";
import { Coverage } from "./coverage.js";
import { judge, sensible, type Finding } from "./judge.js";
import type { Op, Program } from "./program.js";
import { Rigs } from "./rig.js";
import { Shadow } from "./shadow.js";
import { Vmm, type Outcome } from "./vmm.js";

/** Under which kernel. */
export interface Target {
  readonly kernel: string;
  readonly set: Readonly<Record<string, string>>;
}

export interface Failure extends Finding {
  /** The step, from 0. */
  readonly step: number;
}

export interface Trial {
  readonly failure: Failure | undefined;
  /** By step; fewer than steps where the host crashed. */
  readonly outcomes: readonly Outcome[];
  readonly features: readonly number[];
  /** Hash over all events. */
  readonly trace: number;
  readonly events: number;
  /** Stage 2 at the end, without physical addresses; of a run for its outcomes. */
  readonly leaves: readonly Leaf[];
}

export type Leaf = Pick<Stage2Leaf, "ipa" | "size" | "memattr" | "s2ap" | "xn" | "af">;

/**
 * What a run is for: to be judged step by step; for its trace alone, steps already known to be sensible;
 * for its outcomes, whatever they are.
 */
export type Purpose = "judge" | "trace" | "outcomes";

/** Events that no kernel and no CPU may give. */
const NEVER = ["stale_translation", "tlbi_without_dsb"];

const KINDS_OF_STEP = new Map<string, number>();
const kindOf = (op: Op): number => {
  const name = op.op === "guest" ? `guest ${op.what}` : op.op;
  let n = KINDS_OF_STEP.get(name);
  if (n === undefined) KINDS_OF_STEP.set(name, (n = [...name].reduce((h, c) => (Math.imul(h, 31) + c.charCodeAt(0)) | 0, 7)));
  return n;
};

export class Laboratory {
  private readonly rigs = new Rigs();
  private readonly coverage = new Coverage(NEVER);
  private readonly decisions = new Map<string, number>();

  run(program: Program, target: Target, purpose: Purpose = "judge"): Trial {
    const { coverage } = this;
    const rig = this.rigs.take({ ...target, cpu: program.cpu, onDecision: (name) => this.asked(name) });
    const { machine } = rig;
    coverage.clear();
    const stop = coverage.listen(machine.sim.bus);
    const shadow = new Shadow();
    const vmm = new Vmm(rig);
    const outcomes: Outcome[] = [];
    const before = machine.sim.bus.seq;
    let failure: Failure | undefined;
    try {
      for (const [n, op] of program.ops.entries()) {
        coverage.begin(kindOf(op));
        let out: Outcome;
        let found: Finding | undefined;
        if (purpose !== "trace" && !sensible(op, shadow)) {
          outcomes.push({ how: "skipped", value: 0n, pages: [], mmio: 0, esr: 0 });
          continue;
        }
        try {
          out = vmm.do(op);
        } catch (e) {
          // Whatever a program asks, the model answers: an exception is a defect of its own.
          failure = { kind: `error: ${errorText(e)}`, text: errorText(e), step: n };
          this.rigs.drop(rig);
          break;
        }
        machine.sim.bus.flush();
        outcomes.push(out);
        if (out.how === "crash") {
          const c = machine.crashed!;
          failure = { kind: `host crash in ${c.function}`, text: `the host crashed in ${c.function}: ${c.reason}`, step: n };
          break;
        }
        if (coverage.broken !== undefined)
          found = { kind: coverage.broken, text: `event ${coverage.broken}`, expect: `expect no event ${coverage.broken}` };
        if (purpose !== "trace") {
          found = judge(op, out, shadow, vmm.backings) ?? found;
          shadow.apply(op, out, vmm.backings, vmm.slots);
        }
        if (found !== undefined && purpose === "judge") {
          failure = { ...found, step: n };
          break;
        }
      }
    } finally {
      stop();
    }
    const leaves = purpose === "outcomes" && machine.crashed === undefined && failure === undefined ? machine.stage2Leaves(rig.vm.id) : [];
    return {
      failure,
      outcomes,
      features: [...coverage.features],
      trace: coverage.trace,
      events: machine.sim.bus.seq - before,
      leaves: leaves.map(({ ipa, size, memattr, s2ap, xn, af }) => ({ ipa, size, memattr, s2ap, xn, af })),
    };
  }

  private asked(name: string): void {
    let n = this.decisions.get(name);
    if (n === undefined) this.decisions.set(name, (n = [...name].reduce((h, c) => (Math.imul(h, 33) + c.charCodeAt(0)) | 0, 5)));
    this.coverage.touch(n >>> 7);
  }
}
