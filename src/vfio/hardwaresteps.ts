/**
 * What hardware may do of its own accord while agents take turns, each as a step that an explorer can take and a schedule
 * can name. The litmus tests have the same steps (src/litmus/system.ts); a seed takes them in plain runs (orderingseed.ts).
 *
 * name          | step
 * cpu1.store0   | the entry 0 of CPU 1's store or gathering buffer leaves (only if it may)
 * fabric.write0 | the request 0 on its way goes a step further: into the root complex, to its end point
 * cpu1.tlbi0    | weak: the first pending TLBI of CPU 1 takes effect before its DSB
 * vcpu0.ahead0  | weak: the CPU of vCPU 0 performs the first load behind its PC ahead of its turn, or finds its fault
 * vcpu0.walk    | weak, without FEAT_ETS2: it ends the walk of that access in a fault
 */
import type { LookAhead } from "../arch/orderingahead.js";
import type { Pe } from "../arch/pe.js";
import { ARG, type Activity } from "../sim/agents.js";
import type { Sim } from "../sim/sim.js";
import type { Fabric } from "./fabric.js";

type Step =
  | { readonly kind: "store" | "tlbi"; readonly cpu: number; readonly n: number }
  | { readonly kind: "fabric"; readonly cpu: number; readonly n: number }
  | { readonly kind: "ahead"; readonly agent: number; readonly vcpu: number; readonly n: number; readonly walk: boolean };

/** Requests on their way of which each may be the next. */
const REQUESTS = 3;
const PENDING_TLBI = 2;
/** Entries of one CPU's buffer of which each may be the next: as many as there is room for. */
const MOST_STORES = { modelled: 4, weak: 8 } as const;
const LEAST_STORES = 2;

/** A vCPU that takes turns, and the agent that runs it. */
export interface TurningVcpu {
  readonly vcpu: number;
  readonly agent: number;
}

export class HardwareSteps {
  readonly names: readonly string[];
  private readonly list: readonly Step[];
  /** Per physical CPU: the agent on which its steps run. */
  private readonly agents: readonly number[];
  private readonly activity: Activity;
  /** Whether the last step did anything. */
  moved = false;

  /**
   * @param others agents besides the vCPUs that take turns @param vcpus those that take turns
   * @param room how many steps there may be; at least 12
   */
  constructor(
    private readonly sim: Sim,
    private readonly pe: Pe,
    private readonly ahead: LookAhead,
    private readonly fabric: Fabric | undefined,
    others: readonly number[],
    vcpus: readonly TurningVcpu[],
    room: number,
  ) {
    const { agents } = sim;
    this.activity = agents.activity("hardwareStep", "what hardware does of its own accord", 1, [
      [
        "step",
        (f) => {
          this.moved = this.take(this.list[agents.stack.a[f + ARG]!]!);
          return agents.ret(f);
        },
      ],
    ]);
    const { ordering } = pe;
    if (ordering === undefined) throw new Error("without buffers hardware has no choice");
    const on = new Set([...others, ...vcpus.map((v) => v.agent)].map((a) => agents.cpuOfAgent(a)));
    for (let c = 0; c < ordering.cpus; c++) if (ordering.buffers.count(c) > 0) on.add(c);
    const cpus = [...on].sort((a, b) => a - b);
    const steps: Step[] = [];
    if (fabric !== undefined) for (let n = 0; n < REQUESTS; n++) steps.push({ kind: "fabric", cpu: cpus[0] ?? 0, n });
    if (ordering.weak) {
      for (const cpu of cpus) for (let n = 0; n < PENDING_TLBI; n++) steps.push({ kind: "tlbi", cpu, n });
      for (const v of vcpus) {
        for (let n = 0; n < 2; n++) steps.push({ kind: "ahead", ...v, n, walk: false });
        if (ordering.early.ets < 2) steps.push({ kind: "ahead", ...v, n: 0, walk: true });
      }
    }
    const stores = Math.max(
      LEAST_STORES,
      Math.min(ordering.weak ? MOST_STORES.weak : MOST_STORES.modelled, Math.floor((room - steps.length) / cpus.length)),
    );
    for (const cpu of cpus) for (let n = 0; n < stores; n++) steps.push({ kind: "store", cpu, n });
    this.list = steps.slice(0, room);
    this.names = this.list.map(nameOf);
    this.agents = Array.from({ length: ordering.cpus }, (_, cpu) => {
      const name = `hardware${cpu}`;
      const known = agents.find(name);
      return known >= 0 ? known : agents.add(name, "device", cpu);
    });
  }

  get count(): number {
    return this.list.length;
  }

  /** Starts the n-th step. @returns the agent that has its one phase to run; `moved` says then whether it did anything */
  begin(n: number): number {
    const s = this.list[n]!;
    const { agents } = this.sim;
    const cpu = s.kind === "ahead" ? agents.cpuOfAgent(s.agent) : s.cpu;
    const agent = this.agents[cpu]!;
    this.moved = false;
    agents.start(agent, this.activity, n);
    return agent;
  }
  /** Is this one of the agents on which such steps run? */
  isAgent(agent: number): boolean {
    return this.agents.includes(agent);
  }

  /** Nothing is left for the n-th step to do. @param over everybody else has come to the end */
  finished(n: number, over: boolean): boolean {
    if (!over) return false;
    const s = this.list[n]!;
    const { buffers } = this.pe.ordering!;
    if (s.kind === "store") return buffers.count(s.cpu) <= s.n;
    if (s.kind !== "fabric") return true;
    for (let c = 0; c < buffers.cpus; c++) if (buffers.count(c) > 0) return false;
    return this.fabric!.count <= s.n;
  }

  private take(s: Step): boolean {
    const { pe } = this;
    switch (s.kind) {
      case "store":
        return pe.ordering!.leave(s.cpu, s.n);
      case "fabric":
        return this.fabric!.advance(s.n);
      case "tlbi":
        return pe.maintenance.takeEffect(s.cpu, s.n);
      case "ahead":
        return this.ahead.perform(s.vcpu, s.n, s.walk);
    }
  }

  /** What the n-th step is, for people. */
  text(n: number): string {
    const s = this.list[n]!;
    switch (s.kind) {
      case "store":
        return s.n === 0
          ? `the oldest store in the buffer of CPU ${s.cpu} leaves`
          : `the store behind ${others(s.n)} in the buffer of CPU ${s.cpu} leaves`;
      case "fabric":
        return s.n === 0 ? "the oldest request on its way goes on" : `the request behind ${others(s.n)} on its way goes on`;
      case "tlbi":
        return `a TLBI of CPU ${s.cpu} takes effect before its DSB`;
      case "ahead":
        return s.walk
          ? `the CPU of vCPU ${s.vcpu} ends a walk ahead of its turn`
          : `the CPU of vCPU ${s.vcpu} performs an access ahead of its turn`;
    }
  }
}

const others = (n: number): string => (n === 1 ? "1 other" : `${n} others`);

function nameOf(s: Step): string {
  switch (s.kind) {
    case "store":
    case "tlbi":
      return `cpu${s.cpu}.${s.kind}${s.n}`;
    case "fabric":
      return `fabric.write${s.n}`;
    case "ahead":
      return s.walk ? `vcpu${s.vcpu}.walk` : `vcpu${s.vcpu}.ahead${s.n}`;
  }
}
