/**
 * read() and write() of the config region (vfio_pci_config.c vfio_pci_config_rw and the handlers of the command
 * register and of the PM, PCIe and AF capabilities). An access goes chunk by chunk, none larger than an aligned
 * dword of one capability.
 */
import { ARG, BLOCKED, R0, type Activity } from "../sim/agents.js";
import { EFAULT } from "../sim/errno.js";
import * as C from "./configspace.js";
import type { VfioDevices } from "./device.js";
import type { PciFunction } from "./pci.js";
import type { VfioReset } from "./reset.js";
import { vfioMemoryEnable, vfioReset } from "./trace.js";
import type { VfioZap } from "./zap.js";

const DEV = ARG;
const OFFSET = ARG + 1;
const COUNT = ARG + 2;
const WRITE = ARG + 3;
const LO = ARG + 4;
const HI = ARG + 5;
/** Locals: bytes done, size and value of the present chunk. */
const DONE = ARG + 6;
const SIZE = ARG + 7;
const VALUE = ARG + 8;

const CHUNK = 0;
const COMMAND_ZAPPED = 1;
const COMMAND_LOCK = 2;
const POWER_LOCK = 3;
const POWER_LOCKED = 4;
const FLR_LOCKED = 5;
const FLR_DONE = 6;

const FROM_CONFIG = 1;

export class VfioConfigRw {
  /** (dev, offset, count 1..8, write 0|1, lo, hi) -> R0 count | -errno, R1 lo, R2 hi. */
  readonly rw: Activity;

  constructor(
    private readonly v: VfioDevices,
    private readonly zap: VfioZap,
    private readonly reset: VfioReset,
  ) {
    this.rw = v.sim.agents.activity("vfioPciConfigRw", "drivers/vfio/pci/vfio_pci_config.c vfio_pci_config_rw", 9, [
      ["chunk", (f) => this.chunk(f)],
      ["commandWrite", (f) => this.commandWrite(f)],
      ["commandLock", (f) => this.commandLock(f)],
      ["powerLock", (f) => this.powerLock(f)],
      ["powerWrite", (f) => this.powerWrite(f)],
      ["flr", (f) => this.flrLocked(f)],
      ["flrDone", (f) => this.flrDone(f)],
    ]);
  }

  /** vfio_config_do_rw. */
  private chunk(f: number): number {
    const { agents } = this.v.sim;
    const s = agents.stack;
    const dev = s.a[f + DEV]!;
    const fn = this.v.function(dev);
    for (;;) {
      const done = s.a[f + DONE]!;
      const count = s.a[f + COUNT]!;
      if (done >= count) return agents.ret(f, done, s.a[f + LO]! | 0, s.a[f + HI]! | 0);
      const offset = s.a[f + OFFSET]! + done;
      if (offset < 0 || offset + (count - done) > fn.configSize) return agents.ret(f, -EFAULT);
      const size = this.chunkOf(fn, offset, count - done);
      s.set(f + SIZE, size);
      if (s.a[f + WRITE] === 0) {
        this.putBytes(f, done, size, this.v.vconfig.read(fn, offset, size));
        s.set(f + DONE, done + size);
        continue;
      }
      s.set(f + VALUE, this.takeBytes(f, done, size));
      const next = this.write(f, dev, fn, offset, size);
      if (next !== CHUNK) return next;
    }
  }

  private chunkOf(fn: PciFunction, offset: number, count: number): number {
    let size = C.chunkSize(offset, count);
    const owner = this.v.vconfig.owner(fn, offset);
    while (size > 1 && this.v.vconfig.owner(fn, offset + size - 1) !== owner) size >>= 1;
    return size;
  }

  /** Bytes [at, at + size) of hi:lo, unsigned. */
  private takeBytes(f: number, at: number, size: number): number {
    const a = this.v.sim.agents.stack.a;
    let v = 0;
    for (let i = size - 1; i >= 0; i--) {
      const b = at + i;
      v = v * 256 + (((a[f + (b < 4 ? LO : HI)]! | 0) >>> (8 * (b & 3))) & 0xff);
    }
    return v;
  }

  private putBytes(f: number, at: number, size: number, value: number): void {
    const s = this.v.sim.agents.stack;
    for (let i = 0; i < size; i++) {
      const word = f + (at + i < 4 ? LO : HI);
      const shift = 8 * ((at + i) & 3);
      s.set(word, ((s.a[word]! | 0) & ~(0xff << shift)) | (((value >>> (8 * i)) & 0xff) << shift));
    }
  }

  private finishChunk(f: number): number {
    const s = this.v.sim.agents.stack;
    s.set(f + DONE, s.a[f + DONE]! + s.a[f + SIZE]!);
    return this.rw.first + CHUNK;
  }

  /** perm->writefn. @returns CHUNK when the chunk is done, else what the phase returns */
  private write(f: number, dev: number, fn: PciFunction, offset: number, size: number): number {
    const s = this.v.sim.agents.stack;
    const value = s.a[f + VALUE]!;
    const owner = this.v.vconfig.owner(fn, offset);
    const { agents } = this.v.sim;
    if (offset === C.PCI_COMMAND) {
      if ((value & C.PCI_COMMAND_MEMORY) !== 0) return this.rw.first + COMMAND_LOCK;
      return agents.call(f, this.rw.first + COMMAND_ZAPPED, this.zap.zapAndLock, dev, 0);
    }
    if (owner < 0) {
      // vfio_raw_config_write: nobody's bytes go straight to the hardware.
      this.v.pci.write(dev, offset, size, value);
    } else {
      this.v.vconfig.defaultWrite(fn, offset, size, value);
      const started = this.sideEffects(f, dev, fn, offset);
      if (started !== CHUNK) return started;
    }
    s.set(f + DONE, s.a[f + DONE]! + size);
    return CHUNK;
  }

  /** vfio_pm_config_write, vfio_exp_config_write, vfio_af_config_write, after the default write. */
  private sideEffects(f: number, dev: number, fn: PciFunction, offset: number): number {
    const { vconfig } = this.v;
    if (fn.pm !== 0 && offset === fn.pm + C.PCI_PM_CTRL) {
      const state = this.v.sim.agents.stack.a[f + VALUE]! & C.PCI_PM_CTRL_STATE_MASK;
      if (this.v.d.vfioPowerState === "untested") {
        this.reset.setPowerState(dev, state);
        return CHUNK;
      }
      if (state >= C.PCI_D3HOT) return this.v.sim.agents.call(f, this.rw.first + POWER_LOCKED, this.zap.zapAndLock, dev, 0);
      return this.rw.first + POWER_LOCK;
    }
    const control = fn.exp + C.PCI_EXP_DEVCTL;
    if (fn.exp !== 0 && (vconfig.get(dev, control, 2) & C.PCI_EXP_DEVCTL_BCR_FLR) !== 0) {
      vconfig.set(dev, control, 2, vconfig.get(dev, control, 2) & ~C.PCI_EXP_DEVCTL_BCR_FLR);
      if ((this.v.pci.read(dev, fn.exp + C.PCI_EXP_DEVCAP, 4) & C.PCI_EXP_DEVCAP_FLR) !== 0) return this.startFlr(f, dev);
    }
    const af = fn.af + C.PCI_AF_CTRL;
    if (fn.af !== 0 && (vconfig.get(dev, af, 1) & C.PCI_AF_CTRL_FLR) !== 0) {
      vconfig.set(dev, af, 1, 0);
      const cap = this.v.pci.read(dev, fn.af + C.PCI_AF_CAP, 1);
      if ((cap & C.PCI_AF_CAP_FLR) !== 0 && (cap & C.PCI_AF_CAP_TP) !== 0) return this.startFlr(f, dev);
    }
    return CHUNK;
  }

  // The command register: vfio_basic_config_write.

  private commandLock(f: number): number {
    if (!this.zap.downWrite(this.v.sim.agents.stack.a[f + DEV]!)) return BLOCKED;
    return this.commandWrite(f);
  }

  private commandWrite(f: number): number {
    const a = this.v.sim.agents.stack.a;
    const dev = a[f + DEV]!;
    const fn = this.v.function(dev);
    const { vconfig, pci } = this.v;
    const value = a[f + VALUE]!;
    const phys = pci.read(dev, C.PCI_COMMAND, 2);
    const virt = vconfig.get(dev, C.PCI_COMMAND, 2);
    // On in the user's mind and now again, off in the hardware: a reset behind our back took the BARs.
    const backdoor = value & virt & ~phys & ((fn.spec.vf === true ? 0 : C.PCI_COMMAND_MEMORY) | C.PCI_COMMAND_IO);
    if (backdoor !== 0 || vconfig.needsBarRestore(fn)) vconfig.restoreBars(fn);
    vconfig.defaultWrite(fn, C.PCI_COMMAND, a[f + SIZE]!, value);
    const enables = C.PCI_COMMAND_MEMORY | C.PCI_COMMAND_IO;
    vconfig.set(dev, C.PCI_COMMAND, 2, (vconfig.get(dev, C.PCI_COMMAND, 2) & ~enables) | (value & enables));
    this.v.sim.bus.emit(vfioMemoryEnable, fn.name, (value & C.PCI_COMMAND_MEMORY) !== 0 ? 1 : 0);
    this.zap.upWrite(dev);
    return this.finishChunk(f);
  }

  // Power states: vfio_lock_and_set_power_state.

  private powerLock(f: number): number {
    if (!this.zap.downWrite(this.v.sim.agents.stack.a[f + DEV]!)) return BLOCKED;
    return this.powerWrite(f);
  }

  private powerWrite(f: number): number {
    const a = this.v.sim.agents.stack.a;
    const dev = a[f + DEV]!;
    this.reset.setPowerState(dev, a[f + VALUE]! & C.PCI_PM_CTRL_STATE_MASK);
    this.zap.upWrite(dev);
    return this.finishChunk(f);
  }

  // A function-level reset asked for through the capability.

  private startFlr(f: number, dev: number): number {
    return this.v.sim.agents.call(f, this.rw.first + FLR_LOCKED, this.zap.zapAndLock, dev, 0);
  }

  private flrLocked(f: number): number {
    const { agents } = this.v.sim;
    return agents.call(f, this.rw.first + FLR_DONE, this.reset.tryReset, agents.stack.a[f + DEV]!);
  }

  private flrDone(f: number): number {
    const { agents, bus } = this.v.sim;
    const dev = agents.stack.a[f + DEV]!;
    this.zap.upWrite(dev);
    bus.emit(vfioReset, agents.stack.a[f + R0]!, this.v.function(dev).name, FROM_CONFIG);
    this.v.pci.fabric?.reclaimed(this.v.function(dev));
    return this.finishChunk(f);
  }
}
