/**
 * Where firmware puts the BARs: the windows of the host bridge in physical address space, and first-fit placement
 * in them by natural alignment (a BAR is aligned to its size, so two small ones can share a page).
 */
import type { DeviceSpec } from "./devicespec.js";

/** A range of physical addresses that the host bridge forwards. */
export interface Aperture {
  readonly base: number;
  readonly size: number;
}

/** 32-bit memory: below the machine's RAM. */
export const APERTURE_32: Aperture = { base: 0x10000000, size: 0x2eff0000 };
/** 64-bit memory, below the window of translation tables. */
export const APERTURE_64: Aperture = { base: 0x8000000000, size: 0x4000000000 };
/** I/O ports, as bus addresses. */
const APERTURE_IO: Aperture = { base: 0x1000, size: 0xf000 };

interface Placed {
  readonly at: number;
  readonly size: number;
}

/**
 * Places every BAR: those with an address first, the others in the order of the devices.
 * @returns per device, per BAR of its spec, the address
 * @throws Error if two BARs overlap, one lies outside the bridge's windows or there is no room
 */
export function placeBars(specs: readonly DeviceSpec[]): number[][] {
  const taken = { io: [] as Placed[], memory: [] as Placed[] };
  const starts = specs.map((s) => s.bars.map(() => -1));
  const place = (fn: number, n: number, at: number) => {
    const bar = specs[fn]!.bars[n]!;
    (bar.io === true ? taken.io : taken.memory).push({ at, size: bar.size });
    starts[fn]![n] = at;
  };
  specs.forEach((spec, fn) =>
    spec.bars.forEach((bar, n) => {
      if (bar.at === undefined) return;
      const where = `device ${spec.bdf}: BAR ${bar.index} at 0x${bar.at.toString(16)}`;
      const windows = bar.io === true ? [APERTURE_IO] : bar.bits === 64 ? [APERTURE_32, APERTURE_64] : [APERTURE_32];
      if (!windows.some((w) => bar.at! >= w.base && bar.at! + bar.size <= w.base + w.size))
        throw new Error(`${where} lies outside the host bridge's windows`);
      if (clash(bar.io === true ? taken.io : taken.memory, bar.at, bar.size) !== undefined)
        throw new Error(`${where} overlaps another BAR`);
      place(fn, n, bar.at);
    }),
  );
  specs.forEach((spec, fn) =>
    spec.bars.forEach((bar, n) => {
      if (bar.at !== undefined) return;
      const window = bar.io === true ? APERTURE_IO : bar.bits === 64 ? APERTURE_64 : APERTURE_32;
      const at = firstFit(bar.io === true ? taken.io : taken.memory, window, bar.size);
      if (at < 0) throw new Error(`device ${spec.bdf}: no room for BAR ${bar.index} of ${bar.size} bytes`);
      place(fn, n, at);
    }),
  );
  return starts;
}

function clash(taken: readonly Placed[], at: number, size: number): Placed | undefined {
  return taken.find((p) => at < p.at + p.size && p.at < at + size);
}

function firstFit(taken: readonly Placed[], window: Aperture, size: number): number {
  let at = Math.ceil(window.base / size) * size;
  for (;;) {
    if (at + size > window.base + window.size) return -1;
    const other = clash(taken, at, size);
    if (other === undefined) return at;
    at = Math.ceil((other.at + other.size) / size) * size;
  }
}
