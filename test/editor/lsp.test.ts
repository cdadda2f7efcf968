import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  CodeActionRequest,
  CompletionRequest,
  HoverRequest,
  type CompletionItem,
  type Diagnostic,
  type Hover,
  type MarkupContent,
} from "vscode-languageserver-protocol/node";
import { faultline, temporaryFolder } from "../cli/command.js";
import { client, type Client } from "./server.js";

let c: Client;
let n = 0;
beforeAll(async () => {
  c = await client();
}, 120_000);
afterAll(async () => {
  expect(await c.end()).toBe(0);
});

/** A document with the cursor at `|`. */
async function at(marked: string): Promise<{ textDocument: { uri: string }; position: { line: number; character: number } }> {
  const uri = `file:///t${n++}.guest`;
  const before = marked.slice(0, marked.indexOf("|"));
  await c.open(uri, marked.replace("|", ""));
  const lines = before.split("\n");
  return { textDocument: { uri }, position: { line: lines.length - 1, character: lines[lines.length - 1]!.length } };
}
const complete = async (marked: string): Promise<CompletionItem[]> =>
  (await c.connection.sendRequest(CompletionRequest.type, await at(marked))) as CompletionItem[];
const hover = async (marked: string): Promise<string> => {
  const h: Hover | null = await c.connection.sendRequest(HoverRequest.type, await at(marked));
  return h === null ? "" : (h.contents as MarkupContent).value;
};

test("the server says what it can do", () => {
  expect(c.initialized.serverInfo?.name).toBe("faultline");
  expect(Object.keys(c.initialized.capabilities).sort()).toEqual([
    "codeActionProvider",
    "completionProvider",
    "hoverProvider",
    "textDocumentSync",
  ]);
});

const WRONG = `title "wrong in many places"
variant v5.44
machine { set execOnDevize = inject-pabt  ram 3 }
let ram = mmap(0, 4M, PROT_RAED, MAP_PRIVATE)
munmpa(ram, 4M)
guest {
  ldrr x0, [x1]
  str x0, [x99]
}
expect fault ipaa=3
expect stage2 RAM size=4K
`;

test("diagnostics are the errors of the command: every place, message and hint, in its order", async () => {
  const file = join(temporaryFolder(), "wrong.guest");
  writeFileSync(file, WRONG);
  const { err, status } = await faultline(["run", file]);
  const printed = [...err.matchAll(/:(\d+):(\d+): error: (.*)\n.*\n\s+\| *\^+ ?(.*)/g)].map((m) => [
    Number(m[1]) - 1,
    Number(m[2]) - 1,
    m[4] === "" ? m[3]! : `${m[3]!}\n${m[4]!}`,
  ]);
  expect([status, printed.length]).toEqual([2, 9]);
  const diagnostics = await c.open("file:///wrong.guest", WRONG);
  expect(diagnostics.map((d) => [d.range.start.line, d.range.start.character, d.message])).toEqual(printed);
  expect(diagnostics.find((d) => /munmpa/.test(String(d.message)))!.range).toEqual({
    start: { line: 4, character: 0 },
    end: { line: 4, character: 6 },
  });
});

test("a misspelt name can be changed to the nearest right one", async () => {
  const uri = "file:///fix.guest";
  const text = "munmpa(0, 4K)\n";
  const [d] = (await c.open(uri, text)) as [Diagnostic];
  const actions = await c.connection.sendRequest(CodeActionRequest.type, {
    textDocument: { uri },
    range: d.range,
    context: { diagnostics: [d] },
  });
  expect(actions).toMatchObject([
    { title: 'Change to "munmap"', edit: { changes: { [uri]: [{ range: { start: { line: 0, character: 0 } }, newText: "munmap" }] } } },
  ]);
});

test("a correct script has no diagnostics, and one that is mended loses them", async () => {
  expect(await c.open("file:///right.guest", "guest { mov x0, 1 }\nexpect x0 == 1\n")).toEqual([]);
});

test("completion replaces the whole beginning of a name with dots and dashes, and says what each is", async () => {
  const items = await complete("variant old { kernel v5.4  cpu cortex-a| }");
  const item = items.find((i) => i.label === "cortex-a76")!;
  expect(item.textEdit).toEqual({
    range: { start: { line: 0, character: 31 }, end: { line: 0, character: 39 } },
    newText: "cortex-a76",
  });
  expect((item.documentation as MarkupContent).value).toMatch(/Features: /);
});

test("a statement is put in with the places that want filling", async () => {
  const item = (await complete("pa|")).find((i) => i.label === "par")!;
  expect([item.insertTextFormat, (item.textEdit as { newText: string }).newText]).toEqual([
    2,
    "par {\n  guest vcpu0 { $1 }\n  vmm { $2 }\n}",
  ]);
});

test("hover over an instruction says what it does, whether its abort has a syndrome, and the source", async () => {
  const text = await hover("guest {\n  ld|r x0, [x1]\n}");
  expect(text).toMatch(/\*\*ldr\*\* loads a register/);
  expect(text).toMatch(/ISV = 1.*not so with write-back.*ISV = 0/);
  expect(text).toMatch(/Arm Architecture Reference Manual .*LDR/);
});

test("hover over a decision says what it decides, release by release with the source of each change", async () => {
  const text = await hover("machine { set execOn|Device = inject-pabt }");
  expect(text).toMatch(/an instruction fetch from device memory/);
  expect(text).toMatch(/\*\*v5\.5\*\* `inject-pabt`: the Dec 2019 fix: -ENOEXEC before the lock/);
});

test("a server whose editor went away without a word ends, with a status that says so", async () => {
  expect(await (await client()).hangUp()).toBe(1);
});
