/** Which words may stand at a place of a script: what completion offers, and where a hover finds the word under the pointer. */
import {
  CACHE_STATES,
  ERRNO_NAMES,
  EXCEPTION_FIELDS,
  EXIT_FIELDS,
  fieldOf,
  INJECT_FIELDS,
  STAGE2_FIELDS,
  STAGE2_TYPES,
} from "../guest/compile.js";
import { findCall } from "../guest/calls.js";
import { INJECTIONS, MACHINE_KEYS, VARIANT_KEYS } from "../guest/parser.js";
import { findEvent } from "../sim/events.js";
import { CONDITION_LIST, SETTINGS, settingList, type SettingKey, STATEMENT_LIST } from "./language.js";
import type { Place } from "./place.js";
import * as vocabulary from "./vocabulary.js";
import { word, type Word, type WordKind } from "./word.js";

const machineSettings = settingList(MACHINE_KEYS);
const variantSettings = settingList(VARIANT_KEYS);
const HEADER = ["title", "source", "machine", "variant"];
const inBlock = STATEMENT_LIST.filter((w) => !HEADER.includes(w.name));
const inThread = STATEMENT_LIST.filter((w) => w.name === "let" || w.name === "for");
const inPar = STATEMENT_LIST.filter((w) => ["guest", "vmm", "kthread"].includes(w.name));
const plain = (kind: WordKind, names: readonly string[], detail: string, after = ""): Word[] =>
  names.map((n) => word(kind, n, detail, after === "" ? {} : { insert: n + after }));
const vcpus = plain("value", ["vcpu0", "vcpu1", "vcpu2", "vcpu3"], "a vCPU");
const fieldsNamed = (names: readonly string[], detail: string): Word[] => plain("field", names, detail, "=");

export function candidatesAt(p: Place): readonly Word[] {
  switch (p.block) {
    case "machine":
      return settings(p, machineSettings);
    case "variant":
      return settings(p, variantSettings);
    case "guest":
      return guest(p);
    case "par":
      return agent(p);
    default:
      return p.before.length === 0 ? beginning(p) : statement(p);
  }
}

function beginning(p: Place): Word[] {
  if (p.block === "kthread") return [...inThread, ...vocabulary.kernelCalls()];
  return [...(p.block === "top" ? STATEMENT_LIST : inBlock), ...vocabulary.calls()];
}

// --- header ---------------------------------------------------------------------------------

function settings(p: Place, keys: readonly Word[]): Word[] {
  const [key, ...rest] = p.before.map((t) => t.text);
  if (key === undefined || !(key in SETTINGS)) return [...keys];
  switch (key) {
    case "set":
      if (rest.length === 0) return vocabulary.decisions();
      // The value, then another setting of the same line.
      return rest[rest.length - 1] === "=" ? vocabulary.choices(rest[0]!) : rest.length === 1 ? [] : [...keys];
    case "cost":
      return rest.length === 0 ? vocabulary.costs() : rest.length >= 3 ? [...keys] : [];
    case "kernel":
      return rest.length === 0 ? vocabulary.eras() : [...keys];
    case "cpu":
      return rest.length === 0 ? vocabulary.cpus() : [...keys];
    case "devices":
      return rest.length === 0 || rest[rest.length - 1] === "," ? vocabulary.devices() : [...keys];
    default:
      return rest.length === 0 ? plain("choice", SETTINGS[key as SettingKey][1] ?? [], SETTINGS[key as SettingKey][0]) : [...keys];
  }
}

// --- the VMM ------------------------------------------------------------------------------------

function statement(p: Place): Word[] {
  const [first, second] = p.before.map((t) => t.text);
  const last = p.before[p.before.length - 1]!.text;
  switch (first) {
    case "title":
    case "source":
      return [];
    case "variant":
      return p.before.length === 1 ? vocabulary.eras() : [];
    case "guest":
      return p.before.length === 1 ? vcpus : [];
    case "kthread":
      return plain("value", ["khugepaged", "kcompactd", "kswapd", "ksmd"], "the thread's name");
    case "on":
      if (p.before.length === 1)
        return [
          word("statement", "exception", "the guest's exception handler", { insert: "exception {\n  $1\n}" }),
          word("statement", "mmio", "what the VMM answers to a guest's load", { insert: "mmio read $1 -> $2" }),
          ...variants(p),
        ];
      if (second === "mmio") return p.before.length === 2 ? MMIO : numbers(p);
      return last === "," ? variants(p) : [];
    case "report":
      return report(p);
    case "expect":
      return expectation(p);
    case "for":
      return loop(p);
    case "let":
      return p.before.length < 3 ? [] : p.call === undefined ? [...numbers(p), ...vocabulary.calls()] : argument(p);
    default:
      return p.call === undefined ? numbers(p) : argument(p);
  }
}

const variants = (p: Place): Word[] => [
  ...p.variants.map((v) => word("variant", v, "a variant of this script")),
  ...vocabulary.eras().filter((e) => !p.variants.includes(e.name)),
];

/** What has a number: the script's names, the constants of the headers. */
function numbers(p: Place): Word[] {
  return [...own(p), ...vocabulary.constants()];
}
const own = (p: Place): Word[] =>
  [...p.names].map(([name, text]) => word("value", name, text.replace(/^let \S+ = /, ""), { doc: `\`\`\`guest\n${text}\n\`\`\`` }));

/** `for NAME in A .. B step S`. */
function loop(p: Place): Word[] {
  if (p.before.length < 2) return [];
  if (p.before.length === 2) return plain("statement", ["in"], "the range: from .. to");
  return [...numbers(p), ...plain("statement", ["step"], "how far each turn goes; 1 if absent")];
}

function argument(p: Place): Word[] {
  const decl = findCall(p.call!.name);
  if (decl === undefined) return numbers(p);
  const { argument: n, named } = p.call!;
  const parameter = named === undefined ? decl.parameters[n] : decl.parameters.find((q) => q.name === named);
  const names = named === undefined ? vocabulary.parameters(decl) : [];
  switch (parameter?.kind) {
    case "vcpu":
      return [...vcpus, ...names];
    case "register":
      return [...vocabulary.registers(), ...vocabulary.stateRegisters(), ...vocabulary.sysregs(), ...names];
    case "text":
      return decl.name === "vfio_open" ? vocabulary.addresses() : names;
  }
  const fits = parameter === undefined ? undefined : vocabulary.fitting(decl.name, parameter.name);
  const constants = vocabulary.constants();
  if (fits === undefined) return [...own(p), ...names, ...constants];
  return [...constants.filter((c) => fits.test(c.name)), ...own(p), ...names, ...constants.filter((c) => !fits.test(c.name))];
}

const MMIO = [
  word("statement", "read", "the value that a guest's load gets: on mmio read ADDR -> VALUE"),
  word("statement", "leave", "the guest's access ends its block before it is completed: on mmio leave ADDR"),
  word("statement", "ecam", "the VMM carries out a guest's access to a function's configuration space: on mmio ecam BASE -> DEVICE"),
];

// --- expectations -----------------------------------------------------------------------------------

const counted = CONDITION_LIST.filter((w) => ["fault", "event", "notifier", "exit", "inject"].includes(w.name));
const onWord = word("statement", "on", "only in these variants, or under these eras", { insert: "on $1" });
const ret = word("value", "ret", "what the last call answered");
const direction = plain("field", ["read", "write"], "the direction of the access");

function values(p: Place): Word[] {
  return [
    ...own(p),
    ret,
    ...vcpus,
    ...vocabulary.registers(),
    ...vocabulary.stateRegisters(),
    ...vocabulary.sysregs(),
    ...vocabulary.constants(),
  ];
}

function report(p: Place): Word[] {
  if (p.before.length === 1) return [];
  const words = p.before.slice(2).map((t) => t.text);
  if (words.length === 0)
    return [
      word("statement", "count", "how often an event came in the whole run", { insert: "count $1" }),
      word("statement", "sum", "the sum of an event's field in the whole run", { insert: "sum $1" }),
      word("statement", "stage2", "the memory type of the leaf that maps a guest address", { insert: "stage2 $1" }),
      word("statement", "place", "a value of write_place, in words", { insert: "place $1" }),
      ...values(p),
    ];
  if (words[0] !== "count" && words[0] !== "sum") return values(p);
  if (words.length === 1) return [word("event", "fault", "short for kvm_guest_fault"), ...vocabulary.events()];
  return eventFields(words[1] === "fault" ? "kvm_guest_fault" : words[1]!, p);
}

function expectation(p: Place): Word[] {
  let words = p.before.slice(1).map((t) => t.text);
  if (words[0] === "on") {
    // expect on v5.4, small CONDITION: the names end where no comma follows one.
    const last = p.before[p.before.length - 1]!;
    if (words.length === 1 || last.text === ",") return variants(p);
    const from = conditionFrom(p);
    if (from < 0) return [...CONDITION_LIST, ...counted, ...values(p)];
    words = p.before.slice(from).map((t) => t.text);
  }
  if (words[0] === "no") words = words.slice(1);
  else if (words[0] === "at") {
    if (words.length === 1) return plain("condition", ["least", "most"], "so many events");
    if (words.length === 2) return [];
    words = words.slice(3);
    if (words.length === 0) return counted;
  } else if (/^[0-9]+$/.test(words[0] ?? "")) {
    words = words.slice(1);
    if (words.length === 0) return counted;
  }
  if (words.length === 0) {
    const negated = p.before[p.before.length - 1]!.text === "no";
    return negated ? CONDITION_LIST.filter((w) => [...counted, { name: "host" }, { name: "exception" }].some((c) => c.name === w.name)) : [...CONDITION_LIST, ...(p.before.length === 1 ? [onWord] : []), ...values(p)]; // prettier-ignore
  }
  return condition(words, p);
}

/** Where the condition begins behind `expect on NAMES`; -1 if not yet. Names are joined where nothing stands between their parts. */
function conditionFrom(p: Place): number {
  for (let i = 3; i < p.before.length; i++) {
    const t = p.before[i]!;
    const previous = p.before[i - 1]!;
    if (t.text === "," || previous.text === ",") continue;
    if (t.spaced) return i;
  }
  return -1;
}

function condition(words: readonly string[], p: Place): Word[] {
  const [what, next] = words;
  switch (what) {
    case "host":
      return next === undefined ? plain("condition", ["crash"], "the host kernel crashed") : next === "crash" && words.length === 2 ? plain("condition", ["in"], "in this kernel function") : []; // prettier-ignore
    case "errno":
      return next === undefined ? plain("constant", ERRNO_NAMES, "what the last call answered") : [];
    case "fault":
      return [...direction, ...eventFields("kvm_guest_fault", p)];
    case "notifier":
      return eventFields("kvm_unmap_hva_range", p);
    case "event":
      return next === undefined ? vocabulary.events() : eventFields(next, p);
    case "exit":
      return next === undefined ? plain("value", Object.keys(EXIT_FIELDS), "KVM_EXIT_…") : tests([...(next === "MMIO" ? direction : []), ...fieldsNamed(EXIT_FIELDS[next] ?? [], "of struct kvm_run")], p); // prettier-ignore
    case "inject":
      return next === undefined ? plain("value", INJECTIONS, "what is injected") : tests(fieldsNamed(INJECT_FIELDS, "FAR_EL1"), p);
    case "exception":
      return tests(fieldsNamed(EXCEPTION_FIELDS, "of the exception that the guest took"), p);
    case "stage2":
      if (words[words.length - 1] === "=") {
        const field = words[words.length - 2];
        if (field === "type") return plain("value", STAGE2_TYPES, "memory type at stage 2");
        if (field === "size") return plain("value", ["4K", "2M", "1G"], "size of the page or block");
        if (field === "perms") return plain("value", ["r", "rw", "rx", "rwx", "none"], "permissions");
        return numbers(p);
      }
      return next === undefined ? numbers(p) : [word("condition", "none", "there is no entry"), ...tests(fieldsNamed(STAGE2_FIELDS, "of the stage-2 entry"), p), ...numbers(p)]; // prettier-ignore
    case "dirty":
      return [word("condition", "none", "no page is dirty"), ...numbers(p)];
    case "cache":
      return next === undefined ? values(p) : [...plain("value", CACHE_STATES, "state of the line"), ...values(p)];
    case "livelock":
    case "deadlock":
    case "ok":
      return [];
    default:
      return values(p);
  }
}

/** A value stands behind these. */
const OPERATORS = /^([=!<>]=?|[-+*/%&|^~(]|<<|>>)$/;

/** Fields, or behind `field=` a number. */
function tests(list: Word[], p: Place): Word[] {
  return OPERATORS.test(p.before[p.before.length - 1]!.text) ? values(p) : list;
}

function eventFields(event: string, p: Place): Word[] {
  const decl = findEvent(event);
  if (decl === undefined) return [];
  if (OPERATORS.test(p.before[p.before.length - 1]!.text)) {
    const field = fieldOf(p.before[p.before.length - 2]?.text ?? "", decl.fields);
    const names = field === undefined || field.kind === "name" ? [...vcpus, ...plain("value", ["vmm"], "the VMM's thread")] : [];
    return [...plain("value", field?.values ?? [], `of ${field?.name ?? ""}`), ...names, ...values(p)];
  }
  return [...vocabulary.fields(decl), word("condition", "anywhere", "in the whole run, not only since the statement before")];
}

// --- agents and guest code ------------------------------------------------------------------------------

function agent(p: Place): Word[] {
  if (p.before.length === 0) return inPar;
  return statement(p);
}

function guest(p: Place): Word[] {
  const words = p.before.map((t) => t.text.toLowerCase());
  const from = words[1] === ":" ? 2 : 0;
  const [mnemonic, ...operands] = words.slice(from);
  if (mnemonic === undefined || mnemonic === ".") return [...vocabulary.mnemonics(), ...STATEMENT_LIST.filter((w) => w.name === "for")];
  if (mnemonic === "for") return loop(p);
  const first = !operands.includes(",");
  const operations = vocabulary.operations(mnemonic);
  const labels = p.labels.map((l) => word("label", l, "a label"));
  const rest = [...vocabulary.registers(), ...own(p), ...labels, ...vocabulary.modifiers(), ...vocabulary.constants()];
  // The register of MRS stands behind the comma, the operation of the others before it.
  if (operations === undefined || (mnemonic === "mrs") === first) return rest;
  return [...operations, ...rest];
}
