/**
 * The agents of a script's `par` and the machine they run on, as a system to be searched. Where buffers are modelled what
 * hardware may do between their steps are actors too (src/vfio/hardwaresteps.ts).
 *
 * Words with owners: an agent's frames and results, and a vCPU's registers and kvm_run. A vCPU looks only at
 * its own; the VMM's and the kernel's threads may look at any vCPU's. Everything else is shared.
 */
import { REGS_WORDS } from "../arch/registers.js";
import type { ParAgents } from "../guest/paragents.js";
import type { AgentProgram } from "../guest/parprogram.js";
import { SEQ } from "../kvm/usermemabort.js";
import type { Machine } from "../machine.js";
import { ESR_EL2, FAR_EL2, HPFAR_EL2 } from "../arch/registers.js";
import { PREV } from "../sim/agents.js";
import { GROUPS, UNHASHED, type Pool, type StateRegistry } from "../sim/state.js";
import { assignGroups, GROUP_TLB, IGNORED_POOLS } from "./groups.js";
import { IGNORED, SHARED, type System } from "./system.js";
import { TlbDigest } from "./tlbdigest.js";

/** Words per agent. */
const OF_AGENTS: Readonly<Record<string, number>> = {
  "agents.stack": 512,
  "agents.top": 1,
  "agents.cpu": 1,
  "agents.results": 3,
  "api.pending": 1,
  "api.kept": 2,
  "locks.owned": 9,
};
/** Words per vCPU. */
const OF_VCPUS: Readonly<Record<string, number>> = { "vcpu.regs": REGS_WORDS, "kvm.vcpus": 20, "kvm.vcpus.wide": 4 };
/** Phases of userMemAbort. */
const FAULT_PHASES = 7;
const SCRIPT = "script.agents";
/** What the invariants keep: theirs alone. */
const MEMORY = "explore.memory";
/** What an exception leaves in EL2: nobody reads it once the guest runs again. */
const SYNDROME = [ESR_EL2, ESR_EL2 + 1, FAR_EL2, FAR_EL2 + 1, HPFAR_EL2, HPFAR_EL2 + 1];
/** Pools that no observer looks at. */
const UNWATCHED = new Set(["locks.held", "locks.writers", "locks.owned", "mm.ptlocks", "kvm.memcaches"]);

export class ScriptSystem implements System {
  readonly state: StateRegistry;
  readonly actors: number;
  passive = 0;
  private readonly ignored: boolean[] = [];
  /** Per pool: words of one owner, 0 for a shared pool. */
  private readonly stride: number[] = [];
  private readonly ofVcpus: boolean[] = [];
  private readonly script: number;
  private readonly tlb: TlbDigest;
  private readonly registers: Pool;
  private readonly wide: Pool;
  private readonly stack: Pool;
  /** kvmVcpuRun:guest. */
  private readonly guestPhase: number;
  digestLow = 0;
  digestHigh = 0;
  /** By agent of the machine, and by vCPU: the actor. */
  private readonly byAgent: Int32Array;
  private readonly byVcpu: Int32Array;
  /** Per actor and operation: how far it has come. A loop is one position. */
  private readonly positions: Int32Array[] = [];
  /** The programs of vCPUs. */
  private readonly ofGuests: AgentProgram[] = [];

  constructor(
    readonly machine: Machine,
    readonly par: ParAgents,
  ) {
    this.state = machine.sim.state;
    par.withHardware();
    this.actors = par.actors;
    for (let i = par.count; i < par.actors; i++) this.passive |= 1 << i;
    this.byAgent = new Int32Array(machine.sim.agents.count).fill(SHARED);
    this.byVcpu = new Int32Array(machine.kvm.vcpus.count).fill(SHARED);
    for (let a = 0; a < this.byAgent.length; a++) if (par.isHardwareAgent(a)) this.byAgent[a] = IGNORED;
    for (const [i, agent] of par.agents.entries()) this.byAgent[agent] = i;
    for (const [i, p] of par.programs.entries()) if (p.vcpu >= 0) this.byVcpu[p.vcpu] = i;
    for (const pool of this.state.pools) {
      this.ignored.push(IGNORED_POOLS.includes(pool.name) || pool.name === MEMORY);
      this.stride.push(pool.name === SCRIPT ? 1 : (OF_AGENTS[pool.name] ?? OF_VCPUS[pool.name] ?? 0));
      this.ofVcpus.push(OF_VCPUS[pool.name] !== undefined);
    }
    this.script = this.state.pools.findIndex((p) => p.name === SCRIPT);
    for (const p of par.programs) {
      const positions = Int32Array.from({ length: p.ops.length + 1 }, (_, n) => n);
      for (const [n, op] of p.ops.entries())
        if (op.kind === "next") for (let i = op.target; i <= n; i++) positions[i] = Math.min(positions[i]!, positions[op.target]!);
      this.positions.push(positions);
      if (p.vcpu >= 0) this.ofGuests.push(p);
    }
    this.tlb = new TlbDigest(machine.pe.tlbs, machine.pe.maintenance);
    assignGroups(this.state);
    this.guestPhase = machine.kvm.run.first + 2;
    this.wide = this.state.pools.find((p) => p.name === "kvm.vms.wide")!;
    this.stack = machine.sim.agents.stack;
    this.registers = this.state.pools.find((p) => p.name === "vcpu.regs")!;
    if (this.wide.group !== this.stack.group || this.wide.group !== this.registers.group)
      throw new Error("what the digest leaves out lies in one group of the hash");
  }

  step(actor: number): boolean {
    return this.par.step(actor);
  }
  finished(actor: number): boolean {
    return this.par.finished(actor) || this.machine.crashed !== undefined;
  }
  position(actor: number): number {
    return this.par.isHardware(actor) ? 0 : this.positions[actor]![this.par.position(actor)]!;
  }
  ownedPool(pool: number): boolean {
    return this.stride[pool]! > 0;
  }
  ignoredPool(pool: number): boolean {
    return this.ignored[pool]!;
  }
  watchedPool(pool: number): boolean {
    return !this.ignored[pool]! && this.stride[pool] === 0 && !UNWATCHED.has(this.state.pools[pool]!.name);
  }
  owner(pool: number, word: number): number {
    if (pool === this.script) return this.par.ownerOfWord(word);
    const n = (word / this.stride[pool]!) | 0;
    const by = this.ofVcpus[pool] ? this.byVcpu : this.byAgent;
    return n < by.length ? by[n]! : SHARED;
  }
  looksAround(pool: number, actor: number): boolean {
    return this.ofVcpus[pool]! && (this.par.isHardware(actor) || this.par.programs[actor]!.vcpu < 0);
  }

  digest(): void {
    const { hashLo, hashHi } = this.state;
    const g0 = this.wide.group;
    const low = hashLo[g0]!;
    const high = hashHi[g0]!;
    this.leaveOut();
    this.tlb.compute(hashLo[GROUP_TLB]!, hashHi[GROUP_TLB]!);
    let lo = this.tlb.low;
    let hi = this.tlb.high;
    for (let g = 0; g < GROUPS; g++) {
      if (g === GROUP_TLB) continue;
      lo ^= hashLo[g]!;
      hi ^= hashHi[g]!;
    }
    hashLo[g0] = low;
    hashHi[g0] = high;
    this.digestLow = lo;
    this.digestHigh = hi;
  }

  /**
   * Takes out of the hash what a state does not depend on, and puts the rest of it in:
   * the syndromes that nobody will read, and the sequence counts, of which only matters whether the faults under
   * way have read the present one.
   */
  private leaveOut(): void {
    const { state, machine, registers, wide, stack } = this;
    const { vms } = machine.kvm;
    for (let vm = 0; vm < vms.count; vm++) state.hashWord(wide, vms.seqWord(vm), wide.a[vms.seqWord(vm)]!);
    for (const p of this.ofGuests) {
      const f = this.faultFrame(p.vcpu);
      if (f >= 0) {
        const read = stack.a[f + SEQ]!;
        state.hashWord(stack, f + SEQ, read);
        if (read === vms.seq(machine.kvm.vcpus.vm(p.vcpu))) state.hashWord(stack, f + SEQ, -1);
      }
      if (!this.inGuest(p.vcpu)) continue;
      for (const word of SYNDROME) state.hashWord(registers, p.vcpu * REGS_WORDS + word, registers.a[p.vcpu * REGS_WORDS + word]!);
    }
  }

  /** The frame of user_mem_abort on a vCPU's stack, -1 if it is not in there. */
  private faultFrame(vcpu: number): number {
    const { agents } = this.machine.sim;
    const { first } = this.machine.kvm.userMemAbort.activity;
    const s = this.stack.a;
    for (let f = agents.frame(this.machine.vcpuAgent(vcpu)); f >= 0; f = s[f + PREV]!)
      if (s[f]! >= first && s[f]! < first + FAULT_PHASES) return f;
    return -1;
  }

  /** Between two guest instructions. */
  private inGuest(vcpu: number): boolean {
    const { agents } = this.machine.sim;
    return agents.innermost(this.machine.vcpuAgent(vcpu)) === this.guestPhase;
  }

  content(): string {
    const { vms, vcpus } = this.machine.kvm;
    const faults = this.par.programs.map((p) => (p.vcpu < 0 ? -1 : this.faultFrame(p.vcpu)));
    const current = faults.map((f, i) => f >= 0 && this.stack.a[f + SEQ] === vms.seq(vcpus.vm(this.par.programs[i]!.vcpu)));
    const skipped = new Map<Pool, Set<number>>([
      [this.stack, new Set(faults.map((f) => f + SEQ))],
      [this.wide, new Set(Array.from({ length: vms.count }, (_, vm) => vms.seqWord(vm)))],
      [
        this.registers,
        new Set(
          this.par.programs.flatMap((p) => (p.vcpu >= 0 && this.inGuest(p.vcpu) ? SYNDROME.map((w) => p.vcpu * REGS_WORDS + w) : [])),
        ),
      ],
    ]);
    let text = `${this.tlb.content()};${current.join(",")}`;
    for (const p of this.state.pools) {
      if (p.group === GROUP_TLB || p.group === UNHASHED) continue;
      text += `;${p.name}:`;
      const { a } = p;
      const without = skipped.get(p);
      for (let i = 0; i < a.length; i++) if (a[i] !== 0 && without?.has(i) !== true) text += `${i}=${a[i]},`;
    }
    return text;
  }
}
