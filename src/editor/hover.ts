/** Hover: what the word under the pointer is, by the place it stands in. */
import { candidatesAt } from "./candidates.js";
import { placeAt } from "./place.js";
import type { Word } from "./word.js";

export interface Hover {
  readonly word: Word;
  readonly from: number;
  readonly to: number;
}

/** Words as wide as they can be, then without dots and dashes: Device-nGnRE is one word, RAM-8 is two. */
const WORDS = [/\.?[A-Za-z0-9_][A-Za-z0-9_.:-]*/g, /\.?[A-Za-z0-9_][A-Za-z0-9_.]*/g, /[A-Za-z0-9_]+/g];

export function hoverAt(text: string, at: number): Hover | undefined {
  const lineStart = text.lastIndexOf("\n", at - 1) + 1;
  const end = text.indexOf("\n", at);
  const line = text.slice(lineStart, end < 0 ? text.length : end);
  for (const pattern of WORDS) {
    for (const m of line.matchAll(pattern)) {
      const from = lineStart + m.index;
      const to = from + m[0].length;
      if (from > at || to < at) continue;
      const place = placeAt(text, from);
      if (place === undefined) return undefined;
      const name = m[0].replace(/:$/, "");
      const words = candidatesAt(place);
      const found = words.find((w) => w.name === name) ?? words.find((w) => w.name.toLowerCase() === name.toLowerCase());
      if (found !== undefined) return { word: found, from, to: from + name.length };
    }
  }
  return undefined;
}
