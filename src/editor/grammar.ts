/**
 * The TextMate grammar of guest scripts, with its words from the tables that the parser, the assembler and the rooms use.
 * Editors colour by it without running anything; `npm run build:vscode` writes it into the extension's folder.
 */
import { MNEMONICS } from "../arch/a64forms.js";
import { EXTEND_NAMES, SHIFT_NAMES } from "../arch/a64operands.js";
import {
  AT_OPS,
  BARRIER_NXS,
  BARRIER_OPTIONS,
  CONDITION_ALIASES,
  CONDITIONS,
  DC_OPS,
  IC_OPS,
  PREFETCH_OPS,
  PSTATE_FIELDS,
  TLBI_OPS,
} from "../arch/a64system.js";
import { SYSREG_NAMES } from "../arch/sysregs.js";
import { CALLS } from "../guest/calls.js";
import { CACHE_STATES, ERRNO_NAMES, EXCEPTION_FIELDS, EXIT_FIELDS, FIELD_ALIASES, STAGE2_FIELDS, STAGE2_TYPES } from "../guest/compile.js";
import "../guest/machineworld.js"; // declares every event
import { eventCatalogue } from "../sim/events.js";
import { CONSTANTS } from "../guest/constants.js";
import { CONDITION_WORDS, INJECTIONS, MACHINE_KEYS, VARIANT_KEYS } from "../guest/parser.js";

export const SCOPE = "source.faultline-guest";

interface Rule {
  readonly name?: string;
  readonly match?: string;
  readonly begin?: string;
  readonly end?: string;
  readonly include?: string;
  readonly patterns?: readonly Rule[];
  readonly captures?: Readonly<Record<string, Named>>;
  readonly beginCaptures?: Readonly<Record<string, Named>>;
  readonly endCaptures?: Readonly<Record<string, Named>>;
}
interface Named {
  readonly name: string;
}

const escape = (word: string): string => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
/** Any of these words, alone. The longest first: `b.eq` is no `b`. */
const words = (list: Iterable<string>): string =>
  `(?<![\\w.])(?:${[...new Set(list)].sort((a, b) => b.length - a.length || (a < b ? -1 : 1)).map(escape).join("|")})(?![\\w])`; // prettier-ignore
const anyCase = (list: Iterable<string>): string => `(?i:${words(list)})`;
const include = (...names: string[]): Rule[] => names.map((n) => ({ include: `#${n}` }));
const scopes = (...names: string[]): Record<string, Named> => Object.fromEntries(names.map((name, i) => [String(i + 1), { name }]));

const KEYWORD = "keyword.control.guest";
const OPEN = "punctuation.section.block.begin.guest";
const CLOSE = { "0": { name: "punctuation.section.block.end.guest" } };
const NAME = "[A-Za-z_]\\w*";
const ERA = "v[0-9]+(?:\\.[0-9]+){1,2}";

/** A block: what opens it, and what it holds. */
const block = (begin: string, captures: string[], ...holds: string[]): Rule => ({
  begin: `${begin}\\s*(\\{)`,
  beginCaptures: scopes(...captures, OPEN),
  end: "\\}",
  endCaptures: CLOSE,
  patterns: include(...holds),
});

const operationWords = [
  ...[DC_OPS, IC_OPS, AT_OPS, TLBI_OPS].flatMap((ops) => ops.map((o) => o.name)),
  ...Object.keys(BARRIER_OPTIONS),
  ...Object.keys(BARRIER_NXS),
  ...PSTATE_FIELDS.map((p) => p.name),
  ...PREFETCH_OPS.filter((p) => !p.startsWith("#")),
  ...[...CONDITIONS, ...Object.keys(CONDITION_ALIASES)],
  ...SHIFT_NAMES,
  ...EXTEND_NAMES,
];
const fields = eventCatalogue().flatMap((e) => [...e.fields]);
const fieldNames = [
  ...fields.map((f) => f.name),
  ...Object.values(EXIT_FIELDS).flat(),
  ...STAGE2_FIELDS,
  ...EXCEPTION_FIELDS,
  ...Object.keys(FIELD_ALIASES),
];
const fieldWords = [...fields.flatMap((f) => f.values ?? []), "r", "rw", "rx", "rwx", "w", "none", "vmm"].filter((w) =>
  /^[A-Za-z_]/.test(w),
);
const REGISTER =
  "(?i:(?<![\\w.])(?:vcpu[0-7]\\.)?(?:[xw](?:[0-9]|[12][0-9]|30)|[xw]zr|w?sp|[vqdsbh](?:[0-9]|[12][0-9]|3[01])|pc|lr|pstate)(?!\\w))";

const repository: Record<string, Rule> = {
  comment: { match: "//.*$", name: "comment.line.double-slash.guest" },
  string: { begin: '"', end: '"|$', name: "string.quoted.double.guest" },
  address: { match: "\\b[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\\.[0-7]\\b", name: "constant.other.pci-address.guest" },
  era: { match: `(?<![\\w.-])${ERA}(?![\\w-])`, name: "constant.other.era.guest" },
  number: {
    match: "\\b(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*)(?:[KMGT](?:iB|B)?)?\\b",
    name: "constant.numeric.guest",
  },
  operator: { match: "->|\u2192|\\.\\.|==|!=|<=|>=|<<|>>|&&|\\|\\||[-+*/%&|^~!<>=#]", name: "keyword.operator.guest" },
  punctuation: { match: "[,;:.()\\[\\]]", name: "punctuation.separator.guest" },
  register: { match: REGISTER, name: "variable.language.register.guest" },
  sysreg: { match: `${anyCase(SYSREG_NAMES)}|(?i:(?<![\\w.])(?:vcpu[0-7]\\.)?[a-z][a-z0-9_]*_el[0-3](?!\\w))|(?i:\\bs[0-3]_[0-7]_c[0-9]+_c[0-9]+_[0-7]\\b)`, name: "variable.language.register.system.guest" }, // prettier-ignore
  vcpu: { match: "\\b(?:vcpu[0-7]|ret)\\b", name: "variable.language.guest" },
  constant: { match: words(CONSTANTS.keys()), name: "support.constant.guest" },
  name: { match: `\\b${NAME}\\b`, name: "variable.other.guest" },
  value: { patterns: include("address", "era", "number", "register", "sysreg", "vcpu", "constant", "call", "named", "operator", "punctuation", "name") }, // prettier-ignore

  call: { match: `(${words(CALLS.map((c) => c.name))})(?=\\s*\\()`, captures: scopes("support.function.guest") },
  /** slot=1, ipa=RAM: an argument or a field. */
  named: { match: `\\b(${NAME})\\s*(=)(?!=)`, captures: scopes("variable.parameter.guest", "keyword.operator.guest") },

  header: {
    patterns: [
      { match: "\\b(title|source)\\b", name: KEYWORD },
      block("\\b(machine)", [KEYWORD], "comment", "setting", "braces"),
      block("\\b(variant)\\s+([\\w.-]+)", [KEYWORD, "entity.name.type.variant.guest"], "comment", "setting", "braces"),
      { match: "\\b(variant)\\s+([\\w.-]+)", captures: scopes(KEYWORD, "entity.name.type.variant.guest") },
    ],
  },
  setting: {
    patterns: [
      {
        match: "\\b(set)\\s+([\\w-]+)\\s*(=)\\s*([\\w-]+)",
        captures: scopes(
          "storage.type.setting.guest",
          "entity.name.tag.decision.guest",
          "keyword.operator.guest",
          "constant.language.choice.guest",
        ),
      },
      { match: "\\b(cost)\\s+([\\w-]+)", captures: scopes("storage.type.setting.guest", "entity.name.tag.cost.guest") },
      ...include("string", "era", "number"),
      { match: words([...MACHINE_KEYS, ...VARIANT_KEYS]), name: "storage.type.setting.guest" },
      { match: "[A-Za-z_][\\w-]*", name: "constant.language.choice.guest" },
      ...include("operator", "punctuation"),
    ],
  },
  braces: { begin: "\\{", end: "\\}", patterns: include("comment", "setting", "braces") },

  agent: {
    patterns: [
      block("\\b(on)\\s+(exception)", [KEYWORD, KEYWORD], "code"),
      block("\\b(guest)\\b", [KEYWORD], "code"),
      block("\\b(guest)\\s+(vcpu[0-7])", [KEYWORD, "variable.language.vcpu.guest"], "code"),
      block("\\b(par)\\b", [KEYWORD], "statements"),
      block("\\b(vmm)\\b", [KEYWORD], "statements"),
      block(`\\b(vmm|kthread)\\s+(${NAME})`, [KEYWORD, "entity.name.function.thread.guest"], "statements"),
    ],
  },
  statements: { patterns: include("comment", "string", "header", "agent", "let", "loop", "on", "report", "expect", "block", "value") },
  block: { begin: "\\{", beginCaptures: { "0": { name: OPEN } }, end: "\\}", endCaptures: CLOSE, patterns: include("statements") },
  let: { match: `\\b(let)\\s+(${NAME})\\s*(=)`, captures: scopes("storage.type.let.guest", "variable.other.definition.guest", "keyword.operator.guest") }, // prettier-ignore
  loop: {
    patterns: [
      { match: `\\b(for)\\s+(${NAME})\\s+(in)\\b`, captures: scopes(KEYWORD, "variable.other.definition.guest", KEYWORD) },
      { match: "\\bstep\\b", name: KEYWORD },
    ],
  },
  on: {
    patterns: [
      { match: "\\b(on)\\s+(mmio)\\s+(read|leave|ecam)\\b", captures: scopes(KEYWORD, KEYWORD, KEYWORD) },
      // on small, v5.4 { … }
      { begin: "\\b(on)\\b", beginCaptures: scopes(KEYWORD), end: "(?=[{\\n])|$", patterns: include("comment", "variants") },
    ],
  },
  /** A field is compared, ipa>=RAM; behind = stands a word of the field's own: type=write, perms=rw. */
  fields: {
    patterns: [
      { match: `${words(fieldNames)}(?=\\s*[<>!]=?)`, name: "variable.parameter.guest" },
      { match: `(?<==)${words(fieldWords)}`, name: "constant.language.guest" },
    ],
  },
  variants: {
    patterns: [
      ...include("era"),
      { match: "[\\w.-]+", name: "entity.name.type.variant.guest" },
      { match: ",", name: "punctuation.separator.guest" },
    ],
  },
  report: {
    begin: "\\b(report)\\b",
    beginCaptures: scopes(KEYWORD),
    end: "(?=[;}])|$",
    patterns: [
      {
        match: `\\b(sum)\\s+(${NAME})\\s+(${NAME})`,
        captures: scopes(KEYWORD, "entity.name.type.event.guest", "variable.parameter.guest"),
      },
      { match: `\\b(count)\\s+(${NAME})`, captures: scopes(KEYWORD, "entity.name.type.event.guest") },
      { match: "\\b(?:stage2|place)\\b(?=\\s+[\\w(])", name: KEYWORD },
      ...include("fields", "comment", "string", "value"),
    ],
  },
  expect: {
    begin: "\\b(expect)\\b",
    beginCaptures: scopes(KEYWORD),
    end: "(?=[;}])|$",
    patterns: [
      // The names end where a word follows that is no part of the list.
      { match: "\\b(on)\\s+((?:[\\w.-]+\\s*,\\s*)*[\\w.-]+)", captures: scopes(KEYWORD, "entity.name.type.variant.guest") },
      { match: `\\b(event)\\s+(${NAME})`, captures: scopes("keyword.other.condition.guest", "entity.name.type.event.guest") },
      { match: `\\b(host)\\s+(crash)(?:\\s+(in)\\s+(${NAME}))?`, captures: scopes("keyword.other.condition.guest", "keyword.other.condition.guest", "keyword.other.condition.guest", "entity.name.function.kernel.guest") }, // prettier-ignore
      { match: words(STAGE2_TYPES), name: "constant.language.memory-type.guest" },
      ...include("fields"),
      ...include("comment", "string", "named"),
      { match: words([...CONDITION_WORDS, "none", "anywhere", "least", "most", "read", "write"]), name: "keyword.other.condition.guest" },
      { match: words([...ERRNO_NAMES, ...Object.keys(EXIT_FIELDS), ...INJECTIONS, ...CACHE_STATES]), name: "constant.language.guest" },
      ...include("value"),
    ],
  },

  code: {
    patterns: [
      ...include("comment", "string", "loop"),
      { match: `\\b(${NAME})\\s*(:)`, captures: scopes("entity.name.label.guest", "punctuation.separator.guest") },
      {
        begin: `(${anyCase([...MNEMONICS, ".inst", ".word"])})(?![.])`,
        beginCaptures: scopes("keyword.mnemonic.guest"),
        end: "(?=[;}]|//)|$",
        patterns: include("operand"),
      },
      { begin: "\\{", beginCaptures: { "0": { name: OPEN } }, end: "\\}", endCaptures: CLOSE, patterns: include("code") },
      ...include("value"),
    ],
  },
  operand: {
    patterns: [
      ...include("number", "register", "sysreg"),
      { match: anyCase(operationWords), name: "support.constant.operation.guest" },
      ...include("constant", "operator", "punctuation", "name"),
    ],
  },
};

/** The grammar as an object: its JSON is the file. */
export function grammar(): Record<string, unknown> {
  return {
    $schema: "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
    name: "Faultline guest script",
    scopeName: SCOPE,
    fileTypes: ["guest"],
    patterns: include("statements"),
    repository,
  };
}
