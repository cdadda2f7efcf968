/**
 * What can stand where on the command line, read from the commander tree: the one table behind the completion
 * scripts. Eras, decisions and scenarios are the values of options and arguments that say so by their names.
 */
import type { Command } from "commander";
import { decisionNames, DECISIONS } from "../eras.js";
import { eraNames, machineWorld } from "../guest/machineworld.js";
import { scenarioNames } from "./load.js";

/** What an option or an argument takes: nothing, one of these words, or the name of a file (besides the words). */
export interface Taken {
  /** Lists that many options and arguments take have a name. */
  readonly list?: "eras" | "cpus" | "decisions" | "settings" | "scenarios";
  readonly words: readonly string[];
  readonly files: boolean;
}
export interface OptionWords {
  readonly flags: readonly string[];
  readonly doc: string;
  /** undefined: the option takes no value. */
  readonly value: Taken | undefined;
}
export interface CommandWords {
  /** Words from the program's name on: `import strace`. */
  readonly path: string;
  readonly doc: string;
  readonly commands: readonly string[];
  readonly options: readonly OptionWords[];
  /** What each argument takes, in order; the last one is repeated if it is variadic. */
  readonly arguments: readonly Taken[];
  readonly variadic: boolean;
}

/** `--set` wants decision=value. */
function settings(): string[] {
  return Object.values(DECISIONS).flatMap((room) =>
    Object.entries(room).flatMap(([name, d]: [string, { readonly values: readonly unknown[] }]) =>
      d.values.map((v) => `${name}=${String(v)}`),
    ),
  );
}

/** A value named so in the help: `--kernel <era>`, `[era]`; a script is a file or the name of a scenario. */
function taken(name: string, doc: string, choices: readonly string[] | undefined): Taken {
  if (choices !== undefined) return { words: choices, files: false };
  if (/^eras?$|^kernels?$/.test(name)) return { list: "eras", words: eraNames(), files: false };
  if (/^names?$/.test(name) && /\bCPU\b/.test(doc)) return { list: "cpus", words: machineWorld.cpus, files: false };
  if (/^decision=/.test(name)) return { list: "settings", words: settings(), files: false };
  if (name === "decision") return { list: "decisions", words: decisionNames(), files: false };
  if (/\bNAME\b/.test(doc)) return { list: "scenarios", words: scenarioNames(), files: true };
  return { words: [], files: /^(files?|paths|dir)$/.test(name) || /\b(a|another) trace\b/.test(doc) };
}

function optionsOf(c: Command): OptionWords[] {
  const own = c.options
    .filter((o) => !o.hidden)
    .map((o) => {
      const name = /[<[]([^>\]]+?)(?:\.\.\.)?[>\]]/.exec(o.flags)?.[1];
      const flags = [o.short, o.long].filter((f) => f !== undefined);
      return { flags, doc: o.description, value: name === undefined ? undefined : taken(name, o.description, o.argChoices) };
    });
  return [...own, { flags: ["-h", "--help"], doc: "display help for command", value: undefined }];
}

function wordsOf(c: Command, path: string): CommandWords {
  const args = c.registeredArguments.map((a) =>
    // `scenarios NAME` names a scenario; the arguments of other commands without a word about it do not.
    path === "scenarios"
      ? { list: "scenarios" as const, words: scenarioNames(), files: false }
      : taken(a.name(), a.description, a.argChoices),
  );
  return {
    path,
    doc: c.description(),
    commands: path === "" ? [...c.commands.map((s) => s.name()), "help"] : c.commands.map((s) => s.name()),
    options: optionsOf(c),
    arguments: path === "" ? [] : args,
    variadic: c.registeredArguments.at(-1)?.variadic ?? false,
  };
}

/** The root first, then every command below it, parents before children. */
export function commandWords(root: Command): CommandWords[] {
  const below = (c: Command, path: string): CommandWords[] => [
    wordsOf(c, path),
    ...c.commands.flatMap((s) => below(s, path === "" ? s.name() : `${path} ${s.name()}`)),
  ];
  return below(root, "");
}
