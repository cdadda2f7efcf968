/** A host of one era with its memory management and vfio-pci; no KVM, and a CPU that walks the host tables without a TLB. */
import { cpuProfile } from "../../src/arch/features.js";
import { PhysicalMemory } from "../../src/arch/phys.js";
import { TablePages } from "../../src/arch/tables.js";
import { eraRow } from "../../src/eras.js";
import { HostMm } from "../../src/mmu/mm.js";
import { mmapMode } from "../../src/mmu/mmap.js";
import type { Activity } from "../../src/sim/agents.js";
import type { EventRecord } from "../../src/sim/events.js";
import { Sim } from "../../src/sim/sim.js";
import type { DeviceSpec } from "../../src/vfio/devicespec.js";
import { VfioPci } from "../../src/vfio/driver.js";

export const MIB = 0x100000;
/** Where the tests map BARs. */
export const AT = 0x7f0000000000;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;

/** A device with every capability, alone behind a bridge. */
export const NIC: DeviceSpec = {
  bdf: "0000:01:00.0",
  bars: [
    { index: 0, size: 0x4000, model: "registers" },
    { index: 2, size: 16 * MIB, bits: 64, prefetch: true },
  ],
  reset: "flr",
  pm: true,
  msix: { bar: 0, offset: 0x2000, vectors: 16 },
};

export function host(kernel: string, devices: readonly (string | DeviceSpec)[] = ["recorded"], set: Readonly<Record<string, string>> = {}) {
  const sim = new Sim();
  const vmm = sim.agents.add("vmm", "vmm", 0);
  const other = sim.agents.add("other", "vmm", 1);
  const row = eraRow(kernel, set);
  const phys = new PhysicalMemory(sim, { ramBase: 2 ** 30, ramSize: 2 ** 28 });
  const tables = new TablePages(sim, phys, { base: 0xc000000000, size: 2 ** 28 });
  const pe = {
    hostLoad: (pa: number, size: number) => (phys.read(pa, size), 0),
    hostStore: (pa: number, size: number, lo: number, hi: number) => phys.write(pa, size, lo, hi),
    dma: () => undefined,
    lineOp: () => undefined,
    hostLookup(_root: number, mm: number, hva: number, write: boolean): number {
      const { pt } = hostMm;
      if (!pt.walk(mm, hva) || !pt.valid || (write && !pt.writable)) return -1;
      return pt.leafPfn * 4096 + (hva % 4096);
    },
    tlbi: () => {},
    dsb: () => {},
  };
  const hostMm: HostMm = new HostMm(sim, phys, tables, pe, cpuProfile("max"), row.mm);
  const vfio = new VfioPci(sim, phys, hostMm, row.vfio, devices);
  const events: EventRecord[] = [];
  sim.bus.on("*", (e) => events.push(e));

  /** Runs an activity to its end on an agent. */
  const run = (act: Activity, ...args: number[]): number => runOn(vmm, act, ...args);
  const runOn = (agent: number, act: Activity, ...args: number[]): number => {
    sim.agents.start(agent, act, ...args);
    if (!sim.agents.runToEnd(agent)) throw new Error(`blocked: ${sim.agents.backtrace(agent).join(" < ")}`);
    return sim.agents.result(agent);
  };
  const open = (bdf: string): number => {
    const dev = vfio.find(bdf);
    run(vfio.open, dev);
    return dev;
  };
  /** mmap of a region at a fixed address. */
  const mmap = (dev: number, index: number, offset: number, length: number, addr = AT, flags = MAP_SHARED): number =>
    run(hostMm.syscalls.mmap, 0, addr, length, mmapMode(3, flags | MAP_FIXED), vfio.file(dev), vfio.regionOffset(index, offset));
  const load = (hva: number, size = 4): number | bigint => {
    const ret = run(hostMm.hostAccess, 0, hva, size, 0, 0, 0);
    return ret < 0
      ? ret
      : BigInt.asUintN(8 * size, (BigInt(sim.agents.result(vmm, 2) >>> 0) << 32n) | BigInt(sim.agents.result(vmm, 1) >>> 0));
  };
  const store = (hva: number, value: number, size = 4): number => run(hostMm.hostAccess, 0, hva, size, 1, value | 0, 0);
  /** A config access; reads give the value, errors the negative errno. */
  const configRead = (dev: number, offset: number, size: number): number => {
    const ret = run(vfio.configRw, dev, offset, size, 0, 0, 0);
    return ret < 0 ? ret : sim.agents.result(vmm, 1) >>> 0;
  };
  const configWrite = (dev: number, offset: number, size: number, value: number): number =>
    run(vfio.configRw, dev, offset, size, 1, value | 0, 0);
  /** The text of the events of some kinds since the last call. */
  const trace = (...names: string[]): string[] => {
    const out = events.filter((e) => names.includes(e.event)).map(line);
    events.length = 0;
    return out;
  };
  /** What lies in the host's tables for an address: size of the leaf and its pfn, or "none". */
  const leaf = (hva: number): string => {
    const { pt } = hostMm;
    return pt.walk(0, hva) ? `${pt.leafSize / 1024}K ${(pt.leafPfn * 4096).toString(16)}` : "none";
  };
  /** Number of 4 KiB pages of [start, end) that are mapped. */
  const mapped = (start: number, end: number): number => {
    let n = 0;
    for (let a = start; a < end; a += 4096) if (hostMm.pt.walk(0, a)) n++;
    return n;
  };
  return {
    sim,
    vmm,
    other,
    row,
    phys,
    mm: hostMm,
    vfio,
    run,
    runOn,
    open,
    mmap,
    load,
    store,
    configRead,
    configWrite,
    trace,
    leaf,
    mapped,
    events,
  };
}

export type Host = ReturnType<typeof host>;

/** Offsets from AT instead of addresses. */
function line(e: EventRecord): string {
  const at = (name: string) => (((e[name] as number) - AT) / 4096).toString();
  switch (e.event) {
    case "mmu_notifier_invalidate_range_start":
      return `start ${at("start")}-${at("end")} ${e["type"]}`;
    case "vfio_zap_vma":
      return `zap ${at("start")}-${at("end")}`;
    case "vfio_fault":
    case "vfio_huge_fault":
      return `${e.event} 0x${(e["ret"] as number).toString(16)}`;
    case "lock_acquired":
      return `lock ${e["lock"]} ${e["mode"]}`;
    case "vfio_zap":
      return `vfio_zap ${e["function"]}`;
    default:
      return e.event;
  }
}
