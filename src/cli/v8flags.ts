/**
 * How V8 compiles. Flags are the process's own: the command and the benchmarks set them, the library does not.
 */
import { setFlagsFromString } from "node:v8";

/**
 * TurboFan stops inlining into a function after 920 bytes of bytecode. The path of a fault is many
 * small functions, each a step of the kernel's, and runs 12 to 20 % faster when it goes on to 4000.
 */
export function inlineMore(): void {
  setFlagsFromString("--max-inlined-bytecode-size-cumulative=4000");
}

/**
 * A function is handed to TurboFan when some 66 KiB of its bytecode have run, which in a command of a second's length is just
 * before its end: the compiler takes a core from the run and the run gains nothing. Seven times as much
 * makes runs of 0.2 to 1 s a fifth shorter, long ones neither shorter nor longer.
 */
export function compileLater(): void {
  setFlagsFromString("--interrupt-budget=500000");
}
