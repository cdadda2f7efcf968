import { expect, test } from "vitest";
import { faultline } from "./command.js";

test("scripted from standard input: each command with its answer, the same bytes every time", async () => {
  const go = () =>
    faultline(["debug", "2019-exec-no-slot"], { input: "break kvm_guest_fault\ncontinue\nback\n\n# a remark\nquit\nstep\n" });
  const [first, second] = [await go(), await go()];
  expect(first.status).toBe(0);
  expect(first.err).toBe("");
  expect(second.out).toBe(first.out);
  const lines = first.out.split("\n");
  expect(lines[0]).toMatch(/^scenarios\/2019-exec-no-slot\.guest, v5\.4: events 0 to \d+, the script begins at \d+$/);
  expect(lines.filter((l) => l.startsWith("(faultline)"))).toEqual([
    "(faultline) break kvm_guest_fault",
    "(faultline) continue",
    "(faultline) back",
    "(faultline) # a remark",
    "(faultline) quit",
  ]);
  expect(first.out).toContain("kvm_guest_fault      ipa=0x40000000 hsr=0x82000005");
});

test("a wrong command is answered with the nearest right one, the next are carried out, and the status is 2", async () => {
  const { status, out } = await faultline(["debug", "2019-exec-no-slot", "--json"], { input: "contine\nend\n" });
  const [wrong, right] = out
    .trim()
    .split("\n")
    .map((l) => JSON.parse(l) as { ok: boolean; lines: string[]; step: number });
  expect(status).toBe(2);
  expect(wrong).toMatchObject({ ok: false, lines: ['error: no command "contine": did you mean "continue"?'] });
  expect(right!.ok).toBe(true);
  expect(right!.step).toBeGreaterThan(wrong!.step);
});

test("the script cannot come from standard input: the commands do", async () => {
  const { status, err } = await faultline(["debug", "-"], { input: "help\n" });
  expect([status, err]).toEqual([2, "error: debug reads its commands from standard input: the script must be a file or a scenario\n"]);
});
