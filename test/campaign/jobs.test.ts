import { recordingFiles } from "../../src/conform/conform.js";
import { expect, test } from "vitest";
import { faultline } from "../cli/command.js";

test("conform gives the same report on three worker threads as in one, and the same error for a recording that cannot be read", async () => {
  const files = recordingFiles(["recordings/v5.5/cortex-a76"]).slice(0, 8);
  const args = ["conform", ...files, "--json"];
  const one = await faultline(args);
  const three = await faultline([...args, "--jobs", "3"]);
  expect(JSON.parse(one.out).recordings.length).toBe(8);
  expect(three).toEqual(one);
  const broken = ["conform", files[0]!, "README.md"];
  const wrong = await faultline([...broken, "--jobs", "3"]);
  expect(wrong).toEqual(await faultline(broken));
  expect(wrong.err).toBe('error: README.md:1: expected "# kernel ERA, cpu NAME"\n');
  expect(wrong.status).toBe(2);
});

test("a number of jobs that makes no sense is refused", async () => {
  const r = await faultline(["conform", "recordings", "--jobs", "0"]);
  expect(r.status).toBe(2);
  expect(r.err).toContain("expected a number of jobs from 1 to 256");
});
