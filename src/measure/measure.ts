/**
 * What policies cost in virtual time: a script is run under each policy and each kernel, and each of its steps is
 * metered. Expectations are not judged: a host crash, an error or an exit is a result like another.
 */
import { eraRow } from "../eras.js";
import { typeName } from "../guest/expectations.js";
import type { Program, VariantConfig } from "../guest/compile.js";
import type { Budget } from "../guest/limits.js";
import { machineOptions } from "../guest/machineworld.js";
import type { Step, VariantResult } from "../guest/result.js";
import { runProgram } from "../guest/run.js";
import { Machine } from "../machine.js";
import { Distribution } from "./latency.js";
import { Meter, noCounts, type Counts } from "./meter.js";
import type { Policy } from "./policies.js";

/** One step of the script, or all of them. */
export interface Phase {
  /** Line in the script; 0 for the whole run. */
  readonly line: number;
  readonly text: string;
  /** vmm, vcpu0, … */
  readonly agent: string;
  /** Virtual time that passed. */
  readonly cycles: number;
  readonly counts: Counts;
  /** Of the guest's data accesses: cycles of each. */
  readonly latency: Distribution;
}

export interface Measurement {
  readonly policy: string;
  readonly kernel: string;
  readonly cpu: string;
  /** "completed", or what ended the run or failed in it. */
  readonly result: string;
  readonly phases: readonly Phase[];
  readonly total: Phase;
  /** Leaves of stage 2 at the end, by size in bytes, ascending. */
  readonly leaves: readonly (readonly [number, number])[];
  /** Stage-2 type of the memory outside RAM that is mapped at the end; "" if there is none. */
  readonly deviceType: string;
  /** Cycles that a store pays again for each request of its own: what gathering would save. */
  readonly request: number;
  /** Store and gathering buffers and the PCIe fabric were modelled: requests are those that left the root complex. */
  readonly buffered: boolean;
}

export interface MeasureOptions {
  readonly budget: Budget;
  readonly costs: Readonly<Record<string, number>>;
}

/** The kernels that a policy is measured under. @param kernels none: the variant's own */
export const combinations = (
  variants: readonly VariantConfig[],
  policy: Policy | VariantConfig,
  kernels: readonly string[],
): readonly string[] => (kernels.length === 0 ? [baseOf(variants, policy).kernel] : kernels);

const isVariant = (p: Policy | VariantConfig): p is VariantConfig => "kernel" in p;
const baseOf = (variants: readonly VariantConfig[], policy: Policy | VariantConfig): VariantConfig =>
  isVariant(policy) ? policy : variants[0]!;

/** One policy under one kernel. */
export function measureOne(program: Program, policy: Policy | VariantConfig, kernel: string, options: MeasureOptions): Measurement {
  const base = baseOf(program.variants, policy);
  const replaced = isVariant(policy) ? {} : policy.decisions(eraRow(kernel, base.set));
  const about = { policy: policy.name, kernel, cpu: base.cpu };
  if ("impossible" in replaced)
    return {
      ...about,
      result: replaced.impossible!,
      phases: [],
      total: total([]),
      leaves: [],
      deviceType: "",
      request: 0,
      buffered: false,
    };
  // A block `on v5.4 { … }` of the script is meant for that kernel also where a policy replaces something in it.
  const name = !isVariant(policy) && program.variants.some((v) => v.name === kernel) ? kernel : policy.name;
  const variant: VariantConfig = { ...base, name, kernel, set: { ...base.set, ...(replaced as Record<string, string>) } };
  const thp = isVariant(policy) ? undefined : policy.thp;
  const run = (ramAccess?: number) => meteredRun(program, variant, thp, options, ramAccess);
  const first = run();
  if (first.result.crash === undefined) countRamHits(first, run(first.ramAccess + 1));
  const leaves = new Map<number, number>();
  for (const l of first.result.leaves) leaves.set(l.size, (leaves.get(l.size) ?? 0) + 1);
  return {
    ...about,
    result: resultOf(first.result),
    phases: first.phases,
    total: total(first.phases),
    leaves: [...leaves].sort((a, b) => a[0] - b[0]),
    deviceType: first.deviceType,
    request: first.request,
    buffered: first.buffered,
  };
}

function resultOf(r: VariantResult): string {
  if (r.crash !== undefined) return `host crash in ${r.crash.function}: ${r.crash.reason}`;
  const failed = r.steps.find((s) => s.result.startsWith("->"));
  return failed === undefined ? "completed" : `line ${failed.line}: ${failed.result}`;
}

interface MeteredPhase extends Phase {
  readonly ramAccesses: number;
}
interface MeteredRun {
  readonly result: VariantResult;
  readonly phases: readonly MeteredPhase[];
  /** The cost of a RAM access in this run. */
  readonly ramAccess: number;
  readonly deviceType: string;
  readonly request: number;
  readonly buffered: boolean;
}

function meteredRun(
  program: Program,
  variant: VariantConfig,
  thp: Policy["thp"],
  options: MeasureOptions,
  ramAccess: number | undefined,
): MeteredRun {
  const costs = { ...program.machine.costs, ...options.costs, ...(ramAccess === undefined ? {} : { ramAccess }) };
  const machine = new Machine({
    ...machineOptions({ ...program.machine, costs }, variant),
    ...(thp === undefined ? {} : { thp }),
  });
  const meter = new Meter(machine);
  const phases: MeteredPhase[] = [];
  let before = 0;
  const onStart = () => {
    meter.next();
    before = machine.sim.agents.latest;
  };
  const onStep = (step: Step) => {
    const now = machine.sim.agents.latest;
    phases.push({ line: step.line, text: step.text, agent: step.agent, cycles: now - before, ...meter.next() });
    before = now;
  };
  try {
    const result = runProgram(program, variant, machine, { budget: options.budget, detail: "none", onStart, onStep });
    const { ramAccess: each, deviceWrite, tlp } = machine.sim.costs;
    const outside = result.leaves.filter((l) => !machine.phys.isRam(l.pa));
    const deviceType = [...new Set(outside.map(typeName))].sort().join(" and ");
    return { result, phases, ramAccess: each, deviceType, request: deviceWrite + tlp, buffered: machine.fabric !== undefined };
  } finally {
    meter.stop();
  }
}

/**
 * RAM accesses that hit the TLB make no event. With each RAM access one cycle dearer a guest's step takes one cycle
 * longer for each of its accesses, hit or missed: a second run tells how many there were.
 */
function countRamHits(first: MeteredRun, dearer: MeteredRun): void {
  for (const [i, phase] of first.phases.entries()) {
    const again = dearer.phases[i];
    if (again === undefined || !phase.agent.startsWith("vcpu")) continue;
    phase.latency.add(first.ramAccess, again.cycles - phase.cycles - phase.ramAccesses);
  }
}

/** Everything that the phases add up to. */
export function total(phases: readonly Phase[]): Phase {
  const counts = noCounts();
  const latency = new Distribution();
  let cycles = 0;
  for (const p of phases) {
    cycles += p.cycles;
    latency.addAll(p.latency);
    for (const key of Object.keys(counts) as (keyof Counts)[]) counts[key] += p.counts[key];
  }
  return { line: 0, text: "", agent: "", cycles, counts, latency };
}
