import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";

const dir = temporaryFolder();
const at = (name: string): string => join(dir, name);
beforeAll(async () => {
  for (const f of ["dat", "jsonl"]) await faultline(["run", "2019-munmap-remap", "--quiet", "--trace", at(`t.${f}`)]);
}, 60_000);

describe("diff", () => {
  test("the same run in two formats: status 0", async () => {
    const r = await faultline(["diff", at("t.v5.5.dat"), at("t.v5.5.jsonl")]);
    expect(r.out).toMatch(/\nthe same\n$/);
    expect(r.status).toBe(0);
  });
  test("two eras: status 1, the first divergence with what each has there, then what else is not in both", async () => {
    const r = await faultline(["diff", at("t.v5.4.dat"), at("t.v5.5.jsonl")]);
    expect(r.status).toBe(1);
    const lines = r.out.split("\n");
    const first = lines.findIndex((l) => l.startsWith("first divergence, after "));
    expect(lines.slice(first + 4, first + 6).map((l) => l.slice(0, 4))).toEqual(["  A ", "  B "]);
    expect(r.out).toMatch(/host_crash +1 +0/);
  });
  test("--json says the same", async () => {
    const r = await faultline(["diff", at("t.v5.4.jsonl"), at("t.v5.5.jsonl"), "--json"]);
    expect(r.status).toBe(1);
    const d = JSON.parse(r.out) as {
      same: boolean;
      firstDivergence: { after: number; a: { event: string } };
      only: Record<string, unknown>;
    };
    expect(d.same).toBe(false);
    expect(d.firstDivergence.after).toBeGreaterThan(1000);
    expect(d.only["host_crash"]).toEqual({ a: 1, b: 0 });
  });
  test("--events and --ignore narrow the comparison", async () => {
    const r = await faultline(["diff", at("t.v5.4.jsonl"), at("t.v5.5.jsonl"), "--events", "kvm_unmap_hva_range"]);
    expect(r.status).toBe(0);
    expect(r.out).toMatch(/1 events compared/);
    const both = ["diff", at("t.v5.4.jsonl"), at("t.v5.5.jsonl"), "--events", "kvm_guest_fault", "--ignore"];
    expect((await faultline([...both, "vcpu_pc,hsr"])).out).toMatch(/fields not compared: vcpu_pc, hsr/);
  });
  test("a field that neither trace nor any event has is refused", async () => {
    const r = await faultline(["diff", at("t.v5.4.jsonl"), at("t.v5.5.jsonl"), "--ignore", "vcpu_pcs"]);
    expect([r.status, r.err, r.out]).toEqual([2, 'error: no field named "vcpu_pcs": did you mean "vcpu_pc"?\n', ""]);
  });
  test("CR LF and a byte order mark are no difference", async () => {
    for (const name of ["t.jsonl", "t.json", "t.ftrace"]) {
      expect((await faultline(["run", "2012-demand-fault", "--kernel", "v6.12", "--quiet", "--trace", at(name)])).status).toBe(0);
      writeFileSync(at("windows"), `\ufeff${readFileSync(at(name), "utf8").replaceAll("\n", "\r\n")}`);
      const r = await faultline(["diff", at("windows"), at(name)]);
      expect(r.err).toBe("");
      expect(r.out, name).toMatch(/\nthe same\n$/);
    }
  });
  test("what is no trace: status 2 and what was expected, never a stack", async () => {
    writeFileSync(at("words.txt"), "some words\n");
    writeFileSync(at("cut.json"), '{"traceEvents":[');
    writeFileSync(at("binary"), Buffer.from([1, 0, 2]));
    writeFileSync(at("empty"), "");
    await faultline(["run", "2019-munmap-remap", "--kernel", "v5.5", "--quiet", "--trace", at("cut.dat")]);
    truncateSync(at("cut.dat"), 9000);
    const cases: [string[], RegExp][] = [
      [["words.txt"], /words\.txt: no line of it is an ftrace event/],
      [["cut.json"], /cut\.json: it begins like JSON and is none/],
      [["binary"], /binary: a binary format that is no trace\.dat/],
      [["cut.dat"], /cut\.dat: the file breaks off at byte 9000/],
      [["empty"], /empty: the file is empty; readable are/],
      [["none"], /there is no file .*none/],
      [["t.v5.5.dat", "--events", "kvm_exitt"], /no event named "kvm_exitt": did you mean "kvm_exit"\?/],
    ];
    for (const [[file, ...options], said] of cases) {
      const r = await faultline(["diff", at(file!), at("t.v5.5.dat"), ...options]);
      expect(r.status, file).toBe(2);
      expect(r.err).toMatch(said);
      expect(r.err).not.toMatch(/\n {4}at /);
    }
  });
});
