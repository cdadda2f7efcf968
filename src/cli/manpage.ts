/**
 * The manual page faultline(1), in the man macros that both groff and mandoc read: one section per command, from the
 * tree of commands that the help is printed from. `npm run build` writes it to man/.
 */
import type { Command, Help, Option } from "commander";

/** Text as roff: hyphens, quotes and backslashes mean themselves, other characters by their code. */
export function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replace(/[^\x20-\x7e\n]/gu, (c) => `\\[u${c.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`)
    .replace(/^\./gm, "\\&.");
}

/** What the help of a command says after its options: the examples, which keep their columns, and what stands beside them. */
function after(c: Command): string {
  let text = "";
  c.copyInheritedSettings(c).configureOutput({ writeOut: (s) => void (text += s) });
  c.outputHelp();
  return text.slice(text.indexOf(c.helpInformation()) + c.helpInformation().length).trim();
}

/** Paragraphs as they are; the indented lines under `Examples:` with their columns. */
function afterLines(c: Command): string[] {
  const out: string[] = [];
  let literal = false;
  for (const line of [...after(c).split("\n"), ""]) {
    const indented = line.startsWith("  ");
    if (indented !== literal) out.push(...(indented ? [".PP", ".RS 2n", ".nf"] : [".fi", ".RE"]));
    else if (!indented && line !== "") out.push(".PP");
    literal = indented;
    if (line !== "") out.push(roff(indented ? line.slice(2) : line));
  }
  return out;
}

/** `\fB--kernel\fR \fIera\fR`: words of the command bold, what the user puts there in italics. */
function term(o: Option): string {
  return roff(o.flags)
    .replace(/[<[][^>\]]*[>\]]/g, (value) => `\\fI${value.slice(1, -1)}\\fR`)
    .replace(/\\-\\?-?[A-Za-z][A-Za-z0-9\\-]*/g, (flag) => `\\fB${flag}\\fR`);
}

function tagged(tag: string, doc: string): string[] {
  return [".TP", tag, roff(doc)];
}

/** A command's section, then those of the commands below it. */
function section(c: Command, path: string, help: Help): string[] {
  const name = `${path} ${c.name()}`;
  if (c.commands.length > 0) return c.commands.flatMap((s) => section(s, name, help));
  const args = c.registeredArguments.map(
    (a) => ` ${a.required ? "" : "["}\\fI${roff(a.name())}\\fR${a.variadic ? "..." : ""}${a.required ? "" : "]"}`,
  );
  const described = help.visibleArguments(c).filter((a) => a.description !== "");
  return [
    `.SS ${roff(name)}`,
    `\\fB${roff(name)}\\fR [\\fIoptions\\fR]${args.join("")}`,
    ".PP",
    roff(sentence(c.description())),
    ...described.flatMap((a) => tagged(`\\fI${roff(a.name())}\\fR`, help.argumentDescription(a))),
    ...help
      .visibleOptions(c)
      .filter((o) => o.long !== "--help")
      .flatMap((o) => tagged(term(o), help.optionDescription(o))),
    ...afterLines(c),
  ];
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;

const STATUS: readonly (readonly [string, string])[] = [
  ["0", "as expected"],
  ["1", "an expectation, comparison or invariant failed, or traces differ"],
  ["2", "wrong input; standard error names file, line and column"],
  ["3", "a budget ended it"],
  ["130", "interrupted"],
];

/** The whole page. */
export function manPage(root: Command, version: string): string {
  const help = root.createHelp();
  return [
    '.\\" Written by npm run build from the tree of commands in src/cli/commands.',
    `.TH FAULTLINE 1 "" "Faultline ${version}" "User Commands"`,
    ".SH NAME",
    "faultline \\- deterministic emulator of the KVM/arm64 fault path",
    ".SH SYNOPSIS",
    "\\fBfaultline\\fR \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]",
    ".br",
    "\\fBfaultline help\\fR \\fIcommand\\fR",
    ".SH DESCRIPTION",
    roff(root.description()),
    ...afterLines(root),
    ".SH COMMANDS",
    "Each command prints its options with \\fB\\-\\-help\\fR.",
    ...root.commands.flatMap((c) => section(c, "faultline", help)),
    ".SH EXIT STATUS",
    ...STATUS.flatMap(([n, what]) => tagged(`\\fB${n}\\fR`, what)),
    ".SH ENVIRONMENT",
    ...tagged("\\fBNO_COLOR\\fR", "if it is set and not empty, nothing is coloured; nor is it where the output is no terminal"),
    ".SH SEE ALSO",
    "\\fBtrace\\-cmd\\-report\\fR(1), \\fBkernelshark\\fR(1), \\fBperf\\-kvm\\fR(1), \\fBstrace\\fR(1)",
    "",
  ].join("\n");
}
