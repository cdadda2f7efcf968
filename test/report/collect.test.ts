import { inflateSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { record } from "../../src/inspect/recorded.js";
import { collect } from "../../src/report/collect.js";
import { ColumnWriter, readColumn } from "../../src/report/columns.js";
import type { ReportData, RunData, Track } from "../../src/report/data.js";
import { pageHtml } from "../../src/report/html.js";
import { places } from "../../src/report/moments.js";
import { serve } from "../../src/report/serve.js";
import { addWords, fromWire, joined, pieces, type Part, type WireReport, type WireWords } from "../../src/report/wire.js";

const SCRIPT = `
title "a page comes, goes and comes back"
variant v6.12
let m = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=64K, userspace_addr=m)
guest { ldr x0, [0x80000000] }
madvise(m, 64K, MADV_DONTNEED)
guest { ldr x0, [0x80000000] }
munmap(m, 32K)
`;
const program = compile("page.guest", SCRIPT, machineWorld);
const recorded = record(program, program.variants[0]!);
const data: ReportData = collect([recorded], { file: "page.guest", version: "1" });
const run: RunData = data.runs[0]!;
const nameOf = (seq: number): string => data.kinds[run.events.kind[seq - run.events.first]!]!.name;

test("every event of the script is in the page, with its agent and time", () => {
  const { events, result } = recorded;
  expect([run.events.first, run.events.kind.length]).toEqual([result.begins, events.last - result.begins + 1]);
  for (let seq = run.events.first; seq <= events.last; seq++) {
    const e = events.at(seq);
    expect([nameOf(seq), recorded.machine.sim.agents.name(run.events.agent[seq - run.events.first]!)]).toEqual([e.event, e.agent]);
  }
  expect([...run.events.wait].every((w) => w >= 0)).toBe(true);
});

test("slices of a row never overlap, and the phases of a fault lie within it, in the order of v6.12", () => {
  const { slices } = run;
  const all = Array.from(slices.from, (from, n) => ({
    row: `${slices.agent[n]!} ${slices.lock[n]!} ${slices.depth[n]!}`,
    name: data.names[slices.name[n]!]!,
    depth: slices.depth[n]!,
    lock: slices.lock[n]!,
    from,
    to: slices.to[n]!,
  }));
  for (const a of all) for (const b of all) if (a !== b && a.row === b.row) expect(a.to <= b.from || b.to <= a.from).toBe(true);
  const faults = all.filter((s) => s.name === "kvm_handle_guest_abort");
  const phases = faults.map((f) =>
    all.filter((s) => s.lock === 0 && s.depth === f.depth + 1 && s.from >= f.from && s.to <= f.to).map((s) => s.name),
  );
  expect(phases.length).toBeGreaterThan(1);
  for (const p of phases)
    expect(p).toEqual(["gfn_to_memslot", "topup memory cache", "find_vma", "gfn to pfn", "stage 2"].filter((n) => p.includes(n)));
  expect(phases[0]).toContain("stage 2");
});

test("an arrow goes from the unmapping to the fault that brings the page back, and from each TLBI to its DSB", () => {
  const pairs = new Set(run.arrows.map((a) => `${nameOf(a.from)} -> ${nameOf(a.to)}: ${a.what}`));
  expect([...pairs].sort()).toEqual(["stage2_unmap -> kvm_guest_fault: unmapped, faults again", "tlbi -> dsb: TLBI, complete"]);
  for (const a of run.arrows) expect(a.from).toBeLessThan(a.to);
});

test("the tables at the end are the machine's: the VMA is cut, the slot is not, and stage 2 has lost the page", () => {
  const { moments } = run;
  const last = <R>(t: Track<R>): R[] => Array.from(t.states[t.at[t.at.length - 1]!]!, (r) => t.rows[r]!);
  const slot = last(moments.slots).find((s) => s.slot === 1)!;
  expect([slot.gpa, slot.size]).toEqual([0x80000000, 0x10000]);
  expect(last(moments.vmas).filter((v) => v.start < slot.hva + slot.size && v.end > slot.hva)).toEqual([
    { mm: 0, start: slot.hva + 0x8000, end: slot.hva + 0x10000, perms: "rw-p", what: "anonymous", flags: expect.any(String) },
  ]);
  expect(last(moments.stage2).some((r) => r.ipa === 0x80000000)).toBe(false);
  expect(moments.stage2.rows.filter((r) => r.ipa === 0x80000000).map((r) => [r.end, r.level, r.type, r.perms])).toContainEqual([
    0x80001000,
    3,
    "MEM/NORMAL",
    "r--",
  ]);
});

test("where not all places can be kept, the ends of statements stay", () => {
  const ends = recorded.result.steps.map((s) => s.to - 1);
  const few = places(recorded, ends.length);
  expect(few.seqs).toEqual([...new Set(ends)].sort((a, b) => a - b));
  expect(few.skipped).toBe(places(recorded, 1e6).seqs.length - few.seqs.length);
});

test("a fault that was served is explained too, with the chain that explain gives", () => {
  const e = run.explanations.find((x) => x.told.prose.some((p) => p.includes("slot 1")))!;
  expect([e.notable, run.agents[e.agent], e.told.chain.map((c) => c[1]).slice(0, 3)]).toEqual([
    false,
    "CPU 0/KVM",
    ["instruction", "TLB", "stage 1"],
  ]);
  expect(run.unexplained).toBe(0);
});

test("no text of a script can become markup: the data is base64, the title is escaped", () => {
  const html = pageHtml({ ...data, title: "</script><b>&'\"" }, { script: "", style: "" });
  expect(html).toContain("<title>&lt;/script&gt;&lt;b&gt;&amp;&#39;&quot;</title>");
  const part = <T>(id: string): Part<T> => {
    const inside = new RegExp(`id="${id}">([A-Za-z0-9+/=]*)</script>`).exec(html)![1]!;
    const bytes = inflateSync(Buffer.from(inside, "base64"));
    const end = 4 + bytes.readUInt32LE(0);
    return { columns: Uint8Array.from(bytes.subarray(4, end)), json: JSON.parse(bytes.subarray(end).toString()) as T };
  };
  const read = fromWire(part<WireReport>("data"));
  const untold = data.runs.flatMap((r) => r.explanations).map((e) => ({ ...e, told: { prose: [], chain: [], hints: [] } }));
  expect([read.texts, read.runs.flatMap((r) => r.explanations)]).toEqual([[], untold]);
  addWords(read, part<WireWords>("words").json);
  expect(plain(read)).toEqual(plain({ ...data, title: "</script><b>&'\"" }));
});

/** All lists of numbers as arrays of one kind. */
const plain = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, v: unknown) => (ArrayBuffer.isView(v) ? [...(v as Int32Array)] : v)));

test("a column of whole numbers comes back from its bytes, whatever lies before it", () => {
  const among = (most: number) => fc.array(fc.integer({ min: -most, max: most }));
  const column = fc.oneof(among(100), among(2 ** 15), among(2 ** 31), among(2 ** 53 - 1), fc.array(fc.nat(255)));
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          column,
          column.map((c) => [...c].sort((a, b) => a - b)),
        ),
      ),
      (columns) => {
        const w = new ColumnWriter();
        const places = columns.map((c) => w.add(c));
        const { bytes } = w;
        expect(places.map((p) => [...readColumn(bytes, p)])).toEqual(columns);
      },
    ),
  );
  const w = new ColumnWriter();
  for (const wrong of [0.5, 2 ** 53, NaN]) expect(() => w.add([wrong])).toThrow(RangeError);
});

test("a column takes a byte for each number where they are small, or grow by little", () => {
  const w = new ColumnWriter();
  w.add(new Array<number>(1000).fill(3));
  w.add(Array.from({ length: 1000 }, (_, n) => 2 ** 40 + 7 * n));
  expect(w.bytes.length).toBe(2000);
});

test("a list is put together again from pieces of any other, and one that only grew or shrank takes few of them", () => {
  const list = fc.uniqueArray(fc.nat(40));
  fc.assert(
    fc.property(list, list, (before, after) => {
      expect([...joined(Int32Array.from(before), pieces(before, after))]).toEqual(after);
    }),
  );
  const long = Array.from({ length: 1000 }, (_, n) => n);
  expect(pieces(long, [...long.slice(0, 500), 7000, ...long.slice(501)])).toEqual([0, 500, -7001, 501, 499]);
});

test("what is served is the page alone, to this machine alone", async () => {
  const server = await serve("<p>page</p>");
  const port = new URL(server.url).port;
  expect(server.url).toBe(`http://127.0.0.1:${port}/`);
  const at = async (path: string, init: RequestInit = {}) => {
    const r = await fetch(`${server.url}${path}`, init);
    return [r.status, await r.text()];
  };
  expect(await at("")).toEqual([200, "<p>page</p>"]);
  expect(await at("etc/passwd")).toEqual([404, "not found\n"]);
  expect(await at("", { method: "POST" })).toEqual([404, "not found\n"]);
  server.close();
  await server.ended;
});
