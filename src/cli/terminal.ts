/** Where the command writes: colours only on a terminal and never under NO_COLOR. */
import pc from "picocolors";

export interface Palette {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

export function palette(stream: NodeJS.WriteStream = process.stdout): Palette {
  const on = stream.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";
  return pc.createColors(on);
}

/** "1 time", "2 times". */
export const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

let printed = false;
/** Whether something has gone to stdout. */
export const hasPrinted = (): boolean => printed;

/** Writes lines to stdout. Waits where a pipe is full, so that a long trace does not pile up in memory. */
export async function print(text: string): Promise<void> {
  printed = true;
  if (!process.stdout.write(text.endsWith("\n") ? text : `${text}\n`)) await new Promise((done) => process.stdout.once("drain", done));
}
