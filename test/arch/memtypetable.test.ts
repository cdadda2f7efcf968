/**
 * The whole attribute table against a second model, written from the rules and not from the tables: memory
 * types as records with named properties, combined property by property (Arm ARM D8.6, D8.5.5).
 */
import { expect, it } from "vitest";
import { attrTable, combineXs } from "../../src/arch/memtype.js";

type Cacheability = "NC" | "WT" | "WB";
interface Half {
  readonly cache: Cacheability;
  readonly transient: boolean;
  readonly read: boolean;
  readonly write: boolean;
}
type Type =
  | { readonly kind: "device"; readonly gather: boolean; readonly reorder: boolean; readonly early: boolean }
  | { readonly kind: "normal"; readonly outer: Half; readonly inner: Half; readonly tagged: boolean };

const NC: Half = { cache: "NC", transient: false, read: false, write: false };
const half = (n: number): Half => {
  if (n === 4) return NC;
  const bits = n.toString(2).padStart(4, "0");
  return { cache: bits[1] === "1" ? "WB" : "WT", transient: bits[0] === "0", read: bits[2] === "1", write: bits[3] === "1" };
};
const ALLOCATING = { transient: false, read: true, write: true };

/** The type that a MAIR byte names and its XS attribute; undefined: reserved (FEAT_XS and FEAT_MTE2 present). */
function decode(byte: number): { type: Type; xs: boolean } | undefined {
  const text = byte.toString(2).padStart(8, "0");
  const device = (bits: string): Type => ({ kind: "device", gather: bits === "11", reorder: bits[0] === "1", early: bits !== "00" });
  const normal = (outer: Half, inner: Half, tagged = false): Type => ({ kind: "normal", outer, inner, tagged });
  if (text.startsWith("0000")) return text[6] === "1" ? undefined : { type: device(text.slice(4, 6)), xs: text[7] === "0" };
  if (byte === 0x40) return { type: normal(NC, NC), xs: false };
  if (byte === 0xa0) {
    const wt: Half = { cache: "WT", transient: false, read: true, write: false };
    return { type: normal(wt, wt), xs: false };
  }
  const wb: Half = { cache: "WB", ...ALLOCATING };
  if (byte === 0xf0) return { type: normal(wb, wb, true), xs: false };
  if (text.endsWith("0000")) return undefined;
  const outer = half(byte >> 4);
  const inner = half(byte & 15);
  return { type: normal(outer, inner), xs: !(outer.cache === "WB" && inner.cache === "WB") };
}

const RANK: readonly Cacheability[] = ["NC", "WT", "WB"];
const least = (a: Cacheability, b: Cacheability): Cacheability => RANK[Math.min(RANK.indexOf(a), RANK.indexOf(b))]!;
const limit = (h: Half, to: Cacheability): Half => (least(h.cache, to) === "NC" ? NC : { ...h, cache: least(h.cache, to) });
const force = (h: Half): Half => (h.cache === "NC" ? { cache: "WB", ...ALLOCATING } : { ...h, cache: "WB" });
const full = (h: Half): boolean => h.cache === "WB" && h.read && h.write && !h.transient;

/** Both stages: each permission of Device memory is given only if both give it. */
function combined(s1: Type, memAttr: number, fwb: boolean): Type {
  const bits = memAttr.toString(2).padStart(4, "0");
  const device = (at: string): Type => {
    const d = { gather: at === "11", reorder: at[0] === "1", early: at !== "00" };
    if (s1.kind !== "device") return { kind: "device", ...d };
    return { kind: "device", gather: d.gather && s1.gather, reorder: d.reorder && s1.reorder, early: d.early && s1.early };
  };
  const keepTag = (outer: Half, inner: Half): Type => ({
    kind: "normal",
    outer,
    inner,
    tagged: s1.kind === "normal" && s1.tagged && full(outer) && full(inner),
  });
  if (fwb) {
    if (bits[1] === "0") return device(bits.slice(2));
    switch (bits.slice(1)) {
      case "110":
        return s1.kind === "device"
          ? keepTag({ cache: "WB", ...ALLOCATING }, { cache: "WB", ...ALLOCATING })
          : keepTag(force(s1.outer), force(s1.inner));
      case "111":
        return s1;
      default:
        return s1.kind === "device" ? s1 : { kind: "normal", outer: NC, inner: NC, tagged: false };
    }
  }
  if (bits.startsWith("00")) return device(bits.slice(2));
  if (s1.kind === "device") return s1;
  const cache = (b: string): Cacheability => (b === "01" ? "NC" : b === "10" ? "WT" : "WB");
  return keepTag(limit(s1.outer, cache(bits.slice(0, 2))), limit(s1.inner, cache(bits.slice(2))));
}

function encode(t: Type): number {
  if (t.kind === "device") return t.gather ? 0x0c : t.reorder ? 0x08 : t.early ? 0x04 : 0x00;
  if (t.tagged) return 0xf0;
  const nibble = (h: Half): number => {
    if (h.cache === "NC") return 4;
    return (h.transient ? 0 : 8) + (h.cache === "WB" ? 4 : 0) + (h.read ? 2 : 0) + (h.write ? 1 : 0);
  };
  return nibble(t.outer) * 16 + nibble(t.inner);
}

/** How far a location is shared: the wider of both, and all the way where no cache may hold it. */
function shared(t: Type, a: number, b: number): number {
  if (t.kind === "device" || (t.outer.cache === "NC" && t.inner.cache === "NC")) return 2;
  const wide = [0, 3, 2];
  return wide[Math.max(wide.indexOf(a), wide.indexOf(b))]!;
}

it("agrees with the rules in every row", () => {
  const want: string[] = [];
  for (let s1 = 0; s1 < 256; s1++) {
    const d = decode(s1);
    if (d === undefined) continue;
    for (let m = 0; m < 16; m++) {
      for (const fwb of [0, 1] as const) {
        // Without FEAT_MTE_PERM: 0100, 1x00 without FWB; 0100 and everything with bit 3 with it.
        if (fwb === 1 ? m > 7 || m === 4 : m % 4 === 0 && m > 0) continue;
        const t = combined(d.type, m, fwb === 1);
        for (const a of [0, 2, 3]) for (const b of [0, 2, 3]) want.push(`${s1} ${m} ${fwb} ${a} ${b} ${encode(t)} ${shared(t, a, b)}`);
      }
    }
  }
  const got = [...attrTable()].map((r) => `${r.s1attr} ${r.s2memattr} ${r.fwb} ${r.s1sh} ${r.s2sh} ${r.attr} ${r.sh}`);
  expect(got.length).toBe(236 * 9 * 20);
  expect(got.filter((g, i) => g !== want[i])).toEqual([]);
  expect(want.length).toBe(got.length);
});

it("XS agrees with the rules for every pair and FnXS", () => {
  const wrong: string[] = [];
  for (let s1 = 0; s1 < 256; s1++) {
    const d = decode(s1);
    if (d === undefined) continue;
    for (let m = 0; m < 16; m++) {
      for (const fwb of [false, true]) {
        if (fwb ? m > 7 || m === 4 : m % 4 === 0 && m > 0) continue;
        const t = combined(d.type, m, fwb);
        const both = t.kind === "normal" && t.outer.cache === "WB" && t.inner.cache === "WB";
        const forced = fwb && m === 6;
        const plain = (fwb ? forced : both) ? false : d.xs;
        for (const fnxs of [false, true]) {
          if ((combineXs(s1, m, fwb, fnxs) === 1) !== (plain && !fnxs)) wrong.push(`${s1} ${m} ${fwb} ${fnxs}`);
        }
      }
    }
  }
  expect(wrong).toEqual([]);
});
