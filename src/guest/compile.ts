/**
 * A parsed script to a program: every name is checked, settings become machine configurations, guest
 * blocks become words at addresses. All errors of the script are found here, before anything runs.
 */
import type {
  Call,
  Condition,
  Expectation,
  Expr,
  FieldTest,
  GuestBlock,
  NameAt,
  ParThread,
  Report,
  Script,
  Setting,
  Statement,
} from "./ast.js";
import { CALLS, findCall, parameterOf, signature } from "./calls.js";
import { CONSTANTS } from "./constants.js";
import { Diagnostics, didYouMean, ScriptError, type Span } from "./diagnostics.js";
import { evaluate, EvaluationError, type Scope } from "./evaluate.js";
import { CODE_BASE, GuestCompiler, NOT_CONSTANT, type GuestImage } from "./guestcode.js";
import { LIMITS } from "./limits.js";
import type { Field } from "../sim/events.js";
import { BUFFER_MODES, SHAREABILITIES } from "../arch/ordering.js";
import { COMBININGS, FAILED_READS, PAYLOADS, SERIALISATION_POINTS } from "../vfio/fabric.js";
import { parse, REGISTER_NAME } from "./parser.js";
import type { World } from "./world.js";

/** One machine on which a script runs. */
export interface VariantConfig {
  readonly name: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly set: Readonly<Record<string, string>>;
  readonly profile: string | undefined;
  /** Store and gathering buffers with the PCIe fabric: off, modelled, weak. */
  readonly buffers: string | undefined;
  /** The point of serialisation: root-complex, interconnect. */
  readonly serialization: string | undefined;
  /** What a load becomes that no function answers: all-ones, serror, sea. */
  readonly failedRead: string | undefined;
  /** Max_Payload_Size in bytes. */
  readonly maxPayload: number | undefined;
  /** What the host bridge makes one memory write of: line, payload. */
  readonly combining: string | undefined;
  /** Attributes that the root complex sets on memory writes: on, off. */
  readonly relaxedOrdering: string | undefined;
  readonly noSnoop: string | undefined;
  /** Whom inner shareable barriers order for: merged, strict. */
  readonly shareability: string | undefined;
  /** Bytes of a peripheral: a power of two. */
  readonly peripheralBlock: number | undefined;
  readonly seed: number;
  /** What exclusives and LSE atomics do where the memory type does not support them; undefined: as the profile says. */
  readonly atomics: string | undefined;
  /** How the caches are modelled; undefined: not at all. */
  readonly cache: string | undefined;
  /** What firmware does about memory errors; undefined: nothing. */
  readonly apei: string | undefined;
}

/** What a machine's header and a variant both set. */
type Common = Omit<VariantConfig, "name" | "kernel" | "set">;

export interface MachineConfig {
  readonly ram: number | undefined;
  readonly cpus: number | undefined;
  readonly devices: readonly string[];
  readonly costs: Readonly<Record<string, number>>;
  /** Guest faults in one place after which a guest makes no progress. */
  readonly livelock: number;
}

export interface Program {
  readonly script: Script;
  readonly source: string;
  readonly machine: MachineConfig;
  /** At least one. */
  readonly variants: readonly VariantConfig[];
  readonly image: GuestImage;
  readonly vcpus: number;
  /** The script creates its VM itself. */
  readonly createsVm: boolean;
}

export const DEFAULT_KERNEL = "v6.12";
export const DEFAULT_CPU = "max";
const DEFAULT_LIVELOCK = 1000;

/** Names that an expectation may use besides the script's own. */
const RESULT_NAMES = ["ret"] as const;
export const EXIT_FIELDS: Readonly<Record<string, readonly string[]>> = {
  MMIO: ["write", "addr", "len", "data"],
  ARM_NISV: ["esr_iss", "fault_ipa"],
  ARM_SEA: ["flags", "esr", "gva", "gpa"],
  DEBUG: [],
  INTR: [],
  DIRTY_RING_FULL: [],
  SYSTEM_EVENT: [],
  HYPERCALL: [],
  MEMORY_FAULT: ["flags", "gpa", "size"],
  UNKNOWN: [],
};
export const STAGE2_FIELDS = ["pa", "size", "level", "type", "perms", "s2ap", "memattr", "xn", "af"] as const;
export const STAGE2_TYPES = ["Device-nGnRnE", "Device-nGnRE", "Normal-NC", "Normal-WB"] as const;
export const ON_OFF = ["on", "off"] as const;
export const CACHE_STATES = ["invalid", "clean", "dirty"] as const;
export const EXCEPTION_FIELDS = ["vector", "esr", "far", "elr", "spsr"] as const;
export const INJECT_FIELDS = ["far"] as const;
export const ERRNO_NAMES = [
  "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EAGAIN", "ENOMEM", "EFAULT", "EBUSY", "EEXIST", "ENODEV", "EINVAL",
  "ENOTTY", "ENOSPC", "ERANGE", "ENOSYS", "ETIME", "EOVERFLOW", "EADDRINUSE", "EHWPOISON", "EBADF", "EACCES", "EOPNOTSUPP", "SIGBUS", "SIGSEGV",
] as const; // prettier-ignore
/** Fields of kernel trace points under the names that people say. */
export const FIELD_ALIASES: Readonly<Record<string, readonly string[]>> = {
  esr: ["hsr"],
  far: ["hxfar"],
  pc: ["vcpu_pc"],
  hsr: ["esr"],
  hxfar: ["far"],
};

/** Values that replace those of a script's own `let`s, by name. */
export type Lets = ReadonlyMap<string, bigint>;
const NO_LETS: Lets = new Map();

/** Names of the `let`s that stand outside of blocks. */
export const letNames = (script: Script): string[] => [...new Set(script.body.flatMap((s) => (s.kind === "let" ? [s.name] : [])))];

/** The script with the first `let` of each name in `lets` replaced. */
function withLets(script: Script, lets: Lets): Script {
  const first = (name: string): number => script.body.findIndex((s) => s.kind === "let" && s.name === name);
  const body = script.body.map((s, n): Statement => {
    const value = s.kind === "let" && first(s.name) === n ? lets.get(s.name) : undefined;
    return s.kind === "let" && value !== undefined ? { ...s, value: { kind: "number", value, span: s.value.span } } : s;
  });
  return { ...script, body };
}

/** Parses and checks a script. @throws ScriptError with all errors of the file. */
export function compile(file: string, source: string, world: World, lets = NO_LETS): Program {
  const errors = new Diagnostics(file, source);
  const parsed = parse(file, source, errors);
  const script = lets.size === 0 ? parsed : withLets(parsed, lets);
  const program = new Checker(script, source, world, errors).program();
  errors.throwIfAny();
  return program;
}

/** Bytes of a script file to its text. @throws ScriptError for what no script is. */
export function decodeScript(file: string, bytes: Uint8Array): string {
  const wrong = (message: string, hint: string): never => {
    throw new ScriptError([{ file, line: 1, column: 1, length: 1, message, hint, text: "" }]);
  };
  if (bytes.length > LIMITS.fileBytes)
    wrong(`this file has more than ${LIMITS.fileBytes} bytes, the most that a script may have`, "expected a smaller file");
  const zero = bytes.indexOf(0);
  if (zero >= 0) wrong(`this file is binary: a zero byte at offset ${zero}`, "expected a text file");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const at = firstBadByte(bytes);
    let line = 1;
    let start = 0;
    for (let i = 0; i < at; i++)
      if (bytes[i] === 10) {
        line++;
        start = i + 1;
      }
    throw new ScriptError([
      {
        file,
        line,
        column: at - start + 1,
        length: 1,
        message: `this file is not UTF-8: byte 0x${bytes[at]!.toString(16)} at offset ${at}`,
        hint: "expected UTF-8 text",
        text: "",
      },
    ]);
  }
}

function firstBadByte(bytes: Uint8Array): number {
  // The longest prefix that decodes, by bisection: a stream decoder keeps an unfinished character back.
  const decodes = (length: number, stream: boolean): boolean => {
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  let good = 0;
  let bad = bytes.length;
  while (bad - good > 1) {
    const mid = (good + bad) >> 1;
    if (decodes(mid, true)) good = mid;
    else bad = mid;
  }
  // What was kept back is where the wrong character begins.
  while (!decodes(good, false)) good--;
  return good;
}

/** A name's standing while checking: a constant with its value, or known only at run time. */
type Binding = bigint | undefined;

class Checker {
  private scopes: Map<string, Binding>[] = [new Map()];
  private readonly variantNames: string[];
  private vcpus = 1;
  private createsVm = false;
  /** Inside a kernel thread. */
  private inKernel = false;
  private readonly guest: GuestCompiler;

  constructor(
    private readonly script: Script,
    private readonly source: string,
    private readonly world: World,
    private readonly errors: Diagnostics,
  ) {
    this.guest = new GuestCompiler(world.assembler, errors, CODE_BASE);
    this.variantNames = script.variants.map((v) => v.name);
  }

  program(): Program {
    const machine = this.machine();
    const variants = this.variants();
    // The handler comes first in memory but may use every constant of the top level.
    this.topConstants();
    this.guest.vectors(this.script.handler?.body, this.constants());
    this.scopes = [new Map()];
    this.statements(this.script.body);
    return {
      script: this.script,
      source: this.source,
      machine,
      variants,
      image: this.guest.image(),
      vcpus: this.vcpus,
      createsVm: this.createsVm,
    };
  }

  // --- header ----------------------------------------------------------------------

  private setting(settings: readonly Setting[], key: string): Setting | undefined {
    return settings.findLast((s) => s.key === key);
  }
  private name(settings: readonly Setting[], key: string): string | undefined {
    return this.setting(settings, key)?.words[0]?.name;
  }
  private number(settings: readonly Setting[], key: string, least: number, most: number): number | undefined {
    const s = this.setting(settings, key);
    if (s?.value === undefined) return undefined;
    const v = this.constant(s.value);
    if (v === undefined) return undefined;
    if (v < BigInt(least) || v > BigInt(most)) {
      this.errors.add(s.value.span, `${key} is ${v}`, `expected ${least} to ${most}`);
      return undefined;
    }
    return Number(v);
  }
  private known(words: readonly NameAt[], names: readonly string[], what: string, hint?: (name: string) => string): void {
    for (const w of words) {
      if (names.includes(w.name)) continue;
      const said = hint?.(w.name) ?? "";
      this.errors.add(w.span, `no ${what} named "${w.name}"`, said === "" ? didYouMean(w.name, names) : said);
    }
  }

  private checkSettings(settings: readonly Setting[]): void {
    for (const s of settings) {
      if (s.key === "kernel") this.known(s.words, this.world.eras, "era", (n) => this.world.eraHint(n));
      if (s.key === "cpu") {
        for (const w of s.words) {
          const problem = w.name.includes(",") ? this.world.cpuProblem(w.name) : "";
          if (problem !== "") this.errors.add(w.span, problem, 'expected a profile and features, like "max,-s2fwb,+dic"');
        }
        this.known(
          s.words.filter((w) => !w.name.includes(",")),
          this.world.cpus,
          "CPU",
        );
      }
      if (s.key === "profile") this.known(s.words, this.world.profiles, "profile");
      if (s.key === "buffers") this.known(s.words, BUFFER_MODES, "way to model buffers");
      if (s.key === "failed_read") this.known(s.words, FAILED_READS, "answer");
      if (s.key === "serialization") this.known(s.words, SERIALISATION_POINTS, "point of serialisation");
      if (s.key === "relaxed_ordering" || s.key === "no_snoop") this.known(s.words, ON_OFF, "setting");
      if (s.key === "shareability") this.known(s.words, SHAREABILITIES, "way to tell shareability domains");
      if (s.key === "combining") this.known(s.words, COMBININGS, "way to combine writes");
      if (s.key === "max_payload" && s.value !== undefined) {
        const v = this.constant(s.value);
        if (v !== undefined && !PAYLOADS.includes(Number(v)))
          this.errors.add(s.value.span, `no Max_Payload_Size of ${v} bytes`, `expected ${PAYLOADS.join(", ")}`);
      }
      if (s.key === "atomics") this.known(s.words, this.world.atomics, "answer to unsupported atomics");
      if (s.key === "cache") this.known(s.words, this.world.caches, "cache model");
      if (s.key === "apei") this.known(s.words, this.world.apeis, "firmware");
      if (s.key === "devices") {
        const specs = s.words.filter((w) => w.name !== "none");
        this.known(specs, this.world.devices, "device");
      }
      if (s.key === "cost") this.known(s.words, this.world.costs, "cost");
      if (s.key === "set") {
        const [decision, value] = s.words;
        if (decision === undefined || value === undefined) continue;
        if (!this.world.decisions.includes(decision.name)) this.known([decision], this.world.decisions, "decision");
        else {
          const legal = this.world.decisionValues(decision.name);
          if (!legal.includes(value.name))
            this.errors.add(value.span, `${decision.name} is never "${value.name}"`, `expected ${legal.join(" or ")}`);
        }
      }
    }
  }

  private decisions(settings: readonly Setting[]): Record<string, string> {
    const out: Record<string, string> = {};
    for (const s of settings) if (s.key === "set" && s.words.length === 2) out[s.words[0]!.name] = s.words[1]!.name;
    return out;
  }

  private machine(): MachineConfig {
    const m = this.script.machine;
    this.checkSettings(m);
    const costs: Record<string, number> = {};
    for (const s of m)
      if (s.key === "cost" && s.value !== undefined) {
        const v = this.constant(s.value);
        if (v !== undefined && (v < 0n || v > 1_000_000_000n))
          this.errors.add(s.value.span, `${s.words[0]!.name} costs ${v}`, "expected 0 to 1000000000 cycles");
        else if (v !== undefined) costs[s.words[0]!.name] = Number(v);
      }
    return {
      ram: this.number(m, "ram", 1024 ** 2, LIMITS.ram),
      cpus: this.number(m, "cpus", 1, 64),
      devices: (this.setting(m, "devices")?.words ?? []).map((w) => w.name).filter((n) => n !== "none"),
      costs,
      livelock: this.number(m, "livelock", 2, 1_000_000) ?? DEFAULT_LIVELOCK,
    };
  }

  /** What the header's machine says, or a variant. @param base what holds where a variant says nothing */
  private common(s: readonly Setting[], base?: Common): Common {
    return {
      cpu: this.name(s, "cpu") ?? base?.cpu ?? DEFAULT_CPU,
      profile: this.name(s, "profile") ?? base?.profile,
      buffers: this.name(s, "buffers") ?? base?.buffers,
      serialization: this.name(s, "serialization") ?? base?.serialization,
      failedRead: this.name(s, "failed_read") ?? base?.failedRead,
      maxPayload: this.number(s, "max_payload", 128, 4096) ?? base?.maxPayload,
      combining: this.name(s, "combining") ?? base?.combining,
      relaxedOrdering: this.name(s, "relaxed_ordering") ?? base?.relaxedOrdering,
      noSnoop: this.name(s, "no_snoop") ?? base?.noSnoop,
      shareability: this.name(s, "shareability") ?? base?.shareability,
      peripheralBlock: this.number(s, "peripheral_block", 4096, 2 ** 40) ?? base?.peripheralBlock,
      cache: this.name(s, "cache") ?? base?.cache,
      apei: this.name(s, "apei") ?? base?.apei,
      atomics: this.name(s, "atomics") ?? base?.atomics,
      seed: this.number(s, "seed", 0, 0xffffffff) ?? base?.seed ?? 0,
    };
  }

  private variants(): VariantConfig[] {
    const m = this.script.machine;
    const base = { kernel: this.name(m, "kernel") ?? DEFAULT_KERNEL, ...this.common(m) };
    if (this.script.variants.length === 0) {
      this.variantNames.push(base.kernel);
      return [{ ...base, name: base.kernel, set: this.decisions(m) }];
    }
    return this.script.variants.map((v) => {
      this.checkSettings(v.settings);
      const isEra = this.world.eras.includes(v.name);
      const kernel = this.name(v.settings, "kernel") ?? (isEra ? v.name : base.kernel);
      if (/^v[0-9]+\.[0-9]/.test(v.name) && !isEra && this.name(v.settings, "kernel") === undefined)
        this.errors.add(
          v.span,
          `the variant "${v.name}" names no era and sets no kernel`,
          this.world.eraHint(v.name) || didYouMean(v.name, this.world.eras),
        );
      return {
        name: v.name,
        kernel,
        ...this.common(v.settings, base),
        set: { ...this.decisions(m), ...this.decisions(v.settings) },
      };
    });
  }

  /** `on v5.4`: a variant of this script, or an era that a variant (or `--kernel`) may run. */
  private on(names: readonly NameAt[]): void {
    for (const n of names) {
      if (this.variantNames.includes(n.name) || this.world.eras.includes(n.name)) continue;
      this.errors.add(n.span, `no variant or era named "${n.name}"`, didYouMean(n.name, [...this.variantNames, ...this.world.eras]));
    }
  }

  // --- names ------------------------------------------------------------------------

  private bind(name: string, value: Binding, span: Span): void {
    if (CONSTANTS.has(name)) this.errors.add(span, `"${name}" has a value already: ${CONSTANTS.get(name)}`, "choose another name");
    else if (this.scopes.some((s) => s.has(name))) this.errors.add(span, `a second value named "${name}"`, "choose another name");
    this.scopes[this.scopes.length - 1]!.set(name, value);
  }
  private lookup(name: string): { found: boolean; value: Binding } {
    const c = CONSTANTS.get(name);
    if (c !== undefined) return { found: true, value: c };
    for (const s of this.scopes) if (s.has(name)) return { found: true, value: s.get(name) };
    return { found: false, value: undefined };
  }
  private names(): string[] {
    return [...this.scopes.flatMap((s) => [...s.keys()]), ...CONSTANTS.keys()];
  }
  /** Names with values while compiling; anything else is an error. */
  private constants(): Scope {
    return {
      has: (name) => this.lookup(name).found,
      name: (name, span) => {
        const { found, value } = this.lookup(name);
        if (value !== undefined) return value;
        if (found) throw new EvaluationError(span, `"${name}" gets its value only while the script runs`, NOT_CONSTANT);
        throw new EvaluationError(span, `nothing is named "${name}"`, didYouMean(name, this.names()));
      },
      call: (c) => {
        throw new EvaluationError(c.span, "a call has no value before the script runs", "expected a constant");
      },
    };
  }
  /** A constant expression's value; reports what is wrong with it. */
  private constant(e: Expr): bigint | undefined {
    try {
      return evaluate(e, this.constants());
    } catch (err) {
      if (!(err instanceof EvaluationError)) throw err;
      this.errors.add(err.span, err.message, err.hint === NOT_CONSTANT ? "expected a constant" : err.hint);
      return undefined;
    }
  }
  private topConstants(): void {
    for (const s of this.script.body)
      if (s.kind === "let" && !this.lookup(s.name).found) this.scopes[0]!.set(s.name, this.tryConstant(s.value));
  }
  /** The value of an expression that may wait for the run; errors are reported elsewhere. */
  private tryConstant(e: Expr): Binding {
    // What most lets are; an exception for each would take a tenth of a short run.
    if (e.kind === "call") return undefined;
    try {
      return evaluate(e, this.constants());
    } catch (err) {
      if (!(err instanceof EvaluationError)) throw err;
      return undefined;
    }
  }

  /** Checks an expression whose value may be known only while the script runs. */
  private expr(e: Expr, where: "vmm" | "expect"): void {
    switch (e.kind) {
      case "number":
        return;
      case "string":
        this.errors.add(e.span, "a text is no number", "expected a number or a name");
        return;
      case "unary":
        this.expr(e.of, where);
        break;
      case "binary":
        this.expr(e.left, where);
        this.expr(e.right, where);
        break;
      case "call":
        if (where === "expect") this.errors.add(e.span, "an expectation makes no calls", "write let value = … before it");
        else this.call(e, true);
        return;
      case "name":
        if (this.lookup(e.name).found) return;
        if (where === "expect" && ((RESULT_NAMES as readonly string[]).includes(e.name) || this.register(e.name) !== undefined)) return;
        this.errors.add(
          e.span,
          `nothing is named "${e.name}"`,
          didYouMean(e.name, where === "expect" ? [...this.names(), ...RESULT_NAMES, ...this.world.registers] : this.names()) ||
            (REGISTER_NAME.test(e.name) ? "a register's value: let value = KVM_GET_ONE_REG(…)" : ""),
        );
        return;
    }
    // A constant expression fails now, not in the middle of a run.
    if (this.isConstant(e)) this.constant(e);
  }
  private isConstant(e: Expr): boolean {
    if (e.kind === "number") return true;
    if (e.kind === "name") return this.lookup(e.name).value !== undefined;
    if (e.kind === "unary") return this.isConstant(e.of);
    if (e.kind === "binary") return this.isConstant(e.left) && this.isConstant(e.right);
    return false;
  }
  /** `x0`, `vcpu1.esr_el1`. */
  private register(name: string): { vcpu: number; register: string } | undefined {
    const r = registerName(name);
    return r !== undefined && this.world.registers.includes(r.register) ? r : undefined;
  }

  // --- statements ----------------------------------------------------------------------

  private scoped(run: () => void): void {
    this.scopes.push(new Map());
    run();
    this.scopes.pop();
  }

  private statements(body: readonly Statement[]): void {
    for (const s of body) this.statement(s);
  }

  private statement(s: Statement): void {
    switch (s.kind) {
      case "let":
        this.expr(s.value, "vmm");
        this.bind(s.name, this.tryConstant(s.value), s.span);
        return;
      case "call":
        this.call(s, false);
        return;
      case "for":
        this.expr(s.from, "vmm");
        this.expr(s.to, "vmm");
        if (s.step !== undefined) {
          this.expr(s.step, "vmm");
          const step = this.tryConstant(s.step);
          if (step !== undefined && step <= 0n) this.errors.add(s.step.span, "a loop's step is at least 1", "expected a positive number");
        }
        this.scoped(() => {
          this.bind(s.name, undefined, s.span);
          this.statements(s.body);
        });
        return;
      case "guest":
        this.block(s);
        return;
      case "vmm":
        this.scoped(() => this.statements(s.body));
        return;
      case "par":
        for (const a of s.agents)
          if (a.kind === "guest") this.block(a);
          else this.thread(a);
        return;
      case "thread":
        this.thread(s);
        return;
      case "on":
        this.on(s.on);
        this.scoped(() => this.statements(s.body));
        return;
      case "ecam":
        this.expr(s.base, "vmm");
        this.expr(s.device, "vmm");
        return;
      case "leave":
        this.expr(s.address, "vmm");
        return;
      case "answer":
        this.expr(s.address, "vmm");
        this.expr(s.value, "vmm");
        return;
      case "report":
        this.report(s);
        return;
      case "expect":
        this.expectation(s);
    }
  }

  /** The body of a thread: calls, let and for; of a kernel thread: what kernel threads do. */
  private thread(t: ParThread): void {
    this.inKernel = t.kernel;
    this.scoped(() => {
      for (const inner of t.body)
        if (
          inner.kind === "guest" ||
          inner.kind === "par" ||
          inner.kind === "thread" ||
          inner.kind === "vmm" ||
          inner.kind === "expect" ||
          (inner.kind === "call" && findCall(inner.name)?.runs === true)
        )
          this.errors.add(
            inner.span,
            `${inner.kind === "call" ? inner.name : inner.kind} does not stand in a thread of par`,
            t.kernel ? "expected what a kernel thread does, let or for" : "expected system calls, let or for",
          );
        else this.statement(inner);
    });
    this.inKernel = false;
  }

  private report(s: Report): void {
    const { what } = s;
    if (what.kind === "value" || what.kind === "stage2" || what.kind === "place") {
      this.expr(what.expr, "expect");
      return;
    }
    this.condition(
      { kind: "event", count: { least: 0, most: 0 }, event: what.event, fields: what.fields, span: what.span, anywhere: false },
      s.span,
    );
    const fields = this.world.eventFields(what.event);
    if (what.kind !== "sum" || fields === undefined) return;
    const field = fieldOf(what.field, fields);
    const numbers = fields.filter((f) => f.kind === "dec" || f.kind === "hex" || f.kind === "hex64").map((f) => f.name);
    if (field === undefined || !numbers.includes(field.name))
      this.errors.add(
        what.fieldSpan,
        `${what.event} has no number "${what.field}"`,
        didYouMean(what.field, numbers) || `expected ${numbers.join(", ")}`,
      );
  }

  private block(b: GuestBlock): void {
    this.vcpus = Math.max(this.vcpus, b.vcpu + 1);
    this.guest.block(b, this.constants());
  }

  private call(c: Call, inside: boolean): void {
    const decl = findCall(c.name);
    if (decl === undefined) {
      this.errors.add(
        c.span,
        `no system call or ioctl named "${c.name}"`,
        didYouMean(
          c.name,
          CALLS.map((d) => d.name),
        ),
      );
      return;
    }
    if (this.inKernel && decl.kernel !== true) {
      const does = CALLS.filter((d) => d.kernel === true).map((d) => d.name);
      this.errors.add(c.span, `a kernel thread does not call ${c.name}`, `it knows ${does.join(", ")}`);
      return;
    }
    if (inside && decl.runs === true) this.errors.add(c.span, `${c.name} is a statement, not a value`, "put it on a line of its own");
    if (c.name === "KVM_CREATE_VM") this.createsVm = true;
    const given = new Set<string>();
    for (const [n, a] of c.args.entries()) {
      const p = parameterOf(decl, a.name, n);
      if (p === undefined) {
        const names = decl.parameters.map((q) => q.name);
        if (a.name === undefined)
          this.errors.add(
            a.span,
            `${c.name} takes ${names.length} argument${names.length === 1 ? "" : "s"}`,
            `expected ${signature(decl)}`,
          );
        else this.errors.add(a.span, `${c.name} has no argument "${a.name}"`, didYouMean(a.name, names) || `expected ${signature(decl)}`);
        continue;
      }
      if (given.has(p.name)) this.errors.add(a.span, `"${p.name}" is given twice`, `expected ${signature(decl)}`);
      given.add(p.name);
      this.argument(p.kind, a.value);
    }
    for (const p of decl.parameters)
      if (p.fallback === undefined && !given.has(p.name))
        this.errors.add(c.span, `${c.name} needs "${p.name}"`, `expected ${signature(decl)}`);
  }

  private argument(kind: "number" | "text" | "register" | "vcpu", e: Expr): void {
    switch (kind) {
      case "number":
        this.expr(e, "vmm");
        return;
      case "text":
        if (e.kind !== "string")
          this.errors.add(e.span, "this argument is a name", 'expected a text in "…" or a PCI address such as 0000:00:06.0');
        return;
      case "register": {
        const r = e.kind === "name" ? this.register(e.name) : undefined;
        const wrong = e.kind === "name" ? registerName(e.name)?.register : undefined;
        if (r === undefined && wrong !== undefined)
          this.errors.add(e.span, `no register is named "${wrong}"`, didYouMean(wrong, this.world.registers));
        else if (r === undefined) this.errors.add(e.span, "this argument is a register", "expected x0, vcpu1.sp_el1, esr_el1, …");
        else this.vcpus = Math.max(this.vcpus, r.vcpu + 1);
        return;
      }
      case "vcpu": {
        const n = e.kind === "name" ? /^vcpu([0-9]+)$/.exec(e.name) : null;
        if (n === null || Number(n[1]) >= LIMITS.vcpus) this.errors.add(e.span, "this argument is a vCPU", "expected vcpu0, vcpu1, …");
        else this.vcpus = Math.max(this.vcpus, Number(n[1]) + 1);
      }
    }
  }

  // --- expectations -----------------------------------------------------------------------

  private expectation(s: Expectation): void {
    this.on(s.on);
    this.condition(s.condition, s.span);
  }

  private condition(c: Condition, span: Span): void {
    switch (c.kind) {
      case "crash":
      case "livelock":
      case "deadlock":
        return;
      case "errno":
        if (c.name !== undefined && !(ERRNO_NAMES as readonly string[]).includes(c.name))
          this.errors.add(c.span, `no errno named "${c.name}"`, didYouMean(c.name, ERRNO_NAMES));
        return;
      case "exit": {
        const fields = EXIT_FIELDS[c.reason];
        if (fields === undefined) this.errors.add(c.span, `no exit reason "${c.reason}"`, didYouMean(c.reason, Object.keys(EXIT_FIELDS)));
        else this.fields(c.fields, fields, `an exit ${c.reason}`);
        return;
      }
      case "event": {
        const fields = this.world.eventFields(c.event);
        if (fields === undefined) {
          this.errors.add(c.span, `no event named "${c.event}"`, didYouMean(c.event, this.world.events));
          return;
        }
        const names = [...fields.map((f) => f.name), "agent", "seq", "time"];
        for (const t of c.fields) {
          const field = fieldOf(t.name, fields);
          if (field === undefined && !names.includes(t.name))
            this.errors.add(t.span, `${c.event} has no field "${t.name}"`, didYouMean(t.name, names) || `expected ${names.join(", ")}`);
          else if (t.value.kind !== "string") this.fieldExpr(t.value, field);
        }
        return;
      }
      case "inject":
        this.fields(c.fields, INJECT_FIELDS, "an injected abort");
        return;
      case "exception":
        this.fields(c.fields, EXCEPTION_FIELDS, "an exception");
        return;
      case "stage2": {
        this.expr(c.ipa, "expect");
        for (const t of c.fields) {
          if (!(STAGE2_FIELDS as readonly string[]).includes(t.name))
            this.errors.add(
              t.span,
              `a stage-2 entry has no field "${t.name}"`,
              didYouMean(t.name, STAGE2_FIELDS) || `expected ${STAGE2_FIELDS.join(", ")}`,
            );
          else if (t.name === "type") {
            const text = wordOf(t.value);
            if (text === undefined || !(STAGE2_TYPES as readonly string[]).includes(text))
              this.errors.add(t.span, "no memory type of that name", `expected ${STAGE2_TYPES.join(", ")}`);
          } else if (t.name === "perms") {
            const text = wordOf(t.value);
            if (text === undefined || !/^(none|r?w?x?)$/.test(text))
              this.errors.add(t.span, "permissions are letters", "expected r, rw, rx, rwx, w or none");
          } else this.expr(t.value, "expect");
        }
        return;
      }
      case "dirty":
        for (const p of c.pages) this.expr(p, "expect");
        return;
      case "cache":
        this.expr(c.addr, "expect");
        if (!(CACHE_STATES as readonly string[]).includes(c.state))
          this.errors.add(c.span, `a cache line is never "${c.state}"`, `expected ${CACHE_STATES.join(", ")}`);
        return;
      case "value":
        this.expr(c.expr, "expect");
        if (c.expr.kind === "number") this.errors.add(span, "a number expects nothing", "expected a comparison such as x0 == 1");
    }
  }

  /** A field's value is a number, or a word of the field's own (read, write, a kernel function). */
  private fieldExpr(e: Expr, field: Field | undefined): void {
    if (e.kind === "name" && !this.lookup(e.name).found && this.register(e.name) === undefined) {
      if (field?.kind === "enum" && field.values !== undefined && !field.values.includes(e.name))
        this.errors.add(
          e.span,
          `"${field.name}" is never "${e.name}"`,
          didYouMean(e.name, field.values) || `expected ${field.values.join(", ")}`,
        );
      else if (field !== undefined && field.kind !== "enum" && field.kind !== "name" && field.kind !== "bool") this.expr(e, "expect");
      return;
    }
    this.expr(e, "expect");
  }

  private fields(tests: readonly FieldTest[], names: readonly string[], what: string): void {
    for (const t of tests) {
      if (!names.includes(t.name))
        this.errors.add(
          t.span,
          `${what} has no field "${t.name}"`,
          names.length === 0 ? "it has none" : didYouMean(t.name, names) || `expected ${names.join(", ")}`,
        );
      else this.expr(t.value, "expect");
    }
  }
}

/** The declared field that a name means, aliases included. */
export function fieldOf(name: string, fields: readonly Field[]): Field | undefined {
  return fields.find((f) => f.name === name) ?? fields.find((f) => FIELD_ALIASES[name]?.includes(f.name) === true);
}

/** A value written as a bare word: Device-nGnRE, rw. */
export function wordOf(e: Expr): string | undefined {
  return e.kind === "string" ? e.text : e.kind === "name" ? e.name : undefined;
}

/** `x0` or `vcpu1.x0` as vCPU and register; undefined if it is no register. */
export function registerName(name: string): { vcpu: number; register: string } | undefined {
  const m = /^(?:vcpu([0-9]+)\.)?([a-z0-9_]+)$/.exec(name.toLowerCase());
  if (m === null || !REGISTER_NAME.test(m[2]!)) return undefined;
  const vcpu = m[1] === undefined ? 0 : Number(m[1]);
  return vcpu < LIMITS.vcpus ? { vcpu, register: m[2]! } : undefined;
}
