/**
 * Decoding: an A64 word to the flat fields that the interpreter switches on. Works from the table of
 * forms; a word that no form matches, or whose form needs a feature that the CPU lacks, is Undefined.
 */
import { FORMS, type Form } from "./a64forms.js";
import { F_HI, F_ISS, F_LO, F_OP, F_RA, F_RD, F_RM, F_RN, FIELD_WORDS, Op } from "./a64ops.js";
import type { FeatureSwitches } from "./features.js";

/** Forms by bits 31:24, in table order. */
const BUCKETS: readonly (readonly Form[])[] = (() => {
  const buckets: Form[][] = Array.from({ length: 256 }, () => []);
  for (const f of FORMS) {
    if (f.spelling === true) continue;
    const mask = f.mask >>> 24;
    const match = f.match >>> 24;
    // Every value of the byte's free bits.
    for (let free = 0; ; free = (free - (~mask & 0xff)) & ~mask & 0xff) {
      buckets[match | free]!.push(f);
      if (free === (~mask & 0xff)) break;
    }
  }
  return buckets;
})();

const SCRATCH = new Int32Array(FIELD_WORDS);

/** The form of a word, or undefined. Without features every form exists. */
export function formOf(word: number, features?: FeatureSwitches, fields: Int32Array = SCRATCH): Form | undefined {
  for (const f of BUCKETS[word >>> 24]!) {
    if ((word & f.mask) !== f.match) continue;
    if (f.feature !== undefined && features !== undefined && !features[f.feature]) continue;
    fields[F_OP] = f.op;
    fields[F_RD] = 2 * (word & 31);
    fields[F_RN] = 2 * ((word >>> 5) & 31);
    fields[F_RM] = 2 * ((word >>> 16) & 31);
    fields[F_RA] = 0;
    fields[F_LO] = 0;
    fields[F_HI] = 0;
    fields[F_ISS] = 0;
    if (f.fields === undefined || f.fields(word, fields)) return f;
  }
  return undefined;
}

/** Decodes a word into `out[at…]` (see F_OP and its neighbours). @returns its Op */
export function decodeInto(word: number, features: FeatureSwitches, out: Int32Array, at: number): Op {
  const form = formOf(word, features, SCRATCH);
  if (form === undefined) {
    SCRATCH.fill(0);
    SCRATCH[F_OP] = Op.Undefined;
    SCRATCH[F_LO] = word;
  }
  out.set(SCRATCH, at);
  return SCRATCH[F_OP]!;
}
