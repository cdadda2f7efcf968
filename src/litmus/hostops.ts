/** The operations of the host (EL2) in litmus tests: their words, and what is wrong with a line. */
import { didYouMean } from "../guest/diagnostics.js";
import { symbolIndex } from "./layout.js";

export const TLBI_OPS: Readonly<Record<string, { readonly op: number; readonly broadcast: boolean; readonly address: boolean }>> = {
  ipas2e1is: { op: 0, broadcast: true, address: true },
  ipas2e1: { op: 0, broadcast: false, address: true },
  vmalle1is: { op: 2, broadcast: true, address: false },
  vmalle1: { op: 2, broadcast: false, address: false },
  vmalls12e1is: { op: 3, broadcast: true, address: false },
};
export const DSB_TYPES: Readonly<Record<string, number>> = { nsh: 7, ishst: 10, ish: 11, ishnxs: 27, st: 14, sy: 15 };
export const STAGE2_VALUES = ["invalid", "ro", "rw", "nc", "nGnRE", "block"] as const;

const FORMS: Readonly<Record<string, { readonly least: number; readonly most: number; readonly form: string }>> = {
  s2: { least: 2, most: 2, form: `s2 x ${STAGE2_VALUES.join("|")}, or s2 x y` },
  tlbi: { least: 1, most: 2, form: `tlbi ${Object.keys(TLBI_OPS).join("|")} [x], or tlbi vae1is x` },
  dsb: { least: 1, most: 1, form: `dsb ${Object.keys(DSB_TYPES).join("|")}` },
  isb: { least: 0, most: 0, form: "isb" },
  dmb: { least: 0, most: 0, form: "dmb" },
  read: { least: 3, most: 3, form: "read x -> r" },
  peek: { least: 3, most: 3, form: "peek d -> r (what the end point holds now; no access is made)" },
  dma: { least: 3, most: 3, form: "dma x -> r (a bus master that does not snoop the caches reads)" },
  write: { least: 2, most: 2, form: "write x 1" },
  await: { least: 2, most: 2, form: "await z 1" },
  config: { least: 1, most: 1, form: "config flr, config write" },
  reset: { least: 1, most: 1, form: "reset platform" },
  civac: { least: 1, most: 1, form: "civac x" },
};

/** What is wrong with an operation, or undefined. */
export function hostOpError(words: readonly string[]): { readonly message: string; readonly hint: string } | undefined {
  const [op = "", ...args] = words;
  const form = FORMS[op];
  if (form === undefined)
    return {
      message: `no operation of the host named "${op}"`,
      hint: didYouMean(op, Object.keys(FORMS)) || `expected ${Object.keys(FORMS).join(", ")}`,
    };
  const expected = { message: `"${words.join(" ")}" is no ${op}`, hint: `expected ${form.form}` };
  if (args.length < form.least || args.length > form.most) return expected;
  switch (op) {
    case "s2":
      return isSymbol(args[0]!) && ((STAGE2_VALUES as readonly string[]).includes(args[1]!) || isSymbol(args[1]!)) ? undefined : expected;
    case "tlbi": {
      const t = TLBI_OPS[args[0]!];
      if (args[0] === "vae1is") return args.length === 2 && isSymbol(args[1]!) ? undefined : expected;
      return t !== undefined && (t.address ? args.length === 2 && isSymbol(args[1]!) : args.length === 1) ? undefined : expected;
    }
    case "dsb":
      return DSB_TYPES[args[0]!] !== undefined ? undefined : expected;
    case "read":
    case "peek":
    case "dma":
      return isSymbol(args[0]!) && args[1] === "->" && /^[a-z][a-z0-9]*$/.test(args[2]!) ? undefined : expected;
    case "write":
    case "await":
      return isSymbol(args[0]!) && /^[0-9]+$/.test(args[1]!) ? undefined : expected;
    case "civac":
      return isSymbol(args[0]!) ? undefined : expected;
    case "config":
      return args[0] === "flr" || args[0] === "write" || args[0] === "off" ? undefined : expected;
    case "reset":
      return args[0] === "platform" ? undefined : expected;
  }
  return undefined;
}

function isSymbol(s: string): boolean {
  return symbolIndex(s) >= 0;
}
