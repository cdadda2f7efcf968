/**
 * Function resets: the PCI core's try-reset with save and restore (drivers/pci/pci.c pci_try_reset_function), and
 * what vfio-pci puts around it: VFIO_DEVICE_RESET, hot reset of a bus, the low-power feature.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EAGAIN, EBUSY, EINVAL, ENODEV, ENOTTY } from "../sim/errno.js";
import type { I32Pool } from "../sim/state.js";
import * as C from "./configspace.js";
import type { VfioDevices } from "./device.js";
import type { PciFunction } from "./pci.js";
import { vfioReset } from "./trace.js";
import { zapped, type VfioZap } from "./zap.js";

const DEV = ARG;
/** Hot reset: flags and group count, then the device that is next. */
const FLAGS = ARG + 1;
const GROUPS = ARG + 2;
const NEXT = ARG + 3;
const ENGAGE = ARG + 1;

const FROM_IOCTL = 0;
const FROM_HOT = 2;

/** Words of a function's saved state: 16 of the header, PM control, MSI-X flags, device control. */
const SAVED_WORDS = 20;

export class VfioReset {
  /** pci_try_reset_function: (dev) -> 0 | -EAGAIN | -ENOTTY. */
  readonly tryReset: Activity;
  /** VFIO_DEVICE_RESET: (dev) -> 0 | -errno. */
  readonly deviceReset: Activity;
  /** VFIO_DEVICE_PCI_HOT_RESET: (dev, flags, group count) -> 0 | -errno. */
  readonly hotReset: Activity;
  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY (engage 1) and _EXIT (0): (dev, engage) -> 0 | -errno. */
  readonly lowPower: Activity;
  /** pci_save_state of every function. */
  private readonly saved: I32Pool;

  constructor(
    private readonly v: VfioDevices,
    private readonly zap: VfioZap,
  ) {
    const { agents } = v.sim;
    this.saved = v.sim.state.i32("pci.saved", Math.max(1, v.pci.functions.length) * SAVED_WORDS);
    this.tryReset = agents.activity("pciTryResetFunction", "drivers/pci/pci.c pci_try_reset_function", 1, [
      ["saveAndDisable", (f) => this.saveAndDisable(f)],
      ["reset", (f) => this.resetFunction(f)],
      ["restore", (f) => this.restore(f)],
    ]);
    const core = "drivers/vfio/pci/vfio_pci_core.c";
    this.deviceReset = agents.activity("vfioPciIoctlReset", `${core} vfio_pci_ioctl_reset`, 1, [
      ["check", (f) => this.resetCheck(f)],
      ["tryReset", (f) => this.resetLocked(f)],
      ["unlock", (f) => this.resetDone(f)],
    ]);
    this.hotReset = agents.activity("vfioPciDevSetHotReset", `${core} vfio_pci_dev_set_hot_reset`, 4, [
      ["check", (f) => this.hotCheck(f)],
      ["lockNext", (f) => this.hotLockNext(f)],
      ["locked", (f) => this.hotLocked(f)],
      ["reset", (f) => this.hotResetBus(f)],
      ["restore", (f) => this.hotRestore(f)],
    ]);
    this.lowPower = agents.activity("vfioPciCorePmEntry", `${core} vfio_pci_core_pm_entry, vfio_pci_core_pm_exit`, 2, [
      ["check", (f) => this.lowPowerCheck(f)],
      ["entry", (f) => this.lowPowerEntry(f)],
      ["exit", (f) => this.lowPowerExit(f)],
    ]);
  }

  /** pci_probe_reset_function: can this function be reset at all? */
  canReset(f: PciFunction): boolean {
    if (f.resetMethod === "none") return false;
    // A bus reset serves a function that is alone behind its bridge.
    return f.resetMethod !== "bus" || (!onRootBus(f) && this.v.pci.functions.filter((g) => sameBus(f, g)).length === 1);
  }

  /** pci_save_state. */
  save(f: PciFunction): void {
    const at = f.fn * SAVED_WORDS;
    for (let w = 0; w < 16; w++) this.saved.set(at + w, this.v.pci.read(f.fn, 4 * w, 4) | 0);
    if (f.msix !== 0) this.saved.set(at + 17, this.v.pci.read(f.fn, f.msix + C.PCI_MSIX_FLAGS, 2));
    if (f.exp !== 0) this.saved.set(at + 18, this.v.pci.read(f.fn, f.exp + C.PCI_EXP_DEVCTL, 2));
  }

  /** pci_restore_state: capabilities, then the header from its end, so that BARs come back before the command register. */
  restoreState(f: PciFunction): void {
    const { pci } = this.v;
    const at = f.fn * SAVED_WORDS;
    if (f.exp !== 0) pci.write(f.fn, f.exp + C.PCI_EXP_DEVCTL, 2, this.saved.a[at + 18]! & ~C.PCI_EXP_DEVCTL_BCR_FLR);
    for (let w = 15; w >= 0; w--) {
      const value = this.saved.a[at + w]!;
      if ((pci.read(f.fn, 4 * w, 4) | 0) !== value) pci.write(f.fn, 4 * w, 4, value);
    }
    if (f.msix !== 0) pci.write(f.fn, f.msix + C.PCI_MSIX_FLAGS, 2, this.saved.a[at + 17]!);
  }

  /** vfio_pci_set_power_state: state is lost between D3hot and D0 where the function says so. */
  setPowerState(dev: number, state: number): void {
    const f = this.v.function(dev);
    const { pci } = this.v;
    if (f.pm === 0) return;
    const before = pci.powerState(dev);
    if (before === state) return;
    const loses = (pci.read(dev, f.pm + C.PCI_PM_CTRL, 2) & C.PCI_PM_CTRL_NO_SOFT_RESET) === 0;
    if (loses && state >= C.PCI_D3HOT) this.save(f);
    pci.write(dev, f.pm + C.PCI_PM_CTRL, 2, (pci.read(dev, f.pm + C.PCI_PM_CTRL, 2) & ~C.PCI_PM_CTRL_STATE_MASK) | state);
    if (!loses || before !== C.PCI_D3HOT) return;
    if (this.v.d.vfioPowerRestore === "state") this.restoreState(f);
    else this.v.vconfig.restoreBars(f);
  }

  /** True if VFIO_DEVICE_RESET and the restore of the power state before it exist in this order. */
  private toD0(dev: number): void {
    if (this.v.d.vfioPowerState === "tested") this.setPowerState(dev, C.PCI_D0);
  }

  // pci_try_reset_function: the device is off between two phases for as long as the reset takes.

  private saveAndDisable(f: number): number {
    const { agents, locks } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const fn = this.v.function(dev);
    if (!this.canReset(fn)) return agents.ret(f, -ENOTTY);
    if (!locks.tryWrite(this.v.deviceLock[dev]!)) return agents.ret(f, -EAGAIN);
    this.disable(fn);
    return this.tryReset.first + 1;
  }

  /** pci_dev_save_and_disable. */
  private disable(fn: PciFunction): void {
    const { pci } = this.v;
    if (fn.pm !== 0) this.setPowerState(fn.fn, C.PCI_D0);
    this.save(fn);
    pci.write(fn.fn, C.PCI_COMMAND, 2, C.PCI_COMMAND_INTX_DISABLE);
  }

  private resetFunction(f: number): number {
    const dev = this.v.sim.agents.stack.a[f + DEV]!;
    const fn = this.v.function(dev);
    const { pci } = this.v;
    switch (fn.resetMethod) {
      case "flr":
        pci.write(dev, fn.exp + C.PCI_EXP_DEVCTL, 2, pci.read(dev, fn.exp + C.PCI_EXP_DEVCTL, 2) | C.PCI_EXP_DEVCTL_BCR_FLR);
        break;
      case "af":
        pci.write(dev, fn.af + C.PCI_AF_CTRL, 1, C.PCI_AF_CTRL_FLR);
        break;
      case "pm":
        pci.write(dev, fn.pm + C.PCI_PM_CTRL, 2, C.PCI_D3HOT);
        pci.write(dev, fn.pm + C.PCI_PM_CTRL, 2, C.PCI_D0);
        break;
      default:
        pci.functionReset(fn, "bus");
    }
    return this.tryReset.first + 2;
  }

  private restore(f: number): number {
    const { agents, locks } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    this.restoreState(this.v.function(dev));
    locks.unlockWrite(this.v.deviceLock[dev]!);
    return agents.ret(f, 0);
  }

  // VFIO_DEVICE_RESET.

  private resetCheck(f: number): number {
    const { agents, bus } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    if (!this.v.resetWorks(dev)) {
      bus.emit(vfioReset, -EINVAL, this.v.function(dev).name, FROM_IOCTL);
      return agents.ret(f, -EINVAL);
    }
    return agents.call(f, this.deviceReset.first + 1, this.zap.zapAndLock, dev, 0);
  }

  private resetLocked(f: number): number {
    const { agents } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    this.toD0(dev);
    return agents.call(f, this.deviceReset.first + 2, this.tryReset, dev);
  }

  private resetDone(f: number): number {
    const { agents, bus } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const ret = agents.stack.a[f + R0]!;
    this.zap.upWrite(dev);
    bus.emit(vfioReset, ret, this.v.function(dev).name, FROM_IOCTL);
    this.v.pci.fabric?.reclaimed(this.v.function(dev));
    return agents.ret(f, ret);
  }

  // Hot reset: every function behind the bridge, all of them the caller's.

  private hotCheck(f: number): number {
    const { agents } = this.v.sim;
    const a = agents.stack.a;
    const fn = this.v.function(a[f + DEV]!);
    if (a[f + FLAGS] !== 0) return this.hotDone(f, -EINVAL);
    if (onRootBus(fn)) return this.hotDone(f, -ENODEV);
    const affected = this.v.pci.functions.filter((g) => sameBus(fn, g));
    const groups = a[f + GROUPS]!;
    if (groups > affected.length || groups === 0 || affected.some((g) => !this.v.isOpen(g.fn))) return this.hotDone(f, -EINVAL);
    agents.stack.set(f + NEXT, 0);
    return this.hotReset.first + 1;
  }

  private hotLockNext(f: number): number {
    const { agents } = this.v.sim;
    const fn = this.v.function(agents.stack.a[f + DEV]!);
    const next = this.v.pci.functions.findIndex((g) => g.fn >= agents.stack.a[f + NEXT]! && sameBus(fn, g));
    if (next < 0) return this.hotReset.first + 3;
    agents.stack.set(f + NEXT, next + 1);
    return agents.call(f, this.hotReset.first + 2, this.zap.zapAndLock, next, 1);
  }

  private hotLocked(f: number): number {
    if (zapped(this.v, f)) return this.hotReset.first + 1;
    const a = this.v.sim.agents.stack.a;
    const fn = this.v.function(a[f + DEV]!);
    for (const g of this.v.pci.functions) if (sameBus(fn, g) && g.fn < a[f + NEXT]! - 1) this.zap.upWrite(g.fn);
    return this.hotDone(f, -EBUSY);
  }

  private hotResetBus(f: number): number {
    const fn = this.v.function(this.v.sim.agents.stack.a[f + DEV]!);
    for (const g of this.v.pci.functions) {
      if (!sameBus(fn, g)) continue;
      this.disable(g);
      this.v.pci.functionReset(g, "bus");
    }
    return this.hotReset.first + 4;
  }

  private hotRestore(f: number): number {
    const fn = this.v.function(this.v.sim.agents.stack.a[f + DEV]!);
    for (const g of this.v.pci.functions) {
      if (!sameBus(fn, g)) continue;
      this.restoreState(g);
      this.zap.upWrite(g.fn);
    }
    return this.hotDone(f, 0);
  }

  private hotDone(f: number, ret: number): number {
    const { agents, bus } = this.v.sim;
    bus.emit(vfioReset, ret, this.v.function(agents.stack.a[f + DEV]!).name, FROM_HOT);
    return agents.ret(f, ret);
  }

  // The low-power feature (v6.1 and later).

  private lowPowerCheck(f: number): number {
    const { agents } = this.v.sim;
    const a = agents.stack.a;
    if (this.v.d.vfioPowerState === "untested") return agents.ret(f, -ENOTTY);
    if (a[f + ENGAGE] === 0) return this.lowPower.first + 2;
    return agents.call(f, this.lowPower.first + 1, this.zap.zapAndLock, a[f + DEV]!, 0);
  }

  private lowPowerEntry(f: number): number {
    const { agents } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    const already = this.v.lowPower(dev);
    this.v.setLowPower(dev, true);
    this.zap.upWrite(dev);
    return agents.ret(f, already ? -EINVAL : 0);
  }

  private lowPowerExit(f: number): number {
    const { agents } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    if (!this.zap.downWrite(dev)) return BLOCKED;
    this.v.setLowPower(dev, false);
    this.zap.upWrite(dev);
    return agents.ret(f, 0);
  }
}

/** Functions on bus 00 sit on the root complex: nothing above them can reset them. */
function onRootBus(f: PciFunction): boolean {
  return f.bdf.slice(5, 7) === "00";
}
function sameBus(a: PciFunction, b: PciFunction): boolean {
  return a.bdf.slice(0, 7) === b.bdf.slice(0, 7);
}
