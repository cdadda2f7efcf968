/** Completion: the words that may stand at the cursor, and which characters before it they replace. */
import { candidatesAt } from "./candidates.js";
import { placeAt } from "./place.js";
import type { Word } from "./word.js";

export interface Completion {
  readonly words: readonly Word[];
  /** Offset of the first character that a chosen word replaces. */
  readonly from: number;
}

/** The beginning of a word before the cursor. Eras, CPUs, B.cond and PCI addresses hold dots, dashes and colons. */
const NARROW = /[A-Za-z0-9_]*$/;
const WIDE = /[A-Za-z0-9_.][A-Za-z0-9_.:-]*$/;

export function completeAt(text: string, at: number): Completion {
  const line = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  const narrow = at - (NARROW.exec(line)?.[0].length ?? 0);
  const wide = at - (WIDE.exec(line)?.[0].length ?? 0);
  const none = { words: [], from: at };
  const place = placeAt(text, wide);
  if (place === undefined) return none;
  const typed = text.slice(wide, at).toLowerCase();
  if (wide < narrow) {
    // cortex-a7 is one word where a CPU stands, and a difference of two where a number stands.
    const words = candidatesAt(place);
    if (words.some((w) => w.name.toLowerCase().startsWith(typed))) return { words, from: wide };
  }
  const here = placeAt(text, narrow);
  return here === undefined ? none : { words: candidatesAt(here), from: narrow };
}
