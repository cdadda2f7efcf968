/**
 * A guest script that an import writes: the VMM's calls in their order, what was not understood as comments, and
 * a guest that touches each memslot once, for the reader to replace by what the real guest does.
 */
export interface Line {
  /** 1-based line of the imported file, 0 for what the import adds. */
  readonly from: number;
  /** A statement of the language, or "" for a comment alone. */
  readonly statement: string;
  readonly comment: string;
}

export interface Import {
  readonly title: string;
  readonly devices: readonly string[];
  readonly lines: readonly Line[];
  readonly counts: {
    readonly lines: number;
    readonly statements: number;
    /** Lines whose form or call the import does not know; the first of them stand in the script as comments. */
    readonly notUnderstood: number;
    /** Understood, but of no consequence for guest memory. */
    readonly leftOut: number;
  };
}

/** So many lines that are not understood stand in the script; the others are only counted. */
const SHOWN = 200;

/** Collects the lines of a script, and counts. */
export class Skeleton {
  readonly lines: Line[] = [];
  notUnderstood = 0;
  leftOut = 0;

  add(from: number, statement: string, comment = ""): void {
    this.lines.push({ from, statement, comment });
  }
  unknown(from: number, text: string): void {
    if (this.notUnderstood++ < SHOWN) this.add(from, "", `line ${from}, not understood: ${text}`);
  }
  done(title: string, lines: number, devices: readonly string[] = []): Import {
    const statements = this.lines.filter((l) => l.statement !== "").length;
    return {
      title,
      devices,
      lines: this.lines,
      counts: { lines, statements, notUnderstood: this.notUnderstood, leftOut: this.leftOut },
    };
  }
}

/** A stranger's text as a comment: one line, no control characters, not endless. */
const comment = (text: string): string => {
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/g, " ").trim();
  return line.length > 160 ? `${line.slice(0, 159)}…` : line;
};

export function scriptText(i: Import): string {
  const head = [`title "${comment(i.title).replace(/["\\]/g, "'")}"`];
  if (i.devices.length > 0) head.push(`machine { devices ${i.devices.join(", ")} }`);
  const body = i.lines.map((l) => {
    const said = l.comment === "" ? "" : `// ${comment(l.comment)}`;
    return l.statement === "" ? said : said === "" ? l.statement : `${l.statement}   ${said}`;
  });
  return `${[...head, "", ...body].join("\n")}\n`;
}

export const hex = (n: number): string => `0x${n.toString(16)}`;

/** The guest of a skeleton: one load from each of these addresses. */
export function guestBlock(addresses: readonly number[], vcpu = ""): string {
  return `guest ${vcpu}{ ${addresses.map((a) => `ldr x0, [${hex(a)}]`).join("; ")} }`;
}
