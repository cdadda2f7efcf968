/** The places of src/kvm whose removal must break an invariant: every half of the retry check, every TLBI, every DSB. */
import { readFileSync } from "node:fs";

export interface Site {
  /** What is removed: file, function, which one in it. */
  readonly name: string;
  readonly file: string;
  /** The text of the whole file with it removed. */
  readonly without: string;
}

const FILES = ["src/kvm/usermemabort.ts", "src/kvm/tlbflush.ts"];
/** A condition of the retry check becomes false; a statement goes. */
const REMOVED: readonly (readonly [string, RegExp, string])[] = [
  ["retry check", /vms\.inProgress\(vm\) !== 0 \|\| /g, ""],
  ["retry check", / \|\| vms\.seq\(vm\) !== s\[f \+ SEQ\]!/g, ""],
  ["TLBI", /(?<=\n[^\n]*[\s;])this\.tlbi\((?:[^;]*)\);/g, ";"],
  ["DSB", /(?<=\n[^\n]*[\s;])this\.dsb\((?:[^;]*)\);/g, ";"],
];

export function sites(): Site[] {
  return FILES.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    const counts = new Map<string, number>();
    return REMOVED.flatMap(([what, pattern, instead]) =>
      [...text.matchAll(pattern)].map((m) => {
        const before = [...text.slice(0, m.index).matchAll(/\n {2}(?:private )?([a-zA-Z0-9]+)\([^\n]*\{/g)].at(-1)?.[1] ?? "";
        const key = `${file} ${before}: ${what}`;
        const n = (counts.get(key) ?? 0) + 1;
        counts.set(key, n);
        return { name: `${key} ${n}`, file, without: text.slice(0, m.index) + instead + text.slice(m.index + m[0].length) };
      }),
    );
  });
}
