/**
 * vfio-pci: the driver as its user sees it. Opening and closing a device (vfio_pci_core.c vfio_pci_core_enable,
 * vfio_pci_core_disable), and everything else of this room by name.
 *
 * Knowledge boundary: the driver knows the host's memory management and the PCI functions. It does not know KVM; KVM
 * learns of a BAR only through its VMA, its host page-table entries and the MMU notifiers.
 */
import { ARG, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBADF } from "../sim/errno.js";
import type { Sim } from "../sim/sim.js";
import type { PhysicalMemory } from "../arch/phys.js";
import type { VmOperations } from "../mmu/files.js";
import { VfioRegionRw } from "./barrw.js";
import * as C from "./configspace.js";
import { VfioConfigRw } from "./configrw.js";
import { REGION_SPAN, VfioDevices, type VfioMm, type VfioRow } from "./device.js";
import { canonicalBdf, deviceSpecs, type DeviceSpec } from "./devicespec.js";
import { DmaBufs } from "./dmabuf.js";
import { MmapTypes } from "./mmaptypes.js";
import { VfioFault } from "./fault.js";
import { addHostBridge } from "./hostbridge.js";
import { Ioeventfds } from "./ioeventfd.js";
import { VfioMmap } from "./mmap.js";
import { PciFunctions } from "./pci.js";
import { deviceInfo, regionInfo, type RegionInfo } from "./regions.js";
import { VfioReset } from "./reset.js";
import { vfioClose, vfioOpen } from "./trace.js";
import { VmaList } from "./vmalist.js";
import { SysfsResources } from "./sysfs.js";
import { VfioZap } from "./zap.js";

const DEV = ARG;

export class VfioPci {
  readonly pci: PciFunctions;
  readonly devices: VfioDevices;
  readonly list: VmaList;
  /** BARs that were handed out without a mapping. */
  readonly dmabufs: DmaBufs;
  readonly mmapTypes: MmapTypes;
  /** resourceN and resourceN_wc. */
  readonly sysfs: SysfsResources;
  /** What the mm calls for VMAs of any of these devices. */
  readonly ops: VmOperations;

  /** Opening the device's file descriptor: (dev) -> R0 the device file's number in Files | -errno. */
  readonly open: Activity;
  /** close() of one file descriptor: (dev) -> 0. VMAs keep the device open. */
  readonly close: Activity;
  /** VFIO_DEVICE_GET_REGION_INFO: (dev, index) -> R0 0 | -errno, R1 size, R2 flags. */
  readonly getRegionInfo: Activity;
  /** pread and pwrite of the device file: (dev, position, count 1..8, write 0|1, lo, hi) -> R0 count | -errno, R1 lo, R2 hi. */
  readonly rw: Activity;
  /** The same for the config region alone: (dev, offset, count 1..8, write 0|1, lo, hi). */
  readonly configRw: Activity;
  /** VFIO_DEVICE_RESET: (dev) -> 0 | -errno. */
  readonly reset: Activity;
  /** VFIO_DEVICE_PCI_HOT_RESET: (dev, flags, group count) -> 0 | -errno. */
  readonly hotReset: Activity;
  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY (1), _EXIT (0): (dev, engage) -> 0 | -errno. */
  readonly lowPower: Activity;
  /** VFIO_DEVICE_IOEVENTFD: (dev, position, size flag, lo, hi, eventfd | -1) -> 0 | -errno. */
  readonly ioeventfd: Activity;
  /** eventfd_signal: (eventfd). */
  readonly signalEventfd: Activity;

  private readonly resets: VfioReset;
  private readonly ioeventfds: Ioeventfds;
  /** The last reference is gone: (dev). */
  private readonly release: Activity;

  constructor(
    private readonly sim: Sim,
    phys: PhysicalMemory,
    mm: VfioMm,
    readonly d: VfioRow,
    devices: readonly (string | DeviceSpec)[],
    /** Max_Payload_Size of the path to every function, in bytes. */
    maxPayload?: number,
  ) {
    const { agents } = sim;
    this.pci = new PciFunctions(sim, deviceSpecs(devices), maxPayload);
    addHostBridge(sim, phys, this.pci);
    this.devices = new VfioDevices(sim, this.pci, mm, d);
    this.list = new VmaList(sim, this.pci.functions.length);
    this.dmabufs = new DmaBufs(this.devices);
    this.sysfs = new SysfsResources(this.devices);
    this.mmapTypes = new MmapTypes(this.devices);
    const zap = new VfioZap(this.devices, this.list, this.dmabufs);
    this.resets = new VfioReset(this.devices, zap);
    this.ioeventfds = new Ioeventfds(this.devices, phys);
    const core = "drivers/vfio/pci/vfio_pci_core.c";
    this.release = agents.activity("vfioPciCoreDisable", `${core} vfio_pci_core_disable`, 1, [
      ["disable", (f) => this.disable(f)],
      ["powerDown", (f) => this.powerDown(f)],
    ]);
    const mmap = new VfioMmap(this.devices, this.list, this.mmapTypes, this.release);
    const fault = new VfioFault(this.devices, this.list);
    const { hugeFault, faultNow } = fault;
    this.ops = {
      mmap: mmap.mmap,
      fault: fault.fault,
      open: mmap.open,
      close: mmap.close,
      ...(hugeFault === undefined ? {} : { hugeFault }),
      ...(faultNow === undefined ? {} : { faultNow }),
    };
    mm.files.declareDriver(this.ops);
    this.open = agents.activity("vfioPciCoreEnable", `${core} vfio_pci_core_enable`, 1, [
      ["enable", (f) => this.enable(f)],
      ["init", (f) => this.init(f)],
    ]);
    this.close = agents.activity("vfioDeviceFopsRelease", "drivers/vfio/vfio_main.c vfio_device_fops_release", 1, [
      ["put", (f) => this.put(f)],
      ["released", (f) => agents.ret(f)],
    ]);
    this.getRegionInfo = agents.activity("vfioPciIoctlGetRegionInfo", `${core} vfio_pci_ioctl_get_region_info`, 2, [
      ["info", (f) => this.info(f)],
    ]);
    this.configRw = new VfioConfigRw(this.devices, zap, this.resets).rw;
    this.rw = new VfioRegionRw(this.devices, phys, this.configRw).rw;
    this.reset = this.resets.deviceReset;
    this.hotReset = this.resets.hotReset;
    this.lowPower = this.resets.lowPower;
    this.ioeventfd = this.ioeventfds.ioctl;
    this.signalEventfd = this.ioeventfds.signal;
  }

  /** The device at a PCI address (the domain may be left out), or -1. @throws Error if it is no PCI address */
  find(bdf: string): number {
    return this.pci.find(canonicalBdf(bdf));
  }

  /** The open device file's number in Files, or -1. */
  file(dev: number): number {
    return this.devices.file(dev);
  }

  /** The device whose open file this is, or -1. */
  ofFile(file: number): number {
    return this.devices.ofFile(file);
  }

  /** Offset of a region in the device file: what mmap, pread and pwrite take. */
  regionOffset(index: number, offset = 0): number {
    return index * REGION_SPAN + offset;
  }

  /** VFIO_DEVICE_GET_REGION_INFO with its capabilities, for people. */
  regionInfo(dev: number, index: number, argsz?: number): RegionInfo {
    return regionInfo(this.devices, dev, index, argsz);
  }

  /** VFIO_DEVICE_GET_INFO. */
  deviceInfo(dev: number): ReturnType<typeof deviceInfo> {
    return deviceInfo(this.devices, dev);
  }

  private info(f: number): number {
    const { agents } = this.sim;
    const i = this.regionInfo(agents.stack.a[f + DEV]!, agents.stack.a[f + ARG + 1]!);
    return agents.ret(f, i.ret, i.size, i.flags);
  }

  /** pci_enable_device, then a reset that also tells whether the function can be reset. */
  private enable(f: number): number {
    const { agents } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    if (this.devices.isOpen(dev)) {
      this.devices.ref(dev, 1);
      this.devices.mm.files.get(this.devices.file(dev));
      return agents.ret(f, this.devices.file(dev));
    }
    const fn = this.pci.functions[dev]!;
    this.resets.setPowerState(dev, C.PCI_D0);
    const enables = fn.bars.reduce((bits, b) => bits | (b === undefined ? 0 : b.io ? C.PCI_COMMAND_IO : C.PCI_COMMAND_MEMORY), 0);
    const command = this.pci.read(dev, C.PCI_COMMAND, 2) & ~(C.PCI_COMMAND_MASTER | C.PCI_COMMAND_INTX_DISABLE);
    this.pci.write(dev, C.PCI_COMMAND, 2, command | enables);
    return agents.call(f, this.open.first + 1, this.resets.tryReset, dev);
  }

  private init(f: number): number {
    const { agents } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    const fn = this.pci.functions[dev]!;
    const reset = agents.stack.a[f + R0]!;
    if (reset === -EAGAIN) return this.opened(f, reset);
    this.devices.setResetWorks(dev, reset === 0);
    this.resets.save(fn);
    this.devices.vconfig.init(fn);
    this.devices.setLowPower(dev, false);
    this.devices.dropClaims(dev);
    if (this.d.vfioBarClaim === "atOpen") for (const bar of fn.bars) if (bar !== undefined) this.devices.tryClaim(dev, bar.index);
    const file = this.devices.mm.files.openDevice(this.ops);
    this.devices.setFile(dev, file);
    this.devices.ref(dev, 1);
    return this.opened(f, file);
  }

  private opened(f: number, ret: number): number {
    const { agents, bus } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    bus.emit(vfioOpen, ret < 0 ? ret : 0, this.pci.functions[dev]!.name);
    return agents.ret(f, ret);
  }

  /** One file descriptor less. */
  private put(f: number): number {
    const { agents } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    if (!this.devices.isOpen(dev)) return agents.ret(f, -EBADF);
    this.devices.mm.files.put(this.devices.file(dev));
    if (this.devices.ref(dev, -1) > 0) return agents.ret(f);
    return agents.call(f, this.close.first + 1, this.release, dev);
  }

  /** vfio_pci_core_disable: nothing maps the device any more. */
  private disable(f: number): number {
    const { agents } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    this.devices.setLowPower(dev, false);
    this.resets.setPowerState(dev, C.PCI_D0);
    this.ioeventfds.removeAll(dev);
    this.devices.dropClaims(dev);
    this.mmapTypes.forget(dev);
    this.devices.setFile(dev, -1);
    if (!this.devices.resetWorks(dev)) return this.release.first + 1;
    return agents.call(f, this.release.first + 1, this.resets.tryReset, dev);
  }

  /** pci_disable_device, then D3hot until somebody opens it again. Memory decode stays as it is. */
  private powerDown(f: number): number {
    const { agents, bus } = this.sim;
    const dev = agents.stack.a[f + DEV]!;
    const fn = this.pci.functions[dev]!;
    this.pci.write(dev, C.PCI_COMMAND, 2, this.pci.read(dev, C.PCI_COMMAND, 2) & ~C.PCI_COMMAND_MASTER);
    // The next one who opens it is another user.
    this.pci.fabric?.reclaimed(fn);
    this.resets.setPowerState(dev, C.PCI_D3HOT);
    bus.emit(vfioClose, fn.name);
    return agents.ret(f);
  }
}
