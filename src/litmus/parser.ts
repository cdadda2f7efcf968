/**
 * Litmus files: several tests, each a few lines of settings, guest blocks of the guest language, blocks of the host at
 * EL2, and the outcomes asked for. docs/litmus.md is the reference.
 *
 * The guest blocks of a test are compiled by the guest language's own compiler, at their own lines, with the test's
 * symbols as constants; nothing of A64 is read here.
 */
import { compile, type Program } from "../guest/compile.js";
import { ScriptError, didYouMean } from "../guest/diagnostics.js";
import { machineWorld } from "../guest/machineworld.js";
import type { HostOp, HostThread, LitmusMachine, LitmusTest, PageSetup, Question, Verdict } from "./ast.js";
import { parseCondition, terms } from "./condition.js";
import { hostOpError } from "./hostops.js";
import { leafValue, LEAF_ATTRIBUTES, OTHER, OTHER_PA, paOf, pmdVa, pteVa, SYMBOLS, symbolIndex, vaOf } from "./layout.js";

const HANDLER = "on exception { mrs x29, elr_el1 ; add x29, x29, #4 ; msr elr_el1, x29 ; add x28, x28, #1 ; eret }";

const WORDS = [
  "name",
  "source",
  "machine",
  "pte",
  "page",
  "map",
  "place",
  "guest",
  "el2",
  "allowed",
  "forbidden",
  "required",
  "missing",
] as const;
export const MAP_TYPES = ["nGnRnE", "nGnRE", "nGRE", "GRE", "NC"] as const;

interface Draft {
  readonly line: number;
  readonly id: string;
  readonly name: string;
  readonly sources: string[];
  machine: LitmusMachine;
  readonly pages: PageSetup[];
  readonly maps: { symbol: string; where: string; offset: number; type: string }[];
  readonly placed: Map<number, number>;
  readonly hosts: HostThread[];
  readonly guest: string[];
  readonly questions: Question[];
  missing: string | undefined;
}

const MACHINE: LitmusMachine = {
  cpus: 2,
  cpu: "max",
  ets: 0,
  stage2: false,
  serialization: "root-complex",
  relaxedOrdering: false,
  cache: false,
  hardwareUpdate: false,
};

/** Parses a file of tests. @throws ScriptError with file, line and column */
export function parseLitmus(file: string, source: string): LitmusTest[] {
  return new LitmusParser(file, source).tests();
}

class LitmusParser {
  private readonly lines: readonly string[];
  private readonly out: LitmusTest[] = [];
  private readonly sources: string[] = [];
  private draft: Draft | undefined;
  private n = 0;

  constructor(
    private readonly file: string,
    source: string,
  ) {
    this.lines = source.split("\n");
  }

  private fail(message: string, hint = "", column = 1): never {
    const text = this.lines[this.n] ?? "";
    throw new ScriptError([{ file: this.file, line: this.n + 1, column, length: Math.max(1, text.trim().length), message, hint, text }]);
  }

  tests(): LitmusTest[] {
    for (this.n = 0; this.n < this.lines.length; this.n++) this.line();
    this.finish();
    if (this.out.length === 0) {
      this.n = 0;
      this.fail("this file has no test", 'expected test ID "NAME"');
    }
    return this.out;
  }

  private line(): void {
    const text = this.lines[this.n]!.replace(/\/\/.*$/, "").trim();
    if (text === "") return;
    const [word = ""] = text.split(/\s+/);
    const rest = text.slice(word.length).trim();
    if (word === "test") {
      this.finish();
      const m = /^([A-Za-z0-9][A-Za-z0-9+./_-]*)(?:\s+"([^"]*)")?$/.exec(rest);
      if (m === null) this.fail("a test has an identifier and a name", 'expected test ID "NAME"');
      if (this.out.some((t) => t.id === m[1])) this.fail(`a second test named ${m[1]!}`, "names differ");
      this.draft = {
        line: this.n + 1,
        id: m[1]!,
        name: m[2] ?? m[1]!,
        sources: [...this.sources],
        machine: MACHINE,
        pages: [],
        maps: [],
        placed: new Map(),
        hosts: [],
        guest: this.lines.map(() => ""),
        questions: [],
        missing: undefined,
      };
      return;
    }
    if (word === "source" && this.draft === undefined) {
      this.sources.push(this.quoted(rest));
      return;
    }
    const d = this.draft ?? this.fail(`"${word}" before the first test`, 'expected test ID "NAME"');
    switch (word) {
      case "source":
        d.sources.push(this.quoted(rest));
        return;
      case "machine":
        d.machine = this.machine(d.machine, rest);
        return;
      case "pte": {
        const m = /^([a-z]+)\s+(\S+)$/.exec(rest);
        if (m === null) this.fail("a pte has a symbol and a descriptor", "expected pte x invalid, pte x y, pte x x_ro");
        this.symbol(m[1]!);
        if (leafValue(m[2]!, (s) => (symbolIndex(s) < 0 ? undefined : paOf(s))) === undefined)
          this.fail(
            `no descriptor "${m[2]!}"`,
            `expected invalid, or a symbol with attributes of ${LEAF_ATTRIBUTES.join(", ")} joined by _`,
          );
        d.pages.push({ symbol: m[1]!, leaf: m[2]!, values: [], line: this.n + 1 });
        return;
      }
      case "page": {
        const m = /^([a-z]+)\s*=((?:\s*(?:0x[0-9a-fA-F]+|[0-9]+))+)$/.exec(rest);
        if (m === null) this.fail("a page has first words", "expected page x = 1");
        this.symbol(m[1]!);
        d.pages.push({ symbol: m[1]!, leaf: undefined, values: m[2]!.trim().split(/\s+/).map(Number), line: this.n + 1 });
        return;
      }
      case "map": {
        const m = /^([a-z]+)\s+(bar0|bar2|other|platform)\s*\+\s*(0x[0-9a-fA-F]+|[0-9]+)\s+(\S+)$/.exec(rest);
        if (m === null) this.fail("map says where a symbol lies and with which type", "expected map d bar0+0 nGnRE");
        this.symbol(m[1]!);
        if (!(MAP_TYPES as readonly string[]).includes(m[4]!)) this.fail(`no memory type "${m[4]!}"`, didYouMean(m[4]!, MAP_TYPES));
        if (Number(m[3]) % 4096 !== 0) this.fail(`${m[3]!} is not a multiple of a page`, "expected 0, 0x1000, 0x2000, …");
        d.maps.push({ symbol: m[1]!, where: m[2]!, offset: Number(m[3]), type: m[4]! });
        return;
      }
      case "place": {
        const m = /^vcpu([0-7])\s+cpu([0-7])$/.exec(rest);
        if (m === null) this.fail("place puts a vCPU on a physical CPU", "expected place vcpu1 cpu0");
        d.placed.set(Number(m[1]), Number(m[2]));
        return;
      }
      case "guest":
        this.block((n, line) => (d.guest[n] = line));
        return;
      case "el2":
        d.hosts.push(this.host(rest));
        return;
      case "allowed":
      case "forbidden":
      case "required":
        d.questions.push(this.question(word, rest));
        return;
      case "missing":
        d.missing = this.quoted(rest);
        return;
      default:
        this.fail(`"${word}" begins no line of a test`, didYouMean(word, WORDS) || `expected one of ${WORDS.join(", ")}`);
    }
  }

  private quoted(rest: string): string {
    const m = /^"([^"]*)"$/.exec(rest);
    return m === null ? this.fail("expected a text", 'expected a text in "…"') : m[1]!;
  }
  private symbol(name: string): void {
    if (symbolIndex(name) < 0) this.fail(`no symbol "${name}"`, `expected one of ${[...SYMBOLS, OTHER].join(", ")}`);
  }

  private machine(before: LitmusMachine, rest: string): LitmusMachine {
    let m = before;
    for (const word of rest.split(/\s+/)) {
      const [key = "", value = ""] = word.split("=");
      if (key === "cpus" && /^[1-8]$/.test(value)) m = { ...m, cpus: Number(value) };
      else if (key === "cpu" && value !== "") m = { ...m, cpu: value };
      else if (word === "ets2" || word === "ets3") m = { ...m, ets: word === "ets2" ? 2 : 3 };
      else if (word === "stage2") m = { ...m, stage2: true };
      else if (word === "cache") m = { ...m, cache: true };
      else if (word === "hardware-update") m = { ...m, hardwareUpdate: true };
      else if (word === "relaxed-ordering") m = { ...m, relaxedOrdering: true };
      else if (key === "serialization" && (value === "root-complex" || value === "interconnect")) m = { ...m, serialization: value };
      else
        this.fail(
          `no machine setting "${word}"`,
          "expected cpus=N, cpu=NAME, ets2, ets3, stage2, cache, hardware-update, relaxed-ordering, serialization=interconnect",
        );
    }
    return m;
  }

  /** Reads a block up to the line of its closing brace. */
  private block(take: (n: number, line: string) => void): void {
    let open = 0;
    const first = this.n;
    for (; this.n < this.lines.length; this.n++) {
      const line = this.lines[this.n]!.replace(/\/\/.*$/, "");
      take(this.n, line);
      for (const c of line) open += c === "{" ? 1 : c === "}" ? -1 : 0;
      if (open <= 0 && line.includes("}")) return;
    }
    this.n = first;
    this.fail("this block is never closed", 'expected "}" before the end of the file');
  }

  private host(rest: string): HostThread {
    const m = /^([a-z][a-z0-9]*)\s+cpu([0-7])\s*\{/.exec(rest);
    if (m === null) this.fail("a block of the host has a name and a CPU", "expected el2 host cpu1 { … }");
    const ops: HostOp[] = [];
    const first = this.n;
    const lines: [number, string][] = [];
    this.block((n, line) => lines.push([n, n === first ? line.slice(line.indexOf("{") + 1) : line]));
    for (const [n, line] of lines)
      for (const part of line.replace("}", "").split(";")) {
        const words = part.trim().split(/\s+/);
        if (words[0] === "" || words[0] === undefined) continue;
        const wrong = hostOpError(words);
        if (wrong !== undefined) {
          this.n = n;
          this.fail(wrong.message, wrong.hint);
        }
        ops.push({ op: words[0], words: words.slice(1), line: n + 1 });
      }
    return { name: m[1]!, cpu: Number(m[2]), ops };
  }

  private question(verdict: Verdict, rest: string): Question {
    const central = /^central\b/.test(rest);
    const text = rest.replace(/^central\b/, "").trim();
    try {
      const condition = parseCondition(text);
      for (const t of terms(condition)) if (t.kind === "memory" || t.kind === "arrival") this.symbol(t.symbol);
      return { verdict, central, condition, text, line: this.n + 1 };
    } catch (e) {
      if (e instanceof ScriptError) throw e;
      return this.fail((e as Error).message);
    }
  }

  private finish(): void {
    const d = this.draft;
    if (d === undefined) return;
    this.draft = undefined;
    const here = this.n;
    this.n = d.line - 1;
    if (d.missing === undefined && d.questions.length === 0)
      this.fail(`test ${d.id} asks for no outcome`, "expected allowed or forbidden and a condition");
    const { file } = this;
    const program = this.program(d);
    for (let v = 0; v < program.vcpus; v++)
      if ((d.placed.get(v) ?? v) >= d.machine.cpus)
        this.fail(`vcpu${v} has no physical CPU`, `write machine cpus=${v + 1}, or place vcpu${v} cpu0`);
    for (const h of d.hosts)
      if (h.cpu >= d.machine.cpus) this.fail(`${h.name} has no physical CPU ${h.cpu}`, `write machine cpus=${h.cpu + 1}`);
    this.out.push({
      file,
      line: d.line,
      id: d.id,
      name: d.name,
      sources: d.sources,
      machine: d.machine,
      pages: d.pages,
      maps: d.maps,
      placed: d.placed,
      hosts: d.hosts,
      program,
      questions: d.questions,
      missing: d.missing,
    });
    this.n = here;
  }

  /** The guest blocks, with the symbols as constants. */
  private program(d: Draft): Program {
    const text = [...d.guest];
    const guest = text.join("\n");
    text[d.line - 1] = [...constants(guest), HANDLER].join("; ") + "; " + text[d.line - 1]!;
    return compile(this.file, text.join("\n"), machineWorld);
  }
}

/** `let` statements for the names that guest code uses: symbols, pte_x, page_x, leaf_y_ro, table_q … */
function constants(guest: string): string[] {
  const out: string[] = [];
  const give = (name: string, value: bigint | number): void => void out.push(`let ${name} = 0x${value.toString(16)}`);
  for (const name of new Set(guest.match(/\b[a-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*\b/g) ?? [])) {
    if (symbolIndex(name) >= 0) give(name, vaOf(name));
    const [kind = "", ...rest] = name.split("_");
    const symbol = rest[0] ?? "";
    if (symbolIndex(symbol) < 0) continue;
    if (kind === "pte" && rest.length === 1) give(name, pteVa(symbol));
    if (kind === "pmd" && rest.length === 1) give(name, pmdVa(symbol));
    if (kind === "page" && rest.length === 1) give(name, Math.floor(vaOf(symbol) / 4096));
    if (kind === "table" && symbol === OTHER) give(name, BigInt(OTHER_PA) | 3n);
    if (kind === "leaf") {
      const value = leafValue(rest.join("_"), (s) => (symbolIndex(s) < 0 ? undefined : paOf(s)));
      if (value !== undefined) give(name, value);
    }
  }

  return out;
}
