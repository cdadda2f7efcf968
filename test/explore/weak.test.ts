/** What hardware does of its own accord between the steps of a script's agents, explored. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultline } from "../cli/command.js";
import { exploreVariant, type Explored } from "../../src/explore/explore.js";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";

const NAME = "2015-uncached-barriers-race";
const FILE = `scenarios/${NAME}.guest`;
const program = compile(FILE, readFileSync(FILE, "utf8"), machineWorld);
const explored = (variant: string, invariants?: readonly string[], reduction = true): Promise<Explored> =>
  exploreVariant(
    program,
    program.variants.find((v) => v.name === variant)!,
    {
      reduction,
      ...(invariants === undefined ? {} : { invariants }),
    },
  );
const seen = async (variant: string, reduction = true): Promise<readonly string[]> =>
  Object.keys((await explored(variant, undefined, reduction)).outcomes);

const ORDERED = ["flag=0, data=0", "flag=0, data=1", "flag=1, data=1"];
const ANY = ["flag=0, data=0", "flag=0, data=1", "flag=1, data=0", "flag=1, data=1"];

test("a flag is seen before its data under every type that leaves stores unordered, and under no other", async () => {
  const table: Record<string, readonly string[]> = {};
  for (const v of program.variants) table[v.name] = await seen(v.name);
  expect(table).toEqual({
    device: ORDERED,
    "normal-nc": ANY,
    "mair-mangling": ANY,
    s2fwb: ANY,
    "s2fwb-with-barrier": ORDERED,
  });
}, 60_000);

test("without reduction the same ends are found", async () => {
  expect([await seen("s2fwb", false), await seen("s2fwb-with-barrier", false)]).toEqual([ANY, ORDERED]);
}, 60_000);

test("asked for expectations, explore convicts the missing barrier, and its schedule replays to the same end", async () => {
  const schedule = join(mkdtempSync(join(tmpdir(), "faultline-weak-")), "s2fwb.schedule");
  const found = await faultline(["explore", NAME, "--kernel", "v6.12", "--invariants", "expectations", "--output", schedule]);
  expect(found.status).toBe(1);
  expect(found.out).toContain("s2fwb: expectations is violated");
  expect(found.out).toContain("s2fwb-with-barrier: no violation within any number of preemptions, complete");
  expect(found.out).toMatch(/hardware \(cpu1\.store1\): the store behind 1 other in the buffer of CPU 1 leaves/);
  expect(readFileSync(schedule, "utf8")).toMatch(/^cpu1\.store1 1$/m);
  const replayed = await faultline(["run", NAME, "--kernel", "v6.12", "--schedule", schedule, "--quiet"]);
  expect(replayed.out).toMatch(/failed on s2fwb: expect vcpu1\.x3 >= vcpu1\.x2[\s\S]*happened: 0 >= 1 does not hold/);
}, 60_000);

test("a schedule that names a step which the hardware does not have is refused, with those that it has", async () => {
  const file = join(mkdtempSync(join(tmpdir(), "faultline-weak-")), "wrong.schedule");
  writeFileSync(file, "faultline schedule 1\ncpu7.store0 1\n");
  const { status, err } = await faultline(["run", NAME, "--kernel", "s2fwb", "--schedule", file]);
  expect(status).toBe(2);
  expect(err).toMatch(/no agent "cpu7\.store0" in this par: there are vcpu0, vcpu1, fabric\.write0, /);
}, 60_000);
