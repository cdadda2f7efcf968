/**
 * Where a litmus test's symbols live. Each symbol is a page; stage 1 maps it by one descriptor of a table that is mapped
 * itself, so that guest code writes descriptors as it writes anything else.
 *
 * address           | what
 * VA 0x10000000 + n | page of symbol n, level-3 table LEAF_TABLE
 * VA 0x101ff000     | that level-3 table: pte_NAME
 * VA 0x101fe000     | the level-2 table: pmd_NAME
 * VA 0x10200000     | symbol q alone, under a level-3 table of its own (pte_q at VA 0x101fd000)
 * VA 0x40000000     | code
 */
import { leafHi, leafLo } from "../arch/descriptors.js";

export const SYMBOLS = ["x", "y", "z", "w", "f", "n", "c", "u", "d", "e", "o", "p", "r", "s", "t", "g", "m", "k"] as const;
/** Under a second level-3 table. */
export const OTHER = "q";

export const DATA_VA = 0x10000000;
const LEAF_TABLE_VA = 0x101ff000;
const MIDDLE_TABLE_VA = 0x101fe000;
const OTHER_TABLE_VA = 0x101fd000;
const OTHER_VA = 0x10200000;

/** Physical pages, from the base of RAM. */
export const RAM = 0x40000000;
export const CODE_PA = RAM;
export const TABLES_PA = RAM + 0x200000;
export const ROOT_PA = TABLES_PA;
export const MIDDLE_PA = TABLES_PA + 0x1000;
export const LEAF_PA = TABLES_PA + 0x2000;
export const OTHER_PA = TABLES_PA + 0x3000;
export const CODE_MIDDLE_PA = TABLES_PA + 0x4000;
export const DATA_PA = RAM + 0x400000;

/** MAIR_EL1: index -> byte. */
export const MAIR = [0x00, 0xff, 0x0c, 0x44, 0x04, 0x08, 0x00, 0x44] as const;
const TYPES: Readonly<Record<string, number>> = { nGnRnE: 0, wb: 1, gre: 2, nc: 3, nGnRE: 4, nGRE: 5, attr7: 7 };

export function symbolIndex(name: string): number {
  return name === OTHER ? SYMBOLS.length : (SYMBOLS as readonly string[]).indexOf(name);
}
export function vaOf(name: string): number {
  return name === OTHER ? OTHER_VA : DATA_VA + symbolIndex(name) * 4096;
}
/** The page that a symbol means when it stands for physical memory. */
export function paOf(name: string): number {
  return DATA_PA + symbolIndex(name) * 4096;
}
/** VA of a symbol's leaf descriptor. */
export function pteVa(name: string): number {
  return name === OTHER ? OTHER_TABLE_VA : LEAF_TABLE_VA + symbolIndex(name) * 8;
}
export function ptePa(name: string): number {
  return name === OTHER ? OTHER_PA : LEAF_PA + symbolIndex(name) * 8;
}
/** VA of the level-2 descriptor above a symbol. */
export function pmdVa(name: string): number {
  return MIDDLE_TABLE_VA + (name === OTHER ? 129 : 128) * 8;
}
export { LEAF_TABLE_VA, MIDDLE_TABLE_VA, OTHER_TABLE_VA };

/** Attributes that may follow a page in a descriptor's name: `y_ro`, `x_af0_nc`. */
export const LEAF_ATTRIBUTES = ["ro", "af0", "dbm", "ng", ...Object.keys(TYPES)] as const;

/** A leaf descriptor's value. @param text a symbol with attributes, or "invalid" @param pa of the symbol @returns undefined if it is none */
export function leafValue(text: string, pa: (symbol: string) => number | undefined): bigint | undefined {
  if (text === "invalid") return 0n;
  const [symbol, ...attributes] = text.split("_");
  const page = pa(symbol!);
  if (page === undefined) return undefined;
  // AP[2:1] = 01: EL1 and EL0 read-write would forbid EL1 execution; 00: EL1 only.
  let index = 1;
  let ro = false;
  let af = true;
  let dbm = false;
  let ng = false;
  for (const a of attributes) {
    if (a === "ro") ro = true;
    else if (a === "af0") af = false;
    else if (a === "dbm") dbm = ro = true;
    else if (a === "ng") ng = true;
    else if (TYPES[a] !== undefined) index = TYPES[a];
    else return undefined;
  }
  const low = (index << 2) | (3 << 8) | (af ? 1 << 10 : 0) | (ro ? 1 << 7 : 0) | (ng ? 1 << 11 : 0);
  const lo = leafLo(page, 3, low) >>> 0;
  const hi = leafHi(page, dbm ? 1 << 19 : 0) >>> 0;
  return (BigInt(hi) << 32n) | BigInt(lo);
}
