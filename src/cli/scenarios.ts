/** `faultline scenarios`: what is bundled, with title and sources; `NAME --show` prints the script. */
import { readFileSync } from "node:fs";
import { Diagnostics } from "../guest/diagnostics.js";
import { parse } from "../guest/parser.js";
import { scenarioFile, scenarioNames } from "./load.js";
import { OK, unknownName, UsageError } from "./status.js";
import { palette, print } from "./terminal.js";

export interface ScenariosArguments {
  readonly show: boolean;
  readonly format: "text" | "json";
}

export async function scenariosCommand(name: string | undefined, args: ScenariosArguments): Promise<number> {
  const names = scenarioNames();
  const wanted = name?.replace(/\.guest$/, "").replace(/^scenarios\//, "");
  if (wanted !== undefined && !names.includes(wanted)) throw unknownName("scenario", wanted, names);
  if (args.show && wanted === undefined) throw new UsageError("--show takes the name of a scenario: faultline scenarios NAME --show");
  const of = wanted === undefined ? names : [wanted];
  if (args.show && wanted !== undefined && args.format === "text") {
    await print(readFileSync(scenarioFile(wanted), "utf8"));
    return OK;
  }
  const list = of.map((n) => {
    const source = readFileSync(scenarioFile(n), "utf8");
    const script = parse(n, source, new Diagnostics(n, source));
    return {
      name: n,
      title: script.title,
      sources: script.sources,
      variants: script.variants.map((v) => v.name),
      ...(args.show ? { script: source } : {}),
    };
  });
  if (args.format === "json") {
    await print(JSON.stringify(list, undefined, 2));
    return OK;
  }
  const color = palette();
  for (const s of list) {
    await print(`${color.bold(s.name)}  ${s.title}`);
    if (wanted === undefined) continue;
    for (const source of s.sources) await print(`  source: ${source}`);
    if (s.variants.length > 0) await print(`  variants: ${s.variants.join(", ")}`);
  }
  if (wanted === undefined) await print("\nfaultline run NAME runs one; faultline scenarios NAME --show prints it.");
  return OK;
}
