/**
 * The places whose removal must break an invariant, read from the source: both halves of the retry check, every TLBI and
 * every DSB of KVM, every lock that KVM, the host's memory management and vfio-pci take.
 */
import { readdirSync, readFileSync } from "node:fs";

export interface Site {
  /** What is removed: file, function, which one in it. */
  readonly name: string;
  readonly file: string;
  /** The text of the whole file with it removed. */
  readonly without: string;
}

interface Removal {
  readonly what: string;
  readonly files: readonly string[];
  readonly pattern: RegExp;
  readonly instead: string;
}

const ROOMS = ["src/kvm", "src/mmu", "src/mmu/drivers", "src/vfio"];
const sources = ROOMS.flatMap((room) =>
  readdirSync(room)
    .filter((f) => f.endsWith(".ts"))
    .sort()
    .map((f) => `${room}/${f}`),
);
const FAULT = ["src/kvm/usermemabort.ts", "src/kvm/gmemabort.ts"];
const FLUSH = ["src/kvm/tlbflush.ts"];
/** One pair of parentheses, with pairs in it to the depth of two. */
const ARGUMENT = /\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)/.source;

/** A condition of the retry check becomes false; a statement goes; a lock is had without being taken. */
const REMOVALS: readonly Removal[] = [
  { what: "retry check", files: FAULT, pattern: /vms\.inProgress\(vm\) !== 0 \|\| /g, instead: "" },
  { what: "retry check", files: FAULT, pattern: / \|\| vms\.seq\(vm\) !== s\[f \+ SEQ\]!/g, instead: "" },
  { what: "TLBI", files: FLUSH, pattern: /(?<=\n[^\n]*[\s;])this\.tlbi\((?:[^;]*)\);/g, instead: ";" },
  { what: "DSB", files: FLUSH, pattern: /(?<=\n[^\n]*[\s;])this\.dsb\((?:[^;]*)\);/g, instead: ";" },
  {
    what: "lock",
    files: sources,
    pattern: new RegExp(`\\b(?:[\\w.]+\\.)?locks\\.(?:read|write|tryWrite)${ARGUMENT}`, "g"),
    instead: "true",
  },
  {
    what: "page-table lock",
    files: sources,
    pattern: new RegExp(`\\b(?:this\\.|mm\\.)*pt\\.locks\\.lock${ARGUMENT}`, "g"),
    instead: "true",
  },
  {
    what: "page-table lock",
    files: sources,
    pattern: new RegExp(`\\b(?:this\\.|v\\.|mm\\.)*(?:pt\\.(?:contended|locks\\.taken)|zap\\.contended)${ARGUMENT}`, "g"),
    instead: "false",
  },
];

export function sites(): Site[] {
  const out: Site[] = [];
  const counts = new Map<string, number>();
  for (const { what, files, pattern, instead } of REMOVALS)
    for (const file of files) {
      const text = readFileSync(file, "utf8");
      for (const m of text.matchAll(pattern)) {
        const before =
          [...text.slice(0, m.index).matchAll(/\n {2}(?:private |readonly )*([a-zA-Z0-9]+)(?:\([^\n]*\{| = \([^\n]*=> \{)/g)].at(-1)?.[1] ??
          "";
        const key = `${file} ${before}: ${what}`;
        const n = (counts.get(key) ?? 0) + 1;
        counts.set(key, n);
        out.push({ name: `${key} ${n}`, file, without: text.slice(0, m.index) + instead + text.slice(m.index + m[0].length) });
      }
    }
  return out;
}

/** Locks that a mutant has not taken it does not give back: what would throw does nothing. */
export function forgiving(locks: string): string {
  const changed = locks
    .replace(
      /if \(h <= 0\) throw [^;]*;/,
      "if (h <= 0 || (this.tracking && !this.heldBy(this.agents.current).some((l) => l.mode === 'read' && l.lock === this.bus.nameOf(this.names[lock]!)))) return;",
    )
    .replace(/throw new Error\("write unlock of a lock that this agent does not hold"\)/, "return");
  if (changed.split("return").length !== locks.split("return").length + 2)
    throw new Error("src/sim/locks.ts gives locks back in another way than it did");
  return changed;
}
