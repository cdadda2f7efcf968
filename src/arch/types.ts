/**
 * Address kinds kept apart at compile time at no cost at run time: a plain number may become any of
 * them, but an Ipa is no Pa. All are byte addresses or 4 KiB page numbers below 2^53.
 */
type Flavoured<K extends string> = number & { readonly __kind?: K };

/** Intermediate physical address: what stage 1 gives and stage 2 takes. */
export type Ipa = Flavoured<"Ipa">;
/** Host virtual address, in the VMM's address space. */
export type Hva = Flavoured<"Hva">;
/** Physical address on the machine's bus. */
export type Pa = Flavoured<"Pa">;
/** Guest virtual address below 2^53; full 64-bit ones are carried as a pair of words. */
export type Gva = Flavoured<"Gva">;
/** Host physical page number: Pa >> 12. */
export type Pfn = Flavoured<"Pfn">;
/** Guest page number: Ipa >> 12. */
export type Gfn = Flavoured<"Gfn">;

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
const WORD = 4294967296;

/** High word of a number below 2^53, as a signed 32-bit value. */
export function hiWord(n: number): number {
  return (n / WORD) | 0;
}
/** Low word of a number below 2^53, as a signed 32-bit value. */
export function loWord(n: number): number {
  return n | 0;
}
/** The number of two words; exact while the high word is below 2^21. */
export function joinWords(hi: number, lo: number): number {
  return (hi >>> 0) * WORD + (lo >>> 0);
}
/** The page number of a byte address. */
export function pageOf(address: number): number {
  return Math.floor(address / PAGE_SIZE);
}

/** 2^n for n below 64: a look-up, because Math.pow has no place on a walk. */
export const POW2: Float64Array = Float64Array.from({ length: 64 }, (_, n) => 2 ** n);
