/**
 * `faultline completion SHELL`: the table of words as a script. The script holds the words itself, so that a
 * press of the Tab key starts no process; it is written anew with a new version of the command.
 */
import type { Command } from "commander";
import { OK } from "./status.js";
import { print } from "./terminal.js";
import { commandWords, type CommandWords, type Taken } from "./words.js";

export async function completionCommand(root: Command, shell: string, asJson: boolean): Promise<number> {
  const table = commandWords(root);
  if (asJson) await print(JSON.stringify({ shell, commands: table }, undefined, 2));
  else await print(shell === "bash" ? bash(table) : shell === "zsh" ? zsh(table) : fish(table));
  return OK;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** The lists with names, each once. */
function lists(table: readonly CommandWords[]): Map<string, readonly string[]> {
  const all = table.flatMap((c) => [...c.options.flatMap((o) => (o.value === undefined ? [] : [o.value])), ...c.arguments]);
  return new Map(all.flatMap((t) => (t.list === undefined ? [] : [[t.list, t.words] as const])));
}

/** Lines of a case: the words, and whether files are offered. A list with a name is a variable of the script. */
const answer = (t: Taken): string =>
  `offer=${t.list === undefined ? quoted(t.words.join(" ")) : `$_faultline_${t.list}`}${t.files ? " files=1" : ""}`;

/**
 * The part that bash and zsh share: the command's words, an option or a place, to `offer` (words), `files` (file names too)
 * and `takes` (the option has a value).
 */
function cases(table: readonly CommandWords[]): string {
  const variables = [...lists(table)].map(([name, words]) => `_faultline_${name}=${quoted(words.join(" "))}`);
  const values = table.flatMap((c) =>
    c.options.flatMap((o) =>
      o.value === undefined ? [] : o.flags.map((f): [string, string] => [quoted(`${c.path}:${f}`), `${answer(o.value!)} takes=1`]),
    ),
  );
  const places = table.flatMap((c) =>
    c.arguments.map((a, i): [string, string] => {
      const more = c.variadic && i === c.arguments.length - 1;
      return [more ? `${quoted(`${c.path}:`)}*` : quoted(`${c.path}:${i}`), answer(a)];
    }),
  );
  const words = (list: readonly string[]): string => `offer=${quoted(list.join(" "))}`;
  const flags = table.map((c): [string, string] => [quoted(c.path), words(c.options.flatMap((o) => o.flags))]);
  const below = table.filter((c) => c.commands.length > 0).map((c): [string, string] => [quoted(c.path), words(c.commands)]);
  return [...variables, rows("value", values), rows("argument", places), rows("flags", flags), rows("commands", below)].join("\n");
}

/** A function that asks its argument for a pattern; patterns with one answer share a line. */
function rows(name: string, lines: readonly (readonly [pattern: string, answer: string])[]): string {
  const patterns = new Map<string, string[]>();
  for (const [pattern, then] of lines) patterns.set(then, [...(patterns.get(then) ?? []), pattern]);
  const body = [...patterns].map(([then, all]) => `    ${all.join("|")}) ${then} ;;`);
  return `_faultline_${name}() {\n  case "$1" in\n${body.join("\n")}\n  esac\n}`;
}

/** Walks over the words before the cursor; `$@` are they, without the program's name. */
const WALK = `_faultline_walk() {
  cmd='' at=0 takes='' offer='' files=''
  local word
  for word in "$@"; do
    if [ -n "$takes" ]; then takes='' offer='' files=''; continue; fi
    case "$word" in
      -*) _faultline_value "$cmd:$word"; continue ;;
    esac
    _faultline_commands "$cmd"
    case " $offer " in
      *" $word "*) cmd="\${cmd:+$cmd }$word" ;;
      *) at=$((at + 1)) ;;
    esac
    offer='' files=''
  done
}
_faultline_find() {
  local current=$1
  shift
  _faultline_walk "$@"
  if [ -n "$takes" ]; then return; fi
  offer='' files=''
  case "$current" in
    -*) _faultline_flags "$cmd"; return ;;
  esac
  _faultline_commands "$cmd"
  if [ -z "$offer" ]; then _faultline_argument "$cmd:$at"; fi
}`;

function bash(table: readonly CommandWords[]): string {
  return `# bash completion of faultline, written by: faultline completion bash
${cases(table)}
${WALK}
_faultline() {
  local cmd at takes offer files current i before=() joined
  # bash splits words at = and :, decision=value and PCI addresses are one word of ours.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    joined=''
    if ((i > 1)) && [[ \${COMP_WORDS[i]} == [=:]* || \${COMP_WORDS[i - 1]} == [=:] ]]; then joined=1; fi
    if [[ \${COMP_WORDS[i]} == '=' && \${COMP_WORDS[i - 1]} == --* ]]; then before+=('')
    elif [[ -n $joined ]]; then before[\${#before[@]}-1]+=\${COMP_WORDS[i]}
    else before+=("\${COMP_WORDS[i]}"); fi
  done
  current=''
  if ((\${#before[@]} > 0)); then current=\${before[\${#before[@]}-1]}; unset 'before[\${#before[@]}-1]'; fi
  _faultline_find "$current" "\${before[@]}"
  # A list of eras: what stands before the last comma stays.
  local head=''
  if [[ -n $takes && $current == *,* ]]; then head=\${current%,*},; fi
  COMPREPLY=($(compgen -W "$offer" -P "$head" -- "\${current#"$head"}"))
  if [[ -n $files ]]; then COMPREPLY+=($(compgen -f -- "$current")); fi
  # Only what follows the last = is the word that bash replaces.
  if [[ $current == *=* && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("\${COMPREPLY[@]#"\${current%%=*}="}"); fi
}
complete -o filenames -o bashdefault -F _faultline faultline`;
}

function zsh(table: readonly CommandWords[]): string {
  return `#compdef faultline
# zsh completion of faultline, written by: faultline completion zsh
${cases(table)}
${WALK}
_faultline() {
  local cmd at takes offer files
  _faultline_find "\${words[CURRENT]}" "\${(@)words[2,CURRENT-1]}"
  local -a list=(\${(s: :)offer})
  if [[ -n $takes ]]; then compset -P '*,'; fi
  if (($#list > 0)); then compadd -a list; fi
  if [[ -n $files ]]; then _files; fi
}
if [[ $funcstack[1] == _faultline ]]; then _faultline "$@"; else compdef _faultline faultline; fi`;
}

const fishWord = (word: string): string => (/^[A-Za-z0-9_.+=,:@%/-]+$/.test(word) ? word : quoted(word));
/** What follows -a: fish reads the variable of a list when it completes. */
const offered = (t: Taken): string => quoted(t.list === undefined ? t.words.join(" ") : `$_faultline_${t.list}`);

/** fish asks each line's condition by itself. */
function fish(table: readonly CommandWords[]): string {
  const out = ["# fish completion of faultline, written by: faultline completion fish"];
  for (const [name, words] of lists(table)) out.push(`set -g _faultline_${name} ${words.map(fishWord).join(" ")}`);
  out.push("complete -c faultline -f");
  const root = table[0]!;
  const add = (condition: string, rest: string): void => void out.push(`complete -c faultline -n ${quoted(condition)} ${rest}`);
  const described = (doc: string): string => ` -d ${quoted(doc)}`;
  for (const c of table) {
    const parts = c.path.split(" ").filter((w) => w !== "");
    const seen = parts.map((w) => `__fish_seen_subcommand_from ${w}`).join("; and ");
    const condition = c.path === "" ? "__fish_use_subcommand" : seen;
    for (const name of c.commands) {
      const doc = table.find((s) => s.path === (c.path === "" ? name : `${c.path} ${name}`))?.doc ?? "display help for command";
      const open = c.path === "" ? condition : `${condition}; and not __fish_seen_subcommand_from ${c.commands.join(" ")}`;
      add(open, `-a ${quoted(name)}${described(doc)}`);
    }
    for (const o of c.options) {
      const flags = o.flags.map((f) => (f.startsWith("--") ? `-l ${f.slice(2)}` : `-s ${f.slice(1)}`)).join(" ");
      const value =
        o.value === undefined ? "" : ` ${o.value.files ? "-rF" : "-x"}${o.value.words.length > 0 ? ` -a ${offered(o.value)}` : ""}`;
      add(condition, `${flags}${value}${described(o.doc)}`);
    }
    if (c === root) continue;
    for (const a of new Set(c.arguments.filter((a) => a.words.length > 0).map(offered))) add(condition, `-a ${a}`);
    if (c.arguments.some((a) => a.files)) add(condition, "-F");
  }
  return out.join("\n");
}
