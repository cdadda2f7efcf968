import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { beforeAll, expect, test } from "vitest";
import oniguruma from "vscode-oniguruma";
import textmate, { type IGrammar } from "vscode-textmate";
import { MNEMONICS } from "../../src/arch/a64forms.js";
import { SYSREG_NAMES } from "../../src/arch/sysregs.js";
import { CALLS } from "../../src/guest/calls.js";
import { ERRNO_NAMES } from "../../src/guest/compile.js";
import { CONSTANTS } from "../../src/guest/constants.js";
import { Diagnostics } from "../../src/guest/diagnostics.js";
import { lex, type TokenKind } from "../../src/guest/lexer.js";
import { CONDITION_WORDS, MACHINE_KEYS, STATEMENT_WORDS } from "../../src/guest/parser.js";
import { grammar, SCOPE } from "../../src/editor/grammar.js";

let g: IGrammar;
beforeAll(async () => {
  await oniguruma.loadWASM(readFileSync(createRequire(import.meta.url).resolve("vscode-oniguruma/release/onig.wasm")));
  const registry = new textmate.Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (sources) => new oniguruma.OnigScanner(sources),
      createOnigString: (s) => new oniguruma.OnigString(s),
    }),
    loadGrammar: async () => textmate.parseRawGrammar(JSON.stringify(grammar()), "guest.json"),
  });
  g = (await registry.loadGrammar(SCOPE))!;
});

/** The innermost scope of every character, line by line. */
function colours(text: string): string[][] {
  let state = textmate.INITIAL;
  return text.split("\n").map((line) => {
    const r = g.tokenizeLine(line, state);
    state = r.ruleStack;
    const out: string[] = new Array<string>(line.length).fill("");
    for (const t of r.tokens) out.fill(t.scopes.length > 1 ? t.scopes[t.scopes.length - 1]! : "", t.startIndex, t.endIndex);
    return out;
  });
}
/** The scope of a word's first and last character where `|` stands before it. */
function colour(marked: string): string {
  const at = marked.indexOf("|");
  const lines = colours(marked.replace("|", ""));
  const line = marked.slice(0, at).split("\n").length - 1;
  return lines[line]![at - (marked.lastIndexOf("\n", at) + 1)] ?? "";
}

test.each([
  ["mnemonic", () => MNEMONICS, (w: string) => `guest {\n  |${w} x0\n}`, "keyword.mnemonic.guest"],
  ["mnemonic in capitals", () => MNEMONICS.map((m) => m.toUpperCase()), (w: string) => `guest { |${w} }`, "keyword.mnemonic.guest"],
  ["call", () => CALLS.map((c) => c.name), (w: string) => `let a = |${w}(0)`, "support.function.guest"],
  ["constant", () => [...CONSTANTS.keys()], (w: string) => `mmap(0, |${w}, 3)`, "support.constant.guest"],
  ["system register", () => SYSREG_NAMES, (w: string) => `guest { mrs x0, |${w} }`, "variable.language.register.system.guest"],
  ["condition", () => CONDITION_WORDS, (w: string) => `expect |${w}`, "keyword.other.condition.guest"],
  ["errno", () => ERRNO_NAMES, (w: string) => `expect errno |${w}`, "constant.language.guest"],
  ["setting", () => MACHINE_KEYS, (w: string) => `machine {\n  |${w} = 1\n}`, "storage.type.setting.guest"],
] as const)("every %s is coloured as one", (_, list, line, scope) => {
  const wrong = list().filter((w) => colour(line(w)) !== scope);
  expect(wrong).toEqual([]);
});

test("every word that begins a statement is a keyword", () => {
  const form: Record<string, string> = {
    let: "|let a = 1",
    for: "|for a in 0..1 { }",
    variant: "|variant v5.4",
    machine: "|machine { }",
    kthread: "|kthread ksmd { }",
  };
  const wrong = STATEMENT_WORDS.filter((w) => !/^(keyword\.control|storage)/.test(colour(form[w] ?? `|${w} { }`)));
  expect(wrong).toEqual([]);
});

test.each([
  ["guest { add x0, x1, x2, |lsl 3 }", "support.constant.operation.guest"],
  ["guest { again: ldr x0, [x1] }".replace("again", "|again"), "entity.name.label.guest"],
  ["guest { for p in RAM..END { |str x0, [p] } }", "keyword.mnemonic.guest"],
  ["guest { mov x0, 1 }\n|munmap(0, 4K)", "support.function.guest"],
  ["machine { set |execOnDevice = inject-pabt }", "entity.name.tag.decision.guest"],
  ["machine { set execOnDevice = |inject-pabt }", "constant.language.choice.guest"],
  ["variant |no-s2fwb { kernel v5.4 }", "entity.name.type.variant.guest"],
  ["expect on v5.4 |2 event stage2_set ipa=RAM", "constant.numeric.guest"],
  ["expect event |stage2_set ipa=RAM", "entity.name.type.event.guest"],
  ["expect stage2 RAM type=|Device-nGnRE", "constant.language.memory-type.guest"],
  ["let a = 1 |// not code", "comment.line.double-slash.guest"],
  ["vfio_open(|0000:00:06.0)", "constant.other.pci-address.guest"],
])("%s", (marked, scope) => {
  expect(colour(marked)).toBe(scope);
});

/** What a token of the language's own lexer may be coloured as. */
const OF: Readonly<Record<TokenKind, RegExp | undefined>> = {
  name: /^(keyword|storage|variable|support|entity|constant)/,
  number: /^(constant\.(numeric|other|language)|entity\.name\.type\.variant)/,
  string: /^string/,
  bdf: /^constant\.other\.pci-address/,
  punct: /^(keyword\.operator|punctuation|keyword\.mnemonic|entity\.name\.type\.variant|constant\.(language|other))/,
  newline: undefined,
  end: undefined,
};

test("every token of every bundled scenario is coloured as what the lexer says it is, and comments as comments", () => {
  const wrong: string[] = [];
  for (const f of readdirSync("scenarios").filter((s) => s.endsWith(".guest"))) {
    const text = readFileSync(`scenarios/${f}`, "utf8");
    const lines = colours(text);
    const seen = lines.map((l) => new Array<boolean>(l.length).fill(false));
    const tokens = lex(text, new Diagnostics(f, text));
    const own = new Set(
      tokens.flatMap((t, n) => (/^(let|for|vmm|kthread)$/.test(tokens[n - 1]?.text ?? "") || tokens[n + 1]?.text === ":" ? [t.text] : [])),
    );
    for (const t of tokens) {
      const fits = OF[t.kind];
      if (fits === undefined) continue;
      seen[t.line - 1]!.fill(true, t.column - 1, t.column - 1 + t.length);
      // What is no more than a name is a name that the script gave.
      if (/^variable\.other/.test(lines[t.line - 1]![t.column - 1] ?? "") && !own.has(t.text))
        wrong.push(`${f}:${t.line}: ${t.text} is only a name`);
      for (const at of [t.column - 1, t.column - 2 + t.length])
        if (!fits.test(lines[t.line - 1]![at] ?? ""))
          wrong.push(`${f}:${t.line}:${t.column}: ${t.text} as ${lines[t.line - 1]![at] ?? ""}`);
    }
    for (const [n, line] of text.split("\n").entries())
      for (const [at, c] of [...line].entries())
        if (!seen[n]![at] && /\S/.test(c) && !/^comment/.test(lines[n]![at] ?? ""))
          wrong.push(`${f}:${n + 1}:${at + 1}: ${c} is no comment`);
  }
  expect(wrong.slice(0, 20)).toEqual([]);
});
