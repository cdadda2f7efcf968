/** `faultline import`: what another tool printed becomes a guest script, on stdout or in a file. */
import { Diagnostics } from "../guest/diagnostics.js";
import { importMtree } from "../import/mtree.js";
import { scriptText, type Import } from "../import/skeleton.js";
import { importStrace } from "../import/strace.js";
import { readBytes } from "./readfile.js";
import { OK, UsageError } from "./status.js";
import { print } from "./terminal.js";
import { writeWhole } from "./writefile.js";

export interface ImportArguments {
  readonly output?: string;
  readonly json: boolean;
}
/** MiB of a file that is imported. */
const LARGEST = 256;

const READERS: Readonly<Record<"strace" | "mtree", (file: string, source: string, errors: Diagnostics) => Import>> = {
  strace: importStrace,
  mtree: importMtree,
};

export async function importCommand(kind: keyof typeof READERS, file: string, args: ImportArguments): Promise<number> {
  const name = file === "-" ? "<stdin>" : file;
  const source = new TextDecoder().decode(readBytes(file, LARGEST));
  const zero = source.indexOf("\0");
  if (zero >= 0) {
    const line = source.slice(0, zero).split("\n").length;
    const expected = `what ${kind === "strace" ? "strace" : "QEMU's info mtree -f"} prints`;
    throw new UsageError(`${name}:${line}: this is no text: expected ${expected}`, { file: name, line, expected });
  }
  const imported = READERS[kind](name, source, new Diagnostics(name, source));
  const script = scriptText(imported);
  const { counts } = imported;
  if (args.output !== undefined) writeWhole(args.output, script);
  if (args.json) await print(JSON.stringify({ ...imported, script }, undefined, 2));
  else if (args.output === undefined) await print(script);
  const where = args.output === undefined ? "" : `${args.output}: `;
  process.stderr.write(
    `${where}${counts.lines} lines: ${counts.statements} statements, ${counts.notUnderstood} not understood (comments), ${counts.leftOut} without consequence for guest memory\n`,
  );
  return OK;
}
