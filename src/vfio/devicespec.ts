/**
 * What a user says of a PCI function: where it sits, its BARs, what answers behind them, how it can be reset.
 * Also the three functions of the recorded machine.
 */
import { FaultlineError } from "../sim/errors.js";

/** What answers behind a BAR. */
export type ModelName = "memory" | "edu" | "ivshmem" | "testdev" | "registers";
export type ResetMethod = "none" | "flr" | "af" | "pm" | "bus";

export interface BarSpec {
  /** 0 to 5; a 64-bit BAR also takes the next register. */
  readonly index: number;
  /** Bytes, a power of two; at least 16 for memory, 4 for I/O. */
  readonly size: number;
  /** Address width of a memory BAR; 32 if absent. */
  readonly bits?: 32 | 64;
  readonly prefetch?: boolean;
  /** An I/O BAR: not mappable, reached by read() and write() only. */
  readonly io?: boolean;
  /** "memory" if absent. */
  readonly model?: ModelName;
  /**
   * Coherent memory of the device that a variant driver (nvgrace-gpu) shows as this region and maps itself: cacheable, all of it
   * at mmap, and not touched by a reset or Memory Space Enable.
   */
  readonly coherent?: boolean;
  /** Physical address; placed by the host bridge if absent. */
  readonly at?: number;
}

export interface DeviceSpec {
  /** Domain:bus:device.function, as `0000:00:04.0`. */
  readonly bdf: string;
  /** Config-space identification; class is the 24-bit class code. */
  readonly vendor?: number;
  readonly device?: number;
  readonly class?: number;
  readonly revision?: number;
  readonly bars: readonly BarSpec[];
  /** How the function can be reset; "none" makes VFIO_DEVICE_RESET answer EINVAL. */
  readonly reset?: ResetMethod;
  /** Has a PCI Express capability and 4096 bytes of config space; implied by reset "flr". */
  readonly pcie?: boolean;
  /** Has a power-management capability; implied by reset "pm". */
  readonly pm?: boolean;
  /** MSI-X: table in this BAR at this offset, with so many 16-byte entries. */
  readonly msix?: { readonly bar: number; readonly offset: number; readonly vectors: number };
  /** An SR-IOV virtual function: its command register has no memory enable. */
  readonly vf?: boolean;
}

/** Functions by the name that scripts use. */
export const KNOWN_DEVICES: Readonly<Record<"edu" | "testdev" | "ivshmem" | "gpu" | "nic", DeviceSpec>> = {
  /** A GPU as nvgrace-gpu shows it: registers in BAR 0, coherent memory as region 4 (usemem), at an address of its own. */
  gpu: {
    bdf: "0000:00:07.0",
    vendor: 0x10de,
    device: 0x2342,
    class: 0x030200,
    bars: [
      { index: 0, size: 0x1000000, bits: 64, model: "registers", at: 0x8002000000 },
      { index: 4, size: 0x4000000, bits: 64, prefetch: true, model: "memory", at: 0x8004000000, coherent: true },
    ],
    reset: "flr",
  },
  edu: {
    bdf: "0000:00:04.0",
    vendor: 0x1234,
    device: 0x11e8,
    class: 0x00ff00,
    revision: 0x10,
    bars: [{ index: 0, size: 0x100000, model: "edu", at: 0x10000000 }],
  },
  testdev: {
    bdf: "0000:00:05.0",
    vendor: 0x1b36,
    device: 0x0005,
    class: 0x00ff00,
    bars: [
      { index: 0, size: 0x1000, model: "testdev", at: 0x10100000 },
      { index: 1, size: 0x100, io: true, model: "testdev" },
      { index: 2, size: 0x1000000, bits: 64, prefetch: true, model: "memory", at: 0x8000000000 },
    ],
  },
  ivshmem: {
    bdf: "0000:00:06.0",
    vendor: 0x1af4,
    device: 0x1110,
    class: 0x050000,
    revision: 1,
    bars: [
      { index: 0, size: 0x100, model: "ivshmem", at: 0x10101000 },
      { index: 2, size: 0x1000000, bits: 64, prefetch: true, model: "memory", at: 0x8001000000 },
    ],
  },
  // A PCIe function of a network adapter: registers with a doorbell, a buffer that write combining is for, FLR.
  nic: {
    bdf: "0000:01:00.0",
    vendor: 0x15b3,
    device: 0x101e,
    class: 0x020000,
    pcie: true,
    reset: "flr",
    bars: [
      { index: 0, size: 0x10000, bits: 64, model: "registers", at: 0x8008000000 },
      { index: 2, size: 0x100000, bits: 64, prefetch: true, model: "memory", at: 0x8008100000 },
    ],
  },
};

/** The devices of the recordings. */
const RECORDED_DEVICES: readonly string[] = ["edu", "testdev", "ivshmem"];

const BDF = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-1][0-9a-f])\.([0-7])$/i;

/** The canonical form `0000:00:04.0`. @throws Error for anything that is no PCI address. */
export function canonicalBdf(text: string): string {
  const m = BDF.exec(text);
  if (m === null) throw new FaultlineError(`${text} is no PCI address; expected one like 0000:00:04.0`);
  return `${m[1] ?? "0000"}:${m[2]!}:${m[3]!}.${m[4]!}`.toLowerCase();
}

/** Names and specs to checked specs; "recorded" stands for the devices of the recordings. @throws Error that names the device, the field and what was expected. */
export function deviceSpecs(devices: readonly (string | DeviceSpec)[]): DeviceSpec[] {
  const all = devices.flatMap((d): readonly (string | DeviceSpec)[] => (d === "recorded" ? RECORDED_DEVICES : [d]));
  const specs = all.map((d) => (typeof d === "string" ? knownDevice(d) : checked(d)));
  const seen = new Set<string>();
  for (const s of specs) {
    if (seen.has(s.bdf)) throw new FaultlineError(`two devices at ${s.bdf}`);
    seen.add(s.bdf);
  }
  return specs;
}

function knownDevice(name: string): DeviceSpec {
  const spec = Object.hasOwn(KNOWN_DEVICES, name) ? KNOWN_DEVICES[name as keyof typeof KNOWN_DEVICES] : undefined;
  if (spec === undefined)
    throw new FaultlineError(`no device named ${name}; expected one of ${Object.keys(KNOWN_DEVICES).join(", ")} or a description`);
  return spec;
}

function checked(spec: DeviceSpec): DeviceSpec {
  const bdf = canonicalBdf(spec.bdf);
  const fail = (what: string): never => {
    throw new FaultlineError(`device ${bdf}: ${what}`);
  };
  const taken = new Set<number>();
  const take = (index: number) => (taken.has(index) ? fail(`BAR ${index} is used twice`) : taken.add(index));
  for (const bar of spec.bars) {
    if (!Number.isInteger(bar.index) || bar.index < 0 || bar.index > 5) fail(`BAR index ${bar.index}; expected 0 to 5`);
    take(bar.index);
    if (bar.bits === 64) {
      if (bar.io === true) fail(`BAR ${bar.index} is an I/O BAR and cannot be 64-bit`);
      if (bar.index === 5) fail("BAR 5 cannot be 64-bit: there is no register after it");
      take(bar.index + 1);
    }
    const least = bar.io === true ? 4 : 16;
    if (!Number.isInteger(Math.log2(bar.size)) || bar.size < least)
      fail(`BAR ${bar.index} has ${bar.size} bytes; expected a power of two of at least ${least}`);
    if (bar.bits !== 64 && bar.size > 0x80000000) fail(`BAR ${bar.index} is larger than 2 GiB and needs bits: 64`);
    if (bar.size > 2 ** 40) fail(`BAR ${bar.index} is larger than the 1 TiB that a region offset can address`);
    if (bar.at !== undefined && bar.at % bar.size !== 0) fail(`BAR ${bar.index} at ${bar.at.toString(16)} is not aligned to its size`);
  }
  const msix = spec.msix;
  if (msix !== undefined) {
    const bar = spec.bars.find((b) => b.index === msix.bar);
    if (bar === undefined || bar.io === true) fail(`MSI-X table in BAR ${msix.bar}, which is no memory BAR`);
    if (msix.offset % 8 !== 0 || msix.vectors < 1 || msix.vectors > 2048)
      fail("MSI-X: expected an offset in steps of 8 and 1 to 2048 vectors");
    if (msix.offset + 16 * msix.vectors > bar!.size) fail("MSI-X table reaches beyond its BAR");
  }
  return { ...spec, bdf };
}
