/**
 * From a call as data to the activity that carries it out, and from its results back to data. What a
 * call needs again when it is finished lies in a pool, so that a half-done call survives rollback.
 */
import { PSTATE, STOP_ENABLED, STOP_PC } from "../arch/registers.js";
import { registerNames, registerOffset } from "../arch/sysregs.js";
import { nearestName } from "../arch/features.js";
import { exitName, KVM_EXIT_ARM_NISV, KVM_EXIT_ARM_SEA, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_UNKNOWN } from "../kvm/vcpus.js";
import type { Machine } from "../machine.js";
import { FILE_GUEST_MEMFD } from "../mmu/files.js";
import { mmapMode } from "../mmu/mmap.js";
import { PMD_SIZE } from "../mmu/pagetable.js";
import { HOST_DMA_READ, HOST_DMA_WRITE, HOST_LINES, HOST_SIGSEGV } from "../mmu/useraccess.js";
import type { Activity } from "../sim/agents.js";
import { HUGETLB_ORDERS } from "../mmu/frames.js";
import { EADDRINUSE, EBADF, EBUSY, EINVAL, ENODEV, ENOTTY, ESRCH } from "../sim/errno.js";
import { ORDERING_OPS } from "../vfio/orderingcalls.js";
import { SYSFS_PCI } from "../vfio/sysfs.js";
import type { I32Pool, F64Pool } from "../sim/state.js";
import {
  CACHE_LINE_OPS,
  type Args,
  type CallName,
  type CallResult,
  type ExitInfo,
  type RegionInfo,
  type SignalInfo,
  type UserMemoryRegion,
} from "./calls.js";
import type { Stage2Leaf } from "./nouns.js";
import { FaultlineError } from "../sim/errors.js";
import { ProcessExit } from "./processexit.js";

const VMM_MM = 0;
const CONFIG_REGION = 7;
const MFD_HUGETLB = 4;

/** How a call begins, and what it gives back beyond R0. */
interface Handler<N extends CallName> {
  begin(d: Dispatch, agent: number, c: Args<N>): void;
  finish?(d: Dispatch, agent: number, ret: number): CallResult;
}

/** An argument of type unsigned long or __u64, as the kernel reads a negative one: it is a very large number there. */
const unsigned = (n: number): number => (n < 0 ? n + 2 ** 64 : n);

const HANDLERS: { readonly [N in CallName]: Handler<N> } = {
  mmap: {
    begin: (d, a, c) =>
      d.start(
        a,
        d.m.mm.syscalls.mmap,
        VMM_MM,
        unsigned(c.addr ?? 0),
        unsigned(c.length),
        mmapMode(c.prot ?? 3, c.flags ?? 0x22, c.align),
        c.fd ?? -1,
        unsigned(c.offset ?? 0),
      ),
  },
  munmap: { begin: (d, a, c) => d.start(a, d.m.mm.syscalls.munmap, VMM_MM, unsigned(c.addr), unsigned(c.length)) },
  mprotect: { begin: (d, a, c) => d.start(a, d.m.mm.syscalls.mprotect, VMM_MM, unsigned(c.addr), unsigned(c.length), c.prot) },
  madvise: { begin: (d, a, c) => d.start(a, d.m.mm.syscalls.madvise, VMM_MM, unsigned(c.addr), unsigned(c.length), c.advice) },
  mremap: {
    begin: (d, a, c) =>
      d.start(
        a,
        d.m.mm.syscalls.mremap,
        VMM_MM,
        unsigned(c.oldAddress),
        unsigned(c.oldSize),
        unsigned(c.newSize),
        c.flags ?? 0,
        unsigned(c.newAddress ?? 0),
      ),
  },
  memfd_create: {
    begin: (d, a, c) => {
      const { files } = d.m.mm;
      const huge = ((c.flags ?? 0) & MFD_HUGETLB) !== 0;
      d.answer(a, huge ? files.createHugetlb(c.size ?? 0) : files.createMemfd(c.size ?? 0));
    },
  },
  open: {
    begin: (d, a, { name = "", size }) => {
      if (name.startsWith("/dev/")) d.answer(a, d.m.platform.open(name, size));
      else if (name.startsWith(SYSFS_PCI)) d.answer(a, d.m.vfioPci.sysfs.open(name));
      else d.answer(a, d.m.mm.files.openReadOnly(size));
    },
  },
  close: {
    begin: (d, a, c) => {
      if (d.m.mm.files.kindOfFd(c.fd) === FILE_GUEST_MEMFD) d.start(a, d.m.kvm.guestMemfd.release, c.fd);
      else d.onDevice(a, c.fd, d.m.vfioPci.close);
    },
  },
  VFIO_DEVICE_FEATURE_DMA_BUF: {
    begin: (d, a, c) => {
      const dev = d.m.vfioPci.ofFile(c.fd);
      d.answer(a, dev < 0 ? -EBADF : d.m.vfioPci.dmabufs.export(dev, c.index, c.offset, c.length));
    },
  },
  VFIO_DEVICE_FEATURE_MMAP_WC: {
    begin: (d, a, c) => {
      const dev = d.m.vfioPci.ofFile(c.fd);
      d.answer(a, dev < 0 ? -EBADF : d.m.vfioPci.mmapTypes.ask(dev, c.index, c.offset, c.length));
    },
  },
  ftruncate: { begin: (d, a, c) => d.start(a, d.m.mm.syscalls.ftruncate, c.fd, c.length) },
  fallocate: { begin: (d, a, c) => d.start(a, d.m.mm.syscalls.fallocate, c.fd, c.mode, c.offset, c.length) },
  age: { begin: (d, a, c) => d.start(a, d.m.mm.reclaim.ageRange, VMM_MM, c.addr, c.addr + c.length, c.kind) },
  collapse_huge_page: { begin: (d, a, c) => d.start(a, d.m.mm.huge.collapse, VMM_MM, c.addr - (c.addr % PMD_SIZE)) },
  split_huge_page: { begin: (d, a, c) => d.start(a, d.m.mm.huge.splitHugePage, VMM_MM, c.addr) },
  migrate_pages: { begin: (d, a, c) => d.start(a, d.m.mm.migrate.migratePage, VMM_MM, c.addr - (c.addr % 4096)) },
  shrink_folio_list: { begin: (d, a, c) => d.start(a, d.m.mm.reclaim.reclaimPage, VMM_MM, c.addr, c.force === true ? 1 : 0) },
  try_to_merge_two_pages: {
    begin: (d, a, c) => d.start(a, d.m.mm.ksm.mergeTwo, VMM_MM, c.addr - (c.addr % 4096), c.other - (c.other % 4096), VMM_MM),
  },
  einj_error_inject: { begin: (d, a, c) => d.answer(a, d.injectError(c.addr)) },
  nr_hugepages: {
    begin: (d, a, c) => {
      const order = Math.log2(c.size / 4096);
      d.answer(a, (HUGETLB_ORDERS as readonly number[]).includes(order) ? d.m.mm.frames.growPool(order, c.count) : -EINVAL);
    },
  },
  transparent_hugepage: { begin: (d, a, c) => d.answer(a, d.m.mm.fault.thp.store(c.file, c.value)) },
  ttm_bo_evict: { begin: (d, a, c) => d.start(a, d.m.platform.ttmBoEvict, c.fd) },
  fork: { begin: (d, a) => d.start(a, d.m.mm.syscalls.fork, VMM_MM) },
  kill: {
    begin: (d, a, c) => {
      if (d.m.mm.isLive(c.pid)) d.start(a, d.m.mm.syscalls.exitMm, c.pid);
      else d.answer(a, -ESRCH);
    },
  },
  read: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.addr);
      d.keep(a, 1, c.size);
      d.start(a, d.m.mm.hostAccess, VMM_MM, c.addr, c.size, 0, 0, 0);
    },
    finish: (d, a, ret) => ({ ...d.accessed(a, ret), value: BigInt.asUintN(8 * d.kept(a, 1), d.resultValue(a)) }),
  },
  write: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.addr);
      d.start(a, d.m.mm.hostAccess, VMM_MM, c.addr, c.size, 1, low(c.value), high(c.value));
    },
    finish: (d, a, ret) => d.accessed(a, ret),
  },
  ordering: { begin: (d, a, c) => d.start(a, d.m.orderingCalls.op, ORDERING_OPS.indexOf(c.op), c.cpu ?? 0, c.n ?? 0) },
  write_place: {
    begin: (d, a, c) => {
      const dev = d.m.vfioPci.ofFile(c.fd);
      const bar = dev < 0 ? undefined : d.m.vfioPci.pci.functions[dev]!.bars[c.bar];
      d.answer(a, bar === undefined ? -EINVAL : d.m.orderingCalls.place(bar.start + c.offset, c.size));
    },
  },
  cache_line: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.addr);
      if (c.length < 0) d.answer(a, -EINVAL);
      else d.start(a, d.m.mm.hostAccess, VMM_MM, c.addr, c.length, HOST_LINES + CACHE_LINE_OPS.indexOf(c.op), 0, 0);
    },
    finish: (d, a, ret) => d.accessed(a, ret),
  },
  dma_read: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.addr);
      d.keep(a, 1, c.size);
      if (d.isNoDevice(c.fd)) return d.answer(a, -EBADF);
      d.start(a, d.m.mm.hostAccess, VMM_MM, c.addr, c.size, HOST_DMA_READ + (d.snoops(c.fd, c.snoop) ? 0 : 1), 0, 0);
    },
    finish: (d, a, ret) =>
      ret === -EBADF ? { ret } : { ...d.accessed(a, ret), value: BigInt.asUintN(8 * d.kept(a, 1), d.resultValue(a)) },
  },
  dma_write: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.addr);
      if (d.isNoDevice(c.fd)) return d.answer(a, -EBADF);
      const op = HOST_DMA_WRITE + (d.snoops(c.fd, c.snoop) ? 0 : 1);
      d.start(a, d.m.mm.hostAccess, VMM_MM, c.addr, c.size, op, low(c.value), high(c.value));
    },
    finish: (d, a, ret) => (ret === -EBADF ? { ret } : d.accessed(a, ret)),
  },
  migrate_host: {
    begin: (d, a, c) => {
      d.m.pe.cacheOps.changeHost(c.coherent);
      d.answer(a, 0);
    },
  },
  userfaultfd: { begin: (d, a, c) => d.start(a, d.m.mm.userfaultfd.create, VMM_MM, c.flags ?? 0) },
  uffd_api: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.api, c.uffd) },
  uffd_register: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.register, c.uffd, c.start, c.len, c.mode) },
  uffd_unregister: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.unregister, c.uffd, c.start, c.len) },
  uffd_wake: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.wake, c.uffd, c.start, c.len) },
  uffd_read: {
    begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.read, c.uffd, c.wait === true ? 1 : 0),
    finish: (d, a, ret) =>
      ret < 0 ? { ret } : { ret, userfault: { address: d.m.sim.agents.result(a, 1), flags: d.m.sim.agents.result(a, 2) } },
  },
  uffd_copy: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.copy, c.uffd, c.dst, c.src, c.len, c.mode ?? 0) },
  uffd_zeropage: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.zeropage, c.uffd, c.start, c.len, c.mode ?? 0) },
  uffd_continue: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.continue, c.uffd, c.start, c.len, c.mode ?? 0) },
  uffd_poison: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.poison, c.uffd, c.start, c.len, c.mode ?? 0) },
  uffd_writeprotect: { begin: (d, a, c) => d.onUserfault(a, d.m.mm.userfaultfd.writeprotect, c.uffd, c.start, c.len, c.mode) },
  KVM_CREATE_VM: { begin: (d, a, c) => d.answer(a, d.m.kvm.createVm(VMM_MM, c.ipaBits ?? 0)) },
  kvm_destroy_vm: {
    begin: (d, a, c) => {
      const vm = c.vm ?? 0;
      if (!d.m.kvm.vms.open(vm)) d.answer(a, -EBADF);
      else if (d.m.kvm.running(vm) || d.m.kvm.guestMemfd.anyOf(vm)) d.answer(a, -EBUSY);
      else d.start(a, d.m.kvm.destroyVm, vm);
    },
  },
  other_vms: { begin: (d, a, c) => d.start(a, d.m.kvm.otherVms, c.count) },
  exit_group: { begin: (d, a) => (d.threadsRun(a) ? d.answer(a, -EBUSY) : d.start(a, d.exits.exitGroup)) },
  KVM_CREATE_VCPU: { begin: (d, a, c) => d.answer(a, d.m.kvm.createVcpu(c.vm ?? 0)) },
  KVM_CREATE_IRQCHIP: { begin: (d, a, c) => d.answer(a, d.m.kvm.vgic.create(c.vm ?? 0)) },
  KVM_ARM_SET_DEVICE_ADDR: { begin: (d, a, c) => d.answer(a, d.m.kvm.vgic.setAddress(c.vm ?? 0, c.id, c.addr)) },
  KVM_SET_USER_MEMORY_REGION: {
    begin: (d, a, c) => d.setRegion(a, c.vm ?? 0, c),
  },
  KVM_SET_USER_MEMORY_REGION2: {
    begin: (d, a, c) => {
      const { kvm } = d.m;
      if (!kvm.vms.open(c.vm ?? 0)) return d.answer(a, -EBADF);
      if (kvm.d.capGuestMemfd === "absent") return d.answer(a, -ENOTTY);
      kvm.guestMemfdRegion(a, c.guestMemfd, unsigned(c.guestMemfdOffset));
      d.setRegion(a, c.vm ?? 0, c);
    },
  },
  KVM_CREATE_GUEST_MEMFD: {
    begin: (d, a, c) => {
      const { kvm } = d.m;
      const vm = c.vm ?? 0;
      d.answer(a, kvm.vms.open(vm) ? kvm.guestMemfd.create(vm, unsigned(c.size), c.flags ?? 0) : -EBADF);
    },
  },
  KVM_RUN: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.vcpu);
      if (d.m.kvm.vms.open(d.m.kvm.vcpus.vm(c.vcpu)))
        d.start(a, d.m.kvm.run, c.vcpu, c.maxInstructions ?? 0, c.maxExits ?? 0, c.immediateExit === true ? 1 : 0);
      else d.answer(a, -EBADF);
    },
    finish: (d, a, ret) => {
      const v = d.kept(a, 0);
      const signal = d.vcpuSignal(v);
      return signal === undefined ? { ret, exit: d.exitOf(v) } : { ret, exit: d.exitOf(v), signal };
    },
  },
  KVM_SET_VCPU_EVENTS: {
    begin: (d, a, c) => d.answer(a, d.m.kvm.setVcpuEvents(c.vcpu, c.extDabtPending === true, c.serrorPending === true)),
  },
  KVM_GET_DIRTY_LOG: {
    begin: (d, a, c) => {
      d.keep(a, 0, c.vm ?? 0);
      d.keep(a, 1, c.slot);
      d.onVm(a, d.m.kvm.getDirtyLog, c.vm ?? 0, c.slot);
    },
    finish: (d, a, ret) => ({ ret, pages: ret < 0 ? [] : d.m.kvm.dirtyPages(d.kept(a, 0), d.kept(a, 1)) }),
  },
  KVM_CLEAR_DIRTY_LOG: { begin: (d, a, c) => d.onVm(a, d.m.kvm.clearDirtyLog, c.vm ?? 0, c.slot, c.firstPage, c.numPages) },
  dirty_ring_collect: { begin: (d, a, c) => d.answer(a, d.m.kvm.rings.harvest(c.vcpu).length) },
  KVM_RESET_DIRTY_RINGS: { begin: (d, a, c) => d.onVm(a, d.m.kvm.resetDirtyRings, c.vm ?? 0) },
  KVM_ENABLE_CAP: { begin: (d, a, c) => d.answer(a, d.m.kvm.enableCap(c.vm ?? 0, c.cap, c.value)) },
  KVM_CHECK_EXTENSION: { begin: (d, a, c) => d.answer(a, d.m.kvm.checkExtension(c.vm ?? 0, c.cap)) },
  sched_setaffinity: {
    begin: (d, a, c) => {
      const there = c.cpu >= 0 && c.cpu < d.m.cpus;
      if (there) d.m.sim.agents.moveTo(d.m.vcpuAgent(c.vcpu), c.cpu);
      d.answer(a, there ? 0 : -EINVAL);
    },
  },
  vfio_open: {
    begin: (d, a, c) => {
      const dev = d.m.vfioPci.find(c.bdf);
      if (dev < 0) d.answer(a, -ENODEV);
      else d.start(a, d.m.vfioPci.open, dev);
    },
  },
  VFIO_DEVICE_GET_REGION_INFO: {
    begin: (d, a, c) => {
      d.keep(a, 0, d.m.vfioPci.ofFile(c.fd));
      d.keep(a, 1, c.index);
      d.onDevice(a, c.fd, d.m.vfioPci.getRegionInfo, c.index);
    },
    finish: (d, a, ret) => ({ ret, region: d.region(a, ret) }),
  },
  VFIO_DEVICE_RESET: {
    begin: (d, a, c) => {
      const platform = d.m.vfioPci.ofFile(c.fd) < 0 ? d.m.platform.reset(c.fd) : undefined;
      if (platform === undefined) return d.onDevice(a, c.fd, d.m.vfioPci.reset);
      d.m.fabric?.platformReset(platform.name, platform.base, platform.size);
      d.answer(a, 0);
    },
  },
  VFIO_DEVICE_PCI_HOT_RESET: { begin: (d, a, c) => d.onDevice(a, c.fd, d.m.vfioPci.hotReset, 0, c.groups) },
  VFIO_DEVICE_IOEVENTFD: {
    begin: (d, a, c) => {
      const dev = d.m.vfioPci.ofFile(c.fd);
      const at = d.m.vfioPci.regionOffset(c.index, c.offset);
      if (dev < 0) d.answer(a, -EBADF);
      else d.start(a, d.m.vfioPci.ioeventfd, dev, at, c.size, low(c.value), high(c.value), c.eventfd);
    },
  },
  eventfd_signal: { begin: (d, a, c) => d.start(a, d.m.vfioPci.signalEventfd, c.eventfd) },
  vfio_read: {
    begin: (d, a, c) => d.deviceAccess(a, c.fd, c.index, c.offset, c.size, 0, c.buffer ?? 0, 0),
    finish: (d, a, ret) => ({ ret, value: ret < 0 ? 0n : BigInt.asUintN(8 * ret, d.resultValue(a)) }),
  },
  vfio_write: { begin: (d, a, c) => d.deviceAccess(a, c.fd, c.index, c.offset, c.size, 1, low(c.value), high(c.value)) },
};

/** The number that stands for a call. */
export type CallNumber<N extends CallName> = number & { readonly call?: N };

/** The names and the two parts of the handlers by number: in lists of their own, as objects of many shapes are slow to read. */
const NAMES: CallName[] = [];
const BEGIN: Handler<CallName>["begin"][] = [];
const FINISH: Handler<CallName>["finish"][] = [];
const NUMBERS = new Map<CallName, number>();
for (const [name, { begin, finish }] of Object.entries(HANDLERS) as [CallName, Handler<CallName>][]) {
  NUMBERS.set(name, NAMES.length);
  NAMES.push(name);
  BEGIN.push(begin);
  FINISH.push(finish);
}

/** The number of a call, which stays the same: what makes the same call again and again asks once. */
export function callNumber<N extends CallName>(name: N): CallNumber<N> {
  return NUMBERS.get(name)!;
}
/** The name of a call's number. */
export function callName(n: number): CallName {
  return NAMES[n]!;
}
const EXIT_GROUP = callNumber("exit_group");

/** The low `bytes` (1, 2, 4, 8) of two words as a BigInt: no BigInt arithmetic for what is nearly every exit. */
function bits(hi: number, lo: number, bytes: number): bigint {
  if (bytes < 4) return BigInt(lo & (bytes === 1 ? 0xff : 0xffff));
  if (bytes === 4 || hi === 0) return BigInt(lo >>> 0);
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}
const low = (v: bigint): number => Number(BigInt.asIntN(32, v));
const high = (v: bigint): number => Number(BigInt.asIntN(32, v >> 32n));

/** Numbers kept for each agent between begin and finish. */
const KEPT = 2;

export class Dispatch {
  /** Per agent: number of its call + 1. */
  private readonly pending: I32Pool;
  private readonly keeps: F64Pool;
  /** A call that is answered at once: (ret) -> R0 ret. */
  private readonly immediate: Activity;
  readonly exits: ProcessExit;

  constructor(readonly m: Machine) {
    const { agents, state } = m.sim;
    this.pending = state.i32("api.pending", 4);
    this.keeps = state.f64("api.kept", 4 * KEPT);
    this.immediate = agents.activity("immediate", "a call without phases of its own", 1, [
      ["answer", (f) => agents.ret(f, agents.stack.a[f + 5]!)],
    ]);
    this.exits = new ProcessExit(m, VMM_MM);
  }

  /** @param args what observers of calls are told: with the name in it where there are any @throws Error if the agent is in a call already */
  begin<N extends CallName>(agent: number, n: CallNumber<N>, args: Args<N>): void {
    if (this.m.sim.agents.busy(agent)) throw new Error(`${callName(n)}: this thread is in another call`);
    this.pending.ensure(agent + 1);
    this.keeps.ensure((agent + 1) * KEPT);
    // After the end of the process there is nobody who calls, and nothing to call for.
    const ended = !this.m.mm.isLive(VMM_MM);
    this.pending.set(agent, (ended ? EXIT_GROUP : n) + 1);
    this.m.sim.bus.callBegan(agent, args);
    if (ended) this.answer(agent, -ESRCH);
    else BEGIN[n]!(this, agent, args);
  }

  finish(agent: number): CallResult {
    const ret = this.m.crashed === undefined ? this.m.sim.agents.result(agent) : -1;
    this.m.sim.bus.callEnded(agent, ret);
    const finish = FINISH[this.pending.a[agent]! - 1];
    return finish === undefined ? { ret } : finish(this, agent, ret);
  }

  start(agent: number, act: Activity, a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0): void {
    this.m.sim.agents.start(agent, act, a0, a1, a2, a3, a4, a5);
  }
  answer(agent: number, ret: number): void {
    this.m.sim.agents.start(agent, this.immediate, ret);
  }
  /** An ioctl on a VM's file: -EBADF where there is none. */
  onVm(agent: number, act: Activity, vm: number, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0): void {
    if (this.m.kvm.vms.open(vm)) this.start(agent, act, vm, a1, a2, a3, a4, a5);
    else this.answer(agent, -EBADF);
  }
  setRegion(agent: number, vm: number, r: UserMemoryRegion): void {
    const { kvm } = this.m;
    const [gpa, size, hva] = [unsigned(r.guestPhysAddr), unsigned(r.memorySize), unsigned(r.userspaceAddr)];
    this.onVm(agent, kvm.setUserMemoryRegion, vm, r.slot, r.flags, gpa, size, hva);
  }
  /** Another thread of the VMM, or a vCPU, is in a call. */
  threadsRun(agent: number): boolean {
    const { agents } = this.m.sim;
    for (let a = 0; a < agents.count; a++) if (a !== agent && agents.kind(a) !== "kthread" && agents.busy(a)) return true;
    return false;
  }
  keep(agent: number, n: number, value: number): void {
    this.keeps.set(agent * KEPT + n, value);
  }
  kept(agent: number, n: number): number {
    return this.keeps.a[agent * KEPT + n]!;
  }
  /** R1 and R2 of the finished call as the low and high word of a value. */
  resultValue(agent: number): bigint {
    const word = (n: number) => BigInt(this.m.sim.agents.result(agent, n) >>> 0);
    return (word(2) << 32n) | word(1);
  }

  // ---- host accesses ----

  /** A number that was given for a device, and is none. */
  isNoDevice(fd: number | undefined): boolean {
    return fd !== undefined && this.m.vfioPci.ofFile(fd) < 0;
  }
  /** Whether a request of a device looks the caches up: asked to, or not allowed to set No Snoop. */
  snoops(fd: number | undefined, asked: boolean): boolean {
    if (asked || fd === undefined) return asked;
    const { pci } = this.m.vfioPci;
    return !pci.mayNotSnoop(pci.functions[this.m.vfioPci.ofFile(fd)]!);
  }

  accessed(agent: number, ret: number): CallResult {
    if (ret >= 0) return { ret };
    const signal: SignalInfo =
      ret === HOST_SIGSEGV
        ? { name: "SIGSEGV", code: this.m.sim.agents.result(agent, 1), addr: this.kept(agent, 0) }
        : { name: "SIGBUS", code: -ret & 0xff, addr: this.kept(agent, 0) };
    return { ret, signal };
  }

  /** @returns 0 or -errno */
  injectError(addr: number): number {
    const { phys, mm, pe, era } = this.m;
    if (phys.errors === undefined) return -ENODEV;
    if (addr < 0 || !mm.pt.walk(VMM_MM, addr) || !mm.frames.isRam(mm.pt.leafPfn)) return -EINVAL;
    const pfn = mm.pt.leafPfn;
    if (mm.frames.isReserved(pfn) && era.mm.einjZeroPage === "EADDRINUSE") return -EADDRINUSE;
    return pe.injectError(pfn * 4096 + (addr % 4096)) ? 0 : -EBUSY;
  }

  onUserfault(agent: number, act: Activity, uffd: number, a1 = 0, a2 = 0, a3 = 0, a4 = 0): void {
    if (this.m.mm.userfaultfd.exists(uffd)) this.start(agent, act, uffd, a1, a2, a3, a4);
    else this.answer(agent, -EBADF);
  }

  // ---- VFIO ----

  onDevice(agent: number, fd: number, act: Activity, a1 = 0, a2 = 0): void {
    const dev = this.m.vfioPci.ofFile(fd);
    if (dev < 0) this.answer(agent, -EBADF);
    else this.start(agent, act, dev, a1, a2);
  }

  deviceAccess(agent: number, fd: number, index: number, offset: number, size: number, write: number, lo: number, hi: number): void {
    const { vfioPci } = this.m;
    const dev = vfioPci.ofFile(fd);
    if (dev < 0) return this.answer(agent, -EBADF);
    if (index === CONFIG_REGION) return this.start(agent, vfioPci.configRw, dev, offset, size, write, write !== 0 ? lo : 0, hi);
    this.start(agent, vfioPci.rw, dev, vfioPci.regionOffset(index, offset), size, write, lo, hi);
  }

  region(agent: number, ret: number): RegionInfo {
    const { sim, vfioPci } = this.m;
    const index = this.kept(agent, 1);
    const bar = vfioPci.pci.functions[this.kept(agent, 0)]?.bars[index];
    return {
      ret,
      index,
      size: sim.agents.result(agent, 1),
      flags: sim.agents.result(agent, 2),
      offset: vfioPci.regionOffset(index),
      physAddr: bar === undefined ? -1 : vfioPci.pci.barAddress(bar),
    };
  }

  // ---- vCPUs ----

  exitOf(v: number): ExitInfo {
    if (this.m.crashed !== undefined) return { reason: "CRASHED" };
    const { vcpus } = this.m.kvm;
    const reason = vcpus.exitReason(v);
    if (reason === KVM_EXIT_MMIO) {
      const len = vcpus.mmioLen(v);
      const data = bits(vcpus.mmioHi(v), vcpus.mmioLo(v), len);
      return { reason: "MMIO", physAddr: vcpus.mmioAddress(v), len, isWrite: vcpus.mmioIsWrite(v), data };
    }
    if (reason === KVM_EXIT_ARM_NISV) return { reason: "ARM_NISV", esrIss: vcpus.nisvIss(v) >>> 0, faultIpa: vcpus.nisvIpa(v) };
    if (reason === KVM_EXIT_ARM_SEA) {
      const gpa = vcpus.nisvIpa(v);
      const gva = bits(vcpus.mmioHi(v), vcpus.mmioLo(v), 8);
      return { reason: "ARM_SEA", flags: gpa < 0 ? 0 : 1, esr: vcpus.nisvIss(v) >>> 0, gva, gpa: Math.max(gpa, 0) };
    }
    if (reason === KVM_EXIT_MEMORY_FAULT) return { reason: "MEMORY_FAULT", flags: 0, gpa: vcpus.memoryFaultGpa(v), size: 4096 };
    return { reason: exitName(reason) } as ExitInfo;
  }

  vcpuSignal(v: number): SignalInfo | undefined {
    const { vcpus } = this.m.kvm;
    if (vcpus.signal(v) === 0) return undefined;
    return { name: "SIGBUS", code: vcpus.signalCode(v), addr: vcpus.signalAddress(v) };
  }

  private offset(register: string): number {
    const name = register.toLowerCase();
    const offset = name === "pstate" ? PSTATE : registerOffset(name);
    if (offset < 0) throw new FaultlineError(`no register ${register}; nearest is ${nearestName(name, registerNames())}`);
    return offset;
  }
  getRegister(v: number, register: string): bigint {
    const offset = this.offset(register);
    if (offset === PSTATE) return BigInt(this.m.registers.lo(v, PSTATE) >>> 0);
    return this.m.registers.big(v, offset);
  }
  setRegister(v: number, register: string, value: bigint): void {
    const offset = this.offset(register);
    if (offset === PSTATE) this.m.registers.pool.set(this.m.registers.base(v) + PSTATE, low(value));
    else this.m.registers.setBig(v, offset, value);
  }
  setBreakpoint(v: number, address: bigint): void {
    this.m.registers.setBig(v, STOP_PC, address);
    this.m.registers.pool.set(this.m.registers.base(v) + STOP_ENABLED, 1);
  }
  answerMmio(v: number, data: bigint): void {
    const n = Number(data);
    // One conversion for what is nearly every answer.
    if (n >= 0 && n <= Number.MAX_SAFE_INTEGER) this.m.kvm.vcpus.setMmioData(v, (n / 4294967296) | 0, n | 0);
    else this.m.kvm.vcpus.setMmioData(v, high(data), low(data));
  }
  cancelMmio(v: number): void {
    this.m.kvm.vcpus.setExitReason(v, KVM_EXIT_UNKNOWN);
  }

  // ---- stage 2 ----

  stage2Leaves(vm: number): readonly Stage2Leaf[] {
    return this.m.kvm.dump.leaves(vm);
  }
  ptdump(vm: number): string {
    return this.m.kvm.ptdump(vm);
  }
}
