/**
 * A machine that is made once and used for many programs: VM, code slot, one vCPU, the devices open. Between two programs every
 * pool is put back from a copy, which is also how the promise is kept that no state lies outside the pools.
 */
import { assemble } from "../arch/assemble.js";
import { Machine, type Vcpu, type Vm } from "../machine.js";
import type { Checkpoint } from "../sim/state.js";
import {
  CODE,
  CODE_BYTES,
  DEVICES,
  GUEST_OPS,
  MAIR,
  S1_SLOT,
  S1_TABLE,
  SCTLR_OFF,
  SCTLR_ON,
  stage1Entries,
  TCR,
  type DeviceName,
} from "./program.js";

/** Slot number of the guest's code, as in scripts. */
const CODE_SLOT = 31;
const RW = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_NOHUGEPAGE = 15;
/** Stubs begin behind the vectors. */
const STUBS = 0x800;
const BRANCH_TO_ITSELF = 0x14000000;
/** A machine whose pools have grown beyond this is not worth putting back. */
const LARGE = 8 << 20;
/** So often its size is looked at: once in so many times. */
const LOOKED_AT = 16;

const sets = (register: string, value: number): string[] => [`movz x9, ${value & 0xffff}`, ...[16, 32].flatMap((s) => (Math.floor(value / 2 ** s) & 0xffff) === 0 ? [] : [`movk x9, ${Math.floor(value / 2 ** s) & 0xffff}, lsl ${s}`]), `msr ${register}, x9`]; // prettier-ignore

/** What the guest executes to turn stage 1 on and off: the same words in a script. */
export const MMU_ON: readonly string[] = [
  ...sets("ttbr0_el1", S1_TABLE),
  ...sets("mair_el1", MAIR),
  ...sets("tcr_el1", TCR),
  "isb",
  "tlbi vmalle1",
  "dsb nsh",
  "isb",
  ...sets("sctlr_el1", SCTLR_ON),
  "isb",
];
export const MMU_OFF: readonly string[] = [...sets("sctlr_el1", SCTLR_OFF), "isb"];

export interface Stub {
  readonly entry: number;
  readonly stop: number;
}

export interface RigOptions {
  readonly kernel: string;
  readonly cpu: string;
  readonly set: Readonly<Record<string, string>>;
  /** Told each decision that the kernel asks. */
  readonly onDecision?: (name: string) => void;
}

export class Rig {
  readonly machine: Machine;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly stubs = new Map<string, Stub>();
  readonly fds = new Map<DeviceName, number>();
  private readonly start: Checkpoint;
  private resets = 0;

  constructor(options: RigOptions) {
    const m = (this.machine = new Machine({ ...options, devices: Object.keys(DEVICES) }));
    const { words, stubs } = guestImage();
    this.stubs = stubs;
    this.vm = m.createVm();
    const code = m.host.mmap({ length: CODE_BYTES, align: CODE_BYTES, prot: RW, flags: MAP_PRIVATE_ANONYMOUS });
    m.host.madvise(code, CODE_BYTES, MADV_NOHUGEPAGE);
    for (const [i, w] of words.entries()) if (w !== 0) m.host.write(code + 4 * i, 4, BigInt(w >>> 0));
    const table = m.host.mmap({ length: 4096, prot: RW, flags: MAP_PRIVATE_ANONYMOUS });
    for (const [i, d] of stage1Entries()) m.host.write(table + 8 * i, 8, d);
    const slots = [
      { slot: CODE_SLOT, flags: 0, guestPhysAddr: CODE, memorySize: CODE_BYTES, userspaceAddr: code },
      { slot: S1_SLOT, flags: 0, guestPhysAddr: S1_TABLE, memorySize: 4096, userspaceAddr: table },
    ];
    for (const s of slots) if (this.vm.setUserMemoryRegion(s) !== 0) throw new Error("a slot of the rig cannot be created");
    this.vcpu = this.vm.createVcpu();
    this.vcpu.set("vbar_el1", BigInt(CODE));
    this.vcpu.set("cpacr_el1", 0x300000n);
    for (const name of Object.keys(DEVICES) as DeviceName[]) this.fds.set(name, m.vfio.open(DEVICES[name].bdf).fd);
    this.start = m.sim.state.checkpoint();
  }

  /** Puts the machine back. @returns false if it has grown so much that another one is cheaper */
  reset(): boolean {
    const { state } = this.machine.sim;
    if (this.resets++ % LOOKED_AT === 0 && state.bytes() > LARGE) return false;
    this.machine.sim.bus.flush();
    state.restore(this.start);
    return true;
  }
}

/** Vectors that lead nowhere, then one stub for each operation; a breakpoint stands behind each. */
function guestImage(): { words: Int32Array; stubs: Map<string, Stub> } {
  const words = new Int32Array(1024);
  const stubs = new Map<string, Stub>();
  for (let v = 0; v < 0x800; v += 0x80) words[v >> 2] = BRANCH_TO_ITSELF;
  let at = STUBS;
  for (const [name, lines] of [
    ...Object.entries(GUEST_OPS).map(([n, o]) => [n, o.code] as const),
    ["mmu on", MMU_ON] as const,
    ["mmu off", MMU_OFF] as const,
  ]) {
    const entry = CODE + at;
    for (const line of lines)
      for (const w of assemble(line)) {
        words[at >> 2] = w;
        at += 4;
      }
    stubs.set(name, { entry, stop: CODE + at });
    words[at >> 2] = BRANCH_TO_ITSELF;
    at += 4;
  }
  return { words, stubs };
}

/** Machines by era, CPU and decisions. */
export class Rigs {
  private readonly made = new Map<string, Rig>();

  take(options: RigOptions): Rig {
    const { kernel, cpu, set } = options;
    const settings = Object.keys(set);
    const key = `${kernel} ${cpu} ${settings.length === 0 ? "" : settings.map((s) => `${s}=${set[s]!}`).join(" ")}`;
    let rig = this.made.get(key);
    if (rig === undefined || !rig.reset()) {
      rig = new Rig(options);
      this.made.set(key, rig);
    }
    return rig;
  }

  /** A machine on which something was thrown is not used again. */
  drop(rig: Rig): void {
    for (const [key, r] of this.made) if (r === rig) this.made.delete(key);
  }
}
