import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { MNEMONICS } from "../../src/arch/a64forms.js";
import { CPU_PROFILES } from "../../src/arch/features.js";
import { decisionNames, findDecision } from "../../src/eras.js";
import { CALLS } from "../../src/guest/calls.js";
import { eraNames, machineWorld } from "../../src/guest/machineworld.js";
import { Diagnostics } from "../../src/guest/diagnostics.js";
import { lex, type Token } from "../../src/guest/lexer.js";
import { CONDITION_WORDS, MACHINE_KEYS, STATEMENT_WORDS, VARIANT_KEYS } from "../../src/guest/parser.js";
import { eventCatalogue, findEvent } from "../../src/sim/events.js";
import { completeAt } from "../../src/editor/complete.js";
import { hoverAt } from "../../src/editor/hover.js";
import { instructionHelp } from "../../src/editor/instructions.js";
import { CONDITIONS, SETTINGS, STATEMENTS } from "../../src/editor/language.js";

/** The names offered where `|` stands. */
function offered(marked: string): string[] {
  const at = marked.indexOf("|");
  return completeAt(marked.replace("|", ""), at).words.map((w) => w.name);
}
const all = (names: readonly string[]): string[] => expect.arrayContaining([...names]) as string[];

test("each word of the language has its explanation, and nothing else has one", () => {
  expect(Object.keys(STATEMENTS).sort()).toEqual([...STATEMENT_WORDS].sort());
  expect(Object.keys(SETTINGS).sort()).toEqual([...new Set([...MACHINE_KEYS, ...VARIANT_KEYS])].sort());
  expect(Object.keys(CONDITIONS).sort()).toEqual([...CONDITION_WORDS].sort());
});

test("each mnemonic has a sentence and its source", () => {
  expect(MNEMONICS.filter((m) => !instructionHelp(m)?.source.startsWith("Arm Architecture Reference Manual"))).toEqual([]);
});

test.each([
  ["ldr", "ldr x0, [x1]"],
  ["strb", "strb w0, [x1]"],
  ["ldar", "ldar x0, [x1]"],
])("the syndrome of %s is valid without write-back", (mnemonic, form) => {
  const h = instructionHelp(mnemonic)!;
  expect([h.forms[0], /ISV = 1/.test(h.syndrome)]).toEqual([form, true]);
});
test.each(["ldp", "stp", "ldxr", "stlxr", "ldadd", "cas", "swp"])("the syndrome of %s is never valid", (mnemonic) => {
  expect(instructionHelp(mnemonic)!.syndrome).toMatch(/^a stage-2 data abort has ISV = 0/);
});

test("a statement begins with a word of the language or a call; in a kernel thread only with what one does", () => {
  expect(offered("|")).toEqual([...Object.keys(STATEMENTS), ...CALLS.map((c) => c.name)]);
  expect(offered("kthread khugepaged { |")).toEqual(["let", "for", ...CALLS.filter((c) => c.kernel === true).map((c) => c.name)]);
  expect(offered("par {\n  |")).toEqual(["guest", "vmm", "kthread"]);
});

test("the header is offered its settings, eras, CPUs, devices, decisions and their values", () => {
  expect(offered("machine { |")).toEqual([...MACHINE_KEYS]);
  expect(offered("variant a { kernel |")).toEqual(eraNames());
  expect(offered("variant a { kernel v5.4  |")).toEqual([...VARIANT_KEYS]);
  expect(offered("variant a { cpu |")).toEqual(Object.keys(CPU_PROFILES));
  expect(offered("machine { devices edu, |")).toEqual([...machineWorld.devices, "none"]);
  expect(offered("machine { set |")).toEqual(decisionNames());
  expect(offered("machine { cost |")).toEqual([...machineWorld.costs]);
  for (const name of decisionNames()) expect(offered(`machine { set ${name} = |`)).toEqual(findDecision(name)!.values.map(String));
});

test("guest code is offered every mnemonic, and behind it registers, system registers and operations", () => {
  expect(offered("guest {\n  |")).toEqual([...MNEMONICS, ".inst", ".word", "for"]);
  expect(offered("on exception { |")).toEqual(offered("guest {\n  |"));
  expect(offered("guest { mrs x0, |")).toEqual(all(["esr_el1", "mair_el1", "x30"]));
  expect(offered("guest { mrs |")).not.toContain("esr_el1");
  expect(offered("guest { tlbi |").slice(0, 2)).toEqual(["vmalle1", "vae1"]);
  expect(offered("guest { dsb |").slice(0, 3)).toEqual(["oshld", "oshst", "osh"]);
  expect(offered("let RAM = 0x80000000\nguest {\nagain: ldr x0, [|")).toEqual(all(["RAM", "x0", "again"]));
});

test("an expectation is offered its conditions, events with their fields and values, exits, errnos", () => {
  expect(offered("expect |")).toEqual(all([...CONDITION_WORDS, "on", "x0", "pc", "esr_el1"]));
  expect(offered("variant a\nvariant b\nexpect on |").slice(0, 3)).toEqual(["a", "b", eraNames()[0]]);
  expect(offered("expect on v5.4 no |")).toEqual(["host", "exit", "fault", "event", "notifier", "inject", "exception"]);
  expect(offered("expect 2 event |")).toEqual(eventCatalogue().map((e) => e.name));
  for (const e of ["kvm_guest_fault", "stage2_set"])
    expect(offered(`expect event ${e} |`)).toEqual(all([...findEvent(e)!.fields.map((f) => f.name), "agent", "anywhere"]));
  expect(offered("expect stage2 RAM type=|")).toEqual(["Device-nGnRnE", "Device-nGnRE", "Normal-NC", "Normal-WB"]);
  expect(offered("expect exit |")).toEqual(all(["MMIO", "ARM_NISV"]));
  expect(offered("expect errno EF|")).toEqual(all(["EFAULT"]));
  expect(offered("expect vcpu1.|")).toEqual(all(["x0"]));
});

test("an argument is offered its flags first, then the script's names and the names of arguments", () => {
  expect(offered("let ram = mmap(0, 4M, |").slice(0, 4)).toEqual(["PROT_NONE", "PROT_READ", "PROT_WRITE", "PROT_EXEC"]);
  expect(offered("mmap(length=4M, flags=MAP_|")[0]).toBe("MAP_SHARED");
  expect(offered("madvise(ram, 4M, MADV|")[0]).toBe("MADV_NORMAL");
  expect(offered("let RAM = 1\nKVM_SET_USER_MEMORY_REGION(|")).toEqual(all(["RAM", "slot", "guest_phys_addr"]));
  expect(offered("KVM_CREATE_GUEST_MEMFD(4M, |").slice(0, 2)).toEqual(["GUEST_MEMFD_FLAG_MMAP", "GUEST_MEMFD_FLAG_INIT_SHARED"]);
  expect(offered("vfio_open(0000:00|")).toEqual(all(["0000:00:06.0"]));
});

test("nothing is offered in a comment or in a text", () => {
  expect([offered("// exp|"), offered('title "exp|'), offered("let a = 1 // |")]).toEqual([[], [], []]);
});

/** Where a script names something for the first time, or a thing of the host kernel: no table has it. */
function isOwnName(tokens: readonly Token[], n: number): boolean {
  const [before, after] = [tokens[n - 1], tokens[n + 1]];
  if (/^(let|for|variant|vmm|kthread)$/.test(before?.text ?? "")) return true;
  if (after?.text === ":" || (before?.text === "in" && tokens[n - 2]?.text === "crash")) return true;
  // A part of a variant's name with dashes: no-s2fwb.
  return before?.text === "-" && tokens.slice(Math.max(0, n - 12), n).some((t) => t.text === "variant");
}

test("every word of every bundled scenario has something to show", () => {
  const unknown: string[] = [];
  for (const f of readdirSync("scenarios").filter((s) => s.endsWith(".guest"))) {
    const text = readFileSync(`scenarios/${f}`, "utf8");
    const tokens = lex(text, new Diagnostics(f, text));
    for (const [n, t] of tokens.entries())
      if (t.kind === "name" && !isOwnName(tokens, n) && hoverAt(text, t.at) === undefined) unknown.push(`${f}:${t.line}: ${t.text}`);
  }
  expect(unknown).toEqual([]);
});
