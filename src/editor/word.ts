/** A word of the script language as an editor shows it: in a list to complete from, or under the pointer. */
export type WordKind =
  | "statement"
  | "setting"
  | "condition"
  | "mnemonic"
  | "register"
  | "operation"
  | "call"
  | "parameter"
  | "constant"
  | "value"
  | "label"
  | "decision"
  | "choice"
  | "era"
  | "cpu"
  | "device"
  | "cost"
  | "event"
  | "field"
  | "variant";

export interface Word {
  readonly name: string;
  readonly kind: WordKind;
  /** One line beside the name. */
  readonly detail: string;
  /** Markdown: what it is, then where that comes from. */
  readonly doc: string;
  /** What is put in, if not the name; `$1` is where the cursor goes (a snippet). */
  readonly insert?: string;
}

/** A word with its source in a line of its own. */
export function word(kind: WordKind, name: string, detail: string, more: { doc?: string; source?: string; insert?: string } = {}): Word {
  const parts = [more.doc ?? sentence(detail), more.source === undefined || more.source === "" ? "" : `*${more.source}*`];
  const doc = parts.filter((p) => p !== "").join("\n\n");
  return { kind, name, detail, doc, ...(more.insert === undefined ? {} : { insert: more.insert }) };
}

function sentence(text: string): string {
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
}
