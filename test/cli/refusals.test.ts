/** Options and arguments that do not go together, or mean nothing: status 2 and what was expected, instead of being left out silently. */
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { CLI, faultline, temporaryFolder } from "./command.js";

const dir = temporaryFolder();
mkdirSync(join(dir, "damaged"));
writeFileSync(join(dir, "damaged/campaign.json"), "{");
writeFileSync(join(dir, "x.schedule"), "faultline schedule 1\nvcpu0 1\n");
writeFileSync(join(dir, "latin1.guest"), Buffer.from("//\n// caf\xe9\n", "latin1"));
writeFileSync(join(dir, "escape"), "\x1b[2J\n");
writeFileSync(join(dir, "title.guest"), 'title "\x1b]0;mine\x07"\nguest { nop }\n');
writeFileSync(join(dir, "tebibyte"), "");
truncateSync(join(dir, "tebibyte"), 2 ** 40);
mkdirSync(join(dir, "closed"));
chmodSync(join(dir, "closed"), 0o555);

const CASES: readonly [args: string, said: RegExp][] = [
  ["fuzz --kernel=", /^error: --kernel names no era/],
  ["fuzz --runs 0", /'--runs <n>' argument '0' is invalid\. expected at least 1/],
  ["fuzz --runs x", /expected a whole number such as 500, 20k or 1M, not "x"/],
  ["fuzz --batch 5 --runs 1", /^error: --batch belongs to --record-qemu KERNEL\n$/],
  ["fuzz --modules m --runs 1", /^error: --modules belongs to --record-qemu KERNEL\n$/],
  ["fuzz --backing gmem --runs 1", /^error: --backing belongs to --record-qemu KERNEL\n$/],
  [`fuzz --record-qemu ${join(dir, "tebibyte")} --backing gmen`, /^error: no backing named "gmen": did you mean "gmem"\?\n$/],
  ["fuzz --hostile --kernel v5.4 --runs 1", /'--hostile' cannot be used with option '--kernel <eras>'/],
  ["fuzz --hostile --compare v5.4,v5.5 --runs 1", /'--hostile' cannot be used with option '--compare <eras>'/],
  [`fuzz --resume --corpus ${join(dir, "damaged")}`, /^error: .*campaign\.json says no campaign: /],
  ["explain 2012-demand-fault --step x", /expected the number of an event, not "x"/],
  ["dump 2012-demand-fault --at -1", /expected the number of an event, not "-1"/],
  ["nosuch", /^error: no command "nosuch"; faultline --help lists them\n$/],
  ["help rum", /^error: no command "rum": did you mean "run"\?\n$/],
  ["run 2012-demand-fault --trace-format jsonl", /^error: --trace-format says how --trace FILE is written: there is no --trace\n$/],
  ["run 2012-demand-fault --trace-system kvm_arm64", /^error: --trace-system says how --trace FILE is written/],
  [
    `run 2012-demand-fault --schedule ${join(dir, "x.schedule")}`,
    /2012-demand-fault\.guest has no par \{ … \} block: --schedule has nothing to interleave/,
  ],
  [
    "measure 2012-demand-fault --policy late=pfnmapBlockSize",
    /^error: --policy takes .*: "pfnmapBlockSize" of policy late has no value\n$/,
  ],
  ["kernels v5.4 --feature eagerDeviceMapping", /^error: --feature goes through all eras/],
  ["kernels --feature eagerDeviceMapping --diff v5.4 v5.5", /^error: --feature goes through all eras/],
  ["kernels v6.1 --diff v5.4,v5.5", /^error: --diff takes two eras/],
  ["attrs --table --s1 0xff", /'--table' cannot be used with option '--s1 <byte>'/],
  ["attrs --s1 0xff --s2 5 --sh 2,0,3", /^error: --sh takes 0, 2 or 3 for stage 1 and after a comma for stage 2, not "2,0,3"\n$/],
  [`litmus ${join(dir, "damaged")}`, /^error: no litmus test \(\*\.litmus\) under the paths given\n$/],
  ["new -", /^error: new takes the name of a file, not standard output\n$/],
  ["report 2012-demand-fault -o -", /- cannot be written: it takes the name of a file, not standard output\n$/],
  [`run ${join(dir, "latin1.guest")}`, /latin1\.guest:2:7: error: this file is not UTF-8: byte 0xe9 at offset 9\n/],
  [`litmus ${join(dir, "escape")}`, /\n {4}1 \| \ufffd\[2J/],
  ["import stace x", /Did you mean strace\? Allowed choices are strace, mtree\.\n$/],
  ["completion bsh", /Did you mean bash\? Allowed choices are bash, zsh, fish\.\n$/],
  [`run 2012-demand-fault --costs ${join(dir, "none")}`, /^error: there is no file \S+none\n$/],
  [`run 2020-concurrent-vfio-faults --schedule ${join(dir, "none")}`, /^error: there is no file \S+none\n$/],
  ["fuzz --seed 0x --runs 1", /expected a whole number such as 4096, 512M or 2G, not "0x"/],
  [`run ${join(dir, "title.guest")}`, /title\.guest:1:8: error: unexpected character U\+001B\n/],
  [`run ${dir}`, /^error: \S+ is a folder\n$/],
  [`run ${join(dir, "tebibyte")}`, /tebibyte:1:1: error: this file has more than 1048576 bytes, the most that a script may have\n/],
  [`run 2012-demand-fault --costs ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 1 MiB\n$/],
  [`run 2020-concurrent-vfio-faults --schedule ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 16 MiB\n$/],
  [`conform ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 16 MiB\n$/],
  [`litmus ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 1 MiB\n$/],
  [`import strace ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 256 MiB\n$/],
  [`diff ${join(dir, "tebibyte")} ${join(dir, "tebibyte")}`, /^error: \S+tebibyte has more than 500 MiB\n$/],
  ["diff - -", /^error: only one of the two traces can come from standard input\n$/],
];

test.each(CASES)("faultline %s", async (args, said) => {
  const r = await faultline(args.split(" "));
  expect(r.err).toMatch(said);
  expect(r.out).toBe("");
  expect(r.status).toBe(2);
});

test("blanks around the commas of a list are nobody's, and a seed may be hexadecimal", async () => {
  const same = async (...forms: readonly string[][]): Promise<void> => {
    const [a, b] = await Promise.all(forms.map((args) => faultline(args)));
    expect(a!.status).toBe(0);
    expect(b).toEqual(a);
  };
  await Promise.all([
    same(["compare", "2012-demand-fault", "--kernels", "v5.4,v5.5"], ["compare", "2012-demand-fault", "--kernels", " v5.4, v5.5"]),
    same(["kernels", "--diff", "v5.4,v5.5"], ["kernels", "--diff", "v5.4, v5.5"]),
    same(["fuzz", "--runs", "2", "--seed", "31"], ["fuzz", "--runs", "2", "--seed", "0x1f"]),
  ]);
});

test.skipIf(!existsSync("/dev/zero"))("a file that never ends is refused, not read until memory is full", async () => {
  expect(await faultline(["run", "/dev/zero"])).toMatchObject({
    status: 2,
    err: "/dev/zero:1:1: error: this file has more than 1048576 bytes, the most that a script may have\n       expected a smaller file\n",
  });
  expect(await faultline(["conform", "/dev/zero"])).toMatchObject({ status: 2, err: "error: /dev/zero is no file\n" });
  expect(await faultline(["litmus", "/dev/zero"])).toMatchObject({ status: 2, err: "error: /dev/zero has more than 1 MiB\n" });
});

test("a standard input that does not end is read no further than a script may be long", async () => {
  const endless = Readable.from(
    (function* () {
      for (;;) yield "// and on\n".repeat(1000);
    })(),
  );
  const p = spawn(process.execPath, [CLI, "run", "-"], { stdio: ["pipe", "ignore", "pipe"] });
  p.stdin.on("error", () => endless.destroy());
  endless.pipe(p.stdin);
  let err = "";
  p.stderr.setEncoding("utf8").on("data", (d: string) => (err += d));
  expect(await new Promise((resolve) => p.on("close", resolve))).toBe(2);
  expect(err).toMatch(/^<stdin>:1:1: error: this file has more than 1048576 bytes/);
});

test.skipIf(!existsSync("/dev/stdin"))("a script comes from a pipe that has a name, as from a process substitution", () => {
  const piped = `echo 'guest { mov x0, 1 }' | "${process.execPath}" "${CLI}" run /dev/stdin --quiet`;
  expect(execFileSync("sh", ["-c", piped], { encoding: "utf8" })).toBe("v6.12: ran to its end, 0 expectations met, 1 guest fault\n");
});

test.skipIf(process.getuid?.() === 0)("new in a folder that nobody may write says so, not what a system call said", async () => {
  const { status, err } = await faultline(["new", join(dir, "closed/x.guest")]);
  expect(err).toMatch(/^error: no permission to write \S+x\.guest\n$/);
  expect(status).toBe(2);
});
