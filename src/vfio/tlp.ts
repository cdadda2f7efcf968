/**
 * Transaction layer packets (PCI Express base specification 2.2): which memory write requests a host bridge makes of
 * the bytes that leave a CPU, with their byte enables; and which request may pass which (2.4.1, table of ordering).
 *
 * Byte-enable rules (2.2.5): of one DW any pattern; of two DW in one aligned quadword any pattern; of more, the bytes
 * must be one run. A request stays within 4 KiB, which a line does by itself, and within Max_Payload_Size.
 */
import { LINE, runsOf } from "../arch/storebuffer.js";

/** One memory write: its first DW and the bytes it writes, all in one 64-byte line. */
export interface MemoryWrite {
  /** Offset of its first DW in the line, a multiple of 4. */
  readonly first: number;
  /** Length in DW. */
  readonly dwords: number;
  /** Bits of the first and last DW; lastBe is 0 for one DW. */
  readonly firstBe: number;
  readonly lastBe: number;
  /** Bytes of the line that it writes. */
  readonly maskLo: number;
  readonly maskHi: number;
}

const WHOLE_LINE: readonly MemoryWrite[] = [request(0, LINE, -1, -1)];

/** Cuts the masked bytes of a line into memory writes. @param maxPayload Max_Payload_Size in bytes, 16 … 4096 */
export function memoryWrites(maskLo: number, maskHi: number, maxPayload: number): readonly MemoryWrite[] {
  if ((maskLo & maskHi) === -1 && maxPayload >= LINE) return WHOLE_LINE;
  const out: MemoryWrite[] = [];
  let lo = 0;
  let hi = 0;
  let first = 0;
  let end = 0;
  const flush = (): void => {
    if (end > first) out.push(request(first, end, lo, hi));
    lo = hi = 0;
    first = end = 0;
  };
  for (const [from, length] of runsOf(maskLo, maskHi)) {
    for (let at = from; at < from + length;) {
      const to = Math.min(from + length, (Math.floor(at / maxPayload) + 1) * maxPayload);
      // A run that shares an aligned quadword with all there is so far goes into the same request.
      if (end > first && (first >> 3 !== (to - 1) >> 3 || Math.floor(first / maxPayload) !== Math.floor(at / maxPayload))) flush();
      if (end === first) first = at;
      end = to;
      for (let b = at; b < to; b++) {
        if (b < 32) lo |= 1 << b;
        else hi |= 1 << (b - 32);
      }
      at = to;
    }
  }
  flush();
  return out;
}

function request(first: number, end: number, maskLo: number, maskHi: number): MemoryWrite {
  const firstDw = first >> 2;
  const lastDw = (end - 1) >> 2;
  const be = (dw: number): number => ((dw < 8 ? maskLo : maskHi) >>> ((dw & 7) * 4)) & 15;
  return {
    first: firstDw * 4,
    dwords: lastDw - firstDw + 1,
    firstBe: be(firstDw),
    lastBe: lastDw === firstDw ? 0 : be(lastDw),
    maskLo,
    maskHi,
  };
}

/** Classes of the ordering table. */
export const POSTED = 0;
export const NON_POSTED_READ = 1;
/** Configuration writes, I/O writes, AtomicOps. */
export const NON_POSTED_DATA = 2;
export const COMPLETION = 3;
export type TlpClass = 0 | 1 | 2 | 3;

/** May the row pass the column? "no" is forbidden, "yes" must be possible, "may" is left to the implementation. */
export type Passing = "no" | "yes" | "may";

const TABLE: readonly (readonly Passing[])[] = [
  ["no", "yes", "yes", "may"],
  ["no", "may", "may", "may"],
  ["no", "may", "may", "may"],
  ["no", "yes", "yes", "may"],
];

/**
 * The ordering table of one traffic class: may a later TLP pass an earlier one?
 * @param relaxed the later one has Relaxed Ordering set (never so for configuration requests)
 * @param otherRequester ID-based ordering is set and the requesters differ
 */
export function mayPass(later: TlpClass, earlier: TlpClass, relaxed = false, otherRequester = false): Passing {
  const plain = TABLE[later]![earlier]!;
  if (earlier !== POSTED || plain !== "no") return plain;
  // Relaxed Ordering frees posted requests, requests with data and completions; a read is freed by IDO alone.
  return (relaxed && later !== NON_POSTED_READ) || otherRequester ? "may" : "no";
}
