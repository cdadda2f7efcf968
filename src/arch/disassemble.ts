/** Writes A64 words as text that the assembler takes back. */
import { formOf } from "./decode.js";
import type { FeatureSwitches } from "./features.js";

/** One word as text; branch targets as `#offset`. A word that is no instruction reads `.inst 0x…`. */
export function disassemble(word: number, features?: FeatureSwitches): string {
  const form = formOf(word | 0, features);
  if (form === undefined) return `.inst 0x${(word >>> 0).toString(16).padStart(8, "0")}`;
  const operands = form.operands.map((o) => o.write(word)).join(", ");
  return operands === "" ? form.mnemonic : `${form.mnemonic} ${operands}`;
}
