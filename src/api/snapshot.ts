/**
 * What a person compares: memslots, VMAs, vCPUs, devices at one moment, derived from the pools when
 * somebody asks, frozen by immer, with every unchanged part shared with the previous snapshot.
 */
import { freeze, produce, type Draft } from "immer";
import type { Machine } from "../machine.js";
import { vmFlagNames } from "../mmu/vmflags.js";

export interface VmaSnapshot {
  readonly start: number;
  readonly end: number;
  /** VM_* names without the prefix, in bit order. */
  readonly flags: readonly string[];
  /** Pages. */
  readonly pgoff: number;
  /** File descriptor, or -1. */
  readonly fd: number;
}

export interface MemslotSnapshot {
  readonly id: number;
  readonly guestPhysAddr: number;
  readonly memorySize: number;
  readonly userspaceAddr: number;
  readonly flags: number;
}

export interface VmSnapshot {
  readonly generation: number;
  readonly memslots: readonly MemslotSnapshot[];
}

export interface VcpuSnapshot {
  readonly pc: string;
  readonly pstate: string;
}

export interface DeviceSnapshot {
  readonly bdf: string;
  readonly command: number;
  readonly bars: readonly { readonly index: number; readonly address: number; readonly size: number }[];
}

export interface MachineSnapshot {
  /** Sequence number of the next event. */
  readonly seq: number;
  readonly crashed: { readonly function: string; readonly reason: string } | null;
  readonly vmas: readonly VmaSnapshot[];
  readonly vms: readonly VmSnapshot[];
  readonly vcpus: readonly VcpuSnapshot[];
  readonly devices: readonly DeviceSnapshot[];
}

type Plain = { [key: string]: unknown } | unknown[];
const isPlain = (v: unknown): v is Plain => typeof v === "object" && v !== null;

/** Makes `draft` equal to `fresh`, touching only what differs. */
function patch(draft: Plain, fresh: Plain): void {
  const to = draft as Record<string, unknown>;
  const from = fresh as Record<string, unknown>;
  if (Array.isArray(draft)) draft.length = (fresh as unknown[]).length;
  for (const key of Object.keys(from)) {
    const a = to[key];
    const b = from[key];
    if (isPlain(a) && isPlain(b) && Array.isArray(a) === Array.isArray(b)) patch(a, b);
    else if (a !== b) to[key] = b;
  }
}

/** The machine now, sharing what is equal with `last`. */
export function snapshotOf(machine: Machine, last: MachineSnapshot | undefined): MachineSnapshot {
  const fresh = derive(machine);
  if (last === undefined) return freeze(fresh, true);
  return produce(last, (draft: Draft<MachineSnapshot>) => patch(draft as unknown as Plain, fresh as unknown as Plain));
}

function memslot(slots: Machine["kvm"]["memslots"], s: number): MemslotSnapshot {
  return {
    id: slots.id(s),
    guestPhysAddr: slots.baseGfn(s) * 4096,
    memorySize: slots.npages(s) * 4096,
    userspaceAddr: slots.userspaceAddr(s),
    flags: slots.flags(s),
  };
}

function derive(machine: Machine): MachineSnapshot {
  const { mm, kvm, vfioPci, registers } = machine;
  const hex = (v: bigint) => `0x${v.toString(16)}`;
  const vmas: VmaSnapshot[] = [];
  const { vmas: all } = mm;
  for (let v = all.first(0); v >= 0; v = all.next(v)) {
    vmas.push({ start: all.start(v), end: all.end(v), flags: vmFlagNames(all.flags(v)), pgoff: all.pgoff(v), fd: all.file(v) });
  }
  const vms = Array.from({ length: kvm.vms.count }, (_, vm) => ({
    generation: kvm.vms.generation(vm),
    memslots: Array.from({ length: kvm.memslots.count(vm) }, (_, i) => memslot(kvm.memslots, kvm.memslots.byGfnOrder(vm, i))),
  }));
  return {
    seq: machine.sim.bus.seq,
    crashed: machine.crashed ?? null,
    vmas,
    vms,
    vcpus: Array.from({ length: registers.count }, (_, v) => ({
      pc: hex(machine.getRegister(v, "pc")),
      pstate: hex(machine.getRegister(v, "pstate")),
    })),
    devices: vfioPci.pci.functions.map((fn, n) => ({
      bdf: fn.bdf,
      command: vfioPci.pci.read(n, 4, 2),
      bars: fn.bars.flatMap((b) => (b === undefined ? [] : [{ index: b.index, address: vfioPci.pci.barAddress(b), size: b.size }])),
    })),
  };
}
