/** `faultline esr`: takes a syndrome apart, with the address that goes with it. */
import { decodeSyndrome, ipaOfHpfar } from "../arch/syndrome.js";
import { genericName, sysregByKey, sysregKey, SYSREGS } from "../arch/sysregs.js";
import { OK, UsageError } from "./status.js";
import { print } from "./terminal.js";

export interface EsrArguments {
  readonly format: "text" | "json";
  readonly hpfar?: string;
  readonly far?: string;
}

function value(what: string, text: string): bigint {
  if (!/^(0x)?[0-9a-f]{1,16}$/i.test(text)) throw new UsageError(`${what} is a hexadecimal number of at most 64 bits, not "${text}"`);
  return BigInt(text.startsWith("0x") || text.startsWith("0X") ? text : `0x${text}`);
}
/** The instruction that trapped, for classes whose syndrome names it. ARM ARM, ISS encodings of these classes. */
function instructionOf(ec: number, iss: number): string | undefined {
  const immediate = INSTRUCTIONS[ec];
  if (immediate !== undefined) return `${immediate} #${hex(iss & 0xffff)}`;
  if (ec === EC_WFX) return ["wfi", "wfe", "wfit", "wfet"][iss & 3]!;
  if (ec !== EC_SYS64) return undefined;
  const [op0, op1, crn, crm, op2] = [(iss >> 20) & 3, (iss >> 14) & 7, (iss >> 10) & 15, (iss >> 1) & 15, (iss >> 17) & 7];
  const key = sysregKey(op0, op1, crn, crm, op2);
  const known = SYSREGS[sysregByKey(key)]?.name;
  const name = known === undefined ? genericName(key) : `${known} (${genericName(key)})`;
  const rt = (iss >> 5) & 31;
  const register = rt === 31 ? "xzr" : `x${rt}`;
  // Cache, TLB and address translation instructions.
  if (op0 === 1) return `sys #${op1}, c${crn}, c${crm}, #${op2}, ${register}`;
  return (iss & 1) !== 0 ? `mrs ${register}, ${name}` : `msr ${name}, ${register}`;
}
const EC_WFX = 0x01;
const EC_SYS64 = 0x18;
const INSTRUCTIONS: Readonly<Record<number, string>> = { 0x15: "svc", 0x16: "hvc", 0x17: "smc", 0x3c: "brk" };

const hex = (v: number | bigint): string => `0x${v.toString(16)}`;

export async function esrCommand(text: string, args: EsrArguments): Promise<number> {
  const esr = value("the syndrome", text);
  const low = Number(esr & 0xffffffffn);
  const d = decodeSyndrome(low | 0);
  const iss2 = Number(esr >> 32n);
  const far = args.far === undefined ? undefined : value("--far", args.far);
  const hpfar = args.hpfar === undefined ? undefined : value("--hpfar", args.hpfar);
  const page = hpfar === undefined ? undefined : ipaOfHpfar(Number((hpfar >> 32n) & 0x7fffffffn), Number(BigInt.asIntN(32, hpfar)));
  // The low bits of the IPA are FAR's, but not for a fault on a stage-1 walk: FAR is the address being translated.
  const ipa = page === undefined ? undefined : far === undefined || d.s1ptw === true ? page : page + Number(far & 0xfffn);
  const instruction = instructionOf(d.ec, d.iss);
  if (args.format === "json") {
    const more = {
      ...(instruction === undefined ? {} : { instruction }),
      ...(far === undefined ? {} : { far: hex(far) }),
      ...(ipa === undefined ? {} : { ipa: hex(ipa) }),
    };
    await print(JSON.stringify({ esr: hex(esr), iss2, ...d, ...more }, undefined, 2));
    return OK;
  }
  const line = (name: string, what: string) => print(`${name.padEnd(8)}${what}`);
  await line("ESR", hex(esr));
  await line("EC", d.ecName === hex(d.ec) ? d.ecName : `${hex(d.ec)} ${d.ecName}`);
  await line("IL", d.il ? "1 (32-bit instruction, or no valid instruction syndrome)" : "0 (16-bit instruction)");
  if (iss2 !== 0) await line("ISS2", iss2 === 0xffffffff ? "0xffffffff: sign extension, as KVM v6.1 to v6.9 injects" : hex(iss2));
  await line("ISS", hex(d.iss));
  if (instruction !== undefined) await line("", instruction);
  if (d.fsc !== undefined) await line("FSC", `${hex(d.fsc)} ${d.fscName}`);
  if (d.isv === true) {
    const how = `${d.size! * 8}-bit ${d.wnr === true ? "store" : "load"}${d.sse === true ? ", sign-extended" : ""}${d.ar === true ? ", acquire/release" : ""}`;
    const register = d.srt === 31 ? (d.sf === true ? "xzr" : "wzr") : `${d.sf === true ? "x" : "w"}${d.srt}`;
    await line("ISV", `1: ${how}, register ${register}`);
  } else if (d.isv === false) await line("ISV", "0: pair, SIMD, writeback, exclusive, atomic or cache maintenance; or not a stage-2 abort");
  if (d.wnr !== undefined) await line("WnR", d.wnr ? "1: write" : "0: read");
  if (d.cm === true) await line("CM", "1: cache maintenance or address translation instruction");
  if (d.s1ptw === true) await line("S1PTW", "1: stage-2 fault on a stage-1 table walk");
  if (d.ea === true) await line("EA", "1");
  if (d.fnv === true) await line("FnV", "1: FAR is not valid");
  if (far !== undefined) await line("FAR", hex(far));
  if (ipa !== undefined)
    await line("IPA", `${hex(ipa)}${d.s1ptw === true ? " (of the stage-1 descriptor)" : far === undefined ? " (page)" : ""}`);
  return OK;
}
