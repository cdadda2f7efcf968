/** Options and arguments that do not go together, or mean nothing: status 2 and what was expected, instead of being left out silently. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultline, temporaryFolder } from "./command.js";

const dir = temporaryFolder();
mkdirSync(join(dir, "damaged"));
writeFileSync(join(dir, "damaged/campaign.json"), "{");

const CASES: readonly [args: string, said: RegExp][] = [
  ["fuzz --kernel=", /^error: --kernel names no era/],
  ["fuzz --runs 0", /'--runs <n>' argument '0' is invalid\. expected at least 1/],
  ["fuzz --runs x", /expected a whole number such as 500, 20k or 1M, not "x"/],
  ["fuzz --batch 5 --runs 1", /^error: --batch belongs to --record-qemu KERNEL\n$/],
  ["fuzz --modules m --runs 1", /^error: --modules belongs to --record-qemu KERNEL\n$/],
  ["fuzz --hostile --kernel v5.4 --runs 1", /'--hostile' cannot be used with option '--kernel <eras>'/],
  ["fuzz --hostile --compare v5.4,v5.5 --runs 1", /'--hostile' cannot be used with option '--compare <eras>'/],
  [`fuzz --resume --corpus ${join(dir, "damaged")}`, /^error: .*campaign\.json says no campaign: /],
  ["explain 2012-demand-fault --step x", /expected the number of an event, not "x"/],
  ["dump 2012-demand-fault --at -1", /expected the number of an event, not "-1"/],
  ["diff - -", /^error: only one of the two traces can come from standard input\n$/],
];

test.each(CASES)("faultline %s", async (args, said) => {
  const r = await faultline(args.split(" "));
  expect(r.err).toMatch(said);
  expect(r.out).toBe("");
  expect(r.status).toBe(2);
});
