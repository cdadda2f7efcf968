/**
 * Tokens to a tree, by recursive descent with recovery per statement: a statement with an error is
 * reported once and skipped to its end, so that one run of the parser tells all errors of a file.
 */
import type {
  Argument,
  Call,
  Condition,
  Count,
  Expectation,
  Expr,
  FieldTest,
  GuestBlock,
  GuestStatement,
  NameAt,
  OperandPart,
  ParThread,
  Report,
  Script,
  Setting,
  Statement,
  Variant,
} from "./ast.js";
import { BudgetError, Diagnostics, didYouMean, type Span } from "./diagnostics.js";
import { lex, type Token } from "./lexer.js";
import { LIMITS } from "./limits.js";

/** Thrown to leave a statement after its error was reported; never leaves this file. */
class Recover extends Error {}

/** Words that begin a statement of the VMM part. */
export const STATEMENT_WORDS = [
  "title",
  "source",
  "machine",
  "variant",
  "let",
  "for",
  "guest",
  "vmm",
  "kthread",
  "par",
  "on",
  "report",
  "expect",
] as const;
/** Store buffers and the way to a device, of the machine or of one variant. */
const FABRIC_KEYS = [
  "buffers",
  "serialization",
  "failed_read",
  "max_payload",
  "combining",
  "relaxed_ordering",
  "no_snoop",
  "shareability",
  "peripheral_block",
] as const;
export const MACHINE_KEYS = [
  "ram",
  "cpus",
  "cpu",
  "kernel",
  "devices",
  "profile",
  "cache",
  "apei",
  ...FABRIC_KEYS,
  "atomics",
  "set",
  "seed",
  "cost",
  "livelock",
] as const;
export const VARIANT_KEYS = ["kernel", "cpu", "set", "profile", "cache", "apei", "atomics", ...FABRIC_KEYS, "seed"] as const;
export const CONDITION_WORDS = [
  "host",
  "no",
  "livelock",
  "deadlock",
  "errno",
  "ok",
  "exit",
  "fault",
  "event",
  "notifier",
  "inject",
  "exception",
  "stage2",
  "dirty",
  "cache",
  "at",
] as const;
export const INJECTIONS = ["pabt", "dabt", "sea", "serror", "size", "undef"] as const;
/** Names that a script may not give to a value. */
export const RESERVED = new Set<string>([...STATEMENT_WORDS, ...CONDITION_WORDS, "step", "true", "false"]);
export const REGISTER_NAME =
  /^(?:[xw](?:[0-9]|[12][0-9]|30)|[xw]zr|w?sp|[vqdsbh](?:[0-9]|[12][0-9]|3[01])|pc|lr|pstate|[a-z0-9_]+_el[0-3])$/;

const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<", "<=", ">", ">="],
  ["|"],
  ["^"],
  ["&"],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "%"],
];

/** Parses a script. Errors are added to `errors`; the tree holds what could be read. */
export function parse(file: string, source: string, errors: Diagnostics): Script {
  return new Parser(file, source, errors).script();
}

class Parser {
  private readonly tokens: readonly Token[];
  private i = 0;
  private depth = 0;
  private statements = 0;
  private title: string | undefined;
  private readonly sources: string[] = [];
  private readonly machine: Setting[] = [];
  private readonly variants: Variant[] = [];
  private handler: Script["handler"];

  constructor(
    private readonly file: string,
    private readonly source: string,
    private readonly errors: Diagnostics,
  ) {
    this.tokens = lex(source, errors);
  }

  script(): Script {
    const body: Statement[] = [];
    while (this.t.kind !== "end") {
      if (this.t.text === "}") {
        this.errors.add(this.t, "this } closes nothing", "expected a statement");
        this.i++;
        continue;
      }
      this.statementInto(body, true);
    }
    return {
      file: this.file,
      title: this.title ?? "",
      sources: this.sources,
      machine: this.machine,
      variants: this.variants,
      handler: this.handler,
      body,
    };
  }

  // --- tokens ---------------------------------------------------------------

  private get t(): Token {
    return this.tokens[this.i]!;
  }
  private peek(n = 1): Token {
    return this.tokens[Math.min(this.i + n, this.tokens.length - 1)]!;
  }
  private next(): Token {
    const t = this.tokens[this.i]!;
    if (t.kind !== "end") this.i++;
    return t;
  }
  private is(text: string): boolean {
    const t = this.t;
    return t.text === text && (t.kind === "punct" || t.kind === "name");
  }
  private accept(text: string): boolean {
    if (!this.is(text)) return false;
    this.i++;
    return true;
  }
  private expect(text: string, where: string): Token {
    if (this.is(text)) return this.next();
    this.fail(this.t, `unexpected ${this.shown(this.t)} ${where}`, `expected "${text}"`);
  }
  private name(what: string): Token {
    if (this.t.kind === "name") return this.next();
    this.fail(this.t, `unexpected ${this.shown(this.t)}`, `expected ${what}`);
  }
  /** A name that may hold dashes and a leading digit: cortex-a76, no-s2fwb, 2-cpus. */
  private dashed(what: string): NameAt {
    const first = this.t;
    if (first.kind !== "name" && first.kind !== "number" && first.kind !== "string")
      this.fail(first, `unexpected ${this.shown(first)}`, `expected ${what}`);
    this.i++;
    let last = first;
    if (first.kind !== "string")
      while ((this.t.kind === "name" || this.t.kind === "number" || this.is("-") || this.is(".")) && !this.t.spaced) last = this.next();
    const length = last.at + last.length - first.at;
    return {
      name: first.kind === "string" ? first.text : this.source.slice(first.at, first.at + length),
      span: { ...this.place(first), length },
    };
  }
  private place(t: Span): Span {
    return { at: t.at, line: t.line, column: t.column, length: t.length };
  }
  /** From the start of `from` to the token before the present one. */
  private span(from: Span): Span {
    const last = this.tokens[Math.max(0, this.i - 1)]!;
    return { at: from.at, line: from.line, column: from.column, length: Math.max(1, last.at + last.length - from.at) };
  }
  private textOf(span: Span): string {
    return this.source
      .slice(span.at, span.at + span.length)
      .replace(/\s+/g, " ")
      .slice(0, 200);
  }
  private shown(t: Token): string {
    if (t.kind === "end" || t.kind === "newline") return t.text;
    return t.kind === "string" ? "string" : `"${t.text.slice(0, 40)}"`;
  }
  private fail(span: Span, message: string, hint: string): never {
    this.errors.add(span, message, hint);
    throw new Recover();
  }
  private skipNewlines(): void {
    while (this.t.kind === "newline" || this.is(";")) this.i++;
  }
  private endOfStatement(what: string): void {
    if (this.t.kind === "newline" || this.is(";")) {
      this.i++;
      return;
    }
    if (this.t.kind === "end" || this.is("}")) return;
    this.fail(this.t, `unexpected ${this.shown(this.t)} after ${what}`, "expected the end of the line");
  }
  /** Skips to the end of the broken statement; a block that it opens is skipped whole. */
  private recover(from: number): void {
    if (this.i === from && this.t.kind !== "end" && !this.is("}")) this.i++;
    let open = 0;
    for (; this.t.kind !== "end"; this.i++) {
      if (this.is("{")) open++;
      else if (this.is("}")) {
        if (open === 0) return;
        open--;
      } else if (open === 0 && (this.t.kind === "newline" || this.is(";"))) {
        this.i++;
        return;
      }
    }
  }
  private deeper<T>(span: Span, run: () => T): T {
    if (++this.depth > LIMITS.nesting) {
      this.depth--;
      this.fail(span, `nested deeper than ${LIMITS.nesting} levels`, "expected a flatter script");
    }
    try {
      return run();
    } finally {
      this.depth--;
    }
  }
  private count(span: Span): void {
    if (++this.statements > LIMITS.statements) {
      this.errors.add(span, `a script may have ${LIMITS.statements} statements`, "use a loop");
      this.errors.throwIfAny();
      throw new BudgetError(`more than ${LIMITS.statements} statements`, "");
    }
  }

  // --- blocks ---------------------------------------------------------------

  /** Parses `{ … }` with recovery for each item. */
  private block(item: () => void): void {
    const open = this.expect("{", "before a block");
    this.deeper(open, () => {
      for (;;) {
        this.skipNewlines();
        if (this.accept("}")) return;
        if (this.t.kind === "end") this.fail(open, "this block is never closed", 'expected "}" before the end of the file');
        const from = this.i;
        try {
          item();
        } catch (e) {
          if (!(e instanceof Recover)) throw e;
          this.recover(from);
        }
      }
    });
  }

  private statementInto(out: Statement[], top: boolean): void {
    this.skipNewlines();
    if (this.t.kind === "end" || this.is("}")) return;
    const from = this.i;
    try {
      this.statement(out, top);
    } catch (e) {
      if (!(e instanceof Recover)) throw e;
      this.recover(from);
    }
  }

  private statements_(): Statement[] {
    const out: Statement[] = [];
    this.block(() => this.statement(out, false));
    return out;
  }

  // --- statements -------------------------------------------------------------

  private statement(out: Statement[], top: boolean): void {
    const t = this.t;
    this.count(t);
    if (t.kind !== "name") {
      const comment = t.text === "#" || t.text === "/" ? ": a comment begins with //" : "";
      this.fail(t, `unexpected ${this.shown(t)}`, `expected a statement${comment}`);
    }
    switch (t.text) {
      case "title":
      case "source":
      case "machine":
      case "variant":
        if (!top) this.fail(t, `"${t.text}" belongs to the header, not into a block`, "expected a statement");
        this.header(t.text);
        return;
      case "let":
        out.push(this.let());
        return;
      case "for":
        out.push(this.loop());
        return;
      case "guest":
        out.push(this.guest());
        return;
      case "kthread":
        out.push(this.kthread());
        return;
      case "vmm": {
        this.i++;
        const body = this.statements_();
        out.push({ kind: "vmm", body, span: this.place(t) });
        return;
      }
      case "par":
        out.push(this.par());
        return;
      case "on":
        this.on(out, top);
        return;
      case "report":
        out.push(this.report());
        return;
      case "expect":
        out.push(this.expectation());
        return;
    }
    if (this.peek().text === "(") {
      const call = this.call();
      this.endOfStatement("the call");
      out.push(call);
      return;
    }
    const near = didYouMean(t.text, STATEMENT_WORDS);
    this.fail(
      t,
      `"${t.text.slice(0, 40)}" begins no statement`,
      near.startsWith("did") ? near : "expected let, for, guest, par, on, expect, or a system call with its (",
    );
  }

  private header(word: string): void {
    const t = this.next();
    if (word === "title" || word === "source") {
      if (this.t.kind !== "string") this.fail(this.t, `unexpected ${this.shown(this.t)} after "${word}"`, 'expected a text in "…"');
      const text = this.next().text;
      if (word === "title") {
        if (this.title !== undefined) this.errors.add(t, "a second title", "a script has one");
        this.title = text;
      } else this.sources.push(text);
      this.endOfStatement(`the ${word}`);
      return;
    }
    if (word === "machine") {
      this.block(() => this.machine.push(this.setting(MACHINE_KEYS, "machine")));
      return;
    }
    const name = this.dashed("a variant's name");
    const settings: Setting[] = [];
    if (this.is("{")) this.block(() => settings.push(this.setting(VARIANT_KEYS, "variant")));
    else this.endOfStatement("the variant");
    if (this.variants.some((v) => v.name === name.name)) this.errors.add(name.span, `a second variant named ${name.name}`, "names differ");
    if (this.variants.length >= LIMITS.variants) this.fail(name.span, `more than ${LIMITS.variants} variants`, "");
    this.variants.push({ name: name.name, settings, span: name.span });
  }

  private setting(keys: readonly string[], where: string): Setting {
    const t = this.name(`a ${where} setting`);
    this.count(t);
    if (!keys.includes(t.text))
      this.fail(t, `no ${where} setting named "${t.text}"`, didYouMean(t.text, keys) || `expected one of ${keys.join(", ")}`);
    const words: NameAt[] = [];
    let value: Expr | undefined;
    switch (t.text) {
      case "ram":
      case "cpus":
      case "seed":
      case "livelock":
      case "max_payload":
      case "peripheral_block":
        value = this.expression();
        break;
      case "set":
      case "cost":
        words.push(this.dashed(t.text === "set" ? "a decision's name" : "a cost's name"));
        this.expect("=", `after the name in "${t.text}"`);
        if (t.text === "cost") value = this.expression();
        else words.push(this.dashed("a value"));
        break;
      default:
        words.push(this.dashed(`a name after "${t.text}"`));
        while (t.text === "devices" && this.accept(",")) words.push(this.dashed("a device's name"));
    }
    // Settings may share a line: { kernel v5.4  cpu cortex-a76 }.
    if (!(this.t.kind === "name" && keys.includes(this.t.text)) && !this.accept(",")) this.endOfStatement("the setting");
    return { key: t.text, words, value, span: this.place(t) };
  }

  private givenName(what: string): Token {
    const t = this.name(what);
    if (RESERVED.has(t.text) || REGISTER_NAME.test(t.text) || t.text.includes("."))
      this.fail(t, `"${t.text}" cannot be a name: it is a word of the language or a register`, "choose another");
    return t;
  }

  private let(): Statement {
    const from = this.next();
    const name = this.givenName('a name after "let"');
    this.expect("=", "after the name");
    const value = this.expression();
    const span = this.span(from);
    this.endOfStatement("the value");
    return { kind: "let", name: name.text, value, text: this.textOf(span), span };
  }

  private range(): { from: Expr; to: Expr; step: Expr | undefined } {
    this.expect("in", "after the loop's name");
    const from = this.expression();
    this.expect("..", "after the first address of the loop");
    const to = this.expression();
    const step = this.accept("step") ? this.expression() : undefined;
    return { from, to, step };
  }

  private loop(): Statement {
    const t = this.next();
    const name = this.givenName("the loop's name");
    const range = this.range();
    const body = this.statements_();
    return { kind: "for", name: name.text, ...range, body, span: this.place(t) };
  }

  private vcpu(): number {
    if (this.t.kind !== "name" || this.is("{")) return 0;
    const t = this.next();
    const m = /^vcpu([0-9]+)$/.exec(t.text);
    if (m === null) this.fail(t, `unexpected "${t.text}"`, "expected vcpu0, vcpu1, …");
    const n = Number(m[1]);
    if (n >= LIMITS.vcpus) this.fail(t, `a machine has at most ${LIMITS.vcpus} vCPUs`, `expected vcpu0 to vcpu${LIMITS.vcpus - 1}`);
    return n;
  }

  private guest(): GuestBlock {
    const t = this.next();
    const vcpu = this.vcpu();
    return { kind: "guest", vcpu, body: this.guestBody(), span: this.place(t) };
  }

  private par(): Statement {
    const t = this.next();
    const agents: (GuestBlock | ParThread)[] = [];
    this.block(() => {
      const a = this.t;
      if (this.is("guest")) {
        const block = this.guest();
        if (agents.some((o) => o.kind === "guest" && o.vcpu === block.vcpu))
          this.errors.add(a, `vcpu${block.vcpu} runs twice in this par`, "one block per vCPU");
        agents.push(block);
      } else if (this.is("vmm")) {
        this.i++;
        const name = this.t.kind === "name" ? this.next().text : "vmm";
        if (agents.some((o) => o.kind === "thread" && o.name === name))
          this.errors.add(a, `a second VMM thread "${name}" in this par`, "give it a name of its own: vmm NAME { … }");
        agents.push({ kind: "thread", kernel: false, name, body: this.statements_(), span: this.place(a) });
      } else if (this.is("kthread")) {
        const thread = this.kthread();
        if (agents.some((o) => o.kind === "thread" && o.name === thread.name))
          this.errors.add(a, `a second thread "${thread.name}" in this par`, "give it a name of its own");
        agents.push(thread);
      } else this.fail(a, `unexpected ${this.shown(a)} in par`, "expected guest vcpuN { … }, vmm NAME { … } or kthread NAME { … }");
    });
    return { kind: "par", agents, span: this.place(t) };
  }

  private kthread(): ParThread {
    const t = this.next();
    const name = this.givenName("the kernel thread's name");
    return { kind: "thread", kernel: true, name: name.text, body: this.statements_(), span: this.place(t) };
  }

  private on(out: Statement[], top: boolean): void {
    const t = this.next();
    if (this.is("exception")) {
      this.i++;
      if (!top) this.fail(t, '"on exception" stands at the top of a script', "move it out of the block");
      if (this.handler !== undefined) this.errors.add(t, 'a second "on exception"', "a script has one handler");
      const body = this.guestBody();
      this.handler = { body, span: this.place(t) };
      return;
    }
    if (this.is("mmio")) {
      this.i++;
      if (this.accept("ecam")) {
        const base = this.expression();
        this.expect("->", "after the address");
        const device = this.expression();
        this.endOfStatement("the device");
        out.push({ kind: "ecam", base, device, span: this.place(t) });
        return;
      }
      if (this.accept("leave")) {
        const address = this.expression();
        this.endOfStatement("the address");
        out.push({ kind: "leave", address, span: this.place(t) });
        return;
      }
      if (!this.accept("read"))
        this.fail(this.t, `unexpected ${this.shown(this.t)} after "on mmio"`, didYouMean(this.t.text, ["read", "leave", "ecam"]));
      const address = this.expression();
      this.expect("->", "after the address");
      const value = this.expression();
      this.endOfStatement("the answer");
      out.push({ kind: "answer", address, value, span: this.place(t) });
      return;
    }
    const on = this.variantNames();
    out.push({ kind: "on", on, body: this.statements_(), span: this.place(t) });
  }

  private variantNames(): NameAt[] {
    const on = [this.dashed("a variant's name")];
    while (this.accept(",")) on.push(this.dashed("a variant's name"));
    return on;
  }

  // --- the table of a run ---------------------------------------------------------

  private report(): Report {
    const t = this.next();
    if (this.t.kind !== "string")
      this.fail(this.t, `unexpected ${this.shown(this.t)} after "report"`, 'expected the label of a column in "…"');
    const label = this.next().text;
    const what = this.reported();
    const span = this.span(t);
    this.endOfStatement("the report");
    return { kind: "report", label, what, span };
  }

  private reported(): Report["what"] {
    const worded = this.is("count") || this.is("sum") || this.is("stage2") || this.is("place");
    // A value may have one of these names; what stands behind a word of the language is a name or a number.
    const follows = this.peek().kind;
    if (!worded || (follows !== "name" && follows !== "number")) return { kind: "value", expr: this.expression() };
    const kind = this.next().text;
    if (kind === "stage2" || kind === "place") return { kind, expr: this.expression() };
    const name = this.name("an event's name");
    const event = name.text === "fault" ? "kvm_guest_fault" : name.text;
    const span = this.place(name);
    if (kind === "count") return { kind: "count", event, fields: this.fields(), span };
    const field = this.name("the field that is summed");
    return { kind: "sum", event, field: field.text, fields: this.fields(), span, fieldSpan: this.place(field) };
  }

  // --- expectations ------------------------------------------------------------

  private expectation(): Expectation {
    const t = this.next();
    const on = this.accept("on") ? this.variantNames() : [];
    const condition = this.condition();
    const span = this.span(t);
    this.endOfStatement("the expectation");
    return { kind: "expect", on, condition, text: this.textOf(span), span };
  }

  private condition(): Condition {
    const t = this.t;
    if (t.kind === "name" && CONDITION_WORDS.includes(t.text as (typeof CONDITION_WORDS)[number])) {
      switch (t.text) {
        case "host":
          return this.crash(false);
        case "livelock":
          this.i++;
          return { kind: "livelock" };
        case "deadlock":
          this.i++;
          return { kind: "deadlock" };
        case "ok":
          this.i++;
          return { kind: "errno", name: undefined, span: this.place(t) };
        case "errno": {
          this.i++;
          const name = this.name("an errno such as EFAULT");
          return { kind: "errno", name: name.text, span: this.place(name) };
        }
        case "stage2": {
          this.i++;
          const ipa = this.expression();
          const none = this.accept("none");
          return { kind: "stage2", ipa, none, fields: none ? [] : this.fields() };
        }
        case "dirty": {
          this.i++;
          const pages: Expr[] = [];
          if (!this.accept("none")) {
            pages.push(this.expression());
            while (this.accept(",")) pages.push(this.expression());
          }
          return { kind: "dirty", pages };
        }
        case "cache": {
          this.i++;
          const addr = this.expression();
          const state = this.name("invalid, clean or dirty");
          return { kind: "cache", addr, state: state.text, span: this.place(state) };
        }
        case "exception":
          this.i++;
          return { kind: "exception", not: false, fields: this.fields() };
        case "no": {
          this.i++;
          if (this.is("host")) return this.crash(true);
          if (this.accept("exception")) return { kind: "exception", not: true, fields: this.fields() };
          return this.counted({ least: 0, most: 0 });
        }
        case "at": {
          this.i++;
          const word = this.name('"least" or "most"');
          if (word.text !== "least" && word.text !== "most") this.fail(word, `unexpected "${word.text}"`, 'expected "least" or "most"');
          const n = this.number();
          return this.counted(word.text === "least" ? { least: n, most: Infinity } : { least: 0, most: n });
        }
        default:
          return this.counted({ least: 1, most: Infinity });
      }
    }
    if (
      t.kind === "number" &&
      this.peek().kind === "name" &&
      CONDITION_WORDS.includes(this.peek().text as (typeof CONDITION_WORDS)[number])
    ) {
      const n = this.number();
      return this.counted({ least: n, most: n });
    }
    return { kind: "value", expr: this.expression() };
  }

  private number(): number {
    const t = this.t;
    if (t.kind !== "number" || t.value > 1_000_000_000n) this.fail(t, `unexpected ${this.shown(t)}`, "expected a number of events");
    this.i++;
    return Number(t.value);
  }

  private crash(not: boolean): Condition {
    this.expect("host", "");
    this.expect("crash", 'after "host"');
    let where: string | undefined;
    let reason: string | undefined;
    if (this.accept("in")) where = this.name("a kernel function").text;
    if (this.t.kind === "string") reason = this.next().text;
    return { kind: "crash", not, where, reason };
  }

  private counted(count: Count): Condition {
    const t = this.t;
    const span = this.place(t);
    switch (t.kind === "name" ? t.text : "") {
      case "fault":
        this.i++;
        return { kind: "event", count, event: "kvm_guest_fault", fields: this.fields(), span, anywhere: this.anywhere() };
      case "notifier":
        this.i++;
        return { kind: "event", count, event: "kvm_unmap_hva_range", fields: this.fields(), span, anywhere: this.anywhere() };
      case "event": {
        this.i++;
        const name = this.name("an event's name");
        return { kind: "event", count, event: name.text, fields: this.fields(), span: this.place(name), anywhere: this.anywhere() };
      }
      case "exit": {
        this.i++;
        const name = this.name("an exit reason such as MMIO");
        return { kind: "exit", count, reason: name.text, fields: this.fields(), span: this.place(name) };
      }
      case "inject": {
        this.i++;
        const what = this.name("pabt, dabt, sea, serror, size or undef");
        if (!INJECTIONS.includes(what.text as (typeof INJECTIONS)[number]))
          this.fail(what, `nothing named "${what.text}" is injected`, didYouMean(what.text, INJECTIONS));
        return { kind: "inject", count, what: what.text, fields: this.fields(), span: this.place(what) };
      }
    }
    this.fail(t, `unexpected ${this.shown(t)}`, "expected fault, event, notifier, exit or inject");
  }

  private anywhere(): boolean {
    if (!this.accept("anywhere")) return false;
    return true;
  }

  private fields(): FieldTest[] {
    const out: FieldTest[] = [];
    while (this.t.kind === "name" && !this.is("anywhere")) {
      const name = this.next();
      const op = this.t;
      const isOp = op.kind === "punct" && ["=", "==", "!=", "<", "<=", ">", ">="].includes(op.text);
      if (!isOp && (name.text === "read" || name.text === "write")) {
        // The direction of an access, as people say it.
        const value: Expr = { kind: "number", value: name.text === "write" ? 1n : 0n, span: this.place(name) };
        out.push({ name: "write", op: "=", value, span: this.place(name) });
        continue;
      }
      if (!isOp) this.fail(op, `unexpected ${this.shown(op)} after the field "${name.text}"`, "expected = and a value");
      this.i++;
      const value = this.fieldValue();
      out.push({ name: name.text, op: op.text === "==" ? "=" : (op.text as FieldTest["op"]), value, span: this.span(name) });
      this.accept(",");
    }
    return out;
  }

  /** A field's value: a sum (no comparison), or a word such as EFAULT, Device-nGnRE, read. */
  private fieldValue(): Expr {
    const t = this.t;
    if (t.kind === "name" && this.peek().text === "-" && !this.peek().spaced && this.peek(2).kind === "name" && !this.peek(2).spaced) {
      const d = this.dashed("a value");
      return { kind: "string", text: d.name, span: d.span };
    }
    return this.binary(3);
  }

  // --- expressions ---------------------------------------------------------------

  expression(): Expr {
    return this.binary(0);
  }

  private binary(level: number): Expr {
    if (level === LEVELS.length) return this.unary();
    let left = this.binary(level + 1);
    for (let n = 0; this.t.kind === "punct" && LEVELS[level]!.includes(this.t.text); n++) {
      const op = this.next();
      if (n > 1000) this.fail(op, "this expression has too many terms", "");
      const right = this.binary(level + 1);
      left = { kind: "binary", op: op.text, left, right, span: { ...left.span, length: right.span.at + right.span.length - left.span.at } };
    }
    return left;
  }

  private unary(): Expr {
    const t = this.t;
    if (t.kind === "punct" && (t.text === "-" || t.text === "~" || t.text === "!")) {
      this.i++;
      return this.deeper(t, () => {
        const of = this.unary();
        return { kind: "unary", op: t.text, of, span: { ...this.place(t), length: of.span.at + of.span.length - t.at } };
      });
    }
    return this.primary();
  }

  private primary(): Expr {
    const t = this.t;
    switch (t.kind) {
      case "number":
        this.i++;
        return { kind: "number", value: t.value, span: this.place(t) };
      case "string":
      case "bdf":
        this.i++;
        return { kind: "string", text: t.text, span: this.place(t) };
      case "name":
        if (this.peek().text === "(" && this.peek().kind === "punct") return this.call();
        this.i++;
        return { kind: "name", name: t.text, span: this.place(t) };
      case "punct":
        if (t.text === "(") {
          this.i++;
          const inner = this.deeper(t, () => this.expression());
          this.expect(")", "in the parentheses");
          return inner;
        }
    }
    this.fail(t, `unexpected ${this.shown(t)}`, "expected a value: a number, a name or (");
  }

  private call(): Call {
    const t = this.next();
    this.expect("(", "");
    const args: Argument[] = [];
    this.deeper(t, () => {
      this.blankLines();
      while (!this.is(")")) {
        const from = this.t;
        const named = from.kind === "name" && this.peek().text === "=" && this.peek().kind === "punct";
        if (named) this.i += 2;
        const value = this.expression();
        args.push({ name: named ? from.text : undefined, value, span: this.span(from) });
        this.blankLines();
        if (this.accept(",")) this.blankLines();
        else if (!this.is(")")) this.fail(this.t, `unexpected ${this.shown(this.t)} in the arguments of ${t.text}`, 'expected "," or ")"');
      }
    });
    this.expect(")", "in a call");
    return { kind: "call", name: t.text, args, span: this.place(t), text: this.textOf(this.span(t)) };
  }
  private blankLines(): void {
    while (this.t.kind === "newline") this.i++;
  }

  // --- guest code ----------------------------------------------------------------

  private guestBody(): GuestStatement[] {
    const out: GuestStatement[] = [];
    this.block(() => this.guestStatement(out));
    return out;
  }

  private guestStatement(out: GuestStatement[]): void {
    let t = this.t;
    this.count(t);
    let directive = "";
    if (this.is(".") && this.peek().kind === "name") {
      // .inst and .word put a number into the code.
      directive = ".";
      this.i++;
      t = this.t;
    }
    if (t.kind !== "name") this.fail(t, `unexpected ${this.shown(t)} in guest code`, "expected an A64 instruction, a label or for");
    if (t.text === "for") {
      this.i++;
      const name = this.givenName("the loop's name");
      const range = this.range();
      out.push({ kind: "loop", name: name.text, ...range, body: this.guestBody(), span: this.place(t) });
      return;
    }
    if (t.text === "expect" || t.text === "let") this.fail(t, `"${t.text}" does not stand in guest code`, "close the guest block first");
    this.i++;
    if (this.accept(":")) {
      out.push({ kind: "label", name: t.text, span: this.place(t) });
      return;
    }
    const operands: OperandPart[][] = [];
    let part: OperandPart[] = [];
    let open = 0;
    while (this.t.kind !== "newline" && this.t.kind !== "end" && !this.is(";") && !this.is("}")) {
      const o = this.t;
      if (this.is(",") && open === 0) {
        this.i++;
        if (part.length === 0) this.fail(o, 'unexpected "," in the operands', "expected an operand before it");
        operands.push(part);
        part = [];
        continue;
      }
      if (this.is("[")) open++;
      if (this.is("]")) open--;
      part.push(this.operandPart());
    }
    if (open !== 0) this.fail(this.t, `the [ of ${t.text} is not closed`, 'expected "]"');
    if (part.length > 0) operands.push(part);
    else if (operands.length > 0) this.fail(this.t, `unexpected ${this.shown(this.t)} after ","`, "expected an operand");
    const span = this.span(t);
    out.push({
      kind: "instruction",
      mnemonic: directive + t.text.toLowerCase(),
      operands,
      text: this.textOf(span),
      span: { ...this.place(t), length: span.length },
    });
  }

  /** `[`, `]`, `,`, `!` and bare words as they stand; `#…`, numbers and sums as expressions. */
  private operandPart(): OperandPart {
    const t = this.t;
    if (t.kind === "punct" && ["[", "]", ",", "!", ":", "="].includes(t.text)) {
      this.i++;
      return { text: t.text, span: this.place(t) };
    }
    if (this.accept("#")) {
      const expr = this.binary(3);
      return { expr, span: this.span(t) };
    }
    if (t.kind === "name" && (REGISTER_NAME.test(t.text.toLowerCase()) || !this.sumFollows())) {
      this.i++;
      return { text: t.text, span: this.place(t) };
    }
    if (t.kind === "string") this.fail(t, "unexpected string in guest code", "expected an operand");
    const expr = this.binary(3);
    return { expr, span: this.span(t) };
  }
  private sumFollows(): boolean {
    const n = this.peek();
    return n.kind === "punct" && ["+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^"].includes(n.text);
  }
}
