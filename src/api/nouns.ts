/**
 * The VMM's nouns over the calls: the process, the VM, its vCPUs, the device. Each method is one call
 * on the agent that makes it; a vCPU's `run` is made by the vCPU's own thread.
 */
import type { Machine } from "../machine.js";
import type { Args, CallName, ExitInfo, RegionInfo, SignalInfo, UserfaultInfo, UserMemoryRegion, UserMemoryRegion2 } from "./calls.js";
import { callNumber } from "./dispatch.js";
import { FaultlineError } from "../sim/errors.js";

/** The calls that are made most. */
const MMAP = callNumber("mmap");
const MUNMAP = callNumber("munmap");
const KVM_RUN = callNumber("KVM_RUN");

const MAP_SHARED = 1;

/** The VMM's process: its memory and files. Methods return >= 0 or -errno. */
export class HostProcess {
  constructor(
    private readonly machine: Machine,
    readonly agent: number,
  ) {}

  private ret<N extends CallName>(name: N, args: Args<N>): number {
    return this.machine.make(this.agent, callNumber(name), args).ret;
  }
  /** mmap(2). @returns the address, or -errno */
  mmap(args: Args<"mmap">): number {
    return this.machine.make(this.agent, MMAP, args).ret;
  }
  munmap(addr: number, length: number): number {
    return this.machine.make(this.agent, MUNMAP, { addr, length }).ret;
  }
  mprotect(addr: number, length: number, prot: number): number {
    return this.ret("mprotect", { addr, length, prot });
  }
  madvise(addr: number, length: number, advice: number): number {
    return this.ret("madvise", { addr, length, advice });
  }
  /** mremap(2). @returns the new address, or -errno */
  mremap(args: Args<"mremap">): number {
    return this.ret("mremap", args);
  }
  /** memfd_create(2) and ftruncate(2). @returns the file descriptor */
  memfdCreate(size: number, flags = 0): number {
    return this.ret("memfd_create", { size, flags });
  }
  /** A read-only regular file of this size with made-up contents. @returns the file descriptor */
  openReadOnlyFile(size: number): number {
    return this.ret("open", { size });
  }
  ftruncate(fd: number, length: number): number {
    return this.ret("ftruncate", { fd, length });
  }
  /** close(2) of a VFIO device or a guest_memfd. */
  close(fd: number): number {
    return this.ret("close", { fd });
  }
  fallocate(fd: number, mode: number, offset: number, length: number): number {
    return this.ret("fallocate", { fd, mode, offset, length });
  }
  /**
   * error_inject of EINJ: from now on who loads the 64 bytes of RAM around a host address takes a synchronous external abort.
   * @returns 0; -ENODEV unless `MachineOptions.apei` says otherwise; -EINVAL where no page of RAM is mapped; -EADDRINUSE at the zero page (from v5.18 on); -EBUSY while 1024
   *   lines are lost
   */
  einjErrorInject(addr: number): number {
    return this.ret("einj_error_inject", { addr });
  }
  /** fork(2): a child that only waits. @returns the child */
  fork(): number {
    return this.ret("fork", {});
  }
  /** Ends a child. */
  kill(pid: number): number {
    return this.ret("kill", { pid });
  }
  /** userfaultfd(2) and UFFDIO_API. @param flags UFFD_USER_MODE_ONLY 1 @throws Error where the kernel has none */
  userfaultfd(flags = 0): Userfault {
    const uffd = this.ret("userfaultfd", { flags });
    if (uffd < 0) throw new Error(`userfaultfd fails with errno ${-uffd}`);
    this.ret("uffd_api", { uffd });
    return new Userfault(this.machine, this.agent, uffd);
  }
  /** The VMM's own load, 1 to 8 bytes. */
  read(addr: number, size: number): { readonly ret: number; readonly value: bigint; readonly signal?: SignalInfo } {
    const { ret, value = 0n, signal } = this.machine.call(this.agent, { call: "read", addr, size });
    return signal === undefined ? { ret, value } : { ret, value, signal };
  }
  /** The VMM's own store, 1 to 8 bytes. */
  write(addr: number, size: number, value: bigint): { readonly ret: number; readonly signal?: SignalInfo } {
    const { ret, signal } = this.machine.call(this.agent, { call: "write", addr, size, value });
    return signal === undefined ? { ret } : { ret, signal };
  }
}

/** A userfaultfd. Its ioctls take host addresses; they return 0, the bytes done, or -errno. */
export class Userfault {
  constructor(
    private readonly machine: Machine,
    readonly agent: number,
    readonly uffd: number,
  ) {}

  /** @param mode UFFDIO_REGISTER_MODE_MISSING 1, _WP 2, _MINOR 4 */
  register(start: number, len: number, mode: number): number {
    return this.machine.call(this.agent, { call: "uffd_register", uffd: this.uffd, start, len, mode }).ret;
  }
  unregister(start: number, len: number): number {
    return this.machine.call(this.agent, { call: "uffd_unregister", uffd: this.uffd, start, len }).ret;
  }
  /** Takes the next message. @returns undefined if there is none (EAGAIN) */
  read(): UserfaultInfo | undefined {
    return this.machine.call(this.agent, { call: "uffd_read", uffd: this.uffd }).userfault;
  }
  /** Fills pages with a copy and wakes who waits for them. @param mode UFFDIO_COPY_MODE_DONTWAKE 1, _WP 2 */
  copy(dst: number, src: number, len: number, mode = 0): number {
    return this.machine.call(this.agent, { call: "uffd_copy", uffd: this.uffd, dst, src, len, mode }).ret;
  }
  zeropage(start: number, len: number, mode = 0): number {
    return this.machine.call(this.agent, { call: "uffd_zeropage", uffd: this.uffd, start, len, mode }).ret;
  }
  /** Maps what the page cache holds already (minor faults). */
  continue(start: number, len: number, mode = 0): number {
    return this.machine.call(this.agent, { call: "uffd_continue", uffd: this.uffd, start, len, mode }).ret;
  }
  /** Whoever touches these pages gets a SIGBUS, as of broken memory. */
  poison(start: number, len: number, mode = 0): number {
    return this.machine.call(this.agent, { call: "uffd_poison", uffd: this.uffd, start, len, mode }).ret;
  }
  /** @param mode UFFDIO_WRITEPROTECT_MODE_WP 1 to protect, 0 to allow and wake */
  writeprotect(start: number, len: number, mode: number): number {
    return this.machine.call(this.agent, { call: "uffd_writeprotect", uffd: this.uffd, start, len, mode }).ret;
  }
  wake(start: number, len: number): number {
    return this.machine.call(this.agent, { call: "uffd_wake", uffd: this.uffd, start, len }).ret;
  }
}

/** A leaf of stage 2, as a person compares it. */
export interface Stage2Leaf {
  readonly ipa: number;
  readonly pa: number;
  /** 1 to 3. */
  readonly level: number;
  readonly size: number;
  readonly s2ap: number;
  readonly memattr: number;
  /** XN[1:0]. */
  readonly xn: number;
  readonly af: number;
  readonly cont: number;
}

/** A virtual machine file descriptor. */
export class Vm {
  constructor(
    private readonly machine: Machine,
    readonly agent: number,
    readonly id: number,
  ) {}

  /** KVM_SET_USER_MEMORY_REGION. @returns 0 or -errno */
  setUserMemoryRegion(region: UserMemoryRegion): number {
    return this.machine.call(this.agent, { call: "KVM_SET_USER_MEMORY_REGION", vm: this.id, ...region }).ret;
  }
  /** KVM_SET_USER_MEMORY_REGION2 (v6.8 on). @returns 0 or -errno */
  setUserMemoryRegion2(region: UserMemoryRegion2): number {
    return this.machine.call(this.agent, { call: "KVM_SET_USER_MEMORY_REGION2", vm: this.id, ...region }).ret;
  }
  /** KVM_CREATE_GUEST_MEMFD (v6.18 on). @param flags GUEST_MEMFD_FLAG_MMAP 1, _INIT_SHARED 2 @returns the file descriptor, or -errno */
  createGuestMemfd(size: number, flags = 0): number {
    return this.machine.call(this.agent, { call: "KVM_CREATE_GUEST_MEMFD", vm: this.id, size, flags }).ret;
  }
  createVcpu(): Vcpu {
    return new Vcpu(this.machine, this.machine.call(this.agent, { call: "KVM_CREATE_VCPU", vm: this.id }).ret);
  }
  /** KVM_GET_DIRTY_LOG: page numbers relative to the slot, ascending. */
  getDirtyLog(slot: number): { readonly ret: number; readonly pages: readonly number[] } {
    const { ret, pages = [] } = this.machine.call(this.agent, { call: "KVM_GET_DIRTY_LOG", vm: this.id, slot });
    return { ret, pages };
  }
  clearDirtyLog(slot: number, firstPage: number, numPages: number): number {
    return this.machine.call(this.agent, { call: "KVM_CLEAR_DIRTY_LOG", vm: this.id, slot, firstPage, numPages }).ret;
  }
  /** KVM_RESET_DIRTY_RINGS: protects again what the VMM has collected from the rings. @returns entries reset, or -errno */
  resetDirtyRings(): number {
    return this.machine.call(this.agent, { call: "KVM_RESET_DIRTY_RINGS", vm: this.id }).ret;
  }
  enableCap(cap: number, value: number): number {
    return this.machine.call(this.agent, { call: "KVM_ENABLE_CAP", vm: this.id, cap, value }).ret;
  }
  checkExtension(cap: number): number {
    return this.machine.call(this.agent, { call: "KVM_CHECK_EXTENSION", vm: this.id, cap }).ret;
  }
  /** All leaves of stage 2, ascending. */
  stage2Leaves(): readonly Stage2Leaf[] {
    return this.machine.stage2Leaves(this.id);
  }
  /** The kernel's own text of stage 2 (debugfs stage2_page_tables). */
  ptdump(): string {
    return this.machine.ptdump(this.id);
  }
}

export interface RunResult {
  readonly ret: number;
  readonly exit: ExitInfo;
  readonly signal?: SignalInfo;
}

/** A vCPU file descriptor and the thread that runs it. */
export class Vcpu {
  constructor(
    private readonly machine: Machine,
    readonly id: number,
  ) {}

  /**
   * KVM_RUN.
   * @param how limits end the call with exit BUDGET or NO_PROGRESS; with immediateExit (kvm_run.immediate_exit, v4.11 on) it completes a
   *   pending MMIO access and returns -EINTR
   */
  run(how?: { readonly maxInstructions?: number; readonly maxExits?: number; readonly immediateExit?: boolean }): RunResult {
    const agent = this.machine.vcpuAgent(this.id);
    // KVM_RUN always has an exit.
    return this.machine.make(agent, KVM_RUN, how === undefined ? { vcpu: this.id } : { vcpu: this.id, ...how }) as RunResult;
  }
  /** Register by its A64 name: x0…x30, sp_el1, pc, pstate, esr_el1 … @throws Error for a name that is none */
  get(register: string): bigint {
    return this.machine.getRegister(this.id, register);
  }
  set(register: string, value: bigint): void {
    this.machine.setRegister(this.id, register, value);
  }
  /** Collects this vCPU's dirty ring: takes the entries not yet taken and marks them for KVM_RESET_DIRTY_RINGS. @param limit at most so many */
  dirtyGfns(limit = Infinity): readonly { readonly slot: number; readonly offset: number }[] {
    return this.machine.harvestDirtyRing(this.id, limit);
  }
  /** Puts the data of a pending MMIO read into kvm_run. */
  answerMmio(data: bigint): void {
    this.machine.answerMmio(this.id, data);
  }
  /** KVM_SET_VCPU_EVENTS. @returns 0, or -EINVAL where the kernel does not know the event */
  setEvents(events: { readonly extDabtPending?: boolean; readonly serrorPending?: boolean }): number {
    return this.machine.call(0, { call: "KVM_SET_VCPU_EVENTS", vcpu: this.id, ...events }).ret;
  }
  /** Forgets a pending MMIO access, as a VMM that overwrites kvm_run->exit_reason. */
  cancelMmio(): void {
    this.machine.cancelMmio(this.id);
  }
}

/** Opens devices that are bound to vfio-pci. */
export class Vfio {
  constructor(
    private readonly machine: Machine,
    private readonly agent: number,
  ) {}
  /** @throws Error if there is no such device */
  open(bdf: string): VfioDevice {
    const { ret } = this.machine.call(this.agent, { call: "vfio_open", bdf });
    if (ret < 0) throw new FaultlineError(`no device ${bdf} is bound to vfio-pci`);
    return new VfioDevice(this.machine, this.agent, ret);
  }
}

/** A VFIO device file descriptor. */
export class VfioDevice {
  constructor(
    private readonly machine: Machine,
    private readonly agent: number,
    readonly fd: number,
  ) {}

  regionInfo(index: number): RegionInfo {
    return this.machine.call(this.agent, { call: "VFIO_DEVICE_GET_REGION_INFO", fd: this.fd, index }).region!;
  }
  /** mmap(2) of a region, at its offset in the device file. @returns the address, or -errno */
  mmap(args: {
    readonly region: number;
    readonly length: number;
    /** Bytes into the region; 0 if absent. */
    readonly offset?: number;
    readonly addr?: number;
    /** PROT_READ | PROT_WRITE if absent. */
    readonly prot?: number;
    /** MAP_SHARED if absent. */
    readonly flags?: number;
    readonly align?: number;
  }): number {
    const { region, offset = 0, flags = MAP_SHARED, ...rest } = args;
    const at = this.regionInfo(region).offset + offset;
    return this.machine.call(this.agent, { call: "mmap", ...rest, flags, fd: this.fd, offset: at }).ret;
  }
  /** VFIO_DEVICE_RESET. @returns 0 or -errno */
  reset(): number {
    return this.machine.call(this.agent, { call: "VFIO_DEVICE_RESET", fd: this.fd }).ret;
  }
  /** VFIO_DEVICE_PCI_HOT_RESET of the device's bus. @param groups how many of its groups the caller names @returns 0 or -errno */
  hotReset(groups = 1): number {
    return this.machine.call(this.agent, { call: "VFIO_DEVICE_PCI_HOT_RESET", fd: this.fd, groups }).ret;
  }
  /** Reads config space. @returns the value, or -errno */
  configRead(offset: number, size: number): number {
    const { ret, value = 0n } = this.machine.call(this.agent, { call: "vfio_read", fd: this.fd, index: 7, offset, size });
    return ret < 0 ? ret : Number(value);
  }
  /** Writes config space. @returns the bytes written, or -errno */
  configWrite(offset: number, size: number, value: number): number {
    return this.machine.call(this.agent, { call: "vfio_write", fd: this.fd, index: 7, offset, size, value: BigInt(value) }).ret;
  }
}
