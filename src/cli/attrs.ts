/** `faultline attrs`: how a stage-1 attribute and a stage-2 MemAttr combine, one pair with its reason or all of them as CSV. */
import { decodeAttr, isDevice, isReserved } from "../arch/mair.js";
import { attrTable, combine, combineShareability, isReservedMemAttr, RESULT_ATTR, RESULT_SH_SHIFT, RESULT_XS } from "../arch/memtype.js";
import { OK, UsageError } from "./status.js";
import { print } from "./terminal.js";

export interface AttrsArguments {
  readonly format: "text" | "json";
  readonly table: boolean;
  readonly s1?: string;
  readonly s2?: string;
  readonly fwb: boolean;
  /** Shareability of stage 1 and stage 2 as in the descriptors: "3", or "3,2". */
  readonly sh?: string;
}

const SH_NAMES: Readonly<Record<number, string>> = { 0: "non-shareable", 2: "outer shareable", 3: "inner shareable" };
const hex2 = (v: number): string => v.toString(16).padStart(2, "0");

function number(what: string, text: string | undefined, most: number): number {
  if (text === undefined) throw new UsageError(`attrs needs ${what}, or --table`);
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : NaN;
  if (!(value <= most)) throw new UsageError(`${what} is a number from 0 to 0x${most.toString(16)}, not "${text}"`);
  return value;
}

function shareabilities(text: string | undefined): [number, number] {
  const [a = "3", b = a, ...more] = (text ?? "3").split(",");
  const one = (t: string) => {
    if (!["0", "2", "3"].includes(t) || more.length > 0)
      throw new UsageError(`--sh takes 0, 2 or 3 for stage 1 and after a comma for stage 2, not "${text}"`);
    return Number(t);
  };
  return [one(a), one(b)];
}

/** Which rule gave the type (Arm ARM D8.5.5, D8.5.6). */
function reason(s1: number, s2: number, fwb: boolean): string {
  const device1 = isDevice(s1);
  if (fwb) {
    if (s2 === 6) return "FWB 0110 forces Normal write-back, whatever stage 1 says";
    if (s2 === 7) return "FWB 0111 takes stage 1's type";
    if (s2 === 5) return device1 ? "FWB 0101 keeps a stage-1 Device type" : "FWB 0101 forces Normal non-cacheable";
    return device1 ? "both stages are Device: the stricter" : "stage 2 is Device";
  }
  if (s2 < 4) return device1 ? "both stages are Device: the stricter" : "Device at stage 2 wins over Normal";
  if (device1) return "Device at stage 1 wins over Normal";
  return "both stages are Normal: for inner and outer the less cacheable, with stage 1's hints";
}

async function table(format: "text" | "json"): Promise<number> {
  if (format === "json") {
    await print(JSON.stringify({ rows: [...attrTable()].map((r) => ({ ...r, s1attr: hex2(r.s1attr), attr: hex2(r.attr) })) }));
    return OK;
  }
  const lines = ["s1attr,s2memattr,fwb,s1sh,s2sh,attr,sh"];
  for (const r of attrTable()) lines.push(`${hex2(r.s1attr)},${r.s2memattr},${r.fwb},${r.s1sh},${r.s2sh},${hex2(r.attr)},${r.sh}`);
  await print(lines.join("\n"));
  return OK;
}

export async function attrsCommand(args: AttrsArguments): Promise<number> {
  if (args.table) return table(args.format);
  const s1 = number("--s1", args.s1, 0xff);
  const s2 = number("--s2", args.s2, 0xf);
  const [s1sh, s2sh] = shareabilities(args.sh);
  if (isReserved(s1)) throw new UsageError(`0x${hex2(s1)} is a reserved MAIR byte`);
  if (isReservedMemAttr(s2, args.fwb)) throw new UsageError(`MemAttr ${s2} is reserved ${args.fwb ? "with" : "without"} FWB`);
  const r = combine(s1, s1sh, s2, s2sh, args.fwb, false);
  const attr = r & RESULT_ATTR;
  const sh = (r >> RESULT_SH_SHIFT) & 3;
  const from = decodeAttr(s1);
  const to = decodeAttr(attr);
  const why = reason(s1, s2, args.fwb);
  const forced = sh !== combineShareability(s1sh, s2sh);
  if (args.format === "json") {
    const result = { attr: hex2(attr), type: to.type, text: to.text, sh, xs: (r & RESULT_XS) !== 0, reason: why, shForced: forced };
    await print(JSON.stringify({ s1attr: hex2(s1), s2memattr: s2, fwb: args.fwb, s1sh, s2sh, ...result }, undefined, 2));
    return OK;
  }
  await print(`stage 1   0x${hex2(s1)}  ${from.type} ${from.text}, ${SH_NAMES[s1sh]}`);
  await print(
    `stage 2   0x${s2.toString(16)}   MemAttr ${s2.toString(2).padStart(4, "0")}${args.fwb ? " with FWB" : ""}, ${SH_NAMES[s2sh]}`,
  );
  await print(`result    0x${hex2(attr)}  ${to.type} ${to.text}, ${SH_NAMES[sh]}${(r & RESULT_XS) !== 0 ? ", XS" : ""}`);
  await print(`because   ${why}`);
  if (forced) await print("          Device and fully non-cacheable memory is outer shareable whatever the descriptors say");
  return OK;
}
