/**
 * The machine: the one place where the rooms are wired together, and what a user of the library holds.
 *
 * Physical memory map: RAM from 1 GiB (from 1 TiB when it is larger than 448 GiB), translation tables
 * in a window of host RAM of their own, BARs where the host bridge places them.
 */
import { callName, callNumber, Dispatch, type CallNumber } from "./api/dispatch.js";
import type { Args, Call, CallName, CallResult, ExitInfo } from "./api/calls.js";
import type { EventName, Events } from "./api/events.js";
import { HostProcess, Vfio, Vm, type Stage2Leaf } from "./api/nouns.js";
import { snapshotOf, type MachineSnapshot } from "./api/snapshot.js";
import type { CacheModel } from "./arch/cachemaintenance.js";
import { Cpu } from "./arch/cpu.js";
import { cpuProfile, nearestName, type CpuFeatures } from "./arch/features.js";
import { MemoryErrors, type Apei } from "./arch/memoryerrors.js";
import { Pe } from "./arch/pe.js";
import { PhysicalMemory } from "./arch/phys.js";
import type { BufferMode } from "./arch/ordering.js";
import { LookAhead } from "./arch/orderingahead.js";
import { HardwareByOthers, HardwareBySeed } from "./arch/orderingseed.js";
import { ARCHITECTURAL, recordedProfile, type MachineProfile, type UnsupportedAtomics } from "./arch/profile.js";
import { RegisterFile } from "./arch/registers.js";
import { TablePages } from "./arch/tables.js";
import { DEFAULT_ERA, eraRow, type EraRow } from "./eras.js";
import { Kvm } from "./kvm/kvm.js";
import { PlatformDrivers } from "./mmu/drivers/platform.js";
import { HostMm } from "./mmu/mm.js";
import type { ShmemPolicy, ThpPolicy } from "./mmu/thpsettings.js";
import type { EventRecord } from "./sim/events.js";
import { Sim } from "./sim/sim.js";
import type { DeviceSpec } from "./vfio/devicespec.js";
import { HardwareSteps } from "./vfio/hardwaresteps.js";
import { OrderingCalls } from "./vfio/orderingcalls.js";
import { DEFAULT_FABRIC, Fabric, type FabricOptions } from "./vfio/fabric.js";
import { VfioPci } from "./vfio/driver.js";
import { FaultlineError } from "./sim/errors.js";
import { Tape } from "./inspect/tape.js";
import { Timeline } from "./inspect/timeline.js";

export type { EventName, Events } from "./api/events.js";
export type {
  Call,
  CallResult,
  ExitInfo,
  RegionInfo,
  SignalInfo,
  UserfaultInfo,
  UserMemoryRegion,
  UserMemoryRegion2,
} from "./api/calls.js";
export { HostProcess, Userfault, Vcpu, Vfio, VfioDevice, Vm, type RunResult, type Stage2Leaf } from "./api/nouns.js";

const GIB = 2 ** 30;
const LOW_RAM_LIMIT = 448 * GIB;
const TABLE_WINDOW = { base: 0xc000000000, size: 4 * GIB };
export const DEFAULT_RAM = 2 * GIB;

export interface MachineOptions {
  /** Era; v6.12 if absent. */
  readonly kernel?: string;
  /** CPU profile, by name or as features; `max` if absent. */
  readonly cpu?: string | CpuFeatures;
  /** Decisions replaced: name -> value. */
  readonly set?: Readonly<Record<string, string>>;
  /** "architectural" if absent; "recorded" departs like the machine under the recordings. */
  readonly profile?: "architectural" | "recorded" | MachineProfile;
  /**
   * Store and gathering buffers and the PCIe fabric: "off" (every access is at its end at once) if absent;
   * "modelled"; "weak": write-back stores wait too.
   */
  readonly buffers?: BufferMode;
  /** With buffers: bytes of a peripheral, to which Device-nR accesses keep their order; everything behind a bridge if absent. */
  readonly peripheralBlock?: number;
  /** With buffers: inner shareable barriers do not order Device and Normal-NC accesses; false if absent. */
  readonly strictShareability?: boolean;
  /** How the fabric differs from a root complex that is the point of serialisation. */
  readonly fabric?: Partial<FabricOptions>;
  /** Replaces the profile's answer to exclusives and atomics on memory that does not support them. */
  readonly unsupportedAtomics?: UnsupportedAtomics;
  /** Bytes of RAM, a multiple of 2 MiB; 2 GiB if absent. */
  readonly ram?: number;
  /** Physical CPUs; 4 if absent. */
  readonly cpus?: number;
  readonly seed?: number;
  /** Keep who holds which lock and compare every taking with the kernel's lock order (CONFIG_LOCKDEP); false if absent. */
  readonly lockdep?: boolean;
  /** /sys/kernel/mm/transparent_hugepage/enabled; always if absent. */
  readonly thp?: ThpPolicy;
  /** /sys/kernel/mm/transparent_hugepage/shmem_enabled; never if absent. */
  readonly shmem?: ShmemPolicy;
  /**
   * Models the caches: "modelled", where non-cacheable accesses go past them, or "coherent", a host whose
   * interconnect lets those look the caches up. Absent: RAM is the one copy of everything.
   */
  readonly cache?: CacheModel;
  /**
   * What firmware does about errors in RAM: "einj", errors can be injected; "ghes", those whose external abort a CPU takes are
   * handled firmware first too: an error record lets the kernel claim the abort. Absent: no error can be injected.
   */
  readonly apei?: Apei;
  /** Cycles by cost name. */
  readonly costs?: Readonly<Record<string, number>>;
  /** PCI functions, by known name or described; none if absent. */
  readonly devices?: readonly (string | DeviceSpec)[];
  /** Told the name of each decision whenever the kernel asks it: for coverage; it slows the machine down. */
  readonly onDecision?: (name: string) => void;
  /** Keep what is done to the machine, so that `at` can go back to any of its events. */
  readonly history?: boolean;
  /** The state registry notes which pools are looked at: for an explorer. */
  readonly watchReads?: boolean;
  /** Who takes the steps that hardware takes of its own accord in weak mode: the seed if absent, or the caller (`hardwareSteps`). */
  readonly hardware?: "seed" | "steps";
}

/** Every option of a Machine: a name that is misspelt would be passed over in silence. */
const OPTIONS: Readonly<Record<keyof MachineOptions, true>> = {
  kernel: true, cpu: true, set: true, profile: true, buffers: true, peripheralBlock: true, strictShareability: true, fabric: true,
  unsupportedAtomics: true, ram: true, cpus: true, seed: true, lockdep: true, thp: true, shmem: true, cache: true, apei: true, costs: true, devices: true,
  onDecision: true, history: true, watchReads: true, hardware: true,
}; // prettier-ignore

const CACHE_STATES = ["invalid", "clean", "dirty"] as const;
/** The VMM's thread. */
const VMM = 0;

/**
 * One host with its VMs, devices and CPUs. `host`, `vfio` and `createVm()` give the nouns; `sim`, `phys`, `mm`, `kvm` and their
 * like are the rooms behind them, for readers of the source: they change from version to version.
 */
export class Machine {
  readonly sim: Sim;
  readonly era: EraRow;
  readonly features: CpuFeatures;
  readonly profile: MachineProfile;
  readonly phys: PhysicalMemory;
  readonly tables: TablePages;
  readonly registers: RegisterFile;
  readonly pe: Pe;
  readonly cpu: Cpu;
  readonly mm: HostMm;
  /** Character devices that map page frames: /dev/mem, /dev/drm_shmem, … */
  readonly platform: PlatformDrivers;
  readonly vfioPci: VfioPci;
  /** The PCIe fabric, undefined while buffers are not modelled. */
  readonly fabric: Fabric | undefined;
  readonly orderingCalls: OrderingCalls;
  readonly kvm: Kvm;
  /** Physical CPUs. */
  readonly cpus: number;
  readonly host: HostProcess;
  readonly vfio: Vfio;
  private readonly dispatch: Dispatch;
  /** What was done to the machine so far, with `history`. */
  private tape: Tape | undefined;
  private timeline: Timeline | undefined;

  /** @throws Error for an unknown era, CPU, decision, device or cost, or RAM that is no multiple of 2 MiB; TypeError for an unknown option */
  constructor(readonly options: MachineOptions = {}) {
    for (const name in options)
      if (!Object.hasOwn(OPTIONS, name))
        throw new TypeError(`a Machine has no option ${name}: did you mean ${nearestName(name, Object.keys(OPTIONS))}?`);
    const kernel = options.kernel ?? DEFAULT_ERA;
    this.era = eraRow(kernel, options.set, (name) => void this.asked.add(name), options.onDecision);
    this.features = typeof options.cpu === "object" ? options.cpu : cpuProfile(options.cpu ?? "max");
    const profile = profileOf(options.profile, this.features);
    this.profile = options.unsupportedAtomics === undefined ? profile : { ...profile, unsupportedAtomics: options.unsupportedAtomics };
    this.cpus = options.cpus ?? 4;
    const ramSize = options.ram ?? DEFAULT_RAM;
    const sim = (this.sim = new Sim(options.costs, options.watchReads));
    if (options.lockdep === true) sim.locks.tracking = true;
    this.phys = new PhysicalMemory(sim, { ramBase: ramSize > LOW_RAM_LIMIT ? 1024 * GIB : GIB, ramSize });
    if (options.apei !== undefined) {
      this.phys.errors = new MemoryErrors(sim, options.apei === "ghes");
      this.phys.direct = false;
    }
    this.tables = new TablePages(sim, this.phys, TABLE_WINDOW);
    this.registers = new RegisterFile(sim);
    this.pe = new Pe(sim, this.registers, this.phys, this.tables, this.features, {
      profile: this.profile,
      cpus: this.cpus,
      buffers: options.buffers ?? "off",
      strictShareability: options.strictShareability === true,
      ...(options.peripheralBlock === undefined ? {} : { peripheralBlock: options.peripheralBlock }),
      seed: options.seed ?? 0,
      ...(options.cache === undefined ? {} : { cache: options.cache }),
    });
    this.cpu = new Cpu(sim, this.registers, this.pe, this.features);
    const { seed = 0 } = options;
    if (options.buffers === "weak" && options.hardware === "steps")
      this.pe.hardware = new HardwareByOthers(sim, this.registers, this.pe.ordering!);
    else if (options.buffers === "weak" && seed !== 0)
      this.pe.hardware = new HardwareBySeed(sim, this.registers, this.pe.ordering!, this.pe.maintenance, this.lookAhead(), seed);
    sim.agents.add("vmm", "vmm", 0);
    this.mm = new HostMm(sim, this.phys, this.tables, this.pe, this.features, this.era.mm, {
      cpus: this.pe.tlbs.cpus,
      ...(options.thp === undefined ? {} : { thp: options.thp }),
      ...(options.shmem === undefined ? {} : { shmem: options.shmem }),
    });
    this.platform = new PlatformDrivers(sim, this.phys, this.mm);
    this.vfioPci = new VfioPci(sim, this.phys, this.mm, this.era.vfio, options.devices ?? [], options.fabric?.maxPayload);
    const { ordering } = this.pe;
    if (ordering !== undefined)
      this.fabric = new Fabric(sim, this.phys, this.vfioPci.pci, ordering.buffers, this.tables, { ...DEFAULT_FABRIC, ...options.fabric });
    this.orderingCalls = new OrderingCalls(sim, this.pe, this.fabric);
    this.kvm = new Kvm(sim, this.phys, this.tables, this.pe, this.cpu, this.registers, this.features, this.mm, this.era.kvm, this.profile);
    this.kvm.userMemAbort.dmabufs = this.vfioPci.dmabufs;
    this.dispatch = new Dispatch(this);
    this.host = new HostProcess(this, VMM);
    this.vfio = new Vfio(this, VMM);
    if (options.history === true) {
      const tape = (this.tape = new Tape());
      sim.agents.onCatchUp = (agent, time) => tape.note({ kind: "catchUp", agent, time });
    }
  }

  // ---- calls ----

  /** Begins a call on an idle agent. */
  begin(agent: number, call: Call): void {
    if (this.tape !== undefined) this.tape.note({ kind: "begin", agent, call });
    this.dispatch.begin(agent, callNumber(call.call), call);
  }
  /** Runs one phase. @returns false if the agent is blocked or idle */
  step(agent: number): boolean {
    if (this.tape !== undefined) this.tape.step(agent, this.kvm.interleave);
    return this.sim.agents.step(agent);
  }
  busy(agent: number): boolean {
    return this.sim.agents.busy(agent);
  }
  /** The result of the call that the agent has finished. */
  finish(agent: number): CallResult {
    return this.dispatch.finish(agent);
  }
  /** Begins a call, runs it to its end and gives its result. @throws Error if it blocks: nobody else runs */
  call(agent: number, call: Call): CallResult {
    this.begin(agent, call);
    if (this.tape !== undefined) this.tape.note({ kind: "run", agent });
    return this.toEnd(agent, callNumber(call.call));
  }
  /** `call` with its number beside its arguments: the two are put together only where somebody keeps or watches calls. */
  readonly make = <N extends CallName>(agent: number, n: CallNumber<N>, args: Args<N>): CallResult => {
    if (this.tape !== undefined || this.sim.bus.callsWatched) return this.call(agent, { call: callName(n), ...args } as unknown as Call);
    this.dispatch.begin(agent, n, args);
    return this.toEnd(agent, n);
  };
  private toEnd(agent: number, n: number): CallResult {
    if (!this.sim.agents.runToEnd(agent)) throw new Error(`${callName(n)} waits for ever: ${this.sim.agents.backtrace(agent).join(" < ")}`);
    return this.dispatch.finish(agent);
  }

  /** Another thread of the VMM's process. @returns its agent */
  addThread(name: string): number {
    if (this.tape !== undefined) this.tape.note({ kind: "thread", name });
    return this.sim.agents.add(name, "vmm", this.sim.agents.count % this.cpus);
  }

  /** A thread of the kernel: khugepaged, kswapd, ksmd. @returns its agent */
  addKthread(name: string): number {
    if (this.tape !== undefined) this.tape.note({ kind: "kthread", name });
    return this.sim.agents.add(name, "kthread", this.sim.agents.count % this.cpus);
  }

  private lookAhead(): LookAhead {
    return new LookAhead(this.sim, this.registers, this.pe, this.features);
  }
  /**
   * What hardware may do of its own accord between the steps of these agents; undefined while buffers are not modelled.
   * @param vcpus those that take turns @param others agents of the VMM and the kernel that do @param room steps that there may be
   */
  hardwareSteps(vcpus: readonly number[], others: readonly number[], room: number): HardwareSteps | undefined {
    if (this.pe.ordering === undefined) return undefined;
    const turning = vcpus.map((vcpu) => ({ vcpu, agent: this.vcpuAgent(vcpu) }));
    return new HardwareSteps(this.sim, this.pe, this.lookAhead(), this.fabric, others, turning, room);
  }

  // ---- the VMM's nouns ----

  /** KVM_CREATE_VM. @param ipaBits 0 for 40. @throws Error if the kernel refuses the size */
  createVm(ipaBits = 0): Vm {
    const { ret } = this.call(VMM, { call: "KVM_CREATE_VM", ipaBits });
    if (ret < 0) throw new FaultlineError(`KVM_CREATE_VM refuses ${ipaBits} IPA bits (errno ${-ret})`);
    return new Vm(this, VMM, ret);
  }
  /** The agent that runs a vCPU. */
  vcpuAgent(vcpu: number): number {
    return this.kvm.vcpuAgent(vcpu);
  }
  /** @throws Error for a name that is no register */
  getRegister(vcpu: number, register: string): bigint {
    return this.dispatch.getRegister(vcpu, register);
  }
  setRegister(vcpu: number, register: string, value: bigint): void {
    if (this.tape !== undefined) this.tape.note({ kind: "register", vcpu, register, value });
    this.dispatch.setRegister(vcpu, register, value);
  }
  /** KVM_RUN of this vCPU ends with exit DEBUG when its PC comes here. */
  setBreakpoint(vcpu: number, address: bigint): void {
    if (this.tape !== undefined) this.tape.note({ kind: "breakpoint", vcpu, address });
    this.dispatch.setBreakpoint(vcpu, address);
  }
  answerMmio(vcpu: number, data: bigint): void {
    if (this.tape !== undefined) this.tape.note({ kind: "answerMmio", vcpu, data });
    this.dispatch.answerMmio(vcpu, data);
  }
  cancelMmio(vcpu: number): void {
    if (this.tape !== undefined) this.tape.note({ kind: "cancelMmio", vcpu });
    this.dispatch.cancelMmio(vcpu);
  }
  /** The VMM's side of a vCPU's dirty ring: takes up to `limit` new entries. */
  harvestDirtyRing(vcpu: number, limit: number): readonly { readonly slot: number; readonly offset: number }[] {
    if (this.tape !== undefined) this.tape.note({ kind: "harvest", vcpu, limit });
    return this.kvm.rings.harvest(vcpu, limit);
  }
  stage2Leaves(vm: number): readonly Stage2Leaf[] {
    return this.dispatch.stage2Leaves(vm);
  }
  ptdump(vm: number): string {
    return this.dispatch.ptdump(vm);
  }

  // ---- looking ----

  /** Listens to an event by name, or to "*". Call the result to stop. @throws Error for an unknown name */
  on<N extends EventName>(event: N, listener: (record: Events[N]) => void): () => void;
  on(event: string, listener: (record: EventRecord) => void): () => void;
  on(event: string, listener: (record: never) => void): () => void {
    return this.sim.bus.on(event, listener as (record: EventRecord) => void);
  }
  /**
   * The machine as it stood when the event of this number (`seq`, the STEP of every command) had been emitted: a
   * copy to look at, which cannot be run. @throws FaultlineError without `history`, or if there was no such event
   */
  at(step: number): Machine {
    return this.history().copy(step);
  }
  /** The run so far, to be visited: one machine that goes to any of its events (`at` makes a copy each time). */
  history(): Timeline {
    const { tape } = this;
    if (tape === undefined) throw new FaultlineError("this machine keeps no history: new Machine({ history: true }) does");
    if (tape.sealed) throw new FaultlineError("this machine is a copy of a moment: ask the machine that it was made of");
    return (this.timeline ??= new Timeline(tape, (sealed) => {
      const twin = new Machine({ ...this.options, history: false });
      if (sealed) twin.tape = new Tape().seal();
      return twin;
    }));
  }
  /** What crashed the host, or undefined. */
  get crashed(): { readonly function: string; readonly reason: string } | undefined {
    return this.sim.crashed;
  }
  /** Decisions without a source in this era that the model has asked so far. */
  get unknownDecisions(): readonly string[] {
    return [...this.asked].sort();
  }
  /** Not state of the run: what a report says at its end. */
  private readonly asked = new Set<string>();
  /** Why KVM_RUN of a vCPU last returned. */
  exitReason(vcpu: number): ExitInfo["reason"] {
    return this.dispatch.exitOf(vcpu).reason;
  }
  /** State of the data cache line of a host address of the VMM's; undefined where caches are not modelled. */
  cacheState(hva: number): "invalid" | "clean" | "dirty" | undefined {
    const data = this.pe.cacheOps.caches?.data;
    const { pt } = this.mm;
    if (data === undefined) return undefined;
    if (!pt.walk(VMM, hva) || !pt.valid) return "invalid";
    return CACHE_STATES[data.stateAt(pt.leafPfn * 4096 + (hva % 4096))]!;
  }
  /** The machine as a person compares it: frozen, unchanged parts shared with the last snapshot. */
  snapshot(): MachineSnapshot {
    return (this.last = snapshotOf(this, this.last));
  }
  /** Not state of the run: the last thing somebody asked for, kept to share its unchanged parts. */
  private last: MachineSnapshot | undefined;
}

function profileOf(profile: MachineOptions["profile"], features: CpuFeatures): MachineProfile {
  if (typeof profile === "object") return profile;
  return profile === "recorded" ? recordedProfile(features.name) : ARCHITECTURAL;
}
