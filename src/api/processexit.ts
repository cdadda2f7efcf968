/**
 * The end of the VMM's process (kernel/exit.c do_exit, when its last thread ends): first its address space (exit_mm), then its files
 * (exit_files): VMs and VFIO devices that nobody else has open.
 */
import { ARG, type Activity } from "../sim/agents.js";
import type { Machine } from "../machine.js";

/** The VM or device that is looked at next. */
const NEXT = ARG;

const VMS = 1;
const DEVICES = 2;
const GUEST_MEMFDS = 3;

export class ProcessExit {
  readonly exitGroup: Activity;

  constructor(
    private readonly m: Machine,
    mm: number,
  ) {
    const { agents } = m.sim;
    this.exitGroup = agents.activity("doExit", "kernel/exit.c do_exit", 1, [
      ["exitMm", (f) => agents.call(f, this.exitGroup.first + GUEST_MEMFDS, m.mm.syscalls.exitMm, mm)],
      ["exitFiles", (f) => this.nextVm(f)],
      ["exitDevices", (f) => this.nextDevice(f)],
      ["exitGuestMemfds", (f) => this.nextGuestMemfd(f)],
    ]);
  }

  /** They hold their VMs. */
  private nextGuestMemfd(f: number): number {
    const { agents } = this.m.sim;
    const { guestMemfd } = this.m.kvm;
    const file = guestMemfd.nextOpen(agents.stack.a[f + NEXT]!);
    agents.stack.set(f + NEXT, file < 0 ? 0 : file + 1);
    return file < 0 ? this.nextVm(f) : agents.call(f, this.exitGroup.first + GUEST_MEMFDS, guestMemfd.release, file);
  }

  private nextVm(f: number): number {
    const { agents } = this.m.sim;
    const { vms, destroyVm } = this.m.kvm;
    for (let vm = agents.stack.a[f + NEXT]!; vm < vms.count; vm++) {
      if (!vms.open(vm)) continue;
      agents.stack.set(f + NEXT, vm + 1);
      return agents.call(f, this.exitGroup.first + VMS, destroyVm, vm);
    }
    agents.stack.set(f + NEXT, 0);
    return this.nextDevice(f);
  }

  private nextDevice(f: number): number {
    const { agents } = this.m.sim;
    const { vfioPci } = this.m;
    for (let dev = agents.stack.a[f + NEXT]!; dev < vfioPci.pci.functions.length; dev++) {
      agents.stack.set(f + NEXT, dev);
      if (vfioPci.file(dev) >= 0) return agents.call(f, this.exitGroup.first + DEVICES, vfioPci.close, dev);
    }
    return agents.ret(f, 0);
  }
}
