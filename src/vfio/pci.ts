/**
 * PCI functions as the hardware has them: config registers with their write masks, BARs, power state and function
 * resets (PCI Local Bus 3.0 section 6, PCI Express 7.5 and 6.6.2, PCI-PM 1.2). What vfio-pci shows to its user instead
 * is in vconfig.ts; what decodes an access is in hostbridge.ts.
 */
import type { Sim } from "../sim/sim.js";
import type { F64Pool, I32Pool } from "../sim/state.js";
import * as C from "./configspace.js";
import { BarStorage } from "./barstorage.js";
import { placeBars } from "./barplacement.js";
import type { BarSpec, DeviceSpec, ResetMethod } from "./devicespec.js";
import { deviceModel, type DeviceModel } from "./models.js";
import { pciConfigWrite, pciReset } from "./trace.js";

/** Config words of one function. */
const CONFIG_WORDS = C.PCI_CFG_SPACE_EXP_SIZE / 4;

/** One BAR of one function: what never changes. */
export interface Bar {
  /** Its number among all BARs of the machine. */
  readonly id: number;
  readonly fn: number;
  readonly spec: BarSpec;
  readonly index: number;
  readonly size: number;
  readonly io: boolean;
  /** 64-bit: the next BAR register is its upper half. */
  readonly wide: boolean;
  /** Where firmware put it (pci_resource_start): vfio-pci never moves it. */
  readonly start: number;
  readonly model: DeviceModel;
}

/** One function: what never changes. */
export interface PciFunction {
  readonly fn: number;
  readonly bdf: string;
  /** The name for events, interned. */
  readonly name: number;
  readonly spec: DeviceSpec;
  /** 256 or 4096 bytes. */
  readonly configSize: number;
  /** By BAR index 0..5; undefined where there is none. */
  readonly bars: readonly (Bar | undefined)[];
  readonly resetMethod: ResetMethod;
  /** Offsets of capabilities, 0 if absent. */
  readonly pm: number;
  readonly exp: number;
  readonly msix: number;
  readonly af: number;
}

/** Why a BAR does not decode. */
export const DECODES = 0;
export const DECODE_OFF = 1;
export const DECODE_POWER = 2;

/** The order of `ResetMethod` in the event pci_reset. */
const METHODS: readonly ResetMethod[] = ["flr", "af", "pm", "bus"];

/** What a modelled fabric does for the functions behind it. */
export interface PciFabric {
  /** A configuration request passes the root complex. @param device interned name */
  config(device: number, offset: number, value: number, write: boolean): void;
  functionWasReset(f: PciFunction): void;
  /** Says whether a function taken back is free of everything old. */
  reclaimed(f: PciFunction): boolean;
  driverRead(pa: number, size: number): void;
  driverWrite(pa: number, size: number, lo: number, hi: number): void;
}

export class PciFunctions {
  /** The fabric between CPUs and functions, where one is modelled. */
  fabric: PciFabric | undefined;
  readonly functions: readonly PciFunction[];
  /** Every BAR of every function. */
  readonly bars: readonly Bar[];
  /** Hardware config registers, CONFIG_WORDS for each function. */
  private readonly config: I32Pool;
  /** Per BAR: the address that it decodes now, -1 - reason while it decodes nothing. Follows config. */
  private readonly decoded: F64Pool;
  /** Per BAR: its bytes of memory, 0 of an I/O BAR. Constant after construction. */
  private readonly sizes: Float64Array;
  /** Constant after construction: writable bits and initial values of every config word. */
  private readonly writable: Int32Array;
  private readonly initial: Int32Array;

  constructor(
    private readonly sim: Sim,
    specs: readonly DeviceSpec[],
    /** Max_Payload_Size of the path to every function, in bytes: what it supports, and what the PCI core has set. */
    private readonly maxPayload = 128,
  ) {
    const storage = new BarStorage(sim);
    this.config = sim.state.i32("pci.config", Math.max(1, specs.length) * CONFIG_WORDS);
    this.writable = new Int32Array(this.config.a.length);
    this.initial = new Int32Array(this.config.a.length);
    const starts = placeBars(specs);
    const bars: Bar[] = [];
    this.functions = specs.map((spec, fn) => {
      const byIndex: (Bar | undefined)[] = [undefined, undefined, undefined, undefined, undefined, undefined];
      spec.bars.forEach((b, n) => {
        const io = b.io === true;
        const bar: Bar = {
          id: bars.length,
          fn,
          spec: b,
          index: b.index,
          size: b.size,
          io,
          wide: b.bits === 64,
          start: starts[fn]![n]!,
          model: deviceModel(sim, storage, b.model ?? "memory", `${spec.bdf}.${b.index}`, b.size, io),
        };
        bars.push(bar);
        byIndex[b.index] = bar;
      });
      return this.build(fn, spec, byIndex);
    });
    this.bars = bars;
    this.decoded = sim.state.f64("pci.decoded", Math.max(1, bars.length));
    // As long as its pool: a small array lies in V8's heap, where it moves.
    this.sizes = new Float64Array(this.decoded.a.length);
    for (const bar of bars) this.sizes[bar.id] = bar.io ? 0 : bar.size;
    for (const f of this.functions) {
      this.loadInitial(f.fn);
      this.assign(f);
      this.setPayload(f);
    }
  }

  /** pci_configure_mps (drivers/pci/probe.c): the PCI core sets what the whole path supports. */
  private setPayload(f: PciFunction): void {
    if (f.exp === 0) return;
    const at = f.exp + C.PCI_EXP_DEVCTL;
    const mps = (this.read(f.fn, f.exp + C.PCI_EXP_DEVCAP, 4) & 7) << 5;
    this.store(f.fn, at, 2, (this.read(f.fn, at, 2) & ~C.PCI_EXP_DEVCTL_PAYLOAD) | mps);
  }

  /** Whether a function may set No Snoop in its requests (Device Control, Enable No Snoop). PCI without Express has no such bit. */
  mayNotSnoop(f: PciFunction): boolean {
    return f.exp !== 0 && (this.read(f.fn, f.exp + C.PCI_EXP_DEVCTL, 2) & C.PCI_EXP_DEVCTL_NOSNOOP_EN) !== 0;
  }

  /** Lays out the config space: header, then the capabilities that the spec asks for. */
  private build(fn: number, spec: DeviceSpec, bars: readonly (Bar | undefined)[]): PciFunction {
    const pcie = spec.pcie === true || spec.reset === "flr";
    const reset = spec.reset ?? "none";
    this.define(fn, C.PCI_VENDOR_ID, 2, spec.vendor ?? 0x1af4);
    this.define(fn, C.PCI_DEVICE_ID, 2, spec.device ?? 0x10f0);
    this.define(fn, C.PCI_COMMAND, 2, 0, spec.vf === true ? C.PCI_COMMAND_MASTER : C.PCI_COMMAND_WRITABLE);
    this.define(fn, C.PCI_REVISION_ID, 1, spec.revision ?? 0);
    this.define(fn, C.PCI_CLASS_PROG, 3, spec.class ?? 0xff0000);
    this.define(fn, C.PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
    this.define(fn, C.PCI_LATENCY_TIMER, 1, 0, pcie ? 0 : 0xff);
    this.define(fn, C.PCI_SUBSYSTEM_VENDOR_ID, 4, 0x11001af4);
    this.define(fn, C.PCI_INTERRUPT_LINE, 1, 0, 0xff);
    this.define(fn, C.PCI_INTERRUPT_PIN, 1, spec.vf === true ? 0 : 1);
    for (const bar of bars) if (bar !== undefined) this.defineBar(fn, bar);
    let at = C.PCI_STD_HEADER_SIZEOF;
    let link = C.PCI_CAPABILITY_LIST;
    const capability = (wanted: boolean, id: number, size: number): number => {
      if (!wanted) return 0;
      const here = at;
      this.define(fn, link, 1, here);
      this.define(fn, here, 1, id);
      link = here + 1;
      at += (size + 3) & ~3;
      return here;
    };
    const pm = capability(spec.pm === true || reset === "pm" || pcie, C.PCI_CAP_ID_PM, C.CAP_SIZE_PM);
    const msix = capability(spec.msix !== undefined, C.PCI_CAP_ID_MSIX, C.CAP_SIZE_MSIX);
    const af = capability(reset === "af", C.PCI_CAP_ID_AF, C.CAP_SIZE_AF);
    const exp = capability(pcie, C.PCI_CAP_ID_EXP, C.CAP_SIZE_EXP);
    if (link !== C.PCI_CAPABILITY_LIST) this.define(fn, C.PCI_STATUS, 2, C.PCI_STATUS_CAP_LIST);
    if (pm !== 0) {
      this.define(fn, pm + C.PCI_PM_PMC, 2, 0x0003);
      this.define(fn, pm + C.PCI_PM_CTRL, 2, reset === "pm" ? 0 : C.PCI_PM_CTRL_NO_SOFT_RESET, C.PCI_PM_CTRL_STATE_MASK);
    }
    if (msix !== 0 && spec.msix !== undefined) {
      this.define(fn, msix + C.PCI_MSIX_FLAGS, 2, spec.msix.vectors - 1, 0xc000);
      this.define(fn, msix + C.PCI_MSIX_TABLE, 4, spec.msix.offset | spec.msix.bar);
      this.define(fn, msix + C.PCI_MSIX_PBA, 4, (spec.msix.offset + 16 * spec.msix.vectors) | spec.msix.bar);
    }
    if (af !== 0) {
      this.define(fn, af + 2, 1, C.CAP_SIZE_AF);
      this.define(fn, af + C.PCI_AF_CAP, 1, C.PCI_AF_CAP_TP | C.PCI_AF_CAP_FLR);
    }
    if (exp !== 0) {
      this.define(fn, exp + 2, 2, 0x0002);
      const mps = Math.log2(this.maxPayload / 128);
      this.define(fn, exp + C.PCI_EXP_DEVCAP, 4, 0x8000 | (reset === "flr" ? C.PCI_EXP_DEVCAP_FLR : 0) | mps);
      const control = C.PCI_EXP_DEVCTL_READRQ_512B | C.PCI_EXP_DEVCTL_NOSNOOP_EN | C.PCI_EXP_DEVCTL_RELAX_EN;
      this.define(fn, exp + C.PCI_EXP_DEVCTL, 2, control, 0x7fff);
    }
    return {
      fn,
      bdf: spec.bdf,
      name: this.sim.bus.name(spec.bdf),
      spec,
      configSize: pcie ? C.PCI_CFG_SPACE_EXP_SIZE : C.PCI_CFG_SPACE_SIZE,
      bars,
      resetMethod: reset,
      pm,
      exp,
      msix,
      af,
    };
  }

  /** Sets initial value and writable bits of a register of 1 to 4 bytes. */
  private define(fn: number, offset: number, bytes: number, value: number, writable = 0): void {
    const w = fn * CONFIG_WORDS + (offset >> 2);
    const shift = 8 * (offset & 3);
    const mask = C.byteMask(bytes) << shift;
    this.initial[w] = (this.initial[w]! & ~mask) | ((value << shift) & mask);
    this.writable[w] = (this.writable[w]! & ~mask) | ((writable << shift) & mask);
  }

  /** A BAR register: its type bits are read-only, and of its address bits those below its size (so that sizing works). */
  private defineBar(fn: number, bar: Bar): void {
    const at = C.PCI_BASE_ADDRESS_0 + 4 * bar.index;
    const type = bar.io
      ? C.PCI_BASE_ADDRESS_SPACE_IO
      : (bar.wide ? C.PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (bar.spec.prefetch === true ? C.PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
    const below = bar.size - 1;
    this.define(fn, at, 4, type, ~(below | 0) & (bar.size > 0x80000000 ? 0 : -1));
    if (bar.wide) this.define(fn, at + 4, 4, 0, ~Math.floor(below / 4294967296));
  }

  /** Firmware: writes the BARs' addresses. Memory decode stays off until a driver enables the device. */
  private assign(f: PciFunction): void {
    for (const bar of f.bars) {
      if (bar === undefined) continue;
      const at = C.PCI_BASE_ADDRESS_0 + 4 * bar.index;
      this.store(f.fn, at, 4, bar.start | 0);
      if (bar.wide) this.store(f.fn, at + 4, 4, Math.floor(bar.start / 4294967296));
    }
    this.refreshDecode(f);
  }

  private loadInitial(fn: number): void {
    for (let w = fn * CONFIG_WORDS; w < (fn + 1) * CONFIG_WORDS; w++) this.config.set(w, this.initial[w]!);
  }

  /** The function with a PCI address, or -1. */
  find(bdf: string): number {
    return this.functions.findIndex((f) => f.bdf === bdf);
  }

  /** Reads a config register of 1, 2 or 4 aligned bytes. @returns an unsigned number */
  read(fn: number, offset: number, size: number): number {
    const word = this.config.a[fn * CONFIG_WORDS + (offset >> 2)]!;
    return ((word >>> (8 * (offset & 3))) & C.byteMask(size)) >>> 0;
  }

  /** Writes the writable bits of a register, without side effects. */
  private store(fn: number, offset: number, size: number, value: number): void {
    const w = fn * CONFIG_WORDS + (offset >> 2);
    const shift = 8 * (offset & 3);
    const mask = (C.byteMask(size) << shift) & this.writable[w]!;
    this.config.set(w, (this.config.a[w]! & ~mask) | ((value << shift) & mask));
  }

  /** A config write of 1, 2 or 4 aligned bytes, as the hardware takes it: masks, then what it sets off. */
  write(fn: number, offset: number, size: number, value: number): void {
    const f = this.functions[fn]!;
    const old = this.read(fn, offset, size);
    this.fabric?.config(f.name, offset, value, true);
    this.store(fn, offset, size, value);
    this.sim.bus.emit(pciConfigWrite, f.name, offset, size, value >>> 0, old);
    const covers = (register: number) => register >= offset && register < offset + size;
    const byteAt = (register: number) => (value >>> (8 * (register - offset))) & 0xff;
    if (f.exp !== 0 && covers(f.exp + C.PCI_EXP_DEVCTL + 1) && (byteAt(f.exp + C.PCI_EXP_DEVCTL + 1) & 0x80) !== 0) {
      if (f.resetMethod === "flr") return this.functionReset(f, "flr");
    }
    if (f.af !== 0 && covers(f.af + C.PCI_AF_CTRL) && (byteAt(f.af + C.PCI_AF_CTRL) & C.PCI_AF_CTRL_FLR) !== 0)
      return this.functionReset(f, "af");
    const control = f.pm + C.PCI_PM_CTRL;
    if (f.pm !== 0 && covers(control)) {
      const before = (old >>> (8 * (control - offset))) & C.PCI_PM_CTRL_STATE_MASK;
      const soft = (this.read(fn, control, 2) & C.PCI_PM_CTRL_NO_SOFT_RESET) === 0;
      if (before === C.PCI_D3HOT && this.powerState(fn) === C.PCI_D0 && soft) return this.functionReset(f, "pm");
    }
    this.refreshDecode(f);
  }

  /** The power state D0..D3hot. */
  powerState(fn: number): number {
    const pm = this.functions[fn]!.pm;
    return pm === 0 ? C.PCI_D0 : this.read(fn, pm + C.PCI_PM_CTRL, 1) & C.PCI_PM_CTRL_STATE_MASK;
  }

  /** True while the function answers memory accesses; a virtual function's enable is its parent's (always on). */
  memoryEnabled(fn: number): boolean {
    const f = this.functions[fn]!;
    return f.spec.vf === true || (this.read(fn, C.PCI_COMMAND, 2) & C.PCI_COMMAND_MEMORY) !== 0;
  }

  /** A reset of the function: config registers and register models start over, BARs are unassigned, decode is off. */
  functionReset(f: PciFunction, method: ResetMethod): void {
    this.loadInitial(f.fn);
    for (const bar of f.bars) bar?.model.reset();
    this.fabric?.functionWasReset(f);
    this.sim.bus.emit(pciReset, f.name, METHODS.indexOf(method));
    this.refreshDecode(f);
  }

  /** The address in a BAR's registers. */
  barAddress(bar: Bar): number {
    const at = C.PCI_BASE_ADDRESS_0 + 4 * bar.index;
    const lo = this.read(bar.fn, at, 4);
    const base = bar.io ? lo & ~3 : lo - (lo & 15);
    return bar.wide ? base + this.read(bar.fn, at + 4, 4) * 4294967296 : base;
  }

  private refreshDecode(f: PciFunction): void {
    const reason = this.powerState(f.fn) !== C.PCI_D0 ? DECODE_POWER : this.memoryEnabled(f.fn) ? DECODES : DECODE_OFF;
    for (const bar of f.bars) {
      if (bar === undefined || bar.io) continue;
      this.decoded.set(bar.id, reason === DECODES ? this.barAddress(bar) : -1 - reason);
    }
  }

  /** The address that the memory BAR of a number decodes now; negative while it decodes nothing: -1 - DECODE_OFF or DECODE_POWER. */
  decodes(id: number): number {
    return this.decoded.a[id]!;
  }

  /** The number of the memory BAR that decodes `size` bytes at a physical address now, or -1. */
  claiming(pa: number, size: number): number {
    const n = this.bars.length;
    for (let id = 0; id < n; id++) {
      const base = this.decodes(id);
      if (pa >= base && base >= 0 && pa + size <= base + this.sizes[id]!) return id;
    }
    return -1;
  }
}
