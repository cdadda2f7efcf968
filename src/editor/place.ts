/** Where in a script a character stands: in which block, and behind which words of its statement. Works on unfinished text. */
import { Diagnostics } from "../guest/diagnostics.js";
import { lex, type Token } from "../guest/lexer.js";
import { MACHINE_KEYS, VARIANT_KEYS } from "../guest/parser.js";

/** What the innermost open block holds. `top` is the script itself. */
export type Block = "top" | "machine" | "variant" | "vmm" | "kthread" | "par" | "guest";

/** A call whose parenthesis is open: its name, and which argument the character belongs to. */
export interface OpenCall {
  readonly name: string;
  readonly argument: number;
  /** The argument's name, if it has one: `slot=`. */
  readonly named: string | undefined;
}

export interface Place {
  readonly block: Block;
  /** The statement's tokens before the word at the character. */
  readonly before: readonly Token[];
  /** The innermost call that is open. */
  readonly call: OpenCall | undefined;
  /** Names that `let` and `for` gave before, with the text of what they are. */
  readonly names: ReadonlyMap<string, string>;
  /** Names of the script's variants, also of those below. */
  readonly variants: readonly string[];
  /** Labels of guest code, of the whole script. */
  readonly labels: readonly string[];
}

interface Open {
  readonly block: Block;
  /** First token of the present statement. */
  start: number;
}

/** What a `{` opens behind these words, inside a block. */
function opened(words: readonly Token[], inside: Block): Block {
  const [first, second] = words.map((t) => t.text);
  if (first === "guest" || (first === "on" && second === "exception")) return "guest";
  if (first === "for") return inside;
  if (first === "machine" || first === "variant" || first === "par" || first === "kthread") return first;
  return "vmm";
}

function tokensOf(text: string): Token[] {
  return lex(text, new Diagnostics("", text)).filter((t) => t.kind !== "end");
}

/** The place of the character at an offset, or undefined inside a comment or a text. @param at the start of a word, or where one would begin */
export function placeAt(text: string, at: number): Place | undefined {
  const tokens = tokensOf(text.slice(0, at));
  const lineStart = text.lastIndexOf("\n", at - 1) + 1;
  const line = text.slice(lineStart, at);
  if (/^([^"/]|"[^"]*"|\/(?!\/))*(\/\/|"[^"]*$)/.test(line)) return undefined;
  const stack: Open[] = [{ block: "top", start: 0 }];
  let round = 0;
  for (const [n, t] of tokens.entries()) {
    const top = stack[stack.length - 1]!;
    if (t.kind === "punct" && t.text === "(") round++;
    else if (t.kind === "punct" && t.text === ")") round = Math.max(0, round - 1);
    else if (t.kind === "punct" && t.text === "{") {
      const block = opened(tokens.slice(top.start, n), top.block);
      round = 0;
      stack.push({ block, start: n + 1 });
    } else if (t.kind === "punct" && t.text === "}") {
      if (stack.length > 1) stack.pop();
      stack[stack.length - 1]!.start = n + 1;
      round = 0;
    } else if ((t.kind === "newline" && round === 0) || (t.kind === "punct" && t.text === ";")) {
      top.start = n + 1;
      round = 0;
    }
  }
  const { block, start } = stack[stack.length - 1]!;
  const before = tokens.slice(start).filter((t) => t.kind !== "newline");
  return {
    block,
    before: block === "machine" || block === "variant" ? setting(before, block) : before,
    call: openCall(before),
    names: namesIn(text, tokens),
    variants: [...text.matchAll(/^[ \t]*variant[ \t]+([A-Za-z0-9_.-]+)/gm)].map((m) => m[1]!),
    labels: [...text.matchAll(/^[ \t]*([A-Za-z_]\w*):(?!:)/gm)].map((m) => m[1]!),
  };
}

/** Settings may share a line: what belongs to the last of them. */
function setting(words: readonly Token[], block: "machine" | "variant"): readonly Token[] {
  const keys: readonly string[] = block === "machine" ? MACHINE_KEYS : VARIANT_KEYS;
  // The word behind "set" and "cost" is a name, also where a setting has the same.
  const last = words.findLastIndex((t, i) => t.kind === "name" && keys.includes(t.text) && !/^(set|cost)$/.test(words[i - 1]?.text ?? ""));
  return last < 0 ? words : words.slice(last);
}

function openCall(words: readonly Token[]): OpenCall | undefined {
  const open: { at: number; argument: number; from: number }[] = [];
  for (const [n, t] of words.entries()) {
    if (t.kind !== "punct") continue;
    if (t.text === "(") open.push({ at: n - 1, argument: 0, from: n + 1 });
    else if (t.text === ")") open.pop();
    else if (t.text === "," && open.length > 0) {
      const last = open[open.length - 1]!;
      last.argument++;
      last.from = n + 1;
    }
  }
  const last = open.findLast((o) => words[o.at]?.kind === "name");
  if (last === undefined) return undefined;
  const named = words[last.from + 1]?.text === "=" ? words[last.from]!.text : undefined;
  return { name: words[last.at]!.text, argument: last.argument, named };
}

/** `let NAME = …` and `for NAME in …` before the place: the statement's text up to the end of its line. */
function namesIn(text: string, tokens: readonly Token[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const [n, t] of tokens.entries()) {
    const name = tokens[n + 1];
    if (t.kind !== "name" || name?.kind !== "name" || (t.text !== "let" && t.text !== "for")) continue;
    const end = text.indexOf("\n", t.at);
    const line = text.slice(t.at, end < 0 ? text.length : end);
    names.set(name.text, line.replace(/\s*(\/\/.*|\{.*)?$/, ""));
  }
  return names;
}
