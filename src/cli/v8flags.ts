/**
 * How V8 compiles. Flags are the process's own: the command and the benchmarks set them, the library does not.
 */
import { setFlagsFromString } from "node:v8";

/**
 * TurboFan stops inlining into a function after 920 bytes of bytecode, small functions after 4600. The path of a fault
 * is many small functions, each a step of the kernel's: with 12000 and 20000 a 4 KiB fault takes half of the time, an
 * MMIO exit two fifths. Runs of half a second pay 5 % for the longer compilation; below 6000 small changes of the code decide what
 * is left out.
 */
export function inlineMore(): void {
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=12000");
  setFlagsFromString("--max-inlined-bytecode-size-absolute=20000");
}

/**
 * A function is handed to TurboFan when some 66 KiB of its bytecode have run, which in a command of a second's length is just
 * before its end: the compiler takes a core from the run and the run gains nothing. Seven times as much
 * makes runs of 0.2 to 1 s a fifth shorter, long ones neither shorter nor longer.
 */
export function compileLater(): void {
  setFlagsFromString("--interrupt-budget=500000");
}
